// SPDX-License-Identifier: Apache-2.0
#pragma once

// death: selects how a death test with threads dies: in a process that is started again from the
// beginning. An emulated process cannot be, where the kernel does not know its machine (no
// binfmt_misc): there the child is a fork of the test's process, without its other threads.

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
