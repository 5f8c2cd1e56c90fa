// SPDX-License-Identifier: Apache-2.0
#include "cli/units.hpp"

#include <gtest/gtest.h>

#include <string>

#include "cli/usage_error.hpp"

namespace singleflight::cli {
namespace {

using namespace std::chrono_literals;

constexpr number_range hour{1e-6, 3600, "500ms"};

// Goal    Every unit is accepted, with and without a fraction.
TEST(units, durations_have_units) {
  EXPECT_EQ(parse_duration("--d", "500ms", hour), 500ms);
  EXPECT_EQ(parse_duration("--d", "1.5s", hour), 1500ms);
  EXPECT_EQ(parse_duration("--d", "20us", hour), 20us);
  EXPECT_EQ(parse_duration("--d", "20µs", hour), 20us);
  EXPECT_EQ(parse_duration("--d", "1500ns", hour), 1500ns);
  EXPECT_EQ(parse_duration("--d", "2m", hour), 2min);
  EXPECT_EQ(parse_duration("--d", "1h", hour), 1h);
  EXPECT_EQ(parse_duration("--d", "1e3us", hour), 1ms);
}

// Goal    Text that is not a duration, or an absurd one, is refused in one line that names the
//         option
//         and an example.
TEST(units, odd_durations_are_refused) {
  for (const char* text : {"", "5", "ms", "-5ms", "5 ms", "nan s", "nans", "infs", "1e400s",
                           "1e99h", "0ns", "2h", "5msx", "0x10ms", "1.2.3s"}) {
    try {
      parse_duration("--deadline", text, hour);
      ADD_FAILURE() << text;
    } catch (const usage_error& error) {
      const std::string what = error.what();
      EXPECT_EQ(what.find('\n'), std::string::npos);
      EXPECT_NE(what.find("--deadline 500ms"), std::string::npos) << what;
    }
  }
}

TEST(units, odd_numbers_are_refused) {
  constexpr number_range range{0.001, 1e6, "200"};
  for (const char* text :
       {"", "-5", "nan", "NaN", "inf", "-inf", "1e7", "1e999", "0", "12x", "x", " 1"}) {
    EXPECT_THROW(parse_number("--rate", text, range), usage_error) << text;
  }
  EXPECT_DOUBLE_EQ(parse_number("--rate", "0.5", range), 0.5);
  EXPECT_DOUBLE_EQ(parse_number("--rate", "1e6", range), 1e6);
  constexpr number_range counts{1, 10'000, "50"};
  for (const char* text :
       {"", "-1", "0", "1.5", "10001", "99999999999999999999999", "1e3", "+5", "nan"}) {
    EXPECT_THROW(parse_count("--callers", text, counts), usage_error) << text;
  }
  EXPECT_EQ(parse_count("--callers", "10000", counts), 10'000U);
}

TEST(units, percentages_have_their_sign) {
  EXPECT_DOUBLE_EQ(parse_percentage("--fail", "5%", "5%"), 0.05);
  EXPECT_DOUBLE_EQ(parse_percentage("--fail", "0.5%", "5%"), 0.005);
  EXPECT_EQ(parse_percentage("--fail", "0%", "5%"), 0);
  EXPECT_EQ(parse_percentage("--fail", "100%", "5%"), 1);
  for (const char* text : {"", "%", "5", "0.05", "150%", "100.1%", "-1%", "5 %", "5%%", "%5",
                           "nan%", "inf%", "1e400%", "abc"}) {
    EXPECT_THROW(parse_percentage("--fail", text, "5%"), usage_error) << text;
  }
}

// Goal    The example in a message can be typed as it is, even if only a part was wrong.
TEST(units, examples_can_be_typed) {
  try {
    parse_percentage("--slow share", "x", "1%:2s");
    ADD_FAILURE();
  } catch (const usage_error& error) {
    EXPECT_TRUE(std::string_view(error.what()).starts_with("--slow share: 'x' is not "))
        << error.what();
    EXPECT_TRUE(std::string_view(error.what()).ends_with("for example --slow 1%:2s"))
        << error.what();
  }
}

TEST(units, numbers_are_shown_for_people) {
  EXPECT_EQ(show_count(0), "0");
  EXPECT_EQ(show_count(999), "999");
  EXPECT_EQ(show_count(1000), "1,000");
  EXPECT_EQ(show_count(1234567), "1,234,567");
  EXPECT_EQ(show_number(0.126), "0.13");
  EXPECT_EQ(show_number(0.099), "0.099");
  EXPECT_EQ(show_number(0.00123), "0.0012");
  EXPECT_EQ(show_number(-0.012), "-0.012");
  EXPECT_EQ(show_number(0), "0.00");
  EXPECT_EQ(show_number(13.44), "13.4");
  EXPECT_EQ(show_number(1289.6), "1,290");
  EXPECT_EQ(show_duration(812us), "812 us");
  EXPECT_EQ(show_duration(10200us), "10.2 ms");
  EXPECT_EQ(show_duration(1530ms), "1.53 s");
  EXPECT_EQ(show_duration(250s), "4 min 10 s");
  EXPECT_EQ(show_duration(300s), "5 min");
  EXPECT_EQ(show_duration(3600s), "1 h");
  EXPECT_EQ(show_duration(5000 * 3600s), "5,000 h");
  EXPECT_EQ(show_duration(7260s), "2 h 1 min");
  EXPECT_EQ(show_duration(0ns), "0 ns");
}

// Goal    Text from outside can neither break a message into lines nor split a UTF-8 sequence.
TEST(units, text_from_outside_fits_one_line) {
  EXPECT_EQ(one_line("a\nb\tc\x1b[31m"), "a b c [31m");
  EXPECT_EQ(one_line("abcdef", 3), "abc...");
  EXPECT_EQ(one_line("ab\xC3\xA9", 3), "ab...");
}

}  // namespace
}  // namespace singleflight::cli
