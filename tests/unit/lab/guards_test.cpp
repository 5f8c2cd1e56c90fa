// SPDX-License-Identifier: Apache-2.0
#include "lab/backend/guards.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <thread>
#include <vector>

#include "lab/backend/bounded_backend.hpp"
#include "lab/backend/breaker_backend.hpp"
#include "lab/backend/retrying_backend.hpp"
#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "unit/lab/fake_backend.hpp"
#include "unit/lab/forever.hpp"
#include <singleflight/core/manual_timer.hpp>

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;
using support::eventually;
using testing::ElementsAre;

/// A clock that jumps to each time for which it is armed, so that a test with one thread need not
/// wait.
class leaping_timer final : public timer {
 public:
  time_point now() const noexcept override { return now_; }
  void arm(timer_node& node, time_point when) override {
    now_ = std::max(now_, when);
    node.fire(node);
  }
  void cancel(timer_node& /*node*/) noexcept override {}

 private:
  time_point now_{1h};
};

// Returns the kind of the failure, or an empty string.
std::string outcome_of(backend& asked, const std::string& key, const patience& until = forever) {
  try {
    EXPECT_EQ(asked.load(key, until).text, key);
  } catch (const backend_error& error) {
    return error.kind();
  }
  return {};
}

// Fails `failures` times with "odd", then answers.
struct failing_at_first {
  explicit failing_at_first(int times) : failures(times) {}
  int failures;
  int loads = 0;
  fake_backend asked{[this](const std::string& key) {
    if (++loads <= failures) throw backend_error("odd", std::to_string(loads));
    return row{key, 1};
  }};
};

// ---- retries ------------------------------------------------------------------------------------

TEST(retrying_backend, tries_until_it_has_an_answer) {
  leaping_timer clock;
  failing_at_first works(2);
  retrying_backend retrying(works.asked, 5, clock);
  const auto begin = clock.now();
  EXPECT_EQ(outcome_of(retrying, "k"), "");
  EXPECT_EQ(works.loads, 3);
  EXPECT_EQ(retrying.retries(), 2U);
  EXPECT_LE(clock.now() - begin, 30ms);
  EXPECT_EQ(outcome_of(retrying, "k"), "");
  EXPECT_EQ(retrying.retries(), 2U) << "a load that succeeds is not retried";
}

TEST(retrying_backend, gives_up_after_so_many_attempts_with_the_last_failure) {
  leaping_timer clock;
  failing_at_first broken(1000);
  retrying_backend retrying(broken.asked, 3, clock);
  try {
    retrying.load("k", forever);
    ADD_FAILURE() << "it did not fail";
  } catch (const backend_error& error) {
    EXPECT_STREQ(error.what(), "3");
  }
  EXPECT_EQ(broken.loads, 3);
  EXPECT_EQ(retrying.retries(), 2U);
  retrying_backend once(broken.asked, 1, clock);
  EXPECT_EQ(outcome_of(once, "k"), "odd");
  EXPECT_EQ(broken.loads, 4);
}

TEST(retrying_backend, what_did_not_reach_the_backend_is_not_retried) {
  leaping_timer clock;
  int loads = 0;
  fake_backend asked([&](const std::string& key) -> row {
    ++loads;
    if (key == "queue") throw no_connection();
    throw load_rejected();
  });
  retrying_backend retrying(asked, 3, clock);
  EXPECT_THROW(retrying.load("queue", forever), no_connection);
  EXPECT_THROW(retrying.load("open", forever), load_rejected);
  EXPECT_EQ(loads, 2);
  EXPECT_EQ(retrying.retries(), 0U);
}

