// SPDX-License-Identifier: Apache-2.0

// The batcher: when a batch is sent, which keys are in it, and which outcome each caller gets.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "support/bare_timer.hpp"
#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/gated_timer.hpp"
#include "support/sanitizers.hpp"
#include "support/task.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/sync/batcher.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;
using ints = sf::batcher<int, int>;
using outcomes = std::vector<sf::outcome<int>>;
using sf::as_outcome;
using sf::flight_errc;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

/// Answers with ten times the key, and records the calls. Copies share the record.
struct tenfold {
  outcomes operator()(std::span<const int> keys) const {
    {
      const std::lock_guard hold(*lock);
      calls->emplace_back(keys.begin(), keys.end());
    }
    outcomes all;
    for (const int key : keys) all.emplace_back(key * 10);
    return all;
  }
  std::shared_ptr<std::mutex> lock = std::make_shared<std::mutex>();
  std::shared_ptr<std::vector<std::vector<int>>> calls =
      std::make_shared<std::vector<std::vector<int>>>();
};

/// A batcher whose tasks run, and whose time passes, when the test says so.
struct by_hand {
  explicit by_hand(sf::batcher_options options = {}) : keys(load, with(std::move(options))) {}
  sf::batcher_options with(sf::batcher_options options) {
    options.executor = queue;
    options.timer = &clock;
    return options;
  }
  std::vector<std::vector<int>>& calls() { return *load.calls; }

  tenfold load;
  support::manual_executor queue;
  sf::manual_timer clock;
  ints keys;
};

// ---- when a batch is sent -----------------------------------------------------------------------

// Goal    A lone key with no delay is sent at once: it has been submitted to the executor when
//         start returns, and no timer is involved.
TEST(batcher, a_lone_key_is_sent_at_once) {
  struct no_timer final : sf::timer {
    time_point now() const noexcept override { return {}; }
    void arm(sf::timer_node&, time_point) override { ADD_FAILURE() << "a timer was armed"; }
    void cancel(sf::timer_node&) noexcept override {}
  } none;
  tenfold load;
  support::manual_executor queue;
  ints keys(load, {.executor = queue, .timer = &none});
  auto f = keys.start(7);
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_TRUE(queue.run_one());
  EXPECT_EQ(*f.get(), 70);
  EXPECT_THAT(*load.calls, ElementsAre(ElementsAre(7)));
  EXPECT_EQ(keys.stats().batches, 1u);
  EXPECT_TRUE(keys.in_flight().empty());
}

// Goal    Keys gather until the delay of the first one is over; they are sent in the order of their
//         calls, and each caller gets the answer for its own key.
TEST(batcher, the_delay_of_the_first_key) {
  by_hand b({.max_delay = 10ms});
  auto one = b.keys.start(3);
  b.clock.advance(9ms);
  auto two = b.keys.start(1);
  auto three = b.keys.start(2);
  EXPECT_EQ(b.queue.size(), 0u);
  b.clock.advance(1ms);
  EXPECT_EQ(b.queue.size(), 1u);
  b.queue.run_all();
  EXPECT_EQ(*one.get(), 30);
  EXPECT_EQ(*two.get(), 10);
  EXPECT_EQ(*three.get(), 20);
  EXPECT_THAT(b.calls(), ElementsAre(ElementsAre(3, 1, 2)));
  EXPECT_EQ(b.keys.stats().delayed, 1u);
  EXPECT_EQ(b.keys.stats().keys, 3u);
  EXPECT_EQ(b.keys.stats().largest, 3u);
}

// Goal    A full batch does not wait for its delay, and the next batch has its own delay: the alarm
//         of the first batch, which fires without effect, is armed again.
TEST(batcher, a_full_batch_and_the_delay_of_the_next) {
  by_hand b({.max_batch = 2, .max_delay = 10ms});
  auto one = b.keys.start(1);
  auto two = b.keys.start(2);
  EXPECT_EQ(b.queue.run_all(), 1u);
  EXPECT_EQ(*two.get(), 20);
  b.clock.advance(5ms);
  auto three = b.keys.start(3);
  b.clock.advance(5ms);
  EXPECT_EQ(b.queue.size(), 0u) << "only the delay of the first batch is over";
  b.clock.advance(5ms);
  EXPECT_EQ(b.queue.run_all(), 1u);
  EXPECT_EQ(*three.get(), 30);
  EXPECT_EQ(*one.get(), 10);
  EXPECT_THAT(b.calls(), ElementsAre(ElementsAre(1, 2), ElementsAre(3)));
  EXPECT_EQ(b.keys.stats().full, 1u);
  EXPECT_EQ(b.keys.stats().delayed, 1u);
}

// Goal    The alarm serves batches in turn, even when it has fired between them.
TEST(batcher, the_alarm_serves_batches_in_turn) {
  by_hand b({.max_delay = 10ms});
  for (int i = 0; i < 3; ++i) {
    auto f = b.keys.start(i);
    b.clock.advance(10ms);
    b.queue.run_all();
    EXPECT_EQ(*f.get(), 10 * i);
    b.clock.advance(50ms);
  }
  EXPECT_EQ(b.keys.stats().batches, 3u);
}

// Goal    flush sends the gathered keys, and sends nothing when there are none.
TEST(batcher, flush) {
  by_hand b({.max_delay = 10ms});
  b.keys.flush();
  auto one = b.keys.start(1);
  auto two = b.keys.start(2);
  b.keys.flush();
  b.keys.flush();
  EXPECT_EQ(b.queue.run_all(), 1u);
  EXPECT_EQ(*one.get(), 10);
  EXPECT_EQ(*two.get(), 20);
  EXPECT_EQ(b.keys.stats().flushed, 1u);
  b.clock.advance(10ms);
  EXPECT_EQ(b.queue.run_all(), 0u);
}

// Goal    A batch that is due takes more keys until its load begins, even while the executor is
//         slow to start it.
TEST(batcher, a_batch_gathers_until_it_begins) {
  by_hand b({.max_batch = 3});
  auto one = b.keys.start(1);
  auto two = b.keys.start(2);
  auto three = b.keys.start(3);
  auto four = b.keys.start(4);
  b.queue.run_all();
  EXPECT_EQ(*four.get(), 40);
  EXPECT_EQ(*one.get(), 10);
  EXPECT_THAT(b.calls(), ElementsAre(ElementsAre(1, 2, 3), ElementsAre(4)));
  EXPECT_EQ(b.keys.stats().full, 1u);
}

// Goal    max_in_flight is kept: while all places are taken keys gather, and they are sent
//         together, in batches of max_batch, when a call ends.
TEST(batcher, max_in_flight) {
  support::gate hold;
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  tenfold load;
  support::thread_per_task threads;
  ints keys(
      [&](std::span<const int> all) {
        const int now = ++running;
        for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
        }
        if (all.front() < 10) hold.wait();
        --running;
        return load(all);
      },
      {.max_batch = 3, .max_in_flight = 2, .executor = threads});
  auto one = keys.start(1);
  hold.await_arrivals(1);
  auto two = keys.start(2);
  hold.await_arrivals(2);
  std::vector<sf::flight<int>> rest;
  for (int key = 10; key < 17; ++key) rest.push_back(keys.start(key));
  EXPECT_EQ(running, 2);
  hold.open();
  for (int key = 10; key < 17; ++key) {
    EXPECT_EQ(*rest[static_cast<std::size_t>(key) - 10].get(), 10 * key);
  }
  threads.join();
  EXPECT_EQ(most, 2);
  EXPECT_EQ(*one.get(), 10);
  EXPECT_EQ(*two.get(), 20);
  EXPECT_THAT(*load.calls,
              testing::UnorderedElementsAre(ElementsAre(1), ElementsAre(2), ElementsAre(10, 11, 12),
                                            ElementsAre(13, 14, 15), ElementsAre(16)));
}

