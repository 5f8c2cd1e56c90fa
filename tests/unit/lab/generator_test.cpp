// SPDX-License-Identifier: Apache-2.0
#include "lab/workload/generator.hpp"

#include <gtest/gtest.h>

#include <map>

#include "cli/usage_error.hpp"

namespace singleflight::lab {
namespace {

std::map<std::string, int> counts(const workload& made) {
  std::map<std::string, int> seen;
  for (std::size_t i = 0; i < made.requests.size(); ++i) ++seen[made.key_of(i)];
  return seen;
}

TEST(generator, the_same_seed_makes_the_same_requests) {
  const auto zipf = generator::parse("zipf:keys=1000,skew=0.99");
  const auto a = zipf.make(500, 7);
  const auto b = zipf.make(500, 7);
  EXPECT_EQ(a.requests, b.requests);
  EXPECT_EQ(a.keys, b.keys);
  const auto c = zipf.make(500, 8);
  std::size_t differing = 0;
  for (std::size_t i = 0; i < 500; ++i) differing += a.key_of(i) != c.key_of(i) ? 1U : 0U;
  EXPECT_GT(differing, 100U);
}

TEST(generator, shapes) {
  auto hot = counts(generator::parse("hot:keys=100,share=0.8").make(10'000, 1));
  EXPECT_NEAR(hot["1"], 8000, 200);
  EXPECT_LE(hot.size(), 100U);
  auto zipf = counts(generator::parse("zipf:keys=10,skew=1").make(100'000, 1));
  EXPECT_NEAR(zipf["1"] / static_cast<double>(zipf["2"]), 2, 0.1);
  EXPECT_NEAR(zipf["1"] / static_cast<double>(zipf["10"]), 10, 0.8);
  auto uniform = counts(generator::parse("uniform:keys=4").make(40'000, 1));
  for (const auto& [key, count] : uniform) EXPECT_NEAR(count, 10'000, 400) << key;
  EXPECT_EQ(counts(generator::parse("hot:keys=1").make(10, 1))["1"], 10);
}

// Goal    The workload contains only keys that are requested.
TEST(generator, keys_are_those_in_use) {
  const auto made = generator::parse("uniform:keys=1000000").make(5, 1);
  EXPECT_LE(made.keys.size(), 5U);
}

TEST(generator, odd_shapes_are_refused) {
  for (const char* text :
       {"", "cold", "zipf:", "zipf:keys", "zipf:keys=0", "zipf:keys=-1", "zipf:keys=99999999999",
        "zipf:skew=-1", "zipf:skew=nan", "zipf:skew=11", "zipf:share=0.5", "uniform:skew=1",
        "hot:share=1.5", "hot:keys=5,", "hot:keys=5;share=1"}) {
    EXPECT_THROW(generator::parse(text), cli::usage_error) << text;
  }
}

}  // namespace
}  // namespace singleflight::lab
