// SPDX-License-Identifier: Apache-2.0
#pragma once

// Counts the allocations of the calling thread, whatever code makes them, and its releases: malloc
// and its siblings are replaced for the whole program, and operator new ends there too
// (posix_memalign, which C++ does not use, is left out).
//
// Include it in only one source file of an executable, and never in a sanitizer build: sanitizers
// replace malloc themselves.

#include <malloc.h>

#include <cstddef>
#include <cstdlib>

namespace support {

inline constinit thread_local std::size_t allocation_counter = 0;
inline constinit thread_local std::size_t release_counter = 0;

/// The number of allocations that this thread has made so far.
inline std::size_t allocations_of_this_thread() noexcept { return allocation_counter; }
/// The number of allocations that this thread has not released. Correct only where no other thread
/// releases them, and where none was made by realloc.
inline std::size_t kept_by_this_thread() noexcept { return allocation_counter - release_counter; }

}  // namespace support

// The functions that glibc's own malloc is built on; glibc has no malloc hooks any more.
extern "C" {
void* __libc_malloc(std::size_t) noexcept;
void* __libc_calloc(std::size_t, std::size_t) noexcept;
void* __libc_realloc(void*, std::size_t) noexcept;
void* __libc_memalign(std::size_t, std::size_t) noexcept;
void __libc_free(void*) noexcept;

void* malloc(std::size_t bytes) noexcept {
  ++support::allocation_counter;
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) noexcept {
  ++support::allocation_counter;
  return __libc_calloc(count, bytes);
}
void* realloc(void* memory, std::size_t bytes) noexcept {
  ++support::allocation_counter;
  return __libc_realloc(memory, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) noexcept {
  ++support::allocation_counter;
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  ++support::allocation_counter;
  return __libc_memalign(alignment, bytes);
}
void free(void* memory) noexcept {
  if (memory != nullptr) ++support::release_counter;
  __libc_free(memory);
}
}
