// SPDX-License-Identifier: Apache-2.0
#include "lab/log/timestamp.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "lab/log/words.hpp"

namespace singleflight::lab {

namespace {

using std::chrono::nanoseconds;

constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

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
  bool next_is_digit() const {
    return !text_.empty() && text_.front() >= '0' && text_.front() <= '9';
  }
  bool next_is_letter() const {
    return !text_.empty() && letters.find(text_.front()) != std::string_view::npos;
  }
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

// Consumes "+0100", "+01:00" or "+01".
std::chrono::minutes offset_of(scanner& scan) {
  const int sign = scan.one_of("+-") == '-' ? -1 : 1;
  const int hours = scan.digits(2);
  if (scan.next_is(':')) scan.one_of(":");
  const int minutes = scan.next_is_digit() ? scan.digits(2) : 0;
  return sign * std::chrono::minutes(hours * 60 + minutes);
}

// Consumes ".25" or ",25".
nanoseconds fraction_of(scanner& scan) {
  std::int64_t fraction_ns = 0;
  if (scan.next_is('.') || scan.next_is(',')) {
    scan.one_of(".,");
    for (std::int64_t place = 100'000'000; scan.next_is_digit(); place /= 10) {
      fraction_ns += place * scan.digits(1);
    }
  }
  return nanoseconds(fraction_ns);
}

void clock_of(scanner& scan, civil_time& t) {
  t.hour = scan.digits(2);
  scan.one_of(":");
  t.minute = scan.digits(2);
  scan.one_of(":");
  t.second = scan.digits(2);
}

// Consumes an ISO 8601 time, and the spaces after it only if a zone follows them.
std::optional<nanoseconds> iso_time(scanner& scan) {
  civil_time t{};
  t.year = scan.digits(4);
  const char separator = scan.one_of("-/");
  t.month = scan.digits(2);
  scan.one_of({&separator, 1});
  t.day = scan.digits(2);
  scan.one_of("T t");
  clock_of(scan, t);
  const auto fraction = fraction_of(scan);
  std::chrono::minutes offset{0};
  if (scan.next_is('Z') || scan.next_is('z')) {
    scan.one_of("Zz");
  } else if (scan.next_is('+') || scan.next_is('-')) {
    offset = offset_of(scan);
  }
  if (!scan.ok()) return std::nullopt;
  const auto whole = since_epoch(t, offset);
  if (!whole) return std::nullopt;
  return *whole + fraction;
}

// The name of a zone, as databases write it. Only the time between requests counts, so the zone
// itself may be unknown.
void skip_zone_name(scanner& scan) {
  if (scan.next_is(' ')) scan.one_of(" ");
  while (scan.next_is_letter()) scan.one_of(letters);
}

// All of the text is a time.
std::optional<nanoseconds> whole_iso_time(std::string_view text) {
  scanner scan(text);
  auto time = iso_time(scan);
  if (time && scan.next_is(' ')) {
    scanner after = scan;
    after.one_of(" ");
    if (after.next_is('+') || after.next_is('-')) {
      *time -= offset_of(after);
      scan = after;
    } else {
      skip_zone_name(scan);
    }
  }
  return time && scan.ok() && scan.at_end() ? time : std::nullopt;
}

std::optional<nanoseconds> scaled(double number, double ns) {
  if (!std::isfinite(number) || number < 0 || number * ns > 7.3e18) return std::nullopt;
  return nanoseconds(std::llround(number * ns));
}

std::int64_t ns_of(time_unit unit) {
  switch (unit) {
    case time_unit::ms: return 1'000'000;
    case time_unit::us: return 1'000;
    case time_unit::ns: return 1;
    case time_unit::windows: return 100;
    default: return 1'000'000'000;
  }
}

std::int64_t ns_by_size(double number) {
  return number >= 1e17 ? 1 : number >= 1e14 ? 1'000 : number >= 1e11 ? 1'000'000 : 1'000'000'000;
}

// The number of 100 ns from 1601, where Windows counts from, to the epoch.
constexpr std::int64_t windows_epoch = 116'444'736'000'000'000;

// "1709294400.250": as exact as it is written.
std::optional<nanoseconds> decimal_seconds(std::string_view text, std::size_t point,
                                           time_unit unit) {
  if (unit != time_unit::by_size && unit != time_unit::s) return std::nullopt;
  std::int64_t whole = 0;
  const auto got = std::from_chars(text.data(), text.data() + point, whole);
  if (text.front() < '0' || text.front() > '9') return std::nullopt;
  if (got.ptr != text.data() + point) return std::nullopt;
  scanner scan(text.substr(point));
  const auto fraction = fraction_of(scan);
  if (!scan.ok() || !scan.at_end() || whole > 7'300'000'000) return std::nullopt;
  return std::chrono::seconds(whole) + fraction;
}

std::optional<nanoseconds> number_time(std::string_view text, time_unit unit, bool& is_number) {
  const char* const end = text.data() + text.size();
  // Whole numbers apart from others: a double does not hold today's nanoseconds.
  std::int64_t whole = 0;
  if (const auto got = std::from_chars(text.data(), end, whole); got.ptr == end) {
    is_number = true;
    if (got.ec != std::errc{} || whole < 0) return std::nullopt;
    if (unit == time_unit::windows && whole >= windows_epoch) whole -= windows_epoch;
    const auto ns =
        unit == time_unit::by_size ? ns_by_size(static_cast<double>(whole)) : ns_of(unit);
    if (whole > 7'300'000'000'000'000'000 / ns) return std::nullopt;  // past the year 2200
    return nanoseconds(whole * ns);
  }
  if (const auto point = text.find('.'); unit != time_unit::windows && point <= 10) {
    if (const auto exact = decimal_seconds(text, point, unit)) {
      is_number = true;
      return exact;
    }
  }
  double number = 0;
  const auto got = std::from_chars(text.data(), end, number);
  if (got.ptr != end) return std::nullopt;
  is_number = true;
  if (got.ec != std::errc{}) return std::nullopt;
  return scaled(number,
                static_cast<double>(unit == time_unit::by_size ? ns_by_size(number) : ns_of(unit)));
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
  scan.one_of(": ");
  clock_of(scan, t);
  const auto fraction = fraction_of(scan);
  std::chrono::minutes offset{0};
  if (scan.ok() && !scan.at_end()) {
    scan.one_of(" ");
    offset = offset_of(scan);
  }
  if (!scan.ok() || !scan.at_end()) return std::nullopt;
  const auto whole = since_epoch(t, offset);
  if (!whole) return std::nullopt;
  return *whole + fraction;
}

std::optional<stamp> parse_trace_time(std::string_view text, time_unit unit) {
  text = trimmed(text);
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  if (text.empty()) return std::nullopt;
  bool is_number = false;
  const auto number = number_time(text, unit, is_number);
  if (is_number) return number;
  if (const auto iso = whole_iso_time(text)) return iso;
  return parse_access_log_time(text);
}

std::optional<stamp> parse_leading_time(std::string_view text) {
  scanner scan(text);
  if (scan.next_is_digit()) return iso_time(scan);
  civil_time t{};
  t.year = 1972;  // a leap year
  t.month = scan.month_name();
  scan.one_of(" ");
  if (scan.next_is(' ')) scan.one_of(" ");
  t.day = scan.digits(1);
  if (scan.next_is_digit()) t.day = t.day * 10 + scan.digits(1);
  scan.one_of(" ");
  clock_of(scan, t);
  if (!scan.ok()) return std::nullopt;
  return since_epoch(t, std::chrono::minutes(0));
}

std::optional<stamp> leading_times::parse(std::string_view text) {
  auto time = parse_leading_time(text);
  const bool has_year = !text.empty() && text.front() >= '0' && text.front() <= '9';
  if (!time || has_year) return time;
  constexpr std::chrono::hours year(24 * 366);
  *time += years_ * year;
  if (last_ && *time + year / 2 < *last_) {
    ++years_;
    *time += year;
  } else if (last_ && years_ > 0 && *time > *last_ + year / 2) {
    *time -= year;  // a line of the old year that was written late
  }
  last_ = time;
  return time;
}

std::optional<stamp> find_iso_time(std::string_view text) {
  // Every such time has a colon after its hour: 2024-03-01T12:
  constexpr std::size_t before = 13;
  for (auto colon = text.find(':'); colon != std::string_view::npos;
       colon = text.find(':', colon + 1)) {
    if (colon < before || (text[colon - 3] != 'T' && text[colon - 3] != ' ')) continue;
    scanner scan(text.substr(colon - before));
    if (const auto time = iso_time(scan)) return time;
  }
  return std::nullopt;
}

std::optional<std::chrono::nanoseconds> parse_log_duration(std::string_view text, time_unit unit) {
  text = trimmed(text);
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto got = std::from_chars(text.data(), end, number);
  if (got.ec != std::errc{} || got.ptr == text.data()) return std::nullopt;
  const std::string_view suffix = trimmed({got.ptr, static_cast<std::size_t>(end - got.ptr)});
  if (suffix == "s") {
    unit = time_unit::s;
  } else if (suffix == "ms") {
    unit = time_unit::ms;
  } else if (suffix == "us" || suffix == "\u00b5s") {
    unit = time_unit::us;
  } else if (suffix == "ns") {
    unit = time_unit::ns;
  } else if (!suffix.empty()) {
    return std::nullopt;
  } else if (unit == time_unit::by_size) {
    // A fraction is of seconds; a whole number counts milliseconds.
    unit = text.find('.') == std::string_view::npos ? time_unit::ms : time_unit::s;
  }
  return scaled(number, static_cast<double>(ns_of(unit)));
}

}  // namespace singleflight::lab
