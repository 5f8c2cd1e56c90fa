// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio/hit_ratio.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <list>
#include <map>
#include <set>

#include "cli/interrupt.hpp"
#include "lab/workload/generator.hpp"

namespace singleflight::lab {
namespace {

workload of(const std::string& keys) {
  workload made;
  key_table table;
  for (const char key : keys) made.requests.push_back(table.index_of(std::string(1, key)));
  made.keys = table.take_keys();
  return made;
}

std::string letters() {
  return *rc::gen::container<std::string>(rc::gen::inRange('a', static_cast<char>('f')));
}

std::uint64_t plain_lru(const workload& requests, std::size_t capacity) {
  std::list<std::uint32_t> held;
  std::uint64_t hits = 0;
  for (const auto key : requests.requests) {
    if (const auto at = std::find(held.begin(), held.end(), key); at != held.end()) {
      ++hits;
      held.erase(at);
    } else if (held.size() == capacity) {
      held.pop_back();
    }
    held.push_front(key);
  }
  return hits;
}

// The maximum number of hits over all possible evictions, by trying each.
std::uint64_t best(const workload& requests, std::size_t capacity) {
  std::map<std::set<std::uint32_t>, std::uint64_t> reached{{{}, 0}};
  for (const auto key : requests.requests) {
    std::map<std::set<std::uint32_t>, std::uint64_t> next;
    const auto reach = [&](const std::set<std::uint32_t>& held, std::uint64_t hits) {
      auto& most = next[held];
      most = std::max(most, hits);
    };
    for (const auto& [held, hits] : reached) {
      reach(held, hits + held.count(key));
      if (held.contains(key)) continue;
      auto more = held;
      more.insert(key);
      if (more.size() <= capacity) reach(more, hits);
      for (const auto victim : held) {
        auto other = more;
        other.erase(victim);
        reach(other, hits);
      }
    }
    reached = std::move(next);
  }
  std::uint64_t most = 0;
  for (const auto& [held, hits] : reached) most = std::max(most, hits);
  return most;
}

TEST(hit_ratio, lru) {
  EXPECT_EQ(hits_of_lru(of("abcabc"), 2, {}), 0U);
  EXPECT_EQ(hits_of_lru(of("abcabc"), 3, {}), 3U);
  EXPECT_EQ(hits_of_lru(of("aabacab"), 2, {}), 3U);
  EXPECT_EQ(hits_of_lru(of("aaaa"), 1, {}), 3U);
  EXPECT_EQ(hits_of_lru(of("abab"), 1000, {}), 2U);
}

TEST(hit_ratio, optimum) {
  EXPECT_EQ(hits_of_optimum(of("abcabc"), 2, {}), 2U);
  EXPECT_EQ(hits_of_optimum(of("abcabcabc"), 1, {}), 2U)
      << "a key that is not stored evicts nothing";
  EXPECT_EQ(hits_of_optimum(of("abcabc"), 3, {}), 3U);
  EXPECT_EQ(hits_of_optimum(of("abcd"), 2, {}), 0U);
}

RC_GTEST_PROP(hit_ratio, lru_equals_a_plain_implementation, ()) {
  const auto requests = of(letters());
  const auto capacity = *rc::gen::inRange<std::size_t>(1, 7);
  RC_ASSERT(hits_of_lru(requests, capacity, {}) == plain_lru(requests, capacity));
}

RC_GTEST_PROP(hit_ratio, nothing_beats_the_optimum, ()) {
  const auto requests = of(letters());
  const auto capacity = *rc::gen::inRange<std::size_t>(1, 5);
  RC_ASSERT(hits_of_optimum(requests, capacity, {}) == best(requests, capacity));
}

// Goal    The three caches agree if there is nothing to choose; otherwise the optimum has most
//         hits.
TEST(hit_ratio, together) {
  const auto requests = generator::parse("zipf:keys=500").make(20'000, 1);
  const auto repeats = requests.requests.size() - requests.keys.size();
  EXPECT_EQ(hits_of_lru(requests, 500, {}), repeats);
  EXPECT_EQ(hits_of_optimum(requests, 500, {}), repeats);
  EXPECT_EQ(hits_of_loading_cache(requests, 1000, {}), repeats);
  for (const std::size_t capacity : {5U, 50U, 250U}) {
    const auto optimum = hits_of_optimum(requests, capacity, {});
    EXPECT_LT(hits_of_lru(requests, capacity, {}), optimum);
    EXPECT_LE(hits_of_loading_cache(requests, capacity, {}), optimum);
    EXPECT_GT(hits_of_loading_cache(requests, capacity, {}), optimum / 4);
  }
}

TEST(hit_ratio, a_stop_ends_it) {
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(hits_of_lru(of("a"), 1, stop.get_token()), cli::interrupted);
  EXPECT_THROW(hits_of_optimum(of("a"), 1, stop.get_token()), cli::interrupted);
  EXPECT_THROW(hits_of_loading_cache(of("a"), 1, stop.get_token()), cli::interrupted);
}

}  // namespace
}  // namespace singleflight::lab
