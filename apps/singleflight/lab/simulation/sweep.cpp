// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/sweep.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cli/interrupt.hpp"
#include "lab/simulation/in_parallel.hpp"
#include "lab/workload/mix.hpp"

namespace singleflight::lab {

namespace {

using namespace std::chrono_literals;

bool in_sample(std::uint32_t key, std::uint64_t salt, double share) {
  return static_cast<double>(mix(mix(salt) ^ key) >> 11U) * 0x1p-53 < share;
}

// Rounds up to one significant digit.
std::size_t rounded_up(double count) {
  const double power = std::pow(10.0, std::floor(std::log10(count)));
  return static_cast<std::size_t>(std::llround(std::ceil(count / power) * power));
}

// The part of the log that is simulated at each point.
struct sample {
  timed_trace trace;
  log_profile profile;  // the hottest keys, and one hour
  double share = 1;     // of the keys that are not among the hottest
};

// Of several samples, the one that has its share of the requests comes closest to the whole.
std::uint64_t best_salt(const std::vector<std::uint32_t>& counts, double share,
                        std::uint64_t wanted) {
  std::uint64_t best = 0;
  auto least = std::numeric_limits<std::uint64_t>::max();
  for (std::uint64_t salt = 0; salt < 16; ++salt) {
    std::uint64_t found = 0;
    for (std::uint32_t key = 0; key < counts.size(); ++key) {
      if (in_sample(key, salt, share)) found += counts[key];
    }
    const auto off = found > wanted ? found - wanted : wanted - found;
    if (off < least) {
      least = off;
      best = salt;
    }
  }
  return best;
}

// Decides which keys are simulated: their index in the sample, or `left_out`.
constexpr auto left_out = std::numeric_limits<std::uint32_t>::max();

std::vector<std::uint32_t> choose_keys(const simulation& what, std::size_t request_limit,
                                       const std::stop_token& stop, sample& made) {
  const auto& log = what.trace;
  std::vector<std::uint32_t> counts(log.keys.size(), 0);
  visit_all(log.requests, stop, [&](const timed_request& each) { ++counts[each.key]; });
  std::uint64_t others = log.requests.size();
  for (const auto& hot : what.profile.hottest) {
    others -= hot.requests;
    counts[hot.key] = 0;
  }
  std::uint64_t salt = 0;
  if (others > request_limit) {
    made.share = static_cast<double>(request_limit) / static_cast<double>(others);
    salt = best_salt(counts, made.share, request_limit);
  }
  std::vector<std::uint32_t> place(log.keys.size(), left_out);
  std::uint32_t next = 0;
  for (const auto& hot : what.profile.hottest) place[hot.key] = next++;
  for (std::uint32_t key = 0; key < place.size(); ++key) {
    if (place[key] != left_out) continue;
    if (made.share == 1 || in_sample(key, salt, made.share)) place[key] = next++;
  }
  made.trace.keys.resize(next);
  if (what.injected.any()) {  // faults depend on the names of the keys
    for (std::uint32_t key = 0; key < place.size(); ++key) {
      if (place[key] != left_out) made.trace.keys[place[key]] = log.keys[key];
    }
  }
  return place;
}

sample sample_of(const simulation& what, std::size_t request_limit, const std::stop_token& stop) {
  sample made;
  const auto place = choose_keys(what, request_limit, stop, made);
  visit_all(what.trace.requests, stop, [&](timed_request each) {
    each.key = place[each.key];
    if (each.key != left_out) made.trace.requests.append(each);
  });
  made.profile.hours.push_back({{}, 0, made.trace.requests.size()});
  made.profile.watched.resize(made.trace.keys.size());
  for (std::uint32_t key = 0; key < what.profile.hottest.size(); ++key) {
    made.profile.hottest.push_back({key, what.profile.hottest[key].requests});
    made.profile.watched[key] = true;
  }
  return made;
}

std::size_t scaled(std::size_t capacity, const sample& part) {
  const auto hot = part.profile.hottest.size();
  if (capacity <= hot) return capacity;
  const double others = static_cast<double>(capacity - hot) * part.share;
  return hot + std::max<std::size_t>(static_cast<std::size_t>(std::llround(others)), 1);
}

// Of the loads of `none`, which are as many as there are requests.
double saved_in(const simulated_run& run, const sample& part, std::uint64_t requests) {
  std::uint64_t hot = 0;
  for (const auto loads : run.loads_of_hottest) hot += loads;
  const double loads = static_cast<double>(hot) + static_cast<double>(run.loads - hot) / part.share;
  return std::max(1 - loads / static_cast<double>(requests), 0.0);
}

}  // namespace

cache_sweep sweep_for(std::size_t distinct_keys) {
  cache_sweep made;
  made.ttls = {1s, 10s, 1min, 5min, 1h, 0s};
  for (const double share : {0.01, 0.05, 0.25, 1.0}) {
    const auto entries = rounded_up(std::max(share * static_cast<double>(distinct_keys), 1.0));
    if (made.capacities.empty() || entries > made.capacities.back()) {
      made.capacities.push_back(entries);
    }
  }
  made.saved.assign(made.capacities.size(), std::vector<double>(made.ttls.size(), 0));
  return made;
}

cache_sweep sweep_cache(const simulation& what, std::size_t request_limit,
                        const std::stop_token& stop, std::atomic<std::uint64_t>& done) {
  const auto part = sample_of(what, request_limit, stop);
  auto made = sweep_for(what.trace.keys.size());
  made.sampled = part.share;
  const auto columns = made.ttls.size();
  in_parallel(made.points(), [&](std::size_t point) {
    if (stop.stop_requested()) throw cli::interrupted{};
    const auto capacity = made.capacities[point / columns];
    std::atomic<std::uint64_t> unseen = 0;
    const auto run =
        simulate({.trace = part.trace,
                  .profile = part.profile,
                  .times = what.times,
                  .injected = what.injected,
                  .seed = what.seed,
                  .processes = what.processes,
                  .cache = {.capacity = scaled(capacity, part), .ttl = made.ttls[point % columns]}},
                 "cache", stop, unseen);
    made.saved[point / columns][point % columns] = saved_in(run, part, what.trace.requests.size());
    done.fetch_add(1, std::memory_order_relaxed);
  });
  if (stop.stop_requested()) throw cli::interrupted{};
  return made;
}

}  // namespace singleflight::lab
