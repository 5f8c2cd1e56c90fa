// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <chrono>
#include <coroutine>
#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/sync/semaphore.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::as_outcome;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::inline_executor;
using singleflight::limits;
using singleflight::manual_timer;
using singleflight::outcome;
using singleflight::pending_permit;
using singleflight::permit;
using singleflight::semaphore;

bool until_waiters(const semaphore& s, std::size_t count) {
  return support::eventually([&] { return s.waiters_approx() == count; },
                             "the waiters in the queue");
}

template <class Fn>
std::string refusal(Fn what) {
  try {
    what();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "the call was not refused";
}

/// The code of the flight_error that `what` throws.
template <class Fn>
std::optional<flight_errc> error_of(Fn what) {
  try {
    what();
  } catch (const flight_error& error) {
    return error.errc();
  }
  return std::nullopt;
}

/// A coroutine that waits for `n` permits and records its number once it holds them; it holds them
/// until `keep` is cleared.
support::owned take(semaphore& from, std::ptrdiff_t n, int number, std::vector<int>& order,
                    std::deque<permit>* keep = nullptr) {
  auto place = from.start_acquire(n);
  permit mine = co_await place;
  order.push_back(number);
  if (keep != nullptr) keep->push_back(std::move(mine));
}

// ---- alone --------------------------------------------------------------------------------------

// Goal    Acquired permits are unavailable until the permit is destroyed; available ones are
//         granted at once.
TEST(semaphore, counts_what_is_held) {
  semaphore all(5);
  EXPECT_EQ(all.available(), 5);
  {
    const permit two = all.acquire(2);
    EXPECT_EQ(two.size(), 2);
    EXPECT_EQ(all.available(), 3);
    const permit one = all.acquire();
    EXPECT_EQ(all.available(), 2);
  }
  EXPECT_EQ(all.available(), 5);
  EXPECT_EQ(all.capacity(), 5);
}

// Goal    try_acquire never waits, even for more than the capacity.
TEST(semaphore, try_acquire_never_waits) {
  semaphore all(2);
  permit a = all.try_acquire(1);
  EXPECT_TRUE(a);
  EXPECT_FALSE(all.try_acquire(2));
  permit b = all.try_acquire(1);
  EXPECT_TRUE(b);
  EXPECT_FALSE(all.try_acquire(1));
  EXPECT_FALSE(all.try_acquire(3));
  a.release();
  EXPECT_TRUE(all.try_acquire(1));
}

// Scenario 30.
// Goal    try_acquire fails while a waiter is queued, although enough permits are available.
TEST(semaphore, try_acquire_does_not_overtake) {
  semaphore all(3, {.executor = inline_executor});
  permit one = all.acquire(1);
  auto large = all.start_acquire(3);
  EXPECT_EQ(all.available(), 2);
  EXPECT_FALSE(all.try_acquire(1));
  one.release();
  EXPECT_TRUE(large.ready());
  EXPECT_EQ(large.get().size(), 3);
  EXPECT_TRUE(all.try_acquire(1));
}

// ---- permits ------------------------------------------------------------------------------------

// Goal    A permit can be split, merged and released in parts; what it holds is never lost or
//         doubled.
TEST(permit, splits_merges_and_releases_early) {
  semaphore all(10);
  permit a = all.acquire(6);
  permit b = a.split(2);
  EXPECT_EQ(a.size(), 4);
  EXPECT_EQ(b.size(), 2);
  EXPECT_EQ(all.available(), 4);
  a.release(1);
  EXPECT_EQ(a.size(), 3);
  EXPECT_EQ(all.available(), 5);
  b.merge(std::move(a));
  EXPECT_EQ(b.size(), 5);
  EXPECT_FALSE(a);
  b.release();
  EXPECT_FALSE(b);
  b.release();  // no effect
  EXPECT_EQ(all.available(), 10);
}

// Goal    Splitting off everything leaves an empty permit; merging an empty one changes nothing.
TEST(permit, may_be_empty) {
  semaphore all(2);
  permit a = all.acquire(2);
  permit b = a.split(2);
  EXPECT_FALSE(a);
  a.merge(std::move(b));
  EXPECT_EQ(a.size(), 2);
  a.merge(permit());
  EXPECT_EQ(a.size(), 2);
}

// Goal    Assigning to a permit returns what it held.
TEST(permit, assignment_returns_what_was_held) {
  semaphore all(3);
  permit a = all.acquire(1);
  a = all.acquire(2);
  EXPECT_EQ(all.available(), 1);
  a = permit();
  EXPECT_EQ(all.available(), 3);
}

// Scenario 30.
// Goal    An over-release throws and changes nothing.
TEST(permit, refuses_more_than_it_holds) {
  semaphore all(3);
  permit a = all.acquire(2);
  EXPECT_EQ(refusal([&] { a.release(3); }), "permit: cannot release 3 of 2 held");
  EXPECT_EQ(refusal([&] { a.release(0); }), "permit: cannot release 0 of 2 held");
  EXPECT_EQ(refusal([&] { a.release(-1); }), "permit: cannot release -1 of 2 held");
  EXPECT_EQ(refusal([&] { (void)a.split(3); }), "permit: cannot split 3 of 2 held");
  EXPECT_EQ(refusal([&] { permit().release(1); }), "permit: cannot release 1 of 0 held");
  EXPECT_EQ(a.size(), 2);
  EXPECT_EQ(all.available(), 1);
  semaphore other(1);
  permit foreign = other.acquire();
  EXPECT_EQ(refusal([&] { a.merge(std::move(foreign)); }),
            "permit: two permits of different semaphores cannot be merged");
  EXPECT_EQ(foreign.size(), 1);
}

// ---- bad input ----------------------------------------------------------------------------------

// Scenario 30.
// Goal    A request that can never be served is refused at once, with the value and the reason.
TEST(semaphore, refuses_what_makes_no_sense) {
  constexpr int most_bits = sizeof(std::ptrdiff_t) > 4 ? 60 : 28;
  constexpr std::ptrdiff_t most = std::ptrdiff_t{1} << most_bits;
  const auto no_capacity = [](std::ptrdiff_t n) {
    return "semaphore: a capacity of " + std::to_string(n) +
           " makes no sense; it must be at least 1 (and at most 2^" + std::to_string(most_bits) +
           ")";
  };
  EXPECT_EQ(refusal([] { semaphore none(0); }), no_capacity(0));
  EXPECT_EQ(refusal([] { semaphore negative(-4); }), no_capacity(-4));
  EXPECT_EQ(refusal([] { semaphore large(most + 1); }), no_capacity(most + 1));
  semaphore largest(most);
  EXPECT_EQ(largest.try_acquire(most).size(), most);
  semaphore all(3);
  const permit one = all.acquire();  // a bad weight is refused even if the call would queue
  const std::string weight = "semaphore: a weight of 0 makes no sense; it must be at least 1";
  EXPECT_EQ(refusal([&] { (void)all.acquire(0); }), weight);
  EXPECT_EQ(refusal([&] { (void)all.start_acquire(0); }), weight);
  EXPECT_EQ(refusal([&] { (void)all.try_acquire(0); }), weight);
  EXPECT_EQ(refusal([&] { (void)all.acquire(as_outcome, -7); }),
            "semaphore: a weight of -7 makes no sense; it must be at least 1");
  const std::string heavy =
      "semaphore: a weight of 4 is over the capacity of 3, and would never be served";
  EXPECT_EQ(refusal([&] { (void)all.acquire(4); }), heavy);
  EXPECT_EQ(refusal([&] { (void)all.start_acquire(4); }), heavy);
  EXPECT_EQ(refusal([&] { all.resize(0); }), no_capacity(0));
  EXPECT_EQ(all.available(), 2);
  EXPECT_EQ(all.waiters_approx(), 0U);
}

// ---- first in, first out ------------------------------------------------------------------------

// Scenario 30.
// Goal    A large request is served before small ones that came after it.
// Method  Small requests that would fit at any time queue behind it.
TEST(semaphore, a_large_request_is_not_starved) {
  semaphore all(4, {.executor = inline_executor});
  std::vector<int> order;
  permit held = all.acquire(2);
  std::vector<support::owned> waiting;
  waiting.push_back(take(all, 4, 0, order));
  for (int i = 1; i <= 3; ++i) waiting.push_back(take(all, 1, i, order));
  EXPECT_EQ(all.available(), 2);
  EXPECT_TRUE(order.empty());
  held.release(1);
  EXPECT_TRUE(order.empty());
  held.release(1);
  EXPECT_EQ(order, (std::vector{0, 1, 2, 3}));
}

// Goal    One release serves as many waiters as fit, in their order.
TEST(semaphore, a_release_serves_all_that_fit) {
  semaphore all(10, {.executor = inline_executor});
  std::vector<int> order;
  std::deque<permit> kept;
  permit held = all.acquire(10);
  std::vector<support::owned> waiting;
  for (int i = 0; i < 5; ++i) waiting.push_back(take(all, 3, i, order, &kept));
  held.release();
  EXPECT_EQ(order, (std::vector{0, 1, 2}));
  EXPECT_EQ(all.available(), 1);
  EXPECT_EQ(all.waiters_approx(), 2U);
  std::deque<permit>(std::move(kept)).clear();  // resumed coroutines keep their permits in `kept`
  EXPECT_EQ(order, (std::vector{0, 1, 2, 3, 4}));
}

// Goal    More waiters than one critical section notifies are all served, in their order.
TEST(semaphore, a_release_serves_thousands) {
  constexpr int waiters = 3000;
  semaphore all(waiters, {.executor = inline_executor});
  std::vector<int> order;
  std::deque<permit> kept;
  permit held = all.acquire(waiters);
  std::vector<support::owned> waiting;
  for (int i = 0; i < waiters; ++i) waiting.push_back(take(all, 1, i, order, &kept));
  EXPECT_TRUE(order.empty());
  held.release();
  ASSERT_EQ(order.size(), static_cast<std::size_t>(waiters));
  for (int i = 0; i < waiters; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

// Goal    Threads and coroutines are served in the order in which they queued.
TEST(semaphore, threads_and_coroutines_queue_together) {
  semaphore all(1, {.executor = inline_executor});
  std::vector<int> order;  // guarded by the one permit
  permit held = all.acquire();
  std::vector<std::thread> threads;
  std::vector<support::owned> coroutines;
  for (int i = 0; i < 6; ++i) {
    if (i % 2 == 0) {
      threads.emplace_back([&all, &order, i] {
        const permit mine = all.acquire();
        order.push_back(i);
      });
    } else {
      coroutines.push_back(take(all, 1, i, order));
    }
    ASSERT_TRUE(until_waiters(all, static_cast<std::size_t>(i) + 1));
  }
  held.release();
  for (std::thread& t : threads) t.join();
  // The last coroutine resumes where the previous thread returned its permit.
  EXPECT_EQ(order, (std::vector{0, 1, 2, 3, 4, 5}));
}

// ---- limits -------------------------------------------------------------------------------------

// Goal    Limits that have expired already end the call at once, although permits are available.
TEST(semaphore, expired_limits_acquire_nothing) {
  manual_timer time;
  semaphore all(1, {.timer = &time});
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(error_of([&] { (void)all.acquire(1, {.deadline = time.now()}); }),
            flight_errc::timed_out);
  EXPECT_EQ(error_of([&] { (void)all.acquire(1, {.stop = stop.get_token()}); }),
            flight_errc::cancelled);
  EXPECT_EQ(all.available(), 1);
  EXPECT_EQ(all.stats().timed_out, 1U);
  EXPECT_EQ(all.stats().cancelled, 1U);
  EXPECT_EQ(all.stats().queued, 0U);
}

// Scenario 30.
// Goal    A blocked thread leaves at its deadline, and the waiters behind it move up.
// Method  It requests too many permits, so that it alone blocks the small request.
TEST(semaphore, a_front_thread_that_times_out_lets_others_go) {
  manual_timer time;
  semaphore all(3, {.executor = inline_executor, .timer = &time});
  std::vector<int> order;
  const permit held = all.acquire(2);
  std::thread front([&] {
    const auto got = all.acquire(as_outcome, 3, {.deadline = time.now() + 5s});
    EXPECT_EQ(got.errc(), flight_errc::timed_out);
  });
  ASSERT_TRUE(until_waiters(all, 1));
  const auto behind = take(all, 1, 1, order);
  EXPECT_TRUE(order.empty());
  time.advance(5s);
  front.join();
  EXPECT_EQ(order, std::vector{1});
  EXPECT_EQ(all.available(), 1);
  EXPECT_EQ(all.stats().timed_out, 1U);
}

// Goal    The same on the steady clock, where the kernel times the sleep.
TEST(semaphore, a_thread_times_out_on_the_steady_clock) {
  semaphore all(1);
  const permit held = all.acquire();
  const auto deadline = std::chrono::steady_clock::now() + 5ms;
  EXPECT_EQ(error_of([&] { (void)all.acquire(1, {.deadline = deadline}); }),
            flight_errc::timed_out);
  EXPECT_GE(std::chrono::steady_clock::now(), deadline);
  EXPECT_EQ(all.waiters_approx(), 0U);
}

// Scenario 30.
// Goal    A stop token ends a blocked wait, and the small request behind it is served.
TEST(semaphore, a_front_thread_that_is_stopped_lets_others_go) {
  semaphore all(3, {.executor = inline_executor});
  std::vector<int> order;
  const permit held = all.acquire(2);
  std::stop_source stop;
  std::thread front([&] {
    EXPECT_EQ(error_of([&] { (void)all.acquire(3, {.stop = stop.get_token()}); }),
              flight_errc::cancelled);
  });
  ASSERT_TRUE(until_waiters(all, 1));
  const auto behind = take(all, 1, 1, order);
  stop.request_stop();
  front.join();
  EXPECT_EQ(order, std::vector{1});
  EXPECT_EQ(all.available(), 1);
}

support::owned take_until(semaphore& from, std::ptrdiff_t n,
                          std::chrono::steady_clock::time_point deadline, std::stop_token stop,
                          std::optional<outcome<permit>>& got) {
  auto place = from.start_acquire(n);
  got.emplace(co_await place.until(deadline, stop).as_outcome());
}

// Scenario 30.
// Goal    A coroutine at the front leaves at its deadline, or when it is stopped.
TEST(semaphore, a_front_coroutine_that_leaves_lets_others_go) {
  manual_timer time;
  support::manual_executor queue;
  semaphore all(3, {.executor = queue, .timer = &time});
  std::vector<int> order;
  const permit held = all.acquire(2);
  std::stop_source stop;
  std::optional<outcome<permit>> late;
  std::optional<outcome<permit>> stopped;
  const auto first = take_until(all, 3, time.now() + 5s, {}, late);
  const auto second = take_until(all, 2, time.now() + 9s, stop.get_token(), stopped);
  const auto behind = take(all, 1, 1, order);
  EXPECT_EQ(all.waiters_approx(), 3U);
  time.advance(5s);
  queue.run_all();
  ASSERT_TRUE(late.has_value());
  EXPECT_EQ(late->errc(), flight_errc::timed_out);
  EXPECT_TRUE(order.empty());
  stop.request_stop();
  queue.run_all();
  ASSERT_TRUE(stopped.has_value());
  EXPECT_EQ(stopped->errc(), flight_errc::cancelled);
  EXPECT_EQ(order, std::vector{1});
  EXPECT_EQ(all.stats().queued, 3U);
}

// Scenario 30.
// Goal    A limit that expires after the grant has no effect: the permit is the caller's.
TEST(semaphore, a_grant_holds_against_a_later_limit) {
  manual_timer time;
  support::manual_executor later;
  semaphore all(1, {.executor = later, .timer = &time});
  permit held = all.acquire();
  std::stop_source stop;
  std::optional<outcome<permit>> got;
  const auto waiting = take_until(all, 1, time.now() + 5s, stop.get_token(), got);
  held.release();  // granted, not yet resumed
  time.advance(10s);
  stop.request_stop();
  later.run_all();
  ASSERT_TRUE(got.has_value());
  EXPECT_TRUE(got->has_value());
  EXPECT_EQ(all.available(), 0);
  got.reset();
  EXPECT_EQ(all.available(), 1);
}

// Goal    A limit that expired between start_acquire and the wait ends the wait.
TEST(semaphore, a_limit_that_expired_before_the_wait_ends_it) {
  semaphore all(1, {.executor = inline_executor});
  permit held = all.acquire();
  std::stop_source stop;
  stop.request_stop();
  std::optional<outcome<permit>> got;
  const auto waiting =
      take_until(all, 1, std::chrono::steady_clock::time_point::max(), stop.get_token(), got);
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->errc(), flight_errc::cancelled);
  EXPECT_EQ(all.waiters_approx(), 0U);
}

// Goal    Cancelling many queued waiters, in any order, loses no permits.
TEST(semaphore, many_cancellations_lose_nothing) {
  support::manual_executor queue;
  semaphore all(1, {.executor = queue});
  permit held = all.acquire();
  std::vector<std::stop_source> stops(20);
  std::vector<std::optional<outcome<permit>>> got(20);
  std::vector<support::owned> waiting;
  for (std::size_t i = 0; i < 20; ++i) {
    waiting.push_back(take_until(all, 1, std::chrono::steady_clock::time_point::max(),
                                 stops[i].get_token(), got[i]));
  }
  for (std::size_t i = 0; i < 20; i += 2) stops[(i * 7) % 20].request_stop();
  queue.run_all();
  EXPECT_EQ(all.waiters_approx(), 10U);
  held.release();
  for (int i = 0; i < 10; ++i) {
    queue.run_all();
    for (auto& one : got) {
      if (one.has_value() && one->has_value()) one.reset();
    }
  }
  EXPECT_EQ(all.available(), 1);
  EXPECT_EQ(all.waiters_approx(), 0U);
}

// ---- handles ------------------------------------------------------------------------------------

// Scenario 30.
// Goal    start_acquire queues at once; a dropped handle leaves the queue, or returns its grant.
TEST(pending_permit, dropped_leaves_or_returns) {
  semaphore all(2, {.executor = inline_executor});
  {
    const auto granted = all.start_acquire(2);
    EXPECT_TRUE(granted.ready());
    EXPECT_EQ(all.available(), 0);
  }
  EXPECT_EQ(all.available(), 2);
  permit held = all.acquire(1);
  std::vector<int> order;
  {
    const auto front = all.start_acquire(2);
    EXPECT_FALSE(front.ready());
    const auto behind = take(all, 1, 1, order);
    EXPECT_TRUE(order.empty());
    EXPECT_EQ(all.waiters_approx(), 2U);
    // `behind` is destroyed first, while it waits; then `front`.
  }
  EXPECT_EQ(all.waiters_approx(), 0U);
  const auto last = take(all, 1, 2, order);
  EXPECT_EQ(order, std::vector{2});
}

// Scenario 30.
// Goal    A handle that leaves the front of the queue lets the waiters behind it proceed.
TEST(pending_permit, dropped_at_the_front_lets_others_go) {
  semaphore all(2, {.executor = inline_executor});
  const permit held = all.acquire(1);
  std::vector<int> order;
  std::optional<support::owned> behind;
  {
    const auto front = all.start_acquire(2);
    behind.emplace(take(all, 1, 1, order));
    EXPECT_TRUE(order.empty());
  }
  EXPECT_EQ(order, std::vector{1});
}

// Scenario 30.
// Goal    A handle that is granted and dropped passes its permits to the waiters behind it.
TEST(pending_permit, an_unused_grant_is_passed_on) {
  semaphore all(1, {.executor = inline_executor});
  permit held = all.acquire();
  std::vector<int> order;
  std::optional<support::owned> behind;
  {
    const auto front = all.start_acquire(1);
    behind.emplace(take(all, 1, 1, order));
    held.release();
    EXPECT_TRUE(front.ready());
    EXPECT_TRUE(order.empty());
  }
  EXPECT_EQ(order, std::vector{1});
}

// Goal    get() returns the permit, whether the grant comes before the wait or during it.
TEST(pending_permit, may_be_waited_for_by_a_thread) {
  semaphore all(1);
  permit held = all.acquire();
  support::gate queued;
  std::thread waiting([&] {
    auto place = all.start_acquire();
    queued.open();
    const permit mine = place.get();
    EXPECT_EQ(mine.size(), 1);
  });
  queued.wait();
  held.release();
  waiting.join();
  EXPECT_EQ(all.available(), 1);
}

// Goal    A blocking wait on a handle may have a limit, like an awaited one.
TEST(pending_permit, a_blocking_wait_may_be_bounded) {
  manual_timer time;
  semaphore all(1, {.timer = &time});
  permit held = all.acquire();
  auto place = all.start_acquire();
  const auto got = place.until(time.now()).as_outcome().get();
  EXPECT_EQ(got.errc(), flight_errc::timed_out);
  EXPECT_EQ(all.waiters_approx(), 0U);
}

// Scenario 28a.
// Goal    A coroutine resumes on the semaphore's executor, or on the one that its wait named; the
//         releasing thread does not run it.
TEST(pending_permit, resumes_on_the_chosen_executor) {
  support::manual_executor ours;
  support::manual_executor named;
  semaphore all(2, {.executor = ours});
  permit held = all.acquire(2);
  int at_home = 0;
  int elsewhere = 0;
  const auto one = [](semaphore& s, int& resumed) -> support::owned {
    auto place = s.start_acquire();
    const permit mine = co_await place;
    ++resumed;
  }(all, at_home);
  const auto two = [](semaphore& s, support::manual_executor on, int& resumed) -> support::owned {
    auto place = s.start_acquire();
    const permit mine = co_await place.on(on);
    ++resumed;
  }(all, named, elsewhere);
  held.release();
  EXPECT_EQ(at_home + elsewhere, 0);
  EXPECT_EQ(ours.run_all(), 1U);
  EXPECT_EQ(at_home, 1);
  EXPECT_EQ(elsewhere, 0);
  EXPECT_EQ(named.run_all(), 1U);
  EXPECT_EQ(elsewhere, 1);
  EXPECT_EQ(all.available(), 2);
}

// Goal    A wait that names an executor resumes there even if it need not wait.
TEST(pending_permit, a_named_executor_is_used_in_any_case) {
  support::manual_executor named;
  semaphore all(1);
  int resumed = 0;
  const auto one = [](semaphore& s, support::manual_executor on, int& count) -> support::owned {
    auto place = s.start_acquire();
    const permit mine = co_await place.on(on);
    ++count;
  }(all, named, resumed);
  EXPECT_EQ(resumed, 0);
  named.run_all();
  EXPECT_EQ(resumed, 1);
  EXPECT_EQ(all.available(), 1);
}

// Goal    A thread inside a call of run never runs a coroutine that waits for a permit.
TEST(pending_permit, is_not_resumed_on_a_thread_inside_run) {
  semaphore all(1, {.executor = inline_executor});
  permit held = all.acquire();
  support::gate resumed;
  std::thread::id on;
  [](semaphore& s, support::gate& done, std::thread::id& where) -> support::detached {
    {
      auto place = s.start_acquire();
      const permit mine = co_await place;
      where = std::this_thread::get_id();
    }
    done.open();
  }(all, resumed, on);
  const singleflight::detail::inside_run inside(singleflight::detail::this_thread());
  held.release();
  resumed.wait();
  EXPECT_NE(on, std::this_thread::get_id());
  EXPECT_EQ(all.available(), 1);
}

// Scenarios 28b, 30.
// Goal    A coroutine that is destroyed while it waits leaves the queue; if it was made ready and
//         not yet resumed, it returns its grant.
TEST(pending_permit, a_coroutine_may_be_destroyed_while_it_waits) {
  support::manual_executor later;
  semaphore all(1, {.executor = later});
  std::vector<int> order;
  permit held = all.acquire();
  auto waiting = std::make_optional(take(all, 1, 1, order));
  auto ready = std::make_optional(take(all, 1, 2, order));
  waiting.reset();
  EXPECT_EQ(all.waiters_approx(), 1U);
  held.release();
  EXPECT_EQ(all.available(), 0);
  ready.reset();
  EXPECT_EQ(all.available(), 1);
  later.run_all();
  EXPECT_TRUE(order.empty());
}

// Scenarios 28b, 30.
// Goal    The start of a wait may resume code on this thread that destroys the waiting coroutine,
//         which must not be accessed after that (AddressSanitizer would detect it).
// Method  The coroutine at the front begins to wait when its deadline has passed. That admits the
//         next one, which destroys it.
TEST(pending_permit, a_coroutine_may_be_destroyed_as_it_begins_to_wait) {
  manual_timer time;
  semaphore all(2, {.executor = inline_executor, .timer = &time});
  const permit held = all.acquire();
  std::coroutine_handle<> front;
  struct suspends {
    std::coroutine_handle<>& who;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> frame) const noexcept { who = frame; }
    void await_resume() const noexcept {}
  };
  std::optional<support::owned> first;
  bool continued = false;
  const auto waits = [&]() -> support::owned {
    auto place = all.start_acquire(2);
    co_await suspends{front};
    (void)co_await place.until(time.now()).as_outcome();
    continued = true;
  };
  first.emplace(waits());
  bool granted = false;
  const auto destroys = [&]() -> support::owned {
    auto place = all.start_acquire();
    const permit mine = co_await place;
    granted = true;
    first.reset();
  };
  const support::owned second = destroys();
  front.resume();
  EXPECT_TRUE(granted);
  EXPECT_FALSE(continued);
}

// Scenario 28b.
// Goal    A limit that has expired ends the handle's request, even if the waiting coroutine is
//         destroyed before it resumes: the next use of the handle gets that limit, and no permit.
TEST(pending_permit, a_limit_outlives_the_wait_that_it_ended) {
  manual_timer time;
  support::manual_executor later;
  semaphore all(1, {.executor = later, .timer = &time});
  permit held = all.acquire();
  const auto wait = [](pending_permit& on, manual_timer& clock) -> support::owned {
    const auto got = co_await on.until(clock.now() + 1s).as_outcome();
    ADD_FAILURE() << "a destroyed coroutine continued";
  };
  auto first = all.start_acquire();
  auto second = all.start_acquire();
  auto waits_for_first = std::make_optional(wait(first, time));
  auto waits_for_second = std::make_optional(wait(second, time));
  time.advance(1s);  // both are out of the queue, and about to be resumed
  waits_for_first.reset();
  waits_for_second.reset();
  EXPECT_TRUE(first.ready());
  EXPECT_EQ(first.get_outcome().errc(), flight_errc::timed_out);
  std::optional<outcome<permit>> got;
  const auto again = [](pending_permit& on, std::optional<outcome<permit>>& to) -> support::owned {
    try {
      to.emplace(co_await on);
    } catch (const flight_error& error) {
      to.emplace(error.errc());
    }
  }(second, got);
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->errc(), flight_errc::timed_out);
  held.release();
  EXPECT_EQ(all.available(), 1);
  later.run_all();
}

