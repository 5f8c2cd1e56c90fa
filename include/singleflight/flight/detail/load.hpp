// SPDX-License-Identifier: Apache-2.0
#pragma once

// load: how a loader is called, and how an owned one answers.
//
// A loader that takes a flight_promise is the primitive. The two others are adapters on the same
// answer: a plain loader answers with what it returns, an awaitable one when what it returned
// resumes us. What it resumes is not a coroutine but a place in the load that looks like one
// (platform::coroutine_frame): a started load costs one allocation beside the loader's own, and
// whether that is awaited, ready or suspended, no frame is made for it (4 ns of 58).

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "singleflight/core/detail/awaitable.hpp"
#include "singleflight/core/detail/require.hpp"
#include "singleflight/core/detail/stop_token.hpp"
#include "singleflight/core/detail/thread_state.hpp"
#include "singleflight/flight/detail/flight_core.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class V>
class flight_promise;

namespace detail {

// ---- what a loader takes and returns ------------------------------------------------------------

enum class loader_form { nothing, context, stop, promise, unfit };

template <class V, class Fn>
consteval loader_form form_of() {
  if constexpr (std::is_invocable_v<Fn&>) {
    return loader_form::nothing;
  } else if constexpr (std::is_invocable_v<Fn&, flight_context&>) {
    return loader_form::context;
  } else if constexpr (std::is_invocable_v<Fn&, std::stop_token>) {
    return loader_form::stop;
  } else if constexpr (std::is_invocable_v<Fn&, flight_promise<V>>) {
    return loader_form::promise;
  } else {
    return loader_form::unfit;
  }
}

/// Calls a loader that answers by returning.
template <class V, class Fn>
decltype(auto) call_loader(Fn& fn, const flight_context& context) {
  constexpr loader_form form = form_of<V, Fn>();
  static_assert(
      form != loader_form::unfit && form != loader_form::promise,
      "singleflight: a loader takes nothing, a flight_context&, a std::stop_token, or (for start, "
      "but not for run) a flight_promise<Value>");
  if constexpr (form == loader_form::nothing) {
    return std::invoke(fn);
  } else if constexpr (form == loader_form::context) {
    return std::invoke(fn, const_cast<flight_context&>(context));
  } else {
    return std::invoke(fn, context.stop_token());
  }
}

/// Calls a loader that answers by returning, and constructs at `at` what it returns.
template <class V, class Fn>
void make_value_of(void* at, Fn& fn, const flight_context& context) {
  if constexpr (std::is_void_v<V>) {
    detail::call_loader<V>(fn, context);
    ::new (at) std::monostate();
  } else {
    const auto call = [&]() -> decltype(auto) { return detail::call_loader<V>(fn, context); };
    detail::construct_from_call<V>(at, call);
  }
}

/// The loader of a blocking call, as all that may come of that call sees it: its caller's own, by
/// address. So what waits, leads and settles is compiled once for a group, and for each loader only
/// how it is called.
template <class V>
class lent_loader {
 public:
  template <class Fn>
  explicit lent_loader(Fn& fn) noexcept : make_(&make<Fn>) {
    if constexpr (std::is_function_v<Fn>) {
      loader_ = reinterpret_cast<void*>(&fn);
    } else {
      loader_ = const_cast<void*>(static_cast<const void*>(std::addressof(fn)));
    }
  }
  /// Constructs at `at` what the loader returns.
  void operator()(void* at, const flight_context& context) const { make_(loader_, at, context); }

 private:
  template <class Fn>
  static void make(void* loader, void* at, const flight_context& context) {
    if constexpr (std::is_function_v<Fn>) {
      make_value_of<V>(at, *reinterpret_cast<Fn*>(loader), context);
    } else {
      make_value_of<V>(at, *static_cast<Fn*>(loader), context);
    }
  }

  void* loader_;
  void (*make_)(void*, void*, const flight_context&);
};

// ---- answers ------------------------------------------------------------------------------------

template <class V>
struct typed_load : load_base {
  using load_base::load_base;
  using stored = typename flight_block<V>::stored;

