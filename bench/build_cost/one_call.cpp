// SPDX-License-Identifier: Apache-2.0

// Question   What does a source file cost to compile that includes <singleflight/flight.hpp> and
//            calls run once?
// Baseline   The same file, compiled with the headers of another commit (--against).
// Reading    The compiler's user time, less that of the same file with WITHOUT_LIBRARY defined: it
//            then includes only the standard header that the program itself needs.

#include <string>

#ifndef WITHOUT_LIBRARY
#include <singleflight/flight.hpp>
#endif

namespace {

std::string load() { return "value"; }

}  // namespace

int main() {
#ifndef WITHOUT_LIBRARY
  singleflight::group<std::string, std::string> flights;
  const std::string value = *flights.run("key", load);
#else
  const std::string value = load();
#endif
  return value == "value" ? 0 : 1;
}