// Scenario 28b.
// Goal    A wait on a named executor that was abandoned does not keep the next wait from its own.
TEST(pending_permit, may_be_waited_for_again_after_a_wait_was_destroyed) {
  support::manual_executor named;
  semaphore all(1);
  permit held = all.acquire();
  auto place = all.start_acquire();
  int resumed = 0;
  const auto wait = [](pending_permit& on, support::manual_executor where,
                       int& count) -> support::owned {
    const permit mine = co_await on.on(where);
    ++count;
  };
  { const auto given_up = wait(place, named, resumed); }
  const auto kept = wait(place, named, resumed);
  held.release();
  named.run_all();
  EXPECT_EQ(resumed, 1);
  EXPECT_EQ(all.available(), 1);
}

// Scenario 28b.
// Goal    A wait that names no executor resumes on the semaphore's executor, not on the one that
//         the previous wait named.
TEST(pending_permit, a_later_wait_that_names_no_executor_resumes_on_the_semaphores) {
  manual_timer time;
  support::manual_executor home;
  support::manual_executor named;
  semaphore all(1, {.executor = home, .timer = &time});
  permit held = all.acquire();
  auto place = all.start_acquire();
  int resumed = 0;
  const auto wait_there = [](pending_permit& on, support::manual_executor where,
                             int& count) -> support::owned {
    const permit mine = co_await on.on(where);
    ++count;
  };
  const auto wait_at_home = [](pending_permit& on, manual_timer::time_point by,
                               int& count) -> support::owned {
    const permit mine = co_await on.until(by);
    ++count;
  };
  { const auto given_up = wait_there(place, named, resumed); }
  const auto kept = wait_at_home(place, time.now() + 1s, resumed);
  held.release();
  EXPECT_EQ(named.run_all(), 0U);
  EXPECT_EQ(home.run_all(), 1U);
  EXPECT_EQ(resumed, 1);
}

