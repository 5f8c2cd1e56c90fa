// SPDX-License-Identifier: Apache-2.0

// Question   What does a hit cost: of 1,000 entries with keys that are numbers (hit), with a ttl
//            (hit_ttl), with keys of 16 bytes (hit_text), and of 100,000 such entries, looked up by
//            a view of the key's bytes (hit_many) or by a std::string (hit_many_strings)? And in a
//            cache that is not new (hit_worn, hit_many_worn): ten times as many entries as its
//            capacity have been loaded in the place of others that had been invalidated.
// Baseline   Caffeine's LoadingCache.get, and for hit_text groupcache's Group.Get.
// Reading    Nanoseconds of wall time per call, over all threads together (_two: two of them);
//            allocations per call. The value is read through its handle, which is then dropped.
//            Keys are drawn beforehand, Zipf 0.99, the same on all sides.

#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bench/support/run_benchmarks.hpp"
#include "bench/support/workload.hpp"
#include "singleflight/cache/loading_cache.hpp"
#include "support/allocation_count.hpp"

namespace {

using namespace std::chrono_literals;

constexpr std::size_t few = 1'000;
constexpr std::size_t many = 100'000;
constexpr std::size_t draws = std::size_t{1} << 20;

/// The rank of the key that each call looks up.
const std::vector<std::uint32_t>& drawn(std::size_t keys) {
  static const auto draw = [](std::size_t count) {
    const bench::zipf ranks(count, 0.99);
    bench::random random(42);
    std::vector<std::uint32_t> all(draws);
    for (std::uint32_t& one : all) one = static_cast<std::uint32_t>(ranks.rank(random));
    return all;
  };
  static const std::vector<std::uint32_t> of_few = draw(few);
  static const std::vector<std::uint32_t> of_many = draw(many);
  return keys == few ? of_few : of_many;
}

/// Keys that are numbers, and keys that are strings in an array.
struct numbers {
  using key_type = std::uint64_t;
  explicit numbers(std::size_t) {}
  key_type operator[](std::size_t rank) const noexcept { return rank; }
};
struct texts {
  using key_type = std::string;
  explicit texts(std::size_t count) : all(bench::make_keys("key:", count)) {}
  const key_type& operator[](std::size_t rank) const noexcept { return all[rank]; }
  std::vector<std::string> all;
};

/// Keys that are views of a buffer, as in a request that was read into it.
struct views {
  using key_type = std::string;
  explicit views(std::size_t count) {
    for (const std::string& key : bench::make_keys("key:", count)) all += key;
  }
  std::string_view operator[](std::size_t rank) const noexcept {
    return std::string_view(all).substr(rank * bytes, bytes);
  }
  static constexpr std::size_t bytes = 16;
  std::string all;
};

/// A cache that has capacity for all keys, and has loaded them.
template <class Keys>
struct full_cache {
  using key_type = typename Keys::key_type;

  full_cache(std::size_t count, std::chrono::nanoseconds ttl, std::size_t lives = 0)
      : keys(count),
        order(drawn(count)),
        cache([](const key_type&) { return std::uint64_t{1}; }, {.capacity = count, .ttl = ttl}) {
    for (std::size_t i = 0; i < count; ++i) cache.get(keys[i]);
    bench::random random(7);
    // A tenth at a time: what is loaded again is stored where other entries were removed.
    for (std::size_t i = 0; i < 10 * lives; ++i) {
      std::vector<std::size_t> some;
      for (std::size_t n = 0; n < count / 10; ++n) some.push_back(random.next() % count);
      for (const std::size_t rank : some) cache.invalidate(keys[rank]);
      for (const std::size_t rank : some) cache.get(keys[rank]);
    }
    loads = cache.stats().loads;
  }

  const Keys keys;
  const std::vector<std::uint32_t>& order;
  singleflight::loading_cache<key_type, std::uint64_t> cache;
  std::uint64_t loads = 0;  // that filled it
};

template <class Keys>
void hits(benchmark::State& state, full_cache<Keys>& full) {
  const auto threads = static_cast<std::size_t>(state.threads());
  std::size_t i = draws / threads * static_cast<std::size_t>(state.thread_index());
  for (std::size_t warm = 0; warm < draws; ++warm) {
    benchmark::DoNotOptimize(*full.cache.get(full.keys[full.order[i++ % draws]]));
  }
  const std::size_t allocations_before = support::allocations_of_this_thread();
  for (auto _ : state) {
    benchmark::DoNotOptimize(*full.cache.get(full.keys[full.order[i++ % draws]]));
  }
  state.counters["allocations"] = benchmark::Counter(
      static_cast<double>(support::allocations_of_this_thread() - allocations_before),
      benchmark::Counter::kAvgIterations);
  if (full.cache.stats().loads != full.loads) state.SkipWithError("a hit was a miss");
}

full_cache<numbers>& plain() {
  static full_cache<numbers> full(few, 0ns);
  return full;
}
full_cache<numbers>& with_ttl() {
  static full_cache<numbers> full(few, 10min);
  return full;
}
full_cache<texts>& of_texts() {
  static full_cache<texts> full(few, 0ns);
  return full;
}
full_cache<views>& of_many_views() {
  static full_cache<views> full(many, 0ns);
  return full;
}
full_cache<numbers>& worn() {
  static full_cache<numbers> full(few, 0ns, 10);
  return full;
}
full_cache<views>& of_many_views_worn() {
  static full_cache<views> full(many, 0ns, 10);
  return full;
}
full_cache<texts>& of_many_texts() {
  static full_cache<texts> full(many, 0ns);
  return full;
}

void hit(benchmark::State& state) { hits(state, plain()); }
void hit_two(benchmark::State& state) { hits(state, plain()); }
void hit_worn(benchmark::State& state) { hits(state, worn()); }
void hit_many_worn(benchmark::State& state) { hits(state, of_many_views_worn()); }
void hit_ttl(benchmark::State& state) { hits(state, with_ttl()); }
void hit_ttl_two(benchmark::State& state) { hits(state, with_ttl()); }
void hit_text(benchmark::State& state) { hits(state, of_texts()); }
void hit_text_two(benchmark::State& state) { hits(state, of_texts()); }
void hit_many(benchmark::State& state) { hits(state, of_many_views()); }
void hit_many_two(benchmark::State& state) { hits(state, of_many_views()); }
void hit_many_strings(benchmark::State& state) { hits(state, of_many_texts()); }
void hit_many_strings_two(benchmark::State& state) { hits(state, of_many_texts()); }

BENCHMARK(hit);
BENCHMARK(hit_two)->Threads(2)->UseRealTime();
BENCHMARK(hit_worn);
BENCHMARK(hit_many_worn);
BENCHMARK(hit_ttl);
BENCHMARK(hit_ttl_two)->Threads(2)->UseRealTime();
BENCHMARK(hit_text);
BENCHMARK(hit_text_two)->Threads(2)->UseRealTime();
BENCHMARK(hit_many);
BENCHMARK(hit_many_two)->Threads(2)->UseRealTime();
BENCHMARK(hit_many_strings);
BENCHMARK(hit_many_strings_two)->Threads(2)->UseRealTime();

}  // namespace

int main(int argc, char** argv) { return bench::run_benchmarks(argc, argv); }
