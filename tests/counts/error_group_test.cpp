// SPDX-License-Identifier: Apache-2.0

// What a task of a group costs, in things that can be counted.

#include <gtest/gtest.h>

#include <cstddef>

#include "singleflight/sync.hpp"
#include "support/allocation_count.hpp"
#include "support/executors.hpp"

namespace {

using support::allocations_of_this_thread;

// Goal    A task makes one allocation; tickets, running the task and waiting for it make none.
// Method  The executor drops all tickets, so everything happens on this thread.
TEST(error_group_counts, a_task_is_one_allocation) {
  singleflight::error_group group({.executor = support::dropping_executor{}});
  int ran = 0;
  for (int use = 0; use < 2; ++use) {
    const std::size_t before = allocations_of_this_thread();
    for (int i = 0; i < 1'000; ++i) group.go([&ran] { ++ran; });
    const std::size_t handed_over = allocations_of_this_thread();
    EXPECT_EQ(handed_over - before, 1'000U);
    group.wait();
    EXPECT_EQ(allocations_of_this_thread() - handed_over, 0U);
  }
  EXPECT_EQ(ran, 2'000);
}

}  // namespace
