// SPDX-License-Identifier: Apache-2.0
#pragma once

/// executor: where loads, coroutines and callbacks run.
///
/// An executor takes a `task` and runs it later, on a thread of its choice. The call that hands the
/// task over must neither run it nor block (until another task has run, or until a queue has
/// space): it may be made from within a timer's fire, for which the end of a load waits. An
/// executor is a callable `void(task)`, an object with a member `execute(task)` (such as
/// thread_pool), or `inline_executor`. A callable that only takes copyable functions
/// (`std::function<void()>`) is wrapped: `copyable(ex)`.
///
/// Threads     execute may be called from any thread, also concurrently.
/// Errors      an executor that throws has refused the task; one that destroys it without running
///             it has dropped it. A load then ends as `broken`; a resumption goes to
///             default_pool().
/// Lifetime    a thread_pool is held by reference and must outlive its uses; other executors are
///             copied.

#include <concepts>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "singleflight/core/support/thread_state.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

class thread_pool;

namespace detail {

/// What a task points to. It is embedded in the object to be run, so queueing allocates nothing.
struct task_node {
  using action = void (*)(task_node*, bool run);
  task_node* next = nullptr;
  action act;

  explicit task_node(action what) noexcept : act(what) {}
};

}  // namespace detail

/// A piece of work that runs once. Move-only, the size of a pointer.
class [[nodiscard]] task {
 public:
  task() noexcept = default;
  /// Wraps any callable, with one allocation.
  template <class Fn>
    requires(std::invocable<std::decay_t<Fn>&> && !std::is_same_v<std::decay_t<Fn>, task>)
  explicit task(Fn&& fn) : node_(new boxed<std::decay_t<Fn>>(std::forward<Fn>(fn))) {}
  explicit task(detail::task_node* node) noexcept : node_(node) {}
  task(task&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  task& operator=(task&& other) noexcept {
    task(std::move(other)).swap(*this);
    return *this;
  }
  ~task() {
    if (node_ != nullptr) node_->act(node_, false);
  }

  explicit operator bool() const noexcept { return node_ != nullptr; }
  /// Runs the work. Requires that it has not run yet.
  void operator()() {
    detail::task_node* const node = std::exchange(node_, nullptr);
    const detail::on_errand errand;
    node->act(node, true);
  }
  void swap(task& other) noexcept { std::swap(node_, other.node_); }
  /// Transfers the work to an intrusive queue; this task is empty afterwards.
  detail::task_node* release() noexcept { return std::exchange(node_, nullptr); }

 private:
  template <class Fn>
  struct boxed : detail::task_node {
    template <class Arg>
    explicit boxed(Arg&& arg) : task_node(&boxed::act_on), fn(std::forward<Arg>(arg)) {}
    static void act_on(task_node* node, bool run) {
      std::unique_ptr<boxed> self(static_cast<boxed*>(node));
      if (run) self->fn();
    }
    Fn fn;
  };

  detail::task_node* node_ = nullptr;
};

static_assert(sizeof(task) <= 16);

namespace detail {

/// Detects callables that take a std::function: its constructor accepts a task, but does not
/// compile.
template <class>
struct is_std_function : std::false_type {};
template <class Signature>
struct is_std_function<std::function<Signature>> : std::true_type {};
template <class R, class Arg>
is_std_function<std::remove_cvref_t<Arg>> takes_std_function(std::function<R(Arg)>*);
template <class Ex>
concept copyable_only = requires(Ex& ex) {
  requires decltype(takes_std_function(static_cast<decltype(std::function(ex))*>(nullptr)))::value;
};

}  // namespace detail

template <class E>
concept executor =
    !detail::copyable_only<E> &&
    (requires(E& ex, task t) { ex.execute(std::move(t)); } || std::invocable<E&, task>);

/// Runs tasks on the calling thread: a task is queued in the thread's trampoline and runs when the
/// outermost library call returns, with no lock held, in constant stack. On a thread that is inside
/// run() it goes to default_pool() instead, since a caller of run() may hold locks of its own; also
/// in a stop callback and in a timer's fire, for which other threads may wait. Tasks that are still
/// in the trampoline when the thread blocks in a call go to default_pool() as well: what the thread
/// waits for may depend on them.
struct inline_executor_t {
  void execute(task t) const;
};
inline constexpr inline_executor_t inline_executor{};

/// Adapts an executor that takes only copyable callables, such as
/// `std::function<void(std::function<void()>)>`. One more allocation per task.
template <class Ex>
class copyable_executor {
 public:
  explicit copyable_executor(Ex ex) : ex_(std::move(ex)) {}
  void execute(task t) {
    ex_([shared = std::make_shared<task>(std::move(t))] { (*shared)(); });
  }