// Goal    If a stop has fired and a deadline has expired before the wait, the wait is cancelled.
TEST(pending_permit, a_stop_goes_before_a_deadline) {
  manual_timer time;
  semaphore all(1, {.executor = inline_executor, .timer = &time});
  const permit held = all.acquire();
  std::stop_source stop;
  stop.request_stop();
  std::optional<outcome<permit>> got;
  const auto waiting = take_until(all, 1, time.now() - 1s, stop.get_token(), got);
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->errc(), flight_errc::cancelled);
  const auto blocked =
      all.acquire(as_outcome, 1, {.deadline = time.now() - 1s, .stop = stop.get_token()});
  EXPECT_EQ(blocked.errc(), flight_errc::cancelled);
}

// Scenario 28b.
// Goal    A coroutine that is destroyed before its named executor resumes it returns its grant, and
//         the task there does nothing.
TEST(pending_permit, destroyed_before_its_named_executor_ran) {
  support::manual_executor named;
  auto all = std::make_unique<semaphore>(1);
  const auto wait = [](semaphore& s, support::manual_executor on) -> support::owned {
    auto place = s.start_acquire();
    const permit mine = co_await place.on(on);
    ADD_FAILURE() << "a destroyed coroutine continued";
  };
  auto granted = std::make_optional(wait(*all, named));
  EXPECT_EQ(named.size(), 1U);
  granted.reset();
  EXPECT_EQ(all->available(), 1);
  all.reset();
  EXPECT_EQ(named.run_all(), 1U);
}

