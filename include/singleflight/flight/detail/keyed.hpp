// SPDX-License-Identifier: Apache-2.0
#pragma once

// keyed: nodes and blocks with keys: what group<Key, Value> puts into the table.

#include <utility>

#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/load.hpp"
#include "singleflight/flight/key.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class Stored>
struct keyed_node : flight_node {
  Stored key{};
};

/// A block with a key and a place in the table of its own: a flight that may change its leader.
template <class V, class Key, class Access>
struct keyed_block : flight_block<V> {
  template <class View>
  keyed_block(flight_core& group, flight_phase phase, std::size_t hash, View&& key_view)
      : flight_block<V>(group, group.options().executor, group.clock(), phase),
        key(Access::own(std::forward<View>(key_view))) {
    own.hash = hash;
    own.id = next_flight_id(this_thread());
    own.key = Access::store(key);
    this->own_node = &own;
  }
  /// Takes its own place; before the block is shared.
  void stand_alone() noexcept {
    this->node = &own;
    this->id = own.id;
    own.block.store(this, memory_order_relaxed);
  }

  const Key key;
  keyed_node<typename Access::stored> own;
};

/// What start() makes: block, key and load in one allocation.
template <class V, class Key, class Access, class Fn>
struct started_block final : keyed_block<V, Key, Access> {
  template <class View, class Loader>
  started_block(flight_core& group, std::size_t hash, View&& key_view, Loader&& loader)
      : keyed_block<V, Key, Access>(group, flight_phase::running, hash,
                                    std::forward<View>(key_view)),
        owned(*this, std::forward<Loader>(loader)) {}

  load_impl<V, Fn> owned;
};

/// A call's key: a view of the argument where that is free, else a Key converted for the call.
template <class Key, class Access, class Arg, bool Free = Access::template free_view<Arg>>
class key_argument {
 public:
  explicit key_argument(const Arg& arg) : view_(arg) {}
  typename Access::view view() const noexcept { return view_; }

 private:
  typename Access::view view_;
};
template <class Key, class Access, class Arg>
class key_argument<Key, Access, Arg, false> {
 public:
  explicit key_argument(const Arg& arg) : key_(arg) {}
  typename Access::view view() const noexcept { return key_; }

 private:
  Key key_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
