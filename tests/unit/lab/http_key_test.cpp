// SPDX-License-Identifier: Apache-2.0
#include "lab/log/http_key.hpp"

#include <gtest/gtest.h>

namespace singleflight::lab {
namespace {

std::string key(const char* key_from, std::string_view url, std::string_view host = {}) {
  reading_choice choice;
  if (*key_from != '\0') choice.key = key_choice::parse(key_from);
  return std::string(http_key(choice).of(url, host));
}

TEST(http_key, parts_of_a_url) {
  EXPECT_EQ(key("path", "/a?x=1#top"), "/a");
  EXPECT_EQ(key("path", "http://a.test/b?x"), "/b");
  EXPECT_EQ(key("path", "http://a.test"), "/");
  EXPECT_EQ(key("path", "a.test:443"), "a.test:443");
  EXPECT_EQ(key("path", "/go?to=http://e.org/"), "/go");
  EXPECT_EQ(key("url", "http://a.test/b?x"), "http://a.test/b?x");
  EXPECT_EQ(key("url", "/b?x", "a.test"), "/b?x");
  EXPECT_EQ(key("query", "/b?x=1&y"), "x=1&y");
  EXPECT_EQ(key("query", "/b"), "");
  EXPECT_EQ(key("host+path", "/b?x", "a.test"), "a.test/b");
  EXPECT_EQ(key("host+path", "http://a.test:80/b?x"), "a.test:80/b");
  EXPECT_EQ(key("host+path", "/b?x"), "/b");
}

// Goal    Without a choice the host, if it is known, and the URL with its query are the key.
TEST(http_key, automatic) {
  EXPECT_EQ(key("", "/a?x=1"), "/a?x=1");
  EXPECT_EQ(key("", "/a?x=1", "a.test"), "a.test/a?x=1");
  EXPECT_EQ(key("", "http://b.test/a", "b.test"), "http://b.test/a");
  http_key made{reading_choice{}};
  EXPECT_EQ(made.describe(), "URL");
  made.of("/a", "a.test");
  EXPECT_EQ(made.describe(), "host and URL");
}

TEST(http_key, ignored_parameters) {
  reading_choice choice;
  choice.ignored_query = {"utm_*", "id"};
  http_key made(choice);
  EXPECT_EQ(made.of("/a?utm_source=x&b=1&id=5&utm_y&ids=3", {}), "/a?b=1&ids=3");
  EXPECT_EQ(made.of("/a?utm_source=x", {}), "/a");
  EXPECT_EQ(made.of("/utm_a", {}), "/utm_a");
}

TEST(http_key, request_lines) {
  EXPECT_EQ(split_request_line("GET /a b HTTP/1.1")->url, "/a b");
  EXPECT_EQ(split_request_line("get  /a")->url, "/a");
  EXPECT_EQ(split_request_line("CONNECT a.test:443 HTTP/1.1")->method, "CONNECT");
  for (const char* text : {"", "GET", "GET ", "Mozilla/5.0 (X11)", "curl agent", "203.0.113.5, a",
                           "GET  HTTP/1.1", "- /a"}) {
    EXPECT_FALSE(split_request_line(text)) << text;
  }
}

TEST(http_key, names_of_hosts) {
  for (const char* text : {"a.test", "a.test:443", "localhost", "web:80", "192.0.2.7:80"}) {
    EXPECT_TRUE(looks_like_host(text)) << text;
  }
  for (const char* text : {"", "-", "F", "192.0.2.7", "2001:db8::7", "nginx[7]:", "a.", "a b.test",
                           "a.test:x", "203.0.113.5,"}) {
    EXPECT_FALSE(looks_like_host(text)) << text;
  }
}

}  // namespace
}  // namespace singleflight::lab
