// SPDX-License-Identifier: Apache-2.0

// Loads that end in a flight_error, such as one thrown by a guard within them.

#include <gtest/gtest.h>

#include <span>
#include <vector>

#include <singleflight/cache.hpp>

namespace {

using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::loading_cache;
using singleflight::outcome;

// Goal    Each caller of a cache gets the code, and the cache counts it: in get, start_get and
//         get_all; a bulk loader may also return it for one key.
TEST(cache_refusal, is_named_and_counted) {
  const auto refuse = [](int) -> int { throw flight_error(flight_errc::rejected); };
  loading_cache<int, int> cache(refuse);
  auto pending = cache.start_get(1);
  EXPECT_EQ(pending.as_outcome().get().errc(), flight_errc::rejected);
  EXPECT_EQ(cache.stats().rejected, 1U);
  try {
    (void)cache.get(1);
    ADD_FAILURE() << "the load was refused";
  } catch (const flight_error& e) {
    EXPECT_EQ(e.errc(), flight_errc::rejected);
  }
  EXPECT_EQ(cache.stats().rejected, 2U);
  for (const auto& how : cache.get_all(std::vector{1, 2})) {
    EXPECT_EQ(how.errc(), flight_errc::rejected);
  }
  EXPECT_EQ(cache.stats().rejected, 4U);
  EXPECT_EQ(cache.stats().load_failures, 4U);

  const auto refusal = std::make_exception_ptr(flight_error(flight_errc::timed_out));
  loading_cache<int, int> bulk(refuse, [&](std::span<const int> keys) {
    return std::vector<outcome<int>>(keys.size(), outcome<int>(refusal));
  });
  for (const auto& how : bulk.get_all(std::vector{1, 2})) {
    EXPECT_EQ(how.errc(), flight_errc::timed_out);
    EXPECT_EQ(how.exception(), refusal);
  }
  EXPECT_EQ(bulk.stats().timed_out, 2U);
}

}  // namespace
