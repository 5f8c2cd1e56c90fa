// SPDX-License-Identifier: Apache-2.0

// Scenario 31: after an invalidation has returned, no later call sees the value of a load that
// began before the invalidation was called, and that value is not stored.
//
// Each kind of load is held at a gate, each kind of invalidation is called, a later call is made
// while the old load still runs, and then the old load ends.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <stdexcept>
#include <string>
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
using singleflight::cached;
using singleflight::loading_cache;
using singleflight::outcome;
using support::gate;
using support::in_thread;

constexpr int key = 1;
constexpr int written = 1000;  // the value that put stores

// ---- the invalidations --------------------------------------------------------------------------

struct invalidation {
  // NOLINTNEXTLINE(readability-identifier-naming): as GoogleTest calls it
  friend void PrintTo(const invalidation& of, std::ostream* to) { *to << of.name; }
  const char* name;
  void (*call)(loading_cache<int, int>&);
  bool puts = false;
};
const invalidation invalidations[] = {
    {"invalidate", [](loading_cache<int, int>& c) { c.invalidate(key); }},
    {"clear", [](loading_cache<int, int>& c) { c.clear(); }},
    {"invalidate_if_key",
     [](loading_cache<int, int>& c) { c.invalidate_if([](int k) { return k == key; }); }},
    {"invalidate_if_value",
     [](loading_cache<int, int>& c) { c.invalidate_if([](int, int v) { return v < written; }); }},
    {"put", [](loading_cache<int, int>& c) { c.put(key, written); }, true},
};

// ---- the loads ----------------------------------------------------------------------------------

/// A cache whose n-th load returns n; the held load blocks until it is released.
struct scene {
  support::thread_per_task threads;  // the first member: it joins last
  gate held;
  std::atomic<int> loads{0};
  std::atomic<int> hold_at{0};
  support::suspension at;  // holds an awaited load
  std::unique_ptr<loading_cache<int, int>> cache;

  int load() {
    const int n = ++loads;
    if (n == hold_at) held.wait();
    return n;
  }
  void await_held() { held.await_arrivals(); }
  void let_go() { held.open(); }

  static singleflight::cache_options<int, int> options(scene& of) {
    return {.stale_if_error = 1h, .group = {.executor = of.threads}};
  }
};

struct kind_of_load {
  // NOLINTNEXTLINE(readability-identifier-naming): as GoogleTest calls it
  friend void PrintTo(const kind_of_load& of, std::ostream* to) { *to << of.name; }
  const char* name;
  /// Makes the cache, begins a load, and returns once it is held; the future is its caller's
  /// result.
  std::future<int> (*begin)(scene&);
  void (*go_on)(scene&) = [](scene& s) { s.let_go(); };
};

void make_plain(scene& s) {
  s.cache =
      std::make_unique<loading_cache<int, int>>([&s](int) { return s.load(); }, scene::options(s));
}
void make_bulk(scene& s) {
  s.cache = std::make_unique<loading_cache<int, int>>([&s](int) { return s.load(); },
                                                      [&s](std::span<const int> keys) {
                                                        const int n = s.load();
                                                        return std::vector<outcome<int>>(
                                                            keys.size(), outcome<int>(n));
                                                      },
                                                      scene::options(s));
}
support::lazy<int> load_awaited(scene& s) {
  const int n = ++s.loads;
  if (n == s.hold_at) co_await s.at;
  co_return n;
}
void make_awaited(scene& s) {
  auto how = scene::options(s);
  how.group.executor = singleflight::inline_executor;
  s.cache = std::make_unique<loading_cache<int, int>>([&s](int) { return load_awaited(s); },
                                                      std::move(how));
}
std::future<int> ready(int n) {
  std::promise<int> p;
  p.set_value(n);
  return p.get_future();
}