  // Whoever answers has seen to it that nobody else does: a promise by first_answer(), the other
  // forms by their nature.
  template <class... Args>
  void answer_value(Args&&... args) {
    const auto make = [&](void* at) {
      detail::construct_of<stored>(at, std::forward<Args>(args)...);
    };
    answer_made(make);
  }
  void answer_error(std::exception_ptr error) {
    finish(flight_result::error, {}, keep_alive(std::move(error)));
  }
  void answer_code(flight_errc code) { finish(flight_result::code, code, nullptr); }
  void answer_broken() { answer_code(flight_errc::broken); }
  /// The promise of attempt `number` was destroyed unanswered: broken, at once or, while an
  /// exception passes within the call that was given it, once that call has ended.
  void drop_answer(std::uint32_t number) {
    for (promise_call* c = this_thread().promise_calls; c != nullptr; c = c->outer) {
      if (c->load != this || c->attempt != number) continue;
      if (std::uncaught_exceptions() <= c->exceptions_before ||
          !platform::holds(rule::leaving_error_is_answer)) {
        break;
      }
      c->dropped = true;
      return;
    }
    if (first_answer(number)) answer_broken();
  }
  /// True for the one answer of attempt `number`; a promise of an earlier attempt comes too late.
  bool first_answer(std::uint32_t number) noexcept {
    return open_attempt.compare_exchange_strong(number, 0, memory_order_acq_rel,
                                                memory_order_relaxed);
  }

  std::optional<flight_context> context;  ///< of the attempt that runs
  atomic<std::uint32_t> open_attempt{
      0};  ///< its number, until it is answered; promise loaders only
  std::uint32_t attempt = 0;

 protected:
  ~typed_load() = default;

  /// The call of a promise loader. Attempts may overlap, so what is known of one is on its stack.
  struct answering : promise_call {
    explicit answering(typed_load& of)
        : promise_call{&of, ++of.attempt, std::uncaught_exceptions(), this_thread().promise_calls,
                       [](promise_call& c) { static_cast<answering&>(c).end(nullptr); }},
          self(of),
          on(this_thread()) {
      self.open_attempt.store(attempt, memory_order_release);
      on.promise_calls = this;
    }
    answering(const answering&) = delete;
    answering& operator=(const answering&) = delete;
    ~answering() { on.promise_calls = outer; }

    /// The loader has thrown `error`, or is done with its promise if that was dropped.
    void end(std::exception_ptr error) {
      if (error != nullptr) {
        if (self.first_answer(attempt)) self.answer_error(std::move(error));
      } else if (std::exchange(dropped, false) &&
                 platform::holds(rule::dropped_promise_is_broken)) {
        if (self.first_answer(attempt)) self.answer_broken();
      }
    }
    typed_load& self;
    thread_state& on;
  };

  /// Calls the loader: with a promise, or to construct at `at` what it returns.
  virtual void invoke(void* at) = 0;

  void call_with_promise() {
    answering call(*this);
    std::exception_ptr error;
    try {
      invoke(nullptr);
    } catch (...) {
      if (platform::is_thread_exit()) {
        if (first_answer(call.attempt)) answer_broken();
        throw;
      }
      error = std::current_exception();
    }
    call.end(std::move(error));
  }
  void call_and_answer() {
    answer_made([this](void* at) { invoke(at); });
  }

 private:
  /// Answers with the value that `make` constructs, or with what it throws.
  template <class Make>
  void answer_made(const Make& make) {
    auto& b = static_cast<flight_block<V>&>(*block);
    std::exception_ptr error;  // reported outside the handler: a report may end the thread
    try {
      b.construct_by(make);
    } catch (...) {
      if (platform::is_thread_exit()) {
        finish(flight_result::code, flight_errc::broken, nullptr);
        throw;
      }
      error = std::current_exception();
    }
    if (error != nullptr) {
      finish(flight_result::error, {}, keep_alive(std::move(error)));
    } else if (b.node != nullptr && b.core->plain() && b.core->finish_alone(b, *this)) {
      this->drop_flight(b);
    } else {
      finish(flight_result::value, {}, nullptr);
    }
  }
  void finish(flight_result result, flight_errc code, std::exception_ptr error) {
    const call_scope scope;  // its tasks come last: one may end the thread
    block_base* const b = block;
    if (b->core->finish(*b, result, code, std::move(error)).over) drop_flight(*b);
  }
};

/// A loader whose member `in` says with which others it is called.
struct gathered_loader {};

// ---- an owned loader ----------------------------------------------------------------------------

template <class V, class Fn>
struct load_impl final : typed_load<V> {
  static constexpr loader_form form = form_of<V, Fn>();

