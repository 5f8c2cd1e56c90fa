// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace singleflight::lab {

/// Used instead of testing::HasSubstr, whose failure would print the whole page.
inline bool has(const std::string& page, std::string_view text) {
  return page.find(text) != std::string::npos;
}

}  // namespace singleflight::lab
