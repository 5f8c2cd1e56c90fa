// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <stop_token>
#include <string>

#include "lab/backend/backend.hpp"
#include <singleflight/core/default_timer.hpp>

namespace singleflight::lab {

/// retrying_backend: retries failed loads of another backend after random delays: up to 10 ms
/// before the second attempt, 20 ms before the third, and so on, up to 1 s.
///
/// A load that did not reach the backend is not retried (a breaker is open, or no caller waits).
/// There is no retry either if its delay would outlast the patience of all callers.
///
/// Lifetime    borrows the other backend and the clock.
class retrying_backend : public backend {
 public:
  retrying_backend(backend& asked, std::uint32_t attempts, timer& clock = default_timer())
      : asked_(asked), attempts_(attempts), clock_(clock) {}

  row load(const std::string& key, const patience& until) override;
  void interrupt() noexcept override;
  std::string name() const override { return asked_.name(); }
  std::string query() const override { return asked_.query(); }
  std::size_t connections() const override { return asked_.connections(); }

  /// The number of attempts after the first one of each load.
  std::uint64_t retries() const { return retries_.load(std::memory_order_relaxed); }

 private:
  backend& asked_;
  const std::uint32_t attempts_;
  timer& clock_;
  std::stop_source interrupted_;
  std::atomic<std::uint64_t> retries_ = 0;
};

}  // namespace singleflight::lab