// Goal    When a delay ends while all places are taken, the batch is sent once a place is free,
//         with the keys that arrived meanwhile.
TEST(batcher, a_delay_that_is_over_while_all_places_are_taken) {
  tenfold load;
  support::manual_executor queue;
  sf::manual_timer clock;
  std::optional<ints> keys;
  std::optional<sf::flight<int>> two;
  std::optional<sf::flight<int>> three;
  keys.emplace(
      [&](std::span<const int> all) {
        if (all.front() == 1) {
          two.emplace(keys->start(2));
          clock.advance(10ms);
          three.emplace(keys->start(3));
          EXPECT_EQ(queue.size(), 0u) << "the only place is still taken";
        }
        return load(all);
      },
      sf::batcher_options{
          .max_delay = 10ms, .max_in_flight = 1, .executor = queue, .timer = &clock});
  auto one = keys->start(1);
  clock.advance(10ms);
  queue.run_all();
  EXPECT_EQ(*one.get(), 10);
  EXPECT_EQ(*two->get(), 20);
  EXPECT_EQ(*three->get(), 30);
  EXPECT_THAT(*load.calls, ElementsAre(ElementsAre(1), ElementsAre(2, 3)));
}

// Goal    With inline_executor the batch runs as start returns; with a delay, as its alarm fires.
TEST(batcher, inline_executor) {
  tenfold load;
  sf::manual_timer clock;
  ints keys(load, {.executor = sf::inline_executor, .timer = &clock});
  auto f = keys.start(1);
  EXPECT_TRUE(f.ready());
  ints slow(load, {.max_delay = 1ms, .executor = sf::inline_executor, .timer = &clock});
  auto g = slow.start(2);
  EXPECT_FALSE(g.ready());
  clock.advance(1ms);
  EXPECT_TRUE(g.ready());
  EXPECT_EQ(*g.get(), 20);
}

// Goal    A callback of one of its own answers may destroy a batcher, even on the alarm's thread.
TEST(batcher, destroyed_by_its_own_callback) {
  for (const auto delay : {0ms, 1ms}) {
    sf::manual_timer clock;
    auto keys = std::make_unique<ints>(
        tenfold(),
        sf::batcher_options{.max_delay = delay, .executor = sf::inline_executor, .timer = &clock});
    bool notified = false;
    {
      const sf::detail::call_scope scope;  // so the callback is set when the batch runs
      auto f = keys->start(1);
      std::move(f).on_ready([&](const auto& got) {
        EXPECT_EQ(**got, 10);
        keys.reset();
        notified = true;
      });
    }
    clock.advance(1ms);
    EXPECT_TRUE(notified);
    EXPECT_EQ(keys, nullptr);
  }
}

// Goal    If the timer cannot be armed, the batch is sent at once instead of never.
TEST(batcher, a_timer_that_cannot_be_armed) {
  struct no_timer final : sf::timer {
    time_point now() const noexcept override { return {}; }
    void arm(sf::timer_node&, time_point) override {
      throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
    }
    void cancel(sf::timer_node&) noexcept override {}
  } none;
  support::manual_executor queue;
  ints keys(tenfold(), {.max_delay = 1ms, .executor = queue, .timer = &none});
  auto f = keys.start(1);
  EXPECT_EQ(queue.run_all(), 1u);
  EXPECT_EQ(*f.get(), 10);
}

// ---- which keys are in it -----------------------------------------------------------------------

// Scenario 12
// Goal    Duplicates join a key in the gathering batch, and one that is in flight.
TEST(batcher, duplicates_join) {
  tenfold load;
  support::manual_executor queue;
  std::optional<ints> keys;
  std::optional<sf::flight<int>> third;
  keys.emplace(
      [&](std::span<const int> all) {
        third.emplace(keys->start(5));
        return load(all);
      },
      sf::batcher_options{.executor = queue});
  auto first = keys->start(5);
  auto second = keys->start(5);
  queue.run_all();
  const auto a = first.get();
  const auto b = second.get();
  const auto c = third->get();
  EXPECT_EQ(&*a, &*b);
  EXPECT_EQ(&*a, &*c);
  EXPECT_EQ(c.callers(), 3u);
  EXPECT_THAT(*load.calls, ElementsAre(ElementsAre(5)));
  EXPECT_EQ(keys->stats().joined, 2u);
  EXPECT_EQ(keys->stats().calls, 3u);
}

// Goal    A key whose last caller left before its batch began is not in the span; the batch's other
//         keys are.
TEST(batcher, a_key_that_all_have_left_is_not_sent) {
  by_hand b({.max_delay = 10ms});
  auto one = b.keys.start(1);
  auto joined = b.keys.start(2);
  { const auto left = b.keys.start(2); }
  { const auto left = b.keys.start(3); }
  auto again = b.keys.start(3);
  { const auto left = b.keys.start(4); }
  b.clock.advance(10ms);
  b.queue.run_all();
  EXPECT_EQ(*one.get(), 10);
  EXPECT_EQ(*joined.get(), 20) << "only one of two callers left";
  EXPECT_EQ(*again.get(), 30);
  EXPECT_THAT(b.calls(), ElementsAre(ElementsAre(1, 2, 3)));
  EXPECT_EQ(b.keys.stats().abandoned, 2u);
  EXPECT_TRUE(b.keys.in_flight().empty());
}

// Goal    A batch that every caller has left is not sent, whenever they left; its place is free
//         again.
TEST(batcher, a_batch_that_all_have_left_is_not_sent) {
  by_hand b({.max_delay = 10ms, .max_in_flight = 1});
  { const auto left = b.keys.start(1); }
  b.clock.advance(10ms);
  b.queue.run_all();
  {
    const auto left = b.keys.start(2);
    b.clock.advance(10ms);
    EXPECT_EQ(b.queue.size(), 1u);
  }
  b.queue.run_all();
  EXPECT_TRUE(b.calls().empty());
  EXPECT_EQ(b.keys.stats().batches, 0u);
  auto f = b.keys.start(3);
  b.clock.advance(10ms);
  b.queue.run_all();
  EXPECT_EQ(*f.get(), 30);
}

// Goal    If the last caller leaves while the loader runs, nobody gets the answer; a later caller
//         starts a new load and does not get the abandoned answer.
TEST(batcher, the_last_caller_leaves_a_batch_in_flight) {
  support::manual_executor queue;
  std::optional<ints> keys;
  std::optional<sf::flight<int>> first;
  std::optional<sf::flight<int>> second;
  int loads = 0;
  keys.emplace(
      [&](std::span<const int> all) {
        if (++loads == 1) {
          first.reset();
          second.emplace(keys->start(1));
        }
        return outcomes(all.size(), sf::outcome<int>(loads));
      },
      sf::batcher_options{.executor = queue});
  first.emplace(keys->start(1));
  queue.run_all();
  EXPECT_EQ(*second->get(), 2);
  EXPECT_EQ(loads, 2);
}

