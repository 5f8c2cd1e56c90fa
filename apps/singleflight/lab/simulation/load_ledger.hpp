// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "lab/simulation/simulator.hpp"

namespace singleflight::lab {

/// load_ledger: decides when a simulated load ends and whether it fails, and counts loads by hour,
/// key and stampede.
class load_ledger {
 public:
  struct fate {
    std::chrono::nanoseconds end;
    bool fails;
  };

  explicit load_ledger(const simulation& what)
      : what_(what),
        faulty_(what.injected.any()),
        begun_of_key_(faulty_ ? what.trace.keys.size() : 0) {
    run.loads_by_hour.resize(what.profile.hours.size());
    run.loads_of_hottest.resize(what.profile.hottest.size());
    run.loads_let_through.resize(what.profile.stampedes.size());
  }

  /// From now on this request is made, which is number `number` of the trace. They are made in
  /// order.
  void make(const timed_request& request, std::uint64_t number) {
    request_ = request;
    number_ = number;
    const auto& hours = what_.profile.hours;
    if (hour_ + 1 < hours.size() && hours[hour_ + 1].first == number) ++hour_;
  }

  /// The request that is made begins a load for its key.
  fate begin(std::uint32_t key) {
    ++run.loads;
    ++run.loads_by_hour[hour_];
    if (what_.profile.watched[key]) note(key, request_.time);
    fate decided{request_.time + what_.times.of(request_, number_), false};
    if (faulty_) inject(key, decided);
    return decided;
  }

  bool faulty() const { return faulty_; }

  simulated_run run;

 private:
  void note(std::uint32_t key, std::chrono::nanoseconds now) {
    const auto& profile = what_.profile;
    for (std::size_t i = 0; i < profile.hottest.size(); ++i) {
      if (profile.hottest[i].key == key) ++run.loads_of_hottest[i];
    }
    for (std::size_t i = 0; i < profile.stampedes.size(); ++i) {
      const auto& each = profile.stampedes[i];
      if (each.key == key && each.begin <= now && now < each.end) ++run.loads_let_through[i];
    }
  }
  void inject(std::uint32_t key, fate& decided) {
    const auto number = begun_of_key_[key]++;
    const auto& name = what_.trace.keys[key];
    if (what_.injected.delays(what_.seed, name, number)) decided.end += what_.injected.slow_by;
    decided.fails = what_.injected.fails(what_.seed, name, number);
    if (decided.fails) ++run.failed_loads;
  }

  const simulation& what_;
  const bool faulty_;
  timed_request request_;
  std::uint64_t number_ = 0;
  std::size_t hour_ = 0;
  std::vector<std::uint32_t> begun_of_key_;  // loads that began, by key; empty without faults
};

}  // namespace singleflight::lab
