// SPDX-License-Identifier: Apache-2.0

// The message for a standard library without std::stop_token names what is missing.
// expect: singleflight needs <stop_token>; libc\+\+ before 20 has it with -fexperimental-library

#include <stop_token>
#include <version>
#undef __cpp_lib_jthread

#include <singleflight/core.hpp>

int main() {}
