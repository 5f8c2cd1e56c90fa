// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace singleflight::lab {

/// Describes what the results depend on besides the workload: "2 x Intel Xeon ..., Linux 6.1, built
/// with GCC 12.2".
std::string describe_machine();

}  // namespace singleflight::lab
