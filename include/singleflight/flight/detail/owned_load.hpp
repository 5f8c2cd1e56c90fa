// SPDX-License-Identifier: Apache-2.0
#pragma once

// owned_load: a load that owns its loader: how it calls one of each form, and how start() makes one.
//
// A loader that is awaited resumes not a coroutine but a place in the load that looks like one
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

#include "singleflight/core/support/awaitable.hpp"
#include "singleflight/flight/detail/load_answer.hpp"
#include "singleflight/flight/detail/loader_form.hpp"
#include "singleflight/flight/detail/promise_door.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// A loader whose member `in` says with which others it is called.
struct gathered_loader {};

// ---- an owned loader ----------------------------------------------------------------------------

template <class V, class Fn>
struct owned_load final : typed_load<V> {
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
  owned_load(block_base& where, Loader&& loader)
      : typed_load<V>(where, awaits), fn_(std::forward<Loader>(loader)) {
    this->merge_drops = form != loader_form::promise && !where.core->hands_over();
  }

  /// For who has made this load: not while it may run elsewhere.
  Fn& loader() noexcept { return fn_; }

  void destroy() noexcept override { this->~owned_load(); }
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
        if (copies_loader()) return invoke_copy(at);
      }
      invoke(fn_, at);
    }
  }
  SINGLEFLIGHT_COLD void invoke_copy(void* at) {
    Fn copy(fn_);
    invoke(copy, at);
  }
  void invoke(Fn& loader, void* at) {
    if constexpr (form == loader_form::promise) {
      std::invoke(loader, promise_door::make<V>(*this));
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
    (::new (static_cast<void*>(&place_.single)) awaiting<Fn&>(*this, fn_))->begin();
  }

  /// The loader (a reference, or a copy of its own), what it returned, and the frame that this is
  /// to resume. Holds the reference of the run.
  template <class Loader>
  struct awaiting final : platform::coroutine_frame, platform::allocated {
    awaiting(owned_load& load, Fn& from)
        : coroutine_frame{&resume_it, &drop_it}, load_(load), loader_(from) {}

    /// Once it has suspended, this object may be gone.
    void begin() {
      std::coroutine_handle<> next;
      bool suspended = false;
      std::exception_ptr error;
      try {
        awaited_.emplace([this]() -> result {  // as it is: it may be unable to move
          return detail::call_loader<V>(loader_, *load_.context);
        });
        if (!awaited_->ready()) {
          wandering_.emplace();
          suspended = awaited_->suspend(this->handle(), next);
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
          awaited_->resume();
          answered = true;
          load_.answer_value();
        } else {
          const auto take = [&](auto&& value) {
            answered = true;
            load_.answer_value(std::forward<decltype(value)>(value));
          };
          take(awaited_->resume());
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
      awaited_.reset();
      load_.answer_error(std::move(error));
    }
    void drop() {
      const ending last{*this};
      awaited_.reset();
      load_.answer_broken();
    }
    struct ending {
      awaiting& self;
      ~ending() { self.end(); }
    };
    void end() {
      owned_load& load = load_;
      if constexpr (std::is_reference_v<Loader>) {
        this->~awaiting();
      } else {
        delete this;
      }
      load.end_run();
    }

    owned_load& load_;
    std::optional<wandering_load> wandering_;  ///< from when it may go on elsewhere
    Loader loader_;
    std::optional<awaited_call<result>> awaited_;
  };

  struct nothing {};
  union place {
    place() noexcept {}
    ~place() {}
    std::conditional_t<awaits, awaiting<Fn&>, nothing> single;  // it ends itself
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
      return {reinterpret_cast<void*>(&loader), operations_of<Loader>};
    } else {
      return {const_cast<void*>(static_cast<const void*>(std::addressof(loader))),
              operations_of<Loader>};
    }
  }
  /// How many bytes it may take from the begin of its room to the end of the load.
  std::size_t room() const noexcept { return operations_->room; }
  /// Makes the load within `room`, which is aligned as a block is.
  load_base& make(void* room, block_base& where) const {
    return operations_->make(room, where, loader_);
  }

 private:
  struct operations {
    std::size_t room;
    load_base& (*make)(void* room, block_base& where, void* loader);
  };
  template <class Loader>
  static load_base& make_load(void* room, block_base& where, void* loader) {
    using load = owned_load<V, std::decay_t<Loader>>;
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
      sizeof(owned_load<V, std::decay_t<Loader>>) +
      (alignof(owned_load<V, std::decay_t<Loader>>) > alignof(block_base)
           ? alignof(owned_load<V, std::decay_t<Loader>>) - alignof(block_base)
           : 0);
  template <class Loader>
  static constexpr operations operations_of{room_for<Loader>, &make_load<Loader>};

  given_loader(void* loader, const operations& how) noexcept : loader_(loader), operations_(&how) {}

  void* loader_;
  const operations* operations_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
