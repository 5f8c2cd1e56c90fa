// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace singleflight::cli {

using cells = std::vector<std::string>;

/// The rows as lines, the first column flush left, the others flush right. At least one row, all of
/// one length; each cell in ASCII.
std::string aligned(const std::vector<cells>& rows);

}  // namespace singleflight::cli