const kind_of_load kinds_of_loads[] = {
    {"get",
     [](scene& s) {
       make_plain(s);
       s.hold_at = 1;
       auto caller = in_thread([&s] { return *s.cache->get(key); });
       s.await_held();
       return caller;
     }},
    {"get_with_limits",
     [](scene& s) {
       make_plain(s);
       s.hold_at = 1;
       auto caller = in_thread([&s] {
         return *s.cache->get(key, {.deadline = std::chrono::steady_clock::now() + 1h});
       });
       s.await_held();
       return caller;
     }},
    {"given_loader",
     [](scene& s) {
       make_plain(s);
       s.hold_at = 1;
       auto caller = in_thread([&s] { return *s.cache->get(key, [&s](int) { return s.load(); }); });
       s.await_held();
       return caller;
     }},
    {"start_get",
     [](scene& s) {
       make_plain(s);
       s.hold_at = 1;
       auto handle = s.cache->start_get(key);
       s.await_held();
       return in_thread([h = std::move(handle)]() mutable { return *h.get(); });
     }},
    {"refresh",
     [](scene& s) {
       make_plain(s);
       s.cache->get(key);
       s.hold_at = 2;
       s.cache->refresh(key);
       s.await_held();
       return ready(2);
     }},
    {"get_all",
     [](scene& s) {
       make_plain(s);
       s.hold_at = 1;
       auto caller = in_thread([&s] { return **s.cache->get_all(std::vector{key, 2}).front(); });
       s.await_held();
       return caller;
     }},
    {"load_many",
     [](scene& s) {
       make_bulk(s);
       s.hold_at = 1;
       auto caller = in_thread([&s] { return **s.cache->get_all(std::vector{2, key}).back(); });
       s.await_held();
       return caller;
     }},
    {"awaited",
     [](scene& s) {
       make_awaited(s);
       s.hold_at = 1;
       auto handle = s.cache->start_get(key);
       EXPECT_TRUE(s.at.taken());
       return in_thread([h = std::move(handle)]() mutable { return *h.get(); });
     },
     [](scene& s) { s.at.resume(); }},
    {"awaited_refresh",
     [](scene& s) {
       make_awaited(s);
       s.cache->get(key);
       s.hold_at = 2;
       s.cache->refresh(key);
       EXPECT_TRUE(s.at.taken());
       return ready(2);
     },
     [](scene& s) { s.at.resume(); }},
    {"start_get_dropped",
     [](scene& s) {
       make_plain(s);
       s.hold_at = 1;
       { auto dropped = s.cache->start_get(key); }
       s.await_held();
       return ready(1);
     }},
};

class invalidation_against
    : public testing::TestWithParam<std::tuple<kind_of_load, invalidation, bool>> {};

// Goal    The value of a load that was overtaken by an invalidation is returned to the callers that
//         waited for it already, and to no other call, before or after that load has ended.
// Method  The load is held in its loader; the later call is made before it is released, or after.
TEST_P(invalidation_against, a_load) {  // Scenario 31
  const auto& [load, invalidate, late] = GetParam();
  scene s;
  std::future<int> waits = load.begin(s);
  const int old = s.loads;
  invalidate.call(*s.cache);

  const auto expect_new = [&](int seen) {
    if (invalidate.puts) {
      EXPECT_EQ(seen, written);
    } else {
      EXPECT_GT(seen, old) << "a value from before the invalidation";
    }
  };
  const auto later_calls = [&] {
    if (const auto found = s.cache->find(key)) expect_new(**found);
    expect_new(*s.cache->get(key));
    expect_new(*s.cache->start_get(key).get());
    expect_new(**s.cache->get_all(std::vector{key}).front());
  };
  if (!late) later_calls();
  load.go_on(s);
  EXPECT_EQ(waits.get(), old) << "callers that joined earlier get its value";
  // Only the statistics show the end of a load that no caller waits for.
  support::eventually([&] { return s.cache->stats().not_stored >= 1; }, "the old load's end");
  const int so_far = s.loads;
  later_calls();
  EXPECT_EQ(s.loads, so_far + (late && !invalidate.puts ? 1 : 0)) << "at most one more load";
}

INSTANTIATE_TEST_SUITE_P(loading_cache, invalidation_against,
                         testing::Combine(testing::ValuesIn(kinds_of_loads),
                                          testing::ValuesIn(invalidations), testing::Bool()),
                         [](const auto& of) {
                           return std::string(std::get<0>(of.param).name) + "__" +
                                  std::get<1>(of.param).name +
                                  (std::get<2>(of.param) ? "__after" : "__before");
                         });

// ---- further cases ------------------------------------------------------------------------------

// Goal    invalidate returns whether there was an entry or a load.
TEST(invalidate, says_whether_there_was_anything) {
  gate loading;
  loading_cache<int, int> cache([&](int k) {
    loading.wait();
    return k;
  });
  EXPECT_FALSE(cache.invalidate(1));
  cache.put(1, 5);
  EXPECT_TRUE(cache.invalidate(1));
  EXPECT_FALSE(cache.invalidate(1));
  auto leader = in_thread([&] { return *cache.get(1); });
  loading.await_arrivals();
  EXPECT_TRUE(cache.invalidate(1)) << "a load was running";
  EXPECT_FALSE(cache.invalidate(1)) << "the load was forgotten already";
  loading.open();
  EXPECT_EQ(leader.get(), 1);
  EXPECT_FALSE(cache.find(1));
}

