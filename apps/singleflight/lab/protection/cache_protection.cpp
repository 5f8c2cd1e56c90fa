// SPDX-License-Identifier: Apache-2.0
#include "lab/protection/cache_protection.hpp"

#include <atomic>
#include <string>
#include <utility>

#include <singleflight/cache/loading_cache.hpp>

namespace singleflight::lab {

namespace {

class cache_protection : public protection {
 public:
  cache_protection(backend& asked, const cache_settings& settings, timer& clock)
      : asked_(asked),
        cache_([this](const std::string& key) { return refresh(key); },
               {.capacity = settings.capacity,
                .ttl = settings.ttl,
                .jitter = 0,
                .refresh_after = settings.refresh_after,
                .stale_if_error = settings.stale_if_error,
                .group = {.executor = refreshing_, .timer = &clock}}) {}

  reply ask(const std::string& key, steady_time deadline) override {
    if (const auto late = refuse_late(deadline)) return *late;
    reply got;
    bool led = false;
    const auto load = [&](const std::string& wanted, flight_context& flight) {
      led = true;
      return asked_.load(wanted, [&flight] { return flight.deadline(); });
    };
    const auto shared = [&led] { return led ? reply::origin::own_load : reply::origin::shared; };
    try {
      const auto answer = cache_.get(key, load, {.deadline = deadline});
      if (answer.stale()) stale_.fetch_add(1, std::memory_order_relaxed);
      got.from = shared();
      got.empty = answer->rows == 0;
    } catch (const flight_error& refused) {
      got.error = describe_refusal(refused.errc());
    } catch (const std::exception&) {
      got.error = describe_failure(std::current_exception());
      if (got.error->asked) got.from = shared();
    }
    return got;
  }

  std::optional<cache_counts> cached() const override {
    // stats().stale_hits are the stale answers that were returned without a load.
    const auto stale = stale_.load(std::memory_order_relaxed);
    const auto stats = cache_.stats();
    return cache_counts{.hits = stats.hits,
                        .stale = stale,
                        .misses = stats.misses + stats.stale_hits - stale,
                        .refreshes = stats.refreshes,
                        .failed = stats.load_failures,
                        .expired = stats.expired,
                        .evicted = stats.evicted};
  }

 private:
  // No caller waits for a refresh, so its patience is unlimited. The loads of callers are in ask().
  row refresh(const std::string& key) {
    return asked_.load(key, [] { return steady_time::max(); });
  }

  backend& asked_;
  std::atomic<std::uint64_t> stale_ = 0;
  // Each refresh may block while it waits for a connection, so allow many threads.
  thread_pool refreshing_{{.max_threads = 1000}};
  loading_cache<std::string, row> cache_;
};

class cache_alone_protection : public protection {
 public:
  cache_alone_protection(backend& asked, const cache_settings& settings, timer& clock)
      : asked_(asked),
        cache_([](const std::string& /*key*/) { return row{}; }, {.capacity = settings.capacity,
                                                                  .ttl = settings.ttl,
                                                                  .jitter = 0,
                                                                  .group = {.timer = &clock}}) {}

  reply ask(const std::string& key, steady_time deadline) override {
    if (const auto late = refuse_late(deadline)) return *late;
    reply got;
    if (const auto stored = cache_.find(key)) {
      got.from = reply::origin::shared;
      got.empty = (*stored)->rows == 0;
      return got;
    }
    try {
      auto answer = asked_.load(key, [deadline] { return deadline; });
      got.from = reply::origin::own_load;
      got.empty = answer.rows == 0;
      cache_.put(key, std::move(answer));
    } catch (const std::exception&) {
      failed_.fetch_add(1, std::memory_order_relaxed);
      got.error = describe_failure(std::current_exception());
      if (got.error->asked) got.from = reply::origin::own_load;
    }
    return got;
  }

  std::optional<cache_counts> cached() const override {
    const auto stats = cache_.stats();
    return cache_counts{.hits = stats.hits,
                        .misses = stats.misses,
                        .failed = failed_.load(std::memory_order_relaxed),
                        .expired = stats.expired,
                        .evicted = stats.evicted};
  }

 private:
  backend& asked_;
  std::atomic<std::uint64_t> failed_ = 0;
  loading_cache<std::string, row> cache_;
};

}  // namespace

std::unique_ptr<protection> make_cache_alone_protection(backend& asked,
                                                        const cache_settings& settings,
                                                        timer& clock) {
  return std::make_unique<cache_alone_protection>(asked, settings, clock);
}

std::unique_ptr<protection> make_cache_protection(backend& asked, const cache_settings& settings,
                                                  timer& clock) {
  return std::make_unique<cache_protection>(asked, settings, clock);
}

}  // namespace singleflight::lab
