// SPDX-License-Identifier: Apache-2.0
#include "lab/log/log_reader.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/usage_error.hpp"
#include "lab/log/timestamp.hpp"
#include "support/scratch_folder.hpp"
#include "unit/lab/trace_of.hpp"

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
                   bool needs_times = false, std::uint64_t at_most = timed_trace::most_requests) {
    log_request request;
    request.path = folder_.write("log", content);
    if (!key_from.empty()) request.how.key = key_choice::parse(key_from);
    request.needs_times = needs_times;
    request.at_most = at_most;
    read_result result;
    const auto made = read_log(request, result.account, {});
    for (const auto& each : requests_of(made)) {
      result.keys.push_back(made.keys[each.key]);
      if (made.has_times) result.stamps.push_back(each.time);
    }
    result.source = made.source;
    return result;
  }

  std::string refusal(const std::string& content, const std::string& key_from = {},
                      bool needs_times = false) {
    try {
      read(content, key_from, needs_times);
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
  EXPECT_THAT(read(log).keys, ElementsAre("/a?x=1", "/b", "/a?"));
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
  const auto log = read("time,key\n1,a\n1,a,b\n\n2\n4,d\n5,e\n6,\n7,f\n");
  EXPECT_THAT(log.keys, ElementsAre("a", "d", "e", "f"));
  EXPECT_EQ(log.account.lines, 7U);
  EXPECT_EQ(log.account.malformed, 2U);
  EXPECT_EQ(log.account.without_key, 1U);
  ASSERT_EQ(log.account.first_malformed.size(), 2U);
  EXPECT_EQ(log.account.first_malformed[0].number, 3U);
  EXPECT_EQ(log.account.first_malformed[1].number, 5U);
}

// Goal    A request whose time cannot be read is a request, and came with its predecessor.
TEST_F(log_reader, times_that_cannot_be_read) {
  const std::string log = "time,key\n1,a\nnever,b\n3,c\n";
  EXPECT_THAT(read(log).keys, ElementsAre("a", "b", "c"));
  const auto by_time = read(log, {}, true);
  EXPECT_EQ(by_time.account.without_time, 1U);
  EXPECT_THAT(by_time.keys, ElementsAre("a", "b", "c"));
  EXPECT_THAT(by_time.stamps, ElementsAre(stamp(0s), stamp(500ms), stamp(2s)));
  EXPECT_THAT(read("date,key\n2024-03-01,a\n").keys, ElementsAre("a"));
  EXPECT_THAT(refusal("date,key\n2024-03-01,a\n", {}, true), HasSubstr("has no times"));
}

// Goal    A time of 1970 among those of a minute is not the beginning of the log.
TEST_F(log_reader, a_stray_time) {
  std::string log = "time,key\n";
  for (int i = 0; i < 200; ++i) log += std::to_string(1'709'294'400 + i) + ",k\n";
  log += "0,stray\n";
  const auto result = read(log, {}, true);
  EXPECT_EQ(result.account.stray, 1U);
  EXPECT_EQ(result.keys.size(), 201U);
  EXPECT_EQ(result.keys.back(), "stray");
  EXPECT_LT(result.stamps.back(), 200s);
}

// Goal    Times more than 146 years from the first one are counted as not known, so that
//         differences of times do not overflow.
TEST_F(log_reader, times_of_other_centuries) {
  log_request request;
  request.path = folder_.write("log", "time,key\n0,a\n5000000000,b\n5,c\n4000000000,d\n");
  request.how.time = time_choice::parse("column=time:s");
  log_account account;
  const auto made = read_log(request, account, {});
  EXPECT_EQ(account.without_time, 1U);
  const auto requests = requests_of(made);
  ASSERT_EQ(requests.size(), 4U);
  EXPECT_EQ(requests[1].key, 1U);
  EXPECT_LT(requests[1].time, 1s);
  EXPECT_GE(made.length, 4'000'000'000s);
}

// Goal    Only requests that can share an answer are read unless others are chosen; the rest is
//         counted by method.
TEST_F(log_reader, methods) {
  const auto line = [](const std::string& method) {
    return "h - - [10/Oct/2000:13:55:00 +0000] \"" + method + " /a HTTP/1.1\" 200 5\n";
  };
  const auto log = line("GET") + line("POST") + line("HEAD") + line("PUT") + line("POST");
  const auto usual = read(log);
  EXPECT_EQ(usual.keys.size(), 2U);
  EXPECT_EQ(usual.account.other_methods, 3U);
  EXPECT_THAT(usual.account.left_out,
              ElementsAre(testing::Pair("POST", 2U), testing::Pair("PUT", 1U)));
  log_request chosen;
  chosen.path = folder_.write("log", log);
  chosen.methods = {"post"};
  log_account account;
  EXPECT_EQ(read_log(chosen, account, {}).requests.size(), 2U);
  EXPECT_THAT(refusal(line("POST") + line("PUT")), HasSubstr("--methods POST"));
}

// Goal    Answers that cannot be shared are counted apart.
TEST_F(log_reader, statuses) {
  const auto line = [](const std::string& status) {
    return "h - - [10/Oct/2000:13:55:00 +0000] \"GET /a HTTP/1.1\" " + status + " 5\n";
  };
  const auto log = read(line("200") + line("304") + line("503") + line("500"));
  EXPECT_EQ(log.keys.size(), 4U);
  EXPECT_EQ(log.account.failed, 2U);
  EXPECT_EQ(log.account.not_modified, 1U);
}

// Goal    A record that stands for several requests is repeated.
TEST_F(log_reader, counts) {
  const auto log = read("op_time,key,op_count\n5,a,1\n5,b,2\n7,a,0\n7,c,1\n", {}, true);
  EXPECT_THAT(log.keys, ElementsAre("a", "b", "b", "c"));
  EXPECT_EQ(log.account.without_key, 1U);
  EXPECT_EQ(log.stamps.back(), 2s);
}

// Goal    A log without times, which can only be replayed, is read no further than a replay goes.
TEST_F(log_reader, no_more_than_can_be_replayed) {
  log_request request;
  request.path = folder_.write("log", "key,op_count\na,1\nb,99000000\n");
  log_account account;
  const auto made = read_log(request, account, {});
  EXPECT_FALSE(made.has_times);
  EXPECT_EQ(made.requests.size(), most_requests);
}

// Goal    The durations of the log are kept in order of time, as its requests are.
TEST_F(log_reader, durations) {
  log_request request;
  request.path = folder_.write("log", "time,key,duration_ms\n9,a,30\n5,b,20\n");
  log_account account;
  const auto made = read_log(request, account, {});
  EXPECT_TRUE(made.has_durations);
  const auto requests = requests_of(made);
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[0].duration, 20ms);
  EXPECT_EQ(requests[1].duration, 30ms);
  EXPECT_EQ(account.out_of_order, 1U);
}

// Goal    A log without times is accepted unless they are needed.
TEST_F(log_reader, times_if_there_are_any) {
  log_request request;
  request.path = folder_.write("log", "a\nb\n");
  log_account account;
  EXPECT_FALSE(read_log(request, account, {}).has_times);
  EXPECT_FALSE(account.has_time);
}

// Goal    A hint says if dropping the query would matter, or if hardly any key comes twice.
TEST_F(log_reader, hints) {
  std::string log;
  for (int i = 0; i < 200; ++i) log += access("/a?x=" + std::to_string(i));
  const auto queries = read(log);
  ASSERT_EQ(queries.account.hints.size(), 1U);
  EXPECT_THAT(queries.account.hints[0], HasSubstr("200 distinct keys, without it 1"));
  EXPECT_TRUE(read(log, "path").account.hints.empty());
  std::string keys;
  for (int i = 0; i < 200; ++i) keys += std::to_string(i) + "\n";
  const auto distinct = read(keys);
  ASSERT_EQ(distinct.account.hints.size(), 1U);
  EXPECT_THAT(distinct.account.hints[0], HasSubstr("--key-from"));
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
  EXPECT_THAT(refusal(garbage), HasSubstr("binary data"));
  EXPECT_THAT(refusal("\x01\x02 a kind that nobody knows\n"), HasSubstr("binary data"));
  EXPECT_THAT(refusal(std::string("\xFF\xFEk\0e\0y\0\n\0", 10)), HasSubstr("iconv -f UTF-16"));
  EXPECT_THAT(refusal(std::string(1000, '\0')), HasSubstr("binary data"));
  EXPECT_THAT(refusal(std::string(1'000'000, 'x')), HasSubstr("longer than 65536 bytes"));
  std::string endless;
  endless.resize(17'000'000, 'x');
  EXPECT_THAT(refusal(endless), HasSubstr("longer than 16 MiB"));
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
  EXPECT_THAT(refusal("a\nb\n", "member=x"), HasSubstr("has no members"));
  EXPECT_THAT(refusal("{\"key\":1}\n", "member=x"), HasSubstr("choose one of its members"));
  EXPECT_THAT(refusal("{\"x\":1}\n"), HasSubstr("--key-from member=NAME: x"));
  EXPECT_THAT(refusal("time,key\n1,a\n", "url"), HasSubstr("CSV"));
  EXPECT_THAT(refusal("time,key\n1,a\n", "column=nope"), HasSubstr("time, key"));
  EXPECT_THAT(refusal("time,user\n1,a\n"), HasSubstr("no column 'key'"));
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

// Goal    Lines that do not look like keys are refused: what was seen, and how to name the parts.
TEST_F(log_reader, lines_that_are_no_keys) {
  EXPECT_THAT(refusal("a {b} c\nd {e} f\n"), HasSubstr("braces"));
  EXPECT_THAT(refusal("a \"b\" c\nd \"e\" f\n"), HasSubstr("quotes"));
  EXPECT_THAT(refusal("2024-03-01 12:00:00 x\n2024-03-01 12:00:01 x\n"), HasSubstr("times"));
  EXPECT_THAT(refusal("a,b\nc,d\n"), HasSubstr("commas"));
  EXPECT_THAT(refusal("a;b\nc;d\n"), HasSubstr("semicolons"));
  EXPECT_THAT(refusal("a\tb\nc\td\n"), HasSubstr("tabs"));
  std::string words;
  for (int i = 0; i < 30; ++i) words += "event " + std::to_string(i) + " of many\n";
  EXPECT_THAT(refusal(words), HasSubstr("nearly all of its lines differ"));
  EXPECT_THAT(refusal(words), HasSubstr("--key-from field=N"));
  EXPECT_EQ(read(words, "field=1").keys.size(), 30U);
  // A list of names that all differ is no log of requests; numbers of blocks may be a loop.
  std::string names;
  std::string numbers;
  for (int i = 0; i < 200; ++i) names += "k" + std::to_string(i) + "\n";
  for (int i = 0; i < 200; ++i) numbers += std::to_string(i) + "\n";
  EXPECT_THAT(refusal(names), HasSubstr("all of its first lines differ"));
  EXPECT_EQ(read(names, "field=1").keys.size(), 200U);
  EXPECT_EQ(read(numbers).keys.size(), 200U);
  EXPECT_THAT(refusal("user=1\nuser=\"x\"\na\nb\nc\n"), HasSubstr("quotes"));
  EXPECT_THAT(refusal("a\nb\nc\n{d}\n"), HasSubstr("braces"));
  EXPECT_THAT(refusal("[\n  {\n    \"url\": \"/a\"\n  }\n]\n"), HasSubstr("jq -c '.[]'"));
  EXPECT_THAT(refusal("[{\"url\": \"/a\"}, {\"url\": \"/b\"}]\n"), HasSubstr("jq -c '.[]'"));
  EXPECT_THAT(refusal("{\n  \"url\": \"/a\"\n}\n"), HasSubstr("jq -c . "));
  // Keys may be words, if they come more than once.
  std::string repeated;
  for (int i = 0; i < 30; ++i) repeated += "key " + std::to_string(i % 7) + "\n";
  EXPECT_EQ(read(repeated).keys.size(), 30U);
}

// Goal    A message that is free text is no request; one that contains a request or a statement is.
TEST_F(log_reader, messages_in_members) {
  const std::string free_text = "{\"level\":\"info\",\"msg\":\"user 1 logged in\"}\n";
  EXPECT_THAT(refusal(free_text), HasSubstr("--key-from member=NAME: level, msg"));
  EXPECT_THAT(read(free_text, "member=msg").keys, ElementsAre("user 1 logged in"));
  EXPECT_THAT(read(free_text, "field=2").keys, ElementsAre("1"));
  EXPECT_THAT(read(free_text + "{\"msg\":\"GET /a 200\"}\n{\"msg\":\"GET /b 200\"}\n").keys,
              ElementsAre("/a", "/b"));
  EXPECT_THAT(read("{\"timestamp\":\"2024-03-01 12:00:00.1 UTC\",\"message\":\"duration: 2 ms  "
                   "statement: select 1\"}\n{\"message\":\"checkpoint starting\"}\n")
                  .keys,
              ElementsAre("select 1"));
}

// Goal    A quote that does not end costs its own line only.
TEST_F(log_reader, a_quote_that_does_not_end) {
  const auto log = read("time,key\n1,\"a\n2,b\n3,\"c\nd\"\n");
  EXPECT_THAT(log.keys, ElementsAre("b", "c\nd"));
  EXPECT_EQ(log.account.malformed, 1U);
  EXPECT_EQ(log.account.first_malformed[0].number, 2U);
}

// Goal    Of a log whose last line was cut, that line is a request if its request is complete.
TEST_F(log_reader, a_cut_last_line) {
  const std::string line =
      "h - - [10/Oct/2000:13:55:07 +0000] \"GET /b HTTP/1.1\" 200 5 \"-\" \"age";
  EXPECT_THAT(read(access("/a") + line).keys, ElementsAre("/a", "/b"));
  const auto cut = read(access("/a") + line.substr(0, line.find(" HTTP")));
  EXPECT_THAT(cut.keys, ElementsAre("/a"));
  EXPECT_EQ(cut.account.malformed, 1U);
}

// Goal    Statistics of statements are no log.
TEST_F(log_reader, a_table_of_statistics) {
  EXPECT_THAT(refusal("queryid,query,calls\n1,SELECT 1,5\n", "column=query"),
              HasSubstr("no log of requests"));
}

}  // namespace
}  // namespace singleflight::lab
