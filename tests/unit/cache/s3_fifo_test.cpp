// SPDX-License-Identifier: Apache-2.0

// Which entry is evicted: the queues by themselves, without a table.

#include "singleflight/cache/detail/s3_fifo.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "support/request_patterns.hpp"

namespace {

using singleflight::detail::entry;
using singleflight::detail::entry_base;
using singleflight::detail::entry_kind;
using singleflight::detail::reclaimable;
using singleflight::detail::s3_fifo;

/// The value is the weight.
using node = entry<int, std::uint64_t>;

std::uint32_t hash_of(int key) { return static_cast<std::uint32_t>(key) * 2654435769U; }

node& make_node(int key, std::uint64_t weight) {
  node& made = node::make(true, hash_of(key), 0, entry_kind::value, int(key), weight);
  made.extras().weight = weight;
  return made;
}

/// The queues, with the entries in them.
class queues {
 public:
  explicit queues(std::uint64_t capacity) : of_(capacity, true), capacity_(capacity) {}
  ~queues() { clear(); }

  /// As a cache does: true for a hit.
  bool ask(int key, std::uint64_t weight = 1) {
    if (const auto at = in_.find(key); at != in_.end()) {
      at->second->touch();
      return true;
    }
    insert(key, weight);
    return false;
  }
  void insert(int key, std::uint64_t weight) {
    node& fresh = make_node(key, weight);
    of_.insert(fresh);
    in_[key] = &fresh;
    weight_ += weight;
    shrink();
  }
  void replace(int key, std::uint64_t weight) {
    node& old = *in_.at(key);
    node& fresh = make_node(key, weight);
    of_.replace(old, fresh);
    in_[key] = &fresh;
    weight_ += weight - old.value;
    end(old);
    shrink();
  }
  void remove(int key) {
    node& old = *in_.at(key);
    of_.remove(old);
    in_.erase(key);
    weight_ -= old.value;
    end(old);
  }
  void clear() {
    std::size_t count = 0;
    for (reclaimable* one : of_.let_go().entries) {
      while (one != nullptr) {
        ++count;
        end(static_cast<node&>(*std::exchange(one, one->next)));
      }
    }
    EXPECT_EQ(count, in_.size());
    in_.clear();
    weight_ = 0;
    EXPECT_EQ(of_.weight(), 0U);
  }
  bool has(int key) const { return in_.contains(key); }
  std::size_t size() const { return in_.size(); }
  std::uint64_t weight() const { return weight_; }
  const std::vector<int>& evicted() const { return evicted_; }

 private:
  void shrink() {
    EXPECT_EQ(of_.weight(), weight_);
    while (of_.over()) {
      ASSERT_FALSE(in_.empty());
      node& victim = static_cast<node&>(*of_.evict());
      ASSERT_EQ(in_.at(victim.key()), &victim);
      in_.erase(victim.key());
      weight_ -= victim.value;
      evicted_.push_back(victim.key());
      end(victim);
    }
    EXPECT_EQ(of_.weight(), weight_);
    EXPECT_LE(weight_, capacity_);
  }
  static void end(node& e) {
    e.leave(node::end_of(true));
    e.drop_reference();
  }

