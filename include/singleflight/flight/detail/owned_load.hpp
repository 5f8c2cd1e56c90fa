// SPDX-License-Identifier: Apache-2.0
#pragma once

// owned_load: a load that owns its loader: how it calls each form of loader, and how start() makes
// one.
//
// An awaited loader does not resume a coroutine, but an object in the load that has the layout of
// one (platform::coroutine_frame). So a started load costs one allocation in addition to the
// loader's own, and no frame is allocated to await it, whether it is ready or suspends (4 ns of
// 58).

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

/// A loader whose member `in` is the gathering with which it is called.
struct gathered_loader {};

// ---- an owned loader ----------------------------------------------------------------------------

template <class V, class Fn>
struct owned_load final : answering_load {
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
      : answering_load(where, awaits), fn_(std::forward<Loader>(loader)) {
    this->merge_drops = form != loader_form::promise && !where.core->hands_over();
  }

  /// Returns the loader, for the code that made this load; must not be called while it may run on
  /// another thread.
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
  /// Whether each attempt calls a copy of the loader, so that it starts from the original.
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
  SINGLEFLIGHT_NOINLINE void invoke_copy(void* at) {
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

  // ---- an awaited loader: the steps of `co_await loader()`, without a coroutine -----------------

  SINGLEFLIGHT_INLINE void call_and_await() {
    if constexpr (std::is_copy_constructible_v<Fn>) {
      if (copies_loader()) {  // attempts may overlap: one ends while the next begins
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

  /// The loader (a reference, or a copy), the awaitable that it returned, and the frame through
  /// which that resumes this object. Holds the reference of the run.
  template <class Loader>
  struct awaiting final : platform::coroutine_frame, platform::allocated {
    awaiting(owned_load& load, Fn& from)
        : coroutine_frame{&resume_it, &drop_it}, load_(load), loader_(from) {}

    /// Once it has suspended, this object may be destroyed.
    void begin() {
      std::coroutine_handle<> next;
      bool suspended = false;
      std::exception_ptr error;
      try {
        awaited_.emplace([this]() -> result {  // constructed in place: it may be unable to move
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
    // Tasks that the answer lets run on this thread run last: one may end the thread.
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
        // In one expression: the awaitable may return a reference into itself.
        if constexpr (std::is_void_v<V>) {
          awaited_->resume();
          answered = true;
          load_.template answer_value<V>();
        } else {
          const auto take = [&](auto&& value) {
            answered = true;
            load_.template answer_value<V>(std::forward<decltype(value)>(value));
          };
          take(awaited_->resume());
        }
      } catch (...) {
        if (answered) {  // the thread ends after the answer
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
    /// Called within a catch (...), unanswered: returns the error, to be reported outside the
    /// handler.
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
    std::optional<wandering_load> wandering_;  ///< once it may continue on another thread
    Loader loader_;
    std::optional<awaited_call<result>> awaited_;
  };

  struct nothing {};
  union place {
    place() noexcept {}
    ~place() {}
    std::conditional_t<awaits, awaiting<Fn&>, nothing> single;  // it destroys itself
  };

  [[no_unique_address]] Fn fn_;
  [[no_unique_address]] std::conditional_t<awaits, place, nothing> place_;
};

/// A loader that a call of start() moves into the load that will own it, without its type. So only
/// the making of the load is compiled for each loader, and the rest of start() once for a group.
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
  /// Returns how many bytes the load needs at most, padding in front of it included.
  std::size_t room() const noexcept { return operations_->room; }
  /// Makes the load within `room`, which has the alignment of a block.
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