// Goal    An executor that refuses or drops the resumption does not lose it: the default pool runs
//         it.
TEST(pending_permit, a_refused_resumption_goes_to_the_default_pool) {
  const auto play = [](singleflight::any_executor on) {
    semaphore all(1, {.executor = std::move(on)});
    permit held = all.acquire();
    support::gate resumed;
    [](semaphore& s, support::gate& done) -> support::detached {
      {
        auto place = s.start_acquire();
        const permit mine = co_await place;
      }
      done.open();
    }(all, resumed);
    held.release();
    resumed.wait();
    EXPECT_EQ(all.available(), 1);
  };
  play(support::refusing_executor{});
  play(support::dropping_executor{});
}

// ---- resize, close, bounds ----------------------------------------------------------------------

// Goal    A larger capacity serves queued waiters at once.
TEST(semaphore, a_larger_capacity_serves_the_queue) {
  semaphore all(1, {.executor = inline_executor});
  std::vector<int> order;
  std::deque<permit> kept;
  kept.push_back(all.acquire());
  const auto a = take(all, 1, 1, order, &kept);
  const auto b = take(all, 1, 2, order, &kept);
  all.resize(3);
  EXPECT_EQ(order, (std::vector{1, 2}));
  EXPECT_EQ(all.capacity(), 3);
  EXPECT_EQ(all.available(), 0);
}

