// SPDX-License-Identifier: Apache-2.0

// Question   What does an entry cost in memory in addition to its key and its value?
// Baseline   None: the target is 48 bytes.
// Reading    bytes_per_entry: all bytes requested from operator new and not freed when the cache is
//            full, the empty cache's share included, by entry, less key and value (8 bytes each).
//            What the allocator adds is left out. One ttl for all entries, capacity by count. Twice
//            as many keys as the capacity are loaded, so that what eviction needs is allocated.

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "bench/support/figures.hpp"
#include "bench/support/requested_bytes.hpp"
#include "singleflight/cache/loading_cache.hpp"

int main(int argc, char** argv) {
  using namespace std::chrono_literals;
  const auto entries = static_cast<std::size_t>(bench::argument(argc, argv, "entries", 1'000'000));

  const std::size_t before = bench::requested_bytes();
  singleflight::loading_cache<std::uint64_t, std::uint64_t> cache(
      [](const std::uint64_t& key) { return key; }, {.capacity = entries, .ttl = 10min});
  const std::size_t empty = bench::requested_bytes();
  for (std::uint64_t key = 0; key < 2 * entries; ++key) {
    if (*cache.get(key) != key) bench::fail("a value was wrong");
  }
  const std::size_t full = bench::requested_bytes();

  const std::size_t held = cache.stats().entries;
  if (held > entries) bench::fail("the cache holds more than it may");
  if (held < entries / 100 * 99) bench::fail("the cache is not full");
  const double each = static_cast<double>(full - before) / static_cast<double>(held);
  bench::figures figures;
  figures.add("bytes_per_entry", each - 2.0 * sizeof(std::uint64_t));
  figures.add("empty_bytes", static_cast<double>(empty - before));
  figures.add("entries", static_cast<double>(held));
  figures.print();
  return 0;
}
