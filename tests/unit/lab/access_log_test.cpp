// SPDX-License-Identifier: Apache-2.0
#include "lab/log/access_log.hpp"

#include <gtest/gtest.h>

#include <string>

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;

const std::string common =
    R"(127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a/b?x=1 HTTP/1.0" 200 2326)";

TEST(access_log, common_format) {
  const auto read = parse_access_log_line(common);
  ASSERT_TRUE(read.entry);
  EXPECT_EQ(read.entry->method, "GET");
  EXPECT_EQ(read.entry->url, "/a/b?x=1");
  EXPECT_EQ(read.entry->time, 971211336s);
}

TEST(access_log, combined_format_with_escaped_quotes) {
  const auto line = common + R"( "http://e.org/?q=\"x\"" "Agent \"quoted\" \\")";
  const auto read = parse_access_log_line(line);
  ASSERT_TRUE(read.entry);
  EXPECT_EQ(read.entry->url, "/a/b?x=1");
}

TEST(access_log, odd_hosts_users_and_requests) {
  const auto url_of = [](const std::string& line) {
    const auto read = parse_access_log_line(line);
    return read.entry ? std::string(read.entry->url) : std::string("(") + read.problem + ")";
  };
  const std::string time = " - - [10/Oct/2000:13:55:36 +0000] ";
  EXPECT_EQ(url_of("2001:db8::1" + time + R"("GET /six HTTP/2.0" 200 -)"), "/six");
  EXPECT_EQ(url_of("[::1]" + time + R"("GET /six HTTP/2.0" 200 -)"), "/six");
  EXPECT_EQ(url_of(R"(h - "a [user]" [10/Oct/2000:13:55:36 +0000] "GET /u HTTP/1.1" 200 5)"),
            "(the [time] is not like 10/Oct/2000:13:55:36 -0700)");
  EXPECT_EQ(url_of(R"(h - Ann Lee [10/Oct/2000:13:55:36 +0000] "GET /u HTTP/1.1" 200 5)"), "/u");
  EXPECT_EQ(url_of("example.org:80 h" + time + R"("GET /v HTTP/1.1" 200 5)"), "/v");
  EXPECT_EQ(url_of("h" + time + R"("GET /a b c HTTP/1.1" 404 5)"), "/a b c");
  EXPECT_EQ(url_of("h" + time + R"("GET /old" 200 5)"), "/old");
  EXPECT_EQ(url_of("h" + time + R"("GET http://e.org/p?q HTTP/1.1" 200 5)"), "/p?q");
  EXPECT_EQ(url_of("h" + time + R"("GET http://e.org HTTP/1.1" 200 5)"), "/");
  EXPECT_EQ(url_of("h" + time + R"("GET /go?to=http://e.org/ HTTP/1.1" 200 5)"),
            "/go?to=http://e.org/");
  EXPECT_EQ(url_of("h" + time + R"("OPTIONS * HTTP/1.1" 200 5)"), "*");
  EXPECT_EQ(url_of("h" + time + R"("GET /extra HTTP/1.1" 200 5 "-" "-" 0.012 "up stream")"),
            "/extra");
}

// Goal    The line of a client that sent no request is valid and has no URL.
TEST(access_log, dash_request) {
  const auto read = parse_access_log_line(R"(h - - [10/Oct/2000:13:55:36 +0000] "-" 408 -)");
  ASSERT_TRUE(read.entry);
  EXPECT_EQ(read.entry->request, "-");
  EXPECT_TRUE(read.entry->url.empty());
}

TEST(access_log, malformed_lines_say_why) {
  for (const char* line :
       {"", "x", "/just/a/path", "a b c d e f", R"(h - - [10/Oct/2000:13:55:36 +0000)",
        R"(h - - [yesterday] "GET / HTTP/1.1" 200 5)",
        R"(h - - [10/Oct/2000:13:55:36 +0000] GET / 200 5)",
        R"(h - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/1.1)",
        R"(h - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/1.1\" 200 5)",
        R"(h - - [10/Oct/2000:13:55:36 +0000] "\x16\x03\x01" 400 5)",
        R"(h - - [10/Oct/2000:13:55:36 +0000] "GET  HTTP/1.1" 400 5)",
        R"(h - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/1.1" OK 5)",
        R"(h - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/1.1" 200)",
        R"(h - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/1.1" 200 many)",
        R"(h - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/1.1" 200 5 "ref" "cut o)"}) {
    const auto read = parse_access_log_line(line);
    EXPECT_FALSE(read.entry) << line;
    EXPECT_NE(read.problem, nullptr) << line;
  }
}

TEST(access_log, fields_are_counted_from_one) {
  const auto line = common + R"( "ref" "an agent")";
  EXPECT_EQ(access_log_field(line, 1), "127.0.0.1");
  EXPECT_EQ(access_log_field(line, 3), "frank");
  EXPECT_EQ(access_log_field(line, 4), "10/Oct/2000:13:55:36 -0700");
  EXPECT_EQ(access_log_field(line, 5), "GET /a/b?x=1 HTTP/1.0");
  EXPECT_EQ(access_log_field(line, 6), "200");
  EXPECT_EQ(access_log_field(line, 9), "an agent");
  EXPECT_FALSE(access_log_field(line, 10));
}

}  // namespace
}  // namespace singleflight::lab
