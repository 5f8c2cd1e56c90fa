// SPDX-License-Identifier: Apache-2.0
#pragma once

// The model's implementation of core/support/platform.hpp: every step can be a switch of threads.
// That file includes it, in the namespace of the library, when SINGLEFLIGHT_PLATFORM names it.

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <source_location>
#include <stop_token>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "singleflight/core/support/config.hpp"
#include "support/model/scheduler.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail::platform {

using place = std::source_location;
using steady_time = std::chrono::steady_clock::time_point;
using std::memory_order_acq_rel;
using std::memory_order_acquire;
using std::memory_order_relaxed;
using std::memory_order_release;
using memory_order_t = std::memory_order;

/// Sequentially consistent, whatever order is passed.
template <class T>
class atomic {
 public:
  constexpr atomic() noexcept = default;
  constexpr atomic(T value) noexcept : value_(value) {}
  atomic(const atomic&) = delete;
  atomic& operator=(const atomic&) = delete;

  T load(memory_order_t, const place& at = place::current()) const noexcept {
    model::arrive(model::op::load, this, at);
    return value_;
  }
  void store(T value, memory_order_t, const place& at = place::current()) noexcept {
    model::arrive(model::op::store, this, at);
    value_ = value;
  }
  T exchange(T value, memory_order_t, const place& at = place::current()) noexcept {
    model::arrive(model::op::exchange, this, at);
    return std::exchange(value_, value);
  }
  bool compare_exchange_strong(T& expected, T value, memory_order_t, memory_order_t,
                               const place& at = place::current()) noexcept {
    model::arrive(model::op::exchange, this, at);
    if (value_ == expected) {
      value_ = value;
      return true;
    }
    expected = value_;
    return false;
  }
  bool compare_exchange_weak(T& expected, T value, memory_order_t success, memory_order_t failure,
                             const place& at = place::current()) noexcept {
    return compare_exchange_strong(expected, value, success, failure, at);
  }
  T fetch_add(T n, memory_order_t, const place& at = place::current()) noexcept {
    model::arrive(model::op::exchange, this, at);
    return std::exchange(value_, static_cast<T>(value_ + n));
  }
  T fetch_sub(T n, memory_order_t, const place& at = place::current()) noexcept {
    model::arrive(model::op::exchange, this, at);
    return std::exchange(value_, static_cast<T>(value_ - n));
  }
  T fetch_or(T n, memory_order_t, const place& at = place::current()) noexcept {
    model::arrive(model::op::exchange, this, at);
    return std::exchange(value_, static_cast<T>(value_ | n));
  }
  T fetch_and(T n, memory_order_t, const place& at = place::current()) noexcept {
    model::arrive(model::op::exchange, this, at);
    return std::exchange(value_, static_cast<T>(value_ & n));
  }

  T settled() const noexcept { return value_; }

 private:
  T value_{};
};

// ---- waiting on a word --------------------------------------------------------------------------

inline constexpr std::uint32_t all_channels = 0x7fffffffU;
inline constexpr std::uint32_t nap_channel = 0x80000000U;

inline steady_time now() noexcept {
  return steady_time(std::chrono::steady_clock::duration(model::now()));
}

template <class Word>
bool wait(const atomic<Word>& word, Word expected, std::uint32_t channels = all_channels,
          const steady_time* deadline = nullptr, const place& at = place::current()) noexcept {
  if (static_cast<std::uint32_t>(word.load(memory_order_relaxed, at)) !=
      static_cast<std::uint32_t>(expected)) {
    return true;
  }
  const std::int64_t limit = deadline != nullptr ? deadline->time_since_epoch().count() : 0;
  return model::sleep(&word, channels, deadline != nullptr ? &limit : nullptr,
                      model::sleeps::lightly, at);
}
template <class Word>
void wake(const atomic<Word>& word, int count, std::uint32_t channels = all_channels,
          const place& at = place::current()) noexcept {
  model::arrive(model::op::wake, &word, at);
  model::wake(&word, count, channels, at);
}

// ---- a barrier in all threads: absent by default, so both sides of a race pay; a world may set it