// Goal    No delay outlasts the patience of the callers, which is evaluated after each attempt,
//         because it may have grown.
TEST(retrying_backend, no_delay_outlasts_the_patience) {
  leaping_timer clock;
  failing_at_first broken(1000);
  retrying_backend retrying(broken.asked, 100, clock);
  const auto begin = clock.now();
  EXPECT_EQ(outcome_of(retrying, "k", [&] { return begin; }), "odd");
  EXPECT_EQ(broken.loads, 1);
  EXPECT_EQ(clock.now(), begin);
  EXPECT_EQ(outcome_of(retrying, "k", [&] { return begin + 50ms; }), "odd");
  EXPECT_LT(clock.now(), begin + 50ms);

  broken.loads = 0;
  const auto grows = [&] { return broken.loads < 7 ? steady_time::max() : clock.now(); };
  EXPECT_EQ(outcome_of(retrying, "k", grows), "odd");
  EXPECT_EQ(broken.loads, 7);
}

// Goal    An interrupt ends a delay at once.
// Method  The clock does not advance, so nothing else can end the delay.
TEST(retrying_backend, interrupt_ends_a_delay) {
  manual_timer clock;
  std::atomic<int> loads = 0;
  fake_backend broken([&](const std::string&) -> row {
    ++loads;
    throw backend_error("odd", "odd");
  });
  retrying_backend retrying(broken, 100, clock);
  std::string kind;
  std::jthread loading([&] { kind = outcome_of(retrying, "k"); });
  eventually([&] { return loads > 0; }, "the first attempt");
  retrying.interrupt();
  loading.join();
  EXPECT_EQ(kind, "interrupted");
  EXPECT_TRUE(broken.interrupted);
  const int before = loads;
  EXPECT_LT(before, 100);
  EXPECT_EQ(outcome_of(retrying, "k"), "interrupted");
  EXPECT_EQ(loads, before);
}

// ---- the breaker --------------------------------------------------------------------------------

// Goal    The breaker opens at its share of failures, rejects loads without the backend, and closes
//         when the backend works again.
TEST(breaker_backend, opens_rejects_and_closes) {
  manual_timer clock;
  failing_at_first broken(20);
  breaker_backend guarded(broken.asked, 0.5, clock);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(outcome_of(guarded, "k"), "odd");
  EXPECT_EQ(guarded.opened(), 1U);
  for (int i = 0; i < 7; ++i) EXPECT_THROW(guarded.load("k", forever), load_rejected);
  EXPECT_EQ(outcome_of(guarded, "k"), "rejected");
  EXPECT_EQ(guarded.rejected(), 8U);
  EXPECT_EQ(broken.loads, 20);
  clock.advance(5s);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(outcome_of(guarded, "k"), "");
  EXPECT_EQ(guarded.rejected(), 8U);
  EXPECT_EQ(guarded.opened(), 1U);
}

TEST(breaker_backend, its_share_of_failures) {
  manual_timer clock;
  int loads = 0;
  fake_backend asked([&](const std::string& key) {
    if (++loads % 5 == 0) throw backend_error("odd", "odd");
    return row{key, 1};
  });
  breaker_backend at_half(asked, 0.5, clock);
  breaker_backend at_a_fifth(asked, 0.2, clock);
  for (int i = 0; i < 100; ++i) outcome_of(at_half, "k");
  EXPECT_EQ(at_half.opened(), 0U);
  for (int i = 0; i < 100; ++i) outcome_of(at_a_fifth, "k");
  EXPECT_EQ(at_a_fifth.opened(), 1U);
}

// Goal    A load that did not reach the backend is neither a success nor a failure of it.
TEST(breaker_backend, what_did_not_reach_the_backend_counts_neither_way) {
  manual_timer clock;
  bool reached = false;
  fake_backend asked([&](const std::string&) -> row {
    if (!reached) throw no_connection("in person");
    throw backend_error("odd", "odd");
  });
  breaker_backend guarded(asked, 0.5, clock);
  for (int i = 0; i < 200; ++i) {
    try {
      guarded.load("k", forever);
      ADD_FAILURE() << "it did not fail";
    } catch (const no_connection& error) {
      EXPECT_STREQ(error.what(), "in person");
    }
  }
  EXPECT_EQ(guarded.opened(), 0U);
  reached = true;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(outcome_of(guarded, "k"), "odd");
  EXPECT_EQ(guarded.opened(), 1U);
}

