// SPDX-License-Identifier: Apache-2.0
#pragma once

// zeroed_array: an array whose elements begin as zeros, made and destroyed in a time that hardly
// depends on its length: the system provides its pages, with zeros, as they are used.

#include <cstddef>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "singleflight/core/support/platform.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Requires that an object of T that was made without arguments consists of zero bytes. (The zeros
/// are used as such objects without a constructor's call, which the language permits for fewer
/// types than compilers do.)
template <class T>
class zeroed_array {
  static_assert(std::is_trivially_destructible_v<T> || !platform::zeros_are_objects);
  static_assert(alignof(T) <= 64);

 public:
  zeroed_array() noexcept = default;
  /// It is empty if there is no memory.
  explicit zeroed_array(std::size_t count) noexcept {
    if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) return;
    first_ = static_cast<T*>(platform::allocate_zeroed(count * sizeof(T)));
    if (first_ == nullptr) return;
    count_ = count;
    if constexpr (!platform::zeros_are_objects) {
      for (std::size_t i = 0; i < count; ++i) ::new (static_cast<void*>(first_ + i)) T();
    }
  }
  zeroed_array(zeroed_array&& other) noexcept
      : first_(std::exchange(other.first_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  zeroed_array& operator=(zeroed_array&& other) noexcept {
    std::swap(first_, other.first_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~zeroed_array() {
    if (first_ == nullptr) return;
    if constexpr (!platform::zeros_are_objects) {
      for (std::size_t i = 0; i < count_; ++i) first_[i].~T();
    }
    platform::deallocate_zeroed(first_, count_ * sizeof(T));
  }

  T* data() const noexcept { return first_; }
  std::size_t size() const noexcept { return count_; }
  T& operator[](std::size_t i) const noexcept { return first_[i]; }
  /// Gives the memory of elements back that consist of zeros again, and are used no more.
  void release(std::size_t from, std::size_t count) const noexcept {
    platform::release_zeroed(first_ + from, count * sizeof(T));
  }

 private:
  T* first_ = nullptr;
  std::size_t count_ = 0;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
