// SPDX-License-Identifier: Apache-2.0

// A cache without times: stored values are returned, others are loaded once.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "support/cache.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/cache.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::flight_context;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::freshness;
using singleflight::inline_executor;
using singleflight::loading_cache;
using singleflight::with_ttl;
using support::gate;
using support::in_thread;

// Goal    The first call loads, later ones do not; each kind of call finds the value.
TEST(loading_cache, loads_once_then_hits) {
  int loads = 0;
  loading_cache<int, std::string> cache([&](int k) {
    ++loads;
    return std::to_string(k);
  });
  const auto first = cache.get(7);
  const auto again = cache.get(7);
  EXPECT_EQ(*first, "7");
  EXPECT_EQ(&*first, &*again) << "both handles must share one value";
  EXPECT_EQ(first.freshness(), freshness::fresh);
  EXPECT_FALSE(first.stale());
  EXPECT_TRUE(first.has_value());
  EXPECT_EQ(first->size(), 1U);
  const auto found = cache.find(7);
  ASSERT_TRUE(found);
  EXPECT_EQ(&**found, &*first);
  EXPECT_EQ(&*cache.start_get(7).get(), &*first);
  EXPECT_EQ(&**cache.get_all(std::vector{7}).front(), &*first);
  EXPECT_EQ(&*cache.get(7, singleflight::limits{}), &*first);
  EXPECT_EQ(loads, 1);
}

// Goal    find never loads.
TEST(loading_cache, find_does_not_load) {
  loading_cache<int, int> cache([](int) -> int { throw std::logic_error("not asked for"); });
  EXPECT_FALSE(cache.find(1));
  cache.put(1, 10);
  ASSERT_TRUE(cache.find(1));
  EXPECT_EQ(**cache.find(1), 10);
  EXPECT_EQ(cache.stats().loads, 0U);
  EXPECT_EQ(cache.stats().misses, 1U);
  EXPECT_EQ(cache.stats().hits, 2U);
}

// Goal    Callers of a key that is being loaded share the load, in every kind of call.
// Method  The loader waits until the others have joined.
TEST(loading_cache, overlapping_calls_share_a_load) {
  gate loading;
  support::joined_counter joined;
  std::atomic<int> loads{0};
  loading_cache<int, int> cache(
      [&](int k) {
        ++loads;
        loading.wait();
        return k * 2;
      },
      {.group = {.observer = &joined}});
  auto leader = in_thread([&] { return *cache.get(4); });
  loading.await_arrivals();
  auto by_get = in_thread([&] { return *cache.get(4); });
  auto by_limits = in_thread([&] { return *cache.get(4, {.deadline = {}, .stop = {}}); });
  EXPECT_THROW(by_limits.get(), flight_error) << "a deadline that has passed already";
  auto by_all = in_thread([&] { return **cache.get_all(std::vector{4, 4}).at(1); });
  auto handle = cache.start_get(4);
  EXPECT_FALSE(handle.ready());
  joined.await(4);
  loading.open();
  EXPECT_EQ(leader.get(), 8);
  EXPECT_EQ(by_get.get(), 8);
  EXPECT_EQ(by_all.get(), 8);
  EXPECT_EQ(*handle.get(), 8);
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(cache.stats().loads, 1U);
}

// Goal    All parameters and results that a loader may have.
TEST(loading_cache, loader_forms) {
  const auto answer_of = [](auto loader) {
    loading_cache<int, std::string> cache(std::move(loader),
                                          {.group = {.executor = inline_executor}});
    const auto got = cache.get(3);
    return got ? *got : std::string("absent");
  };
  EXPECT_EQ(answer_of([](int k) { return std::string(static_cast<std::size_t>(k), 'x'); }), "xxx");
  EXPECT_EQ(answer_of([](const int&) { return "converted"; }), "converted");
  EXPECT_EQ(answer_of([](int, flight_context& flight) { return std::to_string(flight.callers()); }),
            "1");
  EXPECT_EQ(answer_of([](int, std::stop_token stop) {
              return std::string(stop.stop_possible() ? "stoppable" : "not");
            }),
            "stoppable");
  EXPECT_EQ(answer_of([](int) { return std::optional<std::string>("there"); }), "there");
  EXPECT_EQ(answer_of([](int) { return std::optional<std::string>(); }), "absent");
  EXPECT_EQ(answer_of([](int) { return with_ttl<std::string>{"for a time", 1h}; }), "for a time");
  EXPECT_EQ(answer_of([](int) -> support::lazy<std::string> { co_return "awaited"; }), "awaited");
  EXPECT_EQ(
      answer_of([](int) -> support::lazy<std::optional<std::string>> { co_return std::nullopt; }),
      "absent");
  EXPECT_EQ(answer_of([](int k) -> support::lazy<with_ttl<std::string>> {
              co_return with_ttl<std::string>{std::to_string(k), 1h};
            }),
            "3");
  EXPECT_EQ(answer_of([](int k, flight_context& flight) -> support::lazy<std::string> {
              co_return std::to_string(k) + (flight.forgotten() ? " forgotten" : " known");
            }),
            "3 known");
}

