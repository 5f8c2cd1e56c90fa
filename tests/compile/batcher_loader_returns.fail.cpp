// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a loader of many takes a std::span<const Key> and returns
#include <span>
#include <string>
#include <vector>

#include <singleflight/sync.hpp>

singleflight::batcher<int, int> batches([](std::span<const int> keys) {
  return std::vector<std::string>(keys.size());
});
