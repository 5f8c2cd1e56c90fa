// SPDX-License-Identifier: Apache-2.0
#include "lab/log/stray_times.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <ratio>
#include <utility>
#include <vector>

namespace singleflight::lab {

namespace {

using months = std::chrono::duration<std::int64_t, std::ratio<std::int64_t{30} * 24 * 3600>>;
constexpr stamp month = months(1);

struct span_of_time {
  stamp first;
  stamp last;
  std::uint64_t requests = 0;
};

// The spans in which there are times: at most one in a month. So a gap of more than a month is
// between two of them, and their number does not depend on that of the requests.
std::vector<span_of_time> spans_of(const spool<timed_request>& requests,
                                   const std::stop_token& stop) {
  std::map<months, span_of_time> by_month;
  span_of_time* latest = nullptr;
  months month_of_latest{0};
  visit_all(requests, stop, [&](const timed_request& each) {
    if (each.time == no_time) return;
    const auto number = std::chrono::floor<months>(each.time);
    if (latest == nullptr || number != month_of_latest) {
      latest = &by_month.try_emplace(number, span_of_time{each.time, each.time}).first->second;
      month_of_latest = number;
    }
    latest->first = std::min(latest->first, each.time);
    latest->last = std::max(latest->last, each.time);
    ++latest->requests;
  });
  std::vector<span_of_time> spans;
  spans.reserve(by_month.size());
  for (const auto& [number, span] : by_month) spans.push_back(span);
  return spans;
}

// How many spans from `begin` on have together no more times than may be stray.
template <class Span>
std::size_t at_most_stray(Span begin, Span end, std::uint64_t most) {
  std::size_t count = 0;
  for (std::uint64_t requests = 0; begin != end; ++begin, ++count) {
    requests += begin->requests;
    if (requests > most) break;
  }
  return count;
}

bool far(stamp gap, stamp rest) { return gap > month && gap / 10 > rest; }

// The times between which none is stray. Requires more than twice as many times as may be stray.
std::pair<stamp, stamp> usual_times(const std::vector<span_of_time>& spans, std::uint64_t most) {
  const auto size = spans.size();
  const auto low = at_most_stray(spans.begin(), spans.end(), most);
  const auto high = at_most_stray(spans.rbegin(), spans.rend(), most);
  std::size_t begin = 0;
  for (std::size_t i = low; i > 0 && begin == 0; --i) {
    const auto rest = spans[size - 1 - high].last - spans[i].first;
    if (far(spans[i].first - spans[i - 1].last, rest)) begin = i;
  }
  std::size_t end = size;
  for (std::size_t i = size - high; i < size && end == size; ++i) {
    const auto rest = spans[i - 1].last - spans[begin].first;
    if (far(spans[i].first - spans[i - 1].last, rest)) end = i;
  }
  return {spans[begin].first, spans[end - 1].last};
}

}  // namespace

std::uint64_t replace_stray_times(spool<timed_request>& requests, const std::stop_token& stop) {
  constexpr std::uint64_t fewest = 10;
  const auto spans = spans_of(requests, stop);
  if (spans.empty()) return 0;
  std::uint64_t known = 0;
  for (const auto& each : spans) known += each.requests;
  const std::pair<stamp, stamp> all{spans.front().first, spans.back().last};
  auto usual = all;
  const auto most = std::max<std::uint64_t>(requests.size() / 100, 1);
  if (requests.size() >= fewest && known > 2 * most) usual = usual_times(spans, most);
  if (usual == all && known == requests.size()) return 0;

  const auto is_usual = [&](const timed_request& each) {
    return usual.first <= each.time && each.time <= usual.second;
  };

  stamp before{};
  any_in(requests, stop, [&](const timed_request& each) {
    before = each.time;
    return is_usual(each);
  });
  std::uint64_t stray = 0;
  spool<timed_request> made;
  visit_all(requests, stop, [&](timed_request each) {
    if (!is_usual(each)) {
      if (each.time != no_time) ++stray;
      each.time = before;
    }
    before = each.time;
    made.append(each);
  });
  requests = std::move(made);
  return stray;
}

}  // namespace singleflight::lab
