// SPDX-License-Identifier: Apache-2.0
#pragma once

// signature: what a callable takes and returns, where it has but one answer to that.

#include <functional>
#include <utility>

#include "singleflight/core/detail/config.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class Function>
struct plain_signature;
template <class R, class... Args>
struct plain_signature<std::function<R(Args...)>> {
  using type = R(Args...);
};

/// A function, a lambda without auto, an object with one operator().
template <class Fn>
concept has_one_signature = requires(Fn fn) { std::function(fn); };

/// R(Args...). Requires that it has one.
template <class Fn>
using signature_of = typename plain_signature<decltype(std::function(std::declval<Fn>()))>::type;

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
