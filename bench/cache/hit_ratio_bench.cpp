// SPDX-License-Identifier: Apache-2.0

// Question   How many requests of a trace does the cache answer without a load, and are there fewer
//            when eight threads send them, or when entries have weights? And how many of generated
//            patterns that are hard for a policy of eviction (tests/support/request_patterns.hpp)?
// Baseline   What no cache can exceed (Belady's choice of what to evict, which knows the future),
//            and LRU; both are simulated, on the same requests.
// Reading    Percent of the requests that caused no load, for each capacity given by
//            --capacities=C[,C...]: ours_C, opt_C, lru_C; eight_C: the mean of --repetitions=R runs
//            of eight threads, of which the i-th sends each eighth request from the i-th on. They
//            keep together in steps of eight requests each. weighted_C and weighted_lru_C: the
//            same with weights, the capacity C times the mean weight; weight_C and weight_lru_C:
//            percent of the weight that is requested. With --patterns=1, there is no trace:
//            ours_F, opt_F and lru_F are the means of a family of patterns over the capacities;
//            below_lru: how far below LRU the worst of all is, in points.
//
// The trace, one key per line, is read from standard input.

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bench/support/figures.hpp"
#include "singleflight/cache/loading_cache.hpp"
#include "support/request_patterns.hpp"

namespace {

constexpr std::size_t threads = 8;
constexpr std::size_t step = 8;  // requests that a thread sends before it waits for the others

struct trace {
  std::vector<std::string> keys;
  std::vector<std::uint32_t> requests;  // indices into keys
};

trace read_trace(std::istream& from) {
  trace read;
  std::unordered_map<std::string, std::uint32_t> places;
  for (std::string line; std::getline(from, line);) {
    if (line.empty()) continue;
    const auto [at, is_new] =
        places.try_emplace(line, static_cast<std::uint32_t>(read.keys.size()));
    if (is_new) read.keys.push_back(line);
    read.requests.push_back(at->second);
  }
  return read;
}

double percent(const trace& t, std::size_t loads) {
  return 100.0 - 100.0 * static_cast<double>(loads) / static_cast<double>(t.requests.size());
}

// ---- ours ---------------------------------------------------------------------------------------

class played_cache {
 public:
  played_cache(const trace& t, std::size_t capacity)
      : trace_(t),
        cache_([this](const std::string& key) { return load(key); }, {.capacity = capacity}) {}

  void request(std::size_t i) {
    const std::string& key = trace_.keys[trace_.requests[i]];
    if (*cache_.get(key) != key.size()) bench::fail("a value was wrong");
  }
  std::size_t loads() const noexcept { return loads_.load(std::memory_order_relaxed); }

 private:
  std::size_t load(const std::string& key) {
    loads_.fetch_add(1, std::memory_order_relaxed);
    return key.size();
  }

