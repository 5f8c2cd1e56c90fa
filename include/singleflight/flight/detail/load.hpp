// SPDX-License-Identifier: Apache-2.0
#pragma once

// load: how a loader is called, and how an owned one answers.
//
// A loader that takes a flight_promise is the primitive. The two others are adapters on the same
// answer: a plain loader answers with what it returns, an awaitable one through a coroutine that
// awaits it. That coroutine's frame lives in a buffer of the load when it fits, so that a started
// load costs one allocation beside the loader's own frame.

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <stop_token>
#include <type_traits>
#include <utility>

#include "singleflight/flight/detail/flight_core.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class V>
class flight_promise;

namespace detail {

/// Misuse of a lifetime, checked in every build type.
inline void require(bool holds, const char* what) noexcept {
  if (holds) [[likely]] {
    return;
  }
  std::fprintf(stderr, "singleflight: %s\n", what);
  std::abort();
}

// ---- what a loader takes and returns ------------------------------------------------------------

template <class T>
concept awaiter = requires(T& a, std::coroutine_handle<> h) {
  { a.await_ready() } -> std::convertible_to<bool>;
  a.await_suspend(h);
  a.await_resume();
};
template <class T>
decltype(auto) get_awaiter(T&& awaitable) {
  if constexpr (requires { std::forward<T>(awaitable).operator co_await(); }) {
    return std::forward<T>(awaitable).operator co_await();
  } else if constexpr (requires { operator co_await(std::forward<T>(awaitable)); }) {
    return operator co_await(std::forward<T>(awaitable));
  } else {
    return std::forward<T>(awaitable);
  }
}
template <class T>
concept awaitable = !std::is_void_v<T> && requires(T&& t) {
  requires awaiter<std::remove_reference_t<decltype(get_awaiter(std::forward<T>(t)))>>;
};

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
      form != loader_form::unfit,
      "singleflight: a loader takes nothing, a flight_context&, a std::stop_token, or (for "
      "start) a flight_promise<Value>");
  if constexpr (form == loader_form::nothing) {
    return std::invoke(fn);
  } else if constexpr (form == loader_form::context) {
    return std::invoke(fn, const_cast<flight_context&>(context));
  } else {
    return std::invoke(fn, context.stop_token());
  }
}

// ---- answers ------------------------------------------------------------------------------------

template <class V>
struct typed_load : load_base {
  using load_base::load_base;

