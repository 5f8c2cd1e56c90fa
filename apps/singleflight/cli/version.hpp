// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace singleflight::cli {

inline constexpr const char* program_version = SINGLEFLIGHT_PROGRAM_VERSION;

}  // namespace singleflight::cli
