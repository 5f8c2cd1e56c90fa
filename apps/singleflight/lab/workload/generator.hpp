// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "lab/workload/workload.hpp"

namespace singleflight::lab {

/// generator: generates a workload; the same seed gives the same workload on every machine. The
/// keys are "1" to "keys"; key 1 is the most popular.
struct generator {
  enum class shape {
    hot,     // key 1 gets `share` of the requests, the other keys equal parts of the rest
    zipf,    // key r is requested with a frequency proportional to 1 / r^skew
    uniform  // every key with equal frequency
  };
  shape form = shape::hot;
  std::uint32_t keys = 1000;
  double share = 0.9;
  double skew = 0.99;

  /// "hot", "hot:keys=500,share=0.8", "zipf:keys=10000,skew=1.1", "uniform:keys=100"; a setting
  /// that is omitted has its default. Throws usage_error.
  static generator parse(std::string_view text);

  workload make(std::size_t requests, std::uint64_t seed) const;
};

}  // namespace singleflight::lab
