// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a function takes a number that does not hold every key or value
#include <cstdint>

#include <singleflight/cache.hpp>

struct id {
  id(int from) : value(from) {}
  int value;
};
singleflight::cache_options<std::int64_t, int> options{
    .on_removal = [](id, const int*, singleflight::removal_cause) {}};
