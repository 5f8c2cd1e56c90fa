// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a loader takes nothing, a flight_context
// errors: 1
#include <string>

#include <singleflight/flight.hpp>

int use(singleflight::group<std::string, int>& flights) {
  return *flights.run("key", [](int x) { return x; });
}
