// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace singleflight::lab {

/// What three caches of one capacity have answered themselves.
struct hits_at {
  std::string capacity;  // as it was asked for
  std::uint64_t entries = 0;
  std::uint64_t lru = 0;
  std::uint64_t loading_cache = 0;
  std::uint64_t optimum = 0;
};

/// hit_ratios: all that the outputs of `hit-ratio` say.
struct hit_ratios {
  std::string workload;  // in words
  std::uint64_t requests = 0;
  std::uint64_t distinct_keys = 0;
  std::uint64_t skipped_lines = 0;  // malformed ones of the log
  std::string version;
  std::vector<hits_at> rows;

  /// The share of the requests that are not the first for their key: what a cache without bounds
  /// would answer.
  double ceiling() const;
  double ratio(std::uint64_t hits) const;
};

std::string to_table(const hit_ratios& all);

/// {"workload": {...}, "version": ..., "ceiling": 0.87, "capacities": [{"capacity": "5%",
/// "entries": 500, "lru": {"hits": ..., "ratio": 0.35}, "loading_cache": {...}, "optimum": {...},
/// "of_optimum": 0.95}]}; `of_optimum` is left out where the optimum has no hit.
nlohmann::ordered_json to_json(const hit_ratios& all);

/// The page.
std::string to_html(const hit_ratios& all);

}  // namespace singleflight::lab
