// SPDX-License-Identifier: Apache-2.0
#include "lab/log/timestamp.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace singleflight::lab {

namespace {

using std::chrono::nanoseconds;

// Consumes the text from the front. After a failure every further read fails as well.
class scanner {
 public:
  explicit scanner(std::string_view text) : text_(text) {}

  int digits(std::size_t count) {
    int value = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (i >= text_.size() || text_[i] < '0' || text_[i] > '9') return fail();
      value = value * 10 + (text_[i] - '0');
    }
    text_.remove_prefix(count);
    return value;
  }
  char one_of(std::string_view allowed) {
    if (text_.empty() || allowed.find(text_.front()) == std::string_view::npos) {
      fail();
      return '\0';
    }
    const char c = text_.front();
    text_.remove_prefix(1);
    return c;
  }
  int month_name() {
    constexpr std::array<std::string_view, 12> names{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const auto found = std::find(names.begin(), names.end(), text_.substr(0, 3));
    if (found == names.end()) return fail();
    text_.remove_prefix(3);
    return static_cast<int>(found - names.begin()) + 1;
  }
  bool next_is(char c) const { return !text_.empty() && text_.front() == c; }
  bool at_end() const { return text_.empty(); }
  bool ok() const { return ok_; }

 private:
  int fail() {
    ok_ = false;
    text_ = {};
    return 0;
  }

  std::string_view text_;
  bool ok_ = true;
};

struct civil_time {
  int year, month, day, hour, minute, second;
};

std::optional<nanoseconds> since_epoch(const civil_time& t, std::chrono::minutes offset) {
  const std::chrono::year_month_day date{std::chrono::year(t.year),
                                         std::chrono::month(static_cast<unsigned>(t.month)),
                                         std::chrono::day(static_cast<unsigned>(t.day))};
  // 60 is a leap second.
  if (!date.ok() || t.hour > 23 || t.minute > 59 || t.second > 60) return std::nullopt;
  if (t.year < 1970 || t.year > 2200) return std::nullopt;
  const nanoseconds time = std::chrono::sys_days(date).time_since_epoch() +
                           std::chrono::hours(t.hour) + std::chrono::minutes(t.minute) +
                           std::chrono::seconds(t.second) - offset;
  if (time < nanoseconds(0)) return std::nullopt;
  return time;
}

std::chrono::minutes offset_of(scanner& scan, bool colon_allowed) {
  const int sign = scan.one_of("+-") == '-' ? -1 : 1;
  const int hours = scan.digits(2);
  if (colon_allowed && scan.next_is(':')) scan.one_of(":");
  const int minutes = scan.digits(2);
  return sign * std::chrono::minutes(hours * 60 + minutes);
}

std::optional<nanoseconds> iso_time(std::string_view text) {
  scanner scan(text);
  civil_time t{};
  t.year = scan.digits(4);
  scan.one_of("-");
  t.month = scan.digits(2);
  scan.one_of("-");
  t.day = scan.digits(2);
  scan.one_of("T t");
  t.hour = scan.digits(2);
  scan.one_of(":");
  t.minute = scan.digits(2);
  scan.one_of(":");
  t.second = scan.digits(2);
  std::int64_t fraction_ns = 0;
  if (scan.next_is('.')) {
    scan.one_of(".");
    for (std::int64_t place = 100'000'000; scan.ok() && !scan.at_end(); place /= 10) {
      if (scan.next_is('Z') || scan.next_is('z') || scan.next_is('+') || scan.next_is('-')) break;
      fraction_ns += place * scan.digits(1);
    }
  }
  std::chrono::minutes offset{0};
  if (scan.next_is('Z') || scan.next_is('z')) {
    scan.one_of("Zz");
  } else if (scan.ok() && !scan.at_end()) {
    offset = offset_of(scan, true);
  }
  if (!scan.ok() || !scan.at_end()) return std::nullopt;
  const auto whole = since_epoch(t, offset);
  if (!whole) return std::nullopt;
  return *whole + nanoseconds(fraction_ns);
}

}  // namespace

std::optional<stamp> parse_access_log_time(std::string_view text) {
  scanner scan(text);
  civil_time t{};
  t.day = scan.digits(2);
  scan.one_of("/");
  t.month = scan.month_name();
  scan.one_of("/");
  t.year = scan.digits(4);
  scan.one_of(":");
  t.hour = scan.digits(2);
  scan.one_of(":");
  t.minute = scan.digits(2);
  scan.one_of(":");
  t.second = scan.digits(2);
  scan.one_of(" ");
  const auto offset = offset_of(scan, false);
  if (!scan.ok() || !scan.at_end()) return std::nullopt;
  return since_epoch(t, offset);
}

std::optional<stamp> parse_trace_time(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return std::nullopt;
  text = text.substr(first, text.find_last_not_of(" \t") - first + 1);

  // Whole numbers apart from others: a double does not hold today's nanoseconds.
  std::int64_t whole = 0;
  const char* const end = text.data() + text.size();
  if (const auto got = std::from_chars(text.data(), end, whole); got.ptr == end) {
    if (got.ec != std::errc{} || whole < 0) return std::nullopt;
    if (whole >= 100'000'000'000'000'000) return stamp(whole);
    if (whole >= 100'000'000'000'000) return std::chrono::microseconds(whole);
    if (whole >= 100'000'000'000) return std::chrono::milliseconds(whole);
    if (whole > 7'300'000'000) return std::nullopt;  // past the year 2200: in seconds it is no time
    return std::chrono::seconds(whole);
  }
  double number = 0;
  if (const auto got = std::from_chars(text.data(), end, number); got.ptr == end) {
    if (got.ec != std::errc{} || !std::isfinite(number) || number < 0) return std::nullopt;
    const double scale = number >= 1e17 ? 1 : number >= 1e14 ? 1e3 : number >= 1e11 ? 1e6 : 1e9;
    if (number * scale > 7.3e18) return std::nullopt;
    return stamp(std::llround(number * scale));
  }
  return iso_time(text);
}

}  // namespace singleflight::lab
