// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_start: how start() begins a load. It makes a block that owns the key and the load, and puts
// it into the table: at once if the bucket is empty, else by flight_call::start() under the bucket
// lock. flight_core_loads.hpp continues from there.

#include <memory>

#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// Makes the block that owns the key and the loader.
template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::make_started(std::size_t hash, view key, given_loader load)
    -> started_block* {
  auto made = detail::make_with_key<started_block, access>(
      key,
      [&](void* at, void* key_room) {
        return ::new (at) started_block(core_, detail::flight_phase::running, hash, key, key_room);
      },
      load.room());
  made->owned = &load.make(made.get() + 1, *made);
  made->use_own_node();
  return made.release();
}

template <class Key, class Value, class Hash, class Equal>
flight<Value> group<Key, Value, Hash, Equal>::start_owned(view key, given_loader load, bool fresh,
                                                          detail::load_base** unlaunched) {
  using namespace detail;
  const call_scope scope;
  const std::size_t hash = hash_of(key);
  const start_mode mode{fresh, scope.outermost(), unlaunched};
  const bool plain = core_.plain();
  if (!plain || core_.table.locate(hash).load(memory_order_relaxed) != 0) {
    node own;
    set_key(own, hash, key);
    flight_call call{.core = core_, .own = own, .lends = false};
    if (const started_share joined = call.start(mode); joined.block != nullptr) {
      return flight<Value>(joined);
    }
  }
  started_block* const made = make_started(hash, key, load);
  if (plain) {
    flight_call::prepare_lead(*made, *made->owned);
    if (flight_table::enter_alone(core_.table.locate(hash), made->own)) {
      return flight<Value>(flight_call::lead_started(core_, *made, *made->owned, mode));
    }
    made->load = nullptr;
  }
  made->counts.store(block_base::one_reference, memory_order_relaxed);
  flight_call call{.core = core_,
                   .own = made->own,
                   .lends = false,
                   .made = std::unique_ptr<block_base>(made),
                   .load = made->owned};
  return flight<Value>(call.start(mode));
}

SINGLEFLIGHT_END_NAMESPACE
