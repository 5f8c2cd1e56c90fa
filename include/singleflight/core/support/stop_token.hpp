// SPDX-License-Identifier: Apache-2.0
#pragma once

// <stop_token>, or one plain message where the standard library has none.

#include <version>

#if __has_include(<stop_token>)
#include <stop_token>
#endif
#if !defined(__cpp_lib_jthread)
#error "singleflight needs <stop_token>; libc++ before 20 has it with -fexperimental-library"
#include <stop_token>  // where there is no such file, the compilation ends here
#endif
