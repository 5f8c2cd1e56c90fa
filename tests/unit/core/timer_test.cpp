// SPDX-License-Identifier: Apache-2.0
//
// manual_timer, default_timer, and the wheel beneath both.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <random>
#include <ratio>
#include <thread>
#include <vector>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include <singleflight/core.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;
using time_point = sf::timer::time_point;

namespace {

/// Records when it fired.
struct alarm : sf::timer_node {
  explicit alarm(sf::timer& at, std::vector<alarm*>* log = nullptr)
      : timer_node([](sf::timer_node& n) noexcept {
          auto& self = static_cast<alarm&>(n);
          self.fired_at = self.time.now();
          if (self.order != nullptr) self.order->push_back(&self);
          self.fired.fetch_add(1);
        }),
        time(at),
        order(log) {}
  sf::timer& time;
  std::vector<alarm*>* order;
  time_point fired_at{};
  std::atomic<int> fired{0};
};

// Goal    Time does not move until it is advanced; a node fires exactly when its time has come, not
//         a nanosecond earlier.
TEST(manual_timer, is_exact) {
  sf::manual_timer time;
  const auto start = time.now();
  alarm a(time);
  time.arm(a, start + 1s);
  time.advance(1s - 1ns);
  EXPECT_EQ(a.fired, 0);
  time.advance(1ns);
  EXPECT_EQ(a.fired, 1);
  EXPECT_EQ(time.now(), start + 1s);
  EXPECT_EQ(time.coarse_now(), time.now());
  EXPECT_FALSE(time.follows_steady_clock());
  time.advance(1h);
  EXPECT_EQ(a.fired, 1);
}

// Goal    A node whose time has passed fires at once, even one in the far past; a node in the far
//         future never fires.
TEST(manual_timer, the_past_and_the_far_future) {
  sf::manual_timer time;
  alarm a(time);
  time.arm(a, time.now());
  EXPECT_EQ(a.fired, 1);
  time.arm(a, time.now() - 1h);
  EXPECT_EQ(a.fired, 2);
  time.arm(a, time_point::min());
  EXPECT_EQ(a.fired, 3);
  time.arm(a, time_point::max());
  time.advance(24h * 365 * 100);
  EXPECT_EQ(a.fired, 3);
  time.cancel(a);
}

// Goal    At the end of the clock's range time stops: a node due before it fires, even one armed
//         there, and a node that is never due does not.
TEST(manual_timer, the_end_of_time) {
  sf::manual_timer time;
  alarm before(time);
  alarm never(time);
  time.arm(before, time_point::max() - std::chrono::nanoseconds(1));
  time.arm(never, time_point::max());
  for (int i = 0; i < 3; ++i) time.advance(std::chrono::nanoseconds::max());
  EXPECT_EQ(time.now(), time_point::max());
  EXPECT_EQ(before.fired, 1);
  EXPECT_EQ(never.fired, 0);
  time.cancel(never);
  for (const auto start : {time_point::max(), time_point::max() - 1h, time_point::min()}) {
    sf::manual_timer other(start);
    alarm at_end(other);
    other.arm(at_end, time_point::max());
    for (int i = 0; i < 7; ++i) other.advance(24h * 365 * 99);
    EXPECT_EQ(other.now(), time_point::max());
    EXPECT_EQ(at_end.fired, 0);
    other.cancel(at_end);
    other.arm(at_end, time_point::max() - std::chrono::nanoseconds(1));
    EXPECT_EQ(at_end.fired, 1);
  }
}

// Goal    Nodes fire in the order of their times, regardless of the order of arming and the size of
//         the step.
TEST(manual_timer, fires_in_order) {
  sf::manual_timer time;
  std::vector<alarm*> order;
  std::deque<alarm> alarms;
  std::mt19937_64 random(7);
  const auto start = time.now();
  for (int i = 0; i < 2'000; ++i) {
    alarm& a = alarms.emplace_back(time, &order);
    time.arm(a, start + std::chrono::nanoseconds(random() % (std::uint64_t{1} << (10 + i % 45))));
  }
  time.advance(std::chrono::nanoseconds(std::int64_t{1} << 56));
  ASSERT_EQ(order.size(), alarms.size());
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end(),
                             [](const alarm* a, const alarm* b) { return a->when < b->when; }));
}

