// SPDX-License-Identifier: Apache-2.0
#pragma once

// loading_cache: find, and what it stores of a key.

#include "singleflight/cache/loading_cache.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
auto loading_cache<Key, Value, Hash, Equal>::find(const Arg& key) -> std::optional<result> {
  const argument<Arg> k(key);
  found f = store_.find(entry_hash(k.view()), k.view());
  if (f && f.entry->kind() != detail::entry_kind::error && is_fresh(*f.entry)) {
    store_.hit(*f.entry);
    core_.stats.add(counter::hits);
    return answer(std::move(f), freshness::fresh);
  }
  core_.stats.add(counter::misses);
  return std::nullopt;
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
entry_info loading_cache<Key, Value, Hash, Equal>::explain(const Arg& key) const {
  const argument<Arg> k(key);
  const found f = store_.find(entry_hash(k.view()), k.view());
  return f ? core_.explain(*f.entry, store_.has_extras()) : entry_info{};
}

SINGLEFLIGHT_END_NAMESPACE