  s3_fifo of_;
  const std::uint64_t capacity_;
  std::unordered_map<int, node*> in_;
  std::uint64_t weight_ = 0;
  std::vector<int> evicted_;
};

/// Returns what the queues do not answer, if weigh(key) is the weight of a key.
template <class Weigh>
support::missed missed_by(const std::vector<std::uint32_t>& keys, std::uint64_t capacity,
                          Weigh weigh) {
  queues q(capacity);
  support::missed sum;
  for (const std::uint32_t key : keys) {
    if (q.ask(static_cast<int>(key), weigh(key))) continue;
    ++sum.requests;
    sum.weight += weigh(key);
  }
  return sum;
}
std::size_t misses_of(const std::vector<std::uint32_t>& keys, std::uint64_t capacity) {
  return missed_by(keys, capacity, [](std::uint32_t) { return 1U; }).requests;
}

// Goal    No entry is evicted before the cache is full; after that, one for each new entry, and
//         never the newest.
TEST(s3_fifo, one_for_one) {
  for (const int capacity : {1, 2, 3, 10, 99, 1000}) {
    queues q(static_cast<std::uint64_t>(capacity));
    for (int k = 0; k < capacity; ++k) q.ask(k);
    EXPECT_TRUE(q.evicted().empty());
    for (int k = capacity; k < 5 * capacity; ++k) {
      q.ask(k);
      ASSERT_TRUE(q.has(k)) << "the entry just stored";
      ASSERT_EQ(q.size(), static_cast<std::size_t>(capacity));
    }
  }
}

// Goal    After any operation, the queues hold every entry with its weight, and keep to the
//         capacity.
// Method  Random stores, hits, replacements and removals, of random weights.
TEST(s3_fifo, keeps_to_its_capacity) {
  std::mt19937 random(3);
  for (const std::uint64_t capacity : {1U, 5U, 100U, 5000U}) {
    queues q(capacity);
    for (int i = 0; i < 30'000; ++i) {
      const int key = static_cast<int>(random() % 300);
      const std::uint64_t weight = 1 + random() % std::min<std::uint64_t>(capacity, 60);
      switch (random() % 8) {
        case 0:
          if (q.has(key)) q.remove(key);
          break;
        case 1:
          if (q.has(key)) q.replace(key, weight);
          break;
        default: q.ask(key, weight);
      }
      ASSERT_FALSE(testing::Test::HasFailure());
    }
    q.clear();
    for (int k = 0; k < 100; ++k) q.ask(k);
  }
}

// Goal    An entry as heavy as the capacity is stored, and all others are evicted.
TEST(s3_fifo, one_that_fills_it) {
  queues q(100);
  for (int k = 0; k < 100; ++k) q.ask(k);
  q.insert(1000, 100);
  EXPECT_TRUE(q.has(1000));
  EXPECT_EQ(q.size(), 1U);
  q.insert(1001, 1);
  EXPECT_TRUE(q.has(1001));
  EXPECT_EQ(q.size(), 1U);
}

// Goal    If every entry is hit all the time, eviction is still O(1), and evicts one entry.
TEST(s3_fifo, all_hot) {
  queues q(1000);
  for (int k = 0; k < 1000; ++k) q.ask(k);
  for (int k = 1000; k < 3000; ++k) {
    for (int j = 0; j < 3000; j += 1 + k % 7) {
      if (q.has(j)) q.ask(j);
    }
    q.ask(k);
    ASSERT_EQ(q.size(), 1000U);
    ASSERT_TRUE(q.has(k));
  }
}

// Goal    Frequently used entries outlive a scan of ten times the capacity.
TEST(s3_fifo, a_scan_does_not_wash_it_out) {
  constexpr int hot = 500;
  queues q(1000);
  for (int round = 0; round < 20; ++round) {
    for (int k = 0; k < hot; ++k) q.ask(k);
  }
  int scanned = 10'000;
  int hits = 0;
  for (int i = 0; i < 10'000; ++i) {
    q.ask(scanned++);
    if (i % 2 == 0) hits += q.ask(i / 2 % hot) ? 1 : 0;
  }
  EXPECT_GT(hits, 4800) << "of 5000";
}

// Goal    A loop longer than the cache does not miss all the time, unlike with LRU.
TEST(s3_fifo, a_loop_longer_than_the_cache) {
  queues q(1000);
  int hits = 0;
  constexpr int rounds = 50;
  constexpr int loop = 1250;
  for (int i = 0; i < rounds * loop; ++i) hits += q.ask(i % loop) ? 1 : 0;
  EXPECT_GT(hits, rounds * loop / 4);
}

// Goal    With skewed keys the hit ratio is close to the best possible one, which keeps the most
//         frequent keys.
TEST(s3_fifo, skewed_keys) {
  std::mt19937 random(11);
  constexpr int keys = 20'000;
  std::vector<double> weights;
  for (int k = 1; k <= keys; ++k) weights.push_back(1.0 / k);
  std::discrete_distribution<int> zipf(weights.begin(), weights.end());
  constexpr int capacity = 1000;
  queues q(capacity);
  int hits = 0;
  int best = 0;
  constexpr int calls = 400'000;
  for (int i = 0; i < calls; ++i) {
    const int k = zipf(random);
    const bool hit = q.ask(k);
    if (i < calls / 4) continue;
    hits += hit ? 1 : 0;
    best += k < capacity ? 1 : 0;
  }
  EXPECT_GT(hits, best * 9 / 10);
}

// Goal    When the workload changes, entries that were frequent before do not stay permanently.
TEST(s3_fifo, a_new_workload) {
  std::mt19937 random(12);
  std::vector<double> weights;
  for (int k = 1; k <= 20'000; ++k) weights.push_back(1.0 / k);
  std::discrete_distribution<int> zipf(weights.begin(), weights.end());
  queues q(1000);
  const auto hits_of = [&](int from, int calls) {
    int hits = 0;
    for (int i = 0; i < calls; ++i) hits += q.ask(from + zipf(random)) ? 1 : 0;
    return hits;
  };
  hits_of(0, 200'000);
  const int before = hits_of(0, 50'000);
  hits_of(100'000, 200'000);
  const int after = hits_of(100'000, 50'000);
  EXPECT_GT(after, before * 95 / 100);
}

/// How many requests more than LRU the cache may miss: 1 % of them, once it has learned, which
/// takes the misses of up to five capacities.
std::size_t allowance(const support::request_pattern& pattern, std::uint32_t capacity) {
  return pattern.keys.size() / 100 + 5 * capacity;
}

// Goal    No pattern of requests makes the cache miss far more often than LRU does.
// Method  Streams made for the capacity, of which each is at its worst for some policy.
TEST(s3_fifo, never_far_below_lru) {
  for (const std::uint32_t capacity : {10U, 50U, 700U}) {
    const std::size_t length = std::max<std::size_t>(4'000, 100 * capacity);
    for (const auto& pattern : support::request_patterns(capacity, length).all()) {
      EXPECT_LE(misses_of(pattern.keys, capacity),
                support::lru_misses(pattern.keys, capacity) + allowance(pattern, capacity))
          << pattern.family << ' ' << pattern.percent << " %, capacity " << capacity;
    }
  }
}

// Goal    The same with weights, for the requests and for the weight that they ask for. (In a scan
//         back and forth, what is kept is lighter than what LRU keeps.)
TEST(s3_fifo, never_far_below_lru_with_weights) {
  for (const std::uint32_t capacity : {50U, 700U}) {
    const std::uint64_t weight = capacity * support::mean_weight;
    for (const auto& pattern : support::request_patterns(capacity, 100 * capacity).all()) {
      const auto ours = missed_by(pattern.keys, weight, support::weight_of);
      const auto lru = support::missed_by_lru(pattern.keys, weight, support::weight_of);
      EXPECT_LE(ours.requests, lru.requests + allowance(pattern, capacity))
          << pattern.family << ' ' << pattern.percent << " %, capacity " << capacity;
      if (pattern.family == "back and forth") continue;
      EXPECT_LE(ours.weight, lru.weight + support::mean_weight * allowance(pattern, capacity))
          << pattern.family << ' ' << pattern.percent << " %, capacity " << capacity;
    }
  }
}

// Goal    A stream of keys that fit is held: each misses once.
TEST(s3_fifo, all_that_fits_is_held) {
  for (const std::uint32_t capacity : {1U, 2U, 10U, 50U, 700U}) {
    support::request_patterns patterns(capacity, 10 * capacity);
    const std::vector<std::uint32_t> keys = patterns.all_fit();
    EXPECT_EQ(misses_of(keys, capacity), std::set<std::uint32_t>(keys.begin(), keys.end()).size());
  }
}

// Goal    Keys that fit come to be held when the cache is full of others that were hot and are used
//         no more; it takes five rounds at most.
TEST(s3_fifo, a_dead_phase_makes_room) {
  for (const int capacity : {10, 50, 700, 1346}) {
    queues q(static_cast<std::uint64_t>(capacity));
    for (int i = 0; i < 10 * capacity; ++i) q.ask(i * 7 % capacity);
    const int keys = capacity * 85 / 100;
    int misses = 0;
    for (int round = 0; round < 10; ++round) {
      for (int k = 0; k < keys; ++k) misses += q.ask(10'000 + k) ? 0 : 1;
    }
    EXPECT_LE(misses, 5 * keys) << "capacity " << capacity;
  }
}

// Goal    A loop that does not fit hits nearly as often as it can, in order, and half as often in
//         another order in each round.
TEST(s3_fifo, loops) {
  for (const std::uint32_t capacity : {50U, 700U}) {
    const std::size_t length = 40 * capacity;
    for (const std::uint32_t percent : {105U, 120U, 150U}) {
      const std::uint32_t keys = capacity * percent / 100;
      support::request_patterns patterns(capacity, length);
      for (const bool shuffled : {false, true}) {
        const auto requests = shuffled ? patterns.shuffled_loop(keys) : patterns.loop(keys);
        const std::size_t most = length - support::opt_misses(requests, capacity);
        EXPECT_GE(length - misses_of(requests, capacity), most * (shuffled ? 50 : 90) / 100)
            << percent << " %, shuffled " << shuffled << ", capacity " << capacity;
      }
    }
  }
}

}  // namespace
