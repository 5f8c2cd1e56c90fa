// SPDX-License-Identifier: Apache-2.0
#include "cli/json_text.hpp"

namespace singleflight::cli {

std::string to_text(const nlohmann::ordered_json& json, int indent) {
  return json.dump(indent, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace singleflight::cli
