// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: the argument is no key and does not become one without loss
#include <cstdint>
#include <span>
#include <vector>

#include <singleflight/sync.hpp>

singleflight::batcher<int, int> names([](std::span<const int>) {
  return std::vector<singleflight::outcome<int>>{1};
});
auto got = names.load(std::int64_t{7});
