// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/advice.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

// Three capacities, and 1 s, 1 min, 1 h, forever.
cache_sweep sweep_of(std::vector<std::vector<double>> saved) {
  return {.ttls = {1s, 1min, 1h, 0s}, .capacities = {10, 200, 3000}, .saved = std::move(saved)};
}

advice advised(const cache_sweep& sweep, double flight, double cache, std::uint64_t joins = 0) {
  log_profile profile;
  profile.requests_once = 900;
  return advise({.profile = profile,
                 .sweep = sweep,
                 .point = choose(sweep),
                 .requests = 1000,
                 .joins = joins,
                 .flight_saves = flight,
                 .cache_saves = cache});
}

// Goal    The shortest ttl and the smallest capacity to which more adds little.
TEST(advice, the_point_that_is_chosen) {
  const auto of = [](std::vector<std::vector<double>> saved) {
    const auto sweep = sweep_of(std::move(saved));
    const auto settings = choose(sweep).settings(sweep);
    return std::pair(settings.capacity, std::chrono::nanoseconds(settings.ttl));
  };
  using point = std::pair<std::size_t, std::chrono::nanoseconds>;
  EXPECT_EQ(of({{.2, .3, .3, .3}, {.3, .7, .72, .72}, {.3, .71, .74, .9}}), point(200, 1min));
  EXPECT_EQ(of({{.5, .5, .5, .5}, {.5, .5, .5, .5}, {.5, .5, .5, .5}}), point(10, 1s));
  EXPECT_EQ(of({{.1, .1, .1, .1}, {.1, .2, .3, .5}, {.1, .3, .6, .9}}), point(3000, 1h));
}

// Goal    A cache is recommended with its settings, what it saves, and what more of each would add.
TEST(advice, a_cache) {
  const auto sweep = sweep_of({{.2, .3, .3, .3}, {.3, .7, .72, .72}, {.3, .71, .74, .74}});
  const auto made = advised(sweep, 0, 0.701);
  EXPECT_EQ(made.protection, "cache");
  ASSERT_EQ(made.reasons.size(), 4U);
  EXPECT_EQ(made.reasons[0],
            "Use a cache of 200 entries with a ttl of 1 min: it saves 70.1 % of the loads.");
  EXPECT_THAT(made.reasons[1], HasSubstr("flights alone save nothing: of 1,000 requests none"));
  EXPECT_EQ(made.reasons[2],
            "A ttl beyond 1 min adds 2.0 % at most; with one of 1 s the cache saves 30.0 %.");
  EXPECT_EQ(made.reasons[3],
            "More entries add 1.0 % at most; with 10 entries the cache saves 30.0 %.");
}

// Goal    Where more adds nothing, that is said, and no comparison with a smaller or a larger cache
//         that does not exist.
TEST(advice, more_adds_nothing) {
  const auto sweep = sweep_of({{.5, .5, .5, .5}, {.5, .5, .5, .5}, {.5, .5, .5, .5}});
  const auto made = advised(sweep, 0.2, 0.5, 200);
  ASSERT_EQ(made.reasons.size(), 4U);
  EXPECT_THAT(made.reasons[1], HasSubstr("save 20.0 %: 200 of 1,000 requests arrive while"));
  EXPECT_EQ(made.reasons[2], "A ttl beyond 1 s adds nothing.");
  EXPECT_EQ(made.reasons[3], "More entries add nothing.");
}

// Goal    Flights are recommended where a cache adds hardly anything; and neither, where neither
//         saves anything.
TEST(advice, no_cache) {
  const auto little = sweep_of({{.1, .1, .1, .1}, {.1, .1, .1, .1}, {.1, .1, .1, .1}});
  const auto flight = advised(little, 0.095, 0.1, 95);
  EXPECT_EQ(flight.protection, "flight");
  EXPECT_THAT(flight.reasons[0], HasSubstr("Use flights: they save 9.5 %"));
  EXPECT_THAT(flight.reasons.back(), HasSubstr("900 of 1,000 requests are for keys that are "));
  const auto nothing = sweep_of({{0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}});
  const auto none = advised(nothing, 0, 0);
  EXPECT_EQ(none.protection, "none");
  EXPECT_THAT(none.reasons[0], HasSubstr("neither flights nor a cache"));
}

TEST(advice, ttls_in_words) {
  EXPECT_EQ(show_ttl(0s), "forever");
  EXPECT_EQ(show_ttl(10s), "10 s");
  EXPECT_EQ(show_ttl(300s), "5 min");
  EXPECT_EQ(show_ttl(2h), "2 h");
  EXPECT_EQ(show_ttl(500ms), "500 ms");
}

}  // namespace
}  // namespace singleflight::lab
