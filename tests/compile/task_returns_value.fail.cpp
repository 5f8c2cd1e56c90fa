// SPDX-License-Identifier: Apache-2.0
// expect: a task returns nothing and reports errors by throwing
//
// A task's return value, such as an error code, would be lost.
#include <singleflight/sync.hpp>

void use(singleflight::error_group& group) {
  group.go([] { return 1; });
}
