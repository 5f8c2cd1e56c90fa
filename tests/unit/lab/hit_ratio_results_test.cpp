// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio/hit_ratio_results.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/lab/has.hpp"

namespace singleflight::lab {
namespace {

using testing::HasSubstr;

hit_ratios sample_ratios() {
  hit_ratios all;
  all.workload = "log & <script>alert(1)</script>";
  all.requests = 10'000;
  all.distinct_keys = 2000;
  all.version = "0.1.0";
  all.rows = {{"1%", 20, {1000}, {2000}, {4000}}, {"1000", 1000, {6000}, {6600}, {6600}}};
  return all;
}

TEST(hit_ratio_results, table) {
  EXPECT_EQ(to_table(sample_ratios()),
            "capacity  entries     LRU  loading_cache  optimum  of the optimum\n"
            "1%             20  10.0 %         20.0 %   40.0 %          50.0 %\n"
            "1000        1,000  60.0 %         66.0 %   66.0 %         100.0 %\n");
}

TEST(hit_ratio_results, json) {
  const auto json = to_json(sample_ratios());
  EXPECT_EQ(json["workload"]["requests"], 10'000);
  EXPECT_EQ(json["workload"]["distinct_keys"], 2000);
  EXPECT_EQ(json["ceiling"], 0.8);
  ASSERT_EQ(json["capacities"].size(), 2U);
  EXPECT_EQ(json["capacities"][0].dump(),
            R"({"capacity":"1%","entries":20,"lru":{"hits":1000,"ratio":0.1},)"
            R"("loading_cache":{"hits":2000,"ratio":0.2},"optimum":{"hits":4000,"ratio":0.4},)"
            R"("of_optimum":0.5})");
}

TEST(hit_ratio_results, page) {
  const auto page = to_html(sample_ratios());
  EXPECT_TRUE(has(page, "<td>20.0 %</td><td>40.0 %</td><td>50.0 %</td>"));
  EXPECT_TRUE(has(page, "<th scope=\"row\">20 entries (1%)</th>"));
  EXPECT_TRUE(has(page, "<th scope=\"row\">1,000 entries</th>"));
  EXPECT_TRUE(has(page, "of the optimum, with 20 entries"));
  EXPECT_TRUE(has(page, "id=\"hit_ratio\""));
  EXPECT_FALSE(has(page, "id=\"latency\""));
  EXPECT_FALSE(has(page, "{{"));
}

TEST(hit_ratio_results, the_page_is_self_contained_and_escaped) {
  const auto page = to_html(sample_ratios());
  EXPECT_FALSE(has(page, "<script>alert"));
  EXPECT_TRUE(has(page, "log &amp; &lt;script&gt;alert(1)&lt;/script&gt;"));
  EXPECT_TRUE(has(page, "default-src 'none'"));
  EXPECT_FALSE(has(page, " src=\""));
}

// Goal    Where the log has sizes, every output has the share of the bytes; elsewhere none has.
TEST(hit_ratio_results, bytes) {
  auto all = sample_ratios();
  EXPECT_FALSE(has(to_html(all), "Byte hit ratio"));
  EXPECT_FALSE(to_json(all)["workload"].contains("bytes"));
  all.bytes = 2'000'000;
  all.rows = {{"1%", 20, {1000, 500'000}, {2000, 250'000}, {4000, 1'000'000}}};
  EXPECT_EQ(to_table(all),
            "capacity  entries     LRU  loading_cache  optimum  of the optimum\n"
            "1%             20  10.0 %         20.0 %   40.0 %          50.0 %\n"
            "\n"
            "of the bytes  entries     LRU  loading_cache  optimum\n"
            "1%                 20  25.0 %         12.5 %   50.0 %\n");
  const auto json = to_json(all);
  EXPECT_EQ(json["workload"]["bytes"], 2'000'000);
  EXPECT_EQ(json["capacities"][0]["lru"].dump(),
            R"({"hits":1000,"ratio":0.1,"bytes":500000,"byte_ratio":0.25})");
  const auto page = to_html(all);
  EXPECT_TRUE(has(page, "Byte hit ratio at each capacity"));
  EXPECT_TRUE(has(page, "<td>25.0 %</td><td>12.5 %</td><td>50.0 %</td></tr>"));
}

// Goal    A run that was stopped says so in each output that is kept.
TEST(hit_ratio_results, interrupted) {
  auto all = sample_ratios();
  EXPECT_FALSE(to_json(all)["interrupted"]);
  EXPECT_FALSE(has(to_html(all), "stopped early"));
  all.interrupted = true;
  EXPECT_TRUE(to_json(all)["interrupted"]);
  EXPECT_TRUE(has(to_html(all), "stopped early"));
}

// Goal    A log of keys that are asked for once has no hits, and makes every output.
TEST(hit_ratio_results, no_hits_at_all) {
  auto all = sample_ratios();
  all.distinct_keys = all.requests;
  all.rows = {{"1%", 100, {}, {}, {}}};
  EXPECT_THAT(to_table(all), HasSubstr("0.0 %               -\n"));
  EXPECT_FALSE(to_json(all)["capacities"][0].contains("of_optimum"));
  EXPECT_EQ(to_json(all)["ceiling"], 0);
  EXPECT_FALSE(has(to_html(all), "nan"));
}

}  // namespace
}  // namespace singleflight::lab
