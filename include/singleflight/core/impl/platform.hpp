// SPDX-License-Identifier: Apache-2.0
#pragma once

// platform: the calls of the operating system that are not on a hot path: futexes, a barrier in all
// threads, random bits, and repairs after a fork. Not used if SINGLEFLIGHT_PLATFORM names another
// machine.

#include "singleflight/core/support/platform.hpp"

#if !defined(SINGLEFLIGHT_PLATFORM)

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#if SINGLEFLIGHT_HAS_FORK
#include <sys/mman.h>
#endif

#if defined(__linux__)
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#else
#include <random>
#endif

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail::platform {

SINGLEFLIGHT_BODY unsigned concurrency() noexcept {
  const unsigned n = std::thread::hardware_concurrency();
  return n == 0 ? 1 : n;
}

/// From this size on, memory of zero bytes is mapped: a page costs more time than its zeros, but
/// only once it is used.
inline constexpr std::size_t mapped_from = std::size_t{128} << 10;

SINGLEFLIGHT_BODY void* allocate_zeroed(std::size_t bytes) noexcept {
#if defined(MAP_ANONYMOUS)
  if (bytes >= mapped_from) {
    void* const pages =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? nullptr : pages;
  }
#endif
  try {  // not the form that returns null: a program that replaces operator new may lack that
    return std::memset(::operator new(bytes, std::align_val_t(64)), 0, bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

SINGLEFLIGHT_BODY void deallocate_zeroed(void* memory,
                                         [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(MAP_ANONYMOUS)
  if (bytes >= mapped_from) {
    ::munmap(memory, bytes);
    return;
  }
#endif
  ::operator delete(memory, std::align_val_t(64));
}

SINGLEFLIGHT_BODY void release_zeroed([[maybe_unused]] void* zeros,
                                      [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(__linux__)                     // elsewhere the pages need not be zero afterwards
  ::madvise(zeros, bytes, MADV_DONTNEED);  // refused for locked memory: the pages are kept
#endif
}

SINGLEFLIGHT_BODY void around_fork([[maybe_unused]] void (*before)() noexcept,
                                   [[maybe_unused]] void (*in_parent)() noexcept,
                                   [[maybe_unused]] void (*in_child)() noexcept) noexcept {
#if SINGLEFLIGHT_HAS_FORK
  (void)::pthread_atfork(before, in_parent, in_child);
#endif
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void forget_threads(std::vector<thread>& list) noexcept {
  static std::vector<std::vector<thread>>& kept = *new std::vector<std::vector<thread>>;
  try {
    const auto here = std::find_if(list.begin(), list.end(), [](const thread& t) {
      return t.get_id() == std::this_thread::get_id();
    });
    std::vector<thread> left;
    left.reserve(std::max<std::size_t>(list.capacity(), 1));
    kept.reserve(kept.size() + 1);
    if (here != list.end()) left.push_back(std::move(*here));
    kept.push_back(std::exchange(list, std::move(left)));
  } catch (...) {  // no memory: an empty list replaces it, so its threads are never destroyed
    std::construct_at(&list);
  }
}

SINGLEFLIGHT_BODY void name_this_thread([[maybe_unused]] const char* name) noexcept {
#if defined(__linux__)
  ::pthread_setname_np(::pthread_self(), name);
#endif
}

#if defined(__linux__)

/// The system call that takes this program's timespec: with a 32-bit long, time_t may be wider.
inline constexpr long futex_call =
#if !defined(SYS_futex)
    SYS_futex_time64;
#elif defined(SYS_futex_time64)
    sizeof(time_t) > sizeof(long) ? SYS_futex_time64 : SYS_futex;
#else
    SYS_futex;
#endif

SINGLEFLIGHT_NOINLINE SINGLEFLIGHT_BODY bool futex_wait(const std::uint32_t* word,
                                                        std::uint32_t expected,
                                                        std::uint32_t channels,
                                                        const steady_time* deadline) noexcept {
  timespec limit{};
  if (deadline != nullptr) {
    const auto since = deadline->time_since_epoch();  // CLOCK_MONOTONIC is the steady clock here
    const auto seconds = std::chrono::floor<std::chrono::seconds>(since);
    if (seconds.count() < 0) return false;
    limit.tv_sec = static_cast<time_t>(
        std::min<std::int64_t>(seconds.count(), std::numeric_limits<time_t>::max()));
    limit.tv_nsec = static_cast<long>((since - seconds).count());
  }
  const long result = ::syscall(futex_call, word, FUTEX_WAIT_BITSET_PRIVATE, expected,
                                deadline != nullptr ? &limit : nullptr, nullptr, channels);
  return !(result == -1 && errno == ETIMEDOUT);
}

SINGLEFLIGHT_BODY void futex_wake(const std::uint32_t* word, int count,
                                  std::uint32_t channels) noexcept {
  ::syscall(futex_call, word, FUTEX_WAKE_BITSET_PRIVATE, count, nullptr, nullptr, channels);
}

#endif

SINGLEFLIGHT_BODY std::uint64_t random_seed() noexcept {
  std::uint64_t bits = 0;
#if defined(__linux__)
  constexpr unsigned never_wait = 1;  // GRND_NONBLOCK
  if (::syscall(SYS_getrandom, &bits, sizeof bits, never_wait) != sizeof bits) bits = 0;
#else  // <random> costs each file that includes it an eighth of a second
  try {
    std::random_device source;
    bits = std::uint64_t{source()} << 32 | source();
  } catch (...) {
    bits = 0;
  }
#endif
  return bits;
}

#if defined(__linux__) && !SINGLEFLIGHT_TSAN  // ThreadSanitizer does not model this barrier
SINGLEFLIGHT_BODY bool ask_for_barrier() noexcept {
  return ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}
SINGLEFLIGHT_BODY bool barrier_in_all_threads() noexcept {
  return ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}
#else
SINGLEFLIGHT_BODY bool ask_for_barrier() noexcept { return false; }
SINGLEFLIGHT_BODY bool barrier_in_all_threads() noexcept { return true; }
#endif

}  // namespace detail::platform
SINGLEFLIGHT_END_NAMESPACE

#endif
