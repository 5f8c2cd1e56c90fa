// SPDX-License-Identifier: Apache-2.0
#pragma once

/// flight: one caller's share of a load that was started; one-shot, like std::future.
///
/// Use when    the caller does not want to lead: to await, to wait with a limit, or to be called
///             back.
/// Threads     one thread at a time; different handles of one flight from different threads.
/// Ordering    the load's effects happen-before the return of get and co_await, and every callback
///             (P7).
/// Blocking    get, get_outcome, wait and wait_for block; co_await suspends; on_ready returns at
///             once. On a thread of the pool where the load is still queued, an unlimited wait runs
///             it (its own only).
/// Cancel      dropping the handle leaves; the last to leave stops the load, as the group says
///             (P6). A limit ends the wait it is given to, and with it this caller's interest.
/// Errors      the load's exception with its own type; flight_error for the library's own. A second
///             use of a handle, and awaiting a temporary, are refused: an assertion, and a compile
///             error.
/// Ordering    of resumptions on one executor: as they began to wait, two at a time where it has
///             threads for that; a resumed coroutine that blocks may hold up half of the others.
/// Lifetime    independent of the group once the load is done; the group waits for the load
///             otherwise. A coroutine that waits may be destroyed on the executor where it would
///             resume (P8).
/// Cost        48 bytes, in the caller's frame; no allocation to wait, but one for on_ready, for
///             within, and per executor named by on().

#include <chrono>
#include <coroutine>
#include <memory>
#include <new>
#include <optional>
#include <stop_token>
#include <utility>

#include "singleflight/core/outcome.hpp"
#include "singleflight/flight/detail/async_wait.hpp"
#include "singleflight/flight/detail/load.hpp"
#include "singleflight/flight/shared_result.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class V>
class flight;

namespace detail {
template <class>
inline constexpr bool always_false = false;

struct no_executor {};
}  // namespace detail

/// A wait on a flight with limits, an executor, or without throwing: made by flight's members, used
/// at once. `Executor` is any_executor where one was named; `AsOutcome`: the result is an outcome;
/// `Within`: a load was named. What is not used takes no room: a wait stands in its coroutine's
/// frame.
template <class V, class Executor = detail::no_executor, bool AsOutcome = false,
          bool Within = false>
class [[nodiscard]] flight_wait : private timer_node {
  static constexpr bool named = std::is_same_v<Executor, any_executor>;
  using time_point = std::chrono::steady_clock::time_point;

 public:
  using result = std::conditional_t<AsOutcome, outcome<shared_result<V>>, shared_result<V>>;

  flight_wait(flight<V>& of, time_point deadline, std::stop_token stop, within_ref within,
              Executor executor) noexcept
      : timer_node(&strike), of_(&of), token_(std::move(stop)) {
    when = deadline;
    if constexpr (Within) within_.frame = within.frame;
    if constexpr (named) executor_.executor = std::move(executor);
  }
  flight_wait(const flight_wait&) = delete;
  flight_wait& operator=(const flight_wait&) = delete;
  ~flight_wait() {
    abandon();
    if (!has(armed_stop)) token_.~stop_token();
  }

  // ---- more of the same -------------------------------------------------------------------------
  flight_wait until(time_point deadline) && {
    return {*of_, deadline, {}, named_load(), take_executor()};
  }
  flight_wait until(time_point deadline, const std::stop_token& stop) && {
    return {*of_, deadline, stop, named_load(), take_executor()};
  }
  flight_wait<V, any_executor, AsOutcome, Within> on(any_executor executor) && {
    return {*of_, when, std::move(token_), named_load(), std::move(executor)};
  }
  flight_wait<V, Executor, AsOutcome, true> within(const flight_context& context) && {
    return {*of_, when, std::move(token_), within_ref(context), take_executor()};
  }
  flight_wait<V, Executor, true, Within> as_outcome() && {
    return {*of_, when, std::move(token_), named_load(), take_executor()};
  }