// Scenario 30.
// Goal    A resize below the number held is allowed; the excess drains as permits are released.
TEST(semaphore, a_smaller_capacity_drains) {
  semaphore all(4, {.executor = inline_executor});
  std::vector<int> order;
  permit held = all.acquire(4);
  all.resize(2);
  EXPECT_EQ(all.available(), -2);
  const auto waiting = take(all, 1, 1, order);
  held.release(2);
  EXPECT_EQ(all.available(), 0);
  EXPECT_TRUE(order.empty());
  held.release(1);
  EXPECT_EQ(order, std::vector{1});
  held.release();
  EXPECT_EQ(all.available(), 2);
}

// Goal    Waiters that request more than the new capacity are rejected, wherever they are in the
//         queue.
TEST(semaphore, a_smaller_capacity_rejects_the_heavy) {
  semaphore all(5, {.executor = inline_executor});
  std::vector<int> order;
  permit held = all.acquire(4);
  std::optional<outcome<permit>> front;
  std::optional<outcome<permit>> back;
  constexpr auto forever = std::chrono::steady_clock::time_point::max();
  const auto a = take_until(all, 4, forever, {}, front);
  const auto b = take(all, 2, 1, order);
  const auto c = take_until(all, 5, forever, {}, back);
  all.resize(3);
  ASSERT_TRUE(front.has_value());
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(front->errc(), flight_errc::rejected);
  EXPECT_EQ(back->errc(), flight_errc::rejected);
  EXPECT_TRUE(order.empty());
  held.release();
  EXPECT_EQ(order, std::vector{1});
  EXPECT_EQ(all.available(), 3);
  EXPECT_EQ(all.stats().rejected, 2U);
}

