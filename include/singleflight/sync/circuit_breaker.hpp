// SPDX-License-Identifier: Apache-2.0
#pragma once

/// circuit_breaker: stops calling what keeps failing, or has become slow, and probes now and then
/// whether it has recovered.
///
/// Use when    a backend that is down should fail at once, not after a timeout per caller. With a
///             group it belongs inside the load: around run, one failed load would count once for
///             each caller.
/// Not for     bounding how many calls run at a time (sync/semaphore.hpp); transient errors
///             (sync/retry.hpp, which belongs around a breaker).
/// Example     examples/12_retry_and_breaker.cpp
///
/// Threads     every member, from any thread.
/// Ordering    none between calls. A result counts in the state in which its call began, or not at
///             all.
/// Blocking    a call blocks as long as its function does; the breaker itself does not.
/// Errors      flight_error(rejected) while open; the function's own exception, which is counted
///             and passed on, as is an outcome without a value that it returns;
///             std::invalid_argument for an option out of range.
/// Lifetime    functions are borrowed for the call; the breaker outlives its calls.
/// Cost        closed: no lock, and no allocation except for a thread's first counters: a call
///             counts in memory of its thread and reads the coarse clock, twice with slow_call. A
///             failure, or a slow call, takes a lock. Open: a rejection takes no lock; with
///             as_outcome it throws nothing.

#include <concepts>
#include <cstdint>
#include <exception>
#include <functional>
#include <type_traits>
#include <utility>

#include "singleflight/core/errors.hpp"
#include "singleflight/core/observable.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/sync/circuit_breaker_options.hpp"
#include "singleflight/sync/detail/breaker_core.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

class circuit_breaker final : public observable {
 public:
  /// Throws std::invalid_argument for a value out of range.
  explicit circuit_breaker(circuit_breaker_options options = {}) : core_(std::move(options)) {}
  circuit_breaker(const circuit_breaker&) = delete;
  circuit_breaker& operator=(const circuit_breaker&) = delete;
  ~circuit_breaker() = default;

  /// Returns what `fn()` returns, as it is. While open, throws flight_error(rejected) without
  /// calling it.
  template <class Fn>
  decltype(auto) call(Fn&& fn) {
    pass p(core_);
    if (!p) throw flight_error(flight_errc::rejected);
    return p.run(fn);
  }

  /// Makes the same call without throwing: returns `fn`'s value or exception, or
  /// flight_errc::rejected. An outcome that `fn` returns is returned as it is, not put into another
  /// one.
  template <class Fn>
  auto call(as_outcome_t, Fn&& fn) {
    using returned = std::decay_t<std::invoke_result_t<Fn&>>;
    using result = std::conditional_t<detail::is_outcome<returned>, returned, outcome<returned>>;
    pass p(core_);
    if (!p) return result(flight_errc::rejected);
    try {
      if constexpr (std::is_void_v<std::invoke_result_t<Fn&>>) {
        p.run(fn);
        return result();
      } else {
        return result(p.run(fn));
      }
    } catch (...) {
      if (detail::platform::is_thread_exit()) throw;
      return result(std::current_exception());
    }
  }

  /// Returns `fallback()`, or `fallback(std::exception_ptr)`, in place of a call that was rejected
  /// or has failed. An exception that is_failure does not count as a failure, or
  /// flight_error(cancelled), is passed to the caller. The fallback is not guarded: its time and
  /// its exceptions are not counted.
  template <class Fn, class Fallback>
    requires(!std::same_as<std::remove_cvref_t<Fn>, as_outcome_t>)
  auto call(Fn&& fn, Fallback&& fallback) -> std::invoke_result_t<Fn&> {
    using result = std::invoke_result_t<Fn&>;
    static_assert(!std::is_reference_v<result> || answers_by_reference<Fallback, result>(),
                  "singleflight: the function returns a reference and its fallback a value, to "
                  "which a reference would dangle; let both return a value");
    std::exception_ptr error;
    {
      pass p(core_);
      if (p) {
        try {
          if constexpr (detail::is_outcome<result>) {
            result returned = p.run(fn);
            if (!p.failed()) return static_cast<result&&>(returned);
            error = returned.exception();
          } else {
            return p.run(fn);
          }
        } catch (...) {
          if (!p.failed()) throw;
          error = std::current_exception();
        }
      }
    }
    if constexpr (std::is_invocable_v<Fallback&>) {
      return answer_with<result>([&]() -> decltype(auto) { return std::invoke(fallback); });
    } else {
      if (error == nullptr) {
        error = std::make_exception_ptr(flight_error(flight_errc::rejected));
      }
      return answer_with<result>(
          [&]() -> decltype(auto) { return std::invoke(fallback, std::move(error)); });
    }
  }

