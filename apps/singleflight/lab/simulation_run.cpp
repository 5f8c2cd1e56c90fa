// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <utility>

#include "cli/interrupt.hpp"
#include "cli/progress.hpp"
#include "cli/units.hpp"
#include "cli/usage_error.hpp"
#include "cli/version.hpp"
#include "lab/replay/experiment.hpp"
#include "lab/simulation/in_parallel.hpp"

namespace singleflight::lab {

namespace {

using std::chrono::nanoseconds;

// So many take a second or two for all points of a sweep.
constexpr std::size_t most_swept_requests = 200'000;

// How long the loads take, and where that is from.
struct known_times {
  load_times times;
  std::string describe;
  bool drawn = false;  // with the seed
};

// Up to 100,000 requests from all over the log.
workload trial_of(const timed_trace& trace, const std::stop_token& stop) {
  constexpr std::uint64_t most = 100'000;
  const auto step = (trace.requests.size() + most - 1) / most;
  workload made;
  std::uint64_t number = 0;
  visit_all(trace.requests, stop, [&](const timed_request& each) {
    if (number++ % step != 0) return;
    made.requests.push_back(static_cast<std::uint32_t>(made.keys.size()));
    made.keys.push_back(trace.keys[each.key]);
  });
  return made;
}

known_times find_load_times(const lab_options& options, const timed_trace& trace,
                            const std::stop_token& stop) {
  if (const auto& chosen = options.simulated.load_time) {
    return {*chosen, chosen->describe(), chosen->how() != load_times::form::constant};
  }
  if (const auto delay = options.backend.delay) {
    auto times = load_times::constant(*delay);
    return {times, times.describe(), false};
  }
  if (!options.backend.database.empty()) {
    const auto opened = open_backend(options.backend);
    auto taken = time_loads(*opened, trial_of(trace, stop), stop);
    if (stop.stop_requested()) throw cli::interrupted{};
    if (taken.empty()) {
      throw cli::usage_error(
          "--db: no load of a short trial has ended; say how long one takes: --load-time 20ms");
    }
    auto times = load_times::measured(std::move(taken), options.seed);
    return {times, times.describe(), true};
  }
  if (trace.has_durations) {
    auto times = load_times::of_log();
    return {times, times.describe(), false};
  }
  auto times = load_times::constant(std::chrono::milliseconds(20));
  return {times, times.describe() + ", assumed; say how long yours take: --load-time TIME", false};
}

void name_keys(const timed_trace& trace, simulation_results& all) {
  for (const auto& each : all.profile.hottest) all.hot_names.push_back(trace.keys[each.key]);
  for (const auto& each : all.profile.stampedes) all.stampede_names.push_back(trace.keys[each.key]);
}

void print_head(const simulation_results& all) {
  fmt::print("workload  {}\n", all.workload);
  fmt::print(
      "          {} requests in {}, {} a second, {} distinct keys; simulated at these times\n",
      cli::show_count(all.requests), cli::show_duration(all.duration),
      cli::show_number(all.requests_per_s()), cli::show_count(all.distinct_keys));
  fmt::print("loads     {}\n", all.load_time);
  const auto& faulty = all.injected;
  if (faulty.any()) {
    std::string text;
    if (faulty.fail_share > 0)
      text = fmt::format("{:g} % of the loads fail", faulty.fail_share * 100);
    if (faulty.slow_share > 0) {
      text += fmt::format("{}{:g} % of the loads take {} longer", text.empty() ? "" : ", ",
                          faulty.slow_share * 100, cli::show_duration(faulty.slow_by));
    }
    fmt::print("faults    {}\n", text);
  }
  if (all.processes > 1) {
    fmt::print("processes {}, {}\n", cli::show_count(all.processes),
               all.one_fleet ? "which share one group and one cache"
                             : "each with a group and a cache of its own");
  }
  std::fflush(stdout);
}

void print_cache(const simulation_results& all) {
  if (all.cache) {
    fmt::print("cache     {}{}\n", all.cache->describe(),
               all.cache_is_advised ? " (chosen from the sweep below)" : "");
  }
  fmt::print("\n");
  std::fflush(stdout);
}

double share_saved_by(const simulated_run& run) {
  return run.requests == 0 ? 0
                           : static_cast<double>(run.saved()) / static_cast<double>(run.requests);
}

simulated_run run_of(const simulation& what, const std::string& protection,
                     const std::vector<simulated_run>& runs, bool can_reuse,
                     const std::stop_token& stop) {
  for (const auto& run : runs) {
    if (can_reuse && run.protection == protection) return run;
  }
  std::atomic<std::uint64_t> unseen = 0;
  return simulate(what, protection, stop, unseen);
}

// The advice needs what flights save, and what the cache of the chosen point saves.
void recommend(const simulation& what, simulation_results& all, const std::stop_token& stop) {
  auto advised = what;
  advised.cache = all.point.settings(*all.sweep);
  const char* const names[] = {"flight", "cache"};
  simulated_run runs[2];
  in_parallel(2, [&](std::size_t i) {
    const bool can_reuse = i == 0 || all.cache_is_advised;
    runs[i] = run_of(advised, names[i], all.runs, can_reuse, stop);
  });
  all.recommended = advise({.profile = all.profile,
                            .sweep = *all.sweep,
                            .point = all.point,
                            .requests = all.requests,
                            .joins = runs[0].joins,
                            .flight_saves = share_saved_by(runs[0]),
                            .cache_saves = share_saved_by(runs[1])});
}

}  // namespace

simulation_results simulate_log(const lab_options& options, const timed_trace& trace,
                                const std::stop_token& stop) {
  simulation_results all;
  const auto load_time = find_load_times(options, trace, stop);
  all.workload = cli::one_line(trace.source, 400);
  all.requests = trace.requests.size();
  all.distinct_keys = trace.keys.size();
  all.began = trace.began;
  all.duration = trace.length;
  if (load_time.drawn || options.injected.any()) all.seed = options.seed;
  all.load_time = load_time.describe;
  all.injected = options.injected;
  all.processes = options.simulated.processes;
  all.one_fleet = options.simulated.one_fleet;
  all.version = cli::program_version;
  print_head(all);

  all.profile = profile_of(trace, load_time.times, stop);
  name_keys(trace, all);
  simulation what{.trace = trace,
                  .profile = all.profile,
                  .times = load_time.times,
                  .injected = options.injected,
                  .seed = options.seed,
                  .processes = all.one_fleet ? 1 : all.processes};
  std::atomic<std::uint64_t> done = 0;
  try {
    const cli::progress_bar bar("sweep", sweep_for(all.distinct_keys).points(), done);
    all.sweep = sweep_cache(what, most_swept_requests, stop, done);
  } catch (const cli::interrupted&) {
    all.interrupted = true;  // what the log itself contains is known
    fmt::print("\n");
    return all;
  }
  all.point = choose(*all.sweep);
  const auto& names = options.protections;
  const bool caches = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.starts_with("cache");
  });
  all.cache_is_advised = caches && !options.cache;
  what.cache = options.cache.value_or(all.point.settings(*all.sweep));
  if (caches) all.cache = what.cache;
  print_cache(all);

  done = 0;
  all.runs.resize(names.size());
  {
    const cli::progress_bar bar("simulate", all.requests * names.size(), done);
    // The last ones, the caches, take longest.
    in_parallel(names.size(), [&](std::size_t i) {
      const auto at = names.size() - 1 - i;
      all.runs[at] = simulate(what, names[at], stop, done);
    });
  }
  if (!stop.stop_requested()) recommend(what, all, stop);
  all.interrupted = stop.stop_requested();
  return all;
}

}  // namespace singleflight::lab
