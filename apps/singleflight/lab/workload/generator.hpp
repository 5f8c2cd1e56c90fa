// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "lab/workload/workload.hpp"

namespace singleflight::lab {

/// generator: a made-up workload, the same for the same seed on every machine. Keys are "1" to
/// "keys"; key 1 is the most popular.
struct generator {
  enum class shape {
    hot,     // key 1 gets `share` of the requests, the others share the rest evenly
    zipf,    // key r is asked for in proportion to 1 / r^skew
    uniform  // every key alike
  };
  shape form = shape::hot;
  std::uint32_t keys = 1000;
  double share = 0.9;
  double skew = 0.99;

  /// "hot", "hot:keys=500,share=0.8", "zipf:keys=10000,skew=1.1", "uniform:keys=100"; what is left
  /// out keeps its default. Throws usage_error.
  static generator parse(std::string_view text);

  workload make(std::size_t requests, std::uint64_t seed) const;
};

}  // namespace singleflight::lab
