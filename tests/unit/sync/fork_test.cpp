// SPDX-License-Identifier: Apache-2.0

// How batchers, breakers, semaphores and groups of tasks behave in a child of fork().

#include "support/fork.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/sync.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;

namespace {

using outcomes = std::vector<sf::outcome<int>>;

outcomes as_they_are(std::span<const int> keys) { return {keys.begin(), keys.end()}; }

// Goal    A batch that the parent has queued for its executor takes no keys of a child; the next
//         batch loads those (scenario 56).
// Method  The only thread of the pool is blocked, so the batch does not begin before the fork.
TEST(fork_batcher, a_queued_batch_is_the_parents) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  for (const auto delay : {0ms, 1ms}) {
    support::gate hold;
    sf::thread_pool pool({.max_threads = 1});
    sf::batcher<int, int> batches(as_they_are, {.max_delay = delay, .executor = pool});
    pool.execute(sf::task([&] { hold.wait(); }));
    hold.await_arrivals();
    auto before = batches.start(1);
    if (delay > 0ms) batches.flush();
    EXPECT_TRUE(support::in_child([&] {
      return before.get_outcome().errc() == sf::flight_errc::broken && *batches.load(2) == 2 &&
             *batches.load(1) == 1;
    }));
    hold.open();
    EXPECT_EQ(*before.get(), 1);
  }
}

// Goal    A batch that is gathering takes none either: its keys are the parent's. The alarm that
//         was armed for it also fires in the child, and serves the batch that gathers there.
TEST(fork_batcher, a_gathering_batch_is_the_parents) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::manual_timer time;
  sf::batcher<int, int> batches(as_they_are, {.max_delay = 10ms, .timer = &time});
  auto before = batches.start(1);
  EXPECT_TRUE(support::in_child([&] {
    time.advance(1ms);
    auto own = batches.start(2);
    time.advance(9ms);  // the parent's delay is over, the child's own is not
    if (own.ready()) return false;
    time.advance(1ms);
    return *own.get() == 2 && before.get_outcome().errc() == sf::flight_errc::broken;
  }));
  EXPECT_FALSE(before.ready());
  time.advance(10ms);
  EXPECT_EQ(*before.get(), 1);
}

// Goal    A fork does not touch the timer of a destroyed batcher, even if a task of it is still
//         queued; nor does a fork in a child that has set that batch aside.
TEST(fork_batcher, uses_nothing_that_was_destroyed) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  struct unused_timer final : sf::timer {
    explicit unused_timer(bool& is_destroyed) : destroyed(is_destroyed) {}
    time_point now() const noexcept override { return check(), time_point(); }
    void arm(sf::timer_node&, time_point) override { check(); }
    void cancel(sf::timer_node&) noexcept override { check(); }
    void check() const noexcept {
      if (destroyed) std::abort();
    }
    bool& destroyed;
  };
  bool destroyed = false;
  unused_timer clock(destroyed);
  support::gate hold;
  sf::thread_pool pool({.max_threads = 1});
  std::optional<sf::batcher<int, int>> batches;
  batches.emplace(as_they_are, sf::batcher_options{.executor = pool, .timer = &clock});
  pool.execute(sf::task([&] { hold.wait(); }));
  hold.await_arrivals();
  {
    auto before = batches->start(1);
    EXPECT_TRUE(support::in_child([&] {
      { const auto mine = std::move(before); }
      batches.reset();
      destroyed = true;
      return support::in_child([] { return true; });
    }));
  }
  batches.reset();
  destroyed = true;
  EXPECT_TRUE(support::in_child([] { return true; }));
  hold.open();
}

// Goal    A batch that is being loaded on another thread takes no place in a child.
TEST(fork_batcher, a_place_of_the_parents_is_free_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  std::optional<sf::batcher<int, int>> batches;
  std::atomic<bool> holds{true};
  batches.emplace(
      [&](std::span<const int> keys) {
        if (holds) hold.wait();
        return as_they_are(keys);
      },
      sf::batcher_options{.max_in_flight = 1});
  auto before = batches->start(1);
  hold.await_arrivals();
  EXPECT_TRUE(support::in_child([&] {
    holds = false;
    const bool right = *batches->load(2) == 2 && *batches->load(1) == 1;
    batches.reset();
    return right;
  }));
  hold.open();
  EXPECT_EQ(*before.get(), 1);
}

