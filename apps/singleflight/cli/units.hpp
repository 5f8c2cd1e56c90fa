// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace singleflight::cli {

/// The numbers that an option accepts. Every parser here throws usage_error, which names the
/// option, if the text is not a number as a whole, or the number is not finite or outside its
/// range. An option may be given together with a part of it, after a space: "--slow share".
struct number_range {
  double min;
  double max;
  const char* example;  // of the option's argument, for the message
};

double parse_number(std::string_view option, std::string_view text, number_range range);
std::uint64_t parse_count(std::string_view option, std::string_view text, number_range range);

/// "500ms", "1.5s", "20us", "100ns", "2m", "1h". A number without a unit is rejected. The range is
/// in seconds.
std::chrono::nanoseconds parse_duration(std::string_view option, std::string_view text,
                                        number_range range_s);

/// Returns "5%" as 0.05 and "0.5%" as 0.005. A number without "%" is rejected, because it could
/// mean either form. The range is 0 to 100 %.
double parse_percentage(std::string_view option, std::string_view text, const char* example);

/// Returns 1234567 as "1,234,567".
std::string show_count(std::uint64_t count);

/// Three significant digits with a suitable unit: "812 us", "10.2 ms", "1.53 s", "4 min 10 s",
/// "1 h".
std::string show_duration(std::chrono::nanoseconds duration);

/// Two or three significant digits without an exponent: "0.0012", "0.25", "13.4", "1,290".
std::string show_number(double value);

/// Rounds to five significant digits, for JSON: further digits are noise, and without them the
/// files stay small and readable.
double rounded(double value);

}  // namespace singleflight::cli
