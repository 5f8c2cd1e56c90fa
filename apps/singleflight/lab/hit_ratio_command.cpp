// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "cli/command_line.hpp"
#include "cli/interrupt.hpp"
#include "cli/json_text.hpp"
#include "cli/output_file.hpp"
#include "cli/units.hpp"
#include "cli/usage_error.hpp"
#include "cli/version.hpp"
#include "lab/hit_ratio/hit_ratio.hpp"
#include "lab/hit_ratio/hit_ratio_results.hpp"
#include "lab/hit_ratio/request_trace.hpp"
#include "lab/log/key_hints.hpp"
#include "lab/log/log_reader.hpp"

namespace singleflight::lab {

namespace {

constexpr const char* default_capacities = "1%,5%,10%";

// Sorted by size; of several capacities with the same size only the first is kept.
std::vector<hits_at> rows_of(const std::vector<capacity>& capacities, std::size_t distinct_keys) {
  std::vector<hits_at> rows;
  for (const auto& each : capacities)
    rows.push_back({each.text, each.of(distinct_keys), {}, {}, {}});
  std::stable_sort(rows.begin(), rows.end(),
                   [](const hits_at& a, const hits_at& b) { return a.entries < b.entries; });
  std::vector<hits_at> distinct;
  for (auto& row : rows) {
    if (!distinct.empty() && distinct.back().entries == row.entries) {
      fmt::print(stderr, "--capacity: with {} distinct keys, {} and {} are the same; {} is shown\n",
                 cli::show_count(distinct_keys), distinct.back().capacity, row.capacity,
                 distinct.back().capacity);
    } else {
      distinct.push_back(std::move(row));
    }
  }
  return distinct;
}

// Reads the log into numbers, as many requests as were asked for.
request_trace read_trace(const log_request& log, log_account& account,
                         const std::stop_token& stop) {
  request_trace trace;
  key_hints hints;
  scan_log(log, account, stop, [&](const reading& made) {
    for (std::uint64_t i = 0; i < made.count && trace.requests() < log.at_most; ++i) {
      if (trace.add(made.key, made.bytes) && account.http) hints.see(made.key);
      if (i % 65536 == 65535 && stop.stop_requested()) throw cli::interrupted{};
    }
    return trace.requests() < log.at_most;
  });
  account.hints = hints.for_log(log, account, trace.requests(), trace.distinct_keys());
  return trace;
}

void print_head(const hit_ratios& all) {
  const auto bytes = all.bytes == 0 ? "" : fmt::format(", {} bytes", cli::show_count(all.bytes));
  fmt::print(
      "workload  {}\n          {} requests, {} distinct keys{}; no cache answers more than "
      "{:.1f} % of them\n\n",
      all.workload, cli::show_count(all.requests), cli::show_count(all.distinct_keys), bytes,
      all.ceiling() * 100);
  std::fflush(stdout);
}

hit_ratios measure(const hit_ratio_options& options, const std::stop_token& stop) {
  log_account account;
  const auto trace = read_trace(options.log, account, stop);
  print_account(account);
  if (account.more) {
    fmt::print(stderr, "the log has more than {} requests; only these are used\n",
               cli::show_count(trace.requests()));
  }

  hit_ratios all;
  all.workload = cli::one_line(fmt::format("{} ({})", account.name, account.format), 400);
  all.requests = trace.requests();
  all.distinct_keys = trace.distinct_keys();
  all.bytes = trace.all_bytes();
  all.skipped_lines = account.malformed;
  all.version = cli::program_version;
  all.rows = rows_of(options.capacities, trace.distinct_keys());
  print_head(all);
  const next_requests next(trace, stop);
  std::size_t measured = 0;
  try {
    for (auto& row : all.rows) {
      row.lru = hits_of_lru(trace, row.entries, stop);
      row.loading_cache = hits_of_loading_cache(trace, row.entries, stop);
      row.optimum = hits_of_optimum(trace, next, row.entries, stop);
      ++measured;
    }
  } catch (const cli::interrupted&) {
    if (measured == 0) throw;
    all.rows.resize(measured);
    all.interrupted = true;
  }
  return all;
}

}  // namespace

void declare_options(CLI::App& command, hit_ratio_arguments& arguments) {
  constexpr const char* workload = "Workload";
  cli::add_text_option(command, "--log", arguments.log, {workload, "FILE", log_help});
  declare_reading_options(command, arguments, workload);
  cli::add_text_option(command, "--requests", arguments.requests,
                       {workload, "N", "Use only the first N requests [all]"});
  cli::add_text_option(
      command, "--capacity", arguments.capacity,
      {"Caches", "LIST",
       "Capacities: shares of the distinct keys, or numbers of entries, for example 5%,1000 "
       "[1%,5%,10%]"});
  constexpr const char* output = "Output, in addition to the table";
  cli::add_text_option(command, "--json", arguments.json,
                       {output, "FILE", "Write the results as JSON"});
  cli::add_text_option(command, "--report", arguments.report,
                       {output, "FILE", "Write a page with a chart, one self-contained HTML file"});
}

hit_ratio_options check_options(const hit_ratio_arguments& arguments) {
  hit_ratio_options options;
  cli::refuse_if(arguments.log.empty(), "hit-ratio needs a log; add --log FILE");
  options.log = check_log(arguments);
  options.log.at_most = request_trace::most_requests;
  if (!arguments.requests.empty() && arguments.requests != "all") {
    options.log.at_most =
        cli::parse_count("--requests", arguments.requests,
                         {1, static_cast<double>(request_trace::most_requests), "100000"});
  }
  options.capacities =
      parse_capacities(arguments.capacity.empty() ? default_capacities : arguments.capacity);
  cli::check_outputs(arguments.json, arguments.report,
                     {options.log.path == "-" ? "" : options.log.path});
  options.json = arguments.json;
  options.report = arguments.report;
  return options;
}

int run_hit_ratio(const hit_ratio_options& options) {
  std::optional<cli::output_file> json;
  std::optional<cli::output_file> report;
  if (!options.json.empty()) json.emplace("--json", options.json);
  if (!options.report.empty()) report.emplace("--report", options.report);

  const cli::interrupt_watch watch;
  try {
    const auto all = measure(options, watch.token());
    fmt::print("{}", to_table(all));
    if (json) json->write(cli::to_text(to_json(all), 1) + "\n");
    if (report) {
      report->write(to_html(all));
      fmt::print("\nreport    {}\n", cli::one_line(report->path()));
    }
    if (!all.interrupted) return 0;
    fmt::print(stderr, "interrupted; these are the results up to that point\n");
  } catch (const cli::interrupted&) {
    fmt::print(stderr, "interrupted before anything was measured\n");
  }
  return watch.exit_code() == 0 ? 130 : watch.exit_code();
}

}  // namespace singleflight::lab
