// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: this key has no hash
// errors: 1
#include <singleflight/flight.hpp>

struct user_id {
  int number;
  bool operator==(const user_id&) const = default;
};
int use(singleflight::group<user_id, int>& flights) {
  return *flights.run(user_id{1}, [] { return 1; });
}
