// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/load_times.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "cli/units.hpp"
#include "cli/usage_error.hpp"
#include "lab/workload/mix.hpp"

namespace singleflight::lab {

namespace {

constexpr const char* option = "--load-time";
constexpr const char* example = "lognormal:20ms,p99=200ms";
constexpr cli::number_range time_range{0, 24 * 3600, "20ms"};
// The normal distribution's 99th percentile, in standard deviations.
constexpr double z99 = 2.3263478740408408;
constexpr std::chrono::nanoseconds longest = std::chrono::hours(24 * 365);

// In (0, 1].
double fraction(std::uint64_t bits) { return (static_cast<double>(bits >> 11U) + 1) * 0x1p-53; }

}  // namespace

load_times load_times::constant(duration each) {
  load_times made;
  made.middle_ = each;
  return made;
}

load_times load_times::parse(std::string_view text, std::uint64_t seed) {
  constexpr std::string_view shape = "lognormal:";
  if (!text.starts_with(shape)) return constant(cli::parse_duration(option, text, time_range));
  const auto given = text.substr(shape.size());
  constexpr std::string_view tail = ",p99=";
  const auto comma = given.find(tail);
  if (comma == std::string_view::npos) {
    throw cli::usage_error(
        fmt::format("{}: '{}' does not say how the times spread; for example {} {}", option,
                    cli::one_line(text, 40), option, example));
  }
  load_times made;
  made.form_ = form::lognormal;
  made.seed_ = seed;
  made.middle_ =
      cli::parse_duration("--load-time median", given.substr(0, comma), {1e-6, 24 * 3600, example});
  made.p99_ = cli::parse_duration("--load-time p99", given.substr(comma + tail.size()),
                                  {1e-6, 24 * 3600, example});
  if (made.p99_ <= made.middle_) {
    throw cli::usage_error(fmt::format(
        "{}: p99={} is not longer than the median {}; for example {} {}", option,
        cli::show_duration(made.p99_), cli::show_duration(made.middle_), option, example));
  }
  made.sigma_ =
      std::log(static_cast<double>(made.p99_.count()) / static_cast<double>(made.middle_.count())) /
      z99;
  return made;
}

load_times load_times::measured(std::vector<duration> times, std::uint64_t seed) {
  load_times made;
  made.form_ = form::measured;
  made.seed_ = seed;
  std::sort(times.begin(), times.end());
  made.middle_ = times[times.size() / 2];
  made.p99_ = times[times.size() * 99 / 100];
  made.times_ = std::move(times);
  return made;
}

load_times load_times::of_log() {
  load_times made;
  made.form_ = form::of_log;
  return made;
}

load_times::duration load_times::draw(const timed_request& request, std::uint64_t number) const {
  if (form_ == form::of_log) return request.duration;
  const auto bits = mix(mix(seed_) + (number + 1) * splitmix_step);
  if (form_ == form::measured) return times_[bits % times_.size()];
  // Box and Muller, "A note on the generation of random normal deviates", 1958.
  const double radius = std::sqrt(-2 * std::log(fraction(bits)));
  const double normal = radius * std::cos(2 * std::numbers::pi * fraction(mix(bits)));
  const double ns = static_cast<double>(middle_.count()) * std::exp(sigma_ * normal);
  return duration(std::llround(std::min(ns, static_cast<double>(longest.count()))));
}

std::string load_times::describe() const {
  switch (form_) {
    case form::constant: return cli::show_duration(middle_);
    case form::lognormal:
      return fmt::format("log-normal, half of them below {}, 99 % below {}",
                         cli::show_duration(middle_), cli::show_duration(p99_));
    case form::measured:
      return fmt::format("as {} loads of a short trial, half of them below {}, 99 % below {}",
                         cli::show_count(times_.size()), cli::show_duration(middle_),
                         cli::show_duration(p99_));
    case form::of_log: break;
  }
  return "as long as the log says of the request";
}

}  // namespace singleflight::lab
