// SPDX-License-Identifier: Apache-2.0
#include "lab/log/log_reader.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/usage_error.hpp"
#include "lab/log/timestamp.hpp"
#include "support/scratch_folder.hpp"

namespace singleflight::lab {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::chrono_literals;

struct read_result {
  std::vector<std::string> keys;  // of the requests, in order
  std::vector<stamp> stamps;
  log_account account;
  std::string source;
};

class log_reader : public testing::Test {
 protected:
  read_result read(const std::string& content, const std::string& key_from = {},
                   bool by_time = false, std::uint64_t at_most = 0) {
    log_request request;
    request.path = folder_.write("log", content);
    if (!key_from.empty()) request.key = key_choice::parse(key_from);
    request.by_time = by_time;
    request.needs_times = by_time;
    request.at_most = at_most;
    read_result result;
    const auto made = read_log(request, result.account, {});
    for (std::size_t i = 0; i < made.requests.size(); ++i) result.keys.push_back(made.key_of(i));
    result.stamps = made.stamps;
    result.source = made.source;
    return result;
  }

  std::string refusal(const std::string& content, const std::string& key_from = {},
                      bool by_time = false) {
    try {
      read(content, key_from, by_time);
    } catch (const cli::usage_error& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return error.what();
    }
    return "(none)";
  }

