// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "lab/backend/backend.hpp"
#include <singleflight/core/default_timer.hpp>
#include <singleflight/sync/circuit_breaker.hpp>

namespace singleflight::lab {

/// load_rejected: the circuit breaker is open.
class load_rejected : public not_asked {
 public:
  load_rejected() : not_asked("rejected", "the circuit breaker was open (--breaker)") {}
};

/// breaker_backend: another backend behind a circuit breaker. A load that does not reach the
/// backend counts neither as a success nor as a failure.
///
/// Lifetime    borrows the other backend and the clock.
class breaker_backend : public backend {
 public:
  breaker_backend(backend& asked, double error_rate, timer& clock = default_timer())
      : asked_(asked), breaker_({.error_rate = error_rate, .timer = &clock}) {}

  row load(const std::string& key, const patience& until) override;
  void interrupt() noexcept override { asked_.interrupt(); }
  std::string name() const override { return asked_.name(); }
  std::string query() const override { return asked_.query(); }
  std::size_t connections() const override { return asked_.connections(); }

  std::uint64_t rejected() const { return breaker_.stats().rejected; }
  std::uint64_t opened() const { return breaker_.stats().opened; }

 private:
  backend& asked_;
  circuit_breaker breaker_;
};

}  // namespace singleflight::lab
