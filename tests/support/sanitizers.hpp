// SPDX-License-Identifier: Apache-2.0
#pragma once

// SUPPORT_TSAN, SUPPORT_ASAN: this build is instrumented. GCC and Clang report it by different
// macros. instrumented: the same as a constant, for counts that would take too long there.

#if defined(__SANITIZE_THREAD__)
#define SUPPORT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SUPPORT_TSAN 1
#endif
#endif

#if defined(__SANITIZE_ADDRESS__)
#define SUPPORT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SUPPORT_ASAN 1
#endif
#endif

namespace support {

#if defined(SUPPORT_TSAN) || defined(SUPPORT_ASAN)
inline constexpr bool instrumented = true;
#else
inline constexpr bool instrumented = false;
#endif

}  // namespace support
