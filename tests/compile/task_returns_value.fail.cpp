// SPDX-License-Identifier: Apache-2.0
// expect: a task returns nothing and reports errors by throwing
//
// What a task returned would be lost, an error code for instance.
#include <singleflight/sync.hpp>

void use(singleflight::error_group& group) {
  group.go([] { return 1; });
}