// Goal    invalidate_if misses no entry, even if other entries removed meanwhile free places in
//         lines that it has passed, to which entries of later lines could move home.
// Method  Lines are in the order of hashes. The predicate removes entries with smaller hashes than
//         the one that it is called for, so they are in lines already passed.
TEST(invalidate, invalidate_if_while_others_are_removed) {
  constexpr int entries = 20'000;
  loading_cache<int, int> cache([](int k) { return k; }, {.capacity = entries});
  const auto hash_of = [](int k) {
    return static_cast<std::uint32_t>(singleflight::key_hash<int>{}(k));
  };
  std::vector<int> others;
  for (int k = 0; k < entries; ++k) {
    cache.get(k);
    if (k % 2 != 0) others.push_back(k);
  }
  std::ranges::sort(others, {}, hash_of);
  auto next = others.begin();
  const std::size_t count = cache.invalidate_if([&](int key) {
    for (; next != others.end() && hash_of(*next) < hash_of(key); ++next) cache.invalidate(*next);
    return key % 2 == 0;
  });
  EXPECT_EQ(count, static_cast<std::size_t>(entries / 2));
  for (int k = 0; k < entries; k += 2) ASSERT_FALSE(cache.find(k)) << k;
}

// Goal    invalidate_if removes the matching entries, leaves the rest, and returns how many it
//         removed.
TEST(invalidate, by_key_and_by_value) {
  loading_cache<int, int> cache([](int k) { return -k; });
  for (int k = 0; k < 1000; ++k) cache.get(k);
  EXPECT_EQ(cache.invalidate_if([](int k) { return k % 2 == 0; }), 500U);
  EXPECT_EQ(cache.stats().entries, 500U);
  EXPECT_EQ(cache.invalidate_if([](int, int v) { return v < -500; }), 250U);
  EXPECT_EQ(cache.stats().entries, 250U);
  for (int k = 0; k < 1000; ++k) ASSERT_EQ(cache.find(k).has_value(), k % 2 == 1 && k <= 500) << k;
  EXPECT_EQ(cache.invalidate_if([](int) { return false; }), 0U);
  EXPECT_EQ(cache.stats().invalidated, 750U);
}

