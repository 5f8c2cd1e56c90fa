// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "cli/units.hpp"
#include "lab/report/results.hpp"

namespace singleflight::lab {

namespace {

using json = nlohmann::ordered_json;

double ms(std::chrono::nanoseconds duration) {
  return cli::rounded(static_cast<double>(duration.count()) / 1e6);
}

json errors_of(const run_result& run) {
  json errors = json::object();
  for (const auto& [kind, failed] : run.seen.errors) errors[kind] = failed.count;
  return errors;
}

json examples_of(const run_result& run) {
  json examples = json::object();
  for (const auto& [kind, failed] : run.seen.errors) examples[kind] = failed.example;
  return examples;
}

json series_of(const run_result& run) {
  json mean = json::array();
  json most = json::array();
  for (const auto& interval : run.loads_in_flight.intervals()) {
    mean.push_back(std::round(interval.mean * 100) / 100);
    most.push_back(interval.most);
  }
  return {
      {"interval_ms", ms(run.loads_in_flight.interval_width())}, {"mean", mean}, {"most", most}};
}

json latencies_of(const run_result& run) {
  json buckets = json::array();
  for (const auto& bucket : run.seen.latency.buckets()) {
    buckets.push_back({ms(bucket.low), ms(bucket.high), bucket.count});
  }
  return buckets;
}

json guards_of(const guard_settings& guards, const guard_counts& counts) {
  json made;
  made["asked"] = counts.asked;
  if (guards.attempts) made["retries"] = counts.retries;
  if (guards.error_rate) {
    made["rejected"] = counts.rejected;
    made["opened"] = counts.opened;
  }
  if (guards.max_loads) {
    made["queued"] = counts.queued;
    made["gave_up"] = counts.gave_up;
    made["wait_ms"] = {{"mean", ms(counts.mean_wait())}, {"max", ms(counts.longest_wait)}};
  }
  return made;
}

json cache_of(const cache_counts& counts) {
  return {{"hits", counts.hits},           {"stale", counts.stale},   {"misses", counts.misses},
          {"refreshes", counts.refreshes}, {"failed", counts.failed}, {"expired", counts.expired},
          {"evicted", counts.evicted}};
}

json to_json(const run_result& run, const guard_settings& guards) {
  const auto& latency = run.seen.latency;
  json made;
  made["protection"] = run.protection;
  made["requests"] = run.seen.requests;
  made["backend_loads"] = run.backend_loads;
  made["saved"] = run.seen.saved;
  made["peak_loads"] = run.loads_in_flight.most();
  made["errors"] = errors_of(run);
  made["latency_ms"] = {{"p50", ms(latency.quantile(0.5))},
                        {"p99", ms(latency.quantile(0.99))},
                        {"p999", ms(latency.quantile(0.999))},
                        {"max", ms(latency.max())}};
  made["requests_per_s"] = cli::rounded(run.answers_per_s());
  made["wall_s"] = cli::rounded(std::chrono::duration<double>(run.wall).count());
  made["complete"] = run.complete;
  if (guards.any()) made["guards"] = guards_of(guards, run.guards);
  if (run.cached) made["cache"] = cache_of(*run.cached);
  made["empty_answers"] = run.seen.empty;
  made["error_examples"] = examples_of(run);
  made["threads"] = run.calls.threads;
  made["started_late"] = run.calls.started_late;
  made["series"] = series_of(run);
  made["latencies"] = latencies_of(run);
  return made;
}

}  // namespace

json to_json(const results& all) {
  json made;
  auto& workload = made["workload"];
  workload["source"] = all.workload;
  workload["requests"] = all.requests;
  workload["distinct_keys"] = all.distinct_keys;
  workload["skipped_lines"] = all.skipped_lines;
  if (all.seed) workload["seed"] = *all.seed;
  workload["pacing"] = all.pacing;
  workload["backend"] = all.backend;
  if (!all.query.empty()) workload["query"] = all.query;
  if (all.connections > 0) workload["connections"] = all.connections;
  if (all.injected.fail_share > 0) workload["fail_share"] = cli::rounded(all.injected.fail_share);
  if (all.injected.slow_share > 0) {
    workload["slow_share"] = cli::rounded(all.injected.slow_share);
    workload["slow_ms"] = ms(all.injected.slow_by);
  }
  if (all.deadline) workload["deadline_ms"] = ms(*all.deadline);
  if (all.guards.attempts) workload["retry_attempts"] = *all.guards.attempts;
  if (all.guards.error_rate) workload["breaker_error_rate"] = cli::rounded(*all.guards.error_rate);
  if (all.guards.max_loads) workload["max_loads"] = *all.guards.max_loads;
  if (all.cache) {
    workload["cache_capacity"] = all.cache->capacity;
    const auto time = [&](const char* name, std::chrono::nanoseconds set) {
      if (set != set.zero()) workload[name] = ms(set);
    };
    time("cache_ttl_ms", all.cache->ttl);
    time("cache_refresh_after_ms", all.cache->refresh_after);
    time("cache_stale_if_error_ms", all.cache->stale_if_error);
  }
  made["machine"] = all.machine;
  made["version"] = all.version;
  made["interrupted"] = all.interrupted;
  made["runs"] = json::array();
  for (const auto& run : all.runs) made["runs"].push_back(to_json(run, all.guards));
  return made;
}

}  // namespace singleflight::lab
