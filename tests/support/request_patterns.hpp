// SPDX-License-Identifier: Apache-2.0
#pragma once

// request_patterns: streams of requests that are hard for a policy of eviction, made for a
// capacity, and what LRU and the optimum miss on a stream.
//
// A pattern is what one kind of caller does, at its worst: it repeats a little more than fits, it
// changes its mind, it reads everything once. The same arguments make the same requests on every
// machine. A key is a number, and tells nothing about the pattern.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <list>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace support {

struct request_pattern {
  std::string family;
  int percent = 0;  ///< how many keys a loop or a scan has, in percent of the capacity; or 0
  std::vector<std::uint32_t> keys;
};

/// Draws numbers below a bound, the smaller ones more often: i with a probability in proportion to
/// 1 / (i + 1) ^ skew.
class skewed {
 public:
  skewed(std::size_t bound, double skew) {
    double sum = 0;
    for (std::size_t i = 1; i <= bound; ++i) {
      sum += std::pow(static_cast<double>(i), -skew);
      sums_.push_back(sum);
    }
  }
  std::uint32_t operator()(std::mt19937& random) const {
    const double drawn = static_cast<double>(random()) * 0x1p-32 * sums_.back();
    const auto at = std::upper_bound(sums_.begin(), sums_.end(), drawn);
    return static_cast<std::uint32_t>(std::min(at, sums_.end() - 1) - sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

/// Makes the patterns for a cache of `capacity` entries, each of about `length` requests.
class request_patterns {
 public:
  request_patterns(std::uint32_t capacity, std::size_t length)
      : capacity_(capacity), length_(length), random_(capacity) {}

  std::vector<request_pattern> all() {
    std::vector<request_pattern> made;
    made.push_back({"two skews", 0, two_skews()});
    made.push_back({"phases", 0, phases()});
    made.push_back({"dead phase", 0, dead_phase()});
    made.push_back({"pinned scan", 0, pinned_scan()});
    made.push_back({"low locality", 0, low_locality()});
    made.push_back({"used twice", 0, used_twice()});
    made.push_back({"working sets", 0, working_sets()});
    for (const int percent : {50, 80, 95, 105, 120, 150}) {
      made.push_back({"loop", percent, loop(part(percent))});
      made.push_back({"shuffled loop", percent, shuffled_loop(part(percent))});
    }
    for (const int percent : {110, 150, 175, 200, 300}) {
      made.push_back({"back and forth", percent, back_and_forth(part(percent))});
    }
    made.push_back({"all fit", 0, all_fit()});
    return made;
  }

  /// Two kinds of keys: a few that are used very often, and many that hardly differ.
  std::vector<std::uint32_t> two_skews() {
    const skewed few(4 * capacity_, 1.1);
    const skewed many(40 * capacity_, 0.6);
    return make([&] { return random_() % 2 == 0 ? few(random_) : distant + many(random_); });
  }
  /// Turns of skewed requests, a loop longer than the cache, a scan, and what was used lately.
  std::vector<std::uint32_t> phases() {
    const skewed usual(5 * capacity_, 1.0);
    const std::uint32_t longer = part(120);
    std::uint32_t i = 0;
    return make([&] {
      const std::uint32_t at = i++;
      switch (at / (12 * capacity_) % 4) {
        case 0: return usual(random_);
        case 1: return distant + at % longer;
        case 2: return 2 * distant + at;
        default: return 3 * distant + at / 2 + below(part(80));
      }
    });
  }
  /// As many keys as fit are used again and again, and then never; others that fit are.
  std::vector<std::uint32_t> dead_phase() {
    const std::uint32_t loop = part(85);
    std::uint32_t i = 0;
    return make([&] {
      const std::uint32_t at = i++;
      return at < 6 * capacity_ ? below(capacity_) : distant + at % loop;
    });
  }
  /// A scan of which every key is requested four times, and never again, between skewed requests.
  std::vector<std::uint32_t> pinned_scan() {
    const skewed usual(2 * capacity_ + 5, 1.0);
    std::uint32_t i = 0;
    return make([&] {
      const std::uint32_t at = i++;
      return at / 4 % 3 == 0 ? distant + at / 12 : usual(random_);
    });
  }
  std::vector<std::uint32_t> low_locality() {
    const skewed flat(50 * capacity_, 0.7);
    return make(
        [&] { return random_() % 2 == 0 ? below(20 * capacity_) : distant + flat(random_); });
  }
  /// Each key is used twice, and the second time comes before LRU would have evicted it.
  std::vector<std::uint32_t> used_twice() {
    std::uint32_t i = 0;
    return make([&] {
      const std::uint32_t at = i++;
      if (at % 2 == 0) return at / 2;
      return at / 2 - std::min(at / 2, part(30) + below(part(20)));
    });
  }
  /// Two thirds of the capacity for a while, then others.
  std::vector<std::uint32_t> working_sets() {
    const std::uint32_t size = part(66);
    std::uint32_t i = 0;
    return make([&] { return i++ / (3 * size) * size + below(size); });
  }
  std::vector<std::uint32_t> loop(std::uint32_t keys) {
    std::uint32_t i = 0;
    return make([&] { return i++ % keys; });
  }
  /// The order is another one in each round.
  std::vector<std::uint32_t> shuffled_loop(std::uint32_t keys) {
    std::vector<std::uint32_t> round;
    for (std::uint32_t key = 0; key < keys; ++key) round.push_back(key);
    std::uint32_t i = 0;
    return make([&] {
      if (i % keys == 0) {
        for (std::uint32_t k = keys - 1; k > 0; --k) std::swap(round[k], round[below(k + 1)]);
      }
      return round[i++ % keys];
    });
  }
  std::vector<std::uint32_t> back_and_forth(std::uint32_t keys) {
    std::uint32_t i = 0;
    return make([&] {
      const std::uint32_t at = i++ % (2 * keys - 2);
      return at < keys ? at : 2 * keys - 2 - at;
    });
  }
  /// No more keys than fit, each for the first time at some time.
  std::vector<std::uint32_t> all_fit() {
    return make([&] { return below(capacity_); });
  }

 private:
  static constexpr std::uint32_t distant = 1'000'000'000;  // from other keys

  /// So many percent of the capacity, but more than it if they are more than 100.
  std::uint32_t part(int percent) const {
    const std::uint32_t p = static_cast<std::uint32_t>(percent);
    return std::max(capacity_ / 100 * p + capacity_ % 100 * p / 100,
                    percent > 100 ? capacity_ + 1 : 2);
  }
  std::uint32_t below(std::uint32_t bound) {
    return static_cast<std::uint32_t>(std::uint64_t{random_()} * bound >> 32);
  }
  template <class Next>
  std::vector<std::uint32_t> make(Next next) {
    std::vector<std::uint32_t> keys;
    keys.reserve(length_);
    while (keys.size() < length_) keys.push_back(next());
    return keys;
  }

  const std::uint32_t capacity_;
  const std::size_t length_;
  std::mt19937 random_;
};

/// A weight for each key, where weights differ: a power of two up to 64, 18 on average.
inline std::uint32_t weight_of(std::uint32_t key) { return 1U << (key * 2654435769U >> 16) % 7; }
inline constexpr std::uint32_t mean_weight = 18;

struct missed {
  std::size_t requests = 0;
  std::uint64_t weight = 0;
};

/// Returns what LRU does not answer, if weigh(key) is the weight of a key.
template <class Weigh>
missed missed_by_lru(const std::vector<std::uint32_t>& keys, std::uint64_t capacity, Weigh weigh) {
  std::list<std::uint32_t> by_use;  // the most recently used first
  std::unordered_map<std::uint32_t, std::list<std::uint32_t>::iterator> held;
  std::uint64_t weight = 0;
  missed sum;
  for (const std::uint32_t key : keys) {
    if (const auto at = held.find(key); at != held.end()) {
      by_use.splice(by_use.begin(), by_use, at->second);
      continue;
    }
    ++sum.requests;
    sum.weight += weigh(key);
    held[key] = by_use.insert(by_use.begin(), key);
    for (weight += weigh(key); weight > capacity; by_use.pop_back()) {
      weight -= weigh(by_use.back());
      held.erase(by_use.back());
    }
  }
  return sum;
}
inline std::size_t lru_misses(const std::vector<std::uint32_t>& keys, std::uint64_t capacity) {
  return missed_by_lru(keys, capacity, [](std::uint32_t) { return 1U; }).requests;
}

/// Returns how many requests no cache can answer: Belady's choice evicts the key whose next request
/// is the furthest away, even if it is the new one.
inline std::size_t opt_misses(const std::vector<std::uint32_t>& keys, std::size_t capacity) {
  std::vector<std::size_t> next(keys.size());
  std::unordered_map<std::uint32_t, std::size_t> later;
  for (std::size_t i = keys.size(); i-- > 0;) {
    const auto [at, is_last] = later.try_emplace(keys[i], i);
    next[i] = is_last ? keys.size() + i : std::exchange(at->second, i);
  }
  std::set<std::size_t> held;  // the next requests of the keys in the cache
  std::size_t misses = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (held.erase(i) == 0) ++misses;
    held.insert(next[i]);
    if (held.size() > capacity) held.erase(std::prev(held.end()));
  }
  return misses;
}

}  // namespace support
