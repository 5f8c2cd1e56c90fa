// SPDX-License-Identifier: Apache-2.0
#pragma once

// thread_end: whether a thread can end in the middle of a function (pthread_exit). It cannot with
// LLVM's unwinder, which libc++ brings along: glibc unwinds with GCC's, and the process crashes
// between the two as soon as there is an object to destroy on the way (seen with libc++ 19 and
// glibc 2.36, without this library).

#include <string>  // for _LIBCPP_VERSION

namespace support {

#ifdef _LIBCPP_VERSION
inline constexpr bool threads_can_end = false;
#else
inline constexpr bool threads_can_end = true;
#endif

}  // namespace support
