// SPDX-License-Identifier: Apache-2.0
//
// Failed calls to a backend are retried; a backend that is down gets no calls for a while.

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>

#include <singleflight/sync.hpp>

int main() {
  using namespace std::chrono_literals;
  singleflight::manual_timer time;  // the example need not wait; the default is the real clock

  // Two attempts fail, the third one succeeds. The delays are random, and grow.
  singleflight::retry_policy policy{.max_attempts = 4, .base = 100ms, .timer = &time};
  policy.on_retry = [&](unsigned attempt, const std::exception_ptr&, auto delay) {
    std::printf("attempt %u failed\n", attempt);
    time.advance(delay);
  };
  int asked = 0;
  const std::string answer = singleflight::retry(policy, [&]() -> std::string {
    if (++asked < 3) throw std::runtime_error("connection reset");
    return "at last";
  });

  // When half of at least four calls have failed, the breaker opens and rejects calls at once.
  singleflight::circuit_breaker breaker(
      {.error_rate = 0.5, .min_calls = 4, .open_for = 1s, .probes = 1, .timer = &time});
  int calls = 0;
  const auto backend = [&]() -> int {
    if (++calls <= 4) throw std::runtime_error("down");
    return 42;
  };
  for (int i = 0; i < 10; ++i) (void)breaker.call(singleflight::as_outcome, backend);
  std::printf("10 calls, %d reached the backend\n", calls);
  const int meanwhile = breaker.call(backend, [] { return 41; });  // the last known answer

  time.advance(1s);  // now a probe is let through, and closes the breaker
  const int afterwards = breaker.call(backend);
  std::printf("%s; %d, then %d\n", answer.c_str(), meanwhile, afterwards);
  return asked == 3 && calls == 5 && meanwhile == 41 && afterwards == 42 &&
                 breaker.state() == singleflight::breaker_state::closed
             ? 0
             : 1;
}
