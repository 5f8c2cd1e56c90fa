// SPDX-License-Identifier: Apache-2.0
#include "lab/backend/retrying_backend.hpp"

#include <exception>

#include <singleflight/sync/retry.hpp>

namespace singleflight::lab {

namespace {

using namespace std::chrono_literals;

bool is_worth_retrying(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const not_asked&) {
    return false;
  } catch (const std::exception&) {
    return true;
  }
}

}  // namespace

row retrying_backend::load(const std::string& key, const patience& until) {
  const retry_policy policy{
      .max_attempts = attempts_,
      .base = 10ms,
      .cap = 1s,
      .retry_if = is_worth_retrying,
      // Used instead of a deadline, which could not be extended while the load runs.
      .on_retry =
          [&](std::uint32_t /*attempt*/, const std::exception_ptr& error,
              std::chrono::nanoseconds delay) {
            if (until() - clock_.now() <= delay) std::rethrow_exception(error);
          },
      .timer = &clock_,
  };
  const auto attempt_load = [&](std::uint32_t attempt) {
    if (attempt > 1) retries_.fetch_add(1, std::memory_order_relaxed);
    return asked_.load(key, until);
  };
  try {
    return retry(policy, attempt_load, {.stop = interrupted_.get_token()});
  } catch (const flight_error&) {  // only the stop ends retry() this way
    throw load_interrupted();
  }
}

void retrying_backend::interrupt() noexcept {
  interrupted_.request_stop();
  asked_.interrupt();
}

}  // namespace singleflight::lab
