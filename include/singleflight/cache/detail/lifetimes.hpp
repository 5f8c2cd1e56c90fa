// SPDX-License-Identifier: Apache-2.0
#pragma once

// lifetimes: the durations of a cache's options, and the freshness of an entry by them.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>

#include "singleflight/cache/cache_options.hpp"
#include "singleflight/cache/detail/backoff.hpp"
#include "singleflight/cache/detail/entry.hpp"
#include "singleflight/core/support/random.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// The freshness of an entry at some moment.
enum class entry_freshness : std::uint8_t {
  fresh,
  due,      ///< fresh, and to be refreshed
  stale,    ///< served if a load fails
  expired,  ///< never served
};

class lifetimes {
 public:
  static constexpr cache_ticks never = std::numeric_limits<cache_ticks>::max();

  /// The options that are durations, and what belongs to them.
  struct given {
    std::chrono::nanoseconds ttl, refresh_after, stale_if_error, negative_ttl, error_ttl,
        retry_after, max_retry_after, soft_timeout;
    double jitter;
    std::uint64_t seed;
    bool per_value;
  };
  /// Throws std::invalid_argument. `per_value` is true if the loader returns ttls.
  template <class Key, class Value>
  lifetimes(const cache_options<Key, Value>& options, bool per_value)
      : lifetimes(given{options.ttl, options.refresh_after, options.stale_if_error,
                        options.negative_ttl, options.error_ttl, options.retry_after,
                        options.max_retry_after, options.soft_timeout, options.jitter,
                        options.random ? options.random() : random_bits(),
                        per_value || options.ttl_of}) {}
  explicit lifetimes(const given& options);

  /// Returns whether time affects the answer of a hit.
  bool timed() const noexcept {
    return ttl_ > 0 || per_value_ || refresh_after_ > 0 || negative_ttl_ > 0 || error_ttl_ > 0;
  }
  /// Whether entries differ in their ttl, or are loaded again while they are stored.
  bool need_extras() const noexcept {
    return per_value_ || (refresh_after_ > 0 && (ttl_ == 0 || refresh_after_ < ttl_)) ||
           stale_for_ > 0;
  }
  bool per_value() const noexcept { return per_value_; }
  bool keeps_absence() const noexcept { return negative_ttl_ > 0; }
  bool keeps_errors() const noexcept { return error_ttl_ > 0; }

  /// Returns how long the entry is fresh after it was stored.
  cache_ticks fresh_for(entry_base& e, bool has_extras) const noexcept {
    switch (e.kind()) {
      case entry_kind::absent: return less_jitter(negative_ttl_, e.hash);
      case entry_kind::error: return less_jitter(error_ttl_, e.hash);
      case entry_kind::value: break;
    }
    if (has_extras) {
      if (const cache_ticks own = e.extras().ttl; own != 0) return own;
    }
    return plain_ttl_ - shortened(shortest_, e.hash);
  }
  /// Whether it is a value so young that no option affects it; most hits need no other test.
  bool is_young(const entry_base& e, cache_ticks now) const noexcept {
    return e.kind() == entry_kind::value && e.since_store(now) < young_for_;
  }
  /// Returns a value's own ttl, shortened as all ttls are.
  cache_ticks own_ttl(std::chrono::nanoseconds ttl, std::uint32_t hash) const noexcept {
    return less_jitter(to_ticks(ttl), hash);
  }

  entry_freshness freshness_of(entry_base& e, cache_ticks now, bool has_extras) const noexcept {
    const cache_ticks age = e.age(now);
    const cache_ticks fresh = fresh_for(e, has_extras);
    if (age < fresh) {
      return refresh_after_ > 0 && has_extras && age >= refresh_after_ &&
                     e.kind() == entry_kind::value
                 ? entry_freshness::due
                 : entry_freshness::fresh;
    }
    return e.kind() == entry_kind::value && stale_for_ > 0 && age - fresh < stale_for_
               ? entry_freshness::stale
               : entry_freshness::expired;
  }

  /// Returns when to load again after `failures` consecutive failures, the latest of them just now.
  cache_ticks retry_at(cache_ticks now, std::uint32_t failures) const noexcept {
    return now + backoff(retry_after_, failures, max_retry_after_);
  }

  /// Returns the time between two sweeps: a quarter of the shortest time for which the options keep
  /// any entry, but a second at least and a minute at most.
  std::chrono::nanoseconds sweep_interval() const noexcept;

 private:
  static cache_ticks checked(const char* name, std::chrono::nanoseconds given);
  cache_ticks less_jitter(cache_ticks whole, std::uint32_t hash) const noexcept {
    return whole - shortened(part_of(whole, jitter_), hash);
  }
  /// Returns a part of `most`, less than all of it, that depends on the entry's hash and this
  /// cache's seed.
  cache_ticks shortened(cache_ticks most, std::uint32_t hash) const noexcept {
    return (most * static_cast<cache_ticks>((hash * seed_) >> 24)) >> 8;
  }

  cache_ticks ttl_, refresh_after_, stale_for_, negative_ttl_, error_ttl_, retry_after_,
      max_retry_after_;
  cache_ticks young_for_ = 0;
  double jitter_;
  cache_ticks plain_ttl_;     // of a value that has none of its own
  cache_ticks shortest_ = 0;  // how much jitter takes from it, at most
  std::uint32_t seed_;
  bool per_value_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/cache/impl/lifetimes.hpp"
#endif
