// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/recorder.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;

TEST(recorder, counts_what_callers_observe) {
  recorder record;
  record.record(0, 1ms, {reply::origin::own_load, false, {}});
  record.record(1, 2ms, {reply::origin::shared, true, {}});
  record.record(17, 3ms, {reply::origin::shared, false, reply::failure{"sqlite_busy", "locked"}});
  record.record(3, 4ms, {reply::origin::no_load, false, reply::failure{"timed_out", "too late"}});
  const auto seen = record.sum();
  EXPECT_EQ(seen.requests, 4U);
  EXPECT_EQ(seen.answered, 2U);
  EXPECT_EQ(seen.saved, 2U);
  EXPECT_EQ(seen.empty, 1U);
  ASSERT_EQ(seen.errors.size(), 2U);
  EXPECT_EQ(seen.errors.at("timed_out").count, 1U);
  EXPECT_EQ(seen.errors.at("sqlite_busy").example, "locked");
  EXPECT_EQ(seen.latency.max(), 4ms);
}

TEST(recorder, many_threads) {
  recorder record;
  std::vector<std::jthread> threads;
  for (std::size_t thread = 0; thread < 32; ++thread) {
    threads.emplace_back([&record, thread] {
      for (int i = 0; i < 1000; ++i)
        record.record(thread, 1us, {reply::origin::own_load, false, {}});
    });
  }
  threads.clear();
  EXPECT_EQ(record.sum().requests, 32'000U);
  EXPECT_EQ(record.sum().latency.count(), 32'000U);
}

}  // namespace
}  // namespace singleflight::lab
