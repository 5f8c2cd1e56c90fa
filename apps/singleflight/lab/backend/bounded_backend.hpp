// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <string>

#include "lab/backend/backend.hpp"
#include <singleflight/core/default_timer.hpp>
#include <singleflight/sync/semaphore.hpp>

namespace singleflight::lab {

/// bounded_backend: lets at most `max_loads` loads run concurrently in another backend, first come,
/// first served. A load waits for its turn while a caller waits for it; then it throws
/// no_connection.
///
/// Lifetime    borrows the other backend and the clock.
class bounded_backend : public backend {
 public:
  struct queue_counts {
    std::uint64_t queued = 0;   // loads that had to wait and no longer wait
    std::uint64_t gave_up = 0;  // of these, loads that gave up before their turn
    std::chrono::nanoseconds waited{0};
    std::chrono::nanoseconds longest{0};
  };

  bounded_backend(backend& asked, std::size_t max_loads, timer& clock = default_timer())
      : asked_(asked),
        clock_(clock),
        turns_(static_cast<semaphore::count>(max_loads), {.timer = &clock}) {}

  row load(const std::string& key, const patience& until) override;
  void interrupt() noexcept override;
  std::string name() const override { return asked_.name(); }
  std::string query() const override { return asked_.query(); }
  std::size_t connections() const override { return asked_.connections(); }

  queue_counts queue() const;
  /// The number of loads in the queue; may be stale when it is returned.
  std::size_t waiting_approx() const noexcept { return turns_.waiters_approx(); }

 private:
  permit take_turn(const patience& until);

  backend& asked_;
  timer& clock_;
  semaphore turns_;
  std::stop_source interrupted_;
  mutable std::mutex mutex_;  // guards counts_
  queue_counts counts_;
};

}  // namespace singleflight::lab
