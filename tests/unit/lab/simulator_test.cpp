// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/simulator.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lab/protection/protection.hpp"
#include "unit/lab/trace_of.hpp"

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

struct conditions {
  nanoseconds load_time = 20ms;
  cache_settings cache = {};
  std::size_t processes = 1;
  faults injected = {};
};

simulated_run run(const std::vector<arrival>& arrivals, const char* protection,
                  const conditions& with = {}) {
  const auto log = trace_of(arrivals);
  const auto times = load_times::constant(with.load_time);
  const auto profile = profile_of(log, times, {});
  std::atomic<std::uint64_t> done = 0;
  return simulate({.trace = log,
                   .profile = profile,
                   .times = times,
                   .injected = with.injected,
                   .processes = with.processes,
                   .cache = with.cache},
                  protection, {}, done);
}

std::uint64_t loads(const std::vector<arrival>& arrivals, const char* protection,
                    const conditions& with = {}) {
  return run(arrivals, protection, with).loads;
}

// Goal    Requests that arrive while a load of their key is in progress join it; without a
//         protection each of them loads.
TEST(simulator, overlapping_requests_share_a_load) {
  const std::vector<arrival> log{{0ms, 0}, {5ms, 0}, {10ms, 1}, {19ms, 0}, {30ms, 0}};
  EXPECT_EQ(loads(log, "none"), 5U);
  const auto flight = run(log, "flight");
  EXPECT_EQ(flight.requests, 5U);
  EXPECT_EQ(flight.loads, 3U);
  EXPECT_EQ(flight.joins, 2U);
  EXPECT_EQ(flight.saved(), 2);
  EXPECT_EQ(flight.peak_loads, 2U);
  EXPECT_EQ(run(log, "none").peak_loads, 4U);
}

// Goal    Every protection of a replay can be simulated.
TEST(simulator, knows_every_protection) {
  for (const auto& name : protection_names()) {
    const auto each = run({{0ms, 0}, {1s, 1}}, name.c_str());
    EXPECT_EQ(each.protection, name);
    EXPECT_EQ(each.loads, 2U) << name;
  }
}

// Goal    A load that is over at the moment at which a request arrives has ended: the request joins
//         nothing, and the value is in the cache.
TEST(simulator, loads_end_before_the_requests_of_the_same_moment) {
  const std::vector<arrival> log{{0ms, 0}, {20ms, 0}};
  EXPECT_EQ(loads(log, "flight"), 2U);
  const auto cache = run(log, "cache");
  EXPECT_EQ(cache.loads, 1U);
  EXPECT_EQ(cache.joins, 0U);
  EXPECT_EQ(cache.cached->hits, 1U);
}

// Goal    Requests of the same moment are made in the order of the log, and overlap.
TEST(simulator, requests_of_the_same_moment_overlap) {
  const std::vector<arrival> log{{0ms, 0}, {0ms, 0}, {0ms, 0}};
  EXPECT_EQ(loads(log, "flight"), 1U);
  EXPECT_EQ(loads(log, "cache-alone"), 3U);
  EXPECT_EQ(loads(log, "cache"), 1U);
}

// Goal    Loads that take no time overlap nothing, and are stored at once.
TEST(simulator, loads_that_take_no_time) {
  const std::vector<arrival> log{{0ms, 0}, {0ms, 0}, {1ms, 0}};
  const conditions instant{.load_time = 0ms};
  EXPECT_EQ(loads(log, "none", instant), 3U);
  EXPECT_EQ(loads(log, "flight", instant), 3U);
  EXPECT_EQ(loads(log, "cache", instant), 1U);
  EXPECT_EQ(loads(log, "cache-alone", instant), 1U);
}

// Goal    An answer is fresh for its ttl from the end of its load, exactly (in the steps of the
//         cache's clock): no jitter.
TEST(simulator, ttl) {
  const conditions ttl{.cache = {.ttl = 1s}};
  EXPECT_EQ(loads({{0ms, 0}, {1019ms, 0}}, "cache", ttl), 1U);
  EXPECT_EQ(loads({{0ms, 0}, {1021ms, 0}}, "cache", ttl), 2U);
  EXPECT_EQ(loads({{0ms, 0}, {1019ms, 0}}, "cache-alone", ttl), 1U);
  EXPECT_EQ(loads({{0ms, 0}, {1021ms, 0}}, "cache-alone", ttl), 2U);
  // A hit does not extend it.
  EXPECT_EQ(loads({{0ms, 0}, {900ms, 0}, {1021ms, 0}, {2030ms, 0}, {2050ms, 0}}, "cache", ttl), 3U);
}

