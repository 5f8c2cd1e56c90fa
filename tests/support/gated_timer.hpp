// SPDX-License-Identifier: Apache-2.0
#pragma once

// gated_timer: a manual_timer that opens a gate when an alarm is armed, which is when a caller with
// a deadline has begun to wait.

#include <optional>

#include "support/gate.hpp"
#include <singleflight/core/manual_timer.hpp>

namespace support {

struct gated_timer final : singleflight::timer {
  time_point now() const noexcept override { return clock.now(); }
  void arm(singleflight::timer_node& node, time_point when) override {
    clock.arm(node, when);
    if (wanted.value_or(when) == when) armed.open();
  }
  void cancel(singleflight::timer_node& node) noexcept override { clock.cancel(node); }

  std::optional<time_point> wanted{};  ///< The alarm that opens the gate; nullopt: any.
  singleflight::manual_timer clock;
  support::gate armed;
};

}  // namespace support
