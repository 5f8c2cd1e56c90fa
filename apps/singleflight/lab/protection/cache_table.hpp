// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "cli/text_table.hpp"
#include "cli/units.hpp"

namespace singleflight::lab {

/// Makes the table of what the caches among the runs counted; empty if none of them is a cache. A
/// run has a `protection` and, if that is a cache, the cache_counts `cached`.
template <class Runs>
std::string cache_table(const Runs& runs) {
  std::vector<cli::cells> rows{
      {"cache", "hits", "stale", "misses", "refreshes", "failed", "expired", "evicted"}};
  for (const auto& run : runs) {
    if (!run.cached) continue;
    const auto& counts = *run.cached;
    rows.push_back({run.protection, cli::show_count(counts.hits), cli::show_count(counts.stale),
                    cli::show_count(counts.misses), cli::show_count(counts.refreshes),
                    cli::show_count(counts.failed), cli::show_count(counts.expired),
                    cli::show_count(counts.evicted)});
  }
  return rows.size() == 1 ? "" : cli::aligned(rows) + "\n";
}

}  // namespace singleflight::lab