  static auto result_of() {
    if constexpr (form == loader_form::promise) {
      return std::type_identity<void>{};
    } else {
      return std::type_identity<decltype(detail::call_loader<V>(
          std::declval<Fn&>(), std::declval<const flight_context&>()))>{};
    }
  }
  using result = typename decltype(result_of())::type;
  static constexpr bool awaits = awaitable<result> && !std::convertible_to<result, V>;

  template <class Loader>
  load_impl(block_base& where, Loader&& loader)
      : typed_load<V>(where, awaits), fn_(std::forward<Loader>(loader)) {
    this->merge_drops = form != loader_form::promise && !where.core->hands_over();
  }

  /// For who has made this load: not while it may run elsewhere.
  Fn& loader() noexcept { return fn_; }

  void destroy() noexcept override { this->~load_impl(); }
  bool repeatable() const noexcept override { return std::is_copy_constructible_v<Fn>; }
  std::shared_ptr<gathering> gathered_in() const noexcept override {
    if constexpr (std::derived_from<Fn, gathered_loader>) {
      return fn_.in;
    } else {
      return nullptr;
    }
  }

  void call() override {
    this->context.emplace(*this->block->core, *this->block->node, this->frame);
    if constexpr (awaits) {
      call_and_await();
    } else if constexpr (form == loader_form::promise) {
      this->call_with_promise();
    } else {
      this->call_and_answer();
    }
  }

 private:
  /// Each attempt starts from the loader as it was given.
  bool copies_loader() const noexcept {
    return std::is_copy_constructible_v<Fn> && this->block->core->hands_over();
  }

  void invoke(void* at) override {
    if constexpr (!awaits) {
      if constexpr (std::is_copy_constructible_v<Fn>) {
        if (copies_loader()) {
          Fn copy(fn_);
          invoke(copy, at);
          return;
        }
      }
      invoke(fn_, at);
    }
  }
  void invoke(Fn& loader, void* at) {
    if constexpr (form == loader_form::promise) {
      std::invoke(loader, flight_promise<V>(*this));
    } else if constexpr (!awaits) {
      make_value_of<V>(at, loader, *this->context);
    }
  }

  // ---- a loader that is awaited: what `co_await loader()` does, without a coroutine -------------

  SINGLEFLIGHT_INLINE void call_and_await() {
    if constexpr (std::is_copy_constructible_v<Fn>) {
      if (copies_loader()) {  // attempts may overlap: one on its way out, one on its way in
        awaiting<Fn>* own = nullptr;
        std::exception_ptr error;
        try {
          own = new awaiting<Fn>(*this, fn_);
        } catch (...) {
          if (platform::is_thread_exit()) {
            this->answer_broken();
            this->end_run();
            throw;
          }
          error = std::current_exception();
        }
        if (error != nullptr) {
          this->answer_error(std::move(error));
          this->end_run();
        } else {
          own->begin();
        }
        return;
      }
    }
    (::new (static_cast<void*>(&place_.of_one)) awaiting<Fn&>(*this, fn_))->begin();
  }

  /// The loader (a reference, or a copy of its own), what it returned, and the frame that this is
  /// to resume. Holds the reference of the run.
  template <class Loader>
  struct awaiting final : platform::coroutine_frame, platform::allocated {
    awaiting(load_impl& of, Fn& from)
        : coroutine_frame{&resume_it, &drop_it}, load_(of), loader_(from) {}

    /// Once it has suspended, this object may be gone.
    void begin() {
      std::coroutine_handle<> next;
      bool suspended = false;
      std::exception_ptr error;
      try {
        what_.emplace([this]() -> result {  // as it is: it may be unable to move
          return detail::call_loader<V>(loader_, *load_.context);
        });
        if (!what_->ready()) {
          wanders_.emplace();
          suspended = what_->suspend(this->handle(), next);
        }
      } catch (...) {
        error = caught();
      }
      if (error != nullptr) {
        fail(std::move(error));
      } else if (!suspended) {
        resume();
      } else if (next) {
        next.resume();
      }
    }

   private:
    // What the answer lets run on this thread comes last: it may end the thread.
    static void resume_it(void* frame) {
      const call_scope scope;
      of_frame(frame).resume();
    }
    static void drop_it(void* frame) {
      const call_scope scope;
      of_frame(frame).drop();
    }
    static awaiting& of_frame(void* frame) noexcept {
      return static_cast<awaiting&>(*static_cast<platform::coroutine_frame*>(frame));
    }

