// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: this key has no hash
#include <singleflight/cache.hpp>

struct user_id {
  int number;
  bool operator==(const user_id&) const = default;
};
singleflight::loading_cache<user_id, int> cache([](const user_id& id) { return id.number; }, {});
