// SPDX-License-Identifier: Apache-2.0

// Uses something from every floor, built with the headers only.

#include <cstddef>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include <singleflight/cache.hpp>
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>
#include <singleflight/sync.hpp>

int main() {
  using namespace singleflight;
  group<std::string, int> group;
  const auto led = group.run("run", [] { return 1; });
  auto started = group.start("start", [] { return 2; });
  loading_cache<std::string, std::size_t> cache([](const std::string& key) { return key.size(); },
                                                {.capacity = 100});
  live_value<int> live([] { return 4; }, {});
  const auto shown = live.get();
  batcher<int, int> batch([](std::span<const int> keys) {
    return std::vector<outcome<int>>(keys.begin(), keys.end());
  });
  semaphore permits(3);
  const permit two = permits.acquire(2);
  circuit_breaker breaker;
  error_group tasks;
  int ran = 0;
  tasks.go([&] { ran = 8; });
  tasks.wait();
  const bool right = *led == 1 && *started.get() == 2 && *cache.get("key") == 3 && *shown == 4 &&
                     *batch.load(5) == 5 && permits.available() == 1 &&
                     breaker.call([] { return 6; }) == 6 && retry({}, [] { return 7; }) == 7 &&
                     ran == 8;
  std::puts(right ? "right" : "wrong");
  return right ? 0 : 1;
}
