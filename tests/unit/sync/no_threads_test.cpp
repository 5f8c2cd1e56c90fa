// SPDX-License-Identifier: Apache-2.0

// Batches and retries for which no thread can be created.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <span>
#include <system_error>
#include <vector>

#include "support/thread_refusal.hpp"
#include <singleflight/sync.hpp>

namespace sf = singleflight;

namespace {

// Goal    The keys of a batch for which the pool has no thread end with the system's error, not as
//         `broken`, and so does a started retry. Afterwards the keys are free.
TEST(sync_no_threads, a_batch_and_a_retry_name_the_reason) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  sf::thread_pool pool;
  sf::batcher<int, int> batches(
      [](std::span<const int> keys) {
        return std::vector<sf::outcome<int>>(keys.begin(), keys.end());
      },
      {.max_batch = 2, .executor = pool});
  {
    const support::thread_refusal none;
    EXPECT_TRUE(support::names_the_reason(batches.start(1).get_outcome()));
    for (const auto& how : batches.load_many(std::vector{2, 3, 4})) {
      EXPECT_TRUE(support::names_the_reason(how));
    }
    EXPECT_THROW((void)batches.load(5), std::system_error);
    auto retried = sf::start_retry(
        {.base = std::chrono::nanoseconds{0}}, [](std::uint32_t) { return 1; }, {}, pool);
    EXPECT_THROW((void)retried.get(), std::system_error);
  }
  EXPECT_EQ(*batches.load(1), 1);
}

}  // namespace
