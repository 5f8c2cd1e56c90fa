// SPDX-License-Identifier: Apache-2.0
#pragma once

/// outcome: how a call ended: a value, the load's own exception, or a flight_errc.
///
/// Use when    an error is an ordinary result and must be cheap to examine (shedding, bulk
///             results).
/// Not for     absence: return an empty std::optional as the value.
/// Threads     like any value: one thread at a time.
/// Errors      value() rethrows the load's exception with its own type, or throws flight_error.
/// Cost        no allocation; a flight_errc needs no exception object. errc() of an outcome that
///             holds an exception rethrows it to read its code: about a microsecond.

#include <exception>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "singleflight/core/errors.hpp"
#include "singleflight/core/support/conversion.hpp"
#include "singleflight/core/support/require.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// Selects the form of a call that returns an outcome instead of throwing.
struct as_outcome_t {
  explicit as_outcome_t() = default;
};
inline constexpr as_outcome_t as_outcome{};

template <class V>
class outcome;
namespace detail {
template <class V>
std::optional<flight_errc> code_of(const outcome<V>& of) noexcept;
}  // namespace detail

template <class V>
class [[nodiscard]] outcome {
  using stored = std::conditional_t<std::is_void_v<V>, std::monostate, V>;

 public:
  using value_type = V;

  /// Holds a value; an `outcome<void>` is default-constructed.
  outcome()
    requires std::is_void_v<V>
      : state_(std::in_place_index<0>) {}
  template <class U = stored>
    requires(!std::is_void_v<V> && std::is_constructible_v<stored, U &&> &&
             !std::is_same_v<std::remove_cvref_t<U>, outcome> &&
             !std::is_same_v<std::remove_cvref_t<U>, flight_errc> &&
             !std::is_same_v<std::remove_cvref_t<U>, std::exception_ptr>)
  outcome(U&& value)
      : state_(std::in_place_index<0>, detail::value_from<stored>(std::forward<U>(value))) {}
  /// Holds the load's exception, which must not be null.
  outcome(std::exception_ptr error) noexcept : state_(std::in_place_index<1>, std::move(error)) {
    detail::require(*std::get_if<1>(&state_) != nullptr,
                    "outcome: made of a null exception_ptr (std::current_exception() is that "
                    "outside of a handler)");
  }
  /// Holds an error of the library.
  outcome(flight_errc code) noexcept : state_(std::in_place_index<2>, code) {}

  bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  /// Returns the value, or throws the load's exception or flight_error.
  decltype(auto) value() & {
    check();
    if constexpr (!std::is_void_v<V>) return *std::get_if<0>(&state_);
  }
  decltype(auto) value() const& {
    check();
    if constexpr (!std::is_void_v<V>) return *std::get_if<0>(&state_);
  }
  decltype(auto) value() && {
    check();
    if constexpr (!std::is_void_v<V>) return std::move(*std::get_if<0>(&state_));
  }

  /// Requires has_value().
  decltype(auto) operator*() noexcept
    requires(!std::is_void_v<V>)
  {
    return *there(std::get_if<0>(&state_));
  }
  decltype(auto) operator*() const noexcept
    requires(!std::is_void_v<V>)
  {
    return *there(std::get_if<0>(&state_));
  }
  stored* operator->() noexcept
    requires(!std::is_void_v<V>)
  {
    return there(std::get_if<0>(&state_));
  }
  const stored* operator->() const noexcept
    requires(!std::is_void_v<V>)
  {
    return there(std::get_if<0>(&state_));
  }

  /// Returns the library's error that the call ended with: its own, or a flight_error that the load
  /// threw (a breaker that rejected it, a permit that timed out, a flight within the load).
  /// Statistics tell the two apart: the breaker, semaphore or group inside the load counted the
  /// latter.
  std::optional<flight_errc> errc() const noexcept {
    if (const auto* error = std::get_if<1>(&state_)) return detail::errc_of(*error);
    return detail::code_of(*this);
  }

  /// Returns the load's exception, or a flight_error made from errc(); null if there is a value.
  std::exception_ptr exception() const {
    if (const auto* error = std::get_if<1>(&state_)) return *error;
    if (const auto code = detail::code_of(*this)) {
      return detail::flight_exception(*code);
    }
    return nullptr;
  }

  /// Throws the error. Requires !has_value().
  [[noreturn]] void rethrow() const {
    if (const auto* error = std::get_if<1>(&state_)) std::rethrow_exception(*error);
    detail::throw_flight_error(detail::code_of(*this).value_or(flight_errc::broken));
  }

 private:
  friend std::optional<flight_errc> detail::code_of<V>(const outcome& of) noexcept;

  void check() const {
    if (!has_value()) rethrow();
  }
  template <class T>
  static T* there(T* value) noexcept {
    detail::require(value != nullptr,
                    "outcome: dereferenced without a value; test has_value() first");
    return value;
  }

  std::variant<stored, std::exception_ptr, flight_errc> state_;
};

namespace detail {

/// Returns the code that `of` holds, if it holds neither a value nor an exception.
template <class V>
std::optional<flight_errc> code_of(const outcome<V>& of) noexcept {
  if (const auto* code = std::get_if<2>(&of.state_)) return *code;
  // An assignment that threw has left it without any of the three.
  return of.state_.valueless_by_exception() ? std::optional(flight_errc::broken) : std::nullopt;
}

/// Whether T is an outcome, or a reference to one.
template <class T>
inline constexpr bool is_outcome = false;
template <class V>
inline constexpr bool is_outcome<outcome<V>> = true;
template <class T>
  requires(!std::is_same_v<T, std::remove_cvref_t<T>>)
inline constexpr bool is_outcome<T> = is_outcome<std::remove_cvref_t<T>>;

}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE
