// SPDX-License-Identifier: Apache-2.0
#pragma once

// loader: the forms of a cache's loader.
//
// It takes the key, or the key and a flight_context& or a std::stop_token. It returns a Value, a
// std::optional of one (empty if the value is absent), a with_ttl, or an awaitable that yields one
// of these.

#include <chrono>
#include <concepts>
#include <coroutine>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "singleflight/cache/cache_options.hpp"
#include "singleflight/cache/cached.hpp"
#include "singleflight/core/support/awaitable.hpp"
#include "singleflight/core/support/conversion.hpp"
#include "singleflight/core/support/signature.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/flight/flight_promise.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// An answer of a loader, in any of its forms.
template <class Value>
struct loaded {
  std::optional<Value> value;
  std::optional<std::chrono::nanoseconds> ttl{};
};

template <class>
inline constexpr bool is_with_ttl = false;
template <class V>
inline constexpr bool is_with_ttl<with_ttl<V>> = true;

template <class Value, class From>
loaded<Value> as_loaded(From&& from) {
  using plain = std::remove_cvref_t<From>;
  if constexpr (std::is_same_v<plain, Value>) {
    return {std::forward<From>(from)};
  } else if constexpr (is_with_ttl<plain>) {
    return {detail::value_from<Value>(std::forward<From>(from).value), from.ttl};
  } else if constexpr (is_optional<plain>) {
    if (!from.has_value()) return {std::nullopt};
    return {detail::value_from<Value>(*std::forward<From>(from))};
  } else {
    static_assert(converts<From, Value>,
                  "singleflight: a cache's loader returns a Value, a std::optional<Value>, a "
                  "with_ttl<Value>, or something that yields one of these when it is awaited; "
                  "what is no Value must become one without loss");
    if constexpr (converts<From, Value>) {
      return {detail::convert<Value>(std::forward<From>(from))};
    } else {
      return {};
    }
  }
}

template <class Fn, class Key>
decltype(auto) call_with_key(Fn& fn, const Key& key, const flight_context& context) {
  if constexpr (std::is_invocable_v<Fn&, const Key&>) {
    return detail::invoke_whole(fn, key);
  } else if constexpr (std::is_invocable_v<Fn&, const Key&, flight_context&>) {
    return detail::invoke_whole(fn, key, const_cast<flight_context&>(context));
  } else {
    static_assert(std::is_invocable_v<Fn&, const Key&, std::stop_token>,
                  "singleflight: a cache's loader takes the key, or the key and a flight_context& "
                  "or a std::stop_token");
    return detail::invoke_whole(fn, key, context.stop_token());
  }
}
template <class Fn, class Key>
using loader_result = decltype(detail::call_with_key(
    std::declval<Fn&>(), std::declval<const Key&>(), std::declval<const flight_context&>()));

template <class Value, class Result>
inline constexpr bool is_awaited =
    awaitable<Result> && !std::is_convertible_v<Result, Value> &&
    !is_optional<std::remove_cvref_t<Result>> && !is_with_ttl<std::remove_cvref_t<Result>>;

template <class T>
using awaited_result = decltype(detail::get_awaiter(std::declval<T>()).await_resume());

/// Receives the answer of an awaited load, on the thread on which that resumes.
template <class Value>
class load_answer {
 public:
  virtual void answer(loaded<Value>* value, std::exception_ptr error) = 0;
  virtual ~load_answer() = default;
};

/// A cache's loader of any type.
template <class Key, class Value>
class cache_loader {
 public:
  virtual ~cache_loader() = default;
  virtual bool awaits() const noexcept = 0;
  virtual bool gives_ttl() const noexcept = 0;
  /// Requires !awaits().
  virtual loaded<Value> load(const Key& key, const flight_context& context) = 0;
  /// Requires awaits(). `key` and `context` are valid until the answer, or until `to` is destroyed
  /// without one.
  virtual void begin(const Key& key, const flight_context& context,
                     std::unique_ptr<load_answer<Value>> to) = 0;
};

/// A coroutine that begins at once, and that no caller waits for.
struct unattended {
  struct promise_type {
    unattended get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const { throw; }
  };
};

template <class Key, class Value, class Fn>
class cache_loader_of final : public cache_loader<Key, Value> {
 public:
  using result = loader_result<Fn, Key>;
  static constexpr bool awaited = is_awaited<Value, result>;

  template <class From>
  explicit cache_loader_of(From&& fn) : fn_(std::forward<From>(fn)) {}

  bool awaits() const noexcept override { return awaited; }
  bool gives_ttl() const noexcept override {
    if constexpr (awaited) {
      return is_with_ttl<std::remove_cvref_t<awaited_result<result>>>;
    } else {
      return is_with_ttl<std::remove_cvref_t<result>>;
    }
  }
  loaded<Value> load(const Key& key, const flight_context& context) override {
    if constexpr (awaited || !fits_a_value<!std::is_void_v<result>>()) {
      std::terminate();
    } else {
      return detail::as_loaded<Value>(detail::call_with_key(fn_, key, context));
    }
  }
  void begin(const Key& key, const flight_context& context,
             std::unique_ptr<load_answer<Value>> to) override {
    if constexpr (awaited) {
      run(fn_, key, context, std::move(to));
    } else {
      std::terminate();
    }
  }

 private:
  static unattended run(Fn& fn, const Key& key, const flight_context& context,
                        std::unique_ptr<load_answer<Value>> to) {
    std::optional<loaded<Value>> value;
    std::exception_ptr error;
    try {
      auto&& pending = detail::call_with_key(fn, key, context);
      if constexpr (std::is_base_of_v<handle_of<std::remove_cvref_t<decltype(pending)>>,
                                      std::remove_cvref_t<decltype(pending)>>) {
        value.emplace(detail::as_loaded<Value>(co_await pending));  // a handle is awaited by name
      } else {
        value.emplace(detail::as_loaded<Value>(co_await std::forward<decltype(pending)>(pending)));
      }
    } catch (...) {
      if (platform::is_thread_exit()) throw;  // `to` is destroyed without an answer
      error = std::current_exception();
    }
    to->answer(value ? std::addressof(*value) : nullptr, std::move(error));
  }

  Fn fn_;
};

template <class Key, class Value, class Fn>
std::unique_ptr<cache_loader<Key, Value>> make_loader(Fn&& fn) {
  return std::make_unique<cache_loader_of<Key, Value, std::decay_t<Fn>>>(std::forward<Fn>(fn));
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
