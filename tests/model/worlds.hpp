// SPDX-License-Identifier: Apache-2.0
#pragma once

// The worlds of this program, by name.

#include <string>
#include <utility>
#include <vector>

#include "support/model/scheduler.hpp"

namespace model {

struct named_world {
  std::string name;  ///< begins with the numbers of the scenarios that it plays
  limits bounds;
  body what;
};

inline std::vector<named_world>& worlds() {
  static std::vector<named_world> all;
  return all;
}
struct add_world {
  add_world(std::string name, const limits& bounds, body what) {
    worlds().push_back({std::move(name), bounds, std::move(what)});
  }
};

// ---- bounds -------------------------------------------------------------------------------------

inline constexpr limits three{.preemptions = 3};
inline constexpr limits two{.preemptions = 2};
/// With one fault anywhere: a failed allocation, a thread that cannot be started, a spurious
/// wake-up.
inline constexpr limits two_and_a_fault{.preemptions = 2, .faults = 1};

}  // namespace model