  /// Returns the state as the latest call left it: an open breaker becomes half_open by a call, not
  /// by time.
  breaker_state state() const noexcept { return core_.state(); }
  circuit_breaker_stats stats() const noexcept { return core_.stats(); }
  void observe(metric_visitor& visitor) const override {
    detail::observe_counters(visitor, stats());
    visitor.gauge("state", static_cast<int>(state()));
  }

  /// Closes the breaker with an empty window, whatever its state.
  void reset() noexcept { core_.reset(); }
  /// Opens the breaker for open_for from now on, whatever its state.
  void force_open() noexcept { core_.force_open(); }

 private:
  /// Converts the fallback's answer to what the function returns.
  template <class Result, class Call>
  static Result answer_with(const Call& call) {
    if constexpr (std::is_object_v<Result> && !std::is_same_v<decltype(call()), Result>) {
      return detail::value_from<Result>(call());
    } else {
      return call();
    }
  }

  template <class Fallback, class Reference>
  static constexpr bool answers_by_reference() {
    using result =
        typename std::conditional_t<std::is_invocable_v<Fallback&>, std::invoke_result<Fallback&>,
                                    std::invoke_result<Fallback&, std::exception_ptr>>::type;
    return std::is_reference_v<result> &&
           std::is_convertible_v<std::remove_reference_t<result>*,
                                 std::remove_reference_t<Reference>*>;
  }

  /// One call: whether it was admitted, and its result, which the destructor reports, also when the
  /// thread ends within the call.
  class pass {
   public:
    explicit pass(detail::breaker_core& core) noexcept : core_(core), admitted_(core.admit()) {}
    pass(const pass&) = delete;
    pass& operator=(const pass&) = delete;
    ~pass() {
      if (admitted_) core_.settle(admitted_, result_);
    }
    explicit operator bool() const noexcept { return static_cast<bool>(admitted_); }
    bool failed() const noexcept { return result_ == detail::call_result::failure; }

    template <class Fn>
    auto run(Fn& fn) -> std::invoke_result_t<Fn&> {
      using result = std::invoke_result_t<Fn&>;
      if constexpr (detail::is_outcome<result>) {
        result returned = run_throwing(fn);
        if (!returned) judge(returned.exception());
        return static_cast<result&&>(returned);
      } else {
        return run_throwing(fn);
      }
    }

   private:
    template <class Fn>
    auto run_throwing(Fn& fn) -> std::invoke_result_t<Fn&> {
      try {
        return std::invoke(fn);
      } catch (const flight_error& error) {
        judge(error.errc() == flight_errc::cancelled);
        throw;
      } catch (...) {
        judge(detail::platform::is_thread_exit());
        throw;
      }
    }
    /// Judges an outcome without a value as if `error` had been thrown.
    SINGLEFLIGHT_COLD void judge(const std::exception_ptr& error) {
      try {
        std::rethrow_exception(error);
      } catch (const flight_error& e) {
        judge(e.errc() == flight_errc::cancelled);
      } catch (...) {
        judge(false);
      }
    }
    /// Called within the exception's handler.
    SINGLEFLIGHT_COLD void judge(bool is_neutral) {
      result_ = detail::call_result::none;  // also if is_failure throws
      if (is_neutral) return;
      const auto& is_failure = core_.options().is_failure;
      result_ = !is_failure || is_failure(std::current_exception()) ? detail::call_result::failure
                                                                    : detail::call_result::success;
    }

    detail::breaker_core& core_;
    const detail::breaker_core::admission admitted_;
    detail::call_result result_ = detail::call_result::success;
  };

  detail::breaker_core core_;
};

SINGLEFLIGHT_END_NAMESPACE
