// SPDX-License-Identifier: Apache-2.0
#pragma once

/// errors: what the library itself reports, apart from what a load throws.
///
/// Threads     free functions and values; from any thread.
/// Errors      flight_error is thrown where the caller asked for a value; an outcome carries the
///             flight_errc where the caller asked not to throw.

#include <cstdio>
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
  recursive,      ///< the wait would never end: a load would wait for itself
  broken,         ///< the load ended without a result (dropped task, destroyed promise)
  closed,         ///< the group is closed
  rejected,       ///< refused by a guard in front of the load
};

namespace detail {

class flight_category_impl final : public std::error_category {
 public:
  const char* name() const noexcept override { return "singleflight"; }
  SINGLEFLIGHT_COLD std::string message(int code) const override {
    switch (static_cast<flight_errc>(code)) {
      case flight_errc::timed_out:
        return "timed out waiting for the load; raise the deadline or load_timeout";
      case flight_errc::cancelled:
        return "cancelled by the caller's stop token, or by the last caller leaving";
      case flight_errc::overloaded:
        return "a bound was reached (max_waiters, max_flights, max_queued, ...); raise it, or shed "
               "load";
      case flight_errc::recursive:
        return "the load would wait for itself; do not ask for a key from within its own load";
      case flight_errc::broken:
        return "the load ended without a result; its task, coroutine or promise was dropped";
      case flight_errc::closed: return "the group is closed; no new call may begin";
      case flight_errc::rejected: return "rejected before the load began";
    }
    char unknown[48];
    std::snprintf(unknown, sizeof(unknown), "unknown singleflight error %d", code);
    return unknown;
  }
};

}  // namespace detail

/// The one category object of the process.
SINGLEFLIGHT_SHARED_STATE inline const std::error_category& flight_category() noexcept {
  static detail::platform::never_destroyed<const detail::flight_category_impl> category;
  return category.get();
}

inline std::error_code make_error_code(flight_errc code) noexcept {
  return {static_cast<int>(code), flight_category()};
}

/// The library's own error; `code()` is a flight_errc in flight_category().
class SINGLEFLIGHT_SHARED_STATE flight_error : public std::system_error {
 public:
  explicit flight_error(flight_errc code) : std::system_error(make_error_code(code)) {}
  flight_errc errc() const noexcept { return static_cast<flight_errc>(code().value()); }
};

namespace detail {
/// libstdc++'s count of an exception object's owners is invisible to ThreadSanitizer: there,
/// exceptions that may be shared are kept for the life of the process.
inline std::exception_ptr keep_alive(std::exception_ptr error) noexcept {
#if SINGLEFLIGHT_TSAN
  alignas(std::exception_ptr) std::byte never_destroyed[sizeof(std::exception_ptr)];
  ::new (static_cast<void*>(never_destroyed)) std::exception_ptr(error);
#endif
  return error;
}

/// The code of `error` where it is a flight_error; a look costs a rethrow.
SINGLEFLIGHT_COLD inline std::optional<flight_errc> errc_of(
    const std::exception_ptr& error) noexcept {
  if (error == nullptr) return std::nullopt;
  try {
    std::rethrow_exception(error);
  } catch (const flight_error& e) {
    return e.errc();
  } catch (...) {  // another's: it is looked at, and stays where it is
    return std::nullopt;
  }
}
}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE

template <>
struct std::is_error_code_enum<singleflight::flight_errc> : std::true_type {};
