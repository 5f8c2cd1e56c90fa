// SPDX-License-Identifier: Apache-2.0
#include "lab/protection/protection.hpp"

#include <array>
#include <exception>
#include <functional>

#include "lab/protection/cache_protection.hpp"
#include "lab/protection/flight_protection.hpp"

namespace singleflight::lab {

namespace {

/// Each request runs its own load.
class no_protection : public protection {
 public:
  explicit no_protection(backend& asked) : asked_(asked) {}

  reply ask(const std::string& key, steady_time deadline) override {
    if (const auto late = refuse_late(deadline)) return *late;
    reply got;
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
  std::unique_ptr<protection> (*make)(backend&, const cache_settings&);
};

constexpr std::array<known_protection, 4> known_protections{{
    {"none",
     [](backend& asked, const cache_settings&) -> std::unique_ptr<protection> {
       return std::make_unique<no_protection>(asked);
     }},
    {"flight", [](backend& asked, const cache_settings&) { return make_flight_protection(asked); }},
    {"cache-alone",
     [](backend& asked, const cache_settings& settings) {
       return make_cache_alone_protection(asked, settings);
     }},
    {"cache",
     [](backend& asked, const cache_settings& settings) {
       return make_cache_protection(asked, settings);
     }},
}};

const char* name_of(flight_errc code) {
  switch (code) {
    case flight_errc::timed_out: return "timed_out";
    case flight_errc::cancelled: return "cancelled";
    case flight_errc::overloaded: return "overloaded";
    case flight_errc::recursive: return "recursive";
    case flight_errc::broken: return "broken";
    case flight_errc::closed: return "closed";
    case flight_errc::rejected: return "rejected";
  }
  return "flight_error";
}

}  // namespace

const std::vector<std::string>& protection_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> made;
    for (const auto& known : known_protections) made.emplace_back(known.name);
    return made;
  }();
  return names;
}

std::unique_ptr<protection> make_protection(std::string_view name, backend& asked,
                                            const cache_settings& settings) {
  for (const auto& known : known_protections) {
    if (name == known.name) return known.make(asked, settings);
  }
  return nullptr;
}

std::optional<reply> refuse_late(steady_time deadline) {
  if (deadline > std::chrono::steady_clock::now()) return std::nullopt;
  reply late;
  late.error = {"timed_out", "the deadline expired before the request began"};
  return late;
}

reply::failure describe_refusal(flight_errc code) {
  return {name_of(code), make_error_code(code).message(), false};
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
