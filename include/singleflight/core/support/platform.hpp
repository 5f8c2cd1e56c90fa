// SPDX-License-Identifier: Apache-2.0
#pragma once

// The seam: all that the library asks of the machine and of the operating system stands here, so
// that another scheduler can be put beneath the same code. Nothing above this file names an
// operating system, a std:: atomic or lock, a thread-local, a clock or an allocation function of
// its own.

#include <coroutine>
#include <cstddef>
#include <exception>
#include <new>

#include "singleflight/core/support/rules.hpp"

#if defined(SINGLEFLIGHT_PLATFORM)
#include SINGLEFLIGHT_PLATFORM  // another machine beneath the same code
#else

#include <atomic>
#include <bit>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "singleflight/core/support/config.hpp"
#include "singleflight/core/support/stop_token.hpp"

#if defined(__unix__) || defined(__APPLE__)
#define SINGLEFLIGHT_HAS_FORK 1
#include <pthread.h>
#else
#define SINGLEFLIGHT_HAS_FORK 0
#endif

#if defined(SINGLEFLIGHT_ATOMICS)
#include SINGLEFLIGHT_ATOMICS  // this machine, with other atomics and another lock
#endif

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail::platform {

using steady_time = std::chrono::steady_clock::time_point;

#if defined(SINGLEFLIGHT_ATOMICS)
using singleflight_atomics::atomic;
using singleflight_atomics::condition_variable;
using singleflight_atomics::mutex;
#else
template <class T>
using atomic = std::atomic<T>;
using mutex = std::mutex;
using condition_variable = std::condition_variable;
#endif
using unique_lock = std::unique_lock<mutex>;
using thread = std::thread;
using thread_id = std::thread::id;
template <class Fn>
using stop_callback = std::stop_callback<Fn>;
using std::memory_order_acq_rel;
using std::memory_order_acquire;
using std::memory_order_relaxed;
using std::memory_order_release;
using memory_order_t = std::memory_order;

inline steady_time now() noexcept { return std::chrono::steady_clock::now(); }
inline thread_id this_thread_id() noexcept { return std::this_thread::get_id(); }
inline bool is_this_thread(const thread& t) noexcept { return t.get_id() == this_thread_id(); }

// A static data member, not a local of the function: only that is one object for all shared objects
// when they are built with -fvisibility-inlines-hidden.
template <class T>
struct SINGLEFLIGHT_SHARED_STATE thread_slot {
  static inline constinit thread_local T value{};
};
/// One object of type T per thread, without a guard or a destructor.
template <class T>
T& per_thread() noexcept {
  return thread_slot<T>::value;
}

/// A process-wide object in static storage that is never destroyed: threads may outlive main.
template <class T>
class never_destroyed {
 public:
  template <class... Args>
  explicit never_destroyed(Args&&... args) {
    ::new (static_cast<void*>(room_)) std::remove_const_t<T>(std::forward<Args>(args)...);
  }
  never_destroyed(const never_destroyed&) = delete;
  never_destroyed& operator=(const never_destroyed&) = delete;
  T& get() noexcept { return *std::launder(static_cast<T*>(static_cast<void*>(room_))); }

 private:
  alignas(T) std::byte room_[sizeof(T)];
};

/// What a process has one of, made on the heap at its first use and never destroyed. Threads that
/// are first at the same time make one each, and one of those is published: none waits for another,
/// so a fork meanwhile leaves nothing in the child that is half made.
template <class T>
class one_per_process {
 public:
  /// make() returns a std::unique_ptr<T>.
  template <class Make>
  T& get(const Make& make) {
    T* const one = one_.load(memory_order_acquire);
    return one != nullptr ? *one : first(make);
  }
  /// Null before the first use.
  T* peek() const noexcept { return one_.load(memory_order_acquire); }

 private:
  template <class Make>
  SINGLEFLIGHT_COLD T& first(const Make& make) {
    std::unique_ptr<T> made = make();
    T* one = nullptr;
    if (one_.compare_exchange_strong(one, made.get(), memory_order_acq_rel, memory_order_acquire)) {
      return *made.release();
    }
    return *one;
  }

  atomic<T*> one_{nullptr};
};

/// Calls Make() as the program is loaded, or the shared object that includes it: for what a process
/// has one of that has to be there without an allocation. Only for what costs each file that
/// includes it next to nothing to compile.
template <auto Make>
struct made_at_load {
  made_at_load() noexcept { (void)Make(); }
};

/// One step of a spin. (Without <immintrin.h>, which costs each file that includes it 0.6 s.)
inline void pause() noexcept {
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
  __builtin_ia32_pause();
#elif (defined(__aarch64__) || (defined(__arm__) && __ARM_ARCH >= 7)) && defined(__GNUC__)
  asm volatile("yield" ::: "memory");
#elif defined(__powerpc__) && defined(__GNUC__)
  asm volatile("or 27,27,27" ::: "memory");  // the hint to yield
#elif defined(__riscv) && defined(__GNUC__)
  // The instruction `pause`, by its number: an assembler may not know its name.
  asm volatile(".4byte 0x0100000f" ::: "memory");
#elif defined(__GNUC__)
  asm volatile("" ::: "memory");
#endif
}

/// A size or a count: what pays on this machine, and the least that works.
template <class T>
constexpr T tuned(T pays, T /*least*/) noexcept {
  return pays;
}

/// 1 or more.
unsigned concurrency() noexcept;

inline void* allocate(std::size_t bytes, std::size_t alignment) {
  if (alignment > __STDCPP_DEFAULT_NEW_ALIGNMENT__) {
    return ::operator new(bytes, std::align_val_t(alignment));
  }
  return ::operator new(bytes);
}
inline void deallocate(void* memory, std::size_t alignment) noexcept {
  if (alignment > __STDCPP_DEFAULT_NEW_ALIGNMENT__) {
    ::operator delete(memory, std::align_val_t(alignment));
  } else {
    ::operator delete(memory);
  }
}

/// Has the three called around every fork of this process: in the parent, before and after; in the
/// child, by its only thread. Once each.
void around_fork(void (*before)() noexcept, void (*in_parent)() noexcept,
                 void (*in_child)() noexcept) noexcept;
/// Guards what is held around a fork.
class fork_lock {
 public:
  void lock() noexcept { mutex_.lock(); }
  void unlock() noexcept { mutex_.unlock(); }
  using scope = std::lock_guard<fork_lock>;

 private:
  std::mutex mutex_;
};
/// In a child of fork: waiters that are not there any more are forgotten.
inline void renew(condition_variable& changed) noexcept { std::construct_at(&changed); }
/// In a child of fork: the threads of `list` are not there any more, but for the calling one. What
/// stands for them can be neither joined nor ended: it is kept.
void forget_threads(std::vector<thread>& list) noexcept;

/// Calls Fn() as the calling thread ends, where the system can after its thread_local objects;
/// asked for once or often. No destructor of a thread_local object: its registration waits for the
/// loader's lock, which a dlopen holds while it runs static initializers; one of those may wait for
/// a thread that comes by here.
template <void (*Fn)() noexcept>
void at_thread_exit() noexcept {
#if SINGLEFLIGHT_HAS_FORK
  struct ending {
    ending() noexcept : there(::pthread_key_create(&key, [](void*) { Fn(); }) == 0) {}
    ::pthread_key_t key{};
    bool there;
  };
  static const ending at;
  if (at.there && ::pthread_setspecific(at.key, &at) == 0) return;
#endif
  struct caller {
    ~caller() { Fn(); }
  };
  static thread_local caller at_end;
  (void)&at_end;
}

/// While it lives, what its thread allocates stays until the end of the process.
struct kept_for_good {};

inline bool stop_requested(const std::stop_token& token) noexcept { return token.stop_requested(); }
inline void request_stop(std::stop_source& source) noexcept { source.request_stop(); }

/// At most 15 characters.
void name_this_thread(const char* name) noexcept;
/// Starts a named thread.
template <class Fn>
thread start_thread(const char* name, Fn&& fn) {
  return thread([name, fn = std::forward<Fn>(fn)]() mutable {
    name_this_thread(name);
    fn();
  });
}

// ---- waiting on a word --------------------------------------------------------------------------
// wait() sleeps while the low 32 bits of `word` equal `expected`, until a wake() whose channels
// meet its own, or the deadline; it may return early. wake() uses the address as a name only and
// never reads it: the word may be gone by then.

inline constexpr std::uint32_t all_channels = 0x7fffffffU;
inline constexpr std::uint32_t nap_channel = 0x80000000U;  ///< never woken: ended by the deadline

#if defined(__linux__)

template <class Word>
std::uint32_t* low_half(const atomic<Word>& word) noexcept {
  static_assert(sizeof(atomic<Word>) == sizeof(Word));
  auto* half = reinterpret_cast<std::uint32_t*>(const_cast<atomic<Word>*>(&word));
  return sizeof(Word) == 8 && std::endian::native == std::endian::big ? half + 1 : half;
}

bool futex_wait(const std::uint32_t* word, std::uint32_t expected, std::uint32_t channels,
                const steady_time* deadline) noexcept;
void futex_wake(const std::uint32_t* word, int count, std::uint32_t channels) noexcept;

/// False when the deadline has passed.
template <class Word>
bool wait(const atomic<Word>& word, Word expected, std::uint32_t channels = all_channels,
          const steady_time* deadline = nullptr) noexcept {
  return futex_wait(low_half(word), static_cast<std::uint32_t>(expected), channels, deadline);
}

template <class Word>
void wake(const atomic<Word>& word, int count, std::uint32_t channels = all_channels) noexcept {
  futex_wake(low_half(word), count, channels);
}

#else

struct parking_place {
  mutex lock;
  condition_variable changed;
};
SINGLEFLIGHT_SHARED_STATE inline parking_place& parking(const void* address) noexcept {
  static auto* places = new parking_place[64];
  return places[(reinterpret_cast<std::uintptr_t>(address) >> 4) % 64];
}

template <class Word>
bool wait(const atomic<Word>& word, Word expected, std::uint32_t = all_channels,
          const steady_time* deadline = nullptr) noexcept {
  parking_place& place = parking(&word);
  unique_lock hold(place.lock);
  const auto low = [](Word w) { return static_cast<std::uint32_t>(w); };
  if (low(word.load(memory_order_relaxed)) != low(expected)) return true;
  if (deadline == nullptr) {
    place.changed.wait(hold);
    return true;
  }
  return place.changed.wait_until(hold, *deadline) == std::cv_status::no_timeout;
}

template <class Word>
void wake(const atomic<Word>& word, int, std::uint32_t = all_channels) noexcept {
  parking_place& place = parking(&word);
  { unique_lock hold(place.lock); }
  place.changed.notify_all();
}

#endif

// ---- a secret of this process -------------------------------------------------------------------

/// Not 0: the process draws no secret of its own.
inline constexpr std::uint64_t given_hash_seed = 0;

/// 64 bits that nobody outside can know; 0 where the system has none to give: the caller mixes in
/// what else differs.
std::uint64_t random_seed() noexcept;
/// Of a word that is written no more, or only with the value that it has.
template <class T>
T settled(const atomic<T>& word) noexcept {
  return word.load(memory_order_relaxed);
}

// ---- a barrier in all threads -------------------------------------------------------------------
// Lets one side of a store-then-load race pay for both: once barrier_in_all_threads() has returned,
// every thread has either made its earlier stores visible, or not yet done its later loads. The
// other side needs no more than keep_order() between its store and its load.

/// Asks for the barrier, before its first use; false: this machine has none.
bool ask_for_barrier() noexcept;
/// False: the kernel has refused it: for want of memory this once, or from now on (a filter of
/// system calls that was installed later).
bool barrier_in_all_threads() noexcept;
/// A switch that is turned seldom, and read by those who may see it late.
using late_switch = std::atomic<bool>;
/// The compiler keeps the order of what is before and after.
inline void keep_order() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }

}  // namespace detail::platform
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/platform.hpp"
#endif

