// SPDX-License-Identifier: Apache-2.0
#include "lab/protection.hpp"

#include <array>
#include <exception>
#include <functional>

#include "lab/flight_protection.hpp"

namespace singleflight::lab {

namespace {

/// Every request loads for itself.
class no_protection : public protection {
 public:
  explicit no_protection(backend& asked) : asked_(asked) {}

  reply ask(const std::string& key, steady_time deadline) override {
    reply got;
    if (deadline <= std::chrono::steady_clock::now()) {
      got.error = {"timed_out", "the deadline had passed before the request could begin"};
      return got;
    }
    try {
      const auto answer = asked_.load(key, [deadline] { return deadline; });
      got.from = reply::origin::own_load;
      got.empty = answer.rows == 0;
    } catch (const std::exception&) {
      got.error = describe_failure(std::current_exception());
      if (got.error->asked) got.from = reply::origin::own_load;
    }
    return got;
  }

 private:
  backend& asked_;
};

struct known_protection {
  const char* name;
  std::unique_ptr<protection> (*make)(backend&);
};

constexpr std::array<known_protection, 2> known_protections{{
    {"none",
     [](backend& asked) -> std::unique_ptr<protection> {
       return std::make_unique<no_protection>(asked);
     }},
    {"flight", &make_flight_protection},
}};

}  // namespace

const std::vector<std::string>& protection_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> made;
    for (const auto& known : known_protections) made.emplace_back(known.name);
    return made;
  }();
  return names;
}

std::unique_ptr<protection> make_protection(std::string_view name, backend& asked) {
  for (const auto& known : known_protections) {
    if (name == known.name) return known.make(asked);
  }
  return nullptr;
}

reply::failure describe_failure(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const not_asked& failed) {
    return {failed.kind(), failed.what(), false};
  } catch (const backend_error& failed) {
    return {failed.kind(), failed.what()};
  } catch (const std::exception& other) {
    return {"exception", other.what()};
  }
}

}  // namespace singleflight::lab
