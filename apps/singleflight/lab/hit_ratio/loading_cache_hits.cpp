// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "cli/interrupt.hpp"
#include "lab/hit_ratio/hit_ratio.hpp"
#include <singleflight/cache/loading_cache.hpp>

namespace singleflight::lab {

std::uint64_t hits_of_loading_cache(const workload& requests, std::size_t capacity,
                                    const std::stop_token& stop) {
  std::uint64_t loads = 0;
  const auto load = [&loads](const std::string& /*key*/) {
    ++loads;
    return true;
  };
  loading_cache<std::string, bool> cache(load, {.capacity = capacity});
  for (std::size_t i = 0; i < requests.requests.size(); ++i) {
    if (i % 65536 == 0 && stop.stop_requested()) throw cli::interrupted{};
    static_cast<void>(cache.get(requests.key_of(i)));
  }
  return requests.requests.size() - loads;
}

}  // namespace singleflight::lab
