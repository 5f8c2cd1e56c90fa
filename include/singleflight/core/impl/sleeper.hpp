// SPDX-License-Identifier: Apache-2.0
#pragma once

// sleeper: the sleep of a blocked thread, and what ends it.

#include <cstdint>
#include <utility>

#include "singleflight/core/executor.hpp"
#include "singleflight/core/support/rules.hpp"
#include "singleflight/core/support/sleeper.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY sleeper::sleeper(timer& clock, steady_time deadline, const std::stop_token& stop)
    : clock_(clock),
      stop_(stop),
      deadline_(deadline),
      alarm_(*this),
      on_stop_(stop.stop_possible() ? stop_callback(std::in_place, stop, poker{this})
                                    : stop_callback()) {
  if (bounded() && !clock.follows_steady_clock()) {
    clock.arm(alarm_, deadline);
    armed_ = true;
  }
}

SINGLEFLIGHT_BODY wait_verdict sleeper::sleep() noexcept {
  for (;;) {
    const std::uint32_t seen =
        word_.load(platform::order(rule::told_acquires, memory_order_acquire));
    if ((seen & told) != 0) return wait_verdict::outcome;
    if (platform::stop_requested(stop_)) return wait_verdict::cancelled;
    if (bounded() && clock_.now() >= deadline_) return wait_verdict::timed_out;
    hand_queue_over();
    platform::wait(word_, seen, platform::all_channels,
                   bounded() && clock_.follows_steady_clock() ? &deadline_ : nullptr);
  }
}

SINGLEFLIGHT_BODY sleeper::name sleeper::tell() noexcept {
  word_.fetch_or(told, platform::order(rule::tell_releases, memory_order_release));
  return &word_;
}

SINGLEFLIGHT_BODY void sleeper::poke() noexcept {
  // After what the limit has become: whoever sees the one sees the other.
  if (platform::holds(rule::ring_changes_word)) word_.fetch_add(told + 1, memory_order_release);
  platform::wake(word_, 1);
}

SINGLEFLIGHT_BODY sleeper::alarm::alarm(sleeper& s) noexcept
    : thread_timer_node([](timer_node& n) noexcept { static_cast<alarm&>(n).who.poke(); },
                        this_thread()),
      who(s) {}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