/// Set for the current schedule only.
class schedule_flag {
 public:
  void set() noexcept { epoch_ = model::epoch(); }
  bool is_set() const noexcept { return epoch_ == model::epoch(); }

 private:
  std::uint64_t epoch_ = 0;
};
struct barriers {
  static inline schedule_flag there;
  static inline schedule_flag refused;
};
inline bool ask_for_barrier() noexcept { return barriers::there.is_set(); }
inline bool barrier_in_all_threads() noexcept { return !barriers::refused.is_set(); }
inline void keep_order() noexcept {}
/// A load of it is not a step: a reader may see a change late.
class late_switch {
 public:
  constexpr late_switch(bool on) noexcept : on_(on) {}
  bool load(memory_order_t) const noexcept { return on_; }
  void store(bool on, memory_order_t) noexcept { on_ = on; }

 private:
  bool on_;
};

// ---- locks --------------------------------------------------------------------------------------

class mutex {
 public:
  mutex() = default;
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;
  void lock(const place& at = place::current()) {
    model::arrive(model::op::lock, this, at);
    while (held_) model::sleep(this, all_channels, nullptr, model::sleeps::soundly, at);
    held_ = true;
  }
  bool try_lock(const place& at = place::current()) {
    model::arrive(model::op::lock, this, at);
    if (held_) return false;
    held_ = true;
    return true;
  }
  void unlock(const place& at = place::current()) {
    model::arrive(model::op::unlock, this, at);
    held_ = false;
    model::wake(this, 1, all_channels, at);
  }

 private:
  bool held_ = false;
};

class unique_lock {
 public:
  explicit unique_lock(mutex& m, const place& at = place::current()) : mutex_(&m), at_(at) {
    lock();
  }
  unique_lock(mutex& m, std::try_to_lock_t, const place& at = place::current())
      : mutex_(&m), at_(at), owns_(m.try_lock(at)) {}
  unique_lock(const unique_lock&) = delete;
  unique_lock& operator=(const unique_lock&) = delete;
  ~unique_lock() {
    if (owns_) unlock();
  }
  void lock() {
    mutex_->lock(at_);
    owns_ = true;
  }
  void unlock() {
    owns_ = false;
    mutex_->unlock(at_);
  }
  bool owns_lock() const noexcept { return owns_; }

 private:
  mutex* mutex_;
  place at_;
  bool owns_ = false;
};

class condition_variable {
 public:
  condition_variable() = default;
  condition_variable(const condition_variable&) = delete;
  condition_variable& operator=(const condition_variable&) = delete;
  void wait(unique_lock& hold, const place& at = place::current()) {
    wait_until_time(hold, nullptr, at);
  }
  template <class Until>
  void wait(unique_lock& hold, Until&& until, const place& at = place::current()) {
    while (!until()) wait(hold, at);
  }
  std::cv_status wait_until(unique_lock& hold, steady_time deadline,
                            const place& at = place::current()) {
    const std::int64_t limit = deadline.time_since_epoch().count();
    return wait_until_time(hold, &limit, at) ? std::cv_status::no_timeout : std::cv_status::timeout;
  }
  template <class Rep, class Period>
  std::cv_status wait_for(unique_lock& hold, std::chrono::duration<Rep, Period> d,
                          const place& at = place::current()) {
    return wait_until(hold, now() + d, at);
  }
  void notify_one(const place& at = place::current()) noexcept {
    model::arrive(model::op::store, this, at);  // unlike a word's wake, needs a living object
    model::wake(this, 1, all_channels, at);
  }
  void notify_all(const place& at = place::current()) noexcept {
    model::arrive(model::op::store, this, at);
    model::wake(this, 0x7fffffff, all_channels, at);
  }

 private:
  bool wait_until_time(unique_lock& hold, const std::int64_t* limit, const place& at) {
    // Unlocking and falling asleep are one step, as they really are for whatever thread holds the
    // lock.
    hold.unlock();
    const bool woken = model::sleep(this, all_channels, limit, model::sleeps::idly, at);
    hold.lock();
    return woken;
  }
};

