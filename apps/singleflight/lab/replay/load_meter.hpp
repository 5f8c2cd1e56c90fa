// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <mutex>

#include "lab/backend/backend.hpp"
#include "lab/replay/load_series.hpp"

namespace singleflight::lab {

/// load_meter: counts the loads of one run. A load is in flight from the call until it returns,
/// which includes its wait for a connection; it is counted if it reached the backend. The guards
/// are in front of the meter: each attempt is one load here, and a load that a guard holds back is
/// not one.
///
/// Lifetime    borrows the backend.
class load_meter : public backend {
 public:
  explicit load_meter(backend& measured) : backend_(measured) {}

  row load(const std::string& key, const patience& until) override;
  void interrupt() noexcept override { backend_.interrupt(); }
  std::string name() const override { return backend_.name(); }
  std::string query() const override { return backend_.query(); }
  std::size_t connections() const override { return backend_.connections(); }

  /// Marks the beginning of the run, from which the series counts its time.
  void start();
  /// Ends the counting.
  void stop();

  std::uint64_t loads() const;
  load_series series() const;

 private:
  void change(int delta, bool counts);

  backend& backend_;
  mutable std::mutex mutex_;  // guards the members below; held far shorter than a load takes
  load_series series_;
  std::uint64_t loads_ = 0;
  steady_time began_{};
  bool stopped_ = false;
};

}  // namespace singleflight::lab