// Goal    When many nodes come due at once, each is moved at most ten times, whether their times
//         are spread or all within one slot, and they fire in the order of their times.
// Method  The wheel reports how many moves it made, so the test counts steps and not time.
TEST(timer_wheel, a_crowd_costs_each_node_a_few_moves) {
  for (const std::size_t count : {1'000U, 100'000U}) {
    for (const unsigned spread_bits : {0U, 6U, 16U, 30U, 44U, 62U}) {
      SCOPED_TRACE(testing::Message() << count << " nodes, spread over 2^" << spread_bits << " ns");
      const time_point start{1h};
      sf::detail::timer_wheel wheel(start);
      sf::manual_timer unused;
      std::deque<alarm> alarms;
      std::mt19937_64 random(count + spread_bits);
      for (std::size_t i = 0; i < count; ++i) {
        alarm& a = alarms.emplace_back(unused);
        a.when =
            start + 1h + std::chrono::nanoseconds(random() >> (64 - std::max(spread_bits, 1U)));
        wheel.insert(a);
      }
      const unsigned enough = 1'000'000'000;
      unsigned left = enough;
      std::size_t taken = 0;
      auto last = time_point::min();
      while (sf::timer_node* node = wheel.take(time_point::max(), left)) {
        ASSERT_LE(last, node->when);
        last = node->when;
        ++taken;
      }
      EXPECT_EQ(taken, count);
      EXPECT_LE(enough - left, 10 * count);
      EXPECT_EQ(wheel.next(), time_point::max());
    }
  }
}

