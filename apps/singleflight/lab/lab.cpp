// SPDX-License-Identifier: Apache-2.0
#include "lab/lab.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "cli/interrupt.hpp"
#include "cli/json_text.hpp"
#include "cli/output_file.hpp"
#include "cli/progress.hpp"
#include "cli/units.hpp"
#include "cli/usage_error.hpp"
#include "cli/version.hpp"
#include "lab/backend/faulty_backend.hpp"
#include "lab/backend/guards.hpp"
#include "lab/backend/open_backend.hpp"
#include "lab/log/log_reader.hpp"
#include "lab/replay/experiment.hpp"
#include "lab/replay/replay_size.hpp"
#include "lab/report/machine.hpp"
#include "lab/report/results.hpp"
#include "lab/simulation_run.hpp"

namespace singleflight::lab {

namespace {

// The workload as it was read or generated, before it is cut to what is replayed.
struct source {
  workload requests;
  bool log_continues = false;  // the log has more requests than a workload may have
};

source to_replay(const lab_options& options, std::optional<timed_trace> log, bool log_continues,
                 results& all) {
  if (!log) {
    return {options.generate.make(
        options.requests > 0 ? options.requests : default_generated(options.pace), options.seed)};
  }
  // The whole log, before it is cut. At its own pace there is nothing to compare.
  const auto& pace = options.pace;
  const bool own_pace = pace.form == pacing::loop::log_times && pace.speed == 1;
  if (!own_pace && log->length.count() > 0) {
    all.log_rate = static_cast<double>(log->requests.size()) /
                   std::chrono::duration<double>(log->length).count();
  }
  log_continues = log_continues || log->requests.size() > most_requests;
  return {to_workload(std::move(*log), most_requests), log_continues};
}

// Without --requests, cuts the workload to what takes about 30 s, and reports that for a log.
void cut_workload(const lab_options& options, source& made, double loads_per_s) {
  auto& requests = made.requests;
  const bool generated = options.log.path.empty();
  const auto found = requests.requests.size();
  const auto time_of_all = expected_time(requests, options.pace, loads_per_s, found);
  if (options.requests == 0 && !options.all_requests) {
    requests.keep_first(size_for(requests, options.pace, loads_per_s, generated));
  }
  const auto kept = requests.requests.size();
  if (generated || (kept == found && !made.log_continues)) return;
  fmt::print(stderr,
             "the log has {}{} requests; the first {} are replayed, which takes about {} without "
             "protection (--requests all: about {})\n",
             made.log_continues ? "more than " : "", cli::show_count(found), cli::show_count(kept),
             cli::show_duration(expected_time(requests, options.pace, loads_per_s, kept)),
             cli::show_duration(time_of_all));
}

// Fills in everything that the outputs show besides the runs.
void describe_settings(const lab_options& options, const workload& requests,
                       const backend& answering, results& all) {
  all.workload = cli::one_line(requests.source, 400);
  all.requests = requests.requests.size();
  all.distinct_keys = requests.keys.size();
  all.pacing = options.pace.describe();
  all.backend = answering.name();
  all.query = answering.query();
  all.connections = answering.connections();
  all.injected = options.injected;
  all.deadline = options.deadline;
  all.guards = options.guards;
  all.cache = options.cache;
  all.machine = describe_machine();
  all.version = cli::program_version;
}

void print_head(const results& all) {
  fmt::print("workload  {}\n", all.workload);
  fmt::print("          {} requests, {} distinct keys; {}{}\n", cli::show_count(all.requests),
             cli::show_count(all.distinct_keys), all.pacing,
             all.deadline ? fmt::format(", deadline {}", cli::show_duration(*all.deadline)) : "");
  fmt::print("backend   {}{}\n", all.backend,
             all.connections > 0 ? fmt::format(", {} connections", all.connections) : "");
  if (all.guards.any()) fmt::print("guards    {}\n", all.guards.describe());
  if (all.cache) fmt::print("cache     {}\n", all.cache->describe());
  fmt::print("machine   {}\n\n", all.machine);
  std::fflush(stdout);
}

void print_continues(const timed_trace& log) {
  fmt::print(stderr, "the log has more than {} requests; only these are used\n",
             cli::show_count(log.requests.size()));
}

// Prints and writes the results of a replay or of a simulation; returns the exit code.
template <class Results>
int show(const Results& all, const cli::interrupt_watch& watch,
         const std::optional<cli::output_file>& json,
         const std::optional<cli::output_file>& report) {
  if (all.interrupted) fmt::print(stderr, "interrupted; these are the results up to that point\n");
  fmt::print("{}", to_table(all));
  if (json) json->write(cli::to_text(to_json(all), 1) + "\n");
  if (report) {
    report->write(to_html(all));
    fmt::print("report    {}\n", cli::one_line(report->path()));
  }
  return all.interrupted ? watch.exit_code() : 0;
}

}  // namespace

int run_lab(const lab_options& given) {
  auto options = given;
  std::optional<cli::output_file> json;
  std::optional<cli::output_file> report;
  if (!options.json.empty()) json.emplace("--json", options.json);
  if (!options.report.empty()) report.emplace("--report", options.report);

  const cli::interrupt_watch watch;
  const auto stop = watch.token();
  results all;
  try {
    if (options.log.path.empty() || options.injected.any()) all.seed = options.seed;
    std::optional<timed_trace> log;
    bool log_continues = false;
    if (!options.log.path.empty()) {
      log_account account;
      log = read_log(options.log, account, stop);
      print_account(account);
      all.skipped_lines = account.malformed;
      log_continues = account.more && options.requests == 0;
      if (options.simulates_times) settle(options, log->has_times);
      if (options.simulates_times && log->has_times) {
        if (log_continues) print_continues(*log);
        auto computed = simulate_log(options, *log, stop);
        computed.skipped_lines = account.malformed;
        computed.other_methods = account.other_methods;
        computed.failed_answers = account.failed;
        computed.not_modified = account.not_modified;
        return show(computed, watch, json, report);
      }
    }
    if (options.simulates_times) {
      fmt::print(stderr,
                 "the log has no times that can be used, so it is replayed, as fast as {} callers "
                 "make its requests; if yours are further apart, less is saved than shown here\n",
                 cli::show_count(options.pace.callers));
    }
    auto made = to_replay(options, std::move(log), log_continues, all);
    const auto& requests = made.requests;
    const auto opened = open_backend(options.backend);
    // The faults and the guards are created again for the trial and for each run, so that all runs
    // have the same conditions.
    const auto answering = [&] { return faulty_backend(*opened, options.injected, options.seed); };
    auto trial = answering();
    guarded_backend guarded_trial(trial, options.guards);
    const double loads_per_s = probe(guarded_trial, requests, options.pace.callers, stop);
    if (stop.stop_requested()) throw cli::interrupted{};
    cut_workload(options, made, loads_per_s);
    describe_settings(options, requests, trial, all);
    print_head(all);

    const experiment what{requests, options.pace, options.deadline, options.guards,
                          options.cache.value_or(cache_settings{})};
    for (const auto& protection : options.protections) {
      if (stop.stop_requested()) break;
      std::atomic<std::uint64_t> done = 0;
      const cli::progress_bar bar(protection, all.requests, done);
      auto measured = answering();
      all.runs.push_back(measure(what, protection, measured, stop, done));
    }
  } catch (const cli::interrupted&) {
    fmt::print(stderr, "interrupted before anything was measured\n");
    return watch.exit_code() == 0 ? 130 : watch.exit_code();
  }

  all.interrupted = stop.stop_requested();
  return show(all, watch, json, report);
}

}  // namespace singleflight::lab
