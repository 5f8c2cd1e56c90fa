// SPDX-License-Identifier: Apache-2.0
#pragma once

// tuple_hash: a hash over the parts of a tuple, each by key_hash.

#include <cstddef>
#include <cstdint>
#include <tuple>

#include "singleflight/flight/key.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class Tuple>
struct tuple_hash;
template <class... Parts>
struct tuple_hash<std::tuple<Parts...>> {
  std::size_t operator()(const std::tuple<Parts...>& key) const
    requires(requires(const Parts& part) { key_hash<Parts>{}(part); } && ...)
  {
    std::uint64_t state = sizeof...(Parts);
    const auto add = [&state](std::uint64_t hash) {
      state = fold_multiply(state ^ hash_salt[1], hash ^ hash_salt[0]);
    };
    std::apply([&](const Parts&... part) { (add(key_hash<Parts>{}(part)), ...); }, key);
    return static_cast<std::size_t>(state);
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
