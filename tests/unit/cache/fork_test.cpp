// SPDX-License-Identifier: Apache-2.0

// What a child of fork() finds of caches and live values.

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

// Goal    A fork while another thread makes the first objects of their kinds: none is half made in
//         the child, which would wait for that thread for ever.
// Method  A handler of the program's, older than the library's use, so that it is called with what
//         the library holds; it waits until the other thread has its objects, or sleeps.
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
    const sf::thread_pool first;  // the library's handlers are there
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

// Goal    What a process has loaded before it forks is there in the child, and grows old there, as
//         what the child loads itself (scenario 56).
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

// Goal    An entry that another thread was refreshing is refreshed anew in the child.
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

// Goal    Values that have left a cache within a load, and wait for a thread to be destroyed on,
//         are destroyed in a child as well: from its first call on a cache on, not before, and no
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

// Goal    The schedule of a live value goes on in a child, also where a load of it was under way.
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

/// Another timer, and how often a node was armed there that was armed already.
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

/// A live value whose time and tasks stand still until they are moved on, and which loads every
/// second. What is loaded is the number of the load.
struct stepped {
  using options = sf::live_options<int>;
  explicit stepped(options how = {}) {
    how.reload_every = how.retry_after = 1s;
    how.jitter = 0;
    how.group.timer = &clock;
    how.group.executor = [this](sf::task work) {
      queue.execute(std::move(work));
      if (handed_over) std::exchange(handed_over, nullptr)();
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
  /// Whether its alarm is armed, once, and it loads once a period from now on.
  bool goes_on() {
    if (clock.twice != 0) return false;
    queue.run_all();
    for (int i = 0; i < 3; ++i) {
      const int before = loads;
      tick();
      if (loads != before + 1) return false;
    }
    value.reset();  // its alarm is nowhere
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
  std::function<void()> handed_over;  // once
  std::unique_ptr<sf::live_value<int>> value;
};

// Goal    In a child as in its parent the alarm of a live value is armed once, wherever the
//         schedule was as the process forked. A flight that the forking thread leads goes on to its
//         report.
TEST(fork_cache, an_alarm_that_is_armed_stays_so_in_a_child) {
  stepped s;
  EXPECT_TRUE(support::in_child([&] { return s.goes_on(); }));
  EXPECT_TRUE(s.goes_on());
}

TEST(fork_cache, a_load_of_the_schedule_that_forks_arms_its_alarm_once) {
  stepped s;
  pid_t child = -1;
  s.loading = [&](int n) {
    if (n == 2) child = support::fork_here();
  };
  s.tick();
  ASSERT_NE(child, -1);
  const bool right = *s.value->get() == 2 && s.goes_on();
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
  const bool right = s.errors == 1 && s.goes_on();
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
  const bool right = s.loads == 2 && s.goes_on();
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

// Method  The user's load is given up by a set, and the schedule's load stands behind it in the
//         queue. The forking thread leads the first one alone.
TEST(fork_cache, a_flight_of_the_forking_thread_does_not_stand_for_that_of_the_schedule) {
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
  const bool right = s.goes_on();
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

// Method  The load that the schedule has joined is led by the forking thread, but its time is over:
//         the report is under way on the pool of timeouts, or stands in a queue.
TEST(fork_cache, a_load_that_has_timed_out_does_not_stand_for_the_schedule) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  stepped s({.group = {.load_timeout = 1500ms}});
  pid_t child = -1;
  s.loading = [&](int n) {
    if (n != 2) return;
    s.time.advance(1s);     // the schedule joins
    s.time.advance(500ms);  // and the load's time is over
    ASSERT_TRUE(support::eventually([&] { return s.queue.size() == 1; }, "the report"));
    child = support::fork_here();
  };
  try {
    s.value->reload();
  } catch (const std::exception&) {
  }
  ASSERT_NE(child, -1);
  const bool right = s.goes_on();
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

// Method  The load is over, and its report stands in a queue that is there in the child as well.
TEST(fork_cache, a_report_in_a_queue_that_survives_does_not_arm_an_alarm_again) {
  stepped s;
  s.time.advance(1s);
  ASSERT_TRUE(s.queue.run_one());
  ASSERT_EQ(s.loads, 2);
  ASSERT_EQ(s.queue.size(), 1U);
  EXPECT_TRUE(support::in_child([&] { return s.goes_on(); }));
  EXPECT_TRUE(s.goes_on());
}

// Method  The load is queued, in a queue that is there in the child as well.
TEST(fork_cache, a_load_of_the_schedule_that_is_queued_is_the_parents) {
  stepped s;
  s.time.advance(1s);
  ASSERT_EQ(s.queue.size(), 1U);
  EXPECT_TRUE(support::in_child([&] {
    s.queue.run_all();
    return s.loads == 1 && s.goes_on();
  }));
  EXPECT_TRUE(s.goes_on());
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
  const bool right = s.errors == 1 && s.goes_on();
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

// Method  An executor of the user's forks as it is handed the load: within the alarm's fire.
TEST(fork_cache, a_fire_that_forks_arms_its_alarm_once) {
  stepped s;
  pid_t child = -1;
  s.handed_over = [&] { child = support::fork_here(); };
  s.tick();
  ASSERT_NE(child, -1);
  // The load is the parent's: the child's fire goes on to a report that it is broken.
  const bool parted = s.loads == (child == 0 ? 1 : 2) && s.errors == (child == 0 ? 1 : 0);
  const bool right = parted && s.goes_on();
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

// Goal    Alarms that come due as the process forks are armed once: the child's timer fires some
//         before the last of the values has been mended.
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

// Goal    A listener that was not told yet as the process forked, is told in the child.
// Method  One is held by the gate; the other one stands behind it.
TEST(fork_cache, listeners_are_told_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  const pid_t parent = ::getpid();
  std::atomic<int> told{0};
  sf::live_value<int> value([] { return 1; });
  const auto first = value.on_change([&](int, int) {
    if (::getpid() == parent) hold.wait();
  });
  const auto second = value.on_change([&](int, int now) { told = now; });
  ASSERT_TRUE(value.set(2));
  hold.await_arrivals();
  EXPECT_TRUE(support::in_child([&] {
    if (!support::comes([&] { return told == 2; })) return false;
    value.set(3);
    return support::comes([&] { return told == 3; });
  }));
  hold.open();
  EXPECT_TRUE(support::eventually([&] { return told == 2; }));
}

/// Hears the changes of a live value: whether two were told at once, and whether each follows the
/// one before it.
struct chain {
  auto listener() {
    return [this](int before, int now) {
      if (++inside > 1 || before != last) wrong = true;
      for (int turn = 0; turn < 1000 && inside == 1; ++turn) std::this_thread::yield();
      last = now;
      --inside;
    };
  }
  std::atomic<int> inside{0};
  std::atomic<int> last{0};
  std::atomic<bool> wrong{false};
};

// Goal    In a child a change is told on one thread at a time, each once, in order, also where the
//         queue in which the parent's task stood is still there, and later changes on the executor.
// Method  The queue is that of the forking thread, as an event loop's. The second fork finds what
//         the first one has left.
TEST(fork_cache, a_task_in_a_queue_that_survives_does_not_tell_beside_the_childs) {
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
  // Once the task on the default pool has ended, the next change is the executor's.
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

// Method  The task stands behind the one that forks, in the trampoline of the forking thread.
TEST(fork_cache, a_task_in_the_trampoline_of_the_forking_thread_tells_in_both) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::live_value<int> value(
      [] { return 0; },
      sf::live_options<int>{.initial = 0, .group = {.executor = sf::inline_executor}});
  chain heard;
  std::thread::id told_on;
  const auto listens = value.on_change(heard.listener());
  const auto notes = value.on_change([&](int, int) { told_on = std::this_thread::get_id(); });
  sf::group<int, int> flights({.executor = sf::inline_executor});
  pid_t child = -1;
  flights.start(1, [] { return 1; }).on_ready([&](auto) {
    for (int i = 1; i < 4; ++i) value.set(i);
    child = support::fork_here();
  });
  ASSERT_NE(child, -1);
  const bool right = heard.last == 3 && !heard.wrong && told_on == std::this_thread::get_id();
  EXPECT_TRUE(support::join_child(child, right));
  EXPECT_TRUE(right);
}

// Goal    A listener that has ended, but for its call on another thread, is not told again in the
//         child, and those behind it are told.
TEST(fork_cache, a_listener_that_has_ended_is_not_called_again_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  std::atomic<bool> holding{true};
  std::atomic<int> calls{0};
  std::atomic<int> told{0};
  sf::live_value<int> value([] { return 1; });
  sf::subscription own;
  own = value.on_change([&](int, int) {
    ++calls;
    own.end();
    if (holding) hold.wait();
  });
  auto next = value.on_change([](int, int) {});
  const auto last = value.on_change([&](int, int now) { told = now; });
  ASSERT_TRUE(value.set(2));
  hold.await_arrivals();
  next.end();
  EXPECT_TRUE(support::in_child([&] {
    holding = false;
    value.set(3);
    return support::comes([&] { return told == 3; }) && calls == 1;
  }));
  hold.open();
  EXPECT_TRUE(support::eventually([&] { return told == 2; }));
  EXPECT_EQ(calls, 1);
}

// Goal    A server that warms its cache and forks while others use it: in the child every call
//         comes back, and memory is given back.
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
