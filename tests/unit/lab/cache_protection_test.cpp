// SPDX-License-Identifier: Apache-2.0
#include "lab/protection/cache_protection.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "unit/lab/fake_backend.hpp"
#include <singleflight/core/manual_timer.hpp>

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;
using support::eventually;

reply ask(protection& guard, const std::string& key) { return guard.ask(key, steady_time::max()); }

/// A backend that counts its loads and fails when the test says so, behind a cache with a manual
/// clock.
struct cached_backend {
  explicit cached_backend(const cache_settings& settings)
      : guard(make_cache_protection(asked, settings, clock)) {}

  manual_timer clock;
  std::atomic<int> loads = 0;
  std::atomic<bool> down = false;
  fake_backend asked{[this](const std::string& key) {
    ++loads;
    if (down) throw backend_error("odd", "down");
    return row{key, key == "nobody" ? 0U : 1U};
  }};
  std::unique_ptr<protection> guard;
};

TEST(cache_protection, answers_are_stored) {
  cached_backend it({});
  EXPECT_EQ(ask(*it.guard, "k").from, reply::origin::own_load);
  for (int i = 0; i < 3; ++i) {
    const auto got = ask(*it.guard, "k");
    EXPECT_EQ(got.from, reply::origin::shared);
    EXPECT_FALSE(got.error);
    EXPECT_FALSE(got.empty);
  }
  EXPECT_TRUE(ask(*it.guard, "nobody").empty);
  EXPECT_TRUE(ask(*it.guard, "nobody").empty);
  EXPECT_EQ(it.loads, 2);
  EXPECT_EQ(it.guard->cached()->hits, 4U);
  EXPECT_EQ(it.guard->cached()->misses, 2U);
}

TEST(cache_protection, failures_are_not_stored) {
  cached_backend it({});
  it.down = true;
  EXPECT_EQ(ask(*it.guard, "k").error->kind, "odd");
  it.down = false;
  EXPECT_FALSE(ask(*it.guard, "k").error);
  EXPECT_EQ(it.loads, 2);
  EXPECT_EQ(it.guard->cached()->failed, 1U);
}

TEST(cache_protection, its_capacity) {
  cached_backend it({.capacity = 8});
  for (int i = 0; i < 100; ++i) ask(*it.guard, std::to_string(i));
  EXPECT_GE(it.guard->cached()->evicted, 90U);
}

TEST(cache_protection, its_ttl) {
  cached_backend it({.ttl = 10s});
  ask(*it.guard, "k");
  it.clock.advance(8s);
  EXPECT_EQ(ask(*it.guard, "k").from, reply::origin::shared);
  it.clock.advance(3s);
  EXPECT_EQ(ask(*it.guard, "k").from, reply::origin::own_load);
  EXPECT_EQ(it.loads, 2);
}

// Goal    If a load fails, the expired answer is returned, for as long as stale_if_error says.
TEST(cache_protection, stale_answers) {
  cached_backend it({.ttl = 10s, .stale_if_error = 60s});
  ask(*it.guard, "k");
  it.down = true;
  it.clock.advance(11s);
  const auto got = ask(*it.guard, "k");
  EXPECT_FALSE(got.error);
  EXPECT_EQ(got.from, reply::origin::own_load) << "its load failed";
  EXPECT_EQ(ask(*it.guard, "k").from, reply::origin::shared) << "no second load so soon";
  EXPECT_EQ(it.guard->cached()->stale, 2U);
  EXPECT_EQ(it.guard->cached()->misses, 1U);
  it.clock.advance(60s);
  EXPECT_EQ(ask(*it.guard, "k").error->kind, "odd");
}

// Goal    A request for an old answer returns it at once, and another thread reloads it.
TEST(cache_protection, refreshes_in_the_background) {
  cached_backend it({.ttl = 10s, .refresh_after = 2s});
  ask(*it.guard, "k");
  it.clock.advance(3s);
  EXPECT_EQ(ask(*it.guard, "k").from, reply::origin::shared);
  eventually([&] { return it.loads == 2; }, "the refresh");
  EXPECT_EQ(it.guard->cached()->refreshes, 1U);
}

// Goal    A request that joins a load returns at its deadline; the answer is stored for later ones.
TEST(cache_protection, joins_a_running_load) {
  support::gate held;
  fake_backend asked([&](const std::string& key) {
    held.wait();
    return row{key, 1};
  });
  const auto guard = make_cache_protection(asked, {});
  reply leader;
  std::jthread first([&] { leader = ask(*guard, "k"); });
  held.await_arrivals();
  const auto got = guard->ask("k", std::chrono::steady_clock::now() + 1ms);
  held.open();
  first.join();
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->kind, "timed_out");
  EXPECT_EQ(got.from, reply::origin::no_load);
  EXPECT_EQ(leader.from, reply::origin::own_load);
  EXPECT_EQ(ask(*guard, "k").from, reply::origin::shared);
}

// Goal    The cache alone stores what was loaded, for its ttl, but does not coalesce: a miss during
//         a load of its key loads as well.
// Method  The load of the first miss makes the second one.
TEST(cache_protection, a_cache_alone) {
  manual_timer clock;
  int loads = 0;
  std::unique_ptr<protection> guard;
  fake_backend asked([&](const std::string& key) -> row {
    if (key == "down") throw backend_error("odd", "down");
    if (++loads == 1) {
      EXPECT_EQ(ask(*guard, key).from, reply::origin::own_load);
    }
    return {key, 1};
  });
  guard = make_cache_alone_protection(asked, {.ttl = 10s}, clock);
  EXPECT_EQ(ask(*guard, "k").from, reply::origin::own_load);
  EXPECT_EQ(loads, 2);
  EXPECT_EQ(ask(*guard, "k").from, reply::origin::shared);
  clock.advance(11s);
  EXPECT_EQ(ask(*guard, "k").from, reply::origin::own_load);
  EXPECT_EQ(loads, 3);
  EXPECT_EQ(ask(*guard, "down").error->kind, "odd");
  EXPECT_EQ(guard->cached()->hits, 1U);
  EXPECT_EQ(guard->cached()->misses, 4U);
  EXPECT_EQ(guard->cached()->failed, 1U);
}

}  // namespace
}  // namespace singleflight::lab