// Goal    The capacity is that of each process's cache.
TEST(simulator, capacity) {
  std::vector<arrival> log;
  for (int round = 0; round < 10; ++round) {
    for (std::uint32_t key = 0; key < 20; ++key) log.push_back({round * 10s + key * 100ms, key});
  }
  const auto all = run(log, "cache", {.cache = {.capacity = 20}});
  EXPECT_EQ(all.loads, 20U);
  EXPECT_EQ(all.cached->evicted, 0U);
  const auto half = run(log, "cache", {.cache = {.capacity = 10}});
  EXPECT_GT(half.loads, 60U);
  EXPECT_GT(half.cached->evicted, 40U);
  EXPECT_EQ(half.loads, half.cached->misses);
}

// Goal    A hit on an answer that is due is a hit, and begins one load in the background; that load
//         counts, though no request waits for it.
TEST(simulator, refresh_ahead) {
  const conditions due{.cache = {.ttl = 1s, .refresh_after = 500ms}};
  const std::vector<arrival> log{{0ms, 0}, {400ms, 0}, {600ms, 0}, {610ms, 0}, {1100ms, 0}};
  const auto cache = run(log, "cache", due);
  EXPECT_EQ(cache.loads, 2U);
  EXPECT_EQ(cache.cached->refreshes, 1U);
  EXPECT_EQ(cache.cached->hits, 4U);
  EXPECT_EQ(cache.joins, 0U);
  // Without a request in the second half of its life, an answer is not refreshed.
  EXPECT_EQ(loads({{0ms, 0}, {400ms, 0}, {1100ms, 0}}, "cache", due), 2U);
}

// Goal    If a load fails and a stale answer may be served, all requests that wait for the load get
//         that; for a second the next ones get it at once. If nothing is stale, they fail.
TEST(simulator, stale_answers) {
  // The first answer for the key succeeds, the others fail.
  const faults most{.fail_share = 0.5};
  std::uint64_t seed = 0;
  const auto fails = [&](std::uint64_t number) { return most.fails(seed, "0", number); };
  while (fails(0) || !fails(1) || !fails(2)) ++seed;
  const auto log =
      trace_of({{0ms, 0}, {1100ms, 0}, {1110ms, 0}, {1200ms, 0}, {20s, 0}, {20010ms, 0}});
  const auto times = load_times::constant(20ms);
  const auto profile = profile_of(log, times, {});
  std::atomic<std::uint64_t> done = 0;
  const auto run_with = [&](cache_settings cache) {
    return simulate({.trace = log,
                     .profile = profile,
                     .times = times,
                     .injected = most,
                     .seed = seed,
                     .cache = cache},
                    "cache", {}, done);
  };
  const auto stale = run_with({.ttl = 1s, .stale_if_error = 5s});
  EXPECT_EQ(stale.cached->stale, 3U);
  EXPECT_EQ(stale.failed, 2U);
  EXPECT_EQ(stale.loads, 3U);
  EXPECT_EQ(stale.failed_loads, 2U);
  EXPECT_EQ(stale.cached->failed, 2U);
  EXPECT_EQ(stale.cached->hits, 0U);
  EXPECT_EQ(stale.cached->hits + stale.cached->stale + stale.cached->misses, 6U);
  const auto never_stale = run_with({.ttl = 1s});
  EXPECT_EQ(never_stale.cached->stale, 0U);
  EXPECT_GT(never_stale.failed, 2U);
}

// Goal    A failed load fails all requests that share it; each of them loads again later.
TEST(simulator, failures) {
  const conditions failing{.injected = {.fail_share = 1}};
  const std::vector<arrival> log{{0ms, 0}, {5ms, 0}, {50ms, 0}};
  for (const auto* protection : {"none", "flight", "cache-alone", "cache"}) {
    const auto each = run(log, protection, failing);
    EXPECT_EQ(each.failed, 3U) << protection;
    EXPECT_EQ(each.failed_loads, each.loads) << protection;
  }
  EXPECT_EQ(run(log, "cache", failing).loads, 2U);
  EXPECT_EQ(run(log, "none", {.injected = {.slow_share = 1, .slow_by = 1s}}).failed, 0U);
  EXPECT_EQ(run(log, "flight", {.injected = {.slow_share = 1, .slow_by = 1s}}).loads, 1U);
}

