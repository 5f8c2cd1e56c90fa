// SPDX-License-Identifier: Apache-2.0
#include "lab/log/key_choice.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/usage_error.hpp"

namespace singleflight::lab {
namespace {

TEST(key_choice, parts) {
  EXPECT_EQ(key_choice::parse("host+path").from, key_choice::part::host_path);
  EXPECT_EQ(key_choice::parse("field=3").field, 3U);
  EXPECT_EQ(key_choice::parse("column=a b").name, "a b");
  EXPECT_EQ(key_choice::parse("member=a.b").name, "a.b");
}

TEST(key_choice, odd_parts_are_refused) {
  for (const char* text : {"", "host", "field", "field=", "field=0", "field=-1", "field=x",
                           "column=", "member=", "path "}) {
    EXPECT_THROW(key_choice::parse(text), cli::usage_error) << text;
  }
}

TEST(key_choice, times) {
  const auto field = time_choice::parse("field=2:ms");
  EXPECT_EQ(field.field, 2U);
  EXPECT_EQ(field.unit, time_unit::ms);
  const auto column = time_choice::parse("column=a:b");
  EXPECT_EQ(column.name, "a:b");
  EXPECT_EQ(column.unit, time_unit::by_size);
  EXPECT_EQ(time_choice::parse("member=x.y:ns").unit, time_unit::ns);
  for (const char* text : {"", "time", "field=0", "field=x:ms", "column=:s", "member="}) {
    EXPECT_THROW(time_choice::parse(text), cli::usage_error) << text;
  }
}

TEST(key_choice, separators_and_lists) {
  EXPECT_EQ(reading_choice::parse_separator("tab"), '\t');
  EXPECT_EQ(reading_choice::parse_separator("space"), ' ');
  EXPECT_EQ(reading_choice::parse_separator(";"), ';');
  EXPECT_THROW(reading_choice::parse_separator("::"), cli::usage_error);
  EXPECT_THROW(reading_choice::parse_separator("\""), cli::usage_error);
  EXPECT_THAT(parse_names("--methods", "GET,POST"), testing::ElementsAre("GET", "POST"));
  EXPECT_THROW(parse_names("--methods", "GET,,POST"), cli::usage_error);
}

}  // namespace
}  // namespace singleflight::lab
