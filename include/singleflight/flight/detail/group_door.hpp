// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_door: what the floors above use of a group and of a handle in addition to their public
// members: no class of a floor above is a friend of either. A floor that needs more adds it here.
// The parts of flight that these functions name come with it (for the batcher load_base,
// owned_load, blocked_wait::form): tidy.py checks includes only.

#include <cstddef>
#include <cstdint>
#include <utility>

#include "singleflight/flight/detail/deposits.hpp"
#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

struct group_door {
  // ---- keys -------------------------------------------------------------------------------------

  /// Returns the hash of a key as the group's own table uses it: a floor with a table of its own
  /// hashes a key once for both.
  template <class Group, class View>
  static std::size_t hash_of(const Group& flights, const View& key) {
    return flights.hash_of(key);
  }
  /// Returns the key that an argument is converted to.
  template <class Group, class Arg>
  static auto own_of(const Group&, const Arg& key) {
    return Group::own_of(key);
  }
  /// Calls forget and `change` in one step, under the bucket's lock: no flight of the key begins or
  /// ends in between. If a comparison throws, neither has happened.
  template <class Group, class View, class Change>
  static bool forget_with(Group& flights, std::size_t hash, const View& key, const Change& change) {
    return flights.forget_with(hash, key, change);
  }

  // ---- flights ----------------------------------------------------------------------------------

  /// Like start(), but stores the load of a flight that this call leads in `unlaunched`, for the
  /// caller to launch.
  template <class Group, class Arg, class Load>
  static auto start_unlaunched(Group& flights, const Arg& key, Load&& load,
                               load_base*& unlaunched) {
    return flights.start_flight(key, std::forward<Load>(load), false, &unlaunched);
  }
  /// Counts a call that is refused for `code`.
  template <class Group>
  static flight_errc refuse(Group& flights, flight_errc code) noexcept {
    return flights.core_.refuse(code);
  }
  /// Returns the part of a group that does not depend on its keys and values.
  template <class Group>
  static flight_core& core(Group& flights) noexcept {
    return flights.core_;
  }
  template <class Group>
  static const flight_core& core(const Group& flights) noexcept {
    return flights.core_;
  }

  // ---- handles ----------------------------------------------------------------------------------

  template <class V>
  static std::uint64_t id_of(const flight<V>& handle) noexcept {
    return handle.block_->id;
  }
  /// Calls get_outcome() within `bounds`; `how` is the form of the wait.
  template <class V>
  static outcome<shared_result<V>> outcome_of(flight<V>& handle, const limits& bounds,
                                              blocked_wait::form how) {
    return handle.blocked_outcome(bounds, how);
  }
  /// Returns the share of a handle, for another handle that is made from it.
  template <class V>
  static flight_share<V>&& share_of(flight<V>&& handle) noexcept {
    return static_cast<flight_share<V>&&>(handle);
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