// Goal    When a larger capacity is set between the rounds of a smaller one, no waiter that
//         requests more than the capacity is left in the queue.
// Method  The executor sets the larger capacity when it is passed the first round's resumptions.
TEST(semaphore, a_resize_between_the_rounds_of_another_loses_nothing) {
  constexpr int heavy = 100;  // more than one round notifies
  struct resizing {
    semaphore** all;
    support::manual_executor to;
    void execute(singleflight::task work) {
      if (semaphore* const s = std::exchange(*all, nullptr)) s->resize(6);
      to.execute(std::move(work));
    }
  };
  semaphore* to_resize = nullptr;
  support::manual_executor later;
  semaphore all(10, {.executor = resizing{&to_resize, later}});
  permit held = all.acquire(10);
  std::vector<std::optional<outcome<permit>>> got(heavy);
  std::vector<support::owned> waiting;
  for (auto& one : got) {
    waiting.push_back(take_until(all, 8, std::chrono::steady_clock::time_point::max(), {}, one));
  }
  to_resize = &all;
  all.resize(1);
  held.release();
  EXPECT_EQ(all.capacity(), 6);
  EXPECT_EQ(all.waiters_approx(), 0U);
  EXPECT_TRUE(all.try_acquire(6));
  later.run_all();
  for (const auto& one : got) EXPECT_EQ(one->errc(), flight_errc::rejected);
}

