// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_keys: what a flight asks its group: whether two keys are equal, and a block with a key.

#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class Key, class Value, class Hash, class Equal>
bool group<Key, Value, Hash, Equal>::same_key(const void* equal, const detail::flight_node& a,
                                              const detail::flight_node& b) {
  return (*static_cast<const Equal*>(equal))(access::load(static_cast<const node&>(a).key),
                                             access::load(static_cast<const node&>(b).key));
}

template <class Key, class Value, class Hash, class Equal>
detail::block_base* group<Key, Value, Hash, Equal>::make_block(detail::flight_core& core,
                                                               const detail::flight_node& of,
                                                               detail::flight_phase phase) {
  if (phase == detail::flight_phase::running && !core.hands_over()) {
    return new block(core, core.options().executor, core.clock(), phase);
  }
  const view key = access::load(static_cast<const node&>(of).key);
  return detail::make_with_key<keyed_block, access>(key,
                                                    [&](void* at, void* room) {
                                                      return ::new (at) keyed_block(
                                                          core, phase, of.hash, key, room);
                                                    })
      .release();
}

SINGLEFLIGHT_END_NAMESPACE
