// SPDX-License-Identifier: Apache-2.0
#pragma once

// death: how a death test dies, which may have threads: in a process that starts anew. An emulated
// process cannot, where the kernel does not know its machine (no binfmt_misc): there it is a copy
// of the test's, whose threads are not there.

#include <gtest/gtest.h>

namespace support {

inline void die_apart() {
#ifdef SINGLEFLIGHT_EMULATED
  GTEST_FLAG_SET(death_test_style, "fast");
#else
  GTEST_FLAG_SET(death_test_style, "threadsafe");
#endif
}

}  // namespace support