// Goal    close refuses new calls and ends queued waits; permits that are held stay valid.
TEST(semaphore, close_ends_every_wait) {
  semaphore all(1, {.executor = inline_executor});
  permit held = all.acquire();
  std::optional<outcome<permit>> got;
  const auto coroutine = take_until(all, 1, std::chrono::steady_clock::time_point::max(), {}, got);
  std::thread blocked(
      [&] { EXPECT_EQ(error_of([&] { (void)all.acquire(); }), flight_errc::closed); });
  ASSERT_TRUE(until_waiters(all, 2));
  all.close();
  blocked.join();
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->errc(), flight_errc::closed);
  EXPECT_EQ(error_of([&] { (void)all.acquire(); }), flight_errc::closed);
  EXPECT_FALSE(all.try_acquire());
  EXPECT_EQ(all.start_acquire().get_outcome().errc(), flight_errc::closed);
  held.release();
  EXPECT_EQ(all.available(), 1);
  EXPECT_FALSE(all.try_acquire());
  EXPECT_EQ(all.stats().closed, 4U);
}

// Goal    Waiters that were ended by close may resume after the semaphore is destroyed.
TEST(semaphore, may_be_destroyed_before_its_waiters_resume) {
  support::manual_executor later;
  auto all = std::make_unique<semaphore>(1, singleflight::semaphore_options{.executor = later});
  auto held = std::make_unique<permit>(all->acquire());
  std::optional<outcome<permit>> got;
  const auto coroutine = take_until(*all, 1, std::chrono::steady_clock::time_point::max(), {}, got);
  std::thread blocked(
      [s = all.get()] { EXPECT_EQ(error_of([&] { (void)s->acquire(); }), flight_errc::closed); });
  ASSERT_TRUE(until_waiters(*all, 2));
  all->close();
  held.reset();
  all.reset();
  blocked.join();
  EXPECT_FALSE(got.has_value());
  later.run_all();
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->errc(), flight_errc::closed);
}