// Goal    A batch whose loader forks continues in both processes, and frees its place in both.
TEST(fork_batcher, a_batch_may_fork) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  std::optional<bool> right;
  std::atomic<int> calls{0};
  bool in_child = false;
  sf::batcher<int, int> batches(
      [&](std::span<const int> keys) {
        if (calls++ == 0) {
          const pid_t child = ::fork();
          in_child = child == 0;
          if (in_child) {
            ::alarm(static_cast<unsigned>(support::patience.count()));
          } else {
            int status = 0;
            EXPECT_EQ(::waitpid(child, &status, 0), child);
            right = WIFEXITED(status) && WEXITSTATUS(status) == 0;
          }
        }
        return as_they_are(keys);
      },
      {.max_in_flight = 1, .executor = sf::inline_executor});
  const bool loaded = *batches.load(1) == 1 && *batches.load(2) == 2;
  if (in_child) ::_exit(loaded ? 0 : 1);
  EXPECT_TRUE(loaded);
  EXPECT_EQ(right, true);
}

// ---- circuit_breaker ----------------------------------------------------------------------------

using change = std::pair<sf::breaker_state, sf::breaker_state>;
constexpr change opens{sf::breaker_state::closed, sf::breaker_state::open};
constexpr change closes{sf::breaker_state::open, sf::breaker_state::closed};

// Goal    When another thread was reporting a change as the process forked, a breaker reports
//         changes in the child: those not yet reported, and its own. The change that the other
//         thread was reporting is not reported again.
// Method  The hook holds the other thread, and another change happens before the fork.
TEST(fork_circuit_breaker, another_threads_hook_call_ends_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  std::atomic<bool> holds{true};
  std::vector<change> reported;
  sf::circuit_breaker breaker({.on_change = [&](sf::breaker_state from, sf::breaker_state to) {
    reported.emplace_back(from, to);
    if (holds) hold.wait();
  }});
  std::jthread other([&] { breaker.force_open(); });
  hold.await_arrivals();
  breaker.reset();
  EXPECT_TRUE(support::in_child([&] {
    holds = false;
    const bool pending = reported == std::vector{opens};
    breaker.force_open();
    return pending && reported == std::vector{opens, closes, opens};
  }));
  holds = false;
  hold.open();
  other.join();
  EXPECT_EQ(reported, (std::vector{opens, closes}));
}

// Goal    A hook that forks is still being called in both processes: changes that happen meanwhile
//         are reported after it, and not within it.
TEST(fork_circuit_breaker, on_change_may_fork) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::circuit_breaker* self = nullptr;
  std::vector<change> reported;
  int depth = 0;
  int deepest = 0;
  pid_t child = -1;
  sf::circuit_breaker breaker({.on_change = [&](sf::breaker_state from, sf::breaker_state to) {
    deepest = std::max(deepest, ++depth);
    reported.emplace_back(from, to);
    if (child == -1) {
      child = ::fork();
      if (child == 0) ::alarm(static_cast<unsigned>(support::patience.count()));
      self->reset();
    }
    --depth;
  }});
  self = &breaker;
  breaker.force_open();
  const bool right = deepest == 1 && reported == std::vector{opens, closes};
  if (child == 0) ::_exit(right ? 0 : 1);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_TRUE(right);
}

// ---- semaphore ----------------------------------------------------------------------------------

support::detached acquires(sf::semaphore& from, std::ptrdiff_t n, int& granted) {
  auto place = from.start_acquire(n);
  const sf::permit held = co_await place;
  ++granted;
}

