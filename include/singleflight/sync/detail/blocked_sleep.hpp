// SPDX-License-Identifier: Apache-2.0
#pragma once

// blocked_sleep: a thread that sleeps for a while, on the time of any timer, until it is stopped.
//
// It sleeps on a word of its own stack, which counts the rings: of the stop token, and of an alarm
// where the kernel cannot time the sleep. A ring between the look at the limits and the sleep has
// changed the word, so the sleep does not begin. Ringing releases, and the look at the word
// acquires: whoever sees a ring sees the stop, or the time, that it speaks of. The word lives as
// long as anybody rings: the destructors of the callback and of the alarm wait for one that is
// under way.

#include <cstdint>
#include <optional>
#include <stop_token>

#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class blocked_sleep {
 public:
  /// Returns once `until` has come: true; or the token is stopped: false. Throws what arming the
  /// timer does, when its time is not the steady clock's.
  static bool until(timer& clock, steady_time when, const std::stop_token& token) {
    if (platform::stop_requested(token)) return false;
    if (clock.now() >= when) return true;
    blocked_sleep here;
    const alarm rings(here, clock, when);
    std::optional<platform::stop_callback<bell>> on_stop;
    if (token.stop_possible()) on_stop.emplace(token, bell{&here});
    const steady_time* const timed = clock.follows_steady_clock() ? &when : nullptr;
    for (;;) {
      const std::uint32_t seen = here.rung_.load(memory_order_acquire);
      if (platform::stop_requested(token)) return false;
      if (clock.now() >= when) return true;
      platform::wait(here.rung_, seen, platform::all_channels, timed);
    }
  }

 private:
  struct bell {
    blocked_sleep* sleeper;
    void operator()() const noexcept { sleeper->ring(); }
  };
  struct alarm : timer_node {
    alarm(blocked_sleep& who, timer& at, steady_time due)
        : timer_node([](timer_node& n) noexcept { static_cast<alarm&>(n).sleeper.ring(); }),
          sleeper(who),
          clock(at.follows_steady_clock() ? nullptr : &at) {
      if (clock != nullptr) clock->arm(*this, due);
    }
    ~alarm() {
      if (clock != nullptr) clock->cancel(*this);
    }
    alarm(const alarm&) = delete;
    alarm& operator=(const alarm&) = delete;
    blocked_sleep& sleeper;
    timer* const clock;
  };

  void ring() noexcept {
    if (platform::holds(rule::ring_changes_word)) {
      rung_.fetch_add(1, memory_order_release);
    }
    platform::wake(rung_, 1);
  }

  atomic<std::uint32_t> rung_{0};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
