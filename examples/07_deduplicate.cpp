// SPDX-License-Identifier: Apache-2.0
//
// Overlapping calls of a function share one: deduplicate returns a callable with its signature.

#include <atomic>
#include <cstdio>
#include <latch>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <singleflight/flight.hpp>

int main() {
  constexpr int callers = 4;
  std::atomic<int> renderings = 0;
  std::latch asked(callers + 1);

  const auto render = [&](const std::string& page, const std::string& language) {
    ++renderings;
    asked.wait();
    return page + " in " + language;
  };
  // Calls with the same page and the same language are the same call.
  const auto page_and_language = [](const std::string& page, const std::string& language) {
    return page + '\n' + language;
  };
  const auto render_once = singleflight::deduplicate(render, page_and_language);

  std::atomic<int> right = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < callers; ++i) {
      threads.emplace_back([&] {
        asked.count_down();
        if (render_once("home", "Danish") == "home in Danish") ++right;  // a copy for each caller
      });
    }
    asked.count_down();
  }
  std::printf("%d calls, %d rendering(s)\n", callers, renderings.load());
  return right == callers && renderings <= callers ? 0 : 1;
}
