// SPDX-License-Identifier: Apache-2.0

// What a task of a group costs, in things that can be counted.

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <stdexcept>

#include "singleflight/sync.hpp"
#include "support/allocation_count.hpp"
#include "support/executors.hpp"

namespace {

using support::allocations_of_this_thread;

// Goal    A task allocates nothing once there have been as many at a time: neither to hand it over,
//         nor tickets, running it, or waiting for it. One whose callable is large allocates once.
// Method  The executor drops all tickets, so everything happens on this thread.
TEST(error_group_counts, a_task_allocates_nothing) {
  singleflight::error_group group({.executor = support::dropping_executor{}});
  int ran = 0;
  const auto small = [&ran, padding = std::array<char, 64>{}] { ran += 1 + padding[0]; };
  const auto large = [&ran, padding = std::array<char, 128>{}] { ran += 1 + padding[0]; };
  static_assert(sizeof(small) == 72);
  for (int use = 0; use < 3; ++use) {
    const std::size_t before = allocations_of_this_thread();
    for (int i = 0; i < 1'000; ++i) group.go(small);
    const std::size_t handed_over = allocations_of_this_thread();
    EXPECT_EQ(handed_over - before, use == 0 ? 1'000U : 0U);
    group.wait();
    EXPECT_EQ(allocations_of_this_thread() - handed_over, 0U);
  }
  const std::size_t before = allocations_of_this_thread();
  for (int i = 0; i < 10; ++i) group.go(large);
  EXPECT_EQ(allocations_of_this_thread() - before, 10U);
  group.wait();
  EXPECT_EQ(ran, 3'010);
}

// Goal    A task that is refused, skipped or cannot be made leaves its memory to the next one.
TEST(error_group_counts, a_refused_task_leaves_its_memory) {
  singleflight::error_group group(
      {.executor = support::dropping_executor{}, .limit = 1, .max_queued = 0});
  struct throws {
    throws() = default;
    throws(const throws&) { throw std::runtime_error("no copy"); }
    void operator()() const {}
  };
  const throws no_copy;
  int ran = 0;
  group.go([&ran] { ++ran; });
  EXPECT_FALSE(group.try_go([&ran] { ++ran; }));
  const std::size_t before = allocations_of_this_thread();
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(group.try_go([&ran] { ++ran; }));
  EXPECT_EQ(allocations_of_this_thread() - before, 0U);
  EXPECT_THROW(group.go(no_copy), std::runtime_error);
  const std::size_t after_throw = allocations_of_this_thread();
  EXPECT_FALSE(group.try_go([&ran] { ++ran; }));
  group.request_stop();
  group.go([&ran] { ++ran; });  // skipped
  EXPECT_FALSE(group.try_go([&ran] { ++ran; }));
  EXPECT_LE(allocations_of_this_thread() - after_throw, 0U);
  EXPECT_FALSE(group.wait(singleflight::as_outcome).has_value());
  EXPECT_EQ(ran, 0);
}

}  // namespace
