// SPDX-License-Identifier: Apache-2.0

// The sleep between two attempts, as it is ended. A sleep that misses its end is a deadlock.

#include <chrono>
#include <limits>
#include <new>
#include <optional>
#include <stop_token>

#include "model/worlds.hpp"
#include "support/model/gate.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/sync/retry.hpp>

namespace {

using model::add_world;
using model::gate;
using model::three;
using model::two_and_a_fault;
using model::world;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::manual_timer;
using singleflight::retry;
using namespace std::chrono_literals;
namespace platform = singleflight::detail::platform;

/// Two attempts with a second between them.
singleflight::retry_policy twice(singleflight::timer* timer) {
  return {.max_attempts = 2,
          .base = 1s,
          .random = [] { return std::numeric_limits<std::uint64_t>::max(); },
          .timer = timer};
}
void fails_first(std::uint32_t attempt) {
  if (attempt == 1) throw 1;
}

void stop_during_sleep(world& w, singleflight::timer* timer, bool time_moves) {
  std::stop_source stop;
  w.thread([&] {
    std::optional<flight_errc> code;
    try {
      retry(twice(timer), &fails_first, {.stop = stop.get_token()});
    } catch (const flight_error& error) {
      code = error.errc();
    } catch (const std::bad_alloc&) {  // instead of the error, whose text needs memory
      w.check(model::faults() > 0, "bad_alloc without a fault");
      return;
    }
    w.check(code ? *code == flight_errc::cancelled : time_moves, "a stop was missed");
  });
  w.thread([&] { platform::request_stop(stop); });
  w.run();
}
const add_world stop("retry: a stop during a sleep", three, [](world& w) {
  manual_timer time;  // does not advance
  stop_during_sleep(w, &time, false);
});
const add_world stop_steady("retry: a stop during a sleep on the steady clock, a fault",
                            two_and_a_fault, [](world& w) { stop_during_sleep(w, nullptr, true); });

const add_world advance("retry: advance during a sleep", three, [](world& w) {
  manual_timer time;
  gate failed;
  singleflight::retry_policy policy = twice(&time);
  policy.on_retry = [&](auto, const auto&, auto) { failed.open(); };
  const auto start = time.now();
  w.thread([&] {
    retry(policy, &fails_first);
    w.check(time.now() >= start + 1s, "an attempt began before its time");
  });
  w.thread([&] {
    failed.wait();
    time.advance(400ms);
    time.advance(600ms);
  });
  w.run();
});

}  // namespace