// Goal    Each caller has its own deadline and its own stop; the others get the answer.
TEST(batcher, limits_are_each_callers_own) {
  by_hand b({.max_delay = 10ms});
  const auto soon = b.clock.now() + 5ms;
  std::stop_source stop;
  std::optional<sf::outcome<sf::shared_result<int>>> hurried;
  std::optional<sf::outcome<sf::shared_result<int>>> stopped;
  auto one = b.keys.start(1);
  auto two = b.keys.start(1);
  auto three = b.keys.start(2);
  two.until(soon).on_ready([&](auto&& got) { hurried.emplace(std::move(got)); });
  three.until(soon + 1h, stop.get_token()).on_ready([&](auto&& got) {
    stopped.emplace(std::move(got));
  });
  b.clock.advance(5ms);
  stop.request_stop();
  b.queue.run_all();
  ASSERT_TRUE(hurried && stopped);
  EXPECT_EQ(hurried->errc(), flight_errc::timed_out);
  EXPECT_EQ(stopped->errc(), flight_errc::cancelled);
  b.clock.advance(5ms);
  b.queue.run_all();
  EXPECT_EQ(*one.get(), 10);
  EXPECT_THAT(b.calls(), ElementsAre(ElementsAre(1)));
  EXPECT_EQ(b.keys.stats().timed_out, 1u);
}

// Goal    The same for threads that wait, and for limits that have expired already: those load
//         nothing.
TEST(batcher, limits_of_blocked_threads) {
  by_hand b({.max_delay = 10ms});
  const auto now = b.clock.now();
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(b.keys.load(as_outcome, 1, {.deadline = now}).errc(), flight_errc::timed_out);
  EXPECT_EQ(b.keys.load(as_outcome, 1, {.stop = stop.get_token()}).errc(), flight_errc::cancelled);
  EXPECT_TRUE(b.keys.in_flight().empty());
  std::jthread hurried([&] {
    EXPECT_EQ(b.keys.load(as_outcome, 1, {.deadline = now + 5ms}).errc(), flight_errc::timed_out);
  });
  support::until_callers(b.keys, 1);
  std::jthread patient([&] { EXPECT_EQ(*b.keys.load(1), 10); });
  support::until_callers(b.keys, 2);
  b.clock.advance(5ms);
  hurried.join();
  b.clock.advance(5ms);
  b.queue.run_all();
  patient.join();
  EXPECT_EQ(b.keys.stats().abandoned, 0u);
}

// Goal    Keys beyond max_keys are refused as overloaded at once; joining is not bounded; an answer
//         frees capacity.
TEST(batcher, max_keys) {
  by_hand b({.max_delay = 10ms, .max_keys = 2});
  auto one = b.keys.start(1);
  auto two = b.keys.start(2);
  auto more = b.keys.start(3);
  ASSERT_TRUE(more.ready());
  EXPECT_EQ(more.get_outcome().errc(), flight_errc::overloaded);
  auto joins = b.keys.start(2);
  b.clock.advance(10ms);
  b.queue.run_all();
  EXPECT_EQ(*joins.get(), 20);
  auto three = b.keys.start(3);
  b.keys.flush();
  b.queue.run_all();
  EXPECT_EQ(*three.get(), 30);
  EXPECT_EQ(b.keys.stats().overloaded, 1u);
  EXPECT_EQ(*one.get(), 10);
}

support::detached ask(ints& keys, int key, const sf::limits& bounds,
                      std::vector<sf::outcome<int>>& into) {
  auto f = keys.start(key);
  auto got = co_await f.until(bounds.deadline, bounds.stop).as_outcome();
  if (got) {
    into.emplace_back(**got);
  } else {
    into.emplace_back(*got.errc());
  }
}

/// One key at a time, in a batch that is never sent; the only caller of key 1 leaves.
struct lone_key : by_hand {
  lone_key() : by_hand({.max_delay = 1h, .max_keys = 1}) {}
  /// Key 1 is counted nowhere and is not sent.
  void expect_no_trace() {
    EXPECT_TRUE(keys.in_flight().empty());
    EXPECT_EQ(keys.stats().abandoned, 1u);
    auto two = keys.start(2);
    auto three = keys.start(3);
    EXPECT_FALSE(two.ready()) << "the place of key 1 was not free";
    EXPECT_TRUE(three.ready()) << "there is only one place";
    EXPECT_TRUE(calls().empty());
    keys.flush();
    queue.run_all();
    const auto got = two.get_outcome();
    EXPECT_TRUE(got && **got == 20);
    EXPECT_THAT(calls(), ElementsAre(ElementsAre(2)));
    EXPECT_EQ(keys.stats().overloaded, 1u);
    EXPECT_EQ(keys.stats().batches, 1u);
    EXPECT_EQ(keys.stats().largest, 1u);
  }
  /// A coroutine, a callback, or a thread waits for key 1 within `bounds` until `end_wait` is
  /// called.
  template <class End>
  flight_errc coroutine(const sf::limits& bounds, End end_wait) {
    std::vector<sf::outcome<int>> got;
    ask(keys, 1, bounds, got);
    end_wait();
    queue.run_all();
    return got.size() == 1 ? got[0].errc().value() : flight_errc{};
  }
  template <class End>
  flight_errc callback(const sf::limits& bounds, End end_wait) {
    flight_errc got{};
    auto one = keys.start(1);
    one.until(bounds.deadline, bounds.stop).on_ready([&](const auto& outcome) {
      got = outcome.errc().value();
    });
    end_wait();
    queue.run_all();
    return got;
  }
  template <class End>
  flight_errc thread(const sf::limits& bounds, End end_wait) {
    flight_errc got{};
    std::jthread waits([&] { got = keys.load(as_outcome, 1, bounds).errc().value(); });
    support::until_callers(keys, 1);
    end_wait();
    waits.join();
    return got;
  }
};

// Scenario 16. P4.
// Goal    A gathered key leaves no trace once its last caller has left, in whatever way: the next
//         key can take its place of max_keys at once, not only when the batch is sent.
TEST(batcher, a_gathered_key_that_all_have_left_gives_its_place_back) {
  {
    lone_key b;
    { const auto left = b.keys.start(1); }
    b.expect_no_trace();
  }
  {
    lone_key b;
    auto one = b.keys.start(1);
    EXPECT_EQ(one.until(b.clock.now()).get_outcome().errc(), flight_errc::timed_out);
    b.expect_no_trace();
  }
}
TEST(batcher, a_gathered_key_that_is_left_at_a_deadline_gives_its_place_back) {
  const auto bounds = [](lone_key& b) { return sf::limits{.deadline = b.clock.now() + 5ms}; };
  const auto expire = [](lone_key& b) { return [&b] { b.clock.advance(5ms); }; };
  {
    lone_key b;
    EXPECT_EQ(b.coroutine(bounds(b), expire(b)), flight_errc::timed_out);
    b.expect_no_trace();
  }
  {
    lone_key b;
    EXPECT_EQ(b.callback(bounds(b), expire(b)), flight_errc::timed_out);
    b.expect_no_trace();
  }
  {
    lone_key b;
    EXPECT_EQ(b.thread(bounds(b), expire(b)), flight_errc::timed_out);
    b.expect_no_trace();
  }
}
TEST(batcher, a_gathered_key_that_is_left_at_a_stop_gives_its_place_back) {
  std::stop_source stops[3];
  const auto fire = [](std::stop_source& stop) { return [&stop] { stop.request_stop(); }; };
  {
    lone_key b;
    EXPECT_EQ(b.coroutine({.stop = stops[0].get_token()}, fire(stops[0])), flight_errc::cancelled);
    b.expect_no_trace();
  }
  {
    lone_key b;
    EXPECT_EQ(b.callback({.stop = stops[1].get_token()}, fire(stops[1])), flight_errc::cancelled);
    b.expect_no_trace();
  }
  {
    lone_key b;
    EXPECT_EQ(b.thread({.stop = stops[2].get_token()}, fire(stops[2])), flight_errc::cancelled);
    b.expect_no_trace();
  }
}

