// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <mutex>

#include "lab/backend/backend.hpp"
#include "lab/replay/load_series.hpp"

namespace singleflight::lab {

/// load_meter: counts what one run asks of a backend. A load is in flight from when it is asked for
/// until it has answered, its wait for a connection included; it counts as a load if it reached the
/// backend. The guards stand before it: each attempt is a load here, and one that they hold back is
/// none.
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

  /// The run begins; the time of the series counts from here.
  void start();
  /// What comes later is not counted.
  void stop();

  std::uint64_t loads() const;
  load_series series() const;

 private:
  void change(int delta, bool counts);

  backend& backend_;
  mutable std::mutex mutex_;  // guards what follows; a load takes far longer than this lock is held
  load_series series_;
  std::uint64_t loads_ = 0;
  steady_time began_{};
  bool stopped_ = false;
};

}  // namespace singleflight::lab