#endif

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail::platform {

/// Within a catch (...): whether what was caught is no exception but the end of the thread
/// (pthread_exit, cancellation). It has no object, so it must be rethrown and can never be kept.
inline bool is_thread_exit() noexcept { return std::current_exception() == nullptr; }

/// Base of what is allocated one by one through here.
struct allocated {
  static void* operator new(std::size_t bytes) {
    return platform::allocate(bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
  }
  static void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return platform::allocate(bytes, static_cast<std::size_t>(alignment));
  }
  static void operator delete(void* memory) noexcept {
    platform::deallocate(memory, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
  }
  static void operator delete(void* memory, std::align_val_t alignment) noexcept {
    platform::deallocate(memory, static_cast<std::size_t>(alignment));
  }
};

/// What every coroutine frame begins with under GCC, Clang and MSVC alike: what a
/// std::coroutine_handle<> calls to resume it, and to destroy it. An object that begins with one
/// can be resumed by an awaitable without being a coroutine.
struct coroutine_frame {
  void (*on_resume)(void* frame);
  void (*on_destroy)(void* frame);
  std::coroutine_handle<> handle() noexcept { return std::coroutine_handle<>::from_address(this); }
};

}  // namespace detail::platform
namespace detail {
using platform::atomic;
using platform::memory_order_acq_rel;
using platform::memory_order_acquire;
using platform::memory_order_relaxed;
using platform::memory_order_release;
using platform::memory_order_t;
using platform::steady_time;
}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
