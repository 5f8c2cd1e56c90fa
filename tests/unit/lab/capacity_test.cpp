// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio/capacity.hpp"

#include <gtest/gtest.h>

#include "cli/usage_error.hpp"

namespace singleflight::lab {
namespace {

std::string refusal(std::string_view text) {
  try {
    parse_capacities(text);
  } catch (const cli::usage_error& error) {
    return error.what();
  }
  return {};
}

TEST(capacity, shares_and_numbers) {
  const auto chosen = parse_capacities("0.5%,100%,1000,1");
  ASSERT_EQ(chosen.size(), 4U);
  EXPECT_EQ(chosen[0].of(10'000), 50U);
  EXPECT_EQ(chosen[0].text, "0.5%");
  EXPECT_EQ(chosen[1].of(7), 7U);
  EXPECT_EQ(chosen[2].of(7), 1000U) << "more than the number of keys";
  EXPECT_EQ(chosen[3].of(10'000), 1U);
}

TEST(capacity, a_share_is_at_least_one_entry) {
  EXPECT_EQ(parse_capacities("1%").front().of(3), 1U);
  EXPECT_EQ(parse_capacities("0.001%").front().of(0), 1U);
}

// Goal    Each refusal says what is wrong and how to fix it.
TEST(capacity, bad_values_are_refused) {
  for (const char* text : {"",     ",",    "5%,",  ",5%",      "5%,,10%",
                           "0%",   "0.0%", "120%", "-5%",      "%",
                           "nan%", "0",    "-3",   "1.5",      "abc",
                           "5 %",  "1e3",  "0.05", "10000001", "99999999999999999999",
                           "5%,x"}) {
    const auto what = refusal(text);
    EXPECT_TRUE(what.starts_with("--capacity: ")) << text << ": " << what;
    EXPECT_NE(what.find("for example --capacity"), std::string::npos) << text << ": " << what;
  }
  EXPECT_NE(refusal("0%").find("no entry"), std::string::npos);
  EXPECT_NE(refusal("120%").find("from 0% to 100%"), std::string::npos);
  EXPECT_NE(refusal("abc").find("'abc' is neither"), std::string::npos);
}

TEST(capacity, listed_twice) {
  EXPECT_EQ(refusal("5%,1000,5%"), "--capacity: 5% is listed twice; list it once");
  EXPECT_EQ(refusal("5%,5.0%"), "--capacity: 5% is listed twice (5.0%); list it once");
  EXPECT_EQ(refusal("10,010"), "--capacity: 10 is listed twice (010); list it once");
  EXPECT_EQ(refusal("5%,5"), "");
}

}  // namespace
}  // namespace singleflight::lab
