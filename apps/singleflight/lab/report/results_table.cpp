// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "cli/text_table.hpp"
#include "cli/units.hpp"
#include "cli/usage_error.hpp"
#include "lab/protection/cache_table.hpp"
#include "lab/report/results.hpp"

namespace singleflight::lab {

namespace {

std::string percent(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0) return "-";
  return fmt::format("{:.1f} %", static_cast<double>(part) * 100 / static_cast<double>(whole));
}

cli::cells row_of(const run_result& run) {
  std::uint64_t failed = 0;
  for (const auto& [kind, failures] : run.seen.errors) failed += failures.count;
  const auto& latency = run.seen.latency;
  return {run.protection,
          cli::show_count(run.seen.requests),
          cli::show_count(run.backend_loads),
          percent(run.seen.saved, run.seen.requests),
          cli::show_count(run.loads_in_flight.most()),
          cli::show_count(failed),
          cli::show_duration(latency.quantile(0.5)),
          cli::show_duration(latency.quantile(0.99)),
          cli::show_duration(latency.quantile(0.999)),
          cli::show_duration(latency.max()),
          cli::show_number(run.answers_per_s()),
          cli::show_duration(run.wall)};
}

std::string guards_table(const results& all) {
  struct column {
    const char* title;
    std::function<std::string(const guard_counts&)> cell;
  };
  const auto number = [](std::uint64_t guard_counts::*which) {
    return [which](const guard_counts& counts) { return cli::show_count(counts.*which); };
  };
  std::vector<column> columns{{"asked", number(&guard_counts::asked)}};
  if (all.guards.attempts) columns.push_back({"retries", number(&guard_counts::retries)});
  if (all.guards.error_rate) {
    columns.push_back({"rejected", number(&guard_counts::rejected)});
    columns.push_back({"opened", number(&guard_counts::opened)});
  }
  if (all.guards.max_loads) {
    columns.push_back({"queued", number(&guard_counts::queued)});
    columns.push_back({"gave up", number(&guard_counts::gave_up)});
    columns.push_back({"mean wait", [](const guard_counts& counts) {
                         return cli::show_duration(counts.mean_wait());
                       }});
    columns.push_back({"longest", [](const guard_counts& counts) {
                         return cli::show_duration(counts.longest_wait);
                       }});
  }
  std::vector<cli::cells> rows{{"guards"}};
  for (const auto& each : columns) rows.front().emplace_back(each.title);
  for (const auto& run : all.runs) {
    rows.push_back({run.protection});
    for (const auto& each : columns) rows.back().push_back(each.cell(run.guards));
  }
  return cli::aligned(rows) + "\n";
}

// "flight: 87 % fewer backend loads than none, p99 4.1 times lower, 7.9 times the throughput."
std::string comparison(const run_result& base, const run_result& run) {
  if (base.backend_loads == 0 || base.seen.requests == 0 || run.seen.requests == 0) return {};
  // Compared per request, because one of the two runs may have been stopped early.
  const double base_loads =
      static_cast<double>(base.backend_loads) / static_cast<double>(base.seen.requests);
  const double loads =
      static_cast<double>(run.backend_loads) / static_cast<double>(run.seen.requests);
  const auto base_p99 = static_cast<double>(base.seen.latency.quantile(0.99).count());
  const auto p99 = static_cast<double>(run.seen.latency.quantile(0.99).count());
  const auto close = [](double a, double b) { return std::fabs(a / b - 1) < 0.005; };
  if (close(loads, base_loads) && close(p99, base_p99) &&
      close(run.answers_per_s(), base.answers_per_s())) {
    return {};  // nothing to compare
  }
  std::string text = loads <= base_loads
                         ? fmt::format("{}: {:.1f} % fewer backend loads than {}", run.protection,
                                       (1 - loads / base_loads) * 100, base.protection)
                         : fmt::format("{}: {:.1f} % more backend loads than {}", run.protection,
                                       (loads / base_loads - 1) * 100, base.protection);
  if (p99 > 0 && close(p99, base_p99)) {
    text += ", the same p99";
  } else if (p99 > 0 && base_p99 > 0) {
    text += p99 <= base_p99
                ? fmt::format(", p99 {} times lower", cli::show_number(base_p99 / p99))
                : fmt::format(", p99 {} times higher", cli::show_number(p99 / base_p99));
  }
  if (base.answers_per_s() > 0) {
    text += fmt::format(", {} times the throughput",
                        cli::show_number(run.answers_per_s() / base.answers_per_s()));
  }
  return text + "\n";
}

// "the log has 0.01 requests a second, this replay makes 2,437"
std::string compare_rates(const results& all) {
  if (all.log_rate <= 0 || all.runs.empty() || all.runs.front().wall.count() <= 0) return {};
  const auto& run = all.runs.front();
  const double rate =
      static_cast<double>(run.seen.requests) / std::chrono::duration<double>(run.wall).count();
  if (std::fabs(rate / all.log_rate - 1) < 0.1) return {};
  return fmt::format("the log has {} requests a second, this replay makes {}\n",
                     cli::show_number(all.log_rate), cli::show_number(rate));
}

std::string notes(const run_result& run) {
  std::string text;
  for (const auto& [kind, failures] : run.seen.errors) {
    text += fmt::format("{}: {} requests failed with {}: {}\n", run.protection,
                        cli::show_count(failures.count), kind, cli::one_line(failures.example));
  }
  if (run.seen.answered > 0 && run.seen.empty == run.seen.answered) {
    text += fmt::format("{}: every answer was empty; does the query match these keys?\n",
                        run.protection);
  }
  if (run.calls.out_of_threads) {
    text += fmt::format(
        "{}: all {} threads were busy: {} requests began late, by up to {}; their latency counts "
        "from when they were due\n",
        run.protection, cli::show_count(run.calls.threads), cli::show_count(run.calls.started_late),
        cli::show_duration(run.calls.worst_delay));
  }
  if (!run.complete)
    text +=
        fmt::format("{}: stopped early; these are the results up to that point\n", run.protection);
  return text;
}

}  // namespace

std::string to_table(const results& all) {
  std::vector<cli::cells> rows{{"protection", "requests", "loads", "saved", "peak", "errors", "p50",
                                "p99", "p99.9", "max", "req/s", "wall"}};
  for (const auto& run : all.runs) rows.push_back(row_of(run));
  std::string text = cli::aligned(rows) + "\n";
  if (all.guards.any()) text += guards_table(all);
  text += cache_table(all.runs);
  for (const auto& run : all.runs) {
    if (&run != &all.runs.front()) text += comparison(all.runs.front(), run);
  }
  text += compare_rates(all);
  for (const auto& run : all.runs) text += notes(run);
  return text;
}

}  // namespace singleflight::lab