  const trace& trace_;
  std::atomic<std::size_t> loads_{0};
  singleflight::loading_cache<std::string, std::size_t> cache_;
};

double ours(const trace& t, std::size_t capacity) {
  played_cache cache(t, capacity);
  for (std::size_t i = 0; i < t.requests.size(); ++i) cache.request(i);
  return percent(t, cache.loads());
}

double ours_from_eight(const trace& t, std::size_t capacity) {
  played_cache cache(t, capacity);
  const std::size_t size = t.requests.size();
  std::barrier together(static_cast<std::ptrdiff_t>(threads));
  const auto play = [&](std::size_t first) {
    for (std::size_t chunk = 0; chunk < size; chunk += threads * step) {
      together.arrive_and_wait();
      for (std::size_t i = chunk + first; i < size && i < chunk + threads * step; i += threads) {
        cache.request(i);
      }
    }
  };
  {
    std::vector<std::jthread> all;
    for (std::size_t i = 0; i < threads; ++i) all.emplace_back(play, i);
  }
  return percent(t, cache.loads());
}

// ---- with weights -------------------------------------------------------------------------------

struct hit_ratios {
  double requests = 0;
  double weight = 0;
};

hit_ratios percent_of_weight(const std::vector<std::uint32_t>& requests,
                             const support::missed& missed) {
  std::uint64_t all = 0;
  for (const std::uint32_t key : requests) all += support::weight_of(key);
  const auto part = [](auto misses, auto of) {
    return 100.0 - 100.0 * static_cast<double>(misses) / static_cast<double>(of);
  };
  return {part(missed.requests, requests.size()), part(missed.weight, all)};
}

support::missed missed_with_weights(const std::vector<std::uint32_t>& requests,
                                    std::size_t capacity) {
  support::missed sum;
  singleflight::loading_cache<std::uint32_t, std::uint32_t> cache(
      [&](const std::uint32_t& key) {
        ++sum.requests;
        sum.weight += support::weight_of(key);
        return key;
      },
      {.capacity = capacity, .weigher = [](const std::uint32_t& key, const std::uint32_t&) {
         return std::size_t{support::weight_of(key)};
       }});
  for (const std::uint32_t key : requests) cache.get(key);
  return sum;
}

// ---- the patterns -------------------------------------------------------------------------------

std::size_t misses(const std::vector<std::uint32_t>& requests, std::size_t capacity) {
  std::size_t loads = 0;
  singleflight::loading_cache<std::uint32_t, std::uint32_t> cache(
      [&](const std::uint32_t& key) {
        ++loads;
        return key;
      },
      {.capacity = capacity});
  for (const std::uint32_t key : requests) cache.get(key);
  return loads;
}

void report_patterns(const std::vector<std::size_t>& sizes) {
  struct sums {
    double ours = 0, opt = 0, lru = 0;
    int count = 0;
  };
  std::map<std::string, sums> families;
  double below = -100;
  for (const std::size_t capacity : sizes) {
    const std::size_t length = std::max<std::size_t>(10'000, 200 * capacity);
    support::request_patterns patterns(static_cast<std::uint32_t>(capacity), length);
    for (const auto& [family, percent_of_capacity, requests] : patterns.all()) {
      const auto ratio = [&](std::size_t missed) {
        return 100.0 - 100.0 * static_cast<double>(missed) / static_cast<double>(length);
      };
      const double ours = ratio(misses(requests, capacity));
      const double lru = ratio(support::lru_misses(requests, capacity));
      below = std::max(below, lru - ours);
      std::string name = family;
      std::replace(name.begin(), name.end(), ' ', '_');
      sums& sum = families[name];
      sum.ours += ours;
      sum.lru += lru;
      sum.opt += ratio(support::opt_misses(requests, capacity));
      ++sum.count;
    }
  }
  bench::figures figures;
  for (const auto& [name, sum] : families) {
    figures.add("ours_" + name, sum.ours / sum.count);
    figures.add("opt_" + name, sum.opt / sum.count);
    figures.add("lru_" + name, sum.lru / sum.count);
  }
  figures.add("below_lru", below);
  figures.print();
}

std::vector<std::size_t> capacities(int argc, char** argv) {
  constexpr std::string_view name = "--capacities=";
  std::vector<std::size_t> all;
  for (int i = 1; i < argc; ++i) {
    std::string_view given = argv[i];
    if (!given.starts_with(name)) continue;
    for (given.remove_prefix(name.size()); !given.empty();) {
      const std::size_t end = std::min(given.find(','), given.size());
      all.push_back(std::strtoull(std::string(given.substr(0, end)).c_str(), nullptr, 10));
      given.remove_prefix(std::min(end + 1, given.size()));
    }
  }
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::size_t> sizes = capacities(argc, argv);
  const auto repetitions = static_cast<int>(bench::argument(argc, argv, "repetitions", 3));
  if (sizes.empty()) bench::fail("--capacities=C[,C...] is missing");
  if (repetitions < 1) bench::fail("--repetitions is too low");
  for (const std::size_t capacity : sizes) {
    if (capacity == 0) bench::fail("--capacities: a capacity is a number from 1 up");
  }
  if (bench::argument(argc, argv, "patterns", 0) > 0) {
    report_patterns(sizes);
    return 0;
  }
  std::ios::sync_with_stdio(false);
  const trace t = read_trace(std::cin);
  if (t.requests.empty()) bench::fail("there is no request on standard input");

  bench::figures figures;
  for (const std::size_t capacity : sizes) {
    std::string suffix("_");  // in two steps: g++ 12 warns of "_" + std::to_string(...)
    suffix += std::to_string(capacity);
    figures.add("ours" + suffix, ours(t, capacity));
    double sum = 0;
    for (int i = 0; i < repetitions; ++i) sum += ours_from_eight(t, capacity);
    figures.add("eight" + suffix, sum / repetitions);
    figures.add("opt" + suffix, percent(t, support::opt_misses(t.requests, capacity)));
    figures.add("lru" + suffix, percent(t, support::lru_misses(t.requests, capacity)));
    const std::size_t weight = capacity * support::mean_weight;
    const hit_ratios weighted =
        percent_of_weight(t.requests, missed_with_weights(t.requests, weight));
    const hit_ratios weighted_lru = percent_of_weight(
        t.requests, support::missed_by_lru(t.requests, weight, support::weight_of));
    figures.add("weighted" + suffix, weighted.requests);
    figures.add("weighted_lru" + suffix, weighted_lru.requests);
    figures.add("weight" + suffix, weighted.weight);
    figures.add("weight_lru" + suffix, weighted_lru.weight);
  }
  figures.print();
  return 0;
}