// Goal    A new call for the same key is a new key, in the same batch.
TEST(batcher, a_key_that_is_loaded_again_after_all_have_left) {
  by_hand b({.max_delay = 10ms, .max_keys = 1});
  { const auto left = b.keys.start(1); }
  auto again = b.keys.start(1);
  ASSERT_FALSE(again.ready());
  b.clock.advance(10ms);
  b.queue.run_all();
  EXPECT_EQ(*again.get(), 10);
  EXPECT_THAT(b.calls(), ElementsAre(ElementsAre(1)));
}

// Goal    When the only thread of a pool waits for a gathered key within a limit, it begins nothing
//         before its batch is due; when it leaves, the key's place is free.
// Method  By the time its own alarm is armed, the thread has looked for work and found none.
TEST(batcher, a_waiter_on_the_pools_only_thread_leaves_a_gathered_key) {
  support::gated_timer time;
  time.wanted = time.now() + 5ms;
  tenfold load;
  sf::thread_pool pool({.max_threads = 1});
  ints keys(load, {.max_delay = 1h, .max_keys = 1, .executor = pool, .timer = &time});
  support::gate over;
  pool.execute(sf::task([&] {
    EXPECT_EQ(keys.load(as_outcome, 1, {.deadline = *time.wanted}).errc(), flight_errc::timed_out);
    auto two = keys.start(2);
    EXPECT_FALSE(two.ready());
    keys.flush();
    const auto got = two.get_outcome();
    EXPECT_TRUE(got && **got == 20);
    over.open();
  }));
  time.armed.wait();
  time.clock.advance(5ms);
  over.wait();
  EXPECT_THAT(*load.calls, ElementsAre(ElementsAre(2)));
}

// Goal    max_batch also counts keys that all callers have left: with them a batch is full. It is
//         not sent if no caller is left, and counts as full if one is.
TEST(batcher, keys_that_all_have_left_fill_a_batch) {
  by_hand b({.max_batch = 3, .max_delay = 1h, .max_keys = 1});
  for (int key = 1; key <= 3; ++key) {
    EXPECT_EQ(b.queue.size(), 0u);
    const auto left = b.keys.start(key);
    EXPECT_FALSE(left.ready());
  }
  EXPECT_EQ(b.queue.run_all(), 1u);
  EXPECT_TRUE(b.calls().empty());
  EXPECT_EQ(b.keys.stats().batches, 0u);
  EXPECT_EQ(b.keys.stats().full, 0u);
  EXPECT_EQ(b.keys.stats().abandoned, 3u);
  { const auto left = b.keys.start(4); }
  { const auto left = b.keys.start(5); }
  auto six = b.keys.start(6);
  EXPECT_EQ(b.queue.run_all(), 1u);
  EXPECT_EQ(*six.get(), 60);
  EXPECT_THAT(b.calls(), ElementsAre(ElementsAre(6)));
  EXPECT_EQ(b.keys.stats().full, 1u);
  EXPECT_EQ(b.keys.stats().largest, 1u);
}

// Goal    The memory that such a key owns is freed with its batch, or with the batcher.
TEST(batcher, the_memory_of_a_key_that_all_have_left) {
  using owned = std::shared_ptr<int>;
  for (const bool closes : {false, true}) {
    support::manual_executor queue;
    sf::manual_timer clock;
    sf::batcher<owned, int> keys(
        [](std::span<const owned> all) { return outcomes(all.size(), sf::outcome<int>(1)); },
        {.max_delay = 10ms, .executor = queue, .timer = &clock});
    std::weak_ptr<int> watch;
    {
      const auto key = std::make_shared<int>(1);
      watch = key;
      const auto left = keys.start(key);
    }
    auto neighbour = keys.start(std::make_shared<int>(2));
    EXPECT_FALSE(watch.expired());
    if (closes) {
      keys.close();
      EXPECT_EQ(neighbour.get_outcome().errc(), flight_errc::closed);
      EXPECT_EQ(keys.stats().closed, 1u);
    } else {
      clock.advance(10ms);
      queue.run_all();
      EXPECT_EQ(*neighbour.get(), 1);
    }
    EXPECT_TRUE(watch.expired());
  }
}

// Goal    load_many returns one outcome per position, repeats included; its keys share a batch with
//         those of other callers, and it joins keys of other callers.
TEST(batcher, load_many) {
  tenfold load;
  support::thread_per_task threads;
  ints keys(load, {.max_delay = 1h, .executor = threads});
  auto other = keys.start(2);
  std::jthread caller([&] {
    const auto all = keys.load_many(std::vector{1, 2, 3, 1});
    ASSERT_EQ(all.size(), 4u);
    EXPECT_EQ(**all[0], 10);
    EXPECT_EQ(**all[1], 20);
    EXPECT_EQ(**all[2], 30);
    EXPECT_EQ(&**all[0], &**all[3]);
  });
  support::until_callers(keys, 5);
  keys.flush();
  caller.join();
  EXPECT_EQ(*other.get(), 20);
  EXPECT_THAT(*load.calls, ElementsAre(ElementsAre(2, 1, 3)));
  EXPECT_TRUE(keys.load_many(std::vector<int>{}).empty());
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(keys.load_many(std::vector{1}, {.stop = stop.get_token()})[0].errc(),
            flight_errc::cancelled);
}

// ---- what the callers get -----------------------------------------------------------------------

// Scenario 11
// Goal    When a loader throws, every caller of the batch gets its exception, with its own type;
//         the keys are free, and a later call is answered.
TEST(batcher, a_loader_that_throws) {
  support::manual_executor queue;
  bool fails = true;
  ints keys(
      [&](std::span<const int> all) {
        if (fails) throw std::out_of_range("all of them");
        return outcomes(all.size(), sf::outcome<int>(1));
      },
      {.executor = queue});
  auto one = keys.start(1);
  auto two = keys.start(2);
  auto joins = keys.start(2);
  queue.run_all();
  EXPECT_THROW((void)one.get(), std::out_of_range);
  EXPECT_THROW((void)two.get(), std::out_of_range);
  EXPECT_THROW((void)joins.get(), std::out_of_range);
  EXPECT_TRUE(keys.in_flight().empty());
  fails = false;
  auto later = keys.start(2);
  queue.run_all();
  EXPECT_EQ(*later.get(), 1);
}

// Goal    A result of the wrong size, even an empty one, is broken for the whole batch.
TEST(batcher, a_result_of_the_wrong_size) {
  for (const std::size_t size : {0u, 1u, 3u}) {
    support::manual_executor queue;
    ints keys([&](std::span<const int>) { return outcomes(size, sf::outcome<int>(1)); },
              {.executor = queue});
    auto one = keys.start(1);
    auto two = keys.start(2);
    queue.run_all();
    EXPECT_EQ(one.get_outcome().errc(), flight_errc::broken);
    EXPECT_EQ(two.get_outcome().errc(), flight_errc::broken);
    EXPECT_TRUE(keys.in_flight().empty());
    EXPECT_EQ(keys.stats().broken, 2u);
  }
}

// Goal    Each key may end in its own way; absence is a value.
TEST(batcher, each_key_has_its_own_outcome) {
  using maybe = std::optional<std::string>;
  support::manual_executor queue;
  sf::batcher<std::string, maybe> keys(
      [](std::span<const std::string> all) {
        std::vector<sf::outcome<maybe>> found;
        for (const std::string& key : all) {
          if (key == "fails") {
            found.emplace_back(std::make_exception_ptr(std::domain_error("fails")));
          } else if (key == "rejected") {
            found.emplace_back(flight_errc::rejected);
          } else if (key == "absent") {
            found.emplace_back(maybe());
          } else {
            found.emplace_back(maybe("the " + key));
          }
        }
        return found;
      },
      {.executor = queue});
  auto value = keys.start(std::string_view("value"));
  auto absent = keys.start("absent");
  auto fails = keys.start("fails");
  auto rejected = keys.start(std::string("rejected"));
  queue.run_all();
  EXPECT_EQ(**value.get(), "the value");
  EXPECT_EQ(*absent.get(), std::nullopt);
  EXPECT_THROW((void)fails.get(), std::domain_error);
  EXPECT_EQ(rejected.get_outcome().errc(), flight_errc::rejected);
}

