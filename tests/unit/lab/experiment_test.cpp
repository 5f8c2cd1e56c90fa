// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/experiment.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "lab/backend/delay_backend.hpp"
#include "lab/workload/generator.hpp"
#include "unit/lab/fake_backend.hpp"

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

run_result replay(const workload& requests, const pacing& pace, const std::string& protection,
                  backend& measured, std::optional<std::chrono::nanoseconds> deadline = {}) {
  std::atomic<std::uint64_t> done = 0;
  auto result = measure({requests, pace, deadline}, protection, measured, {}, done);
  EXPECT_EQ(done, result.seen.requests);
  return result;
}

// Goal    Each request either loads, is saved or gives up, and each is measured.
TEST(experiment, counts_add_up) {
  fake_backend backend([](const std::string& key) -> row {
    if (key == "3") throw backend_error("odd", "three");
    return {key, 1};
  });
  const auto requests = generator::parse("uniform:keys=5").make(2000, 1);
  pacing pace;
  pace.callers = 4;
  for (const char* protection : {"none", "flight", "cache"}) {
    const auto result = replay(requests, pace, protection, backend);
    EXPECT_TRUE(result.complete);
    EXPECT_EQ(result.seen.requests, 2000U);
    EXPECT_EQ(result.seen.latency.count(), 2000U);
    EXPECT_EQ(result.backend_loads + result.seen.saved, 2000U);
    EXPECT_EQ(result.seen.answered + result.seen.errors.at("odd").count, 2000U);
    EXPECT_GE(result.loads_in_flight.most(), 1U);
    EXPECT_LE(result.loads_in_flight.most(), 4U);
  }
  EXPECT_EQ(replay(requests, pace, "none", backend).backend_loads, 2000U);
}

// Goal    An answer after the deadline counts as timed out under each protection, and as a load.
TEST(experiment, late_answers_are_timed_out) {
  fake_backend backend([](const std::string& key) {
    const auto end = clock::now() + 30ms;  // a caller delayed by less than 25 ms begins in time
    while (clock::now() < end) {
    }
    return row{key, 1};
  });
  const auto requests = generator::parse("uniform:keys=5").make(5, 1);
  pacing pace;
  pace.callers = 1;
  for (const char* protection : {"none", "flight"}) {
    const auto result = replay(requests, pace, protection, backend, 25ms);
    EXPECT_EQ(result.seen.answered, 0U);
    EXPECT_EQ(result.seen.errors.at("timed_out").count, 5U);
    EXPECT_EQ(result.backend_loads, 5U);
    EXPECT_EQ(result.seen.saved, 0U);
  }
}

// Goal    A stop ends the run at once, and the requests that it ends do not count as failed.
TEST(experiment, stopped_early) {
  delay_backend backend(1h);
  const auto requests = generator::parse("uniform:keys=5").make(100, 1);
  pacing pace;
  pace.callers = 4;
  for (const char* protection : {"none", "flight", "cache"}) {
    delay_backend slow(1h);
    std::stop_source stop;
    std::atomic<std::uint64_t> done = 0;
    std::jthread stopper([&] { stop.request_stop(); });
    const auto result = measure({requests, pace, {}}, protection, slow, stop.get_token(), done);
    EXPECT_FALSE(result.complete);
    EXPECT_EQ(result.seen.requests, 0U);
    EXPECT_EQ(result.backend_loads, 0U);
    EXPECT_TRUE(result.seen.errors.empty());
  }
}

// Goal    A stored answer is loaded once, and the counts of the cache agree with the tally.
TEST(experiment, a_cache_stores_answers) {
  fake_backend backend([](const std::string& key) { return row{key, 1}; });
  const auto requests = generator::parse("uniform:keys=50").make(2000, 1);
  pacing pace;
  pace.callers = 4;
  std::atomic<std::uint64_t> done = 0;
  experiment what{requests, pace};
  auto result = measure(what, "cache", backend, {}, done);
  EXPECT_EQ(result.backend_loads, 50U);
  EXPECT_EQ(result.seen.saved, 1950U);
  ASSERT_TRUE(result.cached);
  EXPECT_EQ(result.cached->hits + result.cached->misses, 2000U);
  EXPECT_EQ(result.cached->evicted, 0U);
  what.cache.capacity = 10;
  result = measure(what, "cache", backend, {}, done);
  EXPECT_GT(result.backend_loads, 500U);
  EXPECT_GT(result.cached->evicted, 400U);
  EXPECT_FALSE(measure(what, "flight", backend, {}, done).cached);
}

// Goal    Only loads that reach the backend count: a load that waits for its turn is not in flight.
TEST(experiment, loads_are_counted_behind_the_guards) {
  fake_backend backend([](const std::string& key) { return row{key, 1}; });
  const auto requests = generator::parse("uniform:keys=5").make(500, 1);
  pacing pace;
  pace.callers = 4;
  std::atomic<std::uint64_t> done = 0;
  const experiment what{requests, pace, {}, {.attempts = 3, .error_rate = {}, .max_loads = 1}};
  const auto result = measure(what, "none", backend, {}, done);
  EXPECT_EQ(result.backend_loads, 500U);
  EXPECT_EQ(result.loads_in_flight.most(), 1U);
  EXPECT_EQ(result.guards.asked, 500U);
  EXPECT_EQ(result.guards.retries, 0U);
  EXPECT_LE(result.guards.longest_wait, result.guards.waited);
  EXPECT_TRUE(result.seen.errors.empty());
}

// Goal    A trial ends in time, however long the guards would retry for a patient caller.
// Method  Each load fails, and a hundred attempts take almost a minute.
TEST(experiment, probing_does_not_wait_for_guards) {
  fake_backend broken([](const std::string&) -> row { throw backend_error("odd", "odd"); });
  const auto requests = generator::parse("uniform:keys=5").make(100, 1);
  guarded_backend guarded(broken, {.attempts = 100, .error_rate = {}, .max_loads = 1});
  const auto begin = clock::now();
  EXPECT_GT(probe(guarded, requests, 4, {}), 1);
  EXPECT_LT(clock::now() - begin, 10s);
}

TEST(experiment, probing_counts_loads) {
  delay_backend backend(5ms);
  const auto requests = generator::parse("uniform:keys=5").make(100, 1);
  const double loads_per_s = probe(backend, requests, 10, {});
  EXPECT_GT(loads_per_s, 100);
  EXPECT_LE(loads_per_s, 2000);
}

}  // namespace
}  // namespace singleflight::lab
