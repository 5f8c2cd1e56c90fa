// SPDX-License-Identifier: Apache-2.0
#include "lab/log/csv.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace singleflight::lab {
namespace {

using testing::ElementsAre;

TEST(csv, fields_and_quotes) {
  csv_splitter csv;
  ASSERT_TRUE(csv.split("1,two,3"));
  EXPECT_THAT(csv.fields(), ElementsAre("1", "two", "3"));
  ASSERT_TRUE(csv.split(R"("a,b","say ""hi""",)"));
  EXPECT_THAT(csv.fields(), ElementsAre("a,b", "say \"hi\"", ""));
  ASSERT_TRUE(csv.split(R"("""","""a""","b")"));
  EXPECT_THAT(csv.fields(), ElementsAre("\"", "\"a\"", "b"));
  ASSERT_TRUE(csv.split(""));
  EXPECT_THAT(csv.fields(), ElementsAre(""));
  ASSERT_TRUE(csv.split(","));
  EXPECT_THAT(csv.fields(), ElementsAre("", ""));
  ASSERT_TRUE(csv.split(R"(mid"quote,x)"));
  EXPECT_THAT(csv.fields(), ElementsAre("mid\"quote", "x"));
  ASSERT_TRUE(csv.split("\"two\nlines\",x"));
  EXPECT_THAT(csv.fields(), ElementsAre("two\nlines", "x"));
}

// Goal    Blanks around quotes do not belong to the field, those inside them do; a tab that
//         separates is no blank.
TEST(csv, blanks_around_quotes) {
  csv_splitter csv;
  ASSERT_TRUE(csv.split(R"(1, "a,b"	,  " c ""d"" " , e)"));
  EXPECT_THAT(csv.fields(), ElementsAre("1", "a,b", " c \"d\" ", "e"));
  ASSERT_TRUE(csv.split(R"(a b "c)"));
  EXPECT_THAT(csv.fields(), ElementsAre("a b \"c"));
  EXPECT_FALSE(csv.split(R"(1, "a" b)"));
  EXPECT_TRUE(csv.open_after(R"(1, "a)", false));
  EXPECT_FALSE(csv.open_after(R"(b" , "c" , d)", true));
  csv_splitter tabs('\t');
  ASSERT_TRUE(tabs.split("\t \"a\tb\" \t\tc"));
  EXPECT_THAT(tabs.fields(), ElementsAre("", "a\tb", "", "c"));
  EXPECT_TRUE(tabs.open_after("\t\t \"a", false));
}

TEST(csv, other_separators) {
  csv_splitter semicolons(';');
  ASSERT_TRUE(semicolons.split(R"(a,b;"c;d")"));
  EXPECT_THAT(semicolons.fields(), ElementsAre("a,b", "c;d"));
  csv_splitter words(' ');
  ASSERT_TRUE(words.split(R"(a  "b c)"));
  EXPECT_THAT(words.fields(), ElementsAre("a", "\"b", "c"));
}

TEST(csv, broken_quotes) {
  csv_splitter csv;
  EXPECT_FALSE(csv.split(R"("open,x)"));
  EXPECT_FALSE(csv.split(R"("closed"x,y)"));
  EXPECT_FALSE(csv.split(R"(")"));
}

// Goal    A line is incomplete if it ends inside quotes, which only the beginning of a field opens.
TEST(csv, lines_that_end_inside_quotes) {
  const csv_splitter csv;
  EXPECT_TRUE(csv.open_after(R"(a,"b)", false));
  EXPECT_TRUE(csv.open_after(R"(a,"b "" c)", false));
  EXPECT_TRUE(csv.open_after("c", true));
  EXPECT_FALSE(csv.open_after(R"(c",d)", true));
  EXPECT_TRUE(csv.open_after(R"(c","d)", true));
  EXPECT_FALSE(csv.open_after(R"(a,mid"quote)", false));
  EXPECT_FALSE(csv.open_after(R"(a,"b","c")", false));
  EXPECT_FALSE(csv.open_after("", false));
  EXPECT_THAT(joined_records({"a,\"b", "c\",d", "e"}, csv), ElementsAre("a,\"b\nc\",d", "e"));
  open_quotes quotes;
  EXPECT_TRUE(quotes.open_after(csv, "\"a"));
  EXPECT_TRUE(quotes.open_after(csv, "\"a\n"));
  EXPECT_TRUE(quotes.open_after(csv, "\"a\n\nb"));
  EXPECT_FALSE(quotes.open_after(csv, "\"a\n\nb\nc\""));
}

}  // namespace
}  // namespace singleflight::lab
