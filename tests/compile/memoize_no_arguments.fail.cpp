// SPDX-License-Identifier: Apache-2.0
// expect: takes none; for one value use live_value
//
// What would the result be kept by?
#include <singleflight/cache.hpp>

int main() {
  (void)singleflight::memoize([] { return 42; });
}