// Goal    A permit that outlives its semaphore could not be returned: the process aborts with a
//         message.
TEST(semaphore_death, permits_must_not_outlive_it) {
  EXPECT_DEATH(
      {
        permit held;
        const semaphore all(1);
        held = const_cast<semaphore&>(all).acquire();
      },
      "semaphore: destroyed while permits are held");
}

// Goal    A handle is used once, in whatever way, and waited for by one waiter at a time.
TEST(semaphore_death, a_handle_is_used_once) {
  const auto twice = [](auto how) {
    semaphore all(2);
    auto place = all.start_acquire();
    const permit one = place.get();
    how(place);
  };
  EXPECT_DEATH(twice([](pending_permit& place) { (void)place.get(); }), "used twice");
  EXPECT_DEATH(twice([](pending_permit& place) {
                 const auto again = [](pending_permit& on) -> support::owned {
                   const permit two = co_await on.on(inline_executor);
                 }(place);
               }),
               "used twice");
  EXPECT_DEATH(
      {
        semaphore all(1);
        const permit held = all.acquire();
        auto place = all.start_acquire();
        const auto wait = [](pending_permit& on) -> support::owned {
          const permit mine = co_await on;
        };
        const auto one = wait(place);
        const auto two = wait(place);
      },
      "waited for twice");
}

// Goal    max_waiters bounds the queue; the waiters in it are not affected.
TEST(semaphore, a_full_queue_refuses_at_once) {
  semaphore all(1, {.executor = inline_executor, .max_waiters = 1});
  std::vector<int> order;
  permit held = all.acquire();
  const auto inside = take(all, 1, 1, order);
  EXPECT_EQ(error_of([&] { (void)all.acquire(); }), flight_errc::overloaded);
  EXPECT_EQ(all.start_acquire().get_outcome().errc(), flight_errc::overloaded);
  held.release();
  EXPECT_EQ(order, std::vector{1});
  EXPECT_EQ(all.stats().overloaded, 2U);
}

// Goal    observe() passes the values that metrics read.
TEST(semaphore, is_observable) {
  semaphore all(3);
  const permit held = all.acquire(2);
  struct collecting : singleflight::metric_visitor {
    void visit(std::string_view name, singleflight::metric_kind, double value) override {
      seen += std::string(name) + "=" + std::to_string(static_cast<int>(value)) + " ";
    }
    std::string seen;
  } all_of_it;
  all.observe(all_of_it);
  EXPECT_EQ(all_of_it.seen,
            "capacity=3 available=1 waiters=0 queued=0 timed_out=0 cancelled=0 overloaded=0 "
            "rejected=0 closed=0 ");
}

}  // namespace
