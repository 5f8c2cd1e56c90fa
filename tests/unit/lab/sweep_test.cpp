// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/sweep.hpp"

#include <gtest/gtest.h>

#include "cli/interrupt.hpp"
#include "lab/workload/generator.hpp"

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

timed_trace log_of(const char* shape, std::size_t requests, nanoseconds step) {
  const auto generated = generator::parse(shape).make(requests, 1);
  timed_trace made;
  made.keys = generated.keys;
  for (std::size_t i = 0; i < requests; ++i)
    made.requests.append({step * static_cast<std::int64_t>(i), generated.requests[i]});
  return made;
}

cache_sweep sweep(const timed_trace& log, std::size_t most_requests) {
  const auto times = load_times::constant(1ms);
  const auto profile = profile_of(log, times, {});
  std::atomic<std::uint64_t> done = 0;
  auto made =
      sweep_cache({.trace = log, .profile = profile, .times = times}, most_requests, {}, done);
  EXPECT_EQ(done, made.points());
  return made;
}

// Goal    Capacities are shares of the keys, rounded up; small logs have fewer of them. The largest
//         one holds every key.
TEST(sweep, points) {
  EXPECT_EQ(sweep_for(20'484).capacities, (std::vector<std::size_t>{300, 2000, 6000, 30'000}));
  EXPECT_EQ(sweep_for(1).capacities, (std::vector<std::size_t>{1}));
  EXPECT_EQ(sweep_for(8).capacities, (std::vector<std::size_t>{1, 2, 8}));
  EXPECT_EQ(sweep_for(8).points(), 18U);
  EXPECT_EQ(sweep_for(8).ttls.back(), nanoseconds(0));
}

// Goal    Each point is what a simulation with these settings says.
TEST(sweep, each_point_is_simulated) {
  // One key each second, in turn: with a ttl of 10 s the next request for a key is too late.
  const auto log = log_of("uniform:keys=1", 100, 1s);
  const auto made = sweep(log, 1000);
  EXPECT_EQ(made.sampled, 1);
  ASSERT_EQ(made.saved.size(), 1U);
  EXPECT_DOUBLE_EQ(made.saved[0][0], 0.5);   // 1 s: fresh for one more request
  EXPECT_DOUBLE_EQ(made.saved[0][1], 0.9);   // 10 s
  EXPECT_DOUBLE_EQ(made.saved[0][2], 0.98);  // 1 min
  EXPECT_DOUBLE_EQ(made.saved[0][5], 0.99);  // forever
}

// Goal    A sample is close to the whole, also if a few keys have most of the requests.
TEST(sweep, a_sample_is_close_to_the_whole) {
  for (const auto* shape : {"zipf:keys=2000,skew=1.1", "hot:keys=2000,share=0.5"}) {
    const auto log = log_of(shape, 6000, 100ms);
    const auto whole = sweep(log, log.requests.size());
    const auto part = sweep(log, 1000);
    EXPECT_EQ(whole.sampled, 1) << shape;
    EXPECT_LT(part.sampled, 0.4) << shape;
    for (std::size_t c = 0; c < whole.capacities.size(); ++c) {
      for (std::size_t t = 0; t < whole.ttls.size(); ++t) {
        EXPECT_NEAR(part.saved[c][t], whole.saved[c][t], 0.05)
            << shape << ", " << whole.capacities[c] << " entries, ttl " << t;
      }
    }
  }
}

TEST(sweep, a_stop_request_ends_it) {
  const auto log = log_of("uniform:keys=3", 10, 1s);
  const auto times = load_times::constant(1ms);
  const auto profile = profile_of(log, times, {});
  std::stop_source source;
  source.request_stop();
  std::atomic<std::uint64_t> done = 0;
  EXPECT_THROW(
      sweep_cache({.trace = log, .profile = profile, .times = times}, 10, source.get_token(), done),
      cli::interrupted);
}

}  // namespace
}  // namespace singleflight::lab
