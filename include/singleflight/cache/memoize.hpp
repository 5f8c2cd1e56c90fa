// SPDX-License-Identifier: Apache-2.0
#pragma once

/// memoize: caches the results of a function by its arguments.
///
/// Use when    a costly function gives the same answer for the same arguments, at least for some
///             time, and has to be cached without a change to its callers.
/// Not for     sharing only calls that overlap (flight/deduplicate.hpp); results that must not be
///             copied, absences, many keys at once (cache/loading_cache.hpp); a function without
///             arguments (cache/live_value.hpp).
/// Example     examples/16_memoize.cpp
///
/// Threads     the returned callable, and its copies, from any thread; copies share one cache. `fn`
///             is called from any thread, also concurrently.
/// Ordering    as loading_cache: after forget(args...) returns, no call that begins later gets a
///             result whose execution began before.
/// Blocking    as loading_cache::get: a call that finds no result runs `fn` on its own thread;
///             concurrent calls with the same arguments wait for it.
/// Errors      the function's exception, to every sharer; not stored, unless error_ttl is set.
///             flight_error and std::invalid_argument as loading_cache. A function that calls
///             itself with the same arguments: recursive.
/// Lifetime    owns `fn` and copies of the arguments; the last copy of the callable destroys the
///             cache.
/// Cost        as loading_cache::get, and one copy of the result per call; with several arguments,
///             also one of these.

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "singleflight/cache/loading_cache.hpp"
#include "singleflight/core/support/owned_key.hpp"
#include "singleflight/core/support/signature.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

namespace detail {

/// The type that is stored for an argument: its type by value; for a view of a string, the string.
template <class Arg>
struct kept_argument {
  using type = Arg;
};
template <class C, class T>
struct kept_argument<std::basic_string_view<C, T>> {
  using type = std::basic_string<C, T>;
};
template <class Arg>
using kept_argument_t = typename kept_argument<std::decay_t<Arg>>::type;

template <class Key>
concept good_key_part =
    std::copy_constructible<Key> && std::equality_comparable<Key> && !by_address<Key>;

/// For a signature: the key, the result, and whether these can be memoized. If not, types that do
/// no harm, so that memoize itself can report why.
template <class Signature>
struct memo_traits {
  static constexpr bool one_signature = false;
  static constexpr bool takes_arguments = true, gives_result = true;
  static constexpr bool owns_arguments = true, good_arguments = true, owns_result = true;
  using key = int;
  using value = int;
  using hash = key_hash<int>;
};
template <class R, class... Args>
struct memo_traits<R(Args...)> {
  static constexpr bool one_signature = true;
  static constexpr bool takes_arguments = sizeof...(Args) > 0;
  static constexpr bool single = sizeof...(Args) == 1;
  static constexpr bool gives_result = std::copy_constructible<std::decay_t<R>>;
  static constexpr bool owns_arguments =
      !(detail::refers_elsewhere<kept_argument_t<Args>>() || ...);
  static constexpr bool owns_result = !detail::views_an_argument<R, Args...>();
  static constexpr bool good_arguments =
      owns_arguments && (good_key_part<kept_argument_t<Args>> && ...);

  static auto key_type() {
    if constexpr (single && good_arguments) {
      return std::type_identity<kept_argument_t<Args>...>{};
    } else if constexpr (takes_arguments && good_arguments) {
      return std::type_identity<std::tuple<kept_argument_t<Args>...>>{};
    } else {
      return std::type_identity<int>{};
    }
  }
  using key = typename decltype(key_type())::type;
  using value = std::conditional_t<gives_result, std::decay_t<R>, int>;
  using hash = key_hash<key>;

  template <class Fn>
  static constexpr bool takes_copies =
      !good_arguments || std::is_invocable_v<Fn&, const kept_argument_t<Args>&...>;
};
template <class Fn>
struct memo_of : memo_traits<void> {};
template <has_one_signature Fn>
struct memo_of<Fn> : memo_traits<signature_of<Fn>> {};

}  // namespace detail

/// The key of `fn`'s results: the type of its argument, by value (a string for a view of one); for
/// several, a std::tuple of these.
template <class Fn>
using memoize_key = typename detail::memo_of<Fn>::key;
template <class Fn>
using memoize_options = cache_options<memoize_key<Fn>, typename detail::memo_of<Fn>::value>;

namespace detail {
template <class Signature, class Fn, class Hash, class Equal>
class memoized_call;
}

/// The result of memoize: called as `fn` is; copies share the cached results.
template <class Fn, class Hash = typename detail::memo_of<Fn>::hash, class Equal = key_equal>
using memoized = detail::memoized_call<detail::signature_of<Fn>, Fn, Hash, Equal>;

