// SPDX-License-Identifier: Apache-2.0
#include "cli/units.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "cli/usage_error.hpp"

namespace singleflight::cli {

namespace {

using std::chrono::nanoseconds;

std::optional<double> finite_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

[[noreturn]] void refuse(std::string_view option, std::string_view text, std::string_view want,
                         const char* example) {
  throw usage_error(fmt::format("{}: '{}' is not {}; for example {} {}", option, one_line(text, 40),
                                want, option.substr(0, option.find(' ')), example));
}

std::string bound(double value) {
  return std::fabs(value) >= 1000 ? show_count(static_cast<std::uint64_t>(value))
                                  : fmt::format("{:g}", value);
}

struct time_unit {
  std::string_view name;
  double seconds;
};

constexpr std::array<time_unit, 8> time_units{{{"ns", 1e-9},
                                               {"us", 1e-6},
                                               {"µs", 1e-6},
                                               {"ms", 1e-3},
                                               {"s", 1},
                                               {"min", 60},
                                               {"m", 60},
                                               {"h", 3600}}};

}  // namespace

double parse_number(std::string_view option, std::string_view text, number_range range) {
  const auto value = finite_number(text);
  if (!value || *value < range.min || *value > range.max) {
    refuse(option, text, fmt::format("a number from {} to {}", bound(range.min), bound(range.max)),
           range.example);
  }
  return *value;
}

std::uint64_t parse_count(std::string_view option, std::string_view text, number_range range) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() ||
      static_cast<double>(value) < range.min || static_cast<double>(value) > range.max) {
    refuse(option, text,
           fmt::format("a whole number from {} to {}", bound(range.min), bound(range.max)),
           range.example);
  }
  return value;
}

nanoseconds parse_duration(std::string_view option, std::string_view text, number_range range_s) {
  const auto unit_at = text.find_first_not_of("0123456789.+-eE");
  const auto digits = text.substr(0, unit_at);
  const auto unit = unit_at == std::string_view::npos ? std::string_view{} : text.substr(unit_at);
  for (const auto& known : time_units) {
    if (unit != known.name) continue;
    const auto value = finite_number(digits);
    if (!value || *value * known.seconds < range_s.min || *value * known.seconds > range_s.max) {
      break;
    }
    return nanoseconds(std::llround(*value * known.seconds * 1e9));
  }
  const auto in_words = [](double seconds) {
    return seconds == 0 ? std::string("0s")
                        : show_duration(nanoseconds(std::llround(seconds * 1e9)));
  };
  refuse(option, text,
         fmt::format("a duration from {} to {} with a unit (ns, us, ms, s, m, h)",
                     in_words(range_s.min), in_words(range_s.max)),
         range_s.example);
}

double parse_percentage(std::string_view option, std::string_view text, const char* example) {
  const bool has_sign = text.ends_with('%');
  const auto value = finite_number(text.substr(0, text.size() - (has_sign ? 1 : 0)));
  if (!has_sign || !value || *value < 0 || *value > 100) {
    refuse(option, text, "a percentage from 0% to 100%, with the % sign", example);
  }
  return *value / 100;
}

std::string show_count(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), 1, ',');
  }
  return digits;
}

std::string show_number(double value) {
  if (!std::isfinite(value)) return "-";
  const double size = std::fabs(value);
  if (size >= 99.95) return show_count(static_cast<std::uint64_t>(std::llround(value)));
  if (size >= 9.995) return fmt::format("{:.1f}", value);
  if (size >= 0.0995 || size < 1e-9) return fmt::format("{:.2f}", value);
  return fmt::format("{:.{}f}", value, 1 - static_cast<int>(std::floor(std::log10(size))));
}

double rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return 0;
  const double scale = std::pow(10.0, 4 - std::floor(std::log10(std::fabs(value))));
  return std::round(value * scale) / scale;
}

std::string show_duration(nanoseconds duration) {
  const auto ns = static_cast<double>(duration.count());
  if (ns < 999.5) return fmt::format("{} ns", duration.count());
  if (ns < 999.5e3) return fmt::format("{} us", show_number(ns / 1e3));
  if (ns < 999.5e6) return fmt::format("{} ms", show_number(ns / 1e6));
  if (ns < 120e9) return fmt::format("{} s", show_number(ns / 1e9));
  const auto seconds = std::llround(ns / 1e9);
  if (seconds % 3600 == 0)
    return fmt::format("{} h", show_count(static_cast<std::uint64_t>(seconds / 3600)));
  if (seconds < 7200 && seconds % 60 == 0) return fmt::format("{} min", seconds / 60);
  if (seconds < 7200) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  return fmt::format("{} h {} min", show_count(static_cast<std::uint64_t>(seconds / 3600)),
                     seconds / 60 % 60);
}

}  // namespace singleflight::cli