// Goal    Values may be void or move-only.
TEST(batcher, void_and_move_only_values) {
  support::manual_executor queue;
  sf::batcher<int, void> nothing(
      [](std::span<const int> all) { return std::vector<sf::outcome<void>>(all.size()); },
      {.executor = queue});
  auto done = nothing.start(1);
  queue.run_all();
  EXPECT_TRUE(done.get_outcome().has_value());
  sf::batcher<int, std::unique_ptr<int>> unique(
      [](std::span<const int> all) {
        std::vector<sf::outcome<std::unique_ptr<int>>> made;
        for (const int key : all) made.emplace_back(std::make_unique<int>(key));
        return made;
      },
      {.executor = queue});
  auto one = unique.start(1);
  queue.run_all();
  EXPECT_EQ(**one.get(), 1);
}

// Scenario 9. P5.
// Goal    When an executor drops or refuses the batch's task, the keys are broken, and the next
//         batch gets the place.
TEST(batcher, a_dropped_task) {
  by_hand b({.max_in_flight = 1});
  auto one = b.keys.start(1);
  auto two = b.keys.start(2);
  b.queue.drop_one();
  EXPECT_EQ(one.get_outcome().errc(), flight_errc::broken);
  EXPECT_EQ(two.get_outcome().errc(), flight_errc::broken);
  auto three = b.keys.start(3);
  b.queue.run_all();
  EXPECT_EQ(*three.get(), 30);
  EXPECT_THAT(b.calls(), ElementsAre(ElementsAre(3)));
  ints refused(tenfold(), {.executor = support::refusing_executor()});
  EXPECT_EQ(refused.load(as_outcome, 1).errc(), flight_errc::broken);
  ints dropped(tenfold(), {.executor = support::dropping_executor()});
  EXPECT_EQ(dropped.load(as_outcome, 1).errc(), flight_errc::broken);
}

// Goal    When an executor begins to refuse tasks while a long queue waits, the queue ends batch by
//         batch, in constant stack.
TEST(batcher, a_long_queue_and_an_executor_that_refuses) {
  constexpr int many = support::instrumented ? 10'000 : 50'000;
  struct fickle {
    std::shared_ptr<std::atomic<bool>> refuses;
    support::manual_executor queue;
    void execute(sf::task work) {
      if (*refuses) throw std::runtime_error("no more");
      queue.execute(std::move(work));
    }
  };
  const auto refuses = std::make_shared<std::atomic<bool>>(false);
  support::manual_executor queue;
  std::optional<ints> keys;
  std::vector<sf::flight<int>> line;
  keys.emplace(
      [&](std::span<const int> all) {
        for (int key = 1; key <= many; ++key) line.push_back(keys->start(key));
        *refuses = true;
        return outcomes(all.size(), sf::outcome<int>(0));
      },
      sf::batcher_options{.max_batch = 1, .max_in_flight = 1, .executor = fickle{refuses, queue}});
  auto first = keys->start(0);
  queue.run_all();
  EXPECT_EQ(*first.get(), 0);
  for (auto& f : line) EXPECT_EQ(f.get_outcome().errc(), flight_errc::broken);
  EXPECT_TRUE(keys->in_flight().empty());
}

// Scenario 9
// Goal    When a loader ends its thread, the keys are broken, and the place is free.
TEST(batcher, a_loader_that_ends_its_thread) {
  sf::thread_pool pool({.max_threads = 1});
  ints keys(
      [](std::span<const int> all) -> outcomes {
        if (all.front() == 1) pthread_exit(nullptr);
        return outcomes(all.size(), sf::outcome<int>(2));
      },
      {.max_in_flight = 1, .executor = pool});
  EXPECT_EQ(keys.load(as_outcome, 1).errc(), flight_errc::broken);
  EXPECT_EQ(*keys.load(2), 2);
}

// Goal    A key, a hash or a comparison that throws harms only its own call, and nothing is stuck
//         (P9).
// Method  The n-th copy from the call on fails, for every n until the call succeeds.
struct fused_key {
  explicit fused_key(int n) : number(n) {}
  fused_key(const fused_key& other) : number(other.number) { burn(); }
  fused_key(fused_key&& other) : number(other.number) { burn(); }
  fused_key& operator=(const fused_key&) = default;
  static void burn() {
    if (fuse >= 0 && fuse-- == 0) throw std::domain_error("copy");
  }
  int number;
  static inline int fuse = -1;
};
struct fused_hash {
  std::size_t operator()(const fused_key& key) const {
    fused_key::burn();
    return static_cast<std::size_t>(key.number);
  }
};
struct fused_equal {
  bool operator()(const fused_key& a, const fused_key& b) const {
    fused_key::burn();
    return a.number == b.number;
  }
};
TEST(batcher, a_key_that_throws_harms_its_own_call) {
  bool burnt = true;
  for (int fuse = 0; burnt; ++fuse) {
    SCOPED_TRACE(fuse);
    support::manual_executor queue;
    sf::batcher<fused_key, int, fused_hash, fused_equal> keys(
        [](std::span<const fused_key> all) {
          outcomes numbers;
          for (const fused_key& key : all) numbers.emplace_back(key.number);
          return numbers;
        },
        {.executor = queue});
    const fused_key one(1);
    const fused_key two(2);
    auto neighbour = keys.start(one);
    fused_key::fuse = fuse;
    std::optional<sf::flight<int>> mine;
    try {
      mine.emplace(keys.start(two));
    } catch (const std::domain_error&) {
    }
    burnt = fused_key::fuse < 0;
    fused_key::fuse = -1;
    auto again = keys.start(two);
    queue.run_all();
    EXPECT_EQ(*neighbour.get(), 1);
    EXPECT_EQ(*again.get(), 2);
    EXPECT_EQ(mine.has_value(), !burnt);
    EXPECT_TRUE(keys.in_flight().empty());
  }
}
// Goal    The same for the move into the batch, and for a value whose move throws.
TEST(batcher, a_key_that_cannot_be_moved_harms_no_other_key) {
  bool burnt = true;
  for (int fuse = 0; burnt; ++fuse) {
    SCOPED_TRACE(fuse);
    support::manual_executor queue;
    sf::batcher<fused_key, int, fused_hash, fused_equal> keys(
        [](std::span<const fused_key> all) {
          fused_key::fuse = -1;
          outcomes numbers;
          for (const fused_key& key : all) numbers.emplace_back(key.number);
          return numbers;
        },
        {.executor = queue});
    auto one = keys.start(fused_key(1));
    auto two = keys.start(fused_key(2));
    fused_key::fuse = fuse;
    bool failed = false;
    queue.run_all();
    burnt = false;
    for (auto* f : {&one, &two}) {
      try {
        EXPECT_EQ(*f->get(), f == &one ? 1 : 2);
      } catch (const std::domain_error&) {
        EXPECT_FALSE(failed) << "more than one key was harmed";
        failed = burnt = true;
      }
    }
    fused_key::fuse = -1;
    EXPECT_TRUE(keys.in_flight().empty());
  }
}

