// SPDX-License-Identifier: Apache-2.0
//
// The graph of waits, by itself: what a wait costs, and which wait of a cycle fails.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include <singleflight/core/support/wait_graph.hpp>

namespace {

using graph = singleflight::detail::wait_graph;
using singleflight::detail::led_frame;
using singleflight::detail::next_flight_id;
using singleflight::detail::this_thread;

std::uint64_t new_id() { return next_flight_id(this_thread()); }
led_frame frame(const led_frame* outer, const led_frame* within) {
  return {new_id(), outer, within, nullptr, false};
}
bool enter(graph::record& r, std::uint64_t target, const led_frame& led) {
  return r.enter({.id = target}, &led, nullptr);
}
/// A wait that can be made to fail, and how often that happened.
struct waiter {
  bool enter(std::uint64_t target, const led_frame& led, graph::strength how) {
    return record.enter({.id = target}, &led, nullptr, how,
                        how == graph::strength::firm ? nullptr : &fail, this);
  }
  static void fail(void* w) noexcept { ++static_cast<waiter*>(w)->failures; }
  int failures = 0;
  graph::record record;
};

// Scenario 47
// Goal    A wait costs linear time in the depth of the loads around it, each of which names the
//         load around it, or the one around that, so that the same load is reached in many ways.
// Method  The depth is such that a quadratic walk would be noticed, and an exponential one would
//         never end.
TEST(wait_graph, nested_loads_that_name_each_other) {
  constexpr std::size_t depth = 100'000;
  for (const std::size_t back : {std::size_t{1}, std::size_t{2}, std::size_t{1'000}}) {
    std::deque<led_frame> frames;
    for (std::size_t i = 0; i < depth; ++i) {
      frames.push_back(
          frame(i > 0 ? &frames[i - 1] : nullptr, i >= back ? &frames[i - back] : nullptr));
    }
    graph::record outside;
    EXPECT_TRUE(enter(outside, new_id(), frames.back()));
    graph::record itself;
    EXPECT_FALSE(enter(itself, frames.front().flight_id, frames.back()));
  }
}

// Scenario 47
// Goal    Ladders of two threads whose loads name each other's are walked once.
TEST(wait_graph, loads_of_two_threads_that_name_each_other) {
  constexpr std::size_t depth = 100'000;
  std::deque<led_frame> left;
  std::deque<led_frame> right;
  for (std::size_t i = 0; i < depth; ++i) {
    const led_frame* const l = i > 0 ? &left[i - 1] : nullptr;
    const led_frame* const r = i > 0 ? &right[i - 1] : nullptr;
    left.push_back(frame(l, r));
    right.push_back(frame(r, l));
  }
  graph::record itself;
  EXPECT_FALSE(itself.enter({.id = right.front().flight_id}, &left.back(), &right.back()));
  graph::record outside;
  EXPECT_TRUE(outside.enter({.id = new_id()}, &left.back(), &right.back()));
}

// Scenario 13
// Goal    A walk visits each wait once, when many waits lead one id and many wait for it.
// Method  Two layers of 3,000 waits each: all of the first wait for one id that all of the second
//         lead. Then a chain of 50,000, too deep for recursion. Each walk visits all of them.
TEST(wait_graph, many_leaders_and_many_waiters_of_one_id) {
  constexpr std::size_t many = 3'000;
  const std::uint64_t top = new_id();
  const std::uint64_t middle = new_id();
  const std::uint64_t bottom = new_id();
  const led_frame upper{top, nullptr, nullptr, nullptr, false};
  const led_frame lower{middle, nullptr, nullptr, nullptr, false};
  std::deque<graph::record> records;
  for (std::size_t i = 0; i < many; ++i) {
    EXPECT_TRUE(enter(records.emplace_back(), middle, upper));
    EXPECT_TRUE(enter(records.emplace_back(), bottom, lower));
  }
  const led_frame last{bottom, nullptr, nullptr, nullptr, false};
  graph::record closes;
  EXPECT_FALSE(enter(closes, top, last));

  constexpr std::size_t length = 50'000;
  std::deque<led_frame> frames;
  for (std::size_t i = 0; i < length; ++i) frames.push_back(frame(nullptr, nullptr));
  for (std::size_t i = 0; i + 1 < length; ++i) {
    EXPECT_TRUE(enter(records.emplace_back(), frames[i + 1].flight_id, frames[i]));
  }
  graph::record closes_chain;
  EXPECT_FALSE(enter(closes_chain, frames.front().flight_id, frames.back()));
}

// Scenario 13
// Goal    A wait for tasks makes the waits for results that lead back to it fail, all of them and
//         no others, and then succeeds; so does one that waits behind another.
TEST(wait_graph, a_wait_for_tasks_fails_waits_for_results) {
  for (const auto how : {graph::strength::strong, graph::strength::firm}) {
    const led_frame load = frame(nullptr, nullptr);
    const led_frame task = frame(nullptr, nullptr);
    const led_frame inner = frame(nullptr, nullptr);
    const std::uint64_t elsewhere = new_id();
    waiter comes_back[3];
    waiter stays_away;
    waiter group_in_task;
    for (auto& w : comes_back) {
      EXPECT_TRUE(w.enter(load.flight_id, inner, graph::strength::weak));
    }
    EXPECT_TRUE(stays_away.enter(elsewhere, inner, graph::strength::weak));
    EXPECT_TRUE(group_in_task.enter(inner.flight_id, task, graph::strength::strong));
    waiter self;
    EXPECT_TRUE(self.enter(task.flight_id, load, how));
    for (const auto& w : comes_back) EXPECT_EQ(w.failures, 1);
    EXPECT_EQ(stays_away.failures, 0);
    EXPECT_EQ(group_in_task.failures, 0);
    EXPECT_TRUE(comes_back[0].record.interrupted());

    waiter again;  // after its failure, a second wait is the last of the cycle
    EXPECT_FALSE(again.enter(load.flight_id, inner, graph::strength::weak));
  }
}

// Scenario 13
// Goal    Where all waits are for tasks, the last one fails; if that one cannot fail, an earlier
//         one does.
TEST(wait_graph, waits_for_tasks_alone) {
  const led_frame one = frame(nullptr, nullptr);
  const led_frame two = frame(nullptr, nullptr);
  {
    waiter first;
    waiter last;
    EXPECT_TRUE(first.enter(two.flight_id, one, graph::strength::strong));
    EXPECT_FALSE(last.enter(one.flight_id, two, graph::strength::strong));
    EXPECT_EQ(first.failures, 0);
  }
  waiter first;
  waiter last;
  EXPECT_TRUE(first.enter(two.flight_id, one, graph::strength::strong));
  EXPECT_TRUE(last.enter(one.flight_id, two, graph::strength::firm));
  EXPECT_EQ(first.failures, 1);
}

// Goal    Waits that lead an id leave in any order; those that still lead it are found.
TEST(wait_graph, leaders_of_one_id_leave_in_any_order) {
  const led_frame shared = frame(nullptr, nullptr);
  const led_frame self = frame(nullptr, nullptr);
  for (int left = 0; left < 3; ++left) {
    graph::record records[3];
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(enter(records[i], i == left ? new_id() : self.flight_id, shared));
    }
    for (int i = 0; i < 3; ++i) {
      if (i == left) continue;
      graph::record closes;
      EXPECT_FALSE(enter(closes, shared.flight_id, self));
      records[i].leave();
    }
    graph::record closes_nothing;
    EXPECT_TRUE(enter(closes_nothing, shared.flight_id, self));
  }
}

}  // namespace
