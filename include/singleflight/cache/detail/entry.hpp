// SPDX-License-Identifier: Apache-2.0
#pragma once

// entry: what a cache stores of a key: 32 bytes, the key and the value, and 32 bytes before them if
// an option requires more than one ttl and one weight for all.
//
// A key whose view is plain bytes (a string) is stored as bytes directly after the entry, as
// flights do (flight/detail/keyed.hpp): with a small value, all that a hit reads is adjacent. A
// string that stores its characters elsewhere would cost the entry another block, and a hit another
// miss of the machine's cache.
//
// An entry does not change while it can be found, except for its place in the queues (guarded by
// the cache's lock), its count of hits (any reader) and the two atomics of its extras. A new value
// is a new entry.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "singleflight/cache/detail/deferred_end.hpp"
#include "singleflight/flight/detail/group_door.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Time in a cache: 65.536 microseconds per tick, so that a time fits into 48 bits.
using cache_ticks = std::int64_t;

constexpr cache_ticks to_ticks(steady_time at) noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(at.time_since_epoch()).count() >> 16;
}
/// Converts a duration; one that is not zero becomes at least one tick.
constexpr cache_ticks to_ticks(std::chrono::nanoseconds span) noexcept {
  return (span.count() >> 16) + (span.count() > 0 && (span.count() >> 16) == 0 ? 1 : 0);
}
constexpr std::chrono::nanoseconds from_ticks(cache_ticks ticks) noexcept {
  return std::chrono::nanoseconds(ticks << 16);
}

enum class entry_kind : std::uint8_t { value, absent, error };

/// The time until which a key is not loaded again, and the reason; one word of its entry.
struct hold_off {
  enum class cause : std::uint8_t {
    claimed,  ///< a hit has begun a refresh: no other hit begins one, but a stale value is loaded
    late,     ///< the load was late, or could not begin: the stale value is served meanwhile
    failed,   ///< a load failed: no other one begins, not even that of a caller about to load
  };
  cache_ticks until = 0;
  cause why = cause::claimed;

  static constexpr hold_off of(std::int64_t word) noexcept {
    return {word >> 2, static_cast<cause>(word & 3)};
  }
  constexpr std::int64_t word() const noexcept {
    return until * 4 + static_cast<std::int64_t>(why);
  }
};

/// The members that an entry has only if ttls or weights differ between entries.
struct entry_extras {
  atomic<std::int64_t> held_off{0};   ///< the word of a hold_off
  atomic<std::uint32_t> failures{0};  ///< failed loads, consecutive
  cache_ticks ttl = 0;                ///< if 0, as the options determine
  std::size_t weight = 1;

  hold_off holds_off() const noexcept { return hold_off::of(held_off.load(memory_order_relaxed)); }
};

struct entry_base : reclaimable {
  static constexpr std::uint8_t max_hits = 3;

  entry_base(std::uint32_t key_hash, cache_ticks now, entry_kind kind) noexcept
      : kind_and_hits_(static_cast<std::uint8_t>(kind)),
        high_(static_cast<std::uint16_t>(now >> 32)),
        hash(key_hash),
        low_(static_cast<std::uint32_t>(now)) {}

  entry_kind kind() const noexcept {
    return static_cast<entry_kind>(kind_and_hits_.load(memory_order_relaxed) & (one_hit - 1));
  }
  /// Returns the time since the entry was stored; zero if the clock lags behind that.
  cache_ticks age(cache_ticks now) const noexcept {
    const cache_ticks since = since_store(now);
    return since < 0 ? 0 : since;
  }
  /// Returns the time since the entry was stored; negative if the clock lags behind that.
  cache_ticks since_store(cache_ticks now) const noexcept {
    const std::uint64_t since = (static_cast<std::uint64_t>(now) - born()) << 16;
    return static_cast<std::int64_t>(since) >> 16;  // the 48 bits that a time has, and their sign
  }

  /// Requires that the entry was made with extras.
  entry_extras& extras() noexcept {
    void* const before = reinterpret_cast<std::byte*>(this) - sizeof(entry_extras);
    return *std::launder(static_cast<entry_extras*>(before));
  }
  /// Removes it from the structure: `prev` is replaced by its destroy function.
  void leave(end destroyed_by) noexcept {
    place.store(left, memory_order_relaxed);
    destroy = destroyed_by;
  }

  // Any reader counts. The other bits of this byte never change, so a lost increment is harmless.

  unsigned hits() const noexcept { return kind_and_hits_.load(memory_order_relaxed) / one_hit; }
  void set_hits(unsigned hits) noexcept {
    kind_and_hits_.store(static_cast<std::uint8_t>(static_cast<unsigned>(kind()) + hits * one_hit),
                         memory_order_relaxed);
  }
  /// Counts a hit; returns whether it is the last that counts.
  bool touch() noexcept {
    const unsigned seen = kind_and_hits_.load(memory_order_relaxed);
    if (seen >= max_hits * one_hit) return false;
    kind_and_hits_.store(static_cast<std::uint8_t>(seen + one_hit), memory_order_relaxed);
    return seen + one_hit >= max_hits * one_hit;
  }

