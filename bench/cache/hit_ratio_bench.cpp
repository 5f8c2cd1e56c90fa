// SPDX-License-Identifier: Apache-2.0

// Question   How many requests of a trace does the cache answer without a load, and are there fewer
//            when eight threads send them?
// Baseline   What no cache can exceed (Belady's choice of what to evict, which knows the future),
//            and LRU; both are simulated here, on the same requests.
// Reading    Percent of the requests that caused no load, for each capacity given by
//            --capacities=C[,C...]: ours_C, opt_C, lru_C; eight_C: the mean of --repetitions=R runs
//            of eight threads, of which the i-th sends each eighth request from the i-th on. They
//            keep together in steps of eight requests each.
//
// The trace, one key per line, is read from standard input.

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <limits>
#include <list>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bench/support/figures.hpp"
#include "singleflight/cache/loading_cache.hpp"

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

// ---- the bounds ---------------------------------------------------------------------------------

double lru(const trace& t, std::size_t capacity) {
  std::list<std::uint32_t> by_use;  // most recently used first
  std::vector<std::list<std::uint32_t>::iterator> place(t.keys.size(), by_use.end());
  std::size_t loads = 0;
  for (const std::uint32_t key : t.requests) {
    if (place[key] != by_use.end()) {
      by_use.splice(by_use.begin(), by_use, place[key]);
      continue;
    }
    ++loads;
    if (by_use.size() == capacity) {
      place[by_use.back()] = by_use.end();
      by_use.pop_back();
    }
    place[key] = by_use.insert(by_use.begin(), key);
  }
  return percent(t, loads);
}

/// Evicts the key whose next request is the furthest away, even if it is the new one.
double opt(const trace& t, std::size_t capacity) {
  constexpr std::size_t never = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> next(t.requests.size());
  std::vector<std::size_t> seen(t.keys.size(), never);
  for (std::size_t i = t.requests.size(); i-- > 0;) {
    next[i] = std::exchange(seen[t.requests[i]], i);
  }
  std::set<std::pair<std::size_t, std::uint32_t>> held;  // ordered by their next request
  std::size_t loads = 0;
  for (std::size_t i = 0; i < t.requests.size(); ++i) {
    const std::uint32_t key = t.requests[i];
    if (held.erase({i, key}) == 0) ++loads;
    held.emplace(next[i], key);
    if (held.size() > capacity) held.erase(std::prev(held.end()));
  }
  return percent(t, loads);
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
  std::ios::sync_with_stdio(false);
  const trace t = read_trace(std::cin);
  if (t.requests.empty()) bench::fail("there is no request on standard input");

  bench::figures figures;
  for (const std::size_t capacity : sizes) {
    if (capacity == 0) bench::fail("--capacities: a capacity is a number from 1 up");
    std::string suffix("_");  // in two steps: g++ 12 warns of "_" + std::to_string(...)
    suffix += std::to_string(capacity);
    figures.add("ours" + suffix, ours(t, capacity));
    double sum = 0;
    for (int i = 0; i < repetitions; ++i) sum += ours_from_eight(t, capacity);
    figures.add("eight" + suffix, sum / repetitions);
    figures.add("opt" + suffix, opt(t, capacity));
    figures.add("lru" + suffix, lru(t, capacity));
  }
  figures.print();
  return 0;
}
