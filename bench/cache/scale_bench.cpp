// SPDX-License-Identifier: Apache-2.0

// Question   Which costs grow with the size of what a call does not concern?
// Baseline   The same with a small number, in the same process.
// Reading    Each figure is measured twice, with few and with many. alarm_ns: to arm and cancel one
//            of 1,000, and of 1,000,000, alarms. wait_ns: a wait within a load, with no other wait
//            recorded, and with 1,000. miss_ns: a miss of a cache of 10,000 with one thread that
//            has used caches, and with 1,000. stats_ns: stats of that cache, likewise.
//            worst_sweep_ms, worst_filter_ms: the longest put of another thread while 1,000 and
//            4,000,000 entries are swept for expired ones, or visited by invalidate_if; sweep_ms,
//            filter_ms: how long those take.

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bench/support/figures.hpp"
#include "bench/support/pauses.hpp"
#include "singleflight/cache/loading_cache.hpp"
#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/manual_timer.hpp"
#include "singleflight/flight/group.hpp"

namespace {

using namespace std::chrono_literals;
using bench::clock_type;
using bench::ms_since;
using cache_type = singleflight::loading_cache<std::uint64_t, std::uint64_t>;

template <class Call>
double ns_per(std::size_t calls, const Call& call) {
  const auto begin = clock_type::now();
  for (std::size_t i = 0; i < calls; ++i) call(i);
  return ms_since(begin) * 1e6 / static_cast<double>(calls);
}
cache_type make(singleflight::cache_options<std::uint64_t, std::uint64_t> options) {
  return cache_type([](const std::uint64_t& key) { return key; }, options);
}

// ---- alarms -------------------------------------------------------------------------------------

double alarm_ns(std::size_t armed) {
  singleflight::timer& clock = singleflight::default_timer();
  const auto nothing = [](singleflight::timer_node&) noexcept {};
  std::vector<std::unique_ptr<singleflight::timer_node>> all;
  const auto when = [&](std::size_t i) { return clock.now() + 1h + std::chrono::milliseconds(i); };
  for (std::size_t i = 0; i < armed; ++i) {
    all.push_back(std::make_unique<singleflight::timer_node>(nothing));
    clock.arm(*all.back(), when(i));
  }
  const double found = ns_per(200'000, [&](std::size_t i) {
    singleflight::timer_node& one = *all[i * 7919 % armed];
    clock.cancel(one);
    clock.arm(one, when(i * 31 % 1'000'000));
  });
  for (const auto& one : all) clock.cancel(*one);
  return found;
}

// ---- waits --------------------------------------------------------------------------------------

/// The cost of a wait within a load, whose deadline has passed, while `waits` threads wait in loads
/// of their own.
double wait_ns(std::size_t waits) {
  struct keeper {
    std::vector<singleflight::task>* tasks;
    void execute(singleflight::task work) const { tasks->push_back(std::move(work)); }
  };
  std::vector<singleflight::task> tasks;
  singleflight::group<std::uint64_t, int> held({.executor = keeper{&tasks}});
  singleflight::group<std::uint64_t, int> waiting;
  std::vector<singleflight::flight<int>> handles;
  std::vector<std::thread> threads;
  for (std::uint64_t key = 0; key < waits; ++key) {
    handles.push_back(held.start(key, [] { return 1; }));
    threads.emplace_back([&held, &waiting, key] {
      (void)*waiting.run(key, [&] { return *held.run(key, [] { return 1; }); });
    });
  }
  while (held.stats().joined < waits) std::this_thread::sleep_for(1ms);
  singleflight::group<std::uint64_t, int> outer;
  singleflight::flight<int> one = held.start(waits, [] { return 1; });
  const double found = ns_per(50'000, [&](std::size_t i) {
    const auto load = [&] { return one.wait_until(clock_type::now()) ? 1 : 0; };
    if (*outer.run(i, load) != 0) bench::fail("a flight has ended early");
  });
  for (auto& work : tasks) work();
  for (std::thread& thread : threads) thread.join();
  return found;
}

