// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <singleflight/flight.hpp>

int main() {
  singleflight::group<std::string, int> group;
  auto answer = group.run("answer", [] { return 42; });
  return *answer == 42 ? 0 : 1;
}
