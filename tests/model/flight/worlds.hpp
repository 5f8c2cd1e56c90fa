// SPDX-License-Identifier: Apache-2.0
#pragma once

// The worlds of a program, by name.

#include <string>
#include <utility>
#include <vector>

#include "support/model/scheduler.hpp"

namespace model {

struct named_world {
  std::string name;  ///< begins with the scenarios that it plays
  limits bounds;
  body what;
};

inline std::vector<named_world>& worlds() {
  static std::vector<named_world> all;
  return all;
}
struct add_world {
  add_world(const char* name, const limits& bounds, body what) {
    worlds().push_back({name, bounds, std::move(what)});
  }
};

}  // namespace model
