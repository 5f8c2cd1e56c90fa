// SPDX-License-Identifier: Apache-2.0
#include "lab/log/fields.hpp"

#include <gtest/gtest.h>

#include "cli/usage_error.hpp"

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;

std::string name_of(field what, const std::vector<std::string>& names) {
  const auto index = find_fields(names).of(what).index;
  return index ? names[*index] : "(none)";
}

// Goal    Of several names the one that the producers' table lists first counts.
TEST(fields, names) {
  EXPECT_EQ(name_of(field::url, {"uri", "request_uri"}), "request_uri");
  EXPECT_EQ(name_of(field::time, {"level", "TS"}), "TS");
  EXPECT_EQ(name_of(field::url, {"request.headers.uri", "x", "request.uri"}), "request.uri");
  EXPECT_EQ(name_of(field::url, {"request.headers.uri"}), "(none)");
  EXPECT_EQ(name_of(field::host, {"httpRequest.host"}), "httpRequest.host");
  EXPECT_EQ(name_of(field::key, {"key_size", " Key "}), " Key ");
  EXPECT_EQ(name_of(field::bytes, {"key_size"}), "(none)");
}

// Goal    Traefik's Duration is in nanoseconds, another one in the unit that its form shows.
TEST(fields, units) {
  EXPECT_EQ(find_fields({"Duration"}).of(field::duration).unit, time_unit::ns);
  EXPECT_EQ(find_fields({"duration"}).of(field::duration).unit, time_unit::by_size);
}

TEST(fields, the_chosen_time) {
  const std::vector<std::string> names{"when", "key"};
  auto fields = find_fields(names);
  choose_time(time_choice::parse("column=when:ms"), names, "log", "column", fields);
  EXPECT_EQ(fields.of(field::time).index, 0U);
  EXPECT_EQ(fields.of(field::time).unit, time_unit::ms);
  EXPECT_THROW(choose_time(time_choice::parse("column=nope"), names, "log", "column", fields),
               cli::usage_error);
  EXPECT_THROW(choose_time(time_choice::parse("field=3"), names, "log", "column", fields),
               cli::usage_error);
}

reading read(const std::vector<std::string>& names, const std::vector<std::string_view>& row) {
  const auto fields = find_fields(names);
  field_reader::values values;
  for (std::size_t i = 0; i < number_of_fields; ++i) {
    if (const auto index = fields.places[i].index) values[i] = row[*index];
  }
  static std::string key;
  field_reader reader(fields, {});  // `made` refers to it
  auto made = reader.read(values, nullptr);
  key = made.key;
  made.key = key;
  return made;
}

TEST(fields, readings) {
  const auto w3c = read({"date", "time", "cs-method", "cs-uri-stem", "cs-uri-query", "cs-host",
                         "sc-status", "time-taken", "sc-bytes"},
                        {"2024-03-01", "12:00:01", "GET", "/a", "x=1", "a.test", "304", "15", "7"});
  EXPECT_EQ(w3c.key, "a.test/a?x=1");
  EXPECT_EQ(w3c.time, 1709294401s);
  EXPECT_EQ(w3c.method, "GET");
  EXPECT_EQ(w3c.status, 304U);
  EXPECT_EQ(w3c.duration, 15ms);
  EXPECT_EQ(w3c.bytes, 7U);
  const auto nginx = read({"request", "host"}, {"POST /b HTTP/1.1", "-"});
  EXPECT_EQ(nginx.key, "/b");
  EXPECT_EQ(nginx.method, "POST");
  EXPECT_EQ(read({"query", "time"}, {"SELECT 1", "5"}).key, "SELECT 1");
  EXPECT_EQ(read({"key", "op_count"}, {"a", "3"}).count, 3U);
  EXPECT_EQ(read({"key", "op_count"}, {"a", "many"}).what, reading::verdict::malformed);
  EXPECT_EQ(read({"url"}, {"-"}).what, reading::verdict::no_key);
}

}  // namespace
}  // namespace singleflight::lab
