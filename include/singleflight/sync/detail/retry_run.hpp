// SPDX-License-Identifier: Apache-2.0
#pragma once

// retry_run: one call of start_retry: its attempts, the sleeps between them, and its result.
//
// It is in one state at a time: queued at the executor, in an attempt, awaiting what an attempt has
// returned, or asleep. The thread that takes it from one state to the next is its owner, and alone
// touches what is not atomic; handing the run over (to the executor, to an awaitable, into sleep)
// is the owner's last touch. Each attempt begins as a task of its own, so none nests in another.
//
// While it is asleep, three may wake it at any time: the timer, the stop token, and the handle that
// is dropped. `wakes_` decides which of them posts the run back to the executor, exactly once a
// sleep:
//
// R1  wake() sets `woken`. The caller that finds `asleep` set and `woken` not yet, posts.
// R2  The owner arms the timer and the callback first, then sets `asleep` as its last touch; if it
//     finds `woken` set, it posts itself. The two read-modify-writes have an order, so one of the
//     two sees the other, and not both.
// R3  The new owner disarms both before it does anything else: no wake of theirs is under way or
//     comes later (the timer's cancel, and the callback's destructor, wait for it; within the wake
//     itself, under inline_executor, posting was its last touch). Then it clears both bits.
// R4  The handle may be dropped when the run is not asleep. That sets `dropped`, which is never
//     cleared, and is checked before each attempt and after it; and `woken`, with which the next
//     sleep ends as it begins.
//
// wakes_ is acquire-release where ownership passes: what the owner did before it set `asleep`
// happens-before the post of the wake that ends the sleep.

#include <coroutine>
#include <cstdint>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "singleflight/core/support/awaitable.hpp"
#include "singleflight/core/support/one_shot.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/sync/detail/retry_bounds.hpp"
#include "singleflight/sync/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// What a function that is retried returns, and the type of the result.
template <class Fn>
struct attempt_of {
  using returned = decltype(detail::call_attempt(std::declval<Fn&>(), std::uint32_t{}));
  static constexpr bool awaits = awaitable<returned>;
  static auto value_type() {
    if constexpr (awaits) {
      return std::type_identity<
          std::remove_cvref_t<decltype(std::declval<awaited_call<returned>&>().resume())>>{};
    } else {
      return std::type_identity<std::remove_cvref_t<returned>>{};
    }
  }
  using value = typename decltype(value_type())::type;
};

