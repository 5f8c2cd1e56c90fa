// SPDX-License-Identifier: Apache-2.0
//
// A cache that loads: a hit never waits for a lock, a missing value is loaded once for all
// concurrent callers, and a value that has changed is invalidated.

#include <atomic>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <singleflight/cache.hpp>

int main() {
  using namespace std::chrono_literals;
  std::atomic<int> queries = 0;
  std::atomic<int> price_of_tea = 42;

  // An empty optional means that there is no value. That is a result, too.
  singleflight::loading_cache<std::string, int> prices(
      [&](const std::string& article) -> std::optional<int> {
        ++queries;
        if (article == "tea") return price_of_tea;
        return std::nullopt;
      },
      {.capacity = 10'000, .ttl = 60s, .negative_ttl = 5s});

  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 1000; ++n) (void)prices.get("tea");
      });
    }
  }
  std::printf("4,000 calls, %d query\n", queries.load());

  const auto tea = prices.get("tea");  // a handle: the value lives as long as the handle
  price_of_tea = 45;
  prices.invalidate("tea");  // no get that begins from here on sees the old price
  std::printf("tea was %d and is %d\n", *tea, *prices.get("tea"));

  const bool milk = prices.get("milk").has_value();
  const auto known = prices.find("milk");  // looks up, and never loads
  const bool absent = known && known->freshness() == singleflight::freshness::absent;
  const auto stats = prices.stats();
  std::printf("%llu hits, %llu misses\n", static_cast<unsigned long long>(stats.hits),
              static_cast<unsigned long long>(stats.misses));
  return queries == 3 && *tea == 42 && *prices.get("tea") == 45 && !milk && absent ? 0 : 1;
}
