// SPDX-License-Identifier: Apache-2.0
//
// A cache in front of a backend that fails: the old value is served for a while, and the backend is
// not called for every request.

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>

#include <singleflight/cache.hpp>

int main() {
  using namespace std::chrono_literals;
  singleflight::manual_timer time;  // the example need not wait; the default is the real clock
  int asked = 0;
  bool down = false;
  singleflight::loading_cache<std::string, int> rates(
      [&](const std::string&) {
        ++asked;
        if (down) throw std::runtime_error("no route to host");
        return 40 + asked;
      },
      {.ttl = 60s,               // fresh for a minute, shortened by up to a tenth
       .stale_if_error = 10min,  // then served for this long if the load fails
       .retry_after = 1s,        // the load is retried after a second, then less often
       .group = {.timer = &time}});

  const int first = *rates.get("EUR");
  time.advance(2min);
  down = true;

  const auto stale = rates.get("EUR");  // loads, fails, and returns the old value
  for (int i = 0; i < 100; ++i) (void)rates.get("EUR");
  std::printf("%d, %s; asked %d times\n", *stale, stale.stale() ? "stale" : "fresh", asked);
  const int asked_while_down = asked;

  time.advance(2s);
  down = false;
  const auto fresh = rates.get("EUR");
  std::printf("%d, %s\n", *fresh, fresh.stale() ? "stale" : "fresh");

  time.advance(1h);
  down = true;
  std::string error;
  try {
    (void)rates.get("EUR");
  } catch (const std::runtime_error& e) {  // the old value is too old to be served
    error = e.what();
  }
  return first == 41 && *stale == 41 && stale.stale() && asked_while_down == 2 && *fresh == 43 &&
                 !fresh.stale() && error == "no route to host"
             ? 0
             : 1;
}
