// SPDX-License-Identifier: Apache-2.0
#pragma once

/// shared_result: a value that several callers may hold at the same time; const access, move-only
/// handle.
///
/// Threads     one handle, one thread at a time; the value is shared and const.
/// Ordering    the load's effects happen-before every use (P7).
/// Lifetime    the value lives as long as a handle to it. References to it survive a move of the
///             handle only if the value is shared.
/// Cost        alone: the value itself, no allocation. Shared: a reference to the flight's block.

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>

#include "singleflight/flight/detail/flight_block.hpp"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // g++ 12 does not follow where_
#endif

SINGLEFLIGHT_BEGIN_NAMESPACE

namespace detail {
struct result_door;
}

enum class flight_role : std::uint8_t { leader, joiner };

template <class V>
class shared_result {
  using block = detail::flight_block<V>;
  using stored = typename block::stored;
  enum class where : std::uint8_t { nowhere, here, shared };

 public:
  using value_type = V;

  shared_result(shared_result&& other) noexcept(std::is_nothrow_move_constructible_v<stored>)
      : where_(where::nowhere), role_(other.role_) {
    take(other);
  }
  shared_result& operator=(shared_result&& other) noexcept(
      std::is_nothrow_move_constructible_v<stored>) {
    if (this != &other) {
      clear();
      role_ = other.role_;
      take(other);
    }
    return *this;
  }
  ~shared_result() { clear(); }

  const stored& get() const noexcept
    requires(!std::is_void_v<V>)
  {
    return where_ == where::here ? inline_ : block_->value;
  }
  const stored& operator*() const noexcept
    requires(!std::is_void_v<V>)
  {
    return get();
  }
  const stored* operator->() const noexcept
    requires(!std::is_void_v<V>)
  {
    return std::addressof(get());
  }

  /// Returns how many callers the flight had when its outcome was published, the leader included.
  std::size_t callers() const noexcept {
    return where_ == where::shared && block_->callers > 1 ? block_->callers : 1;
  }
  /// Whether another caller has the same value; valid for the leader, too.
  bool shared() const noexcept { return callers() > 1; }
  flight_role role() const noexcept { return role_; }

  /// Returns the value as a shared_ptr; an inline value is moved. One allocation.
  std::shared_ptr<const stored> share() &&
        requires(!std::is_void_v<V>)
  {
    if (where_ == where::here) return std::make_shared<const stored>(std::move(inline_));
    block* const b = std::exchange(block_, nullptr);
    where_ = where::nowhere;
    return {std::addressof(b->value), [b](const stored*) { b->drop_reference(); }};
  }

  /// Returns the value itself if no other caller has it; otherwise returns nothing, and the handle
  /// keeps it.
  std::optional<stored> try_take() &&
        requires(!std::is_void_v<V>)
  {
    if (where_ == where::here) return std::optional<stored>(std::move(inline_));
    if (block_->callers > 1) return std::nullopt;
    return std::optional<stored>(std::move(block_->value));
  }

 private:
  friend detail::result_door;

  shared_result() noexcept : where_(where::nowhere), role_(flight_role::leader) {}
  shared_result(block& b, flight_role role) noexcept
      : block_(&b), where_(where::shared), role_(role) {}
  template <class Make>
  void emplace(const Make& make) {
    make(inline_place());
    where_ = where::here;
  }
  void become_share(block& b) noexcept {
    inline_.~stored();
    block_ = &b;
    where_ = where::shared;
  }
  void take_back(block& b) {
    const struct dropping {
      block& b;
      ~dropping() { b.drop_reference(); }
    } drop{b};
    clear();
    ::new (inline_place()) stored(std::move(b.value));
    where_ = where::here;
  }

  void* inline_place() noexcept { return std::addressof(inline_); }
  void clear() noexcept {
    const where was = std::exchange(where_, where::nowhere);
    if (was == where::here) {
      inline_.~stored();
    } else if (was == where::shared) {
      block_->drop_reference();
    }
  }
  /// Requires where::nowhere; it stays so if the value's move throws.
  void take(shared_result& other) {
    if (other.where_ == where::here) {
      ::new (inline_place()) stored(std::move(other.inline_));
      where_ = where::here;
    } else if (other.where_ == where::shared) {
      block_ = other.block_;
      where_ = std::exchange(other.where_, where::nowhere);
    }
  }

  union {
    stored inline_;
    block* block_;
  };
  where where_;
  flight_role role_;
};

SINGLEFLIGHT_END_NAMESPACE

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
