// SPDX-License-Identifier: Apache-2.0
#include "lab/workload/key_digests.hpp"

#include <gtest/gtest.h>

#include <string>

namespace singleflight::lab {
namespace {

// Goal    Keys are numbered in the order in which they come, also while the table grows.
TEST(key_digests, numbers_keys_in_order) {
  key_digests keys;
  EXPECT_EQ(keys.size(), 0U);
  for (int round = 0; round < 2; ++round) {
    for (std::uint32_t i = 0; i < 10'000; ++i) {
      const auto [index, is_new] = keys.index_of("key " + std::to_string(i));
      ASSERT_EQ(index, i);
      ASSERT_EQ(is_new, round == 0);
    }
  }
  EXPECT_EQ(keys.size(), 10'000U);
  EXPECT_TRUE(keys.index_of("").is_new);
  EXPECT_FALSE(keys.index_of("").is_new);
}

}  // namespace
}  // namespace singleflight::lab
