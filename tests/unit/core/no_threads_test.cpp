// SPDX-License-Identifier: Apache-2.0

// Where no thread is to be had: RLIMIT_NPROC, a pids cgroup.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <system_error>

#include "support/eventually.hpp"
#include "support/fork.hpp"
#include "support/gate.hpp"
#include "support/thread_refusal.hpp"
#include <singleflight/core.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;

namespace {

// Goal    A look at the coarse clock does not ask for a thread each time: at most ten times a
//         second (scenario 56). The clock tells the time meanwhile.
// Method  In a child, whose timer has no thread yet.
TEST(no_threads, the_coarse_clock_asks_rarely) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  EXPECT_TRUE(support::in_child([] {
    sf::timer& timer = sf::default_timer();
    const support::thread_refusal none;
    const auto begin = timer.now();
    for (int i = 0; i < 10'000; ++i) {
      const auto before = timer.now();
      if (timer.coarse_now() < before) return false;
    }
    const auto tenths = (timer.now() - begin) / 100ms + 1;
    return support::thread_refusal::asked() >= 1 && support::thread_refusal::asked() <= tenths + 1;
  }));
}

// Goal    The timer has its thread as soon as one can be had, asked for by a reader of its clock.
TEST(no_threads, the_coarse_clock_ticks_again) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  EXPECT_TRUE(support::in_child([] {
    sf::timer& timer = sf::default_timer();
    {
      const support::thread_refusal none;
      (void)timer.coarse_now();
    }
    // Ticking: two looks that are apart by less than a tick see the same word.
    return support::comes([&] {
      const auto first = timer.coarse_now();
      return timer.coarse_now() == first;
    });
  }));
}

// Goal    A pool that has no thread for a task says so, with the system's word for it.
TEST(no_threads, a_pool_names_the_reason) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  const support::thread_refusal none;
  sf::thread_pool pool;
  try {
    pool.execute(sf::task([] {}));
    ADD_FAILURE() << "executed without a thread";
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code(), std::errc::resource_unavailable_try_again);
  }
}

// Goal    What is kept by the default pool while there is no thread, runs once there are threads
//         again; nobody has to come by.
// Method  In a child, whose pool and timer have no thread yet. A node is kept while both are
//         refused; a reader of the clock comes by later, as every cache's is.
TEST(no_threads, what_is_kept_runs_later) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  EXPECT_TRUE(support::in_child([] {
    struct kept : sf::detail::task_node {
      kept() noexcept
          : task_node([](task_node* n, bool run) { static_cast<kept*>(n)->ran = run; }) {}
      std::atomic<bool> ran{false};
    } node;
    {
      const support::thread_refusal none;
      sf::detail::post_on_default_pool(&node);
    }
    return support::comes([&] {
      (void)sf::default_timer().coarse_now();
      return node.ran.load();
    });
  }));
}

// Goal    The same where the timer has its thread: it asks for the pool's.
TEST(no_threads, the_timer_asks_for_the_pool) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  EXPECT_TRUE(support::in_child([] {
    (void)sf::default_timer().coarse_now();
    struct kept : sf::detail::task_node {
      kept() noexcept
          : task_node([](task_node* n, bool run) { static_cast<kept*>(n)->ran = run; }) {}
      std::atomic<bool> ran{false};
    } node;
    {
      const support::thread_refusal none;
      sf::detail::post_on_default_pool(&node);
    }
    return support::comes([&] { return node.ran.load(); });
  }));
}

}  // namespace
