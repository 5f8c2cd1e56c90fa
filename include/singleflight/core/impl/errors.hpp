// SPDX-License-Identifier: Apache-2.0
#pragma once

// errors: the messages of the codes; throwing a flight_error, and reading its code.

#include <cstdio>
#include <exception>
#include <optional>
#include <string>

#include "singleflight/core/errors.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY std::string flight_category_impl::message(int code) const {
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

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY std::optional<flight_errc> errc_of(
    const std::exception_ptr& error) noexcept {
  if (error == nullptr) return std::nullopt;
  try {
    std::rethrow_exception(error);
  } catch (const flight_error& e) {
    return e.errc();
  } catch (...) {  // some other exception; `error` still holds it
    return std::nullopt;
  }
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void throw_flight_error(flight_errc code) {
  throw flight_error(code);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY std::exception_ptr flight_exception(flight_errc code) {
  return std::make_exception_ptr(flight_error(code));
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
