// SPDX-License-Identifier: Apache-2.0
#pragma once

// sleeper: a thread that sleeps until it is told, or until one of its limits strikes.
//
// It sleeps on a word of its own, which it alone reads. `told` is set once, by whoever decides
// that the wait is over, as the last touch of the word: the sleeper may return at once and take
// the word with it, so who woke it names the word by its address only. The limits add to the word
// beside that bit, so that nobody falls asleep past them; both are disarmed before the word goes.

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
  /// The word, by its name: to be woken after it may have gone.
  using name = const atomic<std::uint32_t>*;

  /// Throws what arming the timer throws, before anybody can know this sleeper.
  sleeper(timer& clock, steady_time deadline, const std::stop_token& stop);
  sleeper(const sleeper&) = delete;
  sleeper& operator=(const sleeper&) = delete;
  ~sleeper() {
    if (armed_) clock_.cancel(alarm_);
  }

  /// `outcome`: told. Else a limit has struck, and it is this thread's to find out, under the lock
  /// of what it waits for, whether it was told meanwhile.
  wait_verdict sleep() noexcept;

  /// Ends the sleep; once. The caller wakes what is returned after its locks.
  [[nodiscard]] name tell() noexcept;
  static void wake(name word) noexcept { platform::wake(*word, 1); }

 private:
  static constexpr std::uint32_t told = 1;

  struct poker {
    sleeper* who;
    void operator()() const noexcept { who->poke(); }
  };
  using stop_callback = std::optional<platform::stop_callback<poker>>;
  struct alarm : thread_timer_node {
    explicit alarm(sleeper& s) noexcept;
    sleeper& who;
  };

  bool bounded() const noexcept { return deadline_ != steady_time::max(); }
  void poke() noexcept;

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
