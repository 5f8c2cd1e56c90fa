// SPDX-License-Identifier: Apache-2.0

// Many threads that keep a key busy all the time: no flight may live on from joiner to joiner.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include <singleflight/flight.hpp>

namespace {

// Scenario 5
// Goal    A call that begins after any participant received an outcome does not receive that
//         outcome (P3), however many threads keep the key busy.
// Method  256 threads for 5 s. Each load takes a number. A thread that receives number n raises
//         `handed` to n before its next call; a call that begins afterwards must get a larger
//         number.
TEST(immortal_flight, does_not_exist) {
  singleflight::group<int, std::uint64_t> flights;
  std::atomic<std::uint64_t> numbers{0};
  std::atomic<std::uint64_t> handed{0};
  std::atomic<std::uint64_t> calls{0};
  std::atomic<std::uint64_t> joined{0};
  std::atomic<std::uint64_t> violations{0};
  {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    std::vector<std::jthread> threads;
    for (int t = 0; t < 256; ++t) {
      threads.emplace_back([&] {
        std::uint64_t mine = 0;
        std::uint64_t as_joiner = 0;
        for (; std::chrono::steady_clock::now() < end; ++mine) {
          const std::uint64_t before = handed.load();
          const auto got = flights.run(1, [&] { return ++numbers; });
          if (*got <= before) ++violations;
          if (got.role() == singleflight::flight_role::joiner) ++as_joiner;
          std::uint64_t seen = handed.load();
          while (seen < *got && !handed.compare_exchange_weak(seen, *got)) {
          }
        }
        calls += mine;
        joined += as_joiner;
      });
    }
  }
  EXPECT_EQ(violations, 0U);
  EXPECT_GT(joined, 0U) << "nothing was shared, so nothing was tried";
  EXPECT_EQ(flights.stats().calls, calls);
  EXPECT_EQ(numbers + joined, calls);
  EXPECT_TRUE(flights.in_flight().empty());
}

}  // namespace