// Goal    A loader that is passed with the call is used only if this call loads.
TEST(loading_cache, a_loader_of_the_call) {
  loading_cache<int, std::string> cache([](int) { return "own"; });
  EXPECT_EQ(*cache.get(1, [](int) { return "given"; }), "given");
  EXPECT_EQ(*cache.get(1), "given");
  EXPECT_EQ(*cache.get(2), "own");
  EXPECT_EQ(*cache.get(2, [](int) { return "given"; }), "own");
  EXPECT_EQ(*cache.get(3, [](int) { return "given"; },
                       {.deadline = std::chrono::steady_clock::now() + 1h}),
            "given");
  EXPECT_EQ(
      *cache.start_get(4, [text = std::make_shared<std::string>("kept")](int) { return *text; })
           .get(),
      "kept");
  auto only_moves = [text = std::make_unique<std::string>("moved")](int) { return *text; };
  EXPECT_EQ(*cache.get(5, std::move(only_moves)), "moved");
}

// Goal    An awaited loader that was passed with a call outlives the call.
TEST(loading_cache, an_awaited_loader_of_a_dropped_call_continues) {
  support::suspension at;
  loading_cache<int, std::string> cache([](int) { return "own"; },
                                        {.group = {.executor = inline_executor}});
  {
    auto dropped =
        cache.start_get(1,
                        [&at, text = std::string("a text that does not fit into a small string")](
                            int) -> support::lazy<std::string> {
                          co_await at;
                          co_return text;
                        });
    ASSERT_TRUE(at.taken());
  }
  at.resume();
  EXPECT_EQ(*cache.get(1), "a text that does not fit into a small string");
}

// Goal    The loader's exception reaches all callers with its own type; the next call loads again.
TEST(loading_cache, an_exception_goes_to_all_and_is_not_kept) {
  gate loading;
  support::joined_counter joined;
  int loads = 0;
  loading_cache<int, int> cache(
      [&](int) -> int {
        if (++loads > 1) return 5;
        loading.wait();
        throw std::out_of_range("no such row");
      },
      {.group = {.observer = &joined}});
  auto leader = in_thread([&] { return *cache.get(1); });
  loading.await_arrivals();
  auto other = in_thread([&] { return *cache.get(1); });
  auto all = in_thread([&] { return cache.get_all(std::vector{1}); });
  joined.await(2);
  loading.open();
  EXPECT_THROW(leader.get(), std::out_of_range);
  EXPECT_THROW(other.get(), std::out_of_range);
  EXPECT_THROW(all.get().front().value(), std::out_of_range);
  EXPECT_EQ(*cache.get(1), 5);
  EXPECT_EQ(cache.stats().load_failures, 1U);
  EXPECT_EQ(cache.stats().loads, 2U);
}

// Goal    Limits end only the wait of the caller that passed them; the load continues and is
//         stored.
TEST(loading_cache, a_limit_ends_one_wait_only) {
  gate loading;
  singleflight::manual_timer time;
  support::joined_counter joined;
  loading_cache<int, int> cache(
      [&](int k) {
        loading.wait();
        return k;
      },
      {.group = {.timer = &time, .observer = &joined}});
  auto leader = in_thread([&] { return *cache.get(9); });
  loading.await_arrivals();
  std::stop_source stop;
  auto late = in_thread([&] {
    try {
      return *cache.get(9, {.deadline = time.now() + 1s});
    } catch (const flight_error& e) {
      EXPECT_EQ(e.code(), flight_errc::timed_out);
      return -1;
    }
  });
  auto stopped = in_thread([&] {
    try {
      return *cache.get(9, {.stop = stop.get_token()});
    } catch (const flight_error& e) {
      EXPECT_EQ(e.code(), flight_errc::cancelled);
      return -2;
    }
  });
  joined.await(2);
  time.advance(1s);
  stop.request_stop();
  EXPECT_EQ(late.get(), -1);
  EXPECT_EQ(stopped.get(), -2);
  loading.open();
  EXPECT_EQ(leader.get(), 9);
  EXPECT_TRUE(cache.find(9));
}

