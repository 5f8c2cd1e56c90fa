// SPDX-License-Identifier: Apache-2.0
#include "lab/backend/delay_backend.hpp"

#include <fmt/format.h>

#include "cli/units.hpp"

namespace singleflight::lab {

row delay_backend::load(const std::string& key, const patience& /*until*/) {
  const auto end = std::chrono::steady_clock::now() + delay_;
  std::unique_lock lock(mutex_);
  if (changed_.wait_until(lock, end, [this] { return interrupted_; })) {
    throw load_interrupted();
  }
  return {key, 1};
}

void delay_backend::interrupt() noexcept {
  {
    const std::scoped_lock lock(mutex_);
    interrupted_ = true;
  }
  changed_.notify_all();
}

std::string delay_backend::name() const {
  return fmt::format("a delay of {}", cli::show_duration(delay_));
}

}  // namespace singleflight::lab
