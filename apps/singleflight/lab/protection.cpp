// SPDX-License-Identifier: Apache-2.0
#include "lab/protection.hpp"

#include <array>
#include <exception>
#include <functional>

#include "lab/flight_protection.hpp"
#include "lab/load_meter.hpp"

namespace singleflight::lab {

namespace {

/// Every request loads for itself.
class no_protection : public protection {
 public:
  explicit no_protection(load_meter& loads) : loads_(loads) {}

  reply ask(const std::string& key, steady_time deadline) override {
    reply got;
    if (deadline <= std::chrono::steady_clock::now()) {
      got.error = {"timed_out", "the deadline had passed before the request could begin"};
      return got;
    }
    try {
      const auto answer = loads_.load(key, [deadline] { return deadline; });
      got.from = reply::origin::own_load;
      got.empty = answer.rows == 0;
    } catch (const no_connection& error) {
      got.error = {error.kind(), error.what()};
    } catch (const std::exception&) {
      got.from = reply::origin::own_load;
      got.error = describe_failure(std::current_exception());
    }
    return got;
  }

 private:
  load_meter& loads_;
};

struct known_protection {
  const char* name;
  std::unique_ptr<protection> (*make)(load_meter&);
};

constexpr std::array<known_protection, 2> known_protections{{
    {"none",
     [](load_meter& loads) -> std::unique_ptr<protection> {
       return std::make_unique<no_protection>(loads);
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

std::unique_ptr<protection> make_protection(std::string_view name, load_meter& loads) {
  for (const auto& known : known_protections) {
    if (name == known.name) return known.make(loads);
  }
  return nullptr;
}

reply::failure describe_failure(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const backend_error& failed) {
    return {failed.kind(), failed.what()};
  } catch (const std::exception& other) {
    return {"exception", other.what()};
  }
}

}  // namespace singleflight::lab
