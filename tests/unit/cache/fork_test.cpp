// SPDX-License-Identifier: Apache-2.0

// How caches and live values behave in a child of fork().

#include "support/fork.hpp"

#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "support/asleep.hpp"
#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include <singleflight/cache.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;

namespace {

std::atomic<bool> forks{false};
std::atomic<bool> made{false};
std::optional<support::asleep> maker;

// Goal    When a process forks while another thread makes the first objects of their kinds, none is
//         half made in the child, which would wait forever for that thread.
// Method  An atfork handler of the program, registered before the library's, so it runs while the
//         library holds its locks; it waits until the other thread has its objects, or sleeps.
TEST(fork_cache, nothing_is_half_made_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  const auto uses = [] {
    sf::loading_cache<int, int> cache([](int key) { return key; });
    return *cache.get(1) == 1 && *cache.start_get(2).get() == 2;
  };
  ASSERT_EQ(::pthread_atfork(
                [] {
                  forks = true;
                  forks.notify_all();
                  if (maker) support::eventually([] { return made || (*maker)(); });
                },
                nullptr, nullptr),
            0);
  {
    const sf::thread_pool first;  // registers the library's handlers
  }
  std::atomic<bool> ready{false};
  std::jthread other([&] {
    maker.emplace();
    ready = true;
    ready.notify_all();
    forks.wait(false);
    EXPECT_TRUE(uses());
    made = true;
  });
  ready.wait(false);
  EXPECT_TRUE(support::in_child(uses));
  other.join();
  maker.reset();
}

// Goal    Entries that a process loaded before it forked exist in the child and expire there, like
//         those that the child loads itself (scenario 56).
TEST(fork_cache, a_warmed_cache_expires_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  std::atomic<int> loads{0};
  sf::loading_cache<int, int> cache([&](int) { return ++loads; }, {.ttl = 20ms, .jitter = 0});
  ASSERT_EQ(*cache.get(1), 1);
  ASSERT_GE(*cache.get(1), 1);  // the coarse clock ticks
  EXPECT_TRUE(support::in_child([&] {
    const int first = *cache.get(1);
    if (!support::comes([&] { return *cache.get(1) > first; })) return false;
    const int second = *cache.get(1);
    return support::comes([&] { return *cache.get(1) > second; });
  }));
}

// Goal    An entry that another thread was refreshing is refreshed again in the child.
TEST(fork_cache, a_refresh_of_the_parent_does_not_hold_up_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  std::atomic<int> loads{0};
  sf::loading_cache<int, int> cache(
      [&](int) {
        const int n = ++loads;
        if (n == 2) hold.wait();
        return n;
      },
      {.jitter = 0, .refresh_after = 1ms});
  ASSERT_EQ(*cache.get(1), 1);
  ASSERT_TRUE(support::eventually([&] {
    (void)cache.get(1);
    return loads == 2;
  }));
  hold.await_arrivals();
  EXPECT_TRUE(
      support::in_child([&] { return support::comes([&] { return *cache.get(1) == 3; }); }));
  hold.open();
}

// Goal    Values that left a cache within a load, and wait for a thread to destroy them, are
//         destroyed in a child as well: from its first call of a cache on, not earlier, and no
//         thread is started for them.
// Method  Their destructors hold all threads of the default pool until the fork is over.
TEST(fork_cache, what_waits_to_be_destroyed_is_destroyed_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  static std::atomic<bool> open{false};
  static std::atomic<std::size_t> begun{0};
  static std::atomic<std::size_t> ended{0};
  struct held {
    ~held() {
      ++begun;
      open.wait(false);
      ++ended;
    }
  };
  const std::size_t threads = std::max<std::size_t>(64, 4 * std::thread::hardware_concurrency());
  sf::group<int, bool> flights;
  {
    sf::loading_cache<int, std::shared_ptr<held>> cache([](int) { return nullptr; });
    EXPECT_TRUE(*flights.run(1, [&] {
      for (std::size_t i = 0; i < 16 * threads; ++i) cache.put(1, std::make_shared<held>());
      return support::eventually([&] { return begun == threads; }, "the destructors");
    }));
    EXPECT_TRUE(support::in_child([&] {
      open = true;
      if (sf::default_pool().threads() != 0 || ended != 0) return false;
      (void)cache.get(2);
      return support::comes([&] { return ended > threads; });
    }));
    open = true;
    open.notify_all();
  }
  EXPECT_TRUE(support::eventually([&] { return ended == 16 * threads; }, "the other destructors"));
}

// Goal    The schedule of a live value continues in a child, even where one of its loads was
//         running.
TEST(fork_cache, a_live_value_reloads_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  std::atomic<int> loads{0};
  auto value = std::make_unique<sf::live_value<int>>(
      [&] {
        const int n = ++loads;
        if (n == 2) hold.wait();
        return n;
      },
      sf::live_options<int>{.reload_every = 1ms, .jitter = 0});
  hold.await_arrivals();
  EXPECT_TRUE(support::in_child([&] {
    const bool reloads = support::comes([&] { return *value->get() > 3; });
    value.reset();
    return reloads;
  }));
  hold.open();
  EXPECT_TRUE(support::eventually([&] { return *value->get() > 3; }));
}

/// A timer that wraps another one and counts how often an armed node was armed again.
class watched_timer final : public sf::timer {
 public:
  explicit watched_timer(sf::timer& of) : of_(of) {}
  time_point now() const noexcept override { return of_.now(); }
  void arm(sf::timer_node& node, time_point when) override {
    if (node.next != nullptr) ++twice;
    of_.arm(node, when);
  }
  void cancel(sf::timer_node& node) noexcept override { of_.cancel(node); }
  std::atomic<int> twice{0};

