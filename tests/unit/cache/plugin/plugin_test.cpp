// SPDX-License-Identifier: Apache-2.0

// A plugin that uses the library as it is loaded and unloaded.

#include <dlfcn.h>
#include <gtest/gtest.h>

#include "support/fork.hpp"
#include <singleflight/flight.hpp>

namespace sf = singleflight;

namespace {

bool works_once() {
  void* const plugin = ::dlopen(PLUGIN_PATH, RTLD_NOW | RTLD_LOCAL);
  if (plugin == nullptr) return false;
  const auto sum = reinterpret_cast<int (*)()>(::dlsym(plugin, "plugin_sum"));
  const bool right = sum != nullptr && sum() == 43;
  return ::dlclose(plugin) == 0 && right;
}

// Goal    A static initializer of a plugin may start a load and wait for it: no thread of the
//         library waits for the loader's lock, which dlopen holds meanwhile. Unloaded, loaded
//         again.
// Method  In a child, whose alarm ends a deadlock; before the program has used the library, and
//         after.
TEST(plugin, starts_loads_as_it_is_loaded) {
  EXPECT_TRUE(support::in_child([] { return works_once() && works_once(); }));
  EXPECT_TRUE(support::in_child([] {
    sf::group<int, int> g;
    return *g.start(1, [] { return 1; }).get() == 1 && works_once() && works_once() &&
           *g.start(2, [] { return 2; }).get() == 2;
  }));
}

}  // namespace
