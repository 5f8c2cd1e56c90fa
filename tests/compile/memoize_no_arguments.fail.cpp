// SPDX-License-Identifier: Apache-2.0
// expect: takes none; for one value use live_value
//
// There would be no key for the result.
#include <singleflight/cache.hpp>

int main() {
  (void)singleflight::memoize([] { return 42; });
}
