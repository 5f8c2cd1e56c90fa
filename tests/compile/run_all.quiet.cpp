// SPDX-License-Identifier: Apache-2.0

#include <functional>
#include <vector>

#include <singleflight/sync.hpp>

int first_of(const std::vector<std::function<int()>>& calls) {
  const auto each = singleflight::run_all(calls, {.timeout = std::chrono::seconds(5)});
  return *each[0];
}
