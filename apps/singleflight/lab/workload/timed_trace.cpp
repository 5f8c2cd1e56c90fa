// SPDX-License-Identifier: Apache-2.0
#include "lab/workload/timed_trace.hpp"

#include <algorithm>
#include <deque>
#include <queue>
#include <utility>

namespace singleflight::lab {

namespace {

using std::chrono::nanoseconds;
using requests_of_log = spool<timed_request>;

bool earlier(const timed_request& a, const timed_request& b) { return a.time < b.time; }

bool is_sorted(const requests_of_log& requests, const std::stop_token& stop) {
  auto before = nanoseconds::min();
  return !any_in(requests, stop, [&](const timed_request& each) {
    return each.time < std::exchange(before, each.time);
  });
}

// Parts of this many requests are sorted in memory.
constexpr std::size_t part_size = 1U << 21U;
static_assert(part_size % requests_of_log::small_block == 0);

requests_of_log in_sorted_parts(const requests_of_log& requests, const std::stop_token& stop) {
  requests_of_log made;
  std::vector<timed_request> part;
  const auto end_part = [&] {
    std::stable_sort(part.begin(), part.end(), earlier);
    for (const auto& each : part) made.append(each);
    part.clear();
  };
  visit_all(requests, stop, [&](const timed_request& each) {
    if (part.size() == part_size) end_part();
    part.push_back(each);
  });
  end_part();
  return made;
}

// Of requests at the same time the one in the earlier part comes first, so that they keep their
// order.
requests_of_log merged(const requests_of_log& parts, const std::stop_token& stop) {
  struct head {
    timed_request request;
    std::size_t part;
    bool operator<(const head& other) const {
      return request.time != other.request.time ? request.time > other.request.time
                                                : part > other.part;
    }
  };
  std::deque<requests_of_log::cursor> cursors;
  std::priority_queue<head> heads;
  for (std::uint64_t begin = 0; begin < parts.size(); begin += part_size) {
    cursors.emplace_back(parts, begin, std::min(begin + part_size, parts.size()));
    heads.push({cursors.back().next(), cursors.size() - 1});
  }
  requests_of_log made;
  while (!heads.empty()) {
    const auto [request, part] = heads.top();
    heads.pop();
    if (made.size() % 65536 == 0 && stop.stop_requested()) throw cli::interrupted{};
    made.append(request);
    if (cursors[part].left() > 0) heads.push({cursors[part].next(), part});
  }
  return made;
}

bool whole_seconds(const requests_of_log& requests, const std::stop_token& stop) {
  return !any_in(requests, stop, [](const timed_request& each) {
    return each.time % std::chrono::seconds(1) != nanoseconds(0);
  });
}

requests_of_log relative_to(nanoseconds first, const requests_of_log& requests,
                            const std::stop_token& stop) {
  requests_of_log made;
  visit_all(requests, stop, [&](timed_request each) {
    each.time -= first;
    made.append(each);
  });
  return made;
}

// One cursor is ahead of the other by a second, to know how many requests there are in it.
requests_of_log spread_over_seconds(const requests_of_log& requests, const std::stop_token& stop) {
  requests_of_log made;
  requests_of_log::cursor behind(requests);
  const auto append = [&](std::uint64_t count) {
    const auto share = nanoseconds(std::chrono::seconds(1)) / static_cast<std::int64_t>(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      auto each = behind.next();
      each.time += share * static_cast<std::int64_t>(i);
      made.append(each);
    }
  };
  std::uint64_t count = 0;
  auto second = nanoseconds::min();
  visit_all(requests, stop, [&](const timed_request& each) {
    if (each.time != second && count > 0) append(std::exchange(count, 0));
    second = each.time;
    ++count;
  });
  append(count);
  return made;
}

}  // namespace

void arrange_by_time(timed_trace& trace, const std::stop_token& stop) {
  auto& requests = trace.requests;
  if (requests.size() == 0) return;
  if (!is_sorted(requests, stop)) requests = merged(in_sorted_parts(requests, stop), stop);
  const auto first = requests_of_log::cursor(requests).next().time;
  trace.began += first;
  if (first != nanoseconds(0)) requests = relative_to(first, requests, stop);
  if (whole_seconds(requests, stop)) requests = spread_over_seconds(requests, stop);
  using cursor = requests_of_log::cursor;
  trace.length = cursor(requests, cursor::direction::backwards).next().time;
}

workload to_workload(timed_trace&& trace, std::size_t count) {
  workload made;
  made.keys = std::move(trace.keys);
  made.source = std::move(trace.source);
  spool<timed_request>::cursor all(trace.requests);
  const auto kept = std::min<std::uint64_t>(count, trace.requests.size());
  for (std::uint64_t i = 0; i < kept; ++i) {
    const auto each = all.next();
    made.requests.push_back(each.key);
    if (trace.has_times) made.stamps.push_back(each.time);
  }
  if (kept < trace.requests.size()) made.keep_first(kept);
  return made;
}

}  // namespace singleflight::lab
