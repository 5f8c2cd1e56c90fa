// SPDX-License-Identifier: Apache-2.0

// Question   What does an entry cost in memory in addition to its key and its value? What does a
//            group cost that is idle, and a cache with few entries?
// Baseline   None: the targets are numbers of bytes.
// Reading    bytes_per_entry: all bytes requested and not freed when the cache is full, the empty
//            cache's share included, by entry, less key and value (8 bytes each). What the
//            allocator adds is left out. One ttl for all entries, capacity by count. Twice as many
//            keys as the capacity are loaded, so that what eviction needs is allocated.
//            group_bytes: a group that has made one call. one_bytes: a cache with one entry.
//            ten_bytes: one of 100,000 caches with ten entries each. Objects themselves count.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/support/figures.hpp"
#include "bench/support/requested_bytes.hpp"
#include "singleflight/cache/loading_cache.hpp"
#include "singleflight/flight/group.hpp"

namespace {

using cache_type = singleflight::loading_cache<std::uint64_t, std::uint64_t>;

std::unique_ptr<cache_type> with_entries(std::uint64_t count) {
  auto cache = std::make_unique<cache_type>([](const std::uint64_t& key) { return key; });
  for (std::uint64_t key = 0; key < count; ++key) {
    if (*cache->get(key) != key) bench::fail("a value was wrong");
  }
  return cache;
}

void measure_small(bench::figures& figures) {
  (void)with_entries(1);  // what a process has once
  const auto bytes_since = [](std::size_t before) {
    return static_cast<double>(bench::requested_bytes() - before);
  };
  {
    const std::size_t before = bench::requested_bytes();
    const auto group = std::make_unique<singleflight::group<std::string, std::string>>();
    if (*group->run("key", [] { return std::string("value"); }) != "value") {
      bench::fail("a value was wrong");
    }
    figures.add("group_bytes", bytes_since(before));
  }
  std::size_t before = bench::requested_bytes();
  const auto one = with_entries(1);
  figures.add("one_bytes", bytes_since(before));
  constexpr int many = 100'000;
  std::vector<std::unique_ptr<cache_type>> all;
  all.reserve(many);
  before = bench::requested_bytes();
  for (int i = 0; i < many; ++i) all.push_back(with_entries(10));
  figures.add("ten_bytes", bytes_since(before) / many);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace std::chrono_literals;
  const auto entries = static_cast<std::size_t>(bench::argument(argc, argv, "entries", 1'000'000));

  const std::size_t before = bench::requested_bytes();
  cache_type cache([](const std::uint64_t& key) { return key; },
                   {.capacity = entries, .ttl = 10min});
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
  measure_small(figures);
  figures.print();
  return 0;
}
