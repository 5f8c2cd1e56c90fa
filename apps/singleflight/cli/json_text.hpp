// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace singleflight::cli {

/// Serializes the JSON; bytes that are not UTF-8 (in keys and file names) are replaced.
std::string to_text(const nlohmann::ordered_json& json, int indent);

}  // namespace singleflight::cli
