// SPDX-License-Identifier: Apache-2.0
#pragma once

// sleeper: a thread that sleeps until it is notified, or until one of its limits expires.
//
// It sleeps on a word of its own, which no other thread reads. The thread that ends the wait sets
// `notified`, once, as its last access to the word: the sleeper may return at once and destroy the
// word, so the waking call uses only its address. A limit that expires adds to the word, beyond
// that bit, so that the thread cannot fall asleep after it; both limits are disarmed before the
// word is destroyed.

#include <cstdint>
#include <optional>
#include <utility>

#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/core/support/waiter.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class sleeper {
 public:
  /// The address of the word, which may be woken even after the word has been destroyed.
  using name = const atomic<std::uint32_t>*;

  /// Throws what arming the timer throws, before any other thread has access to this sleeper.
  sleeper(timer& clock, steady_time deadline, const std::stop_token& stop);
  sleeper(const sleeper&) = delete;
  sleeper& operator=(const sleeper&) = delete;
  ~sleeper() {
    if (armed_) clock_.cancel(alarm_);
  }

  /// Returns `outcome` if notified, otherwise which limit expired; the caller then checks, under
  /// the lock of what it waits for, whether it was notified meanwhile.
  wait_verdict sleep() noexcept;

  /// Notifies the thread; called once. The caller passes the result to wake() after it has
  /// unlocked.
  [[nodiscard]] name tell() noexcept;
  static void wake(name word) noexcept { platform::wake(*word, 1); }

 private:
  static constexpr std::uint32_t notified = 1;

  struct stop_action {
    sleeper* owner;
    void operator()() const noexcept { owner->recheck(); }
  };
  using stop_callback = std::optional<platform::stop_callback<stop_action>>;
  struct alarm : thread_timer_node {
    explicit alarm(sleeper& sleeping) noexcept;
    sleeper& owner;
  };

  bool bounded() const noexcept { return deadline_ != steady_time::max(); }
  /// Called when a limit has expired: makes the thread check its limits.
  void recheck() noexcept;

  timer& clock_;
  const std::stop_token& stop_;
  const steady_time deadline_;
  atomic<std::uint32_t> word_{0};
  alarm alarm_;
  stop_callback on_stop_;
  bool armed_ = false;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/sleeper.hpp"
#endif