// Goal    In a child, waiters queued behind a thread that does not exist there move up, and block
//         no caller. The fork itself resumes no waiter.
// Method  A thread queues for more permits than are free, a coroutine behind it for fewer. Every
//         call that takes the lock is the first one in its own child.
TEST(fork_semaphore, a_waiter_behind_a_missing_thread_moves_up) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  int granted = 0;
  sf::semaphore permits(2, {.executor = sf::inline_executor});
  std::optional<sf::permit> held(permits.acquire());
  std::jthread other([&] { const sf::permit both = permits.acquire(2); });
  ASSERT_TRUE(support::eventually([&] { return permits.waiters_approx() == 1; }));
  acquires(permits, 1, granted);
  auto last = permits.start_acquire();
  const auto child = [&](auto call) {
    return support::in_child([&] {
      const bool waits = granted == 0 && permits.waiters_approx() == 2;
      return waits && call() && granted == 1;
    });
  };
  EXPECT_TRUE(child([&] { return !permits.try_acquire(); }));  // `last` has the only permit
  EXPECT_TRUE(child([&] {
    auto one = permits.start_acquire();
    return last.ready() && !one.ready();
  }));
  EXPECT_TRUE(child([&] { return last.get().size() == 1; }));
  EXPECT_TRUE(child([&] {
    held.reset();
    return last.ready() && permits.acquire().size() == 1;
  }));
  held.reset();
  EXPECT_EQ(last.get().size(), 1);
  other.join();
  EXPECT_EQ(granted, 1);
}

// ---- error_group --------------------------------------------------------------------------------

// Goal    A group that is idle when the process forks requests threads from its executor in the
//         child.
// Method  The only thread of the pool is blocked, so the executor has not reached the group's
//         ticket before the fork. The child waits for the task's effect, not for the group.
TEST(fork_error_group, an_idle_group_works_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  sf::thread_pool pool({.max_threads = 1});
  std::optional<sf::error_group> group(std::in_place, sf::error_group_options{.executor = pool});
  pool.execute(sf::task([&] { hold.wait(); }));
  hold.await_arrivals();
  group->go([] {});
  group->wait();
  EXPECT_TRUE(support::in_child([&] {
    for (int use = 0; use < 2; ++use) {
      std::atomic<bool> ran{false};
      group->go([&] { ran = true; });
      if (!support::comes([&] { return ran.load(); })) return false;
      group->wait();
    }
    group.reset();
    return true;
  }));
  hold.open();
  group.reset();
}

// Goal    A child never inherits the lock of an idle group from a thread that does not exist there.
// Method  The executor reaches tickets of the group after its wait, while the process forks many
//         times.
TEST(fork_error_group, forks_during_the_end_of_a_use) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::error_group group;
  for (int i = 0; i < 50; ++i) {
    group.go([] {});
    group.wait();
    ASSERT_TRUE(support::in_child([&] {
      std::atomic<int> met{0};
      const auto meet = [&] {
        ++met;
        (void)support::comes([&] { return met == 2; });
      };
      group.go(meet);
      group.go(meet);
      group.wait();
      return met == 2;
    }));
  }
}

// Goal    A task submitted in a child does not wait for a sleeping thread that does not exist
//         there.
// Method  The waiting thread runs the tasks that the blocked pool cannot, so it waits before the
//         fork.
TEST(fork_error_group, a_sleeper_of_the_parents_is_not_woken) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  sf::thread_pool pool({.max_threads = 1});
  sf::error_group group({.executor = pool});
  group.go([&] { hold.wait(); });
  hold.await_arrivals();
  std::jthread other([&] { group.wait(); });
  std::atomic<bool> helped{false};
  group.go([&] { helped = true; });
  ASSERT_TRUE(support::eventually([&] { return helped.load(); }));
  EXPECT_TRUE(support::in_child([&] {
    std::atomic<bool> ran{false};
    group.go([&] { ran = true; });
    return support::comes([&] { return ran.load(); });
  }));
  hold.open();
}

// Goal    A ticket that the forking thread itself will reach stays posted, and is posted once.
TEST(fork_error_group, an_inline_ticket_is_kept_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::error_group group({.executor = sf::inline_executor});
  int ran = 0;
  pid_t child = -1;
  sf::inline_executor.execute(sf::task([&] {
    group.go([&] { ++ran; });
    child = ::fork();
    if (child == 0) ::alarm(static_cast<unsigned>(support::patience.count()));
    group.go([&] { ++ran; });
  }));
  const bool right = ran == 2;
  if (child == 0) ::_exit(right ? 0 : 1);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_TRUE(right);
  group.wait();
}

