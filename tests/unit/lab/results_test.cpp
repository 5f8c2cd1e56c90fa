// SPDX-License-Identifier: Apache-2.0
#include "lab/report/results.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/json_text.hpp"
#include "unit/lab/has.hpp"

namespace singleflight::lab {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

run_result run_of(const std::string& protection, int requests, int loads) {
  run_result run;
  run.protection = protection;
  for (int i = 0; i < requests; ++i) {
    run.seen.record(std::chrono::milliseconds(i + 1),
                    {i < loads ? reply::origin::own_load : reply::origin::shared, false, {}});
  }
  run.backend_loads = static_cast<std::uint64_t>(loads);
  run.loads_in_flight.change(1ms, +3);
  run.loads_in_flight.change(5ms, -3);
  run.loads_in_flight.finish(10ms);
  run.wall = 2s;
  return run;
}

results sample() {
  results all;
  all.workload = "log & <script>alert(1)</script>";
  all.requests = 100;
  all.distinct_keys = 7;
  all.pacing = "closed loop, 50 callers";
  all.backend = "fake";
  all.query = "SELECT '<b>' WHERE x < :key";
  all.machine = "a machine";
  all.version = "0.1.0";
  all.runs = {run_of("none", 100, 100), run_of("flight", 100, 20)};
  return all;
}

TEST(results, json_has_the_results) {
  auto all = sample();
  all.runs[1].seen.record(1s, {reply::origin::no_load, false, reply::failure{"timed_out", "late"}});
  const auto json = nlohmann::ordered_json::parse(cli::to_text(to_json(all), 1));
  EXPECT_EQ(json["workload"]["requests"], 100);
  ASSERT_EQ(json["runs"].size(), 2U);
  const auto& none = json["runs"][0];
  EXPECT_EQ(none["protection"], "none");
  EXPECT_EQ(none["requests"], 100);
  EXPECT_EQ(none["backend_loads"], 100);
  EXPECT_EQ(none["saved"], 0);
  EXPECT_EQ(none["peak_loads"], 3);
  EXPECT_TRUE(none["errors"].is_object());
  EXPECT_TRUE(none["errors"].empty());
  EXPECT_NEAR(none["latency_ms"]["p50"].get<double>(), 50, 0.5);
  EXPECT_NEAR(none["latency_ms"]["p99"].get<double>(), 99, 0.9);
  EXPECT_NEAR(none["latency_ms"]["p999"].get<double>(), 100, 0.9);
  EXPECT_DOUBLE_EQ(none["latency_ms"]["max"].get<double>(), 100);
  EXPECT_DOUBLE_EQ(none["requests_per_s"].get<double>(), 50);
  EXPECT_DOUBLE_EQ(none["wall_s"].get<double>(), 2);
  const auto& flight = json["runs"][1];
  EXPECT_EQ(flight["saved"], 80);
  EXPECT_EQ(flight["requests"], 101);
  EXPECT_EQ(flight["errors"]["timed_out"], 1);
  EXPECT_DOUBLE_EQ(flight["requests_per_s"].get<double>(),
                   50);  // the failed request is not an answer
}

TEST(results, json_has_the_faults_that_were_injected) {
  auto all = sample();
  EXPECT_FALSE(to_json(all)["workload"].contains("fail_share"));
  EXPECT_FALSE(to_json(all)["workload"].contains("slow_share"));
  all.injected = {0.05, 0.005, 2s};
  const auto json = to_json(all);
  EXPECT_DOUBLE_EQ(json["workload"]["fail_share"].get<double>(), 0.05);
  EXPECT_DOUBLE_EQ(json["workload"]["slow_share"].get<double>(), 0.005);
  EXPECT_DOUBLE_EQ(json["workload"]["slow_ms"].get<double>(), 2000);
}

// Goal    The outputs show the guards that are on, and no others.
TEST(results, guards_that_are_on) {
  auto all = sample();
  EXPECT_FALSE(to_json(all)["runs"][0].contains("guards"));
  EXPECT_EQ(to_table(all).find("guards"), std::string::npos);
  EXPECT_FALSE(has(to_html(all), "Retries"));
  all.guards.attempts = 4;
  all.runs[1].guards = {.asked = 21, .retries = 1234, .rejected = 0};
  auto json = to_json(all);
  EXPECT_EQ(json["workload"]["retry_attempts"], 4);
  EXPECT_FALSE(json["workload"].contains("max_loads"));
  EXPECT_EQ(json["runs"][1]["guards"].dump(), R"({"asked":21,"retries":1234})");
  EXPECT_THAT(to_table(all), HasSubstr("\nguards  asked  retries\n"
                                       "none        0        0\n"
                                       "flight     21    1,234\n"));
  EXPECT_TRUE(has(to_html(all), "<th scope=\"row\">Retries</th><td>0</td><td>1,234</td>"));
  EXPECT_TRUE(has(to_html(all), "<dt>Guards</dt><dd>at most 4 attempts per load</dd>"));

  all.guards = {.attempts = {}, .error_rate = 0.5, .max_loads = 1};
  all.runs[0].guards = {.asked = 100,
                        .rejected = 60,
                        .opened = 2,
                        .queued = 30,
                        .gave_up = 10,
                        .waited = 60ms,
                        .longest_wait = 5ms};
  json = to_json(all);
  EXPECT_EQ(json["workload"]["breaker_error_rate"], 0.5);
  EXPECT_EQ(json["workload"]["max_loads"], 1);
  EXPECT_EQ(json["runs"][0]["guards"].dump(),
            R"({"asked":100,"rejected":60,"opened":2,"queued":30,"gave_up":10,)"
            R"("wait_ms":{"mean":2.0,"max":5.0}})");
  const auto table = to_table(all);
  EXPECT_THAT(table, HasSubstr("rejected  opened  queued  gave up  mean wait  longest\n"));
  EXPECT_THAT(table, HasSubstr("2.00 ms  5.00 ms\n"));
  EXPECT_EQ(table.find("retries"), std::string::npos);
  EXPECT_TRUE(has(to_html(all), "a breaker that opens at 50 % failures; at most 1 load at a time"));
}

// Goal    The outputs show the counts of a cache only for a run that has one.
TEST(results, a_cache) {
  auto all = sample();
  EXPECT_FALSE(to_json(all)["runs"][1].contains("cache"));
  EXPECT_FALSE(to_json(all)["workload"].contains("cache_capacity"));
  EXPECT_EQ(to_table(all).find("refreshes"), std::string::npos);
  EXPECT_FALSE(has(to_html(all), "Cache hits"));
  all.runs[1].protection = "cache";
  all.runs[1].cached = {.hits = 1070,
                        .stale = 3,
                        .misses = 20,
                        .refreshes = 5,
                        .failed = 2,
                        .expired = 4,
                        .evicted = 6};
  all.cache = {.capacity = 1000, .ttl = 10s, .refresh_after = {}, .stale_if_error = 60s};
  const auto json = to_json(all);
  EXPECT_EQ(json["workload"]["cache_capacity"], 1000);
  EXPECT_EQ(json["workload"]["cache_ttl_ms"], 10'000);
  EXPECT_FALSE(json["workload"].contains("cache_refresh_after_ms"));
  EXPECT_EQ(json["workload"]["cache_stale_if_error_ms"], 60'000);
  EXPECT_FALSE(json["runs"][0].contains("cache"));
  EXPECT_EQ(json["runs"][1]["cache"].dump(),
            R"({"hits":1070,"stale":3,"misses":20,"refreshes":5,"failed":2,"expired":4,)"
            R"("evicted":6})");
  EXPECT_THAT(to_table(all), HasSubstr("\ncache   hits  stale  misses  refreshes  failed  expired  "
                                       "evicted\n"
                                       "cache  1,070      3      20          5       2        4  "
                                       "      6\n"));
  const auto page = to_html(all);
  EXPECT_TRUE(has(page, "<th scope=\"row\">Cache hits</th><td>-</td><td>1,070</td>"));
  EXPECT_TRUE(has(page, "<dt>Cache</dt><dd>at most 1,000 entries; fresh for 10.0 s"));
}

TEST(results, json_replaces_bytes_that_are_not_text) {
  auto all = sample();
  all.workload = "caf\xE9.log";
  const auto json = nlohmann::ordered_json::parse(cli::to_text(to_json(all), -1));
  EXPECT_EQ(json["workload"]["source"], "caf\xEF\xBF\xBD.log");
}

TEST(results, the_page_escapes_what_comes_from_outside) {
  auto all = sample();
  all.runs[0].seen.record(
      1s, {reply::origin::own_load, false, reply::failure{"<i>", "\"><img src=x>"}});
  const auto page = to_html(all);
  EXPECT_FALSE(has(page, "<script>alert"));
  EXPECT_FALSE(has(page, "<img src=x>"));
  EXPECT_FALSE(has(page, "<i>"));
  EXPECT_TRUE(has(page, "log &amp; &lt;script&gt;alert(1)&lt;/script&gt;"));
  EXPECT_TRUE(has(page, "SELECT &#39;&lt;b&gt;&#39; WHERE x &lt; :key"));
  EXPECT_FALSE(has(page, "{{"));
  EXPECT_TRUE(has(to_html(sample()), "80.0 % fewer"));
}

// Goal    The name of a file cannot insert text into the places of the page.
TEST(results, places_cannot_be_forged) {
  auto all = sample();
  all.workload = "{{js}}";
  EXPECT_TRUE(has(to_html(all), "<dd>{{js}}</dd>"));
}

// Goal    The page loads nothing from the network.
TEST(results, the_page_is_self_contained) {
  const auto page = to_html(sample());
  EXPECT_TRUE(has(page, "default-src 'none'"));
  EXPECT_FALSE(has(page, "<link rel=\"stylesheet\""));
  EXPECT_FALSE(has(page, " src=\""));
  EXPECT_FALSE(has(page, "@import"));
}

TEST(results, the_table_lines_up) {
  const auto table = to_table(sample());
  EXPECT_THAT(table, HasSubstr("flight: 80.0 % fewer backend loads than none"));
  const auto first = table.find('\n');
  const auto second = table.find('\n', first + 1);
  EXPECT_EQ(first, second - first - 1);
  EXPECT_LE(first, 120U);
  EXPECT_THAT(table,
              HasSubstr("than none, p99 the same within noise, the same throughput within noise"));
}

// Goal    A difference that chance explains is not reported as one: neither that of a few requests,
//         nor that of none.
TEST(results, differences_within_noise) {
  auto all = sample();
  all.runs[1] = all.runs[0];
  all.runs[1].protection = "flight";
  EXPECT_THAT(to_table(all), HasSubstr("flight: no difference from none beyond noise"));
  const auto loaded_once = [](std::chrono::milliseconds latency) {
    run_result one;
    one.backend_loads = 1;
    one.wall = 1s;
    one.seen.record(latency, {reply::origin::own_load, false, {}});
    return one;
  };
  all.runs = {loaded_once(10ms), loaded_once(25ms)};
  all.runs[1].protection = "flight";
  EXPECT_THAT(to_table(all), HasSubstr("flight: no difference from "));
  all.runs[0].backend_loads = 2;
  EXPECT_THAT(to_table(all), HasSubstr("50.0 % fewer backend loads than , p99 the same within"));
}

TEST(results, notes_name_failures_and_late_requests) {
  auto all = sample();
  all.runs[0].seen.record(
      1s, {reply::origin::own_load, false, reply::failure{"sqlite_busy", "database\nis locked"}});
  all.runs[0].calls.out_of_threads = true;
  all.runs[1].complete = false;
  const auto table = to_table(all);
  EXPECT_THAT(table, HasSubstr("1 requests failed with sqlite_busy: database is locked"));
  EXPECT_THAT(table, HasSubstr("began late"));
  EXPECT_THAT(table, HasSubstr("flight: stopped early"));
}

// Goal    A run that is stopped at once still produces every output.
TEST(results, nothing_was_measured) {
  results all;
  EXPECT_FALSE(to_table(all).empty());
  EXPECT_FALSE(to_html(all).empty());
  run_result empty;
  empty.protection = "none";
  empty.complete = false;
  all.runs = {empty, empty};
  all.interrupted = true;
  EXPECT_THAT(to_table(all), HasSubstr("stopped early"));
  EXPECT_TRUE(has(to_html(all), "stopped early"));
  EXPECT_TRUE(to_json(all)["interrupted"].get<bool>());
}

}  // namespace
}  // namespace singleflight::lab
