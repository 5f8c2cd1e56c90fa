// SPDX-License-Identifier: Apache-2.0
#pragma once

// Counts the bytes that the process has requested from operator new or mapped without a file, and
// not freed. The size of each allocation is stored in front of it and not counted; neither is what
// the allocator adds, nor the mappings that it makes for itself.
//
// Include it in one source file of an executable only.

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace bench {

inline constinit std::atomic<std::size_t> requested{0};

/// Exact while no thread allocates or frees.
inline std::size_t requested_bytes() noexcept { return requested.load(std::memory_order_relaxed); }

inline void* allocate(std::size_t bytes, std::size_t alignment) {
  const std::size_t front = alignment < 16 ? 16 : alignment;
  const std::size_t whole = (front + bytes + front - 1) / front * front;
  auto* const memory = static_cast<std::byte*>(std::aligned_alloc(front, whole));
  if (memory == nullptr) throw std::bad_alloc();
  std::byte* const given = memory + front;
  ::new (given - sizeof(std::size_t)) std::size_t(bytes);
  requested.fetch_add(bytes, std::memory_order_relaxed);
  return given;
}
// Not inlined: where g++ inlines only one half of the pair, it warns of a mismatch.
[[gnu::noinline]] inline void release(void* given, std::size_t alignment) noexcept {
  if (given == nullptr) return;
  const std::size_t front = alignment < 16 ? 16 : alignment;
  auto* const at = static_cast<std::byte*>(given);
  requested.fetch_sub(*reinterpret_cast<std::size_t*>(at - sizeof(std::size_t)),
                      std::memory_order_relaxed);
  std::free(at - front);
}

}  // namespace bench

// The standard library's array, nothrow and sized forms call these.
void* operator new(std::size_t bytes) { return bench::allocate(bytes, 16); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return bench::allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* given) noexcept { bench::release(given, 16); }
void operator delete(void* given, std::size_t) noexcept { bench::release(given, 16); }
void operator delete(void* given, std::align_val_t alignment) noexcept {
  bench::release(given, static_cast<std::size_t>(alignment));
}
void operator delete(void* given, std::size_t, std::align_val_t alignment) noexcept {
  bench::release(given, static_cast<std::size_t>(alignment));
}

#if defined(SYS_mmap)  // elsewhere its arguments differ
extern "C" void* mmap(void* at, std::size_t bytes, int access, int flags, int file,
                      off_t offset) noexcept {
  const long found = ::syscall(SYS_mmap, at, bytes, access, flags, file, offset);
  void* const memory = reinterpret_cast<void*>(found);
  if (memory != MAP_FAILED && (flags & MAP_ANONYMOUS) != 0) {
    bench::requested.fetch_add(bytes, std::memory_order_relaxed);
  }
  return memory;
}
extern "C" int munmap(void* memory, std::size_t bytes) noexcept {
  const long failed = ::syscall(SYS_munmap, memory, bytes);
  if (failed == 0) bench::requested.fetch_sub(bytes, std::memory_order_relaxed);
  return static_cast<int>(failed);
}
#endif