// ---- the bound ----------------------------------------------------------------------------------

/// A bound of one load in front of a backend that records the order of its keys and its most
/// concurrent loads, and blocks the loads of "held".
struct one_at_a_time {
  manual_timer clock;
  support::gate gate;
  std::mutex mutex;  // guards order
  std::vector<std::string> order;
  std::atomic<int> now = 0;
  std::atomic<int> most = 0;
  fake_backend asked{[this](const std::string& key) {
    most = std::max(most.load(), ++now);
    {
      const std::scoped_lock lock(mutex);
      order.push_back(key);
    }
    if (key == "held") gate.wait();
    --now;
    return row{key, 1};
  }};
  bounded_backend bounded{asked, 1, clock};
  std::vector<std::jthread> threads;

  void hold() {
    threads.emplace_back([this] { EXPECT_EQ(outcome_of(bounded, "held"), ""); });
    gate.await_arrivals();
  }
  // Starts one more load, which has to wait.
  void queue(const std::string& key, std::string& kind, const patience& until = forever) {
    const auto before = bounded.waiting_approx();
    threads.emplace_back([this, key, &kind, until] { kind = outcome_of(bounded, key, until); });
    eventually([&] { return bounded.waiting_approx() == before + 1; }, "the queue");
  }
};

TEST(bounded_backend, one_at_a_time_in_order) {
  one_at_a_time it;
  EXPECT_EQ(outcome_of(it.bounded, "free"), "");
  EXPECT_EQ(it.bounded.queue().queued, 0U);
  it.hold();
  std::vector<std::string> kinds(3);
  it.queue("a", kinds[0]);
  it.queue("b", kinds[1]);
  it.queue("c", kinds[2]);
  it.clock.advance(4ms);
  it.gate.open();
  it.threads.clear();
  EXPECT_THAT(it.order, ElementsAre("free", "held", "a", "b", "c"));
  EXPECT_EQ(it.most, 1);
  EXPECT_THAT(kinds, ElementsAre("", "", ""));
  const auto queue = it.bounded.queue();
  EXPECT_EQ(queue.queued, 3U);
  EXPECT_EQ(queue.gave_up, 0U);
  EXPECT_EQ(queue.waited, 12ms);
  EXPECT_EQ(queue.longest, 4ms);
}

TEST(bounded_backend, gives_up_when_no_caller_waits) {
  one_at_a_time it;
  it.hold();
  std::string kind;
  const auto end = it.clock.now() + 10ms;
  it.queue("a", kind, [end] { return end; });
  it.clock.advance(9ms);
  EXPECT_EQ(it.bounded.waiting_approx(), 1U);
  it.clock.advance(1ms);
  it.threads.back().join();
  EXPECT_EQ(kind, "timed_out");
  EXPECT_THROW(it.bounded.load("b", [end] { return end; }), no_connection)
      << "its deadline has expired";
  it.gate.open();
  it.threads.clear();
  EXPECT_THAT(it.order, ElementsAre("held"));
  EXPECT_EQ(it.bounded.queue().queued, 2U);
  EXPECT_EQ(it.bounded.queue().gave_up, 2U);
  EXPECT_EQ(it.bounded.queue().longest, 10ms);
}

// Goal    A joiner with a later deadline keeps the load in the queue, in its place.
TEST(bounded_backend, patience_that_grows_keeps_the_place) {
  one_at_a_time it;
  it.hold();
  std::string first;
  std::string second;
  const auto begin = it.clock.now();
  std::atomic<int> patience_ms = 10;
  it.queue("a", first, [&] { return begin + std::chrono::milliseconds(patience_ms); });
  it.queue("b", second);
  patience_ms = 20;
  it.clock.advance(10ms);
  patience_ms = 30;
  it.clock.advance(10ms);
  EXPECT_EQ(it.bounded.waiting_approx(), 2U);
  it.gate.open();
  it.threads.clear();
  EXPECT_THAT(it.order, ElementsAre("held", "a", "b"));
  EXPECT_EQ(first + second, "");
}

