// SPDX-License-Identifier: Apache-2.0
#include "lab/protection/cache_settings.hpp"

#include <fmt/format.h>

#include "cli/units.hpp"

namespace singleflight::lab {

std::string cache_settings::describe() const {
  using std::chrono::nanoseconds;
  auto text =
      fmt::format("at most {} {}", cli::show_count(capacity), capacity == 1 ? "entry" : "entries");
  text += ttl == nanoseconds(0) ? "; fresh forever" : "; fresh for " + cli::show_duration(ttl);
  if (refresh_after != nanoseconds(0))
    text += "; refreshed after " + cli::show_duration(refresh_after);
  if (stale_if_error != nanoseconds(0))
    text += fmt::format("; stale for {} more if loads fail", cli::show_duration(stale_if_error));
  return text;
}

}  // namespace singleflight::lab