template <class Fn>
class retry_run final : public one_shot<typename attempt_of<Fn>::value>,
                        private task_node,
                        private thread_timer_node,
                        private platform::coroutine_frame {
  using attempt = attempt_of<Fn>;
  using value = typename attempt::value;
  static constexpr bool awaits = attempt::awaits;

 public:
  template <class F>
  retry_run(retry_policy&& policy, F&& fn, const limits& bounds, const any_executor& executor,
            steady_time end)
      : one_shot<value>(executor, clock_of(policy)),
        task_node(&on_task),
        thread_timer_node(&on_alarm, this_thread()),
        platform::coroutine_frame{&resume_it, &destroy_it},
        call_(std::in_place, std::move(policy), std::forward<F>(fn), bounds, end) {}

  void start() { post(); }
  /// Called instead of start().
  void refuse(flight_errc why) { end(why); }

 private:
  struct call {
    template <class F>
    call(retry_policy&& p, F&& f, const limits& b, steady_time end)
        : policy(std::move(p)), fn(std::forward<F>(f)), bounds(b), schedule(policy, end) {}
    const retry_policy policy;
    Fn fn;
    const limits bounds;
    retry_schedule schedule;
  };
  struct waker {
    retry_run* run;
    void operator()() const noexcept {
      const limit_scope limit;
      run->wake(0);
    }
  };
  using stop_callback = platform::stop_callback<waker>;

  static constexpr std::uint32_t asleep = 1;
  static constexpr std::uint32_t woken = 2;
  static constexpr std::uint32_t dropped = 4;

  // ---- the executor -----------------------------------------------------------------------------

  void post() {
    try {
      const any_executor executor = this->home.executor;  // the task may destroy this
      executor.execute(task(static_cast<task_node*>(this)));
    } catch (...) {  // refused: dropping the task has ended the run
      if (platform::is_thread_exit()) throw;
    }
  }
  static void on_task(task_node* node, bool run) {
    auto& self = *static_cast<retry_run*>(node);
    if (!run && drop_later(node)) return;
    self.disarm();
    if (const std::exception_ptr* const refusal = this_thread().refusal; !run && refusal) {
      self.end(std::exception_ptr(*refusal));
    } else if (!run) {
      self.end(flight_errc::broken);
    } else if (const auto why = self.reason_to_end()) {
      self.end(*why);
    } else {
      self.begin_attempt();
    }
  }

  /// Returns why no attempt may begin, if none may. The deadline is checked for the first attempt
  /// only, which may have been queued for long: later, no sleep begins that would not end before
  /// it.
  std::optional<flight_errc> reason_to_end() const noexcept {
    if (is_dropped()) return flight_errc::cancelled;
    if (call_->schedule.attempt() == 1) return expired(call_->bounds, this->clock);
    if (platform::stop_requested(call_->bounds.stop)) return flight_errc::cancelled;
    return std::nullopt;
  }
  bool is_dropped() const noexcept { return (wakes_.load(memory_order_acquire) & dropped) != 0; }

  // ---- an attempt -------------------------------------------------------------------------------

  decltype(auto) call_now() { return detail::call_attempt(call_->fn, call_->schedule.attempt()); }

  /// Marks this thread, for as long as the object exists, as running what the result depends on.
  class leading {
   public:
    explicit leading(const retry_run& run) noexcept
        : thread_(this_thread()),
          frame_{platform::holds(rule::attempts_are_led) ? run.id : 0, thread_.led, nullptr, &run,
                 false} {
      thread_.led = &frame_;
    }
    leading(const leading&) = delete;
    leading& operator=(const leading&) = delete;
    ~leading() { thread_.led = frame_.outer; }

   private:
    thread_state& thread_;
    const led_frame frame_;
  };

  /// The run may have another owner when this returns.
  void begin_attempt() {
    std::exception_ptr error;
    std::coroutine_handle<> next;
    bool suspended = false;
    try {
      const leading led(*this);
      if constexpr (awaits) {
        // In place: what it returns may be unable to move.
        awaited_.emplace([this]() -> typename attempt::returned { return call_now(); });
        suspended = !awaited_->ready() && awaited_->suspend(this->handle(), next);
      } else {
        store([this]() -> typename attempt::returned { return call_now(); });
      }
    } catch (...) {
      error = caught();
    }
    if (error != nullptr) {
      on_failure(std::move(error));
    } else if (!awaits) {
      returned();
    } else if (!suspended) {
      resume();
    } else if (next) {
      next.resume();
    }
  }

  static void resume_it(void* frame) { of_frame(frame).resume(); }
  static void destroy_it(void* frame) { of_frame(frame).end(flight_errc::broken); }
  static retry_run& of_frame(void* frame) noexcept {
    return static_cast<retry_run&>(*static_cast<platform::coroutine_frame*>(frame));
  }
  void resume() {
    if constexpr (awaits) {
      std::exception_ptr error;
      try {
        const leading led(*this);
        store([this]() -> decltype(auto) { return awaited_->resume(); });
      } catch (...) {
        error = caught();
      }
      if (error != nullptr) {
        on_failure(std::move(error));
      } else {
        returned();
      }
    }
  }

  template <class Get>
  void store(Get&& get) {
    if constexpr (std::is_void_v<value>) {
      get();
      this->result_.emplace();
    } else {
      this->result_.emplace(get());
    }
  }
  /// Called within a catch (...): returns the error, to be handled outside of it.
  std::exception_ptr caught() {
    if (platform::is_thread_exit()) {
      end(flight_errc::broken);
      throw;
    }
    return std::current_exception();
  }

  void returned() {
    if constexpr (is_outcome<value>) {
      if (std::exception_ptr error = (**this->result_).exception()) {
        return on_failure(std::move(error));
      }
    }
    end();
  }
  /// result_ is empty, or holds what the attempt has returned: an outcome without a value.
  void on_failure(std::exception_ptr error) {
    awaited_.reset();
    if (is_dropped()) return end(flight_errc::cancelled);
    steady_time wake_at{};
    try {
      const leading led(*this);
      const auto next = next_attempt(call_->policy, call_->schedule, error, call_->bounds.stop);
      if (next) {
        wake_at = *next;
        this->result_.reset();
      } else if (const auto code = detail::code_of(next)) {
        this->result_.emplace(*code);
      } else if (!this->result_) {
        this->result_.emplace(error);
      }
    } catch (...) {
      this->result_.emplace(caught());
    }
    error = nullptr;  // the result is its only owner
    if (this->result_) return end();
    if (wake_at == at_once) return post();
    sleep_until(wake_at);
  }

  // ---- asleep -----------------------------------------------------------------------------------

  void sleep_until(steady_time wake_at) {
    std::exception_ptr error;
    try {
      if (wake_at != steady_time::max()) this->clock.arm(*this, wake_at);
    } catch (...) {
      error = caught();
    }
    if (error != nullptr) return end(std::move(error));
    const std::stop_token& stop = call_->bounds.stop;
    if (stop.stop_possible()) on_stop_.emplace(stop, waker{this});
    const std::uint32_t found = wakes_.fetch_or(asleep, memory_order_acq_rel);  // R2
    if ((found & woken) != 0 && platform::holds(rule::sleep_sees_early_wake)) post();
  }
  void wake(std::uint32_t more) noexcept {
    const std::uint32_t found = wakes_.fetch_or(woken | more, memory_order_acq_rel);  // R1
    const bool late = (found & woken) != 0 && platform::holds(rule::first_wake_resumes);
    if ((found & asleep) != 0 && !late) post();
  }
  static void on_alarm(timer_node& node) noexcept {
    const fire_scope fires;
    static_cast<retry_run&>(node).wake(0);
  }
  void abandoned() noexcept override { wake(dropped); }

  void disarm() noexcept {
    if ((wakes_.load(memory_order_relaxed) & asleep) == 0) return;  // set by the last owner
    if (platform::holds(rule::awake_run_is_disarmed)) this->clock.cancel(*this);
    on_stop_.reset();
    wakes_.fetch_and(dropped, memory_order_acq_rel);  // R3
  }

  // ---- the end ----------------------------------------------------------------------------------

  template <class Why>
  void end(Why&& why) {
    this->result_.emplace(std::forward<Why>(why));
    end();
  }
  /// Destroys what the caller has passed before there is a result.
  void end() {
    {
      const leading led(*this);
      awaited_.reset();
      call_.reset();
    }
    this->publish();
  }

  struct nothing {
    void reset() noexcept {}
  };
  static auto awaited_type() {
    if constexpr (awaits) {
      return std::type_identity<std::optional<awaited_call<typename attempt::returned>>>{};
    } else {
      return std::type_identity<nothing>{};
    }
  }

  std::optional<call> call_;
  [[no_unique_address]] typename decltype(awaited_type())::type awaited_;
  std::optional<stop_callback> on_stop_;
  atomic<std::uint32_t> wakes_{0};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
