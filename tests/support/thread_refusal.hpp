// SPDX-License-Identifier: Apache-2.0
#pragma once

// thread_refusal: while it lives, no thread can be started in this process, and the attempts are
// counted. Include it in one file of an executable: it interposes the system's function. It does
// not work with a sanitizer, which interposes it too and would not learn of any thread: tests skip
// there.

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

/// Whether a call failed with the error that the system gives when it has no thread.
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
    "a sanitizer interposes the function that would refuse threads";

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
