// SPDX-License-Identifier: Apache-2.0

// A program that uses the library before main, in thread_local destructors, and after main. It
// reports by its exit status; its time limit is the test's.

#include <cstdlib>
#include <thread>

#include <singleflight/cache.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;

namespace {

[[noreturn]] void fail() { std::_Exit(1); }
void check(bool right) {
  if (!right) fail();
}

sf::group<int, int>& flights() {
  static sf::group<int, int> one({.load_timeout = 10s});
  return one;
}
sf::loading_cache<int, int>& cache() {
  static sf::loading_cache<int, int> one([](int k) { return k; }, {.ttl = 1h});
  return one;
}

void use() {
  check(*flights().run(1, [] { return 1; }) == 1);
  check(*flights().start(2, [] { return 2; }).get() == 2);
  check(*cache().get(3) == 3);
  const auto held = cache().get(3);
  check(held && *cache().start_get(4).get() == 4);
}

struct user {
  ~user() { use(); }
};

sf::live_value<int> settings([] { return 7; }, sf::live_options<int>{.reload_every = 1ms});
const int before_main = (use(), 0);  // made here, so destroyed after `at_the_end`
const user at_the_end;
thread_local user of_a_thread;

}  // namespace

int main() {
  use();
  std::thread([] {
    (void)&of_a_thread;
    use();
  }).join();
  (void)&of_a_thread;
  std::atexit(&use);
  return *settings.get() == 7 && before_main == 0 ? 0 : 1;
}
