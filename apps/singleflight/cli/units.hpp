// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace singleflight::cli {

/// What an option accepts. Every parser here throws usage_error, naming the option, for text that
/// is not wholly a number (or not finite) and for a number outside its range. An option may be said
/// with its part, after a space: "--slow share".
struct number_range {
  double min;
  double max;
  const char* example;  // shown in the message, as the option's argument
};

double parse_number(std::string_view option, std::string_view text, number_range range);
std::uint64_t parse_count(std::string_view option, std::string_view text, number_range range);

/// "500ms", "1.5s", "20us", "100ns", "2m", "1h". A bare number is refused: it does not say its
/// unit. The range is in seconds.
std::chrono::nanoseconds parse_duration(std::string_view option, std::string_view text,
                                        number_range range_s);

/// "5%", "0.5%", as the share that it is: 0.05, 0.005. A bare number is refused: it may mean
/// either. The range is 0 to 100 %.
double parse_percentage(std::string_view option, std::string_view text, const char* example);

/// 1234567 as "1,234,567".
std::string show_count(std::uint64_t count);

/// Three significant digits with a fitting unit: "812 us", "10.2 ms", "1.53 s", "4 min 10 s".
std::string show_duration(std::chrono::nanoseconds duration);

/// Three significant digits without an exponent: "0.25", "13.4", "1,290".
std::string show_number(double value);

/// For JSON: five significant digits; what lies beyond is noise, and the files stay small and
/// legible.
double rounded(double value);

}  // namespace singleflight::cli
