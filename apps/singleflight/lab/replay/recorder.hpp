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

/// What the callers of one run saw.
struct tally {
  struct failures {
    std::uint64_t count = 0;
    std::string example;  // what the first one said
  };

  std::uint64_t requests = 0;  // finished, failed ones included
  std::uint64_t answered = 0;
  std::uint64_t saved = 0;  // another request's load served it
  std::uint64_t empty = 0;  // answered without rows
  std::map<std::string, failures> errors;
  histogram latency;  // of every request, failed ones included

  void record(std::chrono::nanoseconds latency_of_request, const reply& got);
  void add(const tally& other);
};

/// recorder: one tally filled by many threads, cut into stripes that are summed at the end.
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
  // Not one a thread: an open loop may need thousands, and a histogram has 58 KiB.
  std::array<stripe, 16> stripes_;
};

}  // namespace singleflight::lab