namespace detail {

template <class R, class... Args, class Fn, class Hash, class Equal>
class memoized_call<R(Args...), Fn, Hash, Equal> {
  using traits = memo_traits<R(Args...)>;
  using key = typename traits::key;
  using value = typename traits::value;

 public:
  using cache_type = loading_cache<key, value, Hash, Equal>;

  memoized_call(Fn fn, cache_options<key, value> options, Hash hash, Equal equal)
      : cache_(std::make_shared<cache_type>(loader{std::move(fn)}, std::move(options),
                                            std::move(hash), std::move(equal))) {}

  /// Takes arguments of other types than `fn` does; does not compile for one that would be
  /// narrowed.
  template <class... Given>
    requires to_be_converted<std::tuple<Args...>, Given&&...>
  value operator()(Given&&... given) const {
    return (*this)(detail::call_argument<Args>(std::forward<Given>(given))...);
  }
  value operator()(Args... args) const {
    if constexpr (traits::single) {
      return *cache_->get(args...);
    } else {
      return *cache_->get(key(std::forward<Args>(args)...));
    }
  }
  /// Makes the next call with these arguments execute `fn`. Returns whether there was a result, or
  /// an execution in progress.
  template <class... Given>
    requires to_be_converted<std::tuple<const std::remove_cvref_t<Args>&...>, Given&&...>
  bool forget(Given&&... given) const {
    return forget(
        detail::call_argument<const std::remove_cvref_t<Args>&>(std::forward<Given>(given))...);
  }
  bool forget(const std::remove_cvref_t<Args>&... args) const {
    if constexpr (traits::single) {
      return cache_->invalidate(args...);
    } else {
      return cache_->invalidate(key(args...));
    }
  }
  /// Returns the cache of the results, to inspect, clear or fill it.
  cache_type& cache() const noexcept { return *cache_; }

 private:
  struct loader {
    value operator()(const key& k) {
      if constexpr (traits::single) {
        return std::invoke(fn, k);
      } else {
        return std::apply(fn, k);
      }
    }
    Fn fn;
  };
  std::shared_ptr<cache_type> cache_;
};

}  // namespace detail

/// Wraps `fn`, which must have one signature (no overloads, no templates) and take its arguments by
/// value or const reference. Arguments are distinguished by key_hash and ==; those of a user's own
/// type by its std::hash, or by `hash` and `equal`, which take a memoize_key<Fn>. Such a type must
/// own what it refers to. All results are stored, an empty std::optional too.
template <class Fn, class Hash = typename detail::memo_of<Fn>::hash, class Equal = key_equal>
auto memoize(Fn fn, memoize_options<Fn> options = {}, Hash hash = {}, Equal equal = {}) {
  using traits = detail::memo_of<Fn>;
  static_assert(traits::one_signature,
                "singleflight: memoize needs a callable with one signature: a function, a lambda "
                "without auto, an object with one operator(); wrap anything else in a lambda");
  static_assert(traits::takes_arguments,
                "singleflight: memoize keeps results by their arguments, and this function takes "
                "none; for one value use live_value (cache/live_value.hpp)");
  static_assert(traits::gives_result,
                "singleflight: memoize returns copies of a result, and this function returns none "
                "that can be copied; let the function return a std::shared_ptr");
  static_assert(traits::owns_result,
                "singleflight: this function may return a view of its argument, of which memoize "
                "keeps a copy that is destroyed: return what owns it, or a pointer to what stays");
  static_assert(traits::owns_arguments,
                "singleflight: memoize keeps copies of the arguments, and this takes a view within "
                "another type, or a span, whose text or elements may be destroyed by then "
                "(take a std::string or a std::vector there)");
  static_assert(traits::good_arguments || !traits::owns_arguments,
                "singleflight: memoize keeps copies of the arguments and compares them by ==: this "
                "takes one that cannot be copied or compared, or a char*, which would be compared "
                "by its address (take a std::string_view)");
  if constexpr (traits::one_signature && traits::takes_arguments && traits::gives_result &&
                traits::good_arguments) {
    static_assert(traits::template takes_copies<Fn>,
                  "singleflight: memoize calls the function with the arguments that it keeps: take "
                  "them by value or by const reference");
    static_assert(std::is_invocable_v<const Hash&, const typename traits::key&>,
                  "singleflight: an argument has no hash: specialise std::hash, or give memoize a "
                  "hash for its memoize_key");
    return memoized<Fn, Hash, Equal>(std::move(fn), std::move(options), std::move(hash),
                                     std::move(equal));
  }
}

SINGLEFLIGHT_END_NAMESPACE