// Goal    A cache with string keys accepts anything that converts to a string view, and copies
//         nothing for a hit.
TEST(loading_cache, keys_by_view) {
  loading_cache<std::string, std::size_t> cache([](std::string_view k) { return k.size(); });
  EXPECT_EQ(*cache.get(std::string_view("four")), 4U);
  EXPECT_EQ(*cache.get("four"), 4U);
  EXPECT_EQ(*cache.get(std::string("four")), 4U);
  EXPECT_TRUE(cache.invalidate("four"));
  EXPECT_FALSE(cache.find("four"));
  EXPECT_EQ(cache.stats().loads, 1U);
}

// Goal    A load that requests its own key from the cache gets `recursive`; another key is
//         answered.
TEST(loading_cache, recursion) {
  loading_cache<int, int>* self = nullptr;
  loading_cache<int, int> cache([&](int k) -> int {
    if (k == 0) return 1;
    if (k < 0) return *self->get(k);
    return *self->get(k - 1) * k;
  });
  self = &cache;
  EXPECT_EQ(*cache.get(5), 120);
  EXPECT_EQ(cache.stats().loads, 6U);
  try {
    cache.get(-1);
    FAIL();
  } catch (const flight_error& e) {
    EXPECT_EQ(e.code(), flight_errc::recursive);
  }
}

// ---- the second lookup --------------------------------------------------------------------------

thread_local void (*between)() = nullptr;
thread_local int hashes = 0;
loading_cache<int, int, struct hooked_hash>* hooked = nullptr;

/// Calls `between` when a call hashes the key for the second time: after it was not found, and
/// before its flight begins.
struct hooked_hash {
  std::size_t operator()(int k) const {
    if (++hashes == 2 && between != nullptr) std::exchange(between, nullptr)();
    return singleflight::key_hash<int>{}(k);
  }
};

/// One call misses, and loads the key between the other call's miss and its flight.
template <class Call>
void expect_second_look(Call&& call) {
  int loads = 0;
  loading_cache<int, int, hooked_hash> cache(
      [&](int k) {
        ++loads;
        return k + loads;
      },
      {.group = {.executor = inline_executor}});
  hooked = &cache;
  hashes = 0;
  between = [] { EXPECT_EQ(*hooked->get(10), 11); };
  const int seen = call(cache);
  EXPECT_EQ(between, nullptr) << "the call did not run in between";
  EXPECT_EQ(seen, 11);
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(cache.stats().misses, 2U);
  EXPECT_EQ(cache.stats().loads, 1U);
}

// Goal    When two calls miss and their flights run one after the other, the second one finds the
//         value that the first has stored, and does not load.
// Method  The hash of the second call runs the first call to its end.
TEST(loading_cache, the_second_flight_sees_what_the_first_stored) {  // Scenario 25
  using cache = loading_cache<int, int, hooked_hash>;
  expect_second_look([](cache& c) { return *c.get(10); });
  expect_second_look([](cache& c) { return *c.start_get(10).get(); });
  expect_second_look([](cache& c) { return **c.get_all(std::vector{10}).front(); });
  expect_second_look([](cache& c) { return *c.get(10, [](int) { return 77; }); });
  expect_second_look([](cache& c) {
    return *c.start_get(10, [](int) -> support::lazy<int> { co_return 77; }).get();
  });
}

// ---- absence ------------------------------------------------------------------------------------