  // Whoever answers has seen to it that nobody else does: a promise by first_answer(), the other
  // forms by their nature.
  template <class... Args>
  void answer_value(Args&&... args) {
    auto& b = static_cast<flight_block<V>&>(*block);
    try {
      b.construct(std::forward<Args>(args)...);
    } catch (...) {
      if (platform::is_thread_exit()) {
        finish(flight_result::code, flight_errc::broken, nullptr);
        throw;
      }
      finish(flight_result::error, {}, keep_alive(std::current_exception()));
      return;
    }
    if (b.core->plain() && b.core->finish_alone(b)) {
      this->drop_flight(b);
    } else {
      finish(flight_result::value, {}, nullptr);
    }
  }
  void answer_error(std::exception_ptr error) {
    finish(flight_result::error, {}, keep_alive(std::move(error)));
  }
  void answer_code(flight_errc code) { finish(flight_result::code, code, nullptr); }
  void answer_broken() { answer_code(flight_errc::broken); }
  /// A promise has died unanswered. While an exception leaves the loader itself, that exception is
  /// the answer, and call() gives it.
  void drop_answer(std::uint32_t number) {
    const led_frame* const led = this_thread().led;
    if (led != nullptr && led->flight_id == frame.flight_id &&
        std::uncaught_exceptions() > unwinding_at_call) {
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
  int unwinding_at_call = 0;

 private:
  void finish(flight_result result, flight_errc code, std::exception_ptr error) {
    const call_scope scope;  // its tasks come last: one may end the thread
    block_base* const b = block;
    if (b->core->finish(*b, result, code, std::move(error)).over) drop_flight(*b);
  }
};

// ---- an owned loader ----------------------------------------------------------------------------

template <class V, class Fn>
struct load_impl final : typed_load<V> {
  static constexpr loader_form form = form_of<V, Fn>();

  static auto result_of() {
    if constexpr (form == loader_form::promise) {
      return std::type_identity<void>{};
    } else {
      return std::type_identity<decltype(call_loader<V>(std::declval<Fn&>(),
                                                        std::declval<const flight_context&>()))>{};
    }
  }
  using result = typename decltype(result_of())::type;
  static constexpr bool awaits = awaitable<result> && !std::convertible_to<result, V>;

  template <class Loader>
  load_impl(block_base& where, Loader&& loader)
      : typed_load<V>(where), fn_(std::forward<Loader>(loader)) {
    this->merge_drops = form != loader_form::promise && !where.core->hands_over();
  }

  bool repeatable() const noexcept override { return std::is_copy_constructible_v<Fn>; }

  bool call() override {
    this->context.emplace(*this->block->core, *this->block->node, this->frame);
    if constexpr (form == loader_form::promise) {
      this->open_attempt.store(++this->attempt, memory_order_release);
      this->unwinding_at_call = std::uncaught_exceptions();
    }
    const std::uint32_t number = this->attempt;
    try {
      if constexpr (std::is_copy_constructible_v<Fn>) {
        if (this->block->core
                ->hands_over()) {  // each attempt starts from the loader as it was given
          if constexpr (awaits) {
            await_in_frame<Fn>(*this, Fn(fn_));
          } else {
            Fn copy(fn_);
            call_now(copy);
          }
          return awaits;
        }
      }
      if constexpr (awaits) {
        await_in_frame<Fn&>(*this, fn_);
      } else {
        call_now(fn_);
      }
      return awaits;
    } catch (...) {
      if (platform::is_thread_exit()) {
        if (form != loader_form::promise || this->first_answer(number)) this->answer_broken();
        throw;
      }
      if (form != loader_form::promise || this->first_answer(number)) {
        this->answer_error(std::current_exception());
      }
    }
    return false;
  }

 private:
  void call_now(Fn& loader) {
    if constexpr (form == loader_form::promise) {
      std::invoke(loader, flight_promise<V>(*this));
    } else if constexpr (std::is_void_v<V>) {
      call_loader<V>(loader, *this->context);
      this->answer_value();
    } else {
      this->answer_value(call_loader<V>(loader, *this->context));
    }
  }

  // The coroutine that awaits an awaitable loader. It takes over the reference of the task and
  // holds it until its frame is gone, since the frame may stand in the load's own buffer.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"  // g++ 12 does not pair these two
#endif
  struct awaiting {
    struct promise_type {
      awaiting get_return_object() noexcept { return {}; }
      std::suspend_never initial_suspend() noexcept { return {}; }
      std::suspend_never final_suspend() noexcept { return {}; }
      void return_void() noexcept {}
      [[noreturn]] void unhandled_exception() { throw; }  // only what ends the thread gets here

      // Both out of line: g++ 12 would warn of freeing a pointer into the load.
      SINGLEFLIGHT_NOINLINE static void* operator new(std::size_t bytes, load_impl& load, Fn&) {
        const std::size_t total = bytes + frame_header;
        // Only a hand-over can make a second frame, while the first is still on its way out.
        const bool room =
            total <= frame_room && (!load.block->core->hands_over() ||
                                    !load.buffer_used_.exchange(true, memory_order_acquire));
        std::byte* const memory =
            room ? load.frame_buffer_
                 : static_cast<std::byte*>(platform::allocate(total, frame_alignment));
        ::new (static_cast<void*>(memory)) load_impl*(&load);
        return memory + frame_header;
      }
      SINGLEFLIGHT_NOINLINE static void operator delete(void* frame) noexcept {
        std::byte* const memory = static_cast<std::byte*>(frame) - frame_header;
        load_impl& load = **reinterpret_cast<load_impl**>(memory);
        if (memory != load.frame_buffer_) {
          platform::deallocate(memory, frame_alignment);
        } else {
          load.buffer_used_.store(false, memory_order_release);
        }
        load.end_run();
      }
    };
  };
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
  struct answering {  // a frame that is destroyed before its end answers as broken
    load_impl& load;
    bool answered = false;
    explicit answering(load_impl& l) noexcept : load(l) {}
    answering(const answering&) = delete;
    answering& operator=(const answering&) = delete;
    ~answering() {
      if (!answered) load.answer_broken();
    }
  };

  template <class Loader>
  static awaiting await_in_frame(load_impl& load, Loader loader) {
    answering answer(load);
    std::exception_ptr error;
    try {
      if constexpr (std::is_void_v<V>) {
        co_await call_loader<V>(loader, *load.context);
        answer.answered = true;
        load.answer_value();
      } else {
        // Within the full expression: what is awaited may return a reference into itself.
        const auto take = [&answer, &load](auto&& value) {
          answer.answered = true;
          load.answer_value(std::forward<decltype(value)>(value));
        };
        take(co_await call_loader<V>(loader, *load.context));
      }
    } catch (...) {
      if (platform::is_thread_exit()) throw;
      error = std::current_exception();
    }
    if (error != nullptr) {
      answer.answered = true;
      load.answer_error(std::move(error));
    }
  }

  static constexpr std::size_t frame_alignment = 16;
  static constexpr std::size_t frame_header = 16;
  static consteval std::size_t frame_guess() {
    if constexpr (awaits) {
      using awaiter_type = decltype(get_awaiter(std::declval<result>()));
      return 240 + sizeof(std::remove_cvref_t<result>) + sizeof(std::remove_cvref_t<awaiter_type>) +
             sizeof(typename flight_block<V>::stored);
    } else {
      return 1;
    }
  }
  static constexpr std::size_t frame_room = frame_guess();

  [[no_unique_address]] Fn fn_;
  atomic<bool> buffer_used_{false};
  alignas(frame_alignment) std::byte frame_buffer_[frame_room];
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
