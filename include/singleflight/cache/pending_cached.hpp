// SPDX-License-Identifier: Apache-2.0
#pragma once

/// pending_cached: the result of start_get: a stored answer, or a share of its load.
///
/// Use when    never by name: to be awaited, or blocked on; one-shot, like flight.
/// Threads     one thread at a time.
/// Ordering    the load's effects happen-before the return of get and co_await (P7).
/// Blocking    get and get_outcome block; co_await suspends, unless the answer is ready.
/// Cancel      dropping it, or a limit, ends this caller's wait only; the load continues.
/// Errors      the loader's exception with its own type; flight_error for the library's own. A
///             second use, and awaiting a temporary, are refused: by an assertion, and a compile
///             error.
/// Lifetime    as flight (flight/flight.hpp). on() of an answer that is ready: before the end of
///             the cache.
/// Cost        stored in the caller's frame; no allocation to wait, but two for on().

#include <coroutine>
#include <memory>
#include <optional>
#include <utility>

#include "singleflight/cache/cached.hpp"
#include "singleflight/flight/detail/group_door.hpp"
#include "singleflight/flight/flight.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

namespace detail {

/// Returns the result of a cache's flight as its callers get it: each has a handle of its own.
template <class Value>
cached<Value> own_handle(shared_result<cached<Value>>&& shared) {
  if (auto alone = std::move(shared).try_take()) return *std::move(alone);
  return *shared;  // NOLINT(bugprone-use-after-move): unchanged if it is shared
}
template <class Value>
outcome<cached<Value>> own_handle(outcome<shared_result<cached<Value>>>&& shared) {
  if (shared.has_value()) return detail::own_handle(std::move(*shared));
  if (const auto code = detail::code_of(shared)) return *code;
  return shared.exception();
}

}  // namespace detail

template <class Value>
class [[nodiscard]] pending_cached : public detail::handle_of<pending_cached<Value>>,
                                     private detail::flight_share<cached<Value>> {
  using share = detail::flight_share<cached<Value>>;
  using share::block_;
  using typename share::time_point;

 public:
  using result = cached<Value>;
  static constexpr bool calls_back = false;

  pending_cached(pending_cached&& other) noexcept
      : share(static_cast<share&&>(other)),
        answer_(std::move(other.answer_)),
        group_(other.group_) {
    other.answer_.reset();  // moved from counts as used
  }
  pending_cached& operator=(pending_cached&& other) noexcept {
    if (this != &other) {
      share::operator=(static_cast<share&&>(other));
      answer_ = std::move(other.answer_);
      other.answer_.reset();
      group_ = other.group_;
    }
    return *this;
  }
  ~pending_cached() = default;

  /// Blocks until the answer is ready; returns it, or throws the load's exception or flight_error.
  result get() { return get_outcome().value(); }
  outcome<result> get_outcome() { return blocked_outcome({}); }
  /// Whether get and co_await would return at once.
  [[nodiscard]] bool ready() const noexcept { return settled(); }

  class awaiter {
   public:
    explicit awaiter(pending_cached& handle) noexcept : handle_(handle) {}
    bool await_ready() const { return handle_.settled(); }
    bool await_suspend(std::coroutine_handle<> frame) { return handle_.suspend(frame); }
    result await_resume() { return handle_.take(detail::wait_verdict::outcome).value(); }

   private:
    pending_cached& handle_;
  };
  awaiter operator co_await() & noexcept { return awaiter(*this); }
  using detail::handle_of<pending_cached>::operator co_await;

  /// Names the load within which the wait that follows takes place.
  handle_wait<pending_cached, detail::no_executor, false, detail::recorded_within> within(
      const flight_context& context) & {
    return {*this, time_point::max(), {}, within_ref(context), {}};
  }
  handle_wait<pending_cached, detail::no_executor, false, detail::recorded_within> within(
      const flight_context&) && = delete;

 private:
  friend detail::cache_door;
  pending_cached(outcome<result>&& answer, detail::flight_core& group) noexcept
      : share(nullptr, flight_role::joiner, 0), answer_(std::move(answer)), group_(&group) {}
  explicit pending_cached(flight<result>&& load) noexcept
      : share(detail::group_door::share_of(std::move(load))) {}

  template <class, class, bool, class>
  friend class handle_wait;
  friend detail::handle_access;

  // ---- for handle_wait --------------------------------------------------------------------------
  using typename share::batch_type;
  struct within_type : detail::recorded_within {
    void enter(pending_cached& p) {
      if (p.block_ != nullptr) recorded_within::enter(p);
    }
  };
  friend detail::recorded_within;

  timer& clock() const noexcept { return block_ != nullptr ? share::clock() : group_->clock(); }
  /// If the answer is ready, the wait becomes one on a flight that is done.
  batch_type* batch_on(const any_executor& executor) {
    if (block_ == nullptr) {
      auto done = std::make_unique<detail::flight_block<result>>(
          *group_, group_->options().executor, group_->clock(), detail::flight_phase::done);
      done->counts.store(detail::block_base::one_reference, detail::memory_order_relaxed);
      if (answer_->has_value()) {
        done->construct(*std::move(*answer_));
        done->result = detail::flight_result::value;
      } else {
        done->error = answer_->exception();
        done->result = detail::flight_result::error;
      }
      answer_.reset();
      block_ = done.release();
    }
    return share::batch_on(executor);
  }
  void end_limit() noexcept {
    if (block_ != nullptr) share::end_limit();
  }

  bool settled() const { return answer_.has_value() || share::settled(); }
  outcome<result> blocked_outcome(const limits& bounds) {
    if (answer_.has_value()) return take(detail::wait_verdict::outcome);
    return detail::own_handle(share::blocked_outcome(bounds));
  }
  outcome<result> take(detail::wait_verdict ended) {
    if (!answer_.has_value()) return detail::own_handle(share::take(ended));
    outcome<result> taken = *std::move(answer_);
    answer_.reset();
    return taken;
  }

  std::optional<outcome<result>> answer_{};  // set if no load was needed
  detail::flight_core* group_ = nullptr;     // set with answer_
};

SINGLEFLIGHT_END_NAMESPACE