 private:
  static constexpr unsigned one_hit = 4;

  atomic<std::uint8_t> kind_and_hits_;
  std::uint16_t high_;  // of the time, 48 bits in all

 public:
  const std::uint32_t hash;

 private:
  std::uint32_t low_;

  std::uint64_t born() const noexcept { return static_cast<std::uint64_t>(high_) << 32 | low_; }
};
static_assert(sizeof(entry_base) == 2 * sizeof(void*) + 16);

/// A key as its entry stores it: the Key, or the number of elements that follow the entry.
template <class Key, class Access, bool AsBytes = Access::bytes_suffice()>
struct entry_key {
  const Key own;

  static std::size_t bytes(const Key&) noexcept { return 0; }
  template <class K>
  entry_key(K&& key, void*) : own(std::forward<K>(key)) {}
  typename Access::view view(const void*) const noexcept { return Access::load_own(own); }
};
template <class Key, class Access>
struct entry_key<Key, Access, true> {
  using stored = typename Access::stored;
  using element = std::remove_cv_t<typename stored::value_type>;
  const std::size_t size;

  static std::size_t bytes(const Key& key) noexcept { return key.size() * sizeof(element); }
  entry_key(const Key& key, void* memory) noexcept : size(key.size()) {
    if (size != 0) std::memcpy(memory, key.data(), bytes(key));
  }
  stored view(const void* memory) const noexcept {
    return stored(static_cast<const element*>(memory), size);
  }
};

template <class Key, class Value, class Access = key_access<Key, key_hash<Key>, key_equal>>
class entry final : public entry_base {
  using kept_key = entry_key<Key, Access>;
  const kept_key key_;  // first: a large value would push it to another line

 public:
  union {
    Value value;               // entry_kind::value
    std::exception_ptr error;  // entry_kind::error
  };

  typename Access::view key() const noexcept { return key_.view(this + 1); }

  /// With extras, the memory before the entry holds them.
  template <class K, class... Args>
  static entry& make(bool with_extras, std::uint32_t key_hash, cache_ticks now, entry_kind kind,
                     K&& k, Args&&... args) {
    const std::size_t before = with_extras ? extras_bytes() : 0;
    void* const memory =
        platform::allocate(before + sizeof(entry) + kept_key::bytes(k), alignof(entry));
    void* const place = static_cast<std::byte*>(memory) + before;
    try {
      auto* const made =
          ::new (place) entry(key_hash, now, kind, std::forward<K>(k), std::forward<Args>(args)...);
      made->destroy = end_of(with_extras);
      if (with_extras) {
        ::new (static_cast<void*>(static_cast<std::byte*>(place) - sizeof(entry_extras)))
            entry_extras;
      }
      return *made;
    } catch (...) {
      platform::deallocate(memory, alignof(entry));
      throw;
    }
  }
  /// Returns the destroy function of the entries of a cache.
  static reclaimable::end end_of(bool with_extras) noexcept {
    return with_extras ? &end_with<extras_bytes()> : &end_with<0>;
  }

 private:
  /// Returns the size of the memory before an entry that has extras; they are its last bytes.
  static constexpr std::size_t extras_bytes() {
    return (sizeof(entry_extras) + alignof(entry) - 1) / alignof(entry) * alignof(entry);
  }

  template <class K, class... Args>
  entry(std::uint32_t key_hash, cache_ticks now, entry_kind kind, K&& k, Args&&... args)
      : entry_base(key_hash, now, kind), key_(std::forward<K>(k), this + 1) {
    if constexpr (sizeof...(Args) == 1 && (std::is_same_v<Args, std::exception_ptr> && ...)) {
      ::new (static_cast<void*>(&error)) std::exception_ptr(std::forward<Args>(args)...);
    } else if constexpr (sizeof...(Args) > 0) {
      ::new (static_cast<void*>(std::addressof(value))) Value(std::forward<Args>(args)...);
    }
  }
  ~entry() {
    if (kind() == entry_kind::value) value.~Value();
    if (kind() == entry_kind::error) error.~exception_ptr();
  }

  template <std::size_t Before>
  static void end_with(reclaimable* object) noexcept {
    auto* const self = static_cast<entry*>(object);
    constexpr bool plain = ends_plainly<Value> && ends_plainly<Key>;
    if ((!plain || self->kind() == entry_kind::error) && detail::ends_elsewhere(*self)) return;
    self->~entry();
    platform::deallocate(reinterpret_cast<std::byte*>(self) - Before, alignof(entry));
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
