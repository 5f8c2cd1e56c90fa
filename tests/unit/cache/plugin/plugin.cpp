// SPDX-License-Identifier: Apache-2.0

// A plugin whose static initializers use the library while dlopen runs them, and whose static
// destructors use it again.

#include <singleflight/cache.hpp>

namespace sf = singleflight;

namespace {

sf::group<int, int> started;
sf::loading_cache<int, int> cache([](int k) { return k * 2; },
                                  {.ttl = std::chrono::milliseconds(1)});

// Each of them waits for a thread that the library starts, while the loader's lock is held.
const int by_start = *started.start(1, [] { return *cache.get(20); }).get();
const int by_cache = *cache.start_get(1).get();
const sf::live_value<int> settings([] { return 1; },
                                   sf::live_options<int>{.reload_every = std::chrono::seconds(1)});

struct at_the_end {
  ~at_the_end() { (void)*cache.get(3); }
} const last;

}  // namespace

extern "C" int plugin_sum() { return by_start + by_cache + *settings.get(); }