// ---- a secret of this process: the same in every schedule ---------------------------------------

inline constexpr std::uint64_t given_hash_seed = 0x5eed5eed5eed5eedU;
inline std::uint64_t random_seed() noexcept { return given_hash_seed; }
/// Not a step: the value is the same in every schedule.
template <class T>
T settled(const atomic<T>& word) noexcept {
  return word.settled();
}

// ---- threads ------------------------------------------------------------------------------------

using thread_id = int;
inline thread_id this_thread_id() noexcept { return model::this_thread(); }

class thread {
 public:
  thread() = default;
  explicit thread(int id) noexcept : id_(id) {}
  void join(const place& at = place::current()) {
    model::join(id_, at);
    id_ = 0;
  }
  void detach() noexcept { id_ = 0; }
  bool joinable() const noexcept { return id_ != 0; }
  thread_id get_id() const noexcept { return id_; }

 private:
  int id_ = 0;
};
inline bool is_this_thread(const thread& t) noexcept { return t.get_id() == this_thread_id(); }
/// The scheduler chooses whether a thread can be started.
template <class Fn>
thread start_thread(const char*, Fn&& fn, const place& at = place::current()) {
  if (model::choose(2, at) == 1)
    throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
  const model::eternal stays;
  const model::spared whole;
  auto shared = std::make_shared<std::decay_t<Fn>>(std::forward<Fn>(fn));
  return thread(model::start_helper([shared] {
    try {
      (*shared)();
    } catch (const model::thread_exit&) {
    }
  }));
}
template <void (*Fn)() noexcept>
void at_thread_exit() noexcept {
  model::at_thread_exit(Fn);
}
// ---- fork: in the model only the child continues ------------------------------------------------

struct fork_handlers {
  void (*before)() noexcept = nullptr;
  void (*in_child)() noexcept = nullptr;
};
inline fork_handlers at_fork;
inline void around_fork(void (*before)() noexcept, void (*)() noexcept,
                        void (*in_child)() noexcept) noexcept {
  at_fork = {before, in_child};
}
/// The calling thread continues as the child.
inline void fork() {
  const model::eternal stays;
  at_fork.before();
  model::vanish_others();
  at_fork.in_child();  // it may still read the frames of the other threads
  model::vanish_frames();
}
/// Held around a fork. Making or destroying a member is one step, which waits only for that. The
/// thread that forks must do neither meanwhile: it would wait for itself.
class fork_lock {
 public:
  void lock() noexcept {
    model::arrive(model::op::lock, this, place::current());
    wait();
    holder_ = model::this_thread();
  }
  void unlock() noexcept {
    holder_ = nobody;
    model::wake(this, 0x7fffffff, all_channels, place::current());
  }
  struct scope {
    explicit scope(fork_lock& of) noexcept {
      if (of.holder_ == model::this_thread()) model::fail("a fork waits for itself: K4");
      of.wait();
    }
  };

 private:
  static constexpr int nobody = -2;
  void wait() noexcept {
    while (holder_ != nobody) {
      model::sleep(this, all_channels, nullptr, model::sleeps::soundly, place::current());
    }
  }
  int holder_ = nobody;
};
inline void renew(condition_variable&) noexcept {}
inline void forget_threads(std::vector<thread>& list) noexcept { list.clear(); }

inline unsigned concurrency() noexcept { return 2; }
inline void pause(const place& at = place::current()) noexcept { model::pause(at); }
/// The least that works: each further look before a sleep multiplies the schedules.
template <class T>
constexpr T tuned(T /*pays*/, T least) noexcept {
  return least;
}

inline std::size_t next_slot() noexcept {
  static std::size_t next = 0;
  return next++;
}
template <class T>
T& per_thread() noexcept {
  static const std::size_t id = next_slot();
  static_assert(sizeof(T) <= model::slot_bytes);
  bool fresh = false;
  void* const at = model::slot(id, fresh);
  return fresh ? *::new (at) T{} : *static_cast<T*>(at);
}