// Goal    An absence that is kept is a result: it is not loaded again, and every call returns it.
TEST(loading_cache, an_absence_is_an_answer) {  // Scenario 36
  singleflight::manual_timer time;
  int loads = 0;
  loading_cache<int, int> cache(
      [&](int) {
        ++loads;
        return std::optional<int>();
      },
      {.negative_ttl = 1h, .group = {.timer = &time}});
  const auto none = cache.get(1);
  EXPECT_FALSE(none);
  EXPECT_FALSE(none.has_value());
  EXPECT_EQ(none.freshness(), freshness::absent);
  EXPECT_THROW(none.value(), std::bad_optional_access);
  EXPECT_EQ(cache.get(1).freshness(), freshness::absent);
  ASSERT_TRUE(cache.find(1));
  EXPECT_EQ(cache.find(1)->freshness(), freshness::absent);
  EXPECT_EQ(cache.get_all(std::vector{1}).front()->freshness(), freshness::absent);
  EXPECT_EQ(cache.start_get(1).get().freshness(), freshness::absent);
  EXPECT_EQ(cache.get(1).share(), nullptr);
  EXPECT_EQ(loads, 1);
  EXPECT_TRUE(cache.policy().explain(1).absent);
}

// Goal    Without negative_ttl an absence is returned and not kept; the previous entry is removed.
TEST(loading_cache, an_absence_that_is_not_kept) {
  int loads = 0;
  loading_cache<int, int> cache(
      [&](int) { return ++loads == 2 ? std::optional<int>() : std::optional<int>(loads); },
      {.group = {.executor = inline_executor}});
  EXPECT_EQ(*cache.get(1), 1);
  cache.refresh(1);
  EXPECT_FALSE(cache.find(1)) << "the value must be removed";
  EXPECT_EQ(*cache.get(1), 3);
}

// ---- statistics ---------------------------------------------------------------------------------

// Goal    Each counter counts what its name says.
TEST(loading_cache, stats) {
  int n = 0;
  loading_cache<int, int> cache(
      [&](int k) -> int {
        if (k < 0) throw std::runtime_error("no");
        return ++n;
      },
      {.capacity = 100, .group = {.executor = inline_executor}});
  cache.get(1);                                     // miss, load
  cache.get(1);                                     // hit
  EXPECT_THROW(cache.get(-1), std::runtime_error);  // miss, load, failure
  cache.put(2, 20);
  cache.put(2, 21);                     // replaced
  cache.invalidate(2);                  // invalidated
  cache.refresh(1);                     // load, refresh, replaced
  cache.get_all(std::vector{1, 3, 4});  // hit, two misses, two loads
  const auto s = cache.stats();
  EXPECT_EQ(s.hits, 2U);
  EXPECT_EQ(s.stale_hits, 0U);
  EXPECT_EQ(s.misses, 4U);
  EXPECT_EQ(s.loads, 5U);
  EXPECT_EQ(s.load_failures, 1U);
  EXPECT_EQ(s.refreshes, 1U);
  EXPECT_EQ(s.not_stored, 0U);
  EXPECT_EQ(s.evicted, 0U);
  EXPECT_EQ(s.expired, 0U);
  EXPECT_EQ(s.replaced, 2U);
  EXPECT_EQ(s.invalidated, 1U);
  EXPECT_EQ(s.entries, 3U);
  EXPECT_EQ(s.weight, 3U);
  EXPECT_EQ(cache.policy().weight(), 3U);
  EXPECT_EQ(cache.policy().capacity(), 100U);
}

// Goal    A refresh that joins a running load is not counted as a load.
TEST(loading_cache, a_refresh_that_joins_is_not_counted) {
  gate loading;
  loading_cache<int, int> cache([&](int k) {
    loading.wait();
    return k;
  });
  auto leader = in_thread([&] { return *cache.get(1); });
  loading.await_arrivals();
  cache.refresh(1);
  loading.open();
  EXPECT_EQ(leader.get(), 1);
  EXPECT_EQ(cache.stats().refreshes, 0U);
  EXPECT_EQ(cache.stats().loads, 1U);
}

// Goal    A refresh that fails keeps the stored value, even where errors are kept.
TEST(loading_cache, a_refresh_that_fails_leaves_the_value) {
  int loads = 0;
  loading_cache<int, int> cache(
      [&](int k) -> int {
        if (++loads > 1) throw std::runtime_error("down");
        return k;
      },
      {.error_ttl = 1h, .group = {.executor = inline_executor}});
  cache.get(3);
  cache.refresh(3);
  EXPECT_EQ(loads, 2);
  EXPECT_EQ(*cache.get(3), 3);
  EXPECT_EQ(cache.stats().load_failures, 1U);
  EXPECT_EQ(cache.stats().refreshes, 1U);
}

