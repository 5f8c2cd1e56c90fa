// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_task: a callable as a node of a task_group's queue, and later of its list of errors.

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include "singleflight/core/outcome.hpp"
#include "singleflight/core/support/platform.hpp"
#include "singleflight/core/support/stop_token.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// A task that has failed.
struct task_error {
  std::size_t index;         ///< which call of go it came with, from 0
  std::exception_ptr error;  ///< never null
};

namespace detail {

class task_group;
std::stop_token token_of(task_group& group);

/// The memory of a task that has ended, for one that comes later.
struct task_block {
  static constexpr std::size_t bytes = 128;
  static constexpr std::size_t alignment = 16;
  task_block* next;

  static void* make() { return platform::allocate(bytes, alignment); }
  static void free(void* block) noexcept { platform::deallocate(block, alignment); }
};

/// A task in the queue; once it has failed, the record of its error.
struct group_task {
  group_task() = default;
  group_task(const group_task&) = delete;
  group_task& operator=(const group_task&) = delete;
  virtual ~group_task() = default;
  /// Calls the callable and destroys it, also when it throws.
  virtual void run(task_group& group) = 0;
  /// Destroys the task. Returns its memory if that is a block; else frees it, and returns null.
  virtual task_block* end() noexcept = 0;

  group_task* next = nullptr;
  std::size_t index = 0;
  std::exception_ptr error;  ///< null in a record: the task has ended its thread
};
/// Destroys a task, and frees its memory.
struct end_of_task {
  void operator()(group_task* t) const noexcept {
    if (task_block* const block = t->end()) task_block::free(block);
  }
};
using owned_task = std::unique_ptr<group_task, end_of_task>;

/// A list of tasks in order.
struct group_tasks {
  group_task* first = nullptr;
  group_task* last = nullptr;
  std::size_t count = 0;

  void push(group_task& t) noexcept {
    t.next = nullptr;
    (last != nullptr ? last->next : first) = &t;
    last = &t;
    ++count;
  }
  group_task* pop() noexcept {
    group_task* const t = first;
    first = t->next;
    if (first == nullptr) last = nullptr;
    --count;
    return t;
  }
  static void destroy(group_tasks all) noexcept {
    while (all.first != nullptr) end_of_task()(all.pop());
  }
};

/// Returns the errors that `failed` records, which `lock` guards; nothing is allocated under the
/// lock.
template <class Lock>
std::vector<task_error> errors_of(const group_tasks& failed, Lock& lock) {
  std::vector<task_error> all;
  for (;;) {
    lock.lock();
    const std::size_t count = failed.count;
    if (count <= all.capacity()) {
      for (const group_task* t = failed.first; t != nullptr; t = t->next) {
        all.push_back({t->index, t->error});
      }
      lock.unlock();
      break;
    }
    lock.unlock();
    all.reserve(count);
  }
  for (task_error& e : all) {
    if (e.error == nullptr) e.error = outcome<void>(flight_errc::broken).exception();
  }
  return all;
}

// ---- tasks made of callables --------------------------------------------------------------------

template <class Fn>
concept plain_task = std::is_invocable_v<Fn&>;
template <class Fn>
concept stoppable_task = !plain_task<Fn> && std::is_invocable_v<Fn&, std::stop_token>;

/// Calls `fn`, with a stop token if it takes one.
template <class Fn, class Token>
decltype(auto) call_task(Fn& fn, Token&& token) {
  static_assert(plain_task<Fn> || stoppable_task<Fn>,
                "singleflight: a task takes nothing, or a std::stop_token");
  if constexpr (plain_task<Fn>) {
    return std::invoke(fn);
  } else if constexpr (stoppable_task<Fn>) {
    return std::invoke(fn, token());
  }
}
/// What a callable of either form returns.
template <class Fn>
using task_result =
    decltype(detail::call_task(std::declval<Fn&>(), std::declval<std::stop_token (&)()>()));

template <class Fn>
struct group_task_of final : group_task {
  template <class Arg>
  explicit group_task_of(Arg&& arg) : fn(std::in_place, std::forward<Arg>(arg)) {}
  void run(task_group& group) override {
    struct ending {
      std::optional<Fn>& fn;
      ~ending() { fn.reset(); }
    } const at_end{fn};
    detail::call_task(*fn, [&group] { return token_of(group); });
  }
  task_block* end() noexcept override {
    this->~group_task_of();
    if constexpr (fits_block()) {
      return ::new (static_cast<void*>(this)) task_block{nullptr};
    } else {
      platform::deallocate(this, alignof(group_task_of));
      return nullptr;
    }
  }
  static constexpr bool fits_block() {
    constexpr bool is_aligned = alignof(group_task_of) <= task_block::alignment;
    return is_aligned && sizeof(group_task_of) <= task_block::bytes;
  }
  std::optional<Fn> fn;
};

/// Makes a task of a callable, in a block of `blocks` (take() returns one, give_back() accepts it)
/// if it fits.
template <class Blocks, class Fn>
owned_task make_group_task(Blocks& blocks, Fn&& fn) {
  using stored = std::decay_t<Fn>;
  using made = group_task_of<stored>;
  static_assert(std::is_void_v<task_result<stored>>,
                "singleflight: a task returns nothing and reports errors by throwing; collect "
                "and run_all keep results");
  struct memory {
    Blocks& blocks;
    void* at = made::fits_block() ? blocks.take() : platform::allocate(sizeof(made), alignof(made));
    ~memory() {  // the callable's constructor has thrown
      if (at == nullptr) return;
      if constexpr (made::fits_block()) {
        blocks.give_back(at);
      } else {
        platform::deallocate(at, alignof(made));
      }
    }
  } own{blocks};
  owned_task t(::new (own.at) made(std::forward<Fn>(fn)));
  own.at = nullptr;
  return t;
}

// ---- calls of a range, whose results are kept ---------------------------------------------------

/// A call of a range as a task holds it: by reference, where the range keeps it.
template <class Calls>
using held_call =
    std::conditional_t<std::ranges::forward_range<Calls> &&
                           std::is_lvalue_reference_v<std::ranges::range_reference_t<Calls>>,
                       std::ranges::range_reference_t<Calls>,
                       std::remove_cvref_t<std::ranges::range_reference_t<Calls>>>;
template <class Calls>
using result_of_calls = std::remove_cv_t<task_result<std::remove_reference_t<held_call<Calls>>>>;

/// A call, and what stores its result: `keep` is passed a callable that makes the call.
template <class Held, class Keep>
struct kept_call {
  Held call;
  Keep keep;
  void operator()()
    requires plain_task<std::remove_reference_t<Held>>
  {
    keep([this]() -> decltype(auto) { return std::invoke(call); });
  }
  void operator()(std::stop_token stop)
    requires stoppable_task<std::remove_reference_t<Held>>
  {
    keep([&]() -> decltype(auto) { return std::invoke(call, std::move(stop)); });
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