  support::scratch_folder folder_;
};

std::string access(const std::string& url, int second = 0) {
  return "h - - [10/Oct/2000:13:55:" + std::string(second < 10 ? "0" : "") +
         std::to_string(second) + " +0000] \"GET " + url + " HTTP/1.1\" 200 5 \"-\" \"agent\"\n";
}

TEST_F(log_reader, one_key_per_line) {
  const auto log = read("a\nb\n\na c\na\n");
  EXPECT_THAT(log.keys, ElementsAre("a", "b", "a c", "a"));
  EXPECT_THAT(log.source, HasSubstr("one key per line"));
  EXPECT_EQ(log.account.lines, 4U);
  EXPECT_THAT(read("x 1 a\ny\t2 b\n", "field=3").keys, ElementsAre("a", "b"));
}

TEST_F(log_reader, access_log_keys) {
  const auto log = access("/a?x=1") + access("/b#top") + access("/a?");
  EXPECT_THAT(read(log).keys, ElementsAre("/a", "/b", "/a"));
  EXPECT_THAT(read(log, "path").keys, ElementsAre("/a", "/b", "/a"));
  EXPECT_THAT(read(log, "url").keys, ElementsAre("/a?x=1", "/b", "/a?"));
  const auto queries = read(log, "query");
  EXPECT_THAT(queries.keys, ElementsAre("x=1"));
  EXPECT_EQ(queries.account.without_key, 2U);
  EXPECT_EQ(queries.account.malformed, 0U);
  EXPECT_THAT(read(log, "field=6").keys, ElementsAre("200", "200", "200"));
}

TEST_F(log_reader, csv_columns_in_any_order) {
  EXPECT_THAT(read("time,key\n1,a\n2,b\n").keys, ElementsAre("a", "b"));
  EXPECT_THAT(read("\xEF\xBB\xBFKey, Time\r\n\"a,b\",1\r\n").keys, ElementsAre("a,b"));
  EXPECT_THAT(read("ts,user,url\n1,u,/a\n2,v,/b\n", "column=url").keys, ElementsAre("/a", "/b"));
  EXPECT_THAT(read("user,url\nu,/a\n", "column=User").keys, ElementsAre("u"));
  EXPECT_THAT(read("time,key,url\n1,a,/a\n", "field=3").keys, ElementsAre("/a"));
  EXPECT_THAT(read("key\nx\ny\n").keys, ElementsAre("x", "y"));
}

TEST_F(log_reader, malformed_lines_are_numbered_and_skipped) {
  const auto log = read("time,key\n1,a\nnever,b\n\n2\n-3,c\n4,d\n5,e\n6,\n7,f\n");
  EXPECT_THAT(log.keys, ElementsAre("a", "d", "e", "f"));
  EXPECT_EQ(log.account.lines, 8U);
  EXPECT_EQ(log.account.malformed, 3U);
  EXPECT_EQ(log.account.without_key, 1U);
  ASSERT_EQ(log.account.first_malformed.size(), 3U);
  EXPECT_EQ(log.account.first_malformed[0].number, 3U);
  EXPECT_EQ(log.account.first_malformed[1].number, 5U);
  EXPECT_EQ(log.account.first_malformed[2].number, 6U);
}

// Goal    A log with half of its lines malformed is accepted; with one more it is refused.
TEST_F(log_reader, more_than_half_malformed) {
  EXPECT_EQ(read(access("/a") + "junk\n").keys.size(), 1U);
  EXPECT_THAT(refusal(access("/a") + "junk\nmore junk\n"), HasSubstr("2 of the 3 lines"));
  EXPECT_THAT(refusal("junk\nmore\n" + access("/a")), HasSubstr("line 1"));
}

TEST_F(log_reader, binary_garbage) {
  std::string garbage;
  for (int i = 0; i < 20'000; ++i) garbage += static_cast<char>((i * 7919) >> 3);
  EXPECT_THAT(refusal(garbage), HasSubstr("malformed"));
  EXPECT_THAT(refusal(std::string("\xFF\xFEk\0e\0y\0\n\0", 10)), HasSubstr("malformed"));
  EXPECT_THAT(refusal(std::string(1000, '\0')), HasSubstr("malformed"));
  EXPECT_THAT(refusal(std::string(1'000'000, 'x')), HasSubstr("longer than 65536 bytes"));
  // Latin-1 is text.
  EXPECT_THAT(read("caf\xE9\n").keys, ElementsAre("caf\xE9"));
}

TEST_F(log_reader, nothing_to_replay) {
  EXPECT_THAT(refusal(""), HasSubstr("contains no requests"));
  EXPECT_THAT(refusal("\n\n \n"), HasSubstr("contains no requests"));
  EXPECT_THAT(refusal("time,key\n"), HasSubstr("contains no requests"));
  EXPECT_THAT(refusal(access("/a"), "query"), HasSubstr("--key-from"));
}

TEST_F(log_reader, dash_requests_have_no_key) {
  const auto log = read(access("/a") + "h - - [10/Oct/2000:13:55:00 +0000] \"-\" 408 -\n");
  EXPECT_THAT(log.keys, ElementsAre("/a"));
  EXPECT_EQ(log.account.without_key, 1U);
}

TEST_F(log_reader, a_key_that_the_format_does_not_have) {
  EXPECT_THAT(refusal("a\nb\n", "path"), HasSubstr("not an access log"));
  EXPECT_THAT(refusal("a\nb\n", "column=x"), HasSubstr("no CSV header"));
  EXPECT_THAT(refusal("time,key\n1,a\n", "url"), HasSubstr("CSV"));
  EXPECT_THAT(refusal("time,key\n1,a\n", "column=nope"), HasSubstr("time, key"));
  EXPECT_THAT(refusal("time,url\n1,a\n"), HasSubstr("no column 'key'"));
  EXPECT_THAT(refusal("time,key\n1,a\n", "field=3"), HasSubstr("only 2 columns"));
  EXPECT_THAT(refusal(access("/a"), "column=x"), HasSubstr("access log"));
}

// Goal    Requests by time are sorted by stamp, those of one second are spread over it, and those
//         out of order are counted.
TEST_F(log_reader, by_time) {
  const auto log = read(access("/c", 7) + access("/a", 5) + access("/b", 5), {}, true);
  EXPECT_THAT(log.keys, ElementsAre("/a", "/b", "/c"));
  EXPECT_THAT(log.stamps, ElementsAre(stamp(0ms), stamp(500ms), stamp(2s)));
  EXPECT_EQ(log.account.out_of_order, 1U);
  EXPECT_THAT(refusal("a\nb\n", {}, true), HasSubstr("has no times"));
  EXPECT_THAT(refusal("key,size\na,1\n", {}, true), HasSubstr("has no times"));
}

TEST_F(log_reader, at_most_so_many) {
  const auto log = read("a\nb\nc\n", {}, false, 2);
  EXPECT_THAT(log.keys, ElementsAre("a", "b"));
  EXPECT_TRUE(log.account.more);
  EXPECT_FALSE(read("a\nb\n", {}, false, 2).account.more);
}

TEST(key_choice, odd_parts_are_refused) {
  for (const char* text :
       {"", "host", "field", "field=", "field=0", "field=-1", "field=x", "column=", "path "}) {
    EXPECT_THROW(key_choice::parse(text), cli::usage_error) << text;
  }
}

}  // namespace
}  // namespace singleflight::lab
