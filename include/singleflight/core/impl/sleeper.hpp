// SPDX-License-Identifier: Apache-2.0
#pragma once

// sleeper: the sleep of a blocked thread, and its end.

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
      on_stop_(stop.stop_possible() ? stop_callback(std::in_place, stop, stop_action{this})
                                    : stop_callback()) {
  if (bounded() && !clock.follows_steady_clock()) {
    clock.arm(alarm_, deadline);
    armed_ = true;
  }
}

SINGLEFLIGHT_BODY wait_verdict sleeper::sleep() noexcept {
  for (;;) {
    const std::uint32_t seen =
        word_.load(platform::order(rule::notified_acquires, memory_order_acquire));
    if ((seen & notified) != 0) return wait_verdict::outcome;
    if (platform::stop_requested(stop_)) return wait_verdict::cancelled;
    if (bounded() && clock_.now() >= deadline_) return wait_verdict::timed_out;
    hand_queue_over();
    platform::wait(word_, seen, platform::all_channels,
                   bounded() && clock_.follows_steady_clock() ? &deadline_ : nullptr);
  }
}

SINGLEFLIGHT_BODY sleeper::name sleeper::tell() noexcept {
  word_.fetch_or(notified, platform::order(rule::notify_releases, memory_order_release));
  return &word_;
}

SINGLEFLIGHT_BODY void sleeper::recheck() noexcept {
  // The release orders this after the limit's expiry: a thread that sees the word sees that as
  // well.
  if (platform::holds(rule::expiry_changes_word))
    word_.fetch_add(notified + 1, memory_order_release);
  platform::wake(word_, 1);
}

SINGLEFLIGHT_BODY sleeper::alarm::alarm(sleeper& sleeping) noexcept
    : thread_timer_node([](timer_node& n) noexcept { static_cast<alarm&>(n).owner.recheck(); },
                        this_thread()),
      owner(sleeping) {}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
