// SPDX-License-Identifier: Apache-2.0
#pragma once

// require: assertions that are active in every build type, and helpers for static_assert.

#include <cstdlib>

#include "singleflight/core/support/config.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Prints `what` and aborts.
[[noreturn]] void end_process(const char* what) noexcept;

/// Ends the process unless `holds`: for the misuse of a lifetime. Active in every build type.
inline void require(bool holds, const char* what) noexcept {
  if (holds) [[likely]] {
    return;
  }
  end_process(what);
}

template <class>
inline constexpr bool always_false = false;

/// For the branch after a failed static_assert, so that the compiler reports nothing else.
template <class T>
[[noreturn]] T never() noexcept {
  std::abort();
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/require.hpp"
#endif
