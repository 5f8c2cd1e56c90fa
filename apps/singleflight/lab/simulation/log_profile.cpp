// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/log_profile.hpp"

#include <algorithm>

namespace singleflight::lab {

namespace {

using std::chrono::nanoseconds;

// The largest stampede of each key, for the keys with the largest ones.
class largest {
 public:
  void offer(const log_profile::stampede& found) {
    const auto same = std::find_if(kept_.begin(), kept_.end(),
                                   [&](const auto& each) { return each.key == found.key; });
    if (same != kept_.end()) {
      if (found.requests > same->requests) *same = found;
    } else if (kept_.size() < log_profile::most_stampedes) {
      kept_.push_back(found);
    } else {
      const auto least = std::min_element(kept_.begin(), kept_.end(), smaller);
      if (smaller(*least, found)) *least = found;
    }
    least_ = kept_.size() < log_profile::most_stampedes
                 ? 0
                 : std::min_element(kept_.begin(), kept_.end(), smaller)->requests;
  }
  // Whether a stampede of so many requests can be among them.
  bool takes(std::uint64_t requests) const { return requests > least_; }

  std::vector<log_profile::stampede> take() {
    std::stable_sort(kept_.begin(), kept_.end(),
                     [](const auto& a, const auto& b) { return smaller(b, a); });
    return std::move(kept_);
  }

 private:
  // Of stampedes of the same size the earlier one counts as larger.
  static bool smaller(const log_profile::stampede& a, const log_profile::stampede& b) {
    return a.requests != b.requests ? a.requests < b.requests : a.begin > b.begin;
  }

  std::vector<log_profile::stampede> kept_;
  std::uint64_t least_ = 0;
};

void find_stampedes(const timed_trace& trace, const load_times& times, const std::stop_token& stop,
                    log_profile& made) {
  struct burst {
    nanoseconds begin{0};
    nanoseconds end{-1};
    std::uint32_t requests = 0;
  };
  std::vector<burst> running(trace.keys.size());
  largest found;
  const auto over = [&](std::uint32_t key, const burst& one) {
    if (one.requests < 2) return;
    ++made.all_stampedes;
    made.requests_joined += one.requests - 1;
    if (found.takes(one.requests)) found.offer({key, one.begin, one.end, one.requests});
  };
  std::uint64_t number = 0;
  visit_all(trace.requests, stop, [&](const timed_request& request) {
    auto& one = running[request.key];
    if (request.time < one.end) {
      ++one.requests;
    } else {
      over(request.key, one);
      one = {request.time, request.time + times.of(request, number), 1};
    }
    ++number;
  });
  for (std::uint32_t key = 0; key < running.size(); ++key) over(key, running[key]);
  made.stampedes = found.take();
}

void find_hot_keys(const std::vector<std::uint32_t>& requests_of_key, log_profile& made) {
  const auto hotter = [](const auto& a, const auto& b) { return a.requests > b.requests; };
  for (std::uint32_t key = 0; key < requests_of_key.size(); ++key) {
    if (requests_of_key[key] == 1) ++made.requests_once;
    const log_profile::hot_key one{key, requests_of_key[key]};
    auto& kept = made.hottest;
    if (kept.size() == log_profile::most_hot_keys && !hotter(one, kept.back())) continue;
    kept.insert(std::upper_bound(kept.begin(), kept.end(), one, hotter), one);
    if (kept.size() > log_profile::most_hot_keys) kept.pop_back();
  }
}

// Counts the requests by hour, and returns them by key.
std::vector<std::uint32_t> count_requests(const timed_trace& trace, const std::stop_token& stop,
                                          log_profile& made) {
  std::vector<std::uint32_t> of_key(trace.keys.size(), 0);
  auto end_of_hour = nanoseconds::min();
  std::uint64_t number = 0;
  visit_all(trace.requests, stop, [&](const timed_request& request) {
    if (request.time >= end_of_hour) {
      const auto start = std::chrono::floor<std::chrono::hours>(trace.began + request.time);
      made.hours.push_back({start, number, 0});
      end_of_hour = start + std::chrono::hours(1) - trace.began;
    }
    ++made.hours.back().requests;
    ++of_key[request.key];
    ++number;
  });
  return of_key;
}

}  // namespace

log_profile profile_of(const timed_trace& trace, const load_times& times,
                       const std::stop_token& stop) {
  log_profile made;
  find_hot_keys(count_requests(trace, stop, made), made);
  find_stampedes(trace, times, stop, made);
  made.watched.resize(trace.keys.size());
  for (const auto& each : made.hottest) made.watched[each.key] = true;
  for (const auto& each : made.stampedes) made.watched[each.key] = true;
  return made;
}

}  // namespace singleflight::lab
