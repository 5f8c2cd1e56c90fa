// SPDX-License-Identifier: Apache-2.0
#pragma once

// failure: what a call throws that a test lets fail; its number tells which one it was.

#include <stdexcept>
#include <string>

namespace support {

struct failure : std::runtime_error {
  explicit failure(int which = 0)
      : std::runtime_error("failure " + std::to_string(which)), number(which) {}
  int number;
};

}  // namespace support
