// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace singleflight::lab {

/// The hits of the three caches at one capacity.
struct hits_at {
  std::string capacity;  // as it was typed
  std::uint64_t entries = 0;
  std::uint64_t lru = 0;
  std::uint64_t loading_cache = 0;
  std::uint64_t optimum = 0;
};

/// hit_ratios: everything that the outputs of `hit-ratio` show.
struct hit_ratios {
  std::string workload;  // a description
  std::uint64_t requests = 0;
  std::uint64_t distinct_keys = 0;
  std::uint64_t skipped_lines = 0;  // malformed lines of the log
  std::string version;
  std::vector<hits_at> rows;

  /// The share of the requests that are not the first for their key: the hit ratio of an unbounded
  /// cache.
  double ceiling() const;
  double ratio(std::uint64_t hits) const;
};

std::string to_table(const hit_ratios& all);

/// {"workload": {...}, "version": ..., "ceiling": 0.87, "capacities": [{"capacity": "5%",
/// "entries": 500, "lru": {"hits": ..., "ratio": 0.35}, "loading_cache": {...}, "optimum": {...},
/// "of_optimum": 0.95}]}; `of_optimum` is omitted if the optimum has no hit.
nlohmann::ordered_json to_json(const hit_ratios& all);

/// The HTML report.
std::string to_html(const hit_ratios& all);

}  // namespace singleflight::lab