    void resume() {
      bool answered = false;
      std::exception_ptr error;
      try {
        // In one expression: what was awaited may return a reference into itself.
        if constexpr (std::is_void_v<V>) {
          what_->resume();
          answered = true;
          load_.answer_value();
        } else {
          const auto take = [&](auto&& value) {
            answered = true;
            load_.answer_value(std::forward<decltype(value)>(value));
          };
          take(what_->resume());
        }
      } catch (...) {
        if (answered) {  // the thread ends, after the answer
          end();
          throw;
        }
        error = caught();
      }
      if (error != nullptr) {
        fail(std::move(error));
      } else {
        end();
      }
    }
    /// Within a catch (...), unanswered: the error, to be reported outside the handler.
    std::exception_ptr caught() {
      if (platform::is_thread_exit()) {
        drop();
        throw;
      }
      return std::current_exception();
    }
    void fail(std::exception_ptr error) {
      const ending last{*this};
      what_.reset();
      load_.answer_error(std::move(error));
    }
    void drop() {
      const ending last{*this};
      what_.reset();
      load_.answer_broken();
    }
    struct ending {
      awaiting& self;
      ~ending() { self.end(); }
    };
    void end() {
      load_impl& of = load_;
      if constexpr (std::is_reference_v<Loader>) {
        this->~awaiting();
      } else {
        delete this;
      }
      of.end_run();
    }

    load_impl& load_;
    std::optional<wandering_load> wanders_;  ///< from when it may go on elsewhere
    Loader loader_;
    std::optional<awaited_call<result>> what_;
  };

  struct nothing {};
  union place {
    place() noexcept {}
    ~place() {}
    std::conditional_t<awaits, awaiting<Fn&>, nothing> of_one;  // it ends itself
  };

  [[no_unique_address]] Fn fn_;
  [[no_unique_address]] std::conditional_t<awaits, place, nothing> place_;
};

/// A loader on its way from a call of start() into the load that will own it. So all else that
/// start() does is compiled once for a group, and for each loader only the making of its load.
template <class V>
class given_loader {
 public:
  template <class Loader>
  static given_loader of(std::remove_reference_t<Loader>& loader) noexcept {
    if constexpr (std::is_function_v<std::remove_reference_t<Loader>>) {
      return {reinterpret_cast<void*>(&loader), how_to<Loader>};
    } else {
      return {const_cast<void*>(static_cast<const void*>(std::addressof(loader))), how_to<Loader>};
    }
  }
  /// How many bytes it may take from the begin of its room to the end of the load.
  std::size_t room() const noexcept { return how_->room; }
  /// Makes the load within `room`, which is aligned as a block is.
  load_base& make(void* room, block_base& where) const { return how_->make(room, where, loader_); }

 private:
  struct kind {
    std::size_t room;
    load_base& (*make)(void* room, block_base& where, void* loader);
  };
  template <class Loader>
  static load_base& make_load(void* room, block_base& where, void* loader) {
    using load = load_impl<V, std::decay_t<Loader>>;
    if constexpr (alignof(load) > alignof(block_base)) {
      const auto from = reinterpret_cast<std::uintptr_t>(room);
      room = static_cast<std::byte*>(room) + (alignof(load) - from % alignof(load)) % alignof(load);
    }
    if constexpr (std::is_function_v<std::remove_reference_t<Loader>>) {
      return *::new (room) load(where, reinterpret_cast<std::decay_t<Loader>>(loader));
    } else {
      return *::new (room) load(
          where, static_cast<Loader&&>(*static_cast<std::remove_reference_t<Loader>*>(loader)));
    }
  }
  template <class Loader>
  static constexpr std::size_t room_for =
      sizeof(load_impl<V, std::decay_t<Loader>>) +
      (alignof(load_impl<V, std::decay_t<Loader>>) > alignof(block_base)
           ? alignof(load_impl<V, std::decay_t<Loader>>) - alignof(block_base)
           : 0);
  template <class Loader>
  static constexpr kind how_to{room_for<Loader>, &make_load<Loader>};

  given_loader(void* loader, const kind& how) noexcept : loader_(loader), how_(&how) {}

  void* loader_;
  const kind* how_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
