// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: the argument is no key and does not become one without loss
#include <cstdint>
#include <functional>

#include <singleflight/flight.hpp>

// An implicit conversion calls the constructor that takes an int.
struct id {
  id(int from) : value(from) {}
  explicit id(std::int64_t from) : value(from > 1'000'000 ? -1 : static_cast<int>(from)) {}
  bool operator==(const id&) const = default;
  int value;
};
template <>
struct std::hash<id> {
  std::size_t operator()(const id& of) const noexcept { return std::hash<int>{}(of.value); }
};
singleflight::group<id, int> flights;
bool forgotten = flights.forget(std::int64_t{7});