// Goal    A visitor gets every statistic, by name and kind.
TEST(loading_cache, observe) {
  struct listing final : singleflight::metric_visitor {
    std::map<std::string, std::pair<singleflight::metric_kind, double>> all;
    void visit(std::string_view name, singleflight::metric_kind kind, double value) override {
      EXPECT_TRUE(all.emplace(name, std::pair(kind, value)).second) << name;
    }
  } seen;
  loading_cache<int, int> cache([](int k) { return k; });
  cache.get(1);
  cache.get(1);
  cache.observe(seen);
  using singleflight::metric_kind;
  EXPECT_EQ(seen.all.size(), 20U) << "including one for each flight_errc";
  EXPECT_EQ(seen.all.at("hits"), std::pair(metric_kind::counter, 1.0));
  EXPECT_EQ(seen.all.at("misses"), std::pair(metric_kind::counter, 1.0));
  EXPECT_EQ(seen.all.at("loads"), std::pair(metric_kind::counter, 1.0));
  EXPECT_EQ(seen.all.at("entries"), std::pair(metric_kind::gauge, 1.0));
  EXPECT_EQ(seen.all.at("weight"), std::pair(metric_kind::gauge, 1.0));
}

// Goal    explain returns what is stored for a key, and does not count as a use of it.
TEST(loading_cache, explain) {
  singleflight::manual_timer time;
  loading_cache<int, std::string> cache(
      [](int k) -> std::optional<std::string> {
        if (k == 0) return std::nullopt;
        if (k < 0) throw std::runtime_error("no");
        return std::string(static_cast<std::size_t>(k), 'x');
      },
      {.weigher = [](int, const std::string& s) { return s.size(); },
       .ttl = 10s,
       .jitter = 0,
       .negative_ttl = 4s,
       .error_ttl = 2s,
       .group = {.timer = &time}});
  EXPECT_FALSE(cache.policy().explain(5).present);
  cache.get(5);
  cache.get(0);
  EXPECT_THROW(cache.get(-1), std::runtime_error);
  time.advance(3s);
  const auto before = cache.stats();
  const auto value = cache.policy().explain(5);
  EXPECT_TRUE(value.present && value.fresh && !value.absent && !value.error);
  EXPECT_EQ(value.weight, 5U);
  EXPECT_NEAR(std::chrono::duration<double>(value.age).count(), 3, 0.001);
  EXPECT_NEAR(std::chrono::duration<double>(value.expires_in.value()).count(), 7, 0.001);
  const auto absent = cache.policy().explain(0);
  EXPECT_TRUE(absent.present && absent.fresh && absent.absent && !absent.error);
  const auto error = cache.policy().explain(-1);
  if (error.present) {  // otherwise it has been swept
    EXPECT_TRUE(!error.fresh && error.error);
    EXPECT_LT(error.expires_in.value(), 0s);
  }
  EXPECT_EQ(cache.stats().hits, before.hits);
  EXPECT_EQ(cache.stats().misses, before.misses);

  loading_cache<int, int> for_ever([](int k) { return k; });
  for_ever.get(1);
  EXPECT_TRUE(for_ever.policy().explain(1).fresh);
  EXPECT_FALSE(for_ever.policy().explain(1).expires_in);
}

// Goal    The destructor requests a stop of a running load, and waits for it; the load's result is
//         not stored.
TEST(loading_cache, the_end_waits_for_loads) {
  gate loading;
  std::atomic<bool> stopped{false};
  std::optional<loading_cache<int, int>> cache;
  cache.emplace([&](int k, std::stop_token stop) {
    loading.wait();
    support::eventually([&] { return stop.stop_requested(); }, "the stop request");
    stopped = true;
    return k;
  });
  auto handle = cache->start_get(1);
  loading.await_arrivals();
  auto end = in_thread([&] { cache.reset(); });
  loading.open();
  end.get();
  EXPECT_TRUE(stopped);
  EXPECT_EQ(*handle.get(), 1) << "callers inside get the load's outcome";
}

}  // namespace
