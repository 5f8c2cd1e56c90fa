// SPDX-License-Identifier: Apache-2.0

// A standard library without std::stop_token is named as what is missing.
// expect: singleflight needs <stop_token>; libc\+\+ before 20 has it with -fexperimental-library

#include <stop_token>
#include <version>
#undef __cpp_lib_jthread

#include <singleflight/core.hpp>

int main() {}
