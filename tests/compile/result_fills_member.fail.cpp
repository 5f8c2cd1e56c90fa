// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <string>

#include <singleflight/flight.hpp>

struct user {
  std::string name;
  int age;
};
singleflight::group<int, user> flights;
auto got = flights.run(7, [] { return std::string("a name"); });
