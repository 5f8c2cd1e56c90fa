// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/simulation_results.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/json_text.hpp"
#include "unit/lab/has.hpp"

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

simulated_run run_of(const std::string& protection, std::uint64_t loads) {
  simulated_run run;
  run.protection = protection;
  run.requests = 100;
  run.loads = loads;
  run.joins = 100 - loads;
  run.loads_by_hour = {loads - 10, 10};
  run.loads_of_hottest = {loads / 2};
  run.loads_let_through = {loads / 10};
  return run;
}

simulation_results simulated() {
  simulation_results all;
  all.workload = "log & <script>alert(1)</script>";
  all.requests = 100;
  all.distinct_keys = 7;
  all.began = 1'709'294'400s;  // 2024-03-01 12:00 UTC
  all.duration = 50s;
  all.load_time = "20.0 ms";
  all.version = "0.1.0";
  all.profile.hours = {{474'804h, 0, 80}, {474'805h, 80, 20}};
  all.profile.hottest = {{0, 60}};
  all.profile.stampedes = {{0, 1500ms, 1520ms, 9}};
  all.profile.all_stampedes = 3;
  all.hot_names = {"</td><b>"};
  all.stampede_names = {"</td><b>\xc3\xa9"};
  all.runs = {run_of("none", 100), run_of("flight", 40)};
  all.sweep = cache_sweep{{1s, 10s, 0s}, {5, 7}, {{.1, .2, .3}, {.1, .4, .5}}, 0.25};
  all.point = {1, 1};
  all.recommended = {"cache", {"Use <b>.", "Because it is so."}};
  return all;
}

