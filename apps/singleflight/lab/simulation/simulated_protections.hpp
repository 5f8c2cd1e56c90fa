// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lab/simulation/load_ledger.hpp"
#include "lab/simulation/log_clock.hpp"
#include "lab/simulation/pending_loads.hpp"
#include "lab/workload/mix.hpp"
#include <singleflight/cache/loading_cache.hpp>
#include <singleflight/flight/group.hpp>

namespace singleflight::lab {

// The protections of protection.hpp, for a simulation: the same classes of the library, whose loads
// end when the simulation says so. Each has
//   request(process, key, now)   a request arrives at a process
//   end_next()                   the load that ends first ends
//   in_flight                    the loads
//   finish()                     all is over: completes the counts

/// How a simulated load fails.
struct simulated_failure : std::runtime_error {
  simulated_failure() : std::runtime_error("a failure was injected (--fail)") {}
};

/// The processes of a protection, each with a clock and an object of the library.
template <class Shared>
class simulated_processes {
 public:
  struct process {
    template <class... Args>
    explicit process(Args&&... args) : shared(clock, std::forward<Args>(args)...) {}
    log_clock clock;
    Shared shared;
  };

  template <class... Args>
  explicit simulated_processes(std::size_t count, Args&&... args) {
    for (std::size_t i = 0; i < count; ++i) all_.push_back(std::make_unique<process>(args...));
  }
  /// The process, whose clock shows `now`.
  Shared& at(std::size_t index, std::chrono::nanoseconds now) {
    all_[index]->clock.set(now);
    return all_[index]->shared;
  }
  template <class Visit>
  void each(const Visit& visit) {
    for (auto& one : all_) visit(one->shared);
  }

 private:
  std::vector<std::unique_ptr<process>> all_;
};

/// The callers that wait for loads, by process and key. They are counted only if loads may fail:
/// then each of them counts as failed, or as served a stale value.
template <class Handle>
class waiting_callers {
 public:
  struct callers {
    std::uint64_t count = 0;
    std::optional<Handle> one;
  };

  void add(std::size_t process, std::uint32_t key, Handle&& handle) {
    auto& those = waiting_[id(process, key)];
    ++those.count;
    if (!those.one) those.one.emplace(std::move(handle));
  }
  callers take(std::size_t process, std::uint32_t key) {
    const auto found = waiting_.find(id(process, key));
    if (found == waiting_.end()) return {};
    callers those = std::move(found->second);
    waiting_.erase(found);
    return those;
  }

 private:
  static std::uint64_t id(std::size_t process, std::uint32_t key) {
    return (static_cast<std::uint64_t>(process) << 32U) | key;
  }
  std::unordered_map<std::uint64_t, callers> waiting_;
};

class simulated_none {
 public:
  simulated_none(const simulation& /*what*/, load_ledger& ledger) : ledger_(ledger) {}

  void request(std::size_t /*process*/, std::uint32_t key, std::chrono::nanoseconds /*now*/) {
    const auto decided = ledger_.begin(key);
    in_flight.add(decided.end, decided.fails);
  }
  void end_next() {
    if (in_flight.take().second) ++ledger_.run.failed;
  }
  void finish() {}

  pending_loads<bool> in_flight;

 private:
  load_ledger& ledger_;
};

class simulated_flight {
 public:
  simulated_flight(const simulation& what, load_ledger& ledger)
      : ledger_(ledger), processes_(what.processes) {}

  void request(std::size_t process, std::uint32_t key, std::chrono::nanoseconds now) {
    bool led = false;
    auto caller =
        processes_.at(process, now)
            .group.start(key, [this, process, key, &led](flight_promise<void> promise) {
              led = true;
              const auto decided = ledger_.begin(key);
              in_flight.add(decided.end, {std::move(promise), process, key, decided.fails});
            });
    if (!led) ++ledger_.run.joins;
    if (ledger_.faulty()) waiting_.add(process, key, std::move(caller));
  }
  void end_next() {
    auto [now, load] = in_flight.take();
    processes_.at(load.process, now);
    if (load.fails) {
      load.promise.set_error(failure_);
    } else {
      load.promise.set_value();
    }
    if (!ledger_.faulty()) return;
    const auto callers = waiting_.take(load.process, load.key);
    if (load.fails) ledger_.run.failed += callers.count;
  }
  void finish() {}

 private:
  struct flights {
    explicit flights(log_clock& clock)
        : group({.executor = inline_executor, .timer = &clock, .on_abandon = abandon::finish}) {}
    singleflight::group<std::uint32_t, void> group;
  };
  struct running {
    flight_promise<void> promise;
    std::size_t process;
    std::uint32_t key;
    bool fails;
  };

  load_ledger& ledger_;
  const std::exception_ptr failure_ = std::make_exception_ptr(simulated_failure());
  simulated_processes<flights> processes_;
  waiting_callers<flight<void>> waiting_;

 public:
  pending_loads<running> in_flight;  // the last member: processes_ waits for the loads
};

/// A cache in front of which nothing coalesces: each miss loads.
class simulated_cache_alone {
 public:
  simulated_cache_alone(const simulation& what, load_ledger& ledger)
      : ledger_(ledger), processes_(what.processes, what.cache) {}