// Goal    The predicate is called with no lock held: it may use the cache, even so that the table
//         grows or is cleared during the walk.
TEST(invalidate, the_predicate_may_use_the_cache) {
  loading_cache<int, int> cache([](int k) { return k; }, {.capacity = 100'000});
  for (int k = 0; k < 100; ++k) cache.get(k);
  int more = 1000;
  const auto count = cache.invalidate_if([&](int k) {
    if (k < 100) {
      for (int i = 0; i < 20; ++i) cache.get(more++);
    }
    return k < 100;
  });
  EXPECT_EQ(count, 100U);
  for (int k = 0; k < 100; ++k) EXPECT_FALSE(cache.find(k)) << k;
  EXPECT_TRUE(cache.find(1000));

  cache.invalidate_if([&](int) {
    cache.clear();
    return true;
  });
  EXPECT_EQ(cache.stats().entries, 0U);
}

// Goal    If a predicate throws, the entries that it selected earlier are removed, and no load
//         returns them to a later caller; all other entries stay.
// Method  As in what_a_load_found_meanwhile, with more entries than the cache removes at once; the
//         predicate throws when the first entry that it selected has been removed.
TEST(invalidate, a_predicate_that_throws) {
  singleflight::manual_timer time;
  gate held;
  std::atomic<int> first{0};
  std::atomic<int> loads{0};  // of the first key
  loading_cache<int, int> cache(
      [&](int k) -> int {
        if (k == -1) held.wait();
        if (k == first && loads++ == 0) throw std::runtime_error("down");
        return -k;
      },
      {.ttl = 10s, .stale_if_error = 1h, .group = {.timer = &time}});
  constexpr int entries = 300;
  for (int k = 1; k <= entries; ++k) cache.put(k, k);
  time.advance(20s);
  std::future<std::vector<outcome<cached<int>>>> both;
  const auto out = [&](int k) {
    if (first == 0) {
      first = k;
      both = in_thread([&, k] { return cache.get_all(std::vector{k, -1}); });
      held.await_arrivals();
    }
    if (!cache.policy().explain(first.load()).present) throw std::runtime_error("no answer");
    return k == first;
  };
  EXPECT_THROW(cache.invalidate_if(out), std::runtime_error);
  EXPECT_EQ(cache.stats().entries, static_cast<std::size_t>(entries - 1));
  auto later = cache.start_get(first.load());
  held.open();
  EXPECT_EQ(*both.get()[0].value(), first);
  EXPECT_EQ(*std::move(later).get(), -first);
}

// Goal    A load that fails after its key was invalidated delivers its exception to its own callers
//         only: it is not kept, and does not delay the newer value's refresh.
TEST(invalidate, a_failure_from_before_is_not_kept) {
  gate loading;
  int loads = 0;
  singleflight::manual_timer time;
  support::manual_executor later;
  loading_cache<int, int> cache(
      [&](int) -> int {
        if (++loads > 1) return loads;
        loading.wait();
        throw std::runtime_error("old news");
      },
      {.refresh_after = 10s,
       .retry_after = 1h,
       .max_retry_after = 1h,
       .error_ttl = 1h,
       .group = {.executor = later, .timer = &time}});
  auto leader = in_thread([&] { return *cache.get(1); });
  loading.await_arrivals();
  cache.invalidate(1);
  cache.put(1, 50);
  loading.open();
  try {
    EXPECT_EQ(leader.get(), 50);  // gets the current value instead
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(*cache.get(1), 50);
  time.advance(11s);
  EXPECT_EQ(*cache.get(1), 50);
  EXPECT_EQ(later.run_all(), 1U) << "the newer value must be refreshed";
  EXPECT_EQ(*cache.get(1), 2);
}

// Goal    A load that timed out, or that its group abandoned because of its age, is not stored.
TEST(invalidate, a_load_that_was_given_up) {
  for (const bool timeout : {true, false}) {
    singleflight::manual_timer time;
    gate loading;
    std::atomic<int> loads{0};
    loading_cache<int, int> cache(
        [&](int) {
          const int n = ++loads;
          if (n == 1) loading.wait();
          return n;
        },
        {.group = {
             .timer = &time, .join_window = timeout ? 0s : 5s, .load_timeout = timeout ? 5s : 0s}});
    auto leader = in_thread([&] { return *cache.get(1); });
    loading.await_arrivals();
    time.advance(6s);
    support::eventually(  // the timeout fires on its own thread
        [&] {
          try {
            return *cache.get(1) == 2;
          } catch (const singleflight::flight_error&) {
            return false;
          }
        },
        "the load's end by its timeout");
    cache.invalidate(1);
    loading.open();
    EXPECT_EQ(leader.get(), 1);
    EXPECT_FALSE(cache.find(1)) << "a load from before the invalidation";
    EXPECT_EQ(*cache.get(1), 3);
  }
}

// Goal    If a loader puts or invalidates its own key, its result is not stored over that.
TEST(invalidate, within_the_own_load) {
  loading_cache<int, int>* self = nullptr;
  loading_cache<int, int> cache([&](int k) {
    if (k == 1) self->put(1, 100);
    if (k == 2) self->invalidate(2);
    if (k == 3) self->clear();
    return k;
  });
  self = &cache;
  EXPECT_EQ(*cache.get(1), 1);
  EXPECT_EQ(*cache.get(1), 100);
  EXPECT_EQ(*cache.get(2), 2);
  EXPECT_FALSE(cache.find(2));
  EXPECT_EQ(*cache.get(3), 3);
  EXPECT_FALSE(cache.find(3));
  EXPECT_FALSE(cache.find(1));
}

// Goal    A load that begins during invalidate_if, and serves a value that is about to be removed,
//         does not return it to later callers.
// Method  The predicate starts a get_all: the load of its first key fails and serves the stale
//         value; the load of the second is held, so the first is still in flight when invalidate_if
//         returns.
TEST(invalidate, what_a_load_found_meanwhile) {
  singleflight::manual_timer time;
  gate held;
  std::atomic<int> loads{0};  // of the first key
  loading_cache<int, int> cache(
      [&](int k) -> int {
        if (k == 2) held.wait();
        if (k == 1 && loads++ == 0) throw std::runtime_error("down");
        return 10 + k;
      },
      {.ttl = 10s, .stale_if_error = 1h, .group = {.timer = &time}});
  cache.put(1, 1);
  time.advance(20s);
  std::future<std::vector<outcome<cached<int>>>> both;
  EXPECT_EQ(cache.invalidate_if([&](int) {
    both = in_thread([&] { return cache.get_all(std::vector{1, 2}); });
    held.await_arrivals();
    return true;
  }),
            1U);
  auto later = cache.start_get(1);
  held.open();
  const auto those = both.get();
  EXPECT_EQ(*those[0].value(), 1);
  EXPECT_EQ(*those[1].value(), 12);
  EXPECT_EQ(*std::move(later).get(), 11);
}

// Goal    A stale value that was invalidated is not served when the load fails.
TEST(invalidate, a_stale_value_is_removed_as_well) {
  singleflight::manual_timer time;
  bool works = true;
  loading_cache<int, int> cache(
      [&](int k) -> int {
        if (!works) throw std::runtime_error("down");
        return k;
      },
      {.ttl = 10s, .stale_if_error = 1h, .group = {.timer = &time}});
  cache.get(1);
  time.advance(20s);
  works = false;
  EXPECT_TRUE(cache.get(1).stale());
  EXPECT_TRUE(cache.get(1).stale()) << "served again, without a load";
  cache.invalidate(1);
  EXPECT_THROW(cache.get(1), std::runtime_error);
}

}  // namespace
