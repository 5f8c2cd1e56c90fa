// SPDX-License-Identifier: Apache-2.0
#include "lab/backend/guards.hpp"

#include <fmt/format.h>

#include "cli/units.hpp"
#include "lab/backend/bounded_backend.hpp"
#include "lab/backend/breaker_backend.hpp"
#include "lab/backend/retrying_backend.hpp"

namespace singleflight::lab {

std::string guard_settings::describe() const {
  std::string text;
  const auto add = [&](const std::string& guard) { text += (text.empty() ? "" : "; ") + guard; };
  const auto some = [](std::size_t n, const char* what) {
    return fmt::format("{} {}{}", cli::show_count(n), what, n == 1 ? "" : "s");
  };
  if (attempts) add(fmt::format("at most {} per load", some(*attempts, "attempt")));
  if (error_rate) add(fmt::format("a breaker that opens at {:g} % failures", *error_rate * 100));
  if (max_loads) add(fmt::format("at most {} at a time", some(*max_loads, "load")));
  return text;
}

std::chrono::nanoseconds guard_counts::mean_wait() const {
  return queued == 0 ? waited : waited / static_cast<std::int64_t>(queued);
}

guarded_backend::guarded_backend(backend& guarded, const guard_settings& chosen, timer& clock)
    : outermost_(&guarded) {
  if (chosen.max_loads) {
    bounded_ = std::make_unique<bounded_backend>(*outermost_, *chosen.max_loads, clock);
    outermost_ = bounded_.get();
  }
  if (chosen.error_rate) {
    breaker_ = std::make_unique<breaker_backend>(*outermost_, *chosen.error_rate, clock);
    outermost_ = breaker_.get();
  }
  if (chosen.attempts) {
    retrying_ = std::make_unique<retrying_backend>(*outermost_, *chosen.attempts, clock);
    outermost_ = retrying_.get();
  }
}

guarded_backend::~guarded_backend() = default;

row guarded_backend::load(const std::string& key, const patience& until) {
  asked_.fetch_add(1, std::memory_order_relaxed);
  return outermost_->load(key, until);
}

guard_counts guarded_backend::counts() const {
  guard_counts sum;
  sum.asked = asked_.load(std::memory_order_relaxed);
  if (retrying_) sum.retries = retrying_->retries();
  if (breaker_) {
    sum.rejected = breaker_->rejected();
    sum.opened = breaker_->opened();
  }
  if (bounded_) {
    const auto queue = bounded_->queue();
    sum.queued = queue.queued;
    sum.gave_up = queue.gave_up;
    sum.waited = queue.waited;
    sum.longest_wait = queue.longest;
  }
  return sum;
}

}  // namespace singleflight::lab
