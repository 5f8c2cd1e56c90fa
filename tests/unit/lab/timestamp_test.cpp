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
  for (const char* text :
       {"", "10/Okt/2000:13:55:36 -0700", "30/Feb/2024:00:00:00 +0000",
        "10/Oct/2000:24:55:36 -0700", "10/Oct/2000:13:55:36", "1/Oct/2000:13:55:36 +0000",
        "10/Oct/2000:13:55:36 -0700 ", "31/Dec/1969:23:59:59 +0000"}) {
    EXPECT_FALSE(parse_access_log_time(text)) << text;
  }
}

TEST(timestamp, trace_times_in_words) {
  EXPECT_EQ(parse_trace_time("2024-03-01T12:00:00Z"), 1709294400s);
  EXPECT_EQ(parse_trace_time(" 2024-03-01 12:00:00.25+01:00 "), 1709290800s + 250ms);
  EXPECT_EQ(parse_trace_time("2024-03-01T12:00:00"), 1709294400s);
  for (const char* text :
       {"", " ", "yesterday", "2024-13-01T12:00:00Z", "2024-03-01", "2024-03-01T12:00:00Zx"}) {
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
  for (const char* text :
       {"-1", "-0.5", "nan", "inf", "1e400", "99999999999999999999", "9999999999"}) {
    EXPECT_FALSE(parse_trace_time(text)) << text;
  }
}

}  // namespace
}  // namespace singleflight::lab