// Goal    When a child drops a resumption from its event loop, that goes to the default pool, once,
//         and the tasks queued behind it there run, even when another waiter is granted meanwhile.
TEST(fork_semaphore, a_task_that_a_child_drops_is_in_one_queue) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::manual_executor loop;
  sf::semaphore all(2, {.executor = loop});
  sf::permit one = all.acquire();
  sf::permit other = all.acquire();
  int resumed = 0;
  const auto waits = [&]() -> support::owned {
    auto place = all.start_acquire();
    const sf::permit mine = co_await place;
    ++resumed;
  };
  const auto first = waits();
  const auto second = waits();
  one.release();  // the first is granted: its task is queued in the loop
  ASSERT_EQ(loop.size(), 1U);
  EXPECT_TRUE(support::in_child([&] {
    std::atomic<int> ran{0};
    support::gate busy;
    sf::thread_pool& pool = sf::default_pool();
    const std::size_t most = std::max(64U, 4 * std::thread::hardware_concurrency());
    for (std::size_t i = 0; i < most; ++i) pool.execute(sf::task([&] { busy.wait(); }));
    busy.await_arrivals(most);
    while (loop.drop_one()) {
    }
    for (int i = 0; i < 5; ++i) pool.execute(sf::task([&] { ++ran; }));
    other.release();  // the second is granted
    busy.open();
    return support::comes([&] { return ran == 5; });
  }));
  loop.run_all();
  other.release();
  loop.run_all();
  EXPECT_EQ(resumed, 2);
}

// Goal    When another thread granted a coroutine its permit, and a pool was to resume it, it is
//         resumed in the parent only: in a child its permit is free again for new callers.
// Method  The only thread of the pool is blocked. A coroutine that is resumed in the child comes
//         behind it.
TEST(fork_semaphore, what_was_granted_to_the_parents_coroutine_is_back_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  for (const bool named : {false, true}) {
    std::atomic<int> first{0};
    std::atomic<int> second{0};
    std::optional<support::owned> waiting;
    support::gate hold;
    sf::thread_pool pool({.max_threads = 1});
    sf::semaphore permits(1, {.executor = pool});
    const auto waits = [&](std::atomic<int>& resumed) -> support::owned {
      auto place = permits.start_acquire();
      sf::permit mine;
      if (named) {
        mine = co_await place.on(pool);
      } else {
        mine = co_await place;
      }
      ++resumed;
    };
    pool.execute(sf::task([&] { hold.wait(); }));
    hold.await_arrivals();
    std::optional<sf::permit> held(permits.acquire());
    waiting.emplace(waits(first));
    std::jthread([&] { held.reset(); }).join();
    EXPECT_TRUE(support::in_child([&] {
      sf::permit own = permits.try_acquire();
      if (own.size() != 1) return false;
      const auto newcomer = waits(second);
      own.release();
      const bool served = support::comes([&] { return second == 1 && permits.available() == 1; });
      waiting.reset();
      return served && first == 0 && permits.available() == 1;
    }));
    hold.open();
    EXPECT_TRUE(support::eventually([&] { return first == 1 && permits.available() == 1; }));
  }
}

// Goal    A coroutine that forks as it is resumed continues in the child, and so does the next one,
//         which the same thread is to resume.
TEST(fork_semaphore, a_coroutine_may_fork) {
  sf::semaphore permits(2, {.executor = sf::inline_executor});
  std::optional<sf::permit> held(permits.acquire(2));
  int resumed = 0;
  pid_t child = -1;
  const auto waits = [&](bool forks) -> support::owned {
    auto place = permits.start_acquire();
    const sf::permit mine = co_await place;
    if (forks) child = support::fork_here();
    ++resumed;
  };
  const auto first = waits(true);
  const auto second = waits(false);
  held.reset();
  const bool right = resumed == 2 && permits.available() == 2;
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

}  // namespace