  void request(std::size_t process, std::uint32_t key, std::chrono::nanoseconds now) {
    if (processes_.at(process, now).cache.find(key)) return;
    const auto decided = ledger_.begin(key);
    in_flight.add(decided.end, {process, key, decided.fails});
  }
  void end_next() {
    const auto [now, load] = in_flight.take();
    auto& cache = processes_.at(load.process, now).cache;
    if (load.fails) {
      ++ledger_.run.failed;
    } else {
      cache.put(load.key, true);
    }
  }
  void finish() {
    auto& counts = ledger_.run.cached.emplace();
    counts.failed = ledger_.run.failed_loads;
    processes_.each([&](caching& one) {
      const auto stats = one.cache.stats();
      counts.hits += stats.hits;
      counts.misses += stats.misses;
      counts.expired += stats.expired;
      counts.evicted += stats.evicted;
    });
  }

  struct running {
    std::size_t process;
    std::uint32_t key;
    bool fails;
  };
  pending_loads<running> in_flight;

 private:
  struct caching {
    caching(log_clock& clock, const cache_settings& settings)
        : cache([](std::uint32_t /*key*/) { return true; },
                {.capacity = settings.capacity,
                 .ttl = settings.ttl,
                 .jitter = 0,
                 .group = {.executor = inline_executor, .timer = &clock}}) {}
    loading_cache<std::uint32_t, bool, key_mix> cache;
  };

  load_ledger& ledger_;
  simulated_processes<caching> processes_;
};

class simulated_cache {
 public:
  simulated_cache(const simulation& what, load_ledger& ledger)
      : ledger_(ledger),
        serves_stale_(what.cache.stale_if_error.count() > 0),
        processes_(what.processes, what.cache, std::ref(*this)) {}

  void request(std::size_t process, std::uint32_t key, std::chrono::nanoseconds now) {
    process_ = process;
    led_ = false;
    auto caller = processes_.at(process, now).cache.start_get(key);
    if (caller.ready()) {
      if (serves_stale_ && is_stale(caller)) ++stale_;
      return;
    }
    if (!led_) ++ledger_.run.joins;
    if (ledger_.faulty()) waiting_.add(process, key, std::move(caller));
  }
  void end_next() {
    auto [now, load] = in_flight.take();
    processes_.at(load.process, now);
    load.begun->fails = load.fails;
    const auto key = load.begun->key;
    load.frame.resume();
    if (!ledger_.faulty()) return;
    auto callers = waiting_.take(load.process, key);
    if (!load.fails || callers.count == 0) return;
    (is_stale(*callers.one) ? stale_ : ledger_.run.failed) += callers.count;
  }
  void finish() {
    auto& counts = ledger_.run.cached.emplace();
    counts.stale = stale_;
    processes_.each([&](caching& one) {
      const auto stats = one.cache.stats();
      counts.hits += stats.hits;
      counts.misses += stats.misses + stats.stale_hits;
      counts.refreshes += stats.refreshes;
      counts.failed += stats.load_failures;
      counts.expired += stats.expired;
      counts.evicted += stats.evicted;
    });
    counts.misses -= stale_;
  }

  /// What the loader returns: it suspends the load until the simulation ends it.
  struct awaited_load {
    simulated_cache& owner;
    std::uint32_t key;
    bool fails = false;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> frame) { owner.begin(*this, frame); }
    bool await_resume() const {
      if (fails) throw simulated_failure();
      return true;
    }
  };

 private:
  /// A suspended load; if it is never resumed, it ends as broken.
  class suspended {
   public:
    explicit suspended(std::coroutine_handle<> frame) : frame_(frame) {}
    suspended(suspended&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
    suspended& operator=(suspended&& other) noexcept {
      std::swap(frame_, other.frame_);
      return *this;
    }
    ~suspended() {
      if (frame_) frame_.destroy();
    }
    void resume() { std::exchange(frame_, nullptr).resume(); }

   private:
    std::coroutine_handle<> frame_;
  };
  struct running {
    awaited_load* begun;  // in the frame
    suspended frame;
    std::size_t process;
    bool fails;
  };
  struct caching {
    caching(log_clock& clock, const cache_settings& settings, simulated_cache& owner)
        : cache(
              [&owner](std::uint32_t key) {
                return awaited_load{owner, key};
              },
              {.capacity = settings.capacity,
               .ttl = settings.ttl,
               .jitter = 0,
               .refresh_after = settings.refresh_after,
               .stale_if_error = settings.stale_if_error,
               .group = {.executor = inline_executor, .timer = &clock}}) {}
    loading_cache<std::uint32_t, bool, key_mix> cache;
  };

  void begin(awaited_load& begun, std::coroutine_handle<> frame) {
    led_ = true;
    const auto decided = ledger_.begin(begun.key);
    in_flight.add(decided.end, {&begun, suspended(frame), process_, decided.fails});
  }
  static bool is_stale(pending_cached<bool>& ready) {
    const auto answer = ready.get_outcome();
    return answer.has_value() && answer->stale();
  }

  load_ledger& ledger_;
  const bool serves_stale_;
  std::uint64_t stale_ = 0;  // requests
  std::size_t process_ = 0;  // of the request
  bool led_ = false;         // the request has begun a load
  simulated_processes<caching> processes_;
  waiting_callers<pending_cached<bool>> waiting_;

 public:
  pending_loads<running> in_flight;  // the last member: processes_ waits for the loads
};

}  // namespace singleflight::lab