/// Made once per schedule.
template <auto Make>
struct made_at_load {};

/// The same; which of several threads makes it is decided in one step, since the others do not
/// wait.
template <class T>
class one_per_process {
 public:
  template <class Make>
  T& get(const Make& make) {
    if (peek() == nullptr) {
      const model::eternal stays;
      const model::spared whole;
      one_ = make().release();
      epoch_ = model::epoch();
    }
    return *one_;
  }
  T* peek() const noexcept { return epoch_ == model::epoch() ? one_ : nullptr; }

 private:
  T* one_ = nullptr;
  std::uint64_t epoch_ = 0;
};

template <class T>
class never_destroyed {
 public:
  template <class... Args>
  explicit never_destroyed(Args&&... args) {
    const model::unwatched memory;  // it is kept for the following schedules
    make_ = [... args = std::forward<Args>(args)](void* at) { ::new (at) T(args...); };
  }
  never_destroyed(const never_destroyed&) = delete;
  never_destroyed& operator=(const never_destroyed&) = delete;
  T& get() noexcept {
    if (epoch_ != model::epoch()) {
      epoch_ = model::epoch();
      const model::eternal stays;
      const model::spared whole;
      make_(storage_);
    }
    return *std::launder(reinterpret_cast<T*>(storage_));
  }

 private:
  std::function<void(void*)> make_;
  std::uint64_t epoch_ = 0;
  alignas(T) std::byte storage_[sizeof(T)];
};

// ---- memory, stop callbacks ---------------------------------------------------------------------

inline void* allocate(std::size_t bytes, std::size_t) { return ::operator new(bytes); }
inline void deallocate(void* memory, std::size_t) noexcept { ::operator delete(memory); }
inline constexpr bool zeros_are_objects = false;  // an atomic is known to the scheduler
inline void* allocate_zeroed(std::size_t bytes) noexcept {
  return ::operator new(bytes, std::nothrow);
}
inline void deallocate_zeroed(void* memory, std::size_t) noexcept { ::operator delete(memory); }
inline void release_zeroed(void*, std::size_t) noexcept {}
inline void prefetch(const void*) noexcept {}

using kept_for_good = model::eternal;

/// All stop states count as one address.
inline constexpr char any_stop_state = 0;
inline bool stop_requested(const std::stop_token& token,
                           const place& at = place::current()) noexcept {
  model::arrive(model::op::load, &any_stop_state, at);
  return token.stop_requested();
}
inline void request_stop(std::stop_source& source, const place& at = place::current()) noexcept {
  model::arrive(model::op::exchange, &any_stop_state, at);
  source.request_stop();
}

/// std::stop_callback distinguishes threads of the system only, and there is only one: its
/// destructor would not wait for a call that another thread of the world makes.
template <class Fn>
class stop_callback {
 public:
  template <class Arg>
  stop_callback(std::stop_token token, Arg&& fn)
      : fn_(std::forward<Arg>(fn)), inner_(after_step(std::move(token)), caller{this}) {}
  stop_callback(const stop_callback&) = delete;
  stop_callback& operator=(const stop_callback&) = delete;
  ~stop_callback() {
    model::arrive(model::op::exchange, &any_stop_state, place::current());
    while (caller_ != 0 && caller_ != model::this_thread()) model::pause(place::current());
    if (destroyed_ != nullptr) *destroyed_ = true;
  }

 private:
  static std::stop_token after_step(std::stop_token token) {
    model::arrive(model::op::exchange, &any_stop_state, place::current());
    return token;
  }
  struct caller {
    stop_callback* self;
    void operator()() const {
      stop_callback* const me = self;
      me->caller_ = model::this_thread();
      bool destroyed = false;
      me->destroyed_ = &destroyed;
      me->fn_();
      if (!destroyed) {
        me->caller_ = 0;
        me->destroyed_ = nullptr;
      }
    }
  };
  Fn fn_;
  int caller_ = 0;
  bool* destroyed_ = nullptr;
  std::stop_callback<caller> inner_;
};

}  // namespace detail::platform
SINGLEFLIGHT_END_NAMESPACE
