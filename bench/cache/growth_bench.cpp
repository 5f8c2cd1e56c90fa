// SPDX-License-Identifier: Apache-2.0

// Question   How long do single calls take as a cache grows to millions of entries, is cleared, and
//            is destroyed?
// Baseline   The worst gap between two looks at the clock in a loop that does nothing else, in the
//            same process, for as long; Caffeine's put.
// Reading    put_ns: the mean put of new keys, from an empty cache to `entries` of them;
//            reserved_ns: with a reserve. worst_put_ms: the longest of them; worst_gap_ms: the
//            baseline. worst_miss_ms: the longest miss of another thread meanwhile; worst_idle_ms:
//            in a cache that does not grow. clear_ms: how long clear takes; worst_clear_ms: the
//            longest put of another thread meanwhile. end_ms: how long the destructor takes, and
//            handed_ms: if an executor frees the entries.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "bench/support/figures.hpp"
#include "bench/support/pauses.hpp"
#include "singleflight/cache/loading_cache.hpp"

namespace {

using bench::clock_type;
using bench::ms_between;
using bench::ms_since;
using bench::worst_gap_ms;
using bench::worst_meanwhile_ms;
using cache_type = singleflight::loading_cache<std::uint64_t, std::uint64_t>;

cache_type make(std::size_t capacity, std::size_t reserve = 0, bool handed = false) {
  singleflight::cache_options<std::uint64_t, std::uint64_t> options;
  options.capacity = capacity;
  options.reserve = reserve;
  if (handed) options.free_on = singleflight::default_pool();
  return cache_type([](const std::uint64_t& key) { return key; }, options);
}

struct costs {
  double mean_ns = 0;
  double worst_ms = 0;
};

/// Puts so many new keys.
costs fill(cache_type& cache, std::size_t entries) {
  costs found;
  const auto begin = clock_type::now();
  auto before = begin;
  for (std::uint64_t key = 0; key < entries; ++key) {
    cache.put(key, key);
    const auto now = clock_type::now();
    found.worst_ms = std::max(found.worst_ms, ms_between(before, now));
    before = now;
  }
  found.mean_ns = ms_since(begin) * 1e6 / static_cast<double>(entries);
  if (cache.stats().entries != entries) bench::fail("not every entry is in the cache");
  return found;
}

constexpr std::uint64_t others = std::uint64_t{1} << 40;  // keys of the other thread

}  // namespace

int main(int argc, char** argv) {
  const auto entries = static_cast<std::size_t>(bench::argument(argc, argv, "entries", 4'000'000));
  bench::figures figures;
  double filled_ms = 0;
  {
    std::unique_ptr<cache_type> cache(new cache_type(make(entries)));
    const costs growing = fill(*cache, entries);
    filled_ms = growing.mean_ns * static_cast<double>(entries) / 1e6;
    figures.add("put_ns", growing.mean_ns);
    figures.add("worst_put_ms", growing.worst_ms);
    const auto begin = clock_type::now();
    cache.reset();
    figures.add("end_ms", ms_since(begin));
  }
  figures.add("worst_gap_ms", worst_gap_ms(filled_ms));
  {
    std::unique_ptr<cache_type> cache(new cache_type(make(entries, entries, true)));
    figures.add("reserved_ns", fill(*cache, entries).mean_ns);
    const auto begin = clock_type::now();
    cache.reset();
    figures.add("handed_ms", ms_since(begin));
  }
  {
    cache_type cache = make(2 * entries);
    figures.add("worst_miss_ms", worst_meanwhile_ms(
                                     [&](std::uint64_t i) {
                                       const std::uint64_t key = others + i % 1000;
                                       if (*cache.get(key) != key) bench::fail("a wrong value");
                                       cache.invalidate(key);
                                     },
                                     [&] {
                                       for (std::uint64_t k = 0; k < entries; ++k) cache.put(k, k);
                                     }));
    double cleared = 0;
    figures.add("worst_clear_ms",
                worst_meanwhile_ms([&](std::uint64_t i) { cache.put(others + i % 1000, i); },
                                   [&] {
                                     const auto begin = clock_type::now();
                                     cache.clear();
                                     cleared = ms_since(begin);
                                   }));
    figures.add("clear_ms", cleared);
  }
  figures.add("worst_idle_ms", [&] {
    cache_type cache = make(10'000);
    return worst_meanwhile_ms(
        [&](std::uint64_t i) {
          if (*cache.get(i) != i) bench::fail("a wrong value");
          cache.invalidate(i);
        },
        [&] { (void)worst_gap_ms(filled_ms); });
  }());
  figures.print();
  return 0;
}
