// SPDX-License-Identifier: Apache-2.0
#include "lab/workload/workload.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

// Goal    Times that go backwards are put in order, with what belongs to their requests, and become
//         relative to the earliest one, which is kept.
TEST(workload, arranged_by_time) {
  workload log;
  log.keys = {"a", "b", "c"};
  log.requests = {0, 1, 2};
  log.stamps = {5500ms, 3000ms, 3000ms};
  log.durations = {50us, 30us, 31us};
  arrange_by_time(log);
  EXPECT_EQ(log.requests, (std::vector<std::uint32_t>{1, 2, 0}));
  EXPECT_EQ(log.stamps, (std::vector<nanoseconds>{0ms, 0ms, 2500ms}));
  EXPECT_EQ(log.durations[0], 30us);
  EXPECT_EQ(log.durations[2], 50us);
  EXPECT_EQ(log.began, 3s);
}

// Goal    The durations of requests that are dropped are dropped as well.
TEST(workload, keeps_the_first_requests) {
  workload log;
  log.keys = {"a", "b"};
  log.requests = {1, 0, 1};
  log.stamps = {0s, 1s, 2s};
  log.durations = {1us, 2us, 3us};
  log.keep_first(1);
  EXPECT_EQ(log.durations.size(), 1U);
  EXPECT_EQ(log.keys, (std::vector<std::string>{"b"}));
}

// Goal    Several look-ups at once give what single ones give: for keys that are repeated among
//         them, and while the table grows.
TEST(key_table, several_keys_at_once) {
  key_table single;
  key_table together;
  std::vector<std::string> texts;
  for (int i = 0; i < 50; ++i) texts.push_back("key " + std::to_string(i % 40));
  for (int round = 0; round < 100; ++round) {
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (i % 7 == 0) texts[i] = "key " + std::to_string(1000 * round) + texts[i];
    }
    const std::vector<std::string_view> keys(texts.begin(), texts.end());
    std::vector<std::uint32_t> indices(keys.size());
    together.index_all(keys, indices.data());
    for (std::size_t i = 0; i < keys.size(); ++i) ASSERT_EQ(indices[i], single.index_of(keys[i]));
  }
  EXPECT_GT(together.size(), 500U);
  EXPECT_EQ(together.take_keys(), single.take_keys());
}

// Goal    Each distinct key has one index, in the order in which the keys came, however many there
//         are.
TEST(key_table, one_index_for_each_key) {
  key_table table;
  for (int round = 0; round < 2; ++round) {
    for (std::uint32_t key = 0; key < 10'000; ++key)
      EXPECT_EQ(table.index_of("key " + std::to_string(key)), key);
  }
  EXPECT_EQ(table.index_of(""), 10'000U);
  EXPECT_EQ(table.size(), 10'001U);
  const auto keys = table.take_keys();
  EXPECT_EQ(keys[1234], "key 1234");
  EXPECT_EQ(keys.size(), 10'001U);
}

}  // namespace
}  // namespace singleflight::lab
