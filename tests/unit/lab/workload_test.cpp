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

// Goal    With the requests that are dropped, their times and the keys of no others are dropped.
TEST(workload, keeps_the_first_requests) {
  workload log;
  log.keys = {"a", "b"};
  log.requests = {1, 0, 1};
  log.stamps = {0s, 1s, 2s};
  log.keep_first(1);
  EXPECT_EQ(log.stamps.size(), 1U);
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
