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

/// faults: the faults to inject into a backend. A share is a share of its loads, from 0 to 1.
struct faults {
  double fail_share = 0;
  double slow_share = 0;
  std::chrono::nanoseconds slow_by{0};

  bool any() const { return fail_share > 0 || slow_share > 0; }

  /// Whether the answer number `number` for the key, counted from 0, fails or is delayed.
  bool fails(std::uint64_t seed, const std::string& key, std::uint64_t number) const;
  bool delays(std::uint64_t seed, const std::string& key, std::uint64_t number) const;
};

/// faulty_backend: returns the answers of another backend, but makes some fail ("injected"), delays
/// some, or both. The fault is applied to the finished answer: the other backend has done the work,
/// and its connection is free again.
///
/// Whether the n-th answer for a key fails or is delayed depends only on the seed, the key and n,
/// not on the time: replaying the same requests gives the same faults on every machine. A new
/// object counts from 0 again.
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
  void delay_answer();

  backend& working_;
  faults injected_;
  std::uint64_t seed_;
  std::mutex mutex_;                                         // guards what follows
  std::unordered_map<std::string, std::uint64_t> answered_;  // answers per key
  std::condition_variable changed_;
  bool interrupted_ = false;
};

}  // namespace singleflight::lab
