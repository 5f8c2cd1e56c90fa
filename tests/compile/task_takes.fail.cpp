// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a task takes nothing, or a std::stop_token
#include <singleflight/sync.hpp>

void use(singleflight::error_group& tasks) {
  tasks.go([](int) {});
}
