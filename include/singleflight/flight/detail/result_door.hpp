// SPDX-License-Identifier: Apache-2.0
#pragma once

// result_door: how a call makes the shared_result that it returns. The only friend of
// shared_result.

#include "singleflight/flight/shared_result.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

struct result_door {
  /// Makes a result without a value; emplace() or take_back() follows.
  template <class V>
  static shared_result<V> make_empty() noexcept {
    return {};
  }
  /// Makes a share; takes over the caller's reference on `block`, whose result is a value.
  template <class V>
  static shared_result<V> make_share(flight_block<V>& block, flight_role role) noexcept {
    return {block, role};
  }
  /// make(void* at) constructs the value in place.
  template <class V, class Make>
  static void emplace(shared_result<V>& to, const Make& make) {
    to.emplace(make);
  }
  template <class V>
  static auto& inline_value(shared_result<V>& from) noexcept {
    return from.inline_;
  }
  /// Exchanges the inline value for a share of `block`.
  template <class V>
  static void become_share(shared_result<V>& from, flight_block<V>& block) noexcept {
    from.become_share(block);
  }
  /// Moves the value of `block`, which has no other caller, into `to`; drops the caller's reference
  /// on `block`, also when the move throws.
  template <class V>
  static void take_back(shared_result<V>& to, flight_block<V>& block) {
    to.take_back(block);
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
