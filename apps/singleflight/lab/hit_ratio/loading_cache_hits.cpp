// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio/count_hits.hpp"
#include "lab/hit_ratio/hit_ratio.hpp"
#include "lab/workload/mix.hpp"
#include <singleflight/cache/loading_cache.hpp>

namespace singleflight::lab {

cache_hits hits_of_loading_cache(const request_trace& trace, std::size_t capacity,
                                 const std::stop_token& stop) {
  bool loaded = false;
  const auto load = [&loaded](std::uint32_t /*key*/) {
    loaded = true;
    return true;
  };
  loading_cache<std::uint32_t, bool, key_mix> cache(load, {.capacity = capacity});
  return count_hits(trace, stop, [&](std::uint32_t key) {
    loaded = false;
    static_cast<void>(cache.get(key));
    return !loaded;
  });
}

}  // namespace singleflight::lab
