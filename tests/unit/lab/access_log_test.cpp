// SPDX-License-Identifier: Apache-2.0
#include "lab/log/access_log.hpp"

#include <gtest/gtest.h>

#include <string>

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;
using content = access_log_line::content;

const std::string common =
    R"(127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a/b?x=1 HTTP/1.0" 200 2326)";

access_log_line parse(const std::string& line) {
  // The views of the result are parts of the line.
  static std::string kept;
  kept = line;
  return access_log_parser().parse(kept);
}

TEST(access_log, common_format) {
  const auto read = parse(common);
  ASSERT_EQ(read.what, content::request);
  EXPECT_EQ(read.method, "GET");
  EXPECT_EQ(read.url, "/a/b?x=1");
  EXPECT_EQ(read.time, 971211336s);
  EXPECT_EQ(read.status, 200U);
  EXPECT_EQ(read.bytes, 2326U);
  EXPECT_TRUE(read.host.empty());
}

TEST(access_log, combined_format_with_escaped_quotes) {
  const auto read = parse(common + R"( "http://e.org/?q=\"x\"" "Agent \"quoted\" \\")");
  EXPECT_EQ(read.url, "/a/b?x=1");
}

TEST(access_log, odd_hosts_users_and_requests) {
  const auto url_of = [](const std::string& line) {
    const auto read = parse(line);
    return read.what == content::request ? std::string(read.url)
                                         : std::string("(") + read.reason + ")";
  };
  const std::string time = " - - [10/Oct/2000:13:55:36 +0000] ";
  EXPECT_EQ(url_of("2001:db8::1" + time + R"("GET /six HTTP/2.0" 200 -)"), "/six");
  EXPECT_EQ(url_of("[::1]" + time + R"("GET /six HTTP/2.0" 200 -)"), "/six");
  EXPECT_EQ(url_of(R"(h - "a [user]" [10/Oct/2000:13:55:36 +0000] "GET /u HTTP/1.1" 200 5)"), "/u");
  EXPECT_EQ(url_of(R"(h - Ann Lee [10/Oct/2000:13:55:36 +0000] "GET /u HTTP/1.1" 200 5)"), "/u");
  EXPECT_EQ(url_of("h" + time + R"("GET /a b c HTTP/1.1" 404 5)"), "/a b c");
  EXPECT_EQ(url_of("h" + time + R"("GET  /a HTTP/1.1" 404 5)"), "/a");
  EXPECT_EQ(url_of("h" + time + R"("GET /old" 200 5)"), "/old");
  EXPECT_EQ(url_of("h" + time + R"("GET http://e.org/p?q HTTP/1.1" 200 5)"), "http://e.org/p?q");
  EXPECT_EQ(url_of("h" + time + R"("OPTIONS * HTTP/1.1" 200 5)"), "*");
  EXPECT_EQ(url_of("h" + time + R"("GET /extra HTTP/1.1" 200 5 "-" "-" 0.012 "up stream")"),
            "/extra");
  EXPECT_EQ(url_of("h" + time + R"("GET /cut HTTP/1.1)"), "/cut");
  EXPECT_EQ(url_of("h" + time + R"("GET /agent HTTP/1.1" 200 5 "ref" "cut o)"), "/agent");
  EXPECT_EQ(url_of("h" + time + "GET /bare 200 5"), "/bare");
  EXPECT_EQ(url_of("h" + time + R"("GET /c)"), "(the line ends within its request)");
}

// Goal    The line of a client that sent no request, or none that the server could read, is valid
//         and asks for nothing.
TEST(access_log, lines_without_a_request) {
  for (const char* line : {R"(h - - [10/Oct/2000:13:55:36 +0000] "-" 408 -)",
                           R"(h - - [10/Oct/2000:13:55:36 +0000] "\x16\x03\x01" 400 5)",
                           R"(h [10/Oct/2000:13:55:36.000] http-in <NOSRV> 400 0 "<BADREQ>")",
                           "h - - [10/Oct/2000:13:55:36 +0000]"}) {
    EXPECT_EQ(parse(line).what, content::nothing) << line;
  }
}

TEST(access_log, malformed_lines_say_why) {
  for (const char* line : {"", "x", "/just/a/path", "a b c d e f", R"(a "quoted" word)", "\"",
                           "h - - [yesterday] and nothing", "GET"}) {
    const auto read = parse(line);
    EXPECT_EQ(read.what, content::malformed) << line;
    EXPECT_NE(read.reason, nullptr) << line;
  }
}

// Goal    A request without a time that can be read is a request.
TEST(access_log, lines_without_a_time) {
  const auto read = parse(R"(h - - [yesterday] "GET /a HTTP/1.1" 200 5)");
  EXPECT_EQ(read.what, content::request);
  EXPECT_FALSE(read.time);
}

// Goal    The time is found where each producer puts it; numbers in brackets that identify a
//         process are no times.
TEST(access_log, times_anywhere) {
  constexpr auto noon = 1709294400s;
  const std::string request = R"("GET /a HTTP/1.1" 200 5)";
  EXPECT_EQ(
      parse("<190>Mar  1 12:00:07 web1 app[77]: h - - [01/Mar/2024:12:00:00 +0000] " + request)
          .time,
      noon);
  EXPECT_EQ(parse("h - - [[x] [01/Mar/2024:12:00:00 +0000] " + request).time, noon);
  EXPECT_EQ(parse("h - - [2024-03-01T12:00:00+00:00] " + request).time, noon);
  EXPECT_EQ(parse("h - - [01/Mar/2024 12:00:00] " + request).time, noon);
  EXPECT_EQ(
      parse("2024-03-01T12:00:00.5Z stdout F h - - [01/Mar/2024:12:00:00 +0000] " + request).time,
      noon + 500ms);
  EXPECT_EQ(parse("https 2024-03-01T12:00:00.100000Z app/lb 192.0.2.7:28 - " + request).time,
            noon + 100ms);
  EXPECT_EQ(parse("1709294400.250 28 192.0.2.7 TCP_MISS/200 10 GET http://a.test/ - X/- -").time,
            noon + 250ms);
  EXPECT_EQ(parse("h 1709294400.250 " + request).time, noon + 250ms);
  EXPECT_EQ(parse("h - - 1709294400250 " + request).time, noon + 250ms);
  EXPECT_EQ(parse("h - - " + request + " 1709294400.5").time, noon + 500ms);
  EXPECT_EQ(parse("h - - 01/Mar/2024:13:00:00 +0100 " + request).time, noon);
  EXPECT_EQ(parse("h - - 01/Mar/2024:12:00:00 " + request).time, noon);
}

// Goal    A number that is a size, a duration or an identity is no time.
TEST(access_log, numbers_that_are_no_times) {
  for (const char* line :
       {R"(h - - "GET /a HTTP/1.1" 200 1709294400)", R"(h - - "GET /a HTTP/1.1" 200 5 1709294400x)",
        R"(h - - "GET /a HTTP/1.1" 200 5 0000000012)",
        R"(h - - "GET /a HTTP/1.1" 200 5 17092944001)",
        R"(h - - "GET /a 1709294400 HTTP/1.1" 200 5)"}) {
    EXPECT_FALSE(parse(line).time) << line;
  }
}

TEST(access_log, hosts) {
  const auto host_of = [](const std::string& line) { return std::string(parse(line).host); };
  const std::string rest = R"([01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 5)";
  EXPECT_EQ(host_of("shop.test 192.0.2.7 - - " + rest), "shop.test");
  EXPECT_EQ(host_of("shop.test:443 192.0.2.7 - - " + rest), "shop.test:443");
  EXPECT_EQ(host_of("Mar  1 12:00:00 lb app: shop.test 192.0.2.7 - - " + rest), "shop.test");
  EXPECT_EQ(host_of("2024-03-01T12:00:00Z stdout F shop.test 192.0.2.7 - - " + rest), "shop.test");
  EXPECT_EQ(host_of("client.test - - " + rest), "");
  EXPECT_EQ(host_of("203.0.113.5, 198.51.100.2 - - " + rest), "");
  EXPECT_EQ(host_of(R"("203.0.113.5, 198.51.100.3" 192.0.2.1 - - )" + rest), "");
  EXPECT_EQ(host_of("2001:db8::7 - - " + rest), "");
  EXPECT_EQ(host_of(R"(h - - [01/Mar/2024:12:00:00 +0000] "a.test" "GET /a HTTP/1.1" 200 5)"),
            "a.test");
  EXPECT_EQ(host_of(R"(owner bucket-1 [01/Mar/2024:12:00:00 +0000] 192.0.2.3 own id )"
                    R"(REST.GET.OBJECT a "GET /a HTTP/1.1" 200 -)"),
            "bucket-1");
  EXPECT_EQ(host_of(R"(h:1 [01/Mar/2024:12:00:00.655] in in/s 1/0/0/6/9 200 27 - - ---- 1/1/1/1/0 )"
                    R"(0/0 {a.test|agent} {} "GET /a HTTP/1.1")"),
            "a.test");
  EXPECT_EQ(host_of(R"([2024-03-01T12:00:00.1Z] "GET /a HTTP/1.1" 200 - 0 1 2 3 "-" "curl" "id" )"
                    R"("a.test" "198.51.100.9:80")"),
            "a.test");
  EXPECT_EQ(host_of(R"([2024-03-01T12:00:00.1Z] "GET /a HTTP/1.1" 503 UF upstream_reset - )"
                    R"("TLS error: 1 2 3 4" 0 1 2 - "-" "curl" "id" "10.0.0.1" "-" inbound - -)"),
            "10.0.0.1");
  EXPECT_EQ(host_of(R"(2024-03-01T12:00:00Z stdout F [2024-03-01T12:00:00.1Z] "GET /a HTTP/2" 200 )"
                    R"(- via_upstream - "-" 0 1 2 3 "-" "curl" "id" "a.test" "-" inbound - -)"),
            "a.test");
  EXPECT_EQ(
      host_of(R"(h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 5 1 2 "a" "b" "c" "d")"),
      "");
  EXPECT_EQ(host_of("192.0.2.7 shop.test - " + rest), "shop.test");
  EXPECT_EQ(host_of("192.0.2.7 - ann.lee " + rest), "");
  EXPECT_EQ(host_of("192.0.2.7 ann.lee " + rest), "");
  EXPECT_EQ(host_of("2024-03-01T12:00:00Z shop.test GET /a HTTP/1.1 200 5"), "shop.test");
  EXPECT_EQ(host_of("2024-03-01T12:00:00Z web.1 GET /a HTTP/1.1 200 5"), "");
  EXPECT_EQ(host_of("2024-03-01T12:00:00Z app.http GET /a 200 5"), "");
}

TEST(access_log, statuses_sizes_and_durations) {
  const auto expect = [](const std::string& line, unsigned status, std::uint64_t bytes,
                         std::chrono::nanoseconds duration) {
    const auto read = parse(line);
    EXPECT_EQ(read.status, status) << line;
    EXPECT_EQ(read.bytes, bytes) << line;
    EXPECT_EQ(read.duration, duration) << line;
  };
  const std::string combined = R"(h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 404 12)";
  expect(combined + R"( "-" "agent" "-" rt=0.012 uct="0.000")", 404, 12, 12ms);
  expect(combined + R"( "-" "agent" 5 "shop" "http://192.0.2.9" 13ms)", 404, 12, 13ms);
  expect(R"(h:1 [01/Mar/2024:12:00:00.655] in in/s 10/0/30/69/109 502 2750 - - ---- 1/1/1/1/0 0/0 )"
         R"("GET /a HTTP/1.1")",
         502, 2750, 109ms);
  expect(
      R"(https 2024-03-01T12:00:00.1Z app/lb 192.0.2.7:28 192.0.2.1:80 0.001 0.020 0.003 200 200 )"
      R"(34 366 "GET https://a.test:443/a HTTP/1.1" "agent")",
      200, 366, 24ms);
  expect("1709294400.100   2864 192.0.2.7 TCP_MISS/200 10182 GET http://a.test/x - DIRECT/- text",
         200, 10182, 2864ms);
  expect(R"([2024-03-01T12:00:00.1Z] "GET /a HTTP/2" 200 - 0 1234 20 18 "-" "x" "id" "a.test" "-")",
         200, 1234, 20ms);
  expect(
      R"([2024-03-01T12:00:00.1Z] "GET /a HTTP/2" 200 - via_upstream - "-" 0 1234 20 18 "-" "x" )"
      R"("id" "a.test" "-" outbound|80||x - default)",
      200, 1234, 20ms);
  EXPECT_EQ(parse(R"(h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" - -)").status, 0U);
  const auto ssl = parse(R"([01/Mar/2024:12:00:00 +0000] h TLSv1.3 AES "GET /a HTTP/1.1" 512)");
  EXPECT_EQ(ssl.status, 0U);
  EXPECT_EQ(ssl.bytes, 512U);
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
  EXPECT_EQ(access_log_field("a \"cut o", 2), "cut o");
}

}  // namespace
}  // namespace singleflight::lab
