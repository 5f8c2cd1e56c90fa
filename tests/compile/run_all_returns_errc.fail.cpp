// SPDX-License-Identifier: Apache-2.0
// expect: run_all would take a flight_errc or a std::exception_ptr that a call
//
// A code that is meant as a result would count as a failure.
#include <vector>

#include <singleflight/sync.hpp>

void use() {
  const auto call = [] { return singleflight::flight_errc::timed_out; };
  (void)singleflight::run_all(std::vector{call});
}