 private:
  Ex ex_;
};
template <class Ex>
copyable_executor<std::decay_t<Ex>> copyable(Ex&& ex) {
  return copyable_executor<std::decay_t<Ex>>(std::forward<Ex>(ex));
}

namespace detail {

struct executor_ops {
  void (*execute)(void*, task&&);
  void (*retain)(void*) noexcept;     ///< null if there are no references to count
  void (*release)(void*) noexcept;    ///< null if there are none
  bool (*runs_here)(void*) noexcept;  ///< may the calling thread take a task back and run it?
  bool (*starved)(void*) noexcept;    ///< if it may: is a task queued that no thread will take?
};

void execute_on_default_pool(task&& t);
void post_on_default_pool(task_node* node);  // stays queued if no thread can be started
bool drop_later(task_node* node) noexcept;   // thread_pool.hpp
void hand_queue_over();                      // trampoline.hpp
void hand_queue_over(platform::unique_lock& hold);
bool runs_on_default_pool() noexcept;
bool is_default_pool_starved() noexcept;
bool is_pool_starved(const thread_pool& pool) noexcept;
void execute_on_pool(thread_pool& pool, task&& t);

struct default_pool_ops {
  static constexpr executor_ops table{
      [](void*, task&& t) { execute_on_default_pool(std::move(t)); }, nullptr, nullptr,
      [](void*) noexcept { return runs_on_default_pool(); },
      [](void*) noexcept { return is_default_pool_starved(); }};
};
struct inline_ops {
  static constexpr executor_ops table{
      [](void*, task&& t) { inline_executor.execute(std::move(t)); }, nullptr, nullptr,
      [](void*) noexcept { return this_thread().in_scope; },
      [](void*) noexcept { return true; }};  // the queue is the calling thread's own
};
struct pool_ops {
  static constexpr executor_ops table{
      [](void* pool, task&& t) { execute_on_pool(*static_cast<thread_pool*>(pool), std::move(t)); },
      nullptr, nullptr, [](void* pool) noexcept { return this_thread().pool == pool; },
      [](void* pool) noexcept { return is_pool_starved(*static_cast<thread_pool*>(pool)); }};
};
template <class Ex>
struct shared_ops {
  struct holder {
    template <class Arg>
    explicit holder(Arg&& arg) : ex(std::forward<Arg>(arg)) {}
    atomic<std::uint32_t> references{1};
    Ex ex;
  };
  static constexpr executor_ops table{
      [](void* object, task&& t) {
        Ex& ex = static_cast<holder*>(object)->ex;
        if constexpr (requires { ex.execute(std::move(t)); }) {
          ex.execute(std::move(t));
        } else if constexpr (std::is_invocable_v<Ex&, task&&>) {
          std::invoke(ex, std::move(t));
        }
      },
      [](void* object) noexcept {
        static_cast<holder*>(object)->references.fetch_add(1, memory_order_relaxed);
      },
      [](void* object) noexcept {
        auto* const held = static_cast<holder*>(object);
        // The release orders this owner's uses before the delete by the last one (acquire).
        if (held->references.fetch_sub(
                1, platform::acquire_release(rule::last_executor_drop_acquires,
                                             rule::executor_drop_releases)) == 1) {
          delete held;
        }
      },
      [](void*) noexcept { return false; }, [](void*) noexcept { return false; }};
};

}  // namespace detail

/// Holds any executor, by value. The default is default_pool(). A copy increments at most one
/// counter; a conversion from anything but a pool or inline_executor allocates once.
class any_executor {
 public:
  any_executor() noexcept : ops_(&detail::default_pool_ops::table) {}
  any_executor(inline_executor_t) noexcept : ops_(&detail::inline_ops::table) {}
  any_executor(thread_pool& pool) noexcept : object_(&pool), ops_(&detail::pool_ops::table) {}
  template <class Ex>
    requires(!std::is_same_v<std::remove_cvref_t<Ex>, any_executor> &&
             !std::is_same_v<std::remove_cvref_t<Ex>, inline_executor_t> &&
             !std::is_same_v<std::remove_cvref_t<Ex>, thread_pool>)
  any_executor(Ex&& ex) {
    using type = std::decay_t<Ex>;
    static_assert(executor<type>,
                  "singleflight: this is no executor. It must take a move-only singleflight::task: "
                  "ex(task) or ex.execute(task). If it only takes copyable functions, wrap it: "
                  "singleflight::copyable(ex).");
    using ops = detail::shared_ops<type>;
    object_ = new typename ops::holder(std::forward<Ex>(ex));
    ops_ = &ops::table;
  }
  any_executor(const any_executor& other) noexcept : object_(other.object_), ops_(other.ops_) {
    if (ops_->retain != nullptr) ops_->retain(object_);
  }
  any_executor(any_executor&& other) noexcept
      : object_(std::exchange(other.object_, nullptr)),
        ops_(std::exchange(other.ops_, &detail::default_pool_ops::table)) {}
  any_executor& operator=(any_executor other) noexcept {
    std::swap(object_, other.object_);
    std::swap(ops_, other.ops_);
    return *this;
  }
  ~any_executor() {
    if (ops_->release != nullptr) ops_->release(object_);
  }

  /// Passes `t` to the executor. Throws what the executor throws; `t` has then been dropped.
  void execute(task t) const { ops_->execute(object_, std::move(t)); }
  /// Returns whether the calling thread belongs to the executor, so that it may itself run a task
  /// that is queued there.
  bool runs_here() const noexcept { return ops_->runs_here(object_); }
  /// Returns whether a queued task may have to wait for a thread that is busy now, perhaps the
  /// calling one; false if threads are on their way to all queued tasks. Requires runs_here().
  bool starved() const noexcept { return ops_->starved(object_); }
  /// Returns whether it is neither a pool nor inline_executor.
  bool is_of_a_user() const noexcept { return ops_->retain != nullptr; }
  bool is_pool() const noexcept { return !is_of_a_user() && !is_inline(); }
  bool is_inline() const noexcept { return ops_ == &detail::inline_ops::table; }
  friend bool operator==(const any_executor& a, const any_executor& b) noexcept {
    return a.object_ == b.object_ && a.ops_ == b.ops_;
  }

 private:
  void* object_ = nullptr;
  const detail::executor_ops* ops_;
};

SINGLEFLIGHT_END_NAMESPACE

#include "singleflight/core/support/trampoline.hpp"
#include "singleflight/core/thread_pool.hpp"
