// SPDX-License-Identifier: Apache-2.0
//
// A function's results are cached: memoize returns a callable with the same signature.

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>

#include <singleflight/cache.hpp>

namespace {

struct point {
  double x = 0;
  double y = 0;
  friend bool operator==(const point&, const point&) = default;
};
struct point_hash {
  std::size_t operator()(const point& p) const noexcept {
    return std::hash<double>{}(p.x) * 31 + std::hash<double>{}(p.y);
  }
};

}  // namespace

int main() {
  using namespace std::chrono_literals;
  int renderings = 0;
  const auto render = singleflight::memoize(
      [&](std::string_view page, int width) {
        ++renderings;
        return std::string(page) + " at " + std::to_string(width);
      },
      {.capacity = 1000, .ttl = 10min});

  const bool right = render("home", 800) == "home at 800" && render("home", 800) == "home at 800" &&
                     render("home", 640) == "home at 640";
  render.forget("home", 800);  // the template has changed
  (void)render("home", 800);
  std::printf("4 calls, %d renderings\n", renderings);

  // Arguments of a user-defined type need == and a hash.
  int lookups = 0;
  const auto height = singleflight::memoize(
      [&](const point& at) {
        ++lookups;
        return at.x * at.y;
      },
      {}, point_hash{});
  const double sum = height({2, 3}) + height({2, 3});
  return right && renderings == 3 && sum == 12 && lookups == 1 ? 0 : 1;
}
