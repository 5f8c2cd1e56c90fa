// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/pending_loads.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;

// Goal    Loads leave in the order of their ends, and those that end together in the order in which
//         they were added, whether or not they were added in order.
TEST(pending_loads, leave_in_the_order_of_their_ends) {
  pending_loads<int> loads;
  EXPECT_TRUE(loads.empty());
  EXPECT_FALSE(loads.any_due(1h));
  int number = 0;
  for (const auto end : {5ms, 9ms, 5ms, 7ms, 9ms, 1ms, 7ms}) loads.add(end, number++);
  EXPECT_FALSE(loads.any_due(0ms));
  EXPECT_TRUE(loads.any_due(1ms));
  EXPECT_EQ(loads.size(), 7U);
  std::vector<int> order;
  while (!loads.empty()) order.push_back(loads.take().second);
  EXPECT_EQ(order, (std::vector<int>{5, 0, 2, 3, 6, 1, 4}));
  EXPECT_EQ(loads.most(), 7U);
}

}  // namespace
}  // namespace singleflight::lab
