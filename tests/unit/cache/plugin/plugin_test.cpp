// SPDX-License-Identifier: Apache-2.0

// A plugin that uses the library while it is loaded and unloaded.

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

// Whether the plugin's code is still mapped, for the library's threads that run it.
bool is_in_place() {
  void* const plugin = ::dlopen(PLUGIN_PATH, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  return plugin != nullptr && ::dlclose(plugin) == 0;
}

// Goal    A static initializer of a plugin may start a load and wait for it: no thread of the
//         library waits for the loader's lock, which dlopen holds meanwhile. After dlclose its code
//         stays mapped, with any compiler, because a thread of the library may be running it. It
//         can be loaded again.
// Method  In a child, whose alarm ends a deadlock, before and after the program has used the
//         library.
TEST(plugin, starts_loads_while_it_is_loaded) {
  EXPECT_TRUE(support::in_child([] { return works_once() && is_in_place() && works_once(); }));
  EXPECT_TRUE(support::in_child([] {
    sf::group<int, int> g;
    return *g.start(1, [] { return 1; }).get() == 1 && works_once() && works_once() &&
           *g.start(2, [] { return 2; }).get() == 2;
  }));
}

}  // namespace
