// SPDX-License-Identifier: Apache-2.0
//
// Independent calls for single keys become one query for many.

#include <chrono>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <singleflight/sync.hpp>

int main() {
  using namespace std::chrono_literals;
  using name = std::optional<std::string>;  // a user may have no name: that is a result too

  std::vector<std::size_t> queries;
  const auto find_names = [&](std::span<const int> ids) {
    queries.push_back(ids.size());
    std::vector<singleflight::outcome<name>> found;  // one per id, by position
    for (const int id : ids) {
      if (id < 100) {
        found.emplace_back("user " + std::to_string(id));
      } else {
        found.emplace_back(std::nullopt);
      }
    }
    return found;
  };
  // A batch is sent at its 50th key, or 50 ms after its first one.
  singleflight::batcher<int, name> names(find_names, {.max_batch = 50, .max_delay = 50ms});

  auto one = names.start(1);  // a flight: it can be awaited, or waited for
  auto two = names.start(2);
  auto again = names.start(1);  // joins the first
  auto nobody = names.start(700);

  const bool right = **one.get() == "user 1" && **two.get() == "user 2" &&
                     **again.get() == "user 1" && !nobody.get()->has_value();
  for (const std::size_t size : queries) std::printf("a query for %zu ids\n", size);
  const auto stats = names.stats();
  std::printf("%zu calls, %zu joined\n", static_cast<std::size_t>(stats.calls),
              static_cast<std::size_t>(stats.joined));
  return right && stats.calls == 4 && stats.joined == 1 && stats.keys == 3 ? 0 : 1;
}
