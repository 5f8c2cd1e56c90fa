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

namespace singleflight::lab {

namespace {

workload obtain_workload(const lab_options& options, results& all, bool& log_goes_on,
                         const std::stop_token& stop) {
  if (options.log.path.empty() || options.injected.any()) all.seed = options.seed;
  if (options.log.path.empty()) {
    return options.generate.make(
        options.requests > 0 ? options.requests : default_generated(options.pace), options.seed);
  }
  log_account account;
  auto read = read_log(options.log, account, stop);
  tell_about(account);
  all.skipped_lines = account.malformed;
  log_goes_on = account.more && options.requests == 0;
  return read;
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

void write_outputs(const results& all, const std::optional<cli::output_file>& json,
                   const std::optional<cli::output_file>& report) {
  if (json) json->write(cli::to_text(to_json(all), 1) + "\n");
  if (report) {
    report->write(to_html(all));
    fmt::print("report    {}\n", cli::one_line(report->path()));
  }
}

}  // namespace

int run_lab(const lab_options& options) {
  std::optional<cli::output_file> json;
  std::optional<cli::output_file> report;
  if (!options.json.empty()) json.emplace("--json", options.json);
  if (!options.report.empty()) report.emplace("--report", options.report);

  const cli::interrupt_watch watch;
  const auto stop = watch.token();
  results all;
  try {
    const auto opened = open_backend(options.backend);
    // All that stands before the backend is made anew for the trial and for each run, so that each
    // meets the same.
    const auto answering = [&] { return faulty_backend(*opened, options.injected, options.seed); };
    bool log_goes_on = false;
    auto requests = obtain_workload(options, all, log_goes_on, stop);

    const auto found = requests.requests.size();
    auto trial = answering();
    guarded_backend guarded_trial(trial, options.guards);
    const double loads_per_s = probe(guarded_trial, requests, options.pace.callers, stop);
    if (options.requests == 0 && !options.all_requests) {
      const auto size = size_for(requests, options.pace, loads_per_s, options.log.path.empty());
      requests.keep_first(size);
    }
    if (stop.stop_requested()) throw cli::interrupted{};
    const auto kept = requests.requests.size();
    if (!options.log.path.empty() && (kept < found || log_goes_on)) {
      fmt::print(stderr,
                 "the log has {}{} requests; the first {} are replayed, which takes about {} "
                 "without protection "
                 "(--requests all: about {})\n",
                 log_goes_on ? "more than " : "", cli::show_count(found), cli::show_count(kept),
                 cli::show_duration(expected_time(requests, options.pace, loads_per_s, kept)),
                 cli::show_duration(expected_time(requests, options.pace, loads_per_s, found)));
    }

    all.workload = cli::one_line(requests.source, 400);
    all.requests = kept;
    all.distinct_keys = requests.keys.size();
    all.pacing = options.pace.describe();
    all.backend = trial.name();
    all.query = trial.query();
    all.connections = trial.connections();
    all.injected = options.injected;
    all.deadline = options.deadline;
    all.guards = options.guards;
    all.cache = options.cache;
    all.machine = describe_machine();
    all.version = cli::program_version;
    print_head(all);

    const experiment what{requests, options.pace, options.deadline, options.guards,
                          options.cache.value_or(cache_settings{})};
    for (const auto& protection : options.protections) {
      if (stop.stop_requested()) break;
      std::atomic<std::uint64_t> done = 0;
      const cli::progress_bar bar(protection, kept, done);
      auto measured = answering();
      all.runs.push_back(measure(what, protection, measured, stop, done));
    }
  } catch (const cli::interrupted&) {
    fmt::print(stderr, "interrupted before anything was measured\n");
    return watch.exit_code() == 0 ? 130 : watch.exit_code();
  }

  all.interrupted = stop.stop_requested();
  if (all.interrupted) fmt::print(stderr, "interrupted; this is what was measured until then\n");
  fmt::print("{}", to_table(all));
  write_outputs(all, json, report);
  return all.interrupted ? watch.exit_code() : 0;
}

}  // namespace singleflight::lab
