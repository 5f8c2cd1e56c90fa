// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lab/hit_ratio/hit_ratio.hpp"

namespace singleflight::lab {

/// The hits of the three caches at one capacity.
struct hits_at {
  std::string capacity;  // as it was typed
  std::uint64_t entries = 0;
  cache_hits lru;
  cache_hits loading_cache;
  cache_hits optimum;
};

/// hit_ratios: everything that the outputs of `hit-ratio` show.
struct hit_ratios {
  std::string workload;  // a description
  std::uint64_t requests = 0;
  std::uint64_t distinct_keys = 0;
  std::uint64_t bytes = 0;          // the sizes of all answers together; 0 if the log has none
  std::uint64_t skipped_lines = 0;  // malformed lines of the log
  std::string version;
  std::vector<hits_at> rows;
  bool interrupted = false;  // only the first of the capacities were measured

  /// The share of the requests that are not the first for their key: the hit ratio of an unbounded
  /// cache.
  double ceiling() const;
  double ratio(const cache_hits& hits) const;
  /// The share of the bytes of all answers that are in hits.
  double byte_ratio(const cache_hits& hits) const;
};

std::string to_table(const hit_ratios& all);

/// {"workload": {...}, "version": ..., "ceiling": 0.87, "capacities": [{"capacity": "5%",
/// "entries": 500, "lru": {"hits": ..., "ratio": 0.35}, "loading_cache": {...}, "optimum": {...},
/// "of_optimum": 0.95}], "interrupted": false}; `of_optimum` is omitted if the optimum has no hit.
/// If the log has sizes, the workload has `bytes`, and each cache the `bytes` of its hits and their
/// `byte_ratio`.
nlohmann::ordered_json to_json(const hit_ratios& all);

/// The HTML report.
std::string to_html(const hit_ratios& all);

}  // namespace singleflight::lab
