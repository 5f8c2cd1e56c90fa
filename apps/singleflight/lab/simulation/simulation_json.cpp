// SPDX-License-Identifier: Apache-2.0
#include "cli/units.hpp"
#include "lab/simulation/simulation_results.hpp"

namespace singleflight::lab {

namespace {

using json = nlohmann::ordered_json;

double ms(std::chrono::nanoseconds duration) {
  return cli::rounded(static_cast<double>(duration.count()) / 1e6);
}

double exact_seconds(std::chrono::nanoseconds duration) {
  return static_cast<double>(duration.count()) / 1e9;
}

json workload_of(const simulation_results& all) {
  json made;
  made["source"] = all.workload;
  made["requests"] = all.requests;
  made["distinct_keys"] = all.distinct_keys;
  made["skipped_lines"] = all.skipped_lines;
  made["other_methods"] = all.other_methods;
  made["answered_5xx"] = all.failed_answers;
  made["answered_304"] = all.not_modified;
  if (all.seed) made["seed"] = *all.seed;
  made["pacing"] = "simulated, at the times of the log";
  made["began_s"] = exact_seconds(all.began);
  made["duration_s"] = exact_seconds(all.duration);
  made["requests_per_s"] = cli::rounded(all.requests_per_s());
  made["load_time"] = all.load_time;
  if (all.injected.fail_share > 0) made["fail_share"] = cli::rounded(all.injected.fail_share);
  if (all.injected.slow_share > 0) {
    made["slow_share"] = cli::rounded(all.injected.slow_share);
    made["slow_ms"] = ms(all.injected.slow_by);
  }
  made["processes"] = all.processes;
  if (all.processes > 1) made["fleet"] = all.one_fleet ? "one" : "each";
  if (all.cache) {
    made["cache_capacity"] = all.cache->capacity;
    const auto time = [&](const char* name, std::chrono::nanoseconds set) {
      if (set != set.zero()) made[name] = ms(set);
    };
    time("cache_ttl_ms", all.cache->ttl);
    time("cache_refresh_after_ms", all.cache->refresh_after);
    time("cache_stale_if_error_ms", all.cache->stale_if_error);
  }
  return made;
}

json run_of(const simulated_run& run) {
  json made;
  made["protection"] = run.protection;
  made["requests"] = run.requests;
  made["backend_loads"] = run.loads;
  made["saved"] = run.saved();
  made["joined"] = run.joins;
  made["peak_loads"] = run.peak_loads;
  made["errors"] = json::object();
  if (run.failed > 0) made["errors"]["injected"] = run.failed;
  made["complete"] = run.complete;
  if (run.cached) {
    const auto& counts = *run.cached;
    made["cache"] = {{"hits", counts.hits},      {"stale", counts.stale},
                     {"misses", counts.misses},  {"refreshes", counts.refreshes},
                     {"failed", counts.failed},  {"expired", counts.expired},
                     {"evicted", counts.evicted}};
  }
  return made;
}

// The loads of each protection: one number of each run's list.
json loads_of(const simulation_results& all, std::vector<std::uint64_t> simulated_run::*list,
              std::size_t at) {
  json made = json::object();
  for (const auto* run : all.complete_runs()) made[run->protection] = (run->*list)[at];
  return made;
}

json hours_of(const simulation_results& all) {
  json made = json::array();
  const auto& hours = all.profile.hours;
  for (std::size_t i = 0; i < hours.size(); ++i) {
    made.push_back({{"start", show_moment(hours[i].start, false)},
                    {"start_s", hours[i].start.count() * 3600},
                    {"requests", hours[i].requests},
                    {"loads", loads_of(all, &simulated_run::loads_by_hour, i)}});
  }
  return made;
}

json hot_keys_of(const simulation_results& all) {
  json made = json::array();
  const auto& keys = all.profile.hottest;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    made.push_back({{"key", all.hot_names[i]},
                    {"requests", keys[i].requests},
                    {"loads", loads_of(all, &simulated_run::loads_of_hottest, i)}});
  }
  return made;
}

json stampedes_of(const simulation_results& all) {
  json made = json::array();
  const auto& stampedes = all.profile.stampedes;
  for (std::size_t i = 0; i < stampedes.size(); ++i) {
    const auto& each = stampedes[i];
    made.push_back({{"key", all.stampede_names[i]},
                    {"at", show_moment(all.began + each.begin, true)},
                    {"at_s", exact_seconds(all.began + each.begin)},
                    {"requests", each.requests},
                    {"load_ms", ms(each.end - each.begin)},
                    {"loads", loads_of(all, &simulated_run::loads_let_through, i)}});
  }
  return made;
}

json sweep_of(const cache_sweep& sweep) {
  json made;
  made["ttls_ms"] = json::array();
  made["ttls"] = json::array();
  for (const auto ttl : sweep.ttls) {
    made["ttls_ms"].push_back(ttl == ttl.zero() ? json() : json(ms(ttl)));
    made["ttls"].push_back(show_ttl(ttl));
  }
  made["capacities"] = sweep.capacities;
  made["sampled_keys"] = cli::rounded(sweep.sampled);
  made["saved"] = json::array();
  for (const auto& row : sweep.saved) {
    json shares = json::array();
    for (const double share : row) shares.push_back(cli::rounded(share));
    made["saved"].push_back(std::move(shares));
  }
  return made;
}

}  // namespace

json to_json(const simulation_results& all) {
  json made;
  made["workload"] = workload_of(all);
  made["version"] = all.version;
  made["interrupted"] = all.interrupted;
  made["simulated"] = true;
  made["runs"] = json::array();
  for (const auto& run : all.runs) made["runs"].push_back(run_of(run));
  made["hours"] = hours_of(all);
  made["hot_keys"] = hot_keys_of(all);
  made["all_stampedes"] = all.profile.all_stampedes;
  made["stampedes"] = stampedes_of(all);
  if (all.sweep) {
    made["sweep"] = sweep_of(*all.sweep);
    const auto settings = all.point.settings(*all.sweep);
    if (all.recommended.reasons.empty()) return made;  // it was stopped before
    made["recommendation"] = {{"protection", all.recommended.protection},
                              {"capacity", settings.capacity},
                              {"ttl_ms", ms(settings.ttl)},
                              {"reasons", all.recommended.reasons}};
  }
  return made;
}

}  // namespace singleflight::lab
