// SPDX-License-Identifier: Apache-2.0
#pragma once

// platform: everything that the library requires of the machine and the operating system, so that
// the same code can run on another scheduler. No file but this one and those of its impl/ names an
// operating system, a std:: atomic or lock, a thread-local, a clock or an allocation function of
// its own.

#include <coroutine>
#include <cstddef>
#include <exception>
#include <new>

#include "singleflight/core/support/rules.hpp"

#if defined(SINGLEFLIGHT_PLATFORM)
#include SINGLEFLIGHT_PLATFORM  // another machine for the same code
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

// A static data member, not a local of the function: only a member is one object for all shared
// objects when they are built with -fvisibility-inlines-hidden.
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
    ::new (static_cast<void*>(storage_)) std::remove_const_t<T>(std::forward<Args>(args)...);
  }
  never_destroyed(const never_destroyed&) = delete;
  never_destroyed& operator=(const never_destroyed&) = delete;
  T& get() noexcept { return *std::launder(static_cast<T*>(static_cast<void*>(storage_))); }

 private:
  alignas(T) std::byte storage_[sizeof(T)];
};

/// An object of which a process has one, created on the heap at its first use and never destroyed.
/// Threads that use it first at the same time create one each, and one of those is published: no
/// thread waits for another, so a fork meanwhile leaves no half-created object in the child.
template <class T>
class one_per_process {
 public:
  /// make() returns a std::unique_ptr<T>.
  template <class Make>
  T& get(const Make& make) {
    T* const one = one_.load(memory_order_acquire);
    return one != nullptr ? *one : first(make);
  }
  /// Returns null before the first use.
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

/// Calls Make() when the program, or the shared object that includes it, is loaded: for a
/// process-wide object that must exist without an allocation. Only for objects that cost each
/// including file next to nothing to compile.
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

/// Returns a size or a count: the best value on this machine; another platform may use the least
/// that works.
template <class T>
constexpr T tuned(T pays, T /*least*/) noexcept {
  return pays;
}

/// Returns the number of processors; at least 1.
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

/// Whether zero bytes are an object of a type whose constructor would store zeros.
inline constexpr bool zeros_are_objects = true;
/// Returns zero bytes, aligned to 64, or null; many are pages that the system gives at first use.
void* allocate_zeroed(std::size_t bytes) noexcept;
void deallocate_zeroed(void* memory, std::size_t bytes) noexcept;
/// Gives pages of zero bytes back, which remain zero. Other threads may read them meanwhile.
void release_zeroed(void* zeros, std::size_t bytes) noexcept;
inline void prefetch([[maybe_unused]] const void* address) noexcept {
#if defined(__GNUC__)
  __builtin_prefetch(address);
#endif
}
/// Registers three functions that are called around every fork of this process, once each: in the
/// parent, before and after it; in the child, by its only thread.
void around_fork(void (*before)() noexcept, void (*in_parent)() noexcept,
                 void (*in_child)() noexcept) noexcept;
/// The lock of the list of fork members.
class fork_lock {
 public:
  void lock() noexcept { mutex_.lock(); }
  void unlock() noexcept { mutex_.unlock(); }
  using scope = std::lock_guard<fork_lock>;

 private:
  std::mutex mutex_;
};
/// In a child of fork: forgets the waiters, whose threads do not exist there.
inline void renew(condition_variable& changed) noexcept { std::construct_at(&changed); }
/// In a child of fork: removes from `list` all threads but the calling one, since they do not exist
/// there. Their std::thread objects can be neither joined nor destroyed, so they are kept.
void forget_threads(std::vector<thread>& list) noexcept;

/// Calls Fn() when the calling thread ends, after its thread_local objects if the system can; may
/// be requested more than once. This is not the destructor of a thread_local object: registering
/// one waits for the loader's lock, which a dlopen holds while it runs static initializers, and one
/// of those may wait for a thread that is here.
template <void (*Fn)() noexcept>
void at_thread_exit() noexcept {
#if SINGLEFLIGHT_HAS_FORK
  struct ending {
    ending() noexcept : created(::pthread_key_create(&key, [](void*) { Fn(); }) == 0) {}
    ::pthread_key_t key{};
    bool created;
  };
  static const ending end;
  if (end.created && ::pthread_setspecific(end.key, &end) == 0) return;
#endif
  struct caller {
    ~caller() { Fn(); }
  };
  static thread_local caller at_end;
  (void)&at_end;
}

/// For as long as the object exists, what its thread allocates is kept until the process ends.
struct kept_for_good {};

inline bool stop_requested(const std::stop_token& token) noexcept { return token.stop_requested(); }
inline void request_stop(std::stop_source& source) noexcept { source.request_stop(); }

/// `name` has at most 15 characters.
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
// wait() sleeps while the low 32 bits of `word` equal `expected`, until a wake() on one of its
// channels, or until the deadline; it may return early. wake() uses only the address and does not
// read the word, which may have been destroyed.

inline constexpr std::uint32_t all_channels = 0x7fffffffU;
inline constexpr std::uint32_t nap_channel = 0x80000000U;  ///< never woken; ends at the deadline

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

/// Returns false if the deadline has passed.
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

/// If it is not 0, the process draws no secret of its own.
inline constexpr std::uint64_t given_hash_seed = 0;

/// Returns 64 secret random bits, or 0 if the system has none: the caller mixes in what differs
/// otherwise.
std::uint64_t random_seed() noexcept;
/// Reads a word that is not written any more, or only with the value that it already has.
template <class T>
T settled(const atomic<T>& word) noexcept {
  return word.load(memory_order_relaxed);
}

// ---- a barrier in all threads -------------------------------------------------------------------
// Moves the cost of a store-then-load race to one side: once barrier_in_all_threads() has returned,
// every thread has either made its earlier stores visible, or not yet done its later loads. The
// other side needs only keep_order() between its store and its load.

/// Registers for the barrier, before its first use. Returns false if this machine has none.
bool ask_for_barrier() noexcept;
/// Returns false if the kernel has refused it: this time, for lack of memory, or from now on (a
/// filter of system calls that was installed later).
bool barrier_in_all_threads() noexcept;
/// A flag that changes rarely, and whose readers may see a change late.
using late_switch = std::atomic<bool>;
/// Keeps the compiler from moving loads and stores across it.
inline void keep_order() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }

}  // namespace detail::platform
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/platform.hpp"
#endif

#endif

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail::platform {

/// Called within a catch (...): returns whether what was caught is not an exception but the end of
/// the thread (pthread_exit, cancellation). It has no object, so it must be rethrown and cannot be
/// stored.
inline bool is_thread_exit() noexcept { return std::current_exception() == nullptr; }

/// Base of classes whose objects are allocated through this platform, one at a time.
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

/// The beginning of every coroutine frame under GCC, Clang and MSVC alike: the functions that a
/// std::coroutine_handle<> calls to resume and to destroy it. An object that begins with one can be
/// resumed by an awaitable without being a coroutine.
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
