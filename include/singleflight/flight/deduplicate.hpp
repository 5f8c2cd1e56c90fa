// SPDX-License-Identifier: Apache-2.0
#pragma once

/// deduplicate: wraps a function so that overlapping calls with the same key share one execution.
///
/// Use when    calls of an existing function are to be coalesced without a change to its callers.
/// Not for     results that must not be copied: use group.
/// Threads     the returned callable, and its copies, from any thread; copies share one group.
/// Blocking    like group::run.
/// Errors      the function's exception, to every caller that shares it; flight_error for the
///             library's own.
/// Lifetime    the callable owns `fn` and `key_of`; arguments are borrowed for the call. If
///             `key_of` returns a text or a span, or a pair or the like that contains one, its
///             elements are copied. A key or a result of a program's own type must not refer to an
///             argument. A result must not be a view if it could be a view of an argument.
/// Cost        like group::run, and one copy of the result per call; if the key is a view, also one
///             copy of the viewed elements.

#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "singleflight/core/support/owned_key.hpp"
#include "singleflight/core/support/signature.hpp"
#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

namespace detail {

template <class Signature>
inline constexpr bool results_stay = true;
template <class R, class... Args>
inline constexpr bool results_stay<R(Args...)> = !detail::views_an_argument<R, Args...>();

template <class Signature, class KeyOf, class Fn>
class deduplicated;

template <class R, class... Args, class KeyOf, class Fn>
class deduplicated<R(Args...), KeyOf, Fn> {
  using named = std::decay_t<decltype(detail::invoke_whole(
      std::declval<const KeyOf&>(), std::declval<const std::remove_reference_t<Args>&>()...))>;
  static constexpr bool is_text =
      std::is_same_v<named, const char*> || std::is_same_v<named, char*>;
  using key = std::conditional_t<is_text, std::string, owned_key<named>>;
  using value = std::decay_t<R>;

 public:
  deduplicated(Fn fn, KeyOf key_of, group_options options)
      : shared_(std::make_shared<state>(std::move(fn), std::move(key_of), std::move(options))) {}

  /// Takes arguments of other types than `fn` does; none may be narrowed.
  template <class... Given>
    requires to_be_converted<std::tuple<Args...>, Given&&...>
  value operator()(Given&&... given) const {
    return (*this)(detail::call_argument<Args>(std::forward<Given>(given))...);
  }
  value operator()(Args... args) const {
    state& s = *shared_;
    const auto load = [&]() -> decltype(auto) {
      return std::invoke(s.fn, std::forward<Args>(args)...);
    };
    // The key is copied: what key_of returned may be a part of an argument that `load` moves from,
    // or a view of one.
    const key own(own_key_of(s, args...));
    auto result = s.flights.run(own, load);
    if constexpr (!std::is_void_v<value>) return *result;
  }

 private:
  struct state;
  static key own_key_of(state& s, const std::remove_reference_t<Args>&... args) {
    if constexpr (is_text) {
      return detail::invoke_whole(std::as_const(s.key_of), args...);
    } else {
      return detail::own_key<key>(detail::invoke_whole(std::as_const(s.key_of), args...));
    }
  }
  struct state {
    state(Fn f, KeyOf k, group_options o)
        : fn(std::move(f)), key_of(std::move(k)), flights(std::move(o)) {}
    Fn fn;
    KeyOf key_of;
    group<key, value> flights;
  };
  std::shared_ptr<state> shared_;
};

}  // namespace detail

/// Wraps `fn`; `key_of` is called with the same arguments, and calls with equal keys are the same.
/// `fn` must have one signature (no overloads, no templates); it is called on any thread, also
/// concurrently.
template <class Fn, class KeyOf>
auto deduplicate(Fn fn, KeyOf key_of, group_options options = {}) {
  static_assert(
      detail::has_one_signature<Fn>,
      "singleflight: deduplicate needs a callable with one signature: a function, a "
      "lambda without auto, an object with one operator(); wrap anything else in a lambda");
  static_assert(detail::results_stay<detail::signature_of<Fn>>,
                "singleflight: this function may return a view of its argument, which belongs to "
                "another caller: return an owning type, or a pointer to an object that outlives "
                "the call");
  return detail::deduplicated<detail::signature_of<Fn>, KeyOf, Fn>(std::move(fn), std::move(key_of),
                                                                   std::move(options));
}

SINGLEFLIGHT_END_NAMESPACE
