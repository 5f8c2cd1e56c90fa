// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace singleflight::lab {

/// "2 x Intel Xeon ..., Linux 6.1, built with GCC 12.2": what figures depend on besides the
/// workload.
std::string describe_machine();

}  // namespace singleflight::lab
