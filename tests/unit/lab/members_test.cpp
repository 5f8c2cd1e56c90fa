// SPDX-License-Identifier: Apache-2.0
#include "lab/log/members.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace singleflight::lab {
namespace {

using testing::ElementsAre;

std::vector<std::string> read(member_syntax syntax, std::string_view line, bool complete = true) {
  member_list members;
  EXPECT_EQ(members.read(syntax, line), complete) << line;
  std::vector<std::string> all;
  for (std::size_t i = 0; i < members.size(); ++i) {
    all.push_back(members[i].path + "=" + members[i].value);
  }
  return all;
}

TEST(members, json_by_path) {
  constexpr auto json = member_syntax::json;
  EXPECT_THAT(read(json, R"({"a":1,"b":{"c":"x\"y","d":{"e":-2.50}},"f":true})"),
              ElementsAre("a=1", "b.c=x\"y", "b.d.e=-2.50", "f=true"));
  EXPECT_THAT(read(json, R"({"a":[1,{"b":2}],"c":null,"d":"x"})"), ElementsAre("d=x"));
  EXPECT_THAT(read(json, R"(Mar  1 12:00:00 web app: {"a":1709294401000000000},)"),
              ElementsAre("a=1709294401000000000"));
}

// Goal    A line that was cut has the members before the cut.
TEST(members, json_that_was_cut) {
  constexpr auto json = member_syntax::json;
  EXPECT_THAT(read(json, R"({"a":1,"b":{"c":"x","d":"y)", false), ElementsAre("a=1", "b.c=x"));
  EXPECT_THAT(read(json, "no object", false), ElementsAre());
  EXPECT_THAT(read(json, "{", false), ElementsAre());
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += R"({"a":)";
  EXPECT_THAT(read(json, deep, false), ElementsAre());
}

TEST(members, logfmt) {
  constexpr auto logfmt = member_syntax::logfmt;
  EXPECT_THAT(read(logfmt, R"(Mar 1 app[web]: at=info path="/a \"b\"" empty= status=200)"),
              ElementsAre("at=info", "path=/a \"b\"", "empty=", "status=200"));
  EXPECT_THAT(read(logfmt, R"(a=1 path="/cu)", false), ElementsAre("a=1"));
}

TEST(members, ltsv) {
  EXPECT_THAT(read(member_syntax::ltsv, "time:[12:00:00]\treq:GET / HTTP/1.1\tbroken\t:"),
              ElementsAre("time=[12:00:00]", "req=GET / HTTP/1.1", "="));
}

}  // namespace
}  // namespace singleflight::lab
