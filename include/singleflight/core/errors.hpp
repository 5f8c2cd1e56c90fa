// SPDX-License-Identifier: Apache-2.0
#pragma once

/// errors: the errors that the library itself reports, as opposed to what a load throws.
///
/// Threads     free functions and values; from any thread.
/// Errors      flight_error is thrown if the caller asked for a value; an outcome holds the
///             flight_errc if the caller asked for an outcome.

#include <cstddef>
#include <exception>
#include <optional>
#include <string>
#include <system_error>

#include "singleflight/core/support/platform.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// Why a wait ended without the load's own outcome.
enum class flight_errc {
  timed_out = 1,  ///< the caller's deadline, or the group's load_timeout, passed
  cancelled,      ///< the caller's stop token fired, or every caller left before the load began
  overloaded,     ///< a bound was reached: max_waiters, max_flights, max_queued, ...
  recursive,      ///< the wait would never end, because a load would wait for itself
  broken,         ///< the load ended without a result (dropped task, destroyed promise)
  closed,         ///< the group is closed
  rejected,       ///< refused by a guard in front of the load
};

namespace detail {

class flight_category_impl final : public std::error_category {
 public:
  const char* name() const noexcept override { return "singleflight"; }
  SINGLEFLIGHT_BODY std::string message(int code) const override;
};

}  // namespace detail

/// The category object; there is one in the process.
SINGLEFLIGHT_SHARED_STATE inline const std::error_category& flight_category() noexcept {
  static detail::platform::never_destroyed<const detail::flight_category_impl> category;
  return category.get();
}

inline std::error_code make_error_code(flight_errc code) noexcept {
  return {static_cast<int>(code), flight_category()};
}

/// The exception type of the library's own errors; `code()` is a flight_errc in flight_category().
class SINGLEFLIGHT_SHARED_STATE flight_error : public std::system_error {
 public:
  explicit flight_error(flight_errc code) : std::system_error(make_error_code(code)) {}
  flight_errc errc() const noexcept { return static_cast<flight_errc>(code().value()); }
};

namespace detail {
/// ThreadSanitizer does not see libstdc++'s reference count of an exception object. Under it,
/// exceptions that may be shared are kept until the process ends.
inline std::exception_ptr keep_alive(std::exception_ptr error) noexcept {
#if SINGLEFLIGHT_TSAN
  alignas(std::exception_ptr) std::byte never_destroyed[sizeof(std::exception_ptr)];
  ::new (static_cast<void*>(never_destroyed)) std::exception_ptr(error);
#endif
  return error;
}

/// Throws a flight_error.
[[noreturn]] void throw_flight_error(flight_errc code);
/// Returns a flight_error as an exception_ptr, without a throw.
std::exception_ptr flight_exception(flight_errc code);

/// Returns the code of `error` if it is a flight_error. Costs a rethrow.
std::optional<flight_errc> errc_of(const std::exception_ptr& error) noexcept;
}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE

template <>
struct std::is_error_code_enum<singleflight::flight_errc> : std::true_type {};

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/errors.hpp"
#endif