// ---- pools, coroutines, recursion ---------------------------------------------------------------

/// Runs `body` on the pool's thread and returns once it has ended.
template <class Body>
void on_pool(sf::thread_pool& pool, Body body) {
  support::gate over;
  pool.execute(sf::task([&] {
    body();
    over.open();
  }));
  over.wait();
}

// Scenario 21
// Goal    A wait on the executor's only thread runs the whole batch in place, in the order of the
//         calls, even when its key is not the first.
TEST(batcher, a_wait_on_the_pools_only_thread_runs_the_batch) {
  tenfold load;
  sf::thread_pool pool({.max_threads = 1});
  ints keys(load, {.max_in_flight = 1, .executor = pool});
  on_pool(pool, [&] {
    auto one = keys.start(1);
    auto two = keys.start(2);
    auto three = keys.start(3);
    EXPECT_EQ(*two.get(), 20);
    EXPECT_TRUE(one.ready());
    EXPECT_EQ(*keys.load(4), 40);
    EXPECT_EQ(*three.get(), 30);
  });
  EXPECT_THAT(*load.calls, ElementsAre(ElementsAre(1, 2, 3), ElementsAre(4)));
}

// Scenario 21
// Goal    It also does so when the only place belongs to a batch that is queued in the pool behind
//         it; the other batch is not run on its stack.
TEST(batcher, a_place_that_is_queued_behind_the_waiter) {
  tenfold load;
  sf::thread_pool pool({.max_threads = 1});
  ints keys(load, {.max_batch = 1, .max_in_flight = 1, .executor = pool});
  std::optional<sf::flight<int>> one;
  std::optional<sf::flight<int>> two;
  on_pool(pool, [&] {
    one.emplace(keys.start(1));
    two.emplace(keys.start(2));
    EXPECT_EQ(*keys.load(3), 30);
    EXPECT_FALSE(one->ready());
  });
  EXPECT_EQ(*one->get(), 10);
  EXPECT_EQ(*two->get(), 20);
  EXPECT_THAT(*load.calls, ElementsAre(ElementsAre(3), ElementsAre(1), ElementsAre(2)));
}

// Scenario 21
// Goal    A waiter on the pool does not take a gathering key out of its batch; once the batch is
//         due, the sleeping waiter is woken and runs it.
// Method  The waiter has a deadline: when its alarm is armed, it has looked for work and found
//         none.
TEST(batcher, a_waiter_that_sleeps_on_the_pool_is_woken_for_its_batch) {
  tenfold load;
  support::gated_timer time;
  time.wanted = time.now() + 1h;
  sf::thread_pool pool({.max_threads = 1});
  ints keys(load, {.max_delay = 10ms, .executor = pool, .timer = &time});
  support::gate over;
  std::optional<sf::flight<int>> two;
  pool.execute(sf::task([&] {
    EXPECT_EQ(*keys.load(1, {.deadline = time.now() + 1h}), 10);
    over.open();
  }));
  time.armed.wait();  // the waiter has looked; its batch was not due
  two.emplace(keys.start(2));
  time.clock.advance(10ms);
  over.wait();
  EXPECT_EQ(*two->get(), 20);
  EXPECT_THAT(*load.calls, ElementsAre(ElementsAre(1, 2)));
}

// Goal    When a waiter on the pool has a batch that is due, while a loader on another thread holds
//         the only place, it runs the batch once that loader ends, even where no thread is left for
//         the batch's task.
// Method  The waiter has a deadline: when its timer is armed, it has looked for a place and found
//         none. The thread of the other loader waits until the waiter has its answer.
TEST(batcher, a_waiter_of_the_pool_waits_for_a_place) {
  support::gate hold;
  support::gate over;
  tenfold load;
  support::gated_timer time;
  sf::thread_pool pool({.max_threads = 2});
  ints keys(
      [&](std::span<const int> all) {
        if (all.front() == 1) hold.wait();
        return load(all);
      },
      {.max_in_flight = 1, .executor = pool, .timer = &time});
  support::gate busy;
  support::gate other;
  pool.execute(sf::task([&] {
    busy.wait();
    EXPECT_EQ(*keys.load(2, {.deadline = time.now() + 1h}), 20);
    over.open();
  }));
  busy.await_arrivals();
  pool.execute(sf::task([&] {
    EXPECT_EQ(*keys.load(1), 10);
    over.wait();
    other.open();
  }));
  hold.await_arrivals();
  busy.open();
  time.armed.wait();
  hold.open();
  other.wait();
}

// Goal    A waiter's limits hold while it waits for a place.
TEST(batcher, a_waiter_without_a_place_leaves_at_its_deadline) {
  support::gate hold;
  support::gated_timer time;
  sf::thread_pool pool({.max_threads = 2});
  ints keys(
      [&](std::span<const int> all) {
        hold.wait();
        return outcomes(all.size(), sf::outcome<int>(1));
      },
      {.max_in_flight = 1, .executor = pool, .timer = &time});
  auto one = keys.start(1);
  hold.await_arrivals();
  support::gate over;
  pool.execute(sf::task([&] {
    EXPECT_EQ(keys.load(as_outcome, 2, {.deadline = time.now() + 1s}).errc(),
              flight_errc::timed_out);
    over.open();
  }));
  time.armed.wait();
  time.clock.advance(1s);
  over.wait();
  hold.open();
  EXPECT_EQ(*one.get(), 1);
}

// Scenario 21
// Goal    load with limits also runs its batch on the pool's only thread, at once or when it is
//         due; a limit that expires meanwhile does not take away its answer.
TEST(batcher, load_with_limits_on_the_pools_only_thread) {
  support::gated_timer time;
  std::stop_source stop;
  sf::thread_pool pool({.max_threads = 1});
  const auto load = [&](std::span<const int> all) {
    time.clock.advance(1h);
    stop.request_stop();
    return outcomes(all.size(), sf::outcome<int>(1));
  };
  ints keys(load, {.executor = pool, .timer = &time});
  on_pool(pool, [&] {
    EXPECT_EQ(*keys.load(1, {.deadline = time.now() + 1s}), 1);
    stop = std::stop_source();
    EXPECT_EQ(*keys.load(2, {.stop = stop.get_token()}), 1);
    stop = std::stop_source();
    const auto both = keys.load_many(std::vector{3, 4}, {.stop = stop.get_token()});
    EXPECT_TRUE(both[0].has_value() && both[1].has_value());
  });
  ints slow(load, {.max_delay = 10ms, .executor = pool, .timer = &time.clock});
  std::jthread waking([&] {
    support::until_callers(slow, 1);
    time.clock.advance(10ms);
  });
  on_pool(pool, [&] { EXPECT_EQ(*slow.load(1, {.deadline = time.now() + 1h}), 1); });
}

// Goal    A wait with limits on a handle runs the batch where no thread of the pool is free for it,
//         and does not where one is.
TEST(batcher, a_limited_wait_on_a_handle_runs_a_batch_without_a_free_thread) {  // Scenario 49
  sf::manual_timer clock;
  for (const std::size_t threads : {1U, 2U}) {
    sf::thread_pool pool({.max_threads = threads});
    std::thread::id loaded_on;
    ints keys(
        [&](std::span<const int> all) {
          loaded_on = std::this_thread::get_id();
          return tenfold()(all);
        },
        {.max_batch = 1, .executor = pool, .timer = &clock});
    on_pool(pool, [&] {
      auto f = keys.start(2);
      EXPECT_EQ(*f.until(clock.now() + 1h).get(), 20);
      EXPECT_EQ(loaded_on == std::this_thread::get_id(), threads == 1);
    });
  }
}