 private:
  sf::timer& of_;
};

/// A live value whose time and tasks are moved by the test, and which loads every second. The value
/// is the number of the load.
struct stepped {
  using options = sf::live_options<int>;
  explicit stepped(options how = {}) {
    how.reload_every = how.retry_after = 1s;
    how.jitter = 0;
    how.group.timer = &clock;
    how.group.executor = [this](sf::task work) {
      queue.execute(std::move(work));
      if (on_submit) std::exchange(on_submit, nullptr)();
    };
    how.on_error = [this](const std::exception_ptr&) {
      ++errors;
      if (reports) reports();
    };
    value = std::make_unique<sf::live_value<int>>(
        [this] {
          const int n = ++loads;
          if (loading) loading(n);
          return n;
        },
        std::move(how));
  }
  void tick() {
    time.advance(1s);
    queue.run_all();
  }
  /// Whether its alarm is armed once, and it loads once per period from now on.
  bool reloads_on_schedule() {
    if (clock.twice != 0) return false;
    queue.run_all();
    for (int i = 0; i < 3; ++i) {
      const int before = loads;
      tick();
      if (loads != before + 1) return false;
    }
    value.reset();  // its alarm must not be armed any more
    queue.run_all();
    time.advance(10s);
    return clock.twice == 0;
  }