  // ---- blocking ---------------------------------------------------------------------------------
  result get() && {
    if constexpr (AsOutcome) {
      return std::move(*this).get_outcome();
    } else {
      return std::move(*this).get_outcome().value();
    }
  }
  outcome<shared_result<V>> get_outcome() && {
    const limits bounds{.deadline = when, .stop = token_, .within = named_load()};
    return of_->blocked_outcome(bounds);
  }

  // ---- calling back -----------------------------------------------------------------------------
  /// Calls `callback(outcome<shared_result<V>>)` once, on the executor. Consumes the flight.
  template <class Callback>
  void on_ready(Callback&& callback) && {
    of_->template call_back<Within>(when, std::move(token_), named_load(), take_executor(),
                                    std::forward<Callback>(callback));
  }

  // ---- awaiting ---------------------------------------------------------------------------------
  bool await_ready() { return !named && of_->settled(); }
  bool await_suspend(std::coroutine_handle<> frame) {
    return begin(reinterpret_cast<std::uintptr_t>(frame.address()), named);
  }
  result await_resume() {
    if constexpr (AsOutcome) {
      return end();
    } else {
      return end().value();
    }
  }

 private:
  template <class, class, bool, bool>
  friend class flight_wait;
  friend class flight<V>;

  // What the wait has done so far; kept in the handle, where there is room for it.
  enum progress : std::uint8_t { waiting = 1, armed = 2, armed_stop = 4 };
  bool has(progress p) const noexcept { return (of_->wait_progress_ & p) != 0; }
  void set(progress p) noexcept { of_->wait_progress_ = of_->wait_progress_ | p; }

  struct named_executor {
    any_executor executor;
    detail::resume_batch* batch = nullptr;
  };
  struct claimer {
    flight_wait* wait;
    void operator()() const {
      detail::cancel_wait(*wait->of_->block_, *wait->of_, wait->batch(),
                          detail::wait_verdict::cancelled);
    }
  };
  using stop_callback = std::stop_callback<claimer>;

  static void strike(timer_node& node) noexcept {
    auto& wait = static_cast<flight_wait&>(node);
    detail::cancel_wait(*wait.of_->block_, *wait.of_, wait.batch(),
                        detail::wait_verdict::timed_out);
  }

  Executor take_executor() noexcept {
    if constexpr (named) {
      return std::move(executor_.executor);
    } else {
      return {};
    }
  }
  within_ref named_load() const noexcept {
    within_ref load;
    if constexpr (Within) load.frame = within_.frame;
    return load;
  }
  bool bounded() const noexcept { return when != time_point::max(); }
  detail::resume_batch& batch() const noexcept {
    if constexpr (named) {
      return *executor_.batch;
    } else {
      return of_->block_->room.batch;
    }
  }

  /// Arms the limits, then enters the wait; false: go on at once.
  bool begin(std::uintptr_t target, bool always) {
    detail::block_base& b = *of_->block_;
    if constexpr (named) {
      if (executor_.batch == nullptr) executor_.batch = &detail::batch_for(b, executor_.executor);
    }
    of_->target = target;
    if constexpr (Within) {
      within_.record = std::make_unique<detail::wait_graph::record>();
      if (!within_.record->enter(b, nullptr, within_.frame)) {
        of_->verdict.store(detail::wait_verdict::recursive, detail::memory_order_relaxed);
      }
    }
    set(waiting);
    if (bounded()) {
      b.clock->arm(*this, when);
      set(armed);
    }
    if (token_.stop_possible()) {
      std::stop_token token = std::move(token_);
      token_.~stop_token();
      set(armed_stop);
      ::new (static_cast<void*>(&callback_)) stop_callback(std::move(token), claimer{this});
    }
    return detail::enrol(b, *of_, batch(), bounded() ? &when : nullptr, always);
  }

  /// Disarms; afterwards no limit strikes any more.
  void disarm() noexcept {
    detail::block_base& b = *of_->block_;
    if (has(armed)) b.clock->cancel(*this);
    if (has(armed_stop)) {
      callback_.~stop_callback();
      ::new (static_cast<void*>(&token_)) std::stop_token();
    }
    if constexpr (Within) within_.record.reset();
    if (of_->limit != nullptr && !b.done()) {
      b.lock();
      if (b.phase(detail::memory_order_relaxed) != detail::flight_phase::done) --b.room.bounded;
      of_->limit = nullptr;
      b.unlock();
    }
    of_->wait_progress_ = 0;
  }