// Goal    A batch whose task found its place taken by a waiter is passed over only once: the next
//         waiter runs it before its own batch.
// Method  A pool of two threads. The second one runs the task while the first one's loader holds
//         the place, and runs nothing else until the end.
TEST(batcher, a_batch_that_was_passed_over_goes_first) {
  support::gate busy;
  support::gate hold;
  support::gate task_is_over;
  support::gate over;
  tenfold load;
  sf::thread_pool pool({.max_threads = 2});
  ints keys(
      [&](std::span<const int> all) {
        if (all.front() == 2) hold.wait();
        return load(all);
      },
      {.max_batch = 1, .max_in_flight = 1, .executor = pool});
  pool.execute(sf::task([&] { busy.wait(); }));
  busy.await_arrivals();
  pool.execute(sf::task([&] {
    auto one = keys.start(1);
    EXPECT_EQ(*keys.load(2), 20);
    EXPECT_FALSE(one.ready());
    EXPECT_EQ(*keys.load(3), 30);
    EXPECT_TRUE(one.ready());
    over.open();
  }));
  hold.await_arrivals();
  pool.execute(sf::task([&] {
    task_is_over.open();
    over.wait();
  }));
  busy.open();
  task_is_over.wait();
  hold.open();
  over.wait();
  EXPECT_THAT(*load.calls, ElementsAre(ElementsAre(2), ElementsAre(1), ElementsAre(3)));
}

/// Holds a waiter on the pool between its claims of the first and the second key of its batch.
struct claim_holder final : sf::observer {
  void load_began(std::uint64_t) noexcept override { hold.wait(); }
  support::gate hold;
};

/// A waiter on the pool for key 2 gathers the batch {1, 2} and has claimed key 1; meanwhile the
/// batch's task has run and ended.
struct crossed_claim {
  crossed_claim() {
    pool.execute(sf::task([this] { busy.wait(); }));
    pool.execute(sf::task([this] {
      waiter = std::this_thread::get_id();
      one.emplace(keys.start(1));
      auto two = keys.start(2);
      got.emplace(two.get_outcome());
      over.open();
    }));
    watch.hold.await_arrivals();
    pool.execute(sf::task([this] { task_is_over.open(); }));
    busy.open();
    task_is_over.wait();
  }
  ~crossed_claim() { watch.hold.open(); }

  tenfold load;
  std::atomic<std::thread::id> waiter{};
  std::atomic<std::thread::id> loaded_on{};
  claim_holder watch;
  support::gate busy;
  support::gate task_is_over;
  support::gate over;
  std::optional<sf::flight<int>> one;
  std::optional<sf::outcome<sf::shared_result<int>>> got;
  sf::thread_pool pool{{.max_threads = 2}};
  ints keys{[this](std::span<const int> all) {
              loaded_on = std::this_thread::get_id();
              return load(all);
            },
            {.max_in_flight = 1, .executor = pool, .observer = &watch}};
};

// Goal    A batch whose task runs while a waiter has begun it is sent once, as a whole.
TEST(batcher, a_waiter_that_races_with_the_task) {
  crossed_claim c;
  EXPECT_TRUE(c.load.calls->empty());
  c.watch.hold.open();
  c.over.wait();
  EXPECT_EQ(***c.got, 20);
  EXPECT_EQ(*c.one->get(), 10);
  EXPECT_EQ(c.loaded_on.load(), c.waiter.load());
  EXPECT_THAT(*c.load.calls, ElementsAre(ElementsAre(1, 2)));
  EXPECT_EQ(*c.keys.load(3), 30) << "the place must be free";
}

// Scenario 23
// Goal    If close is called while a waiter gathers its batch, the key that has begun is answered,
//         the other is closed, and close waits for the loader.
TEST(batcher, close_while_a_waiter_gathers_its_batch) {
  crossed_claim c;
  std::jthread closing([&] {
    c.keys.close();
    EXPECT_FALSE(c.load.calls->empty());
  });
  EXPECT_TRUE(support::eventually([&] { return c.keys.stats().closed == 1; }, "key 2 is closed"));
  c.watch.hold.open();
  c.over.wait();
  EXPECT_EQ(c.got->errc(), flight_errc::closed);
  EXPECT_EQ(*c.one->get(), 10);
  EXPECT_THAT(*c.load.calls, ElementsAre(ElementsAre(1)));
}

// Goal    Coroutines with limits of their own share one batch, except those that have left.
TEST(batcher, coroutines) {
  by_hand b({.max_delay = 10ms});
  std::vector<sf::outcome<int>> got;
  const auto now = b.clock.now();
  ask(b.keys, 1, {.deadline = now + 5ms}, got);
  ask(b.keys, 2, {.deadline = now + 1h}, got);
  ask(b.keys, 3, {.deadline = now + 1h}, got);
  b.clock.advance(5ms);
  b.queue.run_all();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].errc(), flight_errc::timed_out);
  b.clock.advance(5ms);
  b.queue.run_all();
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(*got[1], 20);
  EXPECT_EQ(*got[2], 30);
  EXPECT_THAT(b.calls(), ElementsAre(ElementsAre(2, 3)));
}

// Scenario 13
// Goal    load within the loader is refused at once, and close and the destructor would wait for
//         themselves; start is allowed.
TEST(batcher, recursion) {
  support::manual_executor queue;
  std::optional<ints> keys;
  std::optional<sf::flight<int>> later;
  keys.emplace(
      [&](std::span<const int> all) {
        if (all.front() == 1) {
          EXPECT_EQ(keys->load(as_outcome, 1).errc(), flight_errc::recursive);
          EXPECT_EQ(keys->load(as_outcome, 2).errc(), flight_errc::recursive);
          EXPECT_EQ(keys->load_many(std::vector{2})[0].errc(), flight_errc::recursive);
          EXPECT_THROW(keys->close(), sf::flight_error);
          later.emplace(keys->start(2));
          auto own = keys->start(1);
          EXPECT_EQ(own.get_outcome().errc(), flight_errc::recursive);
        }
        return outcomes(all.size(), sf::outcome<int>(3));
      },
      sf::batcher_options{.executor = queue});
  auto one = keys->start(1);
  queue.run_all();
  EXPECT_EQ(*one.get(), 3);
  EXPECT_EQ(*later->get(), 3);
  EXPECT_EQ(keys->stats().recursive, 4u);
}

// Scenario 13
// Goal    Two batchers, with one place each, load from each other in their loaders, on an executor
//         whose threads cannot run the other's batch. The wait that closes the cycle, whichever it
//         is, is refused, although nothing leads one of its keys, which only waits for the place.
TEST(batcher, a_cycle_through_another_batcher) {
  support::thread_per_task threads;
  std::optional<ints> a;
  std::optional<ints> b;
  std::atomic<int> refused{0};
  const auto ask = [&](ints& other, int key) {
    const auto got = other.load(as_outcome, key);
    if (got.errc() == flight_errc::recursive) {
      ++refused;
    } else {
      EXPECT_TRUE(got.has_value());
    }
  };
  a.emplace(
      [&](std::span<const int> all) {
        if (all.front() == 1) ask(*b, 10);
        return outcomes(all.size(), sf::outcome<int>(4));
      },
      sf::batcher_options{.max_in_flight = 1, .executor = threads});
  b.emplace(
      [&](std::span<const int> all) {
        ask(*a, 2);
        return outcomes(all.size(), sf::outcome<int>(5));
      },
      sf::batcher_options{.max_in_flight = 1, .executor = threads});
  EXPECT_EQ(*a->load(1), 4);
  EXPECT_EQ(*a->load(2), 4) << "the place and the key must be free";
  b->close();
  EXPECT_EQ(refused, 1);
}