  sf::manual_timer time;
  watched_timer clock{time};
  support::manual_executor queue;
  int loads = 0;
  int errors = 0;
  std::function<void(int)> loading;
  std::function<void()> reports;
  std::function<void()> on_submit;  // called once
  std::unique_ptr<sf::live_value<int>> value;
};

// Goal    In a child, as in its parent, the alarm of a live value is armed once, wherever the
//         schedule was when the process forked. A flight that the forking thread leads continues to
//         its report.
TEST(fork_cache, an_alarm_that_is_armed_stays_so_in_a_child) {
  stepped s;
  EXPECT_TRUE(support::in_child([&] { return s.reloads_on_schedule(); }));
  EXPECT_TRUE(s.reloads_on_schedule());
}

TEST(fork_cache, a_load_of_the_schedule_that_forks_arms_its_alarm_once) {
  stepped s;
  pid_t child = -1;
  s.loading = [&](int n) {
    if (n == 2) child = support::fork_here();
  };
  s.tick();
  ASSERT_NE(child, -1);
  const bool right = *s.value->get() == 2 && s.reloads_on_schedule();
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

TEST(fork_cache, a_load_of_the_schedule_that_forks_and_fails_is_reported_in_both) {
  stepped s;
  pid_t child = -1;
  s.loading = [&](int n) {
    if (n != 2) return;
    child = support::fork_here();
    throw std::runtime_error("no value");
  };
  s.tick();
  ASSERT_NE(child, -1);
  const bool right = s.errors == 1 && s.reloads_on_schedule();
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

// Method  The load is a user's; the schedule joins it, then it forks.
TEST(fork_cache, a_reload_that_the_schedule_has_joined_arms_its_alarm_once) {
  stepped s;
  pid_t child = -1;
  s.loading = [&](int n) {
    if (n != 2) return;
    s.tick();
    child = support::fork_here();
  };
  s.value->reload();
  ASSERT_NE(child, -1);
  const bool right = s.loads == 2 && s.reloads_on_schedule();
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

// Method  A set abandons the user's load, and the schedule's load is queued behind it. The forking
//         thread leads only the first one.
TEST(fork_cache, a_flight_of_the_forking_thread_does_not_replace_the_schedules) {
  stepped s;
  pid_t child = -1;
  s.loading = [&](int n) {
    if (n != 2) return;
    s.value->set(-1);
    s.time.advance(1s);
    child = support::fork_here();
  };
  s.value->reload();
  ASSERT_NE(child, -1);
  const bool right = s.reloads_on_schedule();
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

// Method  The load that the schedule has joined is led by the forking thread, but has timed out:
//         the report runs on the pool of timeouts, or is queued.
TEST(fork_cache, a_load_that_has_timed_out_does_not_replace_the_schedules) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  stepped s({.group = {.load_timeout = 1500ms}});
  pid_t child = -1;
  s.loading = [&](int n) {
    if (n != 2) return;
    s.time.advance(1s);     // the schedule joins
    s.time.advance(500ms);  // and the load times out
    ASSERT_TRUE(support::eventually([&] { return s.queue.size() == 1; }, "the report"));
    child = support::fork_here();
  };
  try {
    s.value->reload();
  } catch (const std::exception&) {
  }
  ASSERT_NE(child, -1);
  const bool right = s.reloads_on_schedule();
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

// Method  The load has ended, and its report is in a queue that also exists in the child.
TEST(fork_cache, a_report_in_a_queue_that_survives_does_not_arm_an_alarm_again) {
  stepped s;
  s.time.advance(1s);
  ASSERT_TRUE(s.queue.run_one());
  ASSERT_EQ(s.loads, 2);
  ASSERT_EQ(s.queue.size(), 1U);
  EXPECT_TRUE(support::in_child([&] { return s.reloads_on_schedule(); }));
  EXPECT_TRUE(s.reloads_on_schedule());
}

// Method  The load is in a queue that also exists in the child.
TEST(fork_cache, a_load_of_the_schedule_that_is_queued_is_the_parents) {
  stepped s;
  s.time.advance(1s);
  ASSERT_EQ(s.queue.size(), 1U);
  EXPECT_TRUE(support::in_child([&] {
    s.queue.run_all();
    return s.loads == 1 && s.reloads_on_schedule();
  }));
  EXPECT_TRUE(s.reloads_on_schedule());
}

TEST(fork_cache, a_report_that_forks_arms_its_alarm_once) {
  stepped s;
  pid_t child = -1;
  s.loading = [&](int n) {
    if (n == 2) throw std::runtime_error("no value");
  };
  s.reports = [&] { child = support::fork_here(); };
  s.tick();
  ASSERT_NE(child, -1);
  const bool right = s.errors == 1 && s.reloads_on_schedule();
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

// Method  A user's executor forks when it is passed the load, within the alarm's fire.
TEST(fork_cache, a_fire_that_forks_arms_its_alarm_once) {
  stepped s;
  pid_t child = -1;
  s.on_submit = [&] { child = support::fork_here(); };
  s.tick();
  ASSERT_NE(child, -1);
  // The load is the parent's: in the child the fire continues to a report that the load is broken.
  const bool as_expected = s.loads == (child == 0 ? 1 : 2) && s.errors == (child == 0 ? 1 : 0);
  const bool right = as_expected && s.reloads_on_schedule();
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

// Method  on_error waits at a gate on a thread of the pool.
TEST(fork_cache, a_live_value_reloads_in_a_child_while_its_parent_reports) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  watched_timer clock(sf::default_timer());
  support::gate hold;
  std::atomic<bool> holding{true};
  std::atomic<int> loads{0};
  sf::live_value<int> value(
      [&] {
        const int n = ++loads;
        if (n == 2) throw std::runtime_error("no value");
        return n;
      },
      {.reload_every = 1ms,
       .jitter = 0,
       .retry_after = 1ms,
       .on_error =
           [&](const std::exception_ptr&) {
             if (holding) hold.wait();
           },
       .group = {.timer = &clock}});
  hold.await_arrivals();
  EXPECT_TRUE(support::in_child([&] {
    holding = false;
    return support::comes([&] { return *value.get() > 3; }) && clock.twice == 0;
  }));
  hold.open();
  EXPECT_TRUE(support::eventually([&] { return *value.get() > 3; }));
  EXPECT_EQ(clock.twice, 0);
}

// Goal    Alarms that come due as the process forks are armed once: the child's timer fires some of
//         them before the last of the values has been repaired.
TEST(fork_cache, alarms_that_are_due_are_armed_once_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  watched_timer clock(sf::default_timer());
  std::atomic<int> loads{0};
  std::vector<std::unique_ptr<sf::live_value<int>>> values;
  for (int i = 0; i < 500; ++i) {
    values.push_back(std::make_unique<sf::live_value<int>>(
        [&] { return ++loads; },
        sf::live_options<int>{.reload_every = 20ms, .jitter = 0.5, .group = {.timer = &clock}}));
  }
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(support::in_child([&] {
      const int before = loads;
      return support::comes([&] { return loads > before + 1000; }) && clock.twice == 0;
    }));
  }
  EXPECT_EQ(clock.twice, 0);
}

// Goal    A listener that had not been called when the process forked is called in the child.
// Method  The first listener is held by the gate; the second one comes after it.
TEST(fork_cache, listeners_are_called_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  const pid_t parent = ::getpid();
  std::atomic<int> heard_last{0};
  sf::live_value<int> value([] { return 1; });
  const auto first = value.on_change([&](int, int) {
    if (::getpid() == parent) hold.wait();
  });
  const auto second = value.on_change([&](int, int now) { heard_last = now; });
  ASSERT_TRUE(value.set(2));
  hold.await_arrivals();
  EXPECT_TRUE(support::in_child([&] {
    if (!support::comes([&] { return heard_last == 2; })) return false;
    value.set(3);
    return support::comes([&] { return heard_last == 3; });
  }));
  hold.open();
  EXPECT_TRUE(support::eventually([&] { return heard_last == 2; }));
}

/// Listens to a live value: records whether two calls overlap, and whether each change follows the
/// one before it.
struct chain {
  auto listener() {
    return [this](int before, int now) {
      if (++inside > 1 || before != last) wrong = true;
      for (int turn = 0; turn < 100 && inside == 1; ++turn) std::this_thread::yield();
      last = now;
      --inside;
    };
  }
  std::atomic<int> inside{0};
  std::atomic<int> last{0};
  std::atomic<bool> wrong{false};
};

// Goal    In a child each change is reported once, in order, by one thread at a time, even if the
//         queue that holds the parent's task still exists; later changes are reported on the
//         executor.
// Method  The queue belongs to the forking thread, like an event loop's. The second fork inherits
//         the state that the first one left.
TEST(fork_cache, a_task_in_a_queue_that_survives_does_not_overlap_the_childs) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::manual_executor queue;
  std::optional<sf::live_value<int>> value;
  value.emplace([] { return 0; },
                sf::live_options<int>{.initial = 0, .group = {.executor = queue}});
  chain heard;
  auto listens = value->on_change(heard.listener());
  const auto set_to = [&](int last) {
    for (int i = *value->get() + 1; i <= last; ++i) value->set(i);
  };
  const auto hears = [&](int last) {
    return support::comes([&] {
      queue.run_all();
      return heard.last == last && heard.inside == 0;
    });
  };
  // Once the task on the default pool has ended, the next change is reported on the executor.
  const auto goes_to_the_queue = [&] {
    return support::comes([&] {
      const int next = *value->get() + 1;
      value->set(next);
      const bool there = queue.size() > 0;
      return hears(next) && there;
    });
  };
  set_to(5);
  EXPECT_TRUE(support::in_child([&] {
    if (!support::comes([&] { return heard.inside > 0 || heard.last == 5; })) return false;
    if (!hears(5) || !goes_to_the_queue()) return false;
    const int last = *value->get() + 5;
    set_to(last);
    return support::in_child([&] {
             if (!hears(last) || !goes_to_the_queue()) return false;
             listens.end();
             value.reset();
             return !heard.wrong;
           }) &&
           hears(last) && !heard.wrong;
  }));
  EXPECT_TRUE(hears(5));
  EXPECT_FALSE(heard.wrong);
}

// Method  The task is queued behind the one that forks, in the trampoline of the forking thread.
TEST(fork_cache, a_task_in_the_trampoline_of_the_forking_thread_runs_in_both) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::live_value<int> value(
      [] { return 0; },
      sf::live_options<int>{.initial = 0, .group = {.executor = sf::inline_executor}});
  chain heard;
  std::thread::id called_on;
  const auto listens = value.on_change(heard.listener());
  const auto notes = value.on_change([&](int, int) { called_on = std::this_thread::get_id(); });
  sf::group<int, int> flights({.executor = sf::inline_executor});
  pid_t child = -1;
  flights.start(1, [] { return 1; }).on_ready([&](auto) {
    for (int i = 1; i < 4; ++i) value.set(i);
    child = support::fork_here();
  });
  ASSERT_NE(child, -1);
  const bool right = heard.last == 3 && !heard.wrong && called_on == std::this_thread::get_id();
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

// Goal    A listener that has ended, except for a call of it on another thread, is not called again
//         in the child; the listeners after it are called.
TEST(fork_cache, a_listener_that_has_ended_is_not_called_again_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  std::atomic<bool> holding{true};
  std::atomic<int> calls{0};
  std::atomic<int> heard_last{0};
  sf::live_value<int> value([] { return 1; });
  sf::subscription own;
  own = value.on_change([&](int, int) {
    ++calls;
    own.end();
    if (holding) hold.wait();
  });
  auto next = value.on_change([](int, int) {});
  const auto last = value.on_change([&](int, int now) { heard_last = now; });
  ASSERT_TRUE(value.set(2));
  hold.await_arrivals();
  next.end();
  EXPECT_TRUE(support::in_child([&] {
    holding = false;
    value.set(3);
    return support::comes([&] { return heard_last == 3; }) && calls == 1;
  }));
  hold.open();
  EXPECT_TRUE(support::eventually([&] { return heard_last == 2; }));
  EXPECT_EQ(calls, 1);
}

// Goal    A server warms its cache and forks while other threads use it: in the child every call
//         returns, and memory is freed.
TEST(fork_cache, forks_amid_calls) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::loading_cache<int, int> cache([](int k) { return k; },
                                    {.capacity = 64, .ttl = 1ms, .refresh_after = 500us});
  std::atomic<bool> over{false};
  std::vector<std::jthread> workers;
  for (int i = 0; i < 3; ++i) {
    workers.emplace_back([&, i] {
      for (int n = i; !over; ++n) {
        const auto held = cache.get(n % 200);
        if (n % 5 == 0) cache.invalidate(n % 200);
        if (n % 50 == 0) cache.put(n % 200, n % 200);
      }
    });
  }
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(support::in_child([&] {
      for (int k = 0; k < 200; ++k) {
        if (*cache.get(k) != k) return false;
        cache.invalidate(k);
      }
      cache.clear();
      return cache.stats().entries == 0;
    }));
  }
  over = true;
}

}  // namespace