TEST(simulation_results, json_has_all_of_it) {
  auto all = simulated();
  all.cache = cache_settings{.capacity = 7, .ttl = 10s};
  all.runs[1].cached = cache_counts{.hits = 5};
  all.runs[1].failed = 2;
  const auto json = nlohmann::ordered_json::parse(cli::to_text(to_json(all), 1));
  EXPECT_EQ(json["simulated"], true);
  EXPECT_EQ(json["workload"]["requests_per_s"], 2);
  EXPECT_EQ(json["workload"]["began_s"], 1'709'294'400);
  EXPECT_EQ(json["workload"]["cache_ttl_ms"], 10'000);
  EXPECT_FALSE(json["workload"].contains("fleet"));
  const auto& flight = json["runs"][1];
  EXPECT_EQ(flight["backend_loads"], 40);
  EXPECT_EQ(flight["saved"], 60);
  EXPECT_EQ(flight["joined"], 60);
  EXPECT_EQ(flight["errors"]["injected"], 2);
  EXPECT_EQ(flight["cache"]["hits"], 5);
  EXPECT_TRUE(json["runs"][0]["errors"].empty());
  EXPECT_EQ(json["hours"][0]["start"], "2024-03-01 12:00");
  EXPECT_EQ(json["hours"][0]["loads"]["flight"], 30);
  EXPECT_EQ(json["hot_keys"][0]["loads"]["flight"], 20);
  EXPECT_EQ(json["all_stampedes"], 3);
  EXPECT_EQ(json["stampedes"][0]["at"], "2024-03-01 12:00:01.500");
  EXPECT_EQ(json["stampedes"][0]["requests"], 9);
  EXPECT_EQ(json["stampedes"][0]["loads"]["none"], 10);
  EXPECT_EQ(json["sweep"]["saved"][1][2], 0.5);
  EXPECT_TRUE(json["sweep"]["ttls_ms"][2].is_null());
  EXPECT_EQ(json["recommendation"]["capacity"], 7);
  EXPECT_EQ(json["recommendation"]["ttl_ms"], 10'000);
  EXPECT_EQ(json["recommendation"]["reasons"][1], "Because it is so.");
}

TEST(simulation_results, table) {
  const auto text = to_table(simulated());
  for (const auto* words :
       {"flight           100     40  60.0 %", "saved, by hour", "2024-03-01 13:00", "60.0 %",
        "</td><b>\xc3\xa9 ", "2024-03-01 12:00:01.500", "saved by a cache, entries", "forever",
        "a sample of 25.0 % of the others", "recommended  Use <b>.", "             Because it"}) {
    EXPECT_THAT(text, HasSubstr(words));
  }
  EXPECT_THAT(text, Not(HasSubstr("evicted")));
}

// Goal    Many hours make few rows, and each request is in one of them.
TEST(simulation_results, many_hours) {
  auto all = simulated();
  all.profile.hours.clear();
  for (auto& run : all.runs) run.loads_by_hour.assign(240, 1);
  for (int hour = 0; hour < 240; ++hour)
    all.profile.hours.push_back({474'804h + std::chrono::hours(hour), 0, 2});
  const auto text = to_table(all);
  EXPECT_THAT(text, HasSubstr("saved, by day"));
  EXPECT_THAT(text, HasSubstr("2024-03-02 00:00        48  50.0 %"));
  EXPECT_THAT(text, HasSubstr("2024-03-11 00:00        24  50.0 %"));
}

// Goal    Markup of the log cannot enter the page; what was simulated is on it.
TEST(simulation_results, page) {
  auto all = simulated();
  const auto page = to_html(all);
  EXPECT_FALSE(has(page, "<script>alert"));
  EXPECT_FALSE(has(page, "</td><b>"));
  EXPECT_FALSE(has(page, "Use <b>"));
  for (const auto* words : {"Recommendation", "Because it is so.", "2024-03-01 12:00:01.500",
                            "id=\"hours\"", "id=\"sweep\"", "60.0 %"}) {
    EXPECT_TRUE(has(page, words)) << words;
  }
  EXPECT_FALSE(has(page, "stopped early"));
  all.interrupted = true;
  all.sweep.reset();
  all.recommended = {};
  EXPECT_TRUE(has(to_html(all), "stopped early"));
  EXPECT_FALSE(to_json(all).contains("sweep"));
}

// Goal    A run that was stopped has a line of its own, and no share of the hours, keys and
//         stampedes that it has not reached; without advice there is no recommendation.
TEST(simulation_results, a_stopped_run) {
  auto all = simulated();
  all.interrupted = true;
  all.runs[1].complete = false;
  all.recommended = {};
  const auto text = to_table(all);
  EXPECT_THAT(text, HasSubstr("flight           100     40  60.0 %"));
  EXPECT_THAT(text, HasSubstr("flight: stopped early"));
  EXPECT_THAT(text, Not(HasSubstr("saved, by hour")));
  EXPECT_THAT(text, Not(HasSubstr("saved, hottest keys")));
  EXPECT_THAT(text, HasSubstr("at once  none\n"));
  const auto json = to_json(all);
  EXPECT_FALSE(json["runs"][1]["complete"]);
  EXPECT_FALSE(json["hours"][0]["loads"].contains("flight"));
  EXPECT_FALSE(json["hot_keys"][0]["loads"].contains("flight"));
  EXPECT_EQ(json["stampedes"][0]["loads"].size(), 1U);
  EXPECT_FALSE(json.contains("recommendation"));
  const auto page = to_html(all);
  EXPECT_TRUE(has(page, "flight (partial)"));
  EXPECT_TRUE(has(page, "<td>60</td><td>16.7 %</td></tr>")) << "the hottest key, of none alone";
}

// Goal    Requests of the log that were left out, or got no fresh answer, are counted apart.
TEST(simulation_results, counted_apart) {
  auto all = simulated();
  EXPECT_FALSE(has(to_html(all), "Answered with a 5xx"));
  all.other_methods = 5;
  all.failed_answers = 6;
  all.not_modified = 1234;
  const auto workload = to_json(all)["workload"];
  EXPECT_EQ(workload["other_methods"], 5);
  EXPECT_EQ(workload["answered_5xx"], 6);
  EXPECT_EQ(workload["answered_304"], 1234);
  const auto page = to_html(all);
  EXPECT_TRUE(has(page, "5 requests, because of their method"));
  EXPECT_TRUE(has(page, "Answered with a 5xx"));
  EXPECT_TRUE(has(page, "1,234 requests"));
}

// Goal    A log that counts from a moment of its own has no dates.
TEST(simulation_results, moments) {
  EXPECT_EQ(show_moment(3661s + 5ms, true), "+3661.005 s");
  EXPECT_EQ(show_moment(7200s, false), "+2 h");
  EXPECT_EQ(show_moment(1'709'294'400s + 120ms, true), "2024-03-01 12:00:00.120");
}

// Goal    A simulation that is stopped before a protection has run shows what the log contains.
TEST(simulation_results, stopped_before_any_run) {
  auto all = simulated();
  all.runs.clear();
  all.sweep.reset();
  all.recommended = {};
  all.interrupted = true;
  const auto text = to_table(all);
  EXPECT_THAT(text, HasSubstr("hottest keys"));
  EXPECT_THAT(text, HasSubstr("</td><b>   "));
  EXPECT_THAT(text, HasSubstr("largest stampedes"));
  EXPECT_THAT(text, HasSubstr("2024-03-01 12:00:01.500"));
  EXPECT_THAT(text, Not(HasSubstr("saved")));
  EXPECT_THAT(text, Not(HasSubstr("protection")));
  EXPECT_THAT(text, Not(HasSubstr("let through")));
  const auto html = to_html(all);
  EXPECT_THAT(html, HasSubstr("The hottest keys"));
  EXPECT_THAT(html, HasSubstr("The largest stampedes"));
  EXPECT_THAT(html, Not(HasSubstr("Loads that each protection")));
  EXPECT_THAT(html, Not(HasSubstr("Backend loads")));
  const auto json = to_json(all);
  EXPECT_EQ(json["runs"].size(), 0U);
  EXPECT_EQ(json["hot_keys"][0]["requests"], 60);
  EXPECT_EQ(json["stampedes"][0]["requests"], 9);
  EXPECT_FALSE(json.contains("sweep"));
}

}  // namespace
}  // namespace singleflight::lab
