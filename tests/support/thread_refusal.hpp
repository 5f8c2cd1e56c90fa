// SPDX-License-Identifier: Apache-2.0
#pragma once

// thread_refusal: while it lives, the system has no thread for anybody in this process, and counts
// who asks. Included by one file of an executable: it puts itself before the system's function. Not
// with a sanitizer, which does that itself and would not learn of any thread: tests skip there.

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <exception>
#include <system_error>

#include "support/sanitizers.hpp"
#include <singleflight/core.hpp>

namespace support {

inline std::atomic<int> refusals_in_force{0};
inline std::atomic<int> threads_refused{0};

class thread_refusal {
 public:
  thread_refusal() noexcept {
    threads_refused = 0;
    ++refusals_in_force;
  }
  thread_refusal(const thread_refusal&) = delete;
  thread_refusal& operator=(const thread_refusal&) = delete;
  ~thread_refusal() { --refusals_in_force; }

  static int asked() noexcept { return threads_refused; }
};

/// Whether a call has ended with the system's reason for having no thread.
bool names_the_reason(const auto& outcome) {
  if (outcome.has_value()) return false;
  try {
    std::rethrow_exception(outcome.exception());
  } catch (const singleflight::flight_error&) {
    return false;
  } catch (const std::system_error& e) {
    return e.code() == std::errc::resource_unavailable_try_again;
  }
}

inline constexpr const char* not_with_sanitizers =
    "a sanitizer stands where threads would be refused";

}  // namespace support

#if !defined(SUPPORT_TSAN) && !defined(SUPPORT_ASAN)
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*start)(void*), void* argument) {
  if (support::refusals_in_force > 0) {
    ++support::threads_refused;
    return EAGAIN;
  }
  using function = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto next = reinterpret_cast<function>(::dlsym(RTLD_NEXT, "pthread_create"));
  return next(thread, attributes, start, argument);
}
#endif
