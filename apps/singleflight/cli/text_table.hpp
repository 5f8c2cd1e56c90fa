// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace singleflight::cli {

using cells = std::vector<std::string>;

/// Formats the rows as lines; the first column is left-aligned, the others right-aligned. Requires
/// at least one row, and rows of equal length.
std::string aligned(const std::vector<cells>& rows);

}  // namespace singleflight::cli