// ---- threads that have used caches --------------------------------------------------------------

/// So many threads, each of which has used `cache`, and now sleeps.
class sleepers {
 public:
  sleepers(std::size_t count, cache_type& cache) {
    for (std::size_t i = 0; i < count; ++i) {
      all_.emplace_back([this, &cache, i] {
        if (*cache.get(i) != i) bench::fail("a wrong value");
        std::unique_lock hold(lock_);
        ++asleep_;
        changed_.notify_all();
        changed_.wait(hold, [this] { return over_; });
      });
    }
    std::unique_lock hold(lock_);
    changed_.wait(hold, [&] { return asleep_ == count; });
  }
  sleepers(const sleepers&) = delete;
  sleepers& operator=(const sleepers&) = delete;
  ~sleepers() {
    {
      const std::lock_guard hold(lock_);
      over_ = true;
    }
    changed_.notify_all();
    for (std::thread& one : all_) one.join();
  }

 private:
  std::mutex lock_;
  std::condition_variable changed_;
  std::size_t asleep_ = 0;
  bool over_ = false;
  std::vector<std::thread> all_;
};

void measure_threads(std::size_t threads, const std::string& suffix, bench::figures& figures) {
  cache_type cache = make({.capacity = 10'000});
  const sleepers others(threads, cache);
  std::uint64_t next = 1'000'000;
  for (int i = 0; i < 100'000; ++i) (void)*cache.get(next++);
  figures.add("miss_ns" + suffix, ns_per(500'000, [&](std::size_t) {
                if (*cache.get(next) != next) bench::fail("a wrong value");
                ++next;
              }));
  std::uint64_t sum = 0;
  figures.add("stats_ns" + suffix,
              ns_per(2'000, [&](std::size_t) { sum += cache.stats().misses; }));
  if (sum == 0) bench::fail("no misses");
}

// ---- walks through a cache ----------------------------------------------------------------------

/// The longest put of another thread while `walk` runs here.
template <class Walk>
double worst_put_ms(cache_type& cache, const Walk& walk) {
  return bench::worst_meanwhile_ms(
      [&](std::uint64_t i) { cache.put((std::uint64_t{1} << 40) + i % 100, i); }, walk);
}

void measure_walks(std::size_t entries, const std::string& suffix, bench::figures& figures) {
  singleflight::manual_timer time;
  cache_type cache = make({.capacity = 2 * entries, .ttl = 10min, .group = {.timer = &time}});
  for (std::uint64_t key = 0; key < entries; ++key) cache.put(key, key);
  double took = 0;
  figures.add("worst_filter_ms" + suffix, worst_put_ms(cache, [&] {
                const auto begin = clock_type::now();
                const auto removed =
                    cache.invalidate_if([](std::uint64_t key) { return key % 4 == 0; });
                took = ms_since(begin);
                if (removed < entries / 4) bench::fail("too few entries were removed");
              }));
  figures.add("filter_ms" + suffix, took);
  figures.add("worst_sweep_ms" + suffix, worst_put_ms(cache, [&] {
                const auto begin = clock_type::now();
                do {  // the sweep runs on the default pool; what it misses, the next one finds
                  time.advance(20min);
                  std::this_thread::sleep_for(1ms);
                } while (cache.stats().entries > 100);
                took = ms_since(begin);
              }));
  figures.add("sweep_ms" + suffix, took);
}

}  // namespace

int main() {
  bench::figures figures;
  figures.add("alarm_ns", alarm_ns(1'000));
  figures.add("alarm_ns_many", alarm_ns(1'000'000));
  figures.add("wait_ns", wait_ns(0));
  figures.add("wait_ns_many", wait_ns(1'000));
  measure_threads(1, "", figures);
  measure_threads(1'000, "_many", figures);
  measure_walks(1'000, "", figures);
  measure_walks(4'000'000, "_many", figures);
  figures.print();
  return 0;
}
