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

// Two runs of the same requests on the same machine rarely differ by more.
constexpr double noise_of_throughput = 0.05;

// Whether the two intervals that contain the true percentile with 95 % overlap: those between two
// of the measured values, by the normal approximation of the binomial distribution. Of fewer than a
// hundred requests, the one that is slower than all others says nothing.
bool p99_within_noise(const histogram& a, const histogram& b) {
  const auto bound = [](const histogram& of, double sign) {
    constexpr double p = 0.99;
    const double error = 1.96 * std::sqrt(p * (1 - p) / static_cast<double>(of.count()));
    return of.quantile(std::clamp(p + sign * error, 1e-9, 1.0));
  };
  if (a.count() < 100 || b.count() < 100) return true;
  return bound(a, -1) <= bound(b, 1) && bound(b, -1) <= bound(a, 1);
}

// "flight: 87 % fewer backend loads than none, p99 4.1 times lower, 7.9 times the throughput."
std::string comparison(const run_result& base, const run_result& run) {
  if (base.backend_loads == 0 || base.seen.requests == 0 || run.seen.requests == 0) return {};
  // Compared per request, because one of the two runs may have been stopped early.
  const double base_loads =
      static_cast<double>(base.backend_loads) / static_cast<double>(base.seen.requests);
  const double loads =
      static_cast<double>(run.backend_loads) / static_cast<double>(run.seen.requests);
  const bool same_loads = std::fabs(loads / base_loads - 1) < 0.0005;
  const bool same_p99 = p99_within_noise(base.seen.latency, run.seen.latency);
  const double throughput =
      base.answers_per_s() > 0 ? run.answers_per_s() / base.answers_per_s() : 1;
  const bool same_throughput = std::fabs(throughput - 1) < noise_of_throughput;
  if (same_loads && same_p99 && same_throughput) {
    return fmt::format("{}: no difference from {} beyond noise\n", run.protection, base.protection);
  }
  std::string text = fmt::format("{}: ", run.protection);
  if (same_loads) {
    text += fmt::format("as many backend loads as {}", base.protection);
  } else {
    text +=
        fmt::format("{:.1f} % {} backend loads than {}", std::fabs(1 - loads / base_loads) * 100,
                    loads < base_loads ? "fewer" : "more", base.protection);
  }
  if (same_p99) {
    text += ", p99 the same within noise";
  } else {
    const auto base_p99 = static_cast<double>(base.seen.latency.quantile(0.99).count());
    const auto p99 = static_cast<double>(run.seen.latency.quantile(0.99).count());
    text += p99 <= base_p99
                ? fmt::format(", p99 {} times lower", cli::show_number(base_p99 / p99))
                : fmt::format(", p99 {} times higher", cli::show_number(p99 / base_p99));
  }
  text += same_throughput ? ", the same throughput within noise"
                          : fmt::format(", {} times the throughput", cli::show_number(throughput));
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