// Goal    Requests are dealt to the processes in turn, and each process has what is its own.
TEST(simulator, processes) {
  const std::vector<arrival> log{{0ms, 0}, {1ms, 0}, {2ms, 0}, {3ms, 0}, {100ms, 0}, {101ms, 0}};
  EXPECT_EQ(loads(log, "flight", {.processes = 2}), 4U);
  EXPECT_EQ(loads(log, "cache", {.processes = 2}), 2U);
  EXPECT_EQ(loads(log, "cache", {.processes = 3}), 3U);
  EXPECT_EQ(loads(log, "none", {.processes = 3}), 6U);
}

// Goal    A load that is longer than the log is one load, which all requests of its key share.
TEST(simulator, a_load_that_is_longer_than_the_log) {
  const std::vector<arrival> log{{0ms, 0}, {1s, 0}, {2s, 1}, {3s, 0}};
  const conditions slow{.load_time = 1h};
  for (const auto* protection : {"flight", "cache"}) {
    const auto each = run(log, protection, slow);
    EXPECT_EQ(each.loads, 2U) << protection;
    EXPECT_EQ(each.joins, 2U) << protection;
    EXPECT_EQ(each.requests, 4U) << protection;
  }
  EXPECT_EQ(loads(log, "cache-alone", slow), 4U);
}

// Goal    Of loads that take different times, each ends at its own time.
TEST(simulator, durations_of_the_log) {
  timed_trace log;
  log.keys = {"0", "1"};
  log.requests.append({0ms, 0, 100ms});
  log.requests.append({10ms, 1, 5ms});
  log.requests.append({20ms, 1, 5ms});
  log.requests.append({50ms, 0, 1ms});
  log.requests.append({150ms, 0, 1ms});
  const auto times = load_times::of_log();
  const auto profile = profile_of(log, times, {});
  std::atomic<std::uint64_t> done = 0;
  const auto flight =
      simulate({.trace = log, .profile = profile, .times = times}, "flight", {}, done);
  EXPECT_EQ(flight.loads, 4U);
  EXPECT_EQ(flight.joins, 1U);
}

// Goal    Loads are counted by the hour in which they begin, by hot key, and by stampede.
TEST(simulator, loads_by_hour_key_and_stampede) {
  std::vector<arrival> log;
  for (int i = 0; i < 5; ++i) log.push_back({i * 1ms, 7});
  for (int i = 0; i < 3; ++i) log.push_back({2h + i * 1ms, 3});
  log.push_back({2h + 1s, 7});
  const auto none = run(log, "none");
  EXPECT_EQ(none.loads_by_hour, (std::vector<std::uint64_t>{5, 4}));
  EXPECT_EQ(none.loads_let_through, (std::vector<std::uint64_t>{5, 3}));
  ASSERT_GE(none.loads_of_hottest.size(), 2U);
  EXPECT_EQ(none.loads_of_hottest[0], 6U);
  EXPECT_EQ(none.loads_of_hottest[1], 3U);
  const auto flight = run(log, "flight");
  EXPECT_EQ(flight.loads_by_hour, (std::vector<std::uint64_t>{1, 2}));
  EXPECT_EQ(flight.loads_let_through, (std::vector<std::uint64_t>{1, 1}));
  EXPECT_EQ(run(log, "flight", {.processes = 2}).loads_let_through,
            (std::vector<std::uint64_t>{2, 2}));
  EXPECT_EQ(run(log, "cache").loads_of_hottest[0], 1U);
}

// Goal    After a stop request the run says that it is not complete.
TEST(simulator, stops) {
  std::stop_source source;
  const auto log = trace_of({{0ms, 0}});
  const auto times = load_times::constant(20ms);
  const auto profile = profile_of(log, times, {});
  source.request_stop();
  std::atomic<std::uint64_t> done = 0;
  const auto stopped = simulate({.trace = log, .profile = profile, .times = times}, "cache",
                                source.get_token(), done);
  EXPECT_FALSE(stopped.complete);
  EXPECT_EQ(stopped.requests, 0U);
}

}  // namespace
}  // namespace singleflight::lab
