// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/advice.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "cli/units.hpp"

namespace singleflight::lab {

namespace {

// Shares of all loads: less is no reason for a longer ttl, for more entries, or for a protection.
constexpr double worth_a_ttl = 0.05;
constexpr double worth_entries = 0.02;
constexpr double worth_it = 0.01;

std::string cache_in_words(const cache_settings& settings) {
  return fmt::format("a cache of {} {} with a ttl of {}", cli::show_count(settings.capacity),
                     settings.capacity == 1 ? "entry" : "entries", show_ttl(settings.ttl));
}

std::string why_flights(const findings& from) {
  const auto joined = from.joins;
  if (from.flight_saves < 0.0005) {
    return fmt::format(
        "At these times flights alone save nothing: of {} requests {} while a load of their key is "
        "in progress.",
        cli::show_count(from.requests),
        joined == 0 ? "none arrives" : "only " + cli::show_count(joined) + " arrive");
  }
  return fmt::format(
      "At these times flights alone save {}: {} of {} requests arrive while a load of their key is "
      "in progress.",
      show_share(from.flight_saves), cli::show_count(joined), cli::show_count(from.requests));
}

std::string why_ttl(const findings& from) {
  const auto& row = from.sweep.saved[from.point.capacity_at];
  const auto& ttls = from.sweep.ttls;
  const auto at = from.point.ttl_at;
  const auto more = *std::max_element(row.begin() + static_cast<std::ptrdiff_t>(at), row.end());
  auto text = more - row[at] < 0.0005
                  ? fmt::format("A ttl beyond {} adds nothing", show_ttl(ttls[at]))
                  : fmt::format("A ttl beyond {} adds {} at most", show_ttl(ttls[at]),
                                show_share(more - row[at]));
  if (at > 0) {
    text += fmt::format("; with one of {} the cache saves {}", show_ttl(ttls[at - 1]),
                        show_share(row[at - 1]));
  }
  return text + ".";
}

std::string why_capacity(const findings& from) {
  const auto& sweep = from.sweep;
  const auto at = from.point.capacity_at;
  const auto saved = [&](std::size_t i) { return sweep.saved[i][from.point.ttl_at]; };
  std::string text;
  if (at + 1 < sweep.capacities.size()) {
    const double more = saved(sweep.capacities.size() - 1) - saved(at);
    text = more < 0.0005 ? "More entries add nothing"
                         : fmt::format("More entries add {} at most", show_share(more));
  }
  if (at > 0) {
    text += fmt::format("{} {} entries the cache saves {}", text.empty() ? "With" : "; with",
                        cli::show_count(sweep.capacities[at - 1]), show_share(saved(at - 1)));
  }
  return text.empty() ? text : text + ".";
}

std::string why_no_cache(const findings& from, double most) {
  return fmt::format(
      "A cache of every key that keeps answers forever would save {}: {} of {} requests are for "
      "keys that are requested once.",
      show_share(most), cli::show_count(from.profile.requests_once),
      cli::show_count(from.requests));
}

}  // namespace

cache_settings chosen_point::settings(const cache_sweep& of) const {
  return {.capacity = of.capacities[capacity_at], .ttl = of.ttls[ttl_at]};
}

chosen_point choose(const cache_sweep& of) {
  chosen_point point{of.capacities.size() - 1, 0};
  const auto& roomy = of.saved.back();
  const auto last_finite = of.ttls.size() - 2;
  while (point.ttl_at < last_finite && roomy[last_finite] - roomy[point.ttl_at] > worth_a_ttl) {
    ++point.ttl_at;
  }
  const auto saved = [&](std::size_t i) { return of.saved[i][point.ttl_at]; };
  point.capacity_at = 0;
  while (saved(of.capacities.size() - 1) - saved(point.capacity_at) > worth_entries) {
    ++point.capacity_at;
  }
  return point;
}

advice advise(const findings& from) {
  advice made;
  double most = 0;
  for (const auto& row : from.sweep.saved) most = std::max(most, row.back());
  const auto settings = from.point.settings(from.sweep);
  if (from.cache_saves - from.flight_saves > worth_it) {
    made.protection = "cache";
    made.reasons = {fmt::format("Use {}: it saves {} of the loads.", cache_in_words(settings),
                                show_share(from.cache_saves)),
                    why_flights(from), why_ttl(from)};
    if (auto why = why_capacity(from); !why.empty()) made.reasons.push_back(std::move(why));
    return made;
  }
  if (from.flight_saves > worth_it) {
    made.protection = "flight";
    made.reasons = {
        fmt::format("Use flights: they save {} of the loads.", show_share(from.flight_saves)),
        why_flights(from),
        fmt::format("{} saves {}, hardly more.", "A" + cache_in_words(settings).substr(1),
                    show_share(from.cache_saves))};
  } else {
    made.protection = "none";
    made.reasons = {"At these times neither flights nor a cache are worth it for their savings.",
                    why_flights(from)};
  }
  made.reasons.push_back(why_no_cache(from, most));
  return made;
}

std::string show_share(double share) { return fmt::format("{:.1f} %", share * 100); }

std::string show_ttl(std::chrono::nanoseconds ttl) {
  using std::chrono::nanoseconds;
  if (ttl == nanoseconds(0)) return "forever";
  constexpr std::array<std::pair<nanoseconds, const char*>, 2> units{
      {{std::chrono::hours(1), "h"}, {std::chrono::minutes(1), "min"}}};
  for (const auto& [unit, name] : units) {
    if (ttl % unit == nanoseconds(0)) return fmt::format("{} {}", ttl / unit, name);
  }
  if (ttl % std::chrono::seconds(1) == nanoseconds(0)) {
    return fmt::format("{} s", ttl / std::chrono::seconds(1));
  }
  return cli::show_duration(ttl);
}

}  // namespace singleflight::lab
