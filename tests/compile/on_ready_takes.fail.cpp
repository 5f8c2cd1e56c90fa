// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: on_ready calls its callback with an outcome
// errors: 1
#include <string>

#include <singleflight/flight.hpp>

void use(singleflight::group<std::string, int>& flights) {
  flights.start("key", [] { return 1; }).on_ready([](int) {});
}
