// SPDX-License-Identifier: Apache-2.0
#include "lab/log/stray_times.hpp"

#include <algorithm>
#include <functional>

namespace singleflight::lab {

std::uint64_t replace_stray_times(std::vector<stamp>& times) {
  constexpr std::size_t fewest = 10;
  constexpr stamp month = std::chrono::hours(24 * 30);
  if (times.size() < fewest) return 0;
  const auto [earliest, latest] = std::minmax_element(times.begin(), times.end());
  if (*latest - *earliest <= month) return 0;
  // The times at both ends of the log, as many as may be stray, and the next ones.
  const auto most = std::max<std::size_t>(times.size() / 100, 1);
  auto sorted = times;
  const auto low_end = sorted.begin() + static_cast<std::ptrdiff_t>(most) + 1;
  std::partial_sort(sorted.begin(), low_end, sorted.end());
  const std::vector<stamp> low(sorted.begin(), low_end);
  std::partial_sort(sorted.begin(), low_end, sorted.end(), std::greater<>{});
  const std::vector<stamp> high(sorted.begin(), low_end);

  stamp first = low.front();
  stamp last = high.front();
  const auto far = [&](stamp gap, stamp rest) { return gap > month && gap / 10 > rest; };
  for (std::size_t i = most; i > 0; --i) {
    if (first == low.front() && far(low[i] - low[i - 1], high.back() - low[i])) first = low[i];
    if (last == high.front() && far(high[i - 1] - high[i], high[i] - first)) last = high[i];
  }
  std::uint64_t stray = 0;
  const auto is_stray = [&](stamp time) { return time < first || time > last; };
  const auto good = std::find_if_not(times.begin(), times.end(), is_stray);
  stamp before = good == times.end() ? first : *good;
  for (auto& time : times) {
    if (is_stray(time)) {
      time = before;
      ++stray;
    }
    before = time;
  }
  return stray;
}

}  // namespace singleflight::lab
