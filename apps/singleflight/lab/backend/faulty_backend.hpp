// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

#include "lab/backend/backend.hpp"

namespace singleflight::lab {

/// faults: what is to go wrong with a backend that works. Shares of its loads, from 0 to 1.
struct faults {
  double fail_share = 0;
  double slow_share = 0;
  std::chrono::nanoseconds slow_by{0};

  bool any() const { return fail_share > 0 || slow_share > 0; }
};

/// faulty_backend: another backend's answers, of which some fail ("injected") and some come late,
/// some both. A fault befalls the finished answer: the work has been done, and its connection is
/// free again.
///
/// Whether the n-th answer for a key fails or is late follows from the seed, the key and n alone,
/// not from the time: whoever replays the same requests meets the same faults, on every machine. A
/// new object counts from 0 again.
///
/// Lifetime    borrows the other backend.
class faulty_backend : public backend {
 public:
  faulty_backend(backend& working, faults injected, std::uint64_t seed)
      : working_(working), injected_(injected), seed_(seed) {}

  row load(const std::string& key, const patience& until) override;
  void interrupt() noexcept override;
  std::string name() const override;
  std::string query() const override { return working_.query(); }
  std::size_t connections() const override { return working_.connections(); }

 private:
  std::uint64_t next_number(const std::string& key);
  void come_late();

  backend& working_;
  faults injected_;
  std::uint64_t seed_;
  std::mutex mutex_;                                         // guards what follows
  std::unordered_map<std::string, std::uint64_t> answered_;  // how often each key was
  std::condition_variable changed_;
  bool interrupted_ = false;
};

}  // namespace singleflight::lab