// ---- close and destruction ----------------------------------------------------------------------

/// Waits for key 1 of a batch of two, on the thread that ends it, and continues there.
template <class Then>
support::owned then_continue(ints& keys, Then then) {
  auto one = keys.start(1);
  auto two = keys.start(2);
  const auto got = co_await one.as_outcome();
  EXPECT_EQ(got.errc(), flight_errc::closed);
  then(two);
}

// Scenario 23
// Goal    close and the destructor resume no waiter before every key has ended: a waiter that runs
//         on their thread may close again, or wait with limits for another key of its batch.
TEST(batcher, close_with_waiters_on_its_own_thread) {
  for (const bool destroys : {false, true}) {
    for (const bool closes : {false, true}) {
      sf::manual_timer clock;
      auto keys = std::make_unique<ints>(
          tenfold(),
          sf::batcher_options{.max_delay = 1s, .executor = sf::inline_executor, .timer = &clock});
      int resumed = 0;
      auto waits = then_continue(*keys, [&](sf::flight<int>& two) {
        if (closes && !destroys) keys->close();
        std::stop_source never;
        const auto got = two.until(clock.now() + 1h, never.get_token()).as_outcome().get();
        EXPECT_EQ(got.errc(), flight_errc::closed);
        ++resumed;
      });
      if (destroys) {
        keys.reset();
      } else {
        keys->close();
      }
      EXPECT_EQ(resumed, 1);
    }
  }
}

// Goal    A waiter that close resumes may destroy the batcher.
TEST(batcher, close_with_a_waiter_that_destroys_the_batcher) {
  sf::manual_timer clock;
  auto keys = std::make_unique<ints>(
      tenfold(),
      sf::batcher_options{.max_delay = 1s, .executor = sf::inline_executor, .timer = &clock});
  auto waits = then_continue(*keys, [&](sf::flight<int>& two) {
    keys.reset();
    EXPECT_EQ(two.get_outcome().errc(), flight_errc::closed);
  });
  keys->close();
  EXPECT_EQ(keys, nullptr);
}

// Scenario 23. P10.
// Goal    close ends keys that are gathered, or due but not begun, as closed; nothing is loaded,
//         later calls are refused, and a task that runs later does nothing, even after the
//         batcher's end.
TEST(batcher, close_ends_what_has_not_begun) {
  tenfold load;
  support::manual_executor queue;
  sf::manual_timer clock;
  {
    ints keys(load, {.max_batch = 2,
                     .max_delay = 10ms,
                     .max_in_flight = 1,
                     .executor = queue,
                     .timer = &clock});
    std::vector<sf::flight<int>> all;
    for (int key = 0; key < 5; ++key) all.push_back(keys.start(key));
    EXPECT_EQ(queue.size(), 1u);
    keys.close();
    for (auto& f : all) EXPECT_EQ(f.get_outcome().errc(), flight_errc::closed);
    EXPECT_EQ(keys.load(as_outcome, 9).errc(), flight_errc::closed);
    EXPECT_EQ(keys.stats().closed, 6u);
    keys.close();
  }
  clock.advance(1h);
  EXPECT_EQ(queue.run_all(), 1u);
  EXPECT_TRUE(load.calls->empty());
}

// Scenario 23. P10.
// Goal    The destructor waits for the loader; its callers get the answers, those queued behind it
//         `closed`.
TEST(batcher, the_destructor_waits_for_the_loader) {
  support::gate hold;
  support::thread_per_task threads;
  std::atomic<bool> ended{false};
  auto keys = std::make_unique<ints>(
      [&](std::span<const int> all) {
        hold.wait();
        ended = true;
        return outcomes(all.size(), sf::outcome<int>(1));
      },
      sf::batcher_options{.max_in_flight = 1, .executor = threads});
  auto inside = keys->start(1);
  hold.await_arrivals();
  auto behind = keys->start(2);
  std::jthread closing([&] {
    keys.reset();
    EXPECT_TRUE(ended);
  });
  EXPECT_EQ(behind.get_outcome().errc(), flight_errc::closed);
  hold.open();
  EXPECT_EQ(*inside.get(), 1);
}

// Goal    The loader's captures are destroyed with the batcher, even while a task of it is still
//         queued.
TEST(batcher, the_loader_is_destroyed_with_the_batcher) {
  support::manual_executor queue;
  auto held = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = held;
  std::optional<sf::flight<int>> unread;
  {
    ints keys([h = std::move(held)](
                  std::span<const int> all) { return outcomes(all.size(), sf::outcome<int>(*h)); },
              {.executor = queue});
    unread.emplace(keys.start(1));
  }
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(unread->get_outcome().errc(), flight_errc::closed);
  queue.run_all();
}

// ---- bad input ----------------------------------------------------------------------------------

template <class Make>
std::string refusal_of(Make make) {
  try {
    make();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "the options were accepted";
}

// Goal    Options that make no sense are refused with a message that names the class, the value and
//         the reason.
TEST(batcher, bad_options) {
  const auto made = [](sf::batcher_options options) {
    return refusal_of([&] { const ints keys(tenfold(), options); });
  };
  EXPECT_THAT(made({.max_batch = 0}), HasSubstr("batcher: max_batch is 0"));
  EXPECT_THAT(made({.max_in_flight = 0}), HasSubstr("batcher: max_in_flight is 0"));
  EXPECT_THAT(made({.max_delay = -5ns}), HasSubstr("batcher: max_delay is -5 ns"));
  EXPECT_THAT(refusal_of([] { const ints keys(nullptr); }),
              HasSubstr("batcher: load_many is empty"));
}

// Goal    No load of a batch runs within the fire of a timer, not even on inline_executor.
TEST(batcher, no_load_runs_within_a_fire) {
  support::bare_timer time;
  std::atomic<bool> within{false};
  ints keys(
      [&](std::span<const int> all) {
        if (time.fires_here()) within = true;
        return outcomes(all.size(), 5);
      },
      {.max_delay = 10ms, .executor = sf::inline_executor, .timer = &time});
  auto f = keys.start(1);
  EXPECT_FALSE(f.ready());
  time.fire_all();
  EXPECT_EQ(*f.get(), 5);
  EXPECT_FALSE(within);
}

// Goal    A batch whose executor drops it when its delay is over ends on another thread, as broken:
//         the destructor of a load may wait for something that waits for the fire.
TEST(batcher, a_batch_dropped_in_the_alarm_ends_elsewhere) {
  sf::manual_timer time;
  std::atomic<std::thread::id> where;
  ints keys(tenfold(),
            {.max_delay = 10ms, .executor = support::dropping_executor(), .timer = &time});
  auto f = keys.start(1);
  f.on(sf::inline_executor).on_ready([&](const auto& o) {
    EXPECT_EQ(o.errc(), flight_errc::broken);
    where = std::this_thread::get_id();
  });
  time.advance(10ms);
  support::eventually([&] { return where.load() != std::thread::id(); }, "the end of the batch");
  EXPECT_NE(where.load(), std::this_thread::get_id());
}

// Goal    observe() passes the values that a metrics endpoint reads.
TEST(batcher, observe) {
  struct names final : sf::metric_visitor {
    void visit(std::string_view name, sf::metric_kind, double value) override {
      if (value > 0) seen += std::string(name) + " ";
    }
    std::string seen;
  } visitor;
  by_hand b;
  auto f = b.keys.start(1);
  b.queue.run_all();
  (void)f.get();
  static_cast<const sf::observable&>(b.keys).observe(visitor);
  EXPECT_EQ(visitor.seen, "calls keys batches delayed largest ");
}

}  // namespace
