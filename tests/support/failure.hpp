// SPDX-License-Identifier: Apache-2.0
#pragma once

// failure: the exception of a call that a test makes fail; its number identifies which call.

#include <stdexcept>
#include <string>

namespace support {

struct failure : std::runtime_error {
  explicit failure(int which = 0)
      : std::runtime_error("failure " + std::to_string(which)), number(which) {}
  int number;
};

}  // namespace support