TEST(bounded_backend, interrupt_ends_the_wait) {
  one_at_a_time it;
  it.hold();
  std::string kind;
  it.queue("a", kind);
  it.bounded.interrupt();
  it.threads.back().join();
  EXPECT_EQ(kind, "interrupted");
  EXPECT_TRUE(it.asked.interrupted);
  EXPECT_EQ(outcome_of(it.bounded, "b"), "interrupted");
  EXPECT_EQ(it.bounded.queue().queued, 0U);
  it.gate.open();
}

// ---- together -----------------------------------------------------------------------------------

TEST(guarded_backend, without_guards_loads_pass_unchanged) {
  failing_at_first broken(1);
  guarded_backend guarded(broken.asked, {});
  EXPECT_EQ(outcome_of(guarded, "k"), "odd");
  EXPECT_EQ(outcome_of(guarded, "k"), "");
  EXPECT_EQ(guarded.counts().asked, 2U);
  EXPECT_EQ(guarded.name(), "fake");
  guarded.interrupt();
  EXPECT_TRUE(broken.asked.interrupted);
}

// Goal    Each attempt counts for the breaker, and an open breaker ends the retries.
TEST(guarded_backend, retries_pass_through_the_breaker) {
  leaping_timer clock;
  failing_at_first broken(1000);
  guarded_backend guarded(broken.asked, {.attempts = 8, .error_rate = 0.5, .max_loads = 4}, clock);
  EXPECT_EQ(outcome_of(guarded, "k"), "odd");
  EXPECT_EQ(outcome_of(guarded, "k"), "odd");
  EXPECT_EQ(outcome_of(guarded, "k"), "rejected");
  EXPECT_EQ(broken.loads, 20);
  const auto counts = guarded.counts();
  EXPECT_EQ(counts.asked, 3U);
  EXPECT_EQ(counts.retries, 7U + 7U + 4U);
  EXPECT_EQ(counts.rejected, 1U);
  EXPECT_EQ(counts.opened, 1U);
  EXPECT_EQ(counts.queued, 0U);
}

// Goal    A load that an open breaker rejects does not wait for its turn first.
// Method  The load that opens the breaker passes its turn to a load that the breaker admitted
//         before
//         and that the backend then blocks.
TEST(guarded_backend, rejects_before_the_queue) {
  manual_timer clock;
  support::gate fails;
  support::gate held;
  fake_backend asked([&](const std::string& key) {
    if (key == "held") {
      held.wait();
      return row{key, 1};
    }
    if (key == "last") fails.wait();
    throw backend_error("odd", "odd");
  });
  guarded_backend guarded(asked, {.attempts = {}, .error_rate = 0.5, .max_loads = 1}, clock);
  for (int i = 0; i < 19; ++i) EXPECT_EQ(outcome_of(guarded, "k"), "odd");
  std::jthread last([&] { EXPECT_EQ(outcome_of(guarded, "last"), "odd"); });
  fails.await_arrivals();
  std::atomic<bool> queues = false;
  std::jthread holding([&] {
    EXPECT_EQ(outcome_of(guarded, "held",
                         [&] {
                           queues = true;  // called only for a load that has to wait
                           return steady_time::max();
                         }),
              "");
  });
  eventually([&] { return queues.load(); }, "the queue");
  fails.open();
  last.join();
  held.await_arrivals();
  EXPECT_EQ(guarded.counts().opened, 1U);
  EXPECT_EQ(outcome_of(guarded, "k", [&] { return clock.now(); }), "rejected");
  held.open();
}

TEST(guard_settings, in_words) {
  EXPECT_EQ(guard_settings{}.describe(), "");
  EXPECT_FALSE(guard_settings{}.any());
  EXPECT_EQ(
      (guard_settings{.attempts = 1, .error_rate = 0.125, .max_loads = 2000}.describe()),
      "at most 1 attempt per load; a breaker that opens at 12.5 % failures; at most 2,000 loads "
      "at a time");
}

}  // namespace
}  // namespace singleflight::lab
