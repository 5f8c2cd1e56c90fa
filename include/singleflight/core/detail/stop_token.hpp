// SPDX-License-Identifier: Apache-2.0
#pragma once

// <stop_token>, or one plain word where the standard library has none.

#include <version>

#if __has_include(<stop_token>)
#include <stop_token>
#endif
#if !defined(__cpp_lib_jthread)
#error \
    "singleflight needs std::stop_token (C++20), which this standard library does not have. \
libc++ has it behind -fexperimental-library up to version 19, and always from 20 on."
#include <stop_token>  // where there is no such file, nothing more is said
#endif
