// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "lab/protection/protection.hpp"
#include "lab/replay/histogram.hpp"

namespace singleflight::lab {

/// What the callers of one run observed.
struct tally {
  struct failures {
    std::uint64_t count = 0;
    std::string example;  // the message of the first one
  };

  std::uint64_t requests = 0;  // finished, including failed ones
  std::uint64_t answered = 0;
  std::uint64_t saved = 0;  // served by the load of another request
  std::uint64_t empty = 0;  // answers without rows
  std::map<std::string, failures> errors;
  histogram latency;  // of every request, including failed ones

  void record(std::chrono::nanoseconds latency_of_request, const reply& got);
  void add(const tally& other);
};

/// recorder: a tally that many threads fill; it has stripes, which are summed at the end.
///
/// Threads     record and sum, from any thread.
class recorder {
 public:
  void record(std::size_t thread, std::chrono::nanoseconds latency, const reply& got);
  tally sum() const;

 private:
  struct alignas(64) stripe {
    mutable std::mutex mutex;  // guards counts
    tally counts;
  };
  // Not one per thread: an open loop may need thousands, and a histogram takes 58 KiB.
  std::array<stripe, 16> stripes_;
};

}  // namespace singleflight::lab