// Goal    A wheel that has reached its limit of moves continues from there, even when other nodes
//         were armed and cancelled meanwhile; the order is kept.
TEST(timer_wheel, moves_in_portions) {
  const time_point start{1h};
  sf::detail::timer_wheel wheel(start);
  sf::manual_timer unused;
  std::deque<alarm> alarms;
  std::mt19937_64 random(3);
  const auto arm = [&](time_point when) -> alarm& {
    alarm& a = alarms.emplace_back(unused);
    a.when = when;
    wheel.insert(a);
    return a;
  };
  for (int i = 0; i < 2'000; ++i)
    arm(start + 1h + std::chrono::nanoseconds(random() % 1'000'000'000));
  auto last = time_point::min();
  std::size_t taken = 0;
  std::size_t cancelled = 0;
  for (int pauses = 0; taken + cancelled < alarms.size();) {
    unsigned steps = 7;
    if (sf::timer_node* node = wheel.take(start + 2h, steps)) {
      ++taken;
      if (static_cast<alarm*>(node)->fired != 0) continue;  // newly armed: may be late
      ASSERT_LE(last, node->when);
      last = node->when;
      continue;
    }
    ASSERT_EQ(steps, 0U) << "no node is due, but some have not fired";
    ++pauses;
    if (pauses % 3 == 0) {
      const time_point from = std::max(last, start + 1h);
      arm(from + std::chrono::nanoseconds(random() % 1'000'000)).fired = 1;
    }
    alarm& other = alarms[random() % alarms.size()];
    if (pauses % 5 == 0 && other.next != nullptr) {
      sf::detail::timer_list::remove(other);
      ++cancelled;
    }
  }
  unsigned steps = 1;
  EXPECT_EQ(wheel.take(time_point::max(), steps), nullptr);
  EXPECT_EQ(taken + cancelled, alarms.size());
}

// Goal    The thread that fires many nodes releases the queue after a few of them, and then
//         continues where it was.
TEST(timer_queue, fires_many_nodes_in_short_rounds) {  // Scenario 57
  const time_point start{1h};
  sf::detail::timer_queue queue(start);
  sf::manual_timer time(start + 1h);
  std::vector<alarm*> order;
  std::deque<alarm> alarms;
  {
    sf::detail::timer_queue::turn mine(queue);
    for (int i = 0; i < 5'000; ++i) {
      queue.arm_locked(alarms.emplace_back(time, &order), start + std::chrono::seconds(i % 60));
    }
  }
  sf::detail::platform::unique_lock hold(queue.lock());
  for (std::size_t before = 0; queue.fire_round(hold, start + 1h); before = order.size()) {
    ASSERT_LE(order.size() - before, 32U);
  }
  EXPECT_EQ(order.size(), alarms.size());
  EXPECT_EQ(queue.next_locked(), time_point::max());
}

// Goal    Whatever the order of arms, cancels and advances, the nodes that fire are those that a
//         sorted list would fire.
// Method  Random steps are compared with the obvious model; the seeds are printed.
TEST(manual_timer, agrees_with_a_sorted_list) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    sf::manual_timer time;
    std::deque<alarm> alarms;
    std::vector<bool> armed;
    for (int i = 0; i < 64; ++i) alarms.emplace_back(time);
    armed.resize(alarms.size());
    for (int step = 0; step < 2'000; ++step) {
      const std::size_t i = random() % alarms.size();
      const auto distance =
          std::chrono::nanoseconds(random() % (std::uint64_t{1} << (random() % 50)));
      switch (random() % 3) {
        case 0:
          if (!armed[i]) {
            alarms[i].fired = 0;
            time.arm(alarms[i], time.now() + distance + 1ns);
            armed[i] = true;
          }
          break;
        case 1:
          time.cancel(alarms[i]);
          armed[i] = false;
          break;
        default:
          time.advance(distance);
          for (std::size_t n = 0; n < alarms.size(); ++n) {
            if (!armed[n]) continue;
            ASSERT_EQ(alarms[n].fired, alarms[n].when <= time.now() ? 1 : 0);
            if (alarms[n].fired == 1) armed[n] = false;
          }
      }
    }
    for (auto& a : alarms) time.cancel(a);
  }
}

// Goal    A cancelled node does not fire and may be armed again; it is valid to cancel a node
//         twice, or one that has fired.
TEST(manual_timer, cancel) {
  sf::manual_timer time;
  alarm a(time);
  time.arm(a, time.now() + 1s);
  time.cancel(a);
  time.cancel(a);
  time.advance(2s);
  EXPECT_EQ(a.fired, 0);
  time.arm(a, time.now() + 1s);
  time.advance(1s);
  EXPECT_EQ(a.fired, 1);
  time.cancel(a);
}

// Goal    A node may be cancelled and armed again from within its fire; it fires once per arm.
TEST(manual_timer, arms_itself_again) {
  struct ticking : sf::timer_node {
    explicit ticking(sf::manual_timer& t)
        : timer_node([](sf::timer_node& n) noexcept {
            auto& self = static_cast<ticking&>(n);
            self.time.cancel(self);
            if (++self.fired < 5) self.time.arm(self, self.when + 1s);
          }),
          time(t) {}
    sf::manual_timer& time;
    int fired = 0;
  };
  sf::manual_timer time;
  ticking a(time);
  time.arm(a, time.now() + 1s);
  time.advance(3s);
  EXPECT_EQ(a.fired, 3);
  time.advance(10s);
  EXPECT_EQ(a.fired, 5);
}

// Goal    cancel waits while the same node fires on another thread.
// Method  The fire is held; the test checks that the canceller has not returned when the fire is
//         released.
TEST(manual_timer, cancel_waits_for_a_fire_under_way) {
  struct held : sf::timer_node {
    held()
        : timer_node([](sf::timer_node& n) noexcept {
            auto& self = static_cast<held&>(n);
            self.hold.wait();
            self.over = true;
          }) {}
    support::gate hold;
    std::atomic<bool> over{false};
  };
  sf::manual_timer time;
  held a;
  time.arm(a, time.now() + 1s);
  std::jthread advancing([&] { time.advance(1s); });
  a.hold.await_arrivals();
  std::atomic<bool> returned{false};
  std::jthread cancelling([&] {
    time.cancel(a);
    EXPECT_TRUE(a.over) << "cancel returned while the node fired";
    returned = true;
  });
  EXPECT_FALSE(returned);
  a.hold.open();
}

/// Arms itself again in its fire, and is held before and after that.
struct held_ticking : sf::timer_node {
  explicit held_ticking(sf::timer& t)
      : timer_node([](sf::timer_node& n) noexcept {
          auto& self = static_cast<held_ticking&>(n);
          self.before.wait();
          if (self.fired.fetch_add(1) == 0) self.time.arm(self, self.when + 1s);
          self.after.wait();
          self.over = true;
        }),
        time(t) {}
  sf::timer& time;
  support::gate before;
  support::gate after;
  std::atomic<int> fired{0};
  std::atomic<bool> over{false};
};

// Goal    cancel waits for a fire even when the fire arms the node again, before cancel is called
//         or meanwhile; afterwards the node is not armed.
// Method  The fire is held where cancel should meet it. Whether cancel has been called when the
//         fire is released is chance, so there are many rounds; the promise holds either way.
TEST(manual_timer, cancel_concurrent_with_a_fire_that_arms_again) {
  for (int i = 0; i < 200; ++i) {
    sf::manual_timer time;
    held_ticking a(time);
    const bool armed_first = i % 2 == 0;
    (armed_first ? a.before : a.after).open();
    time.arm(a, time.now() + 1s);
    std::jthread advancing([&] { time.advance(1s); });
    (armed_first ? a.after : a.before).await_arrivals();
    std::jthread opening([&] { (armed_first ? a.after : a.before).open(); });
    time.cancel(a);
    ASSERT_TRUE(a.over) << "cancel returned while the node fired";
    ASSERT_EQ(a.next, nullptr) << "cancel returned while the node was armed";
    advancing.join();
    time.advance(1h);
    ASSERT_EQ(a.fired, 1);
  }
}

// Goal    A node that is due again each time it fires can be cancelled: cancel waits for one fire
//         only.
TEST(manual_timer, cancel_of_a_node_that_is_always_due) {
  struct endless : sf::timer_node {
    explicit endless(sf::timer& t)
        : timer_node([](sf::timer_node& n) noexcept {
            auto& self = static_cast<endless&>(n);
            self.fires.fetch_add(1);
            self.time.arm(self, self.when);
          }),
          time(t) {}
    sf::timer& time;
    std::atomic<int> fires{0};
  };
  sf::manual_timer time;
  std::optional<endless> a(std::in_place, time);
  std::jthread firing([&] { time.arm(*a, time.now()); });
  ASSERT_TRUE(support::eventually([&] { return a->fires > 0; }, "the first fire"));
  time.cancel(*a);
  firing.join();  // no node is left to fire
  EXPECT_EQ(a->next, nullptr);
  a.reset();
}

// Goal    advance returns once everything due has fired, even what another thread's arm fires.
TEST(manual_timer, advance_waits_for_an_arm_that_fires) {
  sf::manual_timer time;
  held_ticking due(time);
  due.fired = 1;  // does not arm itself again
  due.after.open();
  alarm a(time);
  time.arm(a, time.now() + 1s);
  std::jthread arming([&] { time.arm(due, time.now()); });
  due.before.await_arrivals();
  std::jthread opening([&] { due.before.open(); });
  time.advance(1s);
  EXPECT_EQ(a.fired, 1) << "advance returned before a due node fired";
}

// Goal    Whichever of cancel and fire comes first, the node is unused afterwards, and it fired at
//         most once.
// Method  Both are released together; which comes first is chance. The tests above force the two
//         orders.
TEST(manual_timer, cancel_concurrent_with_a_fire) {
  sf::manual_timer time;
  int fires = 0;
  int cancels = 0;
  for (int i = 0; i < 2'000; ++i) {
    alarm a(time);
    time.arm(a, time.now() + 1ns);
    std::atomic<bool> go{false};
    std::jthread cancelling([&] {
      while (!go) {
      }
      time.cancel(a);
    });
    go = true;
    time.advance(1ns);
    cancelling.join();
    ASSERT_LE(a.fired, 1);
    (a.fired == 1 ? fires : cancels)++;
  }
  EXPECT_EQ(fires + cancels, 2'000);
}

// Goal    The default timer fires no node early and each node once, when many are armed.
TEST(default_timer, fires_when_the_time_has_come) {
  sf::timer& time = sf::default_timer();
  EXPECT_TRUE(time.follows_steady_clock());
  EXPECT_EQ(&time, &sf::default_timer());
  std::deque<alarm> alarms;
  for (int i = 0; i < 40; ++i) alarms.emplace_back(time);
  for (std::size_t i = 0; i < alarms.size(); ++i) {
    time.arm(alarms[i], time.now() + std::chrono::microseconds(500) * static_cast<int>(i % 10));
  }
  for (auto& a : alarms) {
    support::eventually([&] { return a.fired == 1; }, "an alarm");
    EXPECT_GE(a.fired_at, a.when);
    time.cancel(a);
  }
}

// Goal    A later node does not delay an earlier one that is armed after it; a node that is past
//         due fires at once.
TEST(default_timer, an_earlier_node_overtakes) {
  sf::timer& time = sf::default_timer();
  alarm late(time);
  alarm early(time);
  alarm past(time);
  time.arm(late, time.now() + 1h);
  time.arm(early, time.now() + 1ms);
  time.arm(past, time_point::min());
  support::eventually([&] { return early.fired == 1 && past.fired == 1; }, "the earlier alarms");
  EXPECT_EQ(late.fired, 0);
  time.cancel(late);
  time.cancel(early);
  time.cancel(past);
}

// Goal    The coarse clock never runs ahead of the clock or backwards, moves on while it is read,
//         and is fresh at the first read after a pause.
TEST(default_timer, coarse_now_follows_now) {
  sf::timer& time = sf::default_timer();
  auto last = time.coarse_now();
  const auto first = last;
  support::eventually(
      [&] {
        const auto coarse = time.coarse_now();
        EXPECT_LE(coarse, time.now());
        EXPECT_GE(coarse, last);
        last = coarse;
        return coarse > first + 5ms;
      },
      "five milliseconds of the coarse clock");
}

// Goal    A deadline stays in the clock's range, whatever the duration's type and size.
TEST(deadline_after, stays_in_range) {
  using std::chrono::duration;
  using std::chrono::hours;
  using std::chrono::nanoseconds;
  using time_point = singleflight::timer::time_point;
  using singleflight::detail::deadline_after;
  constexpr auto never = time_point::max();
  constexpr auto long_ago = time_point::min();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const time_point moments[] = {time_point{}, time_point(1h), time_point(-1h), never - 1h,
                                long_ago + 1h};
  for (const time_point now : moments) {
    EXPECT_EQ(deadline_after(now, nanoseconds::max()), never);
    EXPECT_EQ(deadline_after(now, nanoseconds::min()), long_ago);
    EXPECT_EQ(deadline_after(now, hours::max()), never);
    EXPECT_EQ(deadline_after(now, hours::min()), long_ago);
    EXPECT_EQ(deadline_after(now, duration<double>(infinity)), never);
    EXPECT_EQ(deadline_after(now, duration<double>(-infinity)), long_ago);
    EXPECT_EQ(deadline_after(now, duration<double>(std::numeric_limits<double>::quiet_NaN())),
              never);
    EXPECT_EQ(deadline_after(now, duration<double, std::pico>(1e300)), never);
    EXPECT_EQ(
        deadline_after(now, duration<std::uint64_t>(std::numeric_limits<std::uint64_t>::max())),
        never);
    EXPECT_EQ(deadline_after(now, duration<std::int8_t, std::ratio<86'400>>(0)), now);
    EXPECT_EQ(deadline_after(now, 0ns), now);
  }
  EXPECT_EQ(deadline_after(time_point(1h), 1ns), time_point(1h + 1ns));
  EXPECT_EQ(deadline_after(time_point(1h), -1ns), time_point(1h - 1ns));
  EXPECT_EQ(deadline_after(time_point(1h), duration<double>(0.5)), time_point(1h + 500ms));
  EXPECT_EQ(deadline_after(never - 1h, 2h), never);
  EXPECT_EQ(deadline_after(never - 1h, 1h), never);
  EXPECT_EQ(deadline_after(long_ago + 1h, -2h), long_ago);

  singleflight::manual_timer time;
  time.advance(nanoseconds::max());
  EXPECT_EQ(time.now(), never);
}

// Goal    The time between two moments also stays in range, wherever they are.
TEST(time_between, stays_in_range) {
  using singleflight::detail::time_between;
  using std::chrono::nanoseconds;
  constexpr auto last = time_point::max();
  constexpr auto first = time_point::min();
  EXPECT_EQ(time_between(time_point(1h), time_point(3h)), 2h);
  EXPECT_EQ(time_between(time_point(3h), time_point(1h)), -2h);
  EXPECT_EQ(time_between(first, first), 0ns);
  EXPECT_EQ(time_between(last, last), 0ns);
  EXPECT_EQ(time_between(last - 1h, last), 1h);
  EXPECT_EQ(time_between(first, first + 1h), 1h);
  EXPECT_EQ(time_between(time_point{}, last), nanoseconds::max());
  EXPECT_EQ(time_between(time_point{}, first), nanoseconds::min());
  EXPECT_EQ(time_between(first, time_point{}), nanoseconds::max());
  EXPECT_EQ(time_between(first, last), nanoseconds::max());
  EXPECT_EQ(time_between(last, first), nanoseconds::min());
  EXPECT_EQ(time_between(time_point(-1ns), last), nanoseconds::max());
  EXPECT_EQ(time_between(time_point(1ns), first), nanoseconds::min());
  EXPECT_EQ(time_between(time_point(-1ns), first), nanoseconds::min() + 1ns);
}

}  // namespace
