// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "lab/backend/backend.hpp"
#include <singleflight/core/default_timer.hpp>

namespace singleflight::lab {

class retrying_backend;
class breaker_backend;
class bounded_backend;

/// guard_settings: the guards of the backend; a guard without a value is off.
struct guard_settings {
  std::optional<std::uint32_t> attempts;  // per load, including the first one
  std::optional<double> error_rate;       // at which the breaker opens; in (0, 1]
  std::optional<std::size_t> max_loads;   // that run concurrently

  bool any() const { return attempts || error_rate || max_loads; }
  /// A description for people: "at most 3 attempts per load; ..."; empty without guards.
  std::string describe() const;
};

/// guard_counts: what the guards did. Each requested load and each retry ends in one of four ways:
/// it reaches the backend, is rejected, gives up waiting, or is interrupted.
struct guard_counts {
  std::uint64_t asked = 0;  // loads that were requested
  std::uint64_t retries = 0;
  std::uint64_t rejected = 0;
  std::uint64_t opened = 0;   // how often the breaker opened
  std::uint64_t queued = 0;   // had to wait for their turn
  std::uint64_t gave_up = 0;  // of these, gave up before it came
  std::chrono::nanoseconds waited{0};
  std::chrono::nanoseconds longest_wait{0};

  /// The mean of those that had to wait.
  std::chrono::nanoseconds mean_wait() const;
};

/// guarded_backend: another backend behind guards. A load passes the retries, then the breaker,
/// then the bound. So the breaker sees each attempt, and an open breaker ends the retries; and a
/// load that the breaker rejects does not wait for its turn first.
///
/// Lifetime    borrows the other backend and the clock.
class guarded_backend : public backend {
 public:
  guarded_backend(backend& guarded, const guard_settings& chosen, timer& clock = default_timer());
  ~guarded_backend() override;

  row load(const std::string& key, const patience& until) override;
  void interrupt() noexcept override { outermost_->interrupt(); }
  std::string name() const override { return outermost_->name(); }
  std::string query() const override { return outermost_->query(); }
  std::size_t connections() const override { return outermost_->connections(); }

  guard_counts counts() const;

 private:
  std::unique_ptr<bounded_backend> bounded_;
  std::unique_ptr<breaker_backend> breaker_;
  std::unique_ptr<retrying_backend> retrying_;
  backend* outermost_;
  std::atomic<std::uint64_t> asked_ = 0;
};

}  // namespace singleflight::lab
