// SPDX-License-Identifier: Apache-2.0
#include "lab/log/csv.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace singleflight::lab {
namespace {

using testing::ElementsAre;

TEST(csv, fields_and_quotes) {
  std::vector<std::string> fields;
  ASSERT_TRUE(split_csv("1,two,3", fields));
  EXPECT_THAT(fields, ElementsAre("1", "two", "3"));
  ASSERT_TRUE(split_csv(R"("a,b","say ""hi""",)", fields));
  EXPECT_THAT(fields, ElementsAre("a,b", "say \"hi\"", ""));
  ASSERT_TRUE(split_csv("", fields));
  EXPECT_THAT(fields, ElementsAre(""));
  ASSERT_TRUE(split_csv(",", fields));
  EXPECT_THAT(fields, ElementsAre("", ""));
  ASSERT_TRUE(split_csv(R"(mid"quote,x)", fields));
  EXPECT_THAT(fields, ElementsAre("mid\"quote", "x"));
}

TEST(csv, broken_quotes) {
  std::vector<std::string> fields;
  EXPECT_FALSE(split_csv(R"("open,x)", fields));
  EXPECT_FALSE(split_csv(R"("closed"x,y)", fields));
  EXPECT_FALSE(split_csv(R"(")", fields));
}

}  // namespace
}  // namespace singleflight::lab