  outcome<shared_result<V>> end() {
    if (has(waiting)) disarm();
    return of_->take(of_->verdict.load(detail::memory_order_relaxed));
  }

  /// The coroutine is destroyed while it waits: leave the lists; the handle leaves the flight.
  void abandon() noexcept {
    if (!has(waiting) || of_->block_ == nullptr) return;
    detail::block_base& b = *of_->block_;
    detail::resume_batch& from = batch();
    disarm();
    detail::take_out(b, *of_, from);
  }

  struct named_within {
    const detail::led_frame* frame = nullptr;
    std::unique_ptr<detail::wait_graph::record> record;
  };

  flight<V>* of_;
  union {
    std::stop_token token_;   // until the wait begins
    stop_callback callback_;  // armed_stop
  };
  struct no_within {};
  [[no_unique_address]] std::conditional_t<Within, named_within, no_within> within_;
  [[no_unique_address]] std::conditional_t<named, named_executor, detail::no_executor> executor_;
};

template <class V>
class [[nodiscard]] flight : private detail::waiter {
  using time_point = std::chrono::steady_clock::time_point;

 public:
  using value_type = V;

  flight(flight&& other) noexcept
      : role_(other.role_), kept_(other.kept_), block_(std::exchange(other.block_, nullptr)) {
    detail::require(other.state == detail::wait_state::idle, "flight: moved while it waits");
  }
  flight& operator=(flight&& other) noexcept {
    if (this != &other) {
      this->~flight();
      ::new (static_cast<void*>(this)) flight(std::move(other));
    }
    return *this;
  }
  ~flight() {
    if (block_ == nullptr) return;
    if (block_->done()) {
      if (state != detail::wait_state::idle) detail::take_out(*block_, *this, block_->room.batch);
      block_->drop_reference();
      return;
    }
    if (state != detail::wait_state::idle) detail::take_out(*block_, *this, block_->room.batch);
    leave(detail::wait_verdict::outcome);
  }

