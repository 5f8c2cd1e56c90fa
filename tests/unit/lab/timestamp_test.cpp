// SPDX-License-Identifier: Apache-2.0
#include "lab/log/timestamp.hpp"

#include <gtest/gtest.h>

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;

TEST(timestamp, access_log_times_have_a_zone) {
  EXPECT_EQ(parse_access_log_time("10/Oct/2000:13:55:36 -0700"), 971211336s);
  EXPECT_EQ(parse_access_log_time("10/Oct/2000:20:55:36 +0000"), 971211336s);
  EXPECT_EQ(parse_access_log_time("29/Feb/2024:00:00:00 +0530"), 1709145000s);
  for (const char* text : {"", "10/Okt/2000:13:55:36 -0700", "30/Feb/2024:00:00:00 +0000",
                           "10/Oct/2000:24:55:36 -0700", "1/Oct/2000:13:55:36 +0000",
                           "10/Oct/2000:13:55:36 -0700 ", "31/Dec/1969:23:59:59 +0000"}) {
    EXPECT_FALSE(parse_access_log_time(text)) << text;
  }
}

TEST(timestamp, access_log_times_of_other_servers) {
  EXPECT_EQ(parse_access_log_time("10/Oct/2000:20:55:36"), 971211336s);
  EXPECT_EQ(parse_access_log_time("10/Oct/2000 20:55:36"), 971211336s);
  EXPECT_EQ(parse_access_log_time("10/Oct/2000:20:55:36.655"), 971211336s + 655ms);
  EXPECT_EQ(parse_access_log_time("10/Oct/2000:20:55:36.25 +0000"), 971211336s + 250ms);
}

TEST(timestamp, times_at_the_front_or_within) {
  EXPECT_EQ(parse_leading_time("2024-03-01T12:00:00.5Z app[3]: x"), 1709294400s + 500ms);
  EXPECT_EQ(parse_leading_time("2024-03-01 12:00:00.100 UTC [1] LOG"), 1709294400s + 100ms);
  EXPECT_EQ(*parse_leading_time("Mar  1 12:00:05 web1 x") - *parse_leading_time("Mar 1 12:00:00 y"),
            5s);
  EXPECT_FALSE(parse_leading_time("192.0.2.7 - -"));
  EXPECT_FALSE(parse_leading_time(""));
  EXPECT_EQ(find_iso_time("h2 2024-03-01T12:00:00.1Z app"), 1709294400s + 100ms);
  EXPECT_FALSE(find_iso_time("a:b 12:00:00 c"));
}

TEST(timestamp, durations) {
  EXPECT_EQ(parse_log_duration("13ms", time_unit::s), 13ms);
  EXPECT_EQ(parse_log_duration("0.25s", time_unit::ms), 250ms);
  EXPECT_EQ(parse_log_duration("0.012", time_unit::s), 12ms);
  EXPECT_EQ(parse_log_duration("5", time_unit::us), 5us);
  EXPECT_EQ(parse_log_duration("0.5", time_unit::by_size), 500ms);
  EXPECT_EQ(parse_log_duration("15", time_unit::by_size), 15ms);
  for (const char* text : {"", "-", "-1", "5 apples", "nan"}) {
    EXPECT_FALSE(parse_log_duration(text, time_unit::s)) << text;
  }
}

TEST(timestamp, trace_times_in_words) {
  EXPECT_EQ(parse_trace_time("2024-03-01T12:00:00Z"), 1709294400s);
  EXPECT_EQ(parse_trace_time(" 2024-03-01 12:00:00.25+01:00 "), 1709290800s + 250ms);
  EXPECT_EQ(parse_trace_time("2024-03-01T12:00:00"), 1709294400s);
  EXPECT_EQ(parse_trace_time("2024-03-01 12:00:00,250"), 1709294400s + 250ms);
  EXPECT_EQ(parse_trace_time("2024-03-01 12:00:00.1 UTC"), 1709294400s + 100ms);
  EXPECT_EQ(parse_trace_time("2024-03-01 12:00:00 +0100"), 1709290800s);
  EXPECT_EQ(parse_trace_time("2024-03-01 12:00:00 CET"), 1709294400s);
  EXPECT_EQ(parse_trace_time("[01/Mar/2024:12:00:00 +0000]"), 1709294400s);
  for (const char* text : {"", " ", "yesterday", "2024-13-01T12:00:00Z", "2024-03-01",
                           "2024-03-01T12:00:00Zx", "2024/03-01 12:00:00"}) {
    EXPECT_FALSE(parse_trace_time(text)) << text;
  }
}

// Goal    A number is in seconds, or in the smaller unit that its size implies; it is not negative.
TEST(timestamp, trace_times_in_numbers) {
  EXPECT_EQ(parse_trace_time("0"), 0s);
  EXPECT_EQ(parse_trace_time("12.5"), 12500ms);
  EXPECT_EQ(parse_trace_time("1709294400"), 1709294400s);
  EXPECT_EQ(parse_trace_time("1709294400123"), 1709294400123ms);
  EXPECT_EQ(parse_trace_time("1709294400123456"), 1709294400123456us);
  EXPECT_EQ(parse_trace_time("1709294400123456789"), 1709294400123456789ns);
  EXPECT_EQ(parse_trace_time("5", time_unit::ms), 5ms);
  EXPECT_EQ(parse_trace_time("1.5", time_unit::us), 1500ns);
  EXPECT_EQ(parse_trace_time("116444736010000000", time_unit::windows), 1s);
  for (const char* text :
       {"-1", "-0.5", "nan", "inf", "1e400", "99999999999999999999", "9999999999"}) {
    EXPECT_FALSE(parse_trace_time(text)) << text;
  }
}

// Goal    The times of syslog, which have no year, go on at New Year, and a line that comes late
//         does not disturb that.
TEST(timestamp, new_year) {
  leading_times times;
  const auto begin = *times.parse("Dec 31 23:59:50 web1 x");
  EXPECT_EQ(*times.parse("Jan  1 00:00:10 web1 x") - begin, 20s);
  EXPECT_EQ(*times.parse("Dec 31 23:59:55 web1 x") - begin, 5s);
  EXPECT_EQ(*times.parse("Jan  1 00:00:20 web1 x") - begin, 30s);
  EXPECT_EQ(*times.parse("Dec 31 23:59:50 web1 x") - begin, 0s);
  EXPECT_FALSE(times.parse("no time"));
  EXPECT_EQ(times.parse("2024-03-01T12:00:00Z x"), 1709294400s);
}

}  // namespace
}  // namespace singleflight::lab
