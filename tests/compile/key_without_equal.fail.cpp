// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: these keys cannot be compared
#include <cstddef>

#include <singleflight/flight.hpp>

struct user_id {
  int number;
};
struct by_number {
  std::size_t operator()(user_id id) const { return static_cast<std::size_t>(id.number); }
};
singleflight::group<user_id, int, by_number> flights;
