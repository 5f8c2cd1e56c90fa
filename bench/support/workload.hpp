// SPDX-License-Identifier: Apache-2.0
#pragma once

// The benchmarks' workload: keys, and requests that arrive at random times. bench/peers/go and
// bench/peers/java draw the same sequence from the same seed, so that all sides get one workload.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace bench {

inline constexpr std::size_t distinct_keys = 1024;

/// `count` keys of 16 bytes that differ in their last digits; `prefix` has four bytes.
inline std::vector<std::string> make_keys(const char* prefix, std::size_t count) {
  std::vector<std::string> keys(count);
  for (std::size_t i = 0; i < count; ++i) {
    char text[32];
    std::snprintf(text, sizeof text, "%s%012zu", prefix, i);
    keys[i] = text;
  }
  return keys;
}

/// splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
class random {
 public:
  explicit random(std::uint64_t seed) noexcept : state_(seed) {}
  std::uint64_t next() noexcept {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  /// Uniform in [0, 1).
  double unit() noexcept {
    return static_cast<double>(next() >> 11) / static_cast<double>(std::uint64_t{1} << 53);
  }

 private:
  std::uint64_t state_;
};

/// Ranks with Zipf's distribution; the most popular is 0.
class zipf {
 public:
  zipf(std::size_t keys, double skew) : cumulative_(keys) {
    double sum = 0;
    for (std::size_t i = 0; i < keys; ++i) {
      sum += 1 / std::pow(static_cast<double>(i + 1), skew);
      cumulative_[i] = sum;
    }
  }
  std::size_t rank(random& draw) const {
    const double at = draw.unit() * cumulative_.back();
    const auto chosen = std::lower_bound(cumulative_.begin(), cumulative_.end(), at);
    return std::min(static_cast<std::size_t>(chosen - cumulative_.begin()), cumulative_.size() - 1);
  }

 private:
  std::vector<double> cumulative_;
};

struct arrival_plan {
  double rate;         ///< requests per second, on average
  double seconds;      ///< how long they keep arriving
  std::uint64_t seed;  ///< of times and keys
  std::size_t keys;    ///< how many there are
  double skew;         ///< of the Zipf distribution over them
};

struct arrivals {
  std::vector<std::int64_t> due_ns;  ///< since the start, ascending
  std::vector<std::uint16_t> key;    ///< rank of the requested key; the most popular is 0
};

/// Poisson arrivals, Zipf keys.
inline arrivals draw_arrivals(const arrival_plan& plan) {
  const zipf ranks(plan.keys, plan.skew);
  arrivals drawn;
  const auto expected = static_cast<std::size_t>(plan.rate * plan.seconds * 1.05) + 1000;
  drawn.due_ns.reserve(expected);
  drawn.key.reserve(expected);
  random draw(plan.seed);
  double at = 0;
  for (;;) {
    at += -std::log(1 - draw.unit()) / plan.rate;
    if (at >= plan.seconds) return drawn;
    drawn.due_ns.push_back(static_cast<std::int64_t>(at * 1e9));
    drawn.key.push_back(static_cast<std::uint16_t>(ranks.rank(draw)));
  }
}

}  // namespace bench
