// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio/hit_ratio.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>
#include <list>
#include <map>
#include <set>

#include "cli/interrupt.hpp"
#include "lab/workload/generator.hpp"

namespace singleflight::lab {
namespace {

request_trace of(const std::string& keys) {
  request_trace made;
  for (const char key : keys) made.add(std::string(1, key), {});
  return made;
}

std::uint64_t lru(const request_trace& trace, std::size_t capacity) {
  return hits_of_lru(trace, capacity, {}).requests;
}

std::uint64_t optimum(const request_trace& trace, std::size_t capacity) {
  return hits_of_optimum(trace, next_requests(trace, {}), capacity, {}).requests;
}

std::string letters() {
  return *rc::gen::container<std::string>(rc::gen::inRange('a', static_cast<char>('f')));
}

std::uint64_t plain_lru(const std::string& keys, std::size_t capacity) {
  std::list<char> held;
  std::uint64_t hits = 0;
  for (const char key : keys) {
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
std::uint64_t best(const std::string& keys, std::size_t capacity) {
  std::map<std::set<char>, std::uint64_t> reached{{{}, 0}};
  for (const char key : keys) {
    std::map<std::set<char>, std::uint64_t> next;
    const auto reach = [&](const std::set<char>& held, std::uint64_t hits) {
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
  EXPECT_EQ(lru(of("abcabc"), 2), 0U);
  EXPECT_EQ(lru(of("abcabc"), 3), 3U);
  EXPECT_EQ(lru(of("aabacab"), 2), 3U);
  EXPECT_EQ(lru(of("aaaa"), 1), 3U);
  EXPECT_EQ(lru(of("abab"), 1000), 2U);
}

TEST(hit_ratio, optimum) {
  EXPECT_EQ(optimum(of("abcabc"), 2), 2U);
  EXPECT_EQ(optimum(of("abcabcabc"), 1), 2U) << "a key that is not stored evicts nothing";
  EXPECT_EQ(optimum(of("abcabc"), 3), 3U);
  EXPECT_EQ(optimum(of("abcd"), 2), 0U);
}

RC_GTEST_PROP(hit_ratio, lru_equals_a_plain_implementation, ()) {
  const auto keys = letters();
  const auto capacity = *rc::gen::inRange<std::size_t>(1, 7);
  RC_ASSERT(lru(of(keys), capacity) == plain_lru(keys, capacity));
}

RC_GTEST_PROP(hit_ratio, nothing_beats_the_optimum, ()) {
  const auto keys = letters();
  const auto capacity = *rc::gen::inRange<std::size_t>(1, 5);
  RC_ASSERT(optimum(of(keys), capacity) == best(keys, capacity));
}

// Goal    The three caches agree if there is nothing to choose; otherwise the optimum has most
//         hits. So many requests that uses which have come are removed many times.
TEST(hit_ratio, together) {
  const auto made = generator::parse("zipf:keys=500").make(20'000, 1);
  request_trace trace;
  for (std::size_t i = 0; i < made.requests.size(); ++i) trace.add(made.key_of(i), {});
  const next_requests next(trace, {});
  const auto repeats = trace.requests() - trace.distinct_keys();
  EXPECT_EQ(lru(trace, 500), repeats);
  EXPECT_EQ(optimum(trace, 500), repeats);
  EXPECT_EQ(hits_of_loading_cache(trace, 1000, {}).requests, repeats);
  for (const std::size_t capacity : {5U, 50U, 250U}) {
    const auto most = hits_of_optimum(trace, next, capacity, {}).requests;
    const auto own = hits_of_loading_cache(trace, capacity, {}).requests;
    EXPECT_LT(lru(trace, capacity), most);
    EXPECT_LE(own, most);
    EXPECT_GT(own, most / 4);
  }
}

// Goal    The bytes of hits are those of the requests that hit, whatever size their keys had
//         before; requests without a size have none.
TEST(hit_ratio, bytes) {
  request_trace trace;
  trace.add("a", {});
  trace.add("a", {});
  EXPECT_FALSE(trace.has_sizes());
  trace.add("b", 5'000'000'000U);
  trace.add("a", 7);
  trace.add("b", {});
  trace.add("b", 20);
  EXPECT_EQ(trace.all_bytes(), 5'000'000'027U);
  EXPECT_EQ(hits_of_lru(trace, 1, {}), (cache_hits{2, 20}));
  EXPECT_EQ(hits_of_lru(trace, 2, {}), (cache_hits{4, 27}));
  EXPECT_EQ(hits_of_loading_cache(trace, 100, {}), (cache_hits{4, 27}));
  EXPECT_EQ(hits_of_optimum(trace, next_requests(trace, {}), 2, {}), (cache_hits{4, 27}));
}

// Goal    A size that no answer has counts as none.
TEST(hit_ratio, absurd_sizes) {
  request_trace trace;
  for (int i = 0; i < 4; ++i) trace.add("a", std::uint64_t{1} << 63U);
  EXPECT_FALSE(trace.has_sizes());
  trace.add("a", std::numeric_limits<std::uint64_t>::max());
  trace.add("a", 6);
  EXPECT_EQ(trace.all_bytes(), 6U);
  EXPECT_EQ(hits_of_lru(trace, 1, {}), (cache_hits{5, 6}));
}

TEST(hit_ratio, a_stop_ends_it) {
  std::stop_source stop;
  const auto trace = of("a");
  const next_requests next(trace, {});
  stop.request_stop();
  const auto token = stop.get_token();
  EXPECT_THROW(hits_of_lru(trace, 1, token), cli::interrupted);
  EXPECT_THROW(next_requests(trace, token), cli::interrupted);
  EXPECT_THROW(hits_of_optimum(trace, next, 1, token), cli::interrupted);
  EXPECT_THROW(hits_of_loading_cache(trace, 1, token), cli::interrupted);
}

}  // namespace
}  // namespace singleflight::lab