  // ---- blocking ---------------------------------------------------------------------------------
  shared_result<V> get() { return get_outcome().value(); }
  outcome<shared_result<V>> get_outcome() { return blocked_outcome({}); }
  /// Waits without consuming.
  void wait() {
    if (!settled())
      check(detail::blocked_wait(*block_, no_limits, detail::blocked_wait::form::look).wait());
  }
  /// True once the outcome is there; false after `duration`. Does not consume, does not leave.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(std::chrono::duration<Rep, Period> duration) {
    if (settled()) return true;
    return wait_until(detail::deadline_after(block_->clock->now(), duration));
  }
  [[nodiscard]] bool wait_until(time_point deadline) {
    if (settled()) return true;
    const limits bounds{.deadline = deadline, .stop = {}, .within = {}};
    return check(detail::blocked_wait(*block_, bounds, detail::blocked_wait::form::look).wait()) ==
           detail::wait_verdict::outcome;
  }
  /// Whether get and co_await would return at once.
  [[nodiscard]] bool ready() const noexcept { return settled(); }

  // ---- awaiting ---------------------------------------------------------------------------------
  class awaiter {
   public:
    explicit awaiter(flight& of) noexcept : of_(of) {}
    bool await_ready() const { return of_.settled(); }
    bool await_suspend(std::coroutine_handle<> frame) {
      of_.target = reinterpret_cast<std::uintptr_t>(frame.address());
      return detail::enrol(*of_.block_, of_, of_.block_->room.batch, nullptr, false);
    }
    shared_result<V> await_resume() {
      if (of_.block_->result == detail::flight_result::value) [[likely]] {
        of_.state = detail::wait_state::idle;
        return {typename shared_result<V>::from_block{}, *std::exchange(of_.block_, nullptr),
                of_.role_};
      }
      return of_.take(detail::wait_verdict::outcome).value();
    }

   private:
    flight& of_;
  };
  awaiter operator co_await() & noexcept { return awaiter(*this); }
  template <class T = void>
  awaiter operator co_await() && {
    static_assert(detail::always_false<T>,
                  "singleflight: await a named flight, not a temporary: auto f = group.start(...); "
                  "co_await f;");
  }

  // ---- limits and places, for one wait ----------------------------------------------------------
  /// Bounds the wait that follows. (By reference: g++ keeps a parameter by value in the caller's
  /// frame.)
  flight_wait<V> until(time_point by) & { return {*this, by, {}, {}, {}}; }
  flight_wait<V> until(time_point by, const std::stop_token& stop) & {
    return {*this, by, stop, {}, {}};
  }
  /// Where the wait that follows resumes.
  flight_wait<V, any_executor> on(any_executor executor) & {
    return {*this, time_point::max(), {}, {}, std::move(executor)};
  }
  /// The load that the wait that follows belongs to.
  flight_wait<V, detail::no_executor, false, true> within(const flight_context& context) & {
    return {*this, time_point::max(), {}, within_ref(context), {}};
  }
  /// The wait that follows does not throw.
  flight_wait<V, detail::no_executor, true> as_outcome() & {
    return {*this, time_point::max(), {}, {}, {}};
  }
  flight_wait<V> until(time_point) && = delete;
  flight_wait<V> until(time_point, const std::stop_token&) && = delete;
  flight_wait<V, any_executor> on(any_executor) && = delete;
  flight_wait<V, detail::no_executor, false, true> within(const flight_context&) && = delete;
  flight_wait<V, detail::no_executor, true> as_outcome() && = delete;

  // ---- letting go -------------------------------------------------------------------------------
  /// Calls `callback(outcome<shared_result<V>>)` once, on the group's executor, never in this call.
  template <class Callback>
    requires std::invocable<std::decay_t<Callback>&, outcome<shared_result<V>>>
  void on_ready(Callback&& callback) && {
    call_back<false>(time_point::max(), {}, {}, detail::no_executor{},
                     std::forward<Callback>(callback));
  }
  /// The same on `executor`.
  template <class Callback>
  void on_ready(any_executor executor, Callback&& callback) && {
    call_back<false>(time_point::max(), {}, {}, std::move(executor),
                     std::forward<Callback>(callback));
  }
  /// The load goes on without this caller, and is not abandoned on its account.
  void detach() && {
    if (detail::block_base* const b = std::exchange(block_, nullptr)) b->drop_reference();
  }

  // For the group: a share of `b`, reference and interest included.
  flight(detail::flight_block<V>& b, flight_role role, std::uint32_t kept) noexcept
      : role_(role), kept_(kept), block_(&b) {}

 private:
  template <class, class, bool, bool>
  friend class flight_wait;

  template <class Executor, class Callback, bool Within>
  struct callback_state;

  bool settled() const {
    detail::require(block_ != nullptr, "flight: used twice, or after a move");
    return block_->done();
  }

  void leave(detail::wait_verdict why) {
    detail::block_base* const b = std::exchange(block_, nullptr);
    detail::flight_core::leave(*b, why, false, kept_, role_ == flight_role::leader);
  }

  /// A wait that does not consume fails in one way only: it would never end.
  static detail::wait_verdict check(detail::wait_verdict how) {
    if (how == detail::wait_verdict::recursive) throw flight_error(flight_errc::recursive);
    return how;
  }

  outcome<shared_result<V>> blocked_outcome(const limits& bounds) {
    if (settled()) return take(detail::wait_verdict::outcome);
    return take(detail::blocked_wait(*block_, bounds, detail::blocked_wait::form::take).wait());
  }

  /// Consumes: the outcome, or the error of a wait that ended without, after leaving.
  outcome<shared_result<V>> take(detail::wait_verdict how) {
    using detail::wait_verdict;
    detail::require(block_ != nullptr, "flight: used twice, or after a move");
    if (how == wait_verdict::outcome) {
      detail::flight_block<V>* const b = std::exchange(block_, nullptr);
      state = detail::wait_state::idle;
      return outcome_of(*b, role_);
    }
    state = detail::wait_state::idle;
    leave(how);
    return how == wait_verdict::timed_out   ? flight_errc::timed_out
           : how == wait_verdict::cancelled ? flight_errc::cancelled
                                            : flight_errc::recursive;
  }

 public:
  /// The outcome of a done flight; takes over the caller's reference.
  static outcome<shared_result<V>> outcome_of(detail::flight_block<V>& b, flight_role role) {
    using detail::flight_result;
    if (b.result == flight_result::value) {
      return shared_result<V>(typename shared_result<V>::from_block{}, b, role);
    }
    struct dropping {
      detail::flight_block<V>& b;
      ~dropping() { b.drop_reference(); }
    } const drop{b};
    if (b.result == flight_result::error) return b.error;
    return b.code;
  }

 private:
  template <bool Within, class Executor, class Callback>
  void call_back(time_point deadline, std::stop_token stop, within_ref within, Executor executor,
                 Callback&& callback);

  static inline const limits no_limits{};

  flight_role role_ = flight_role::joiner;
  std::uint8_t wait_progress_ = 0;  // of the flight_wait under way
  std::uint32_t kept_ = 0;          // the serial of a load kept with the flight
  detail::flight_block<V>* block_ = nullptr;
};

/// A callback with its handle and its wait, in one allocation. Where an executor was named, the
/// state is the batch too, and the block owns it.
template <class V>
template <class Executor, class Callback, bool Within>
struct flight<V>::callback_state : detail::ready_action {
  static constexpr bool named = std::is_same_v<Executor, any_executor>;

  template <class Fn>
  callback_state(flight&& from, time_point deadline, std::stop_token stop, within_ref within,
                 Executor executor, Fn&& fn)
      : ready_action{&run}, handle(std::move(from)), callback(std::in_place, std::forward<Fn>(fn)) {
    if constexpr (named) {
      batch.emplace(executor);
      batch->block = handle.block_;
      batch->dispose = [](detail::resume_batch* b) { delete own_batch::state_of(b); };
      batch->state = this;
    }
    wait.emplace(handle, deadline, std::move(stop), within, std::move(executor));
    if constexpr (named) wait->executor_.batch = &*batch;
  }

  static void run(ready_action* action) {
    auto* const self = static_cast<callback_state*>(action);
    struct finishing {
      callback_state* self;
      ~finishing() {
        self->callback.reset();
        if constexpr (!named) delete self;
      }
    } const finish{self};
    outcome<shared_result<V>> result = self->wait->end();
    (*self->callback)(std::move(result));
  }

  struct own_batch : detail::resume_batch {
    using resume_batch::resume_batch;
    static callback_state* state_of(resume_batch* b) { return static_cast<own_batch*>(b)->state; }
    callback_state* state = nullptr;
  };

  flight handle;
  std::optional<Callback> callback;
  std::optional<flight_wait<V, Executor, true, Within>> wait;
  [[no_unique_address]] std::conditional_t<named, std::optional<own_batch>, detail::no_executor>
      batch;
};

template <class V>
template <bool Within, class Executor, class Callback>
void flight<V>::call_back(time_point deadline, std::stop_token stop, within_ref within,
                          Executor executor, Callback&& callback) {
  using state_type = callback_state<Executor, std::decay_t<Callback>, Within>;
  detail::require(block_ != nullptr, "flight: used twice, or after a move");
  detail::block_base& b = *block_;
  auto* const made = new state_type(std::move(*this), deadline, std::move(stop), within,
                                    std::move(executor), std::forward<Callback>(callback));
  if constexpr (state_type::named) {
    b.lock();
    made->batch->next = b.room.more_batches;
    b.room.more_batches = &*made->batch;
    b.unlock();
  }
  try {
    made->wait->begin(
        reinterpret_cast<std::uintptr_t>(static_cast<detail::ready_action*>(made)) | 1, true);
  } catch (...) {
    if constexpr (state_type::named) {  // the block owns it; leave the flight now
      made->wait.reset();
      (void)flight(std::move(made->handle));
    } else {
      delete made;
    }
    throw;
  }
}

SINGLEFLIGHT_END_NAMESPACE
