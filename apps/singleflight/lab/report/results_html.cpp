// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <string_view>
#include <utility>

#include "cli/units.hpp"
#include "lab/page/html.hpp"
#include "lab/page/page_assets.hpp"
#include "lab/report/results.hpp"

namespace singleflight::lab {

namespace {

std::string errors_cell(const run_result& run) {
  if (run.seen.errors.empty()) return "0";
  std::string cell;
  for (const auto& [kind, failures] : run.seen.errors) {
    if (!cell.empty()) cell += "<br>";
    cell += fmt::format("<span title=\"{}\">{} {}</span>", escaped(failures.example),
                        cli::show_count(failures.count), escaped(kind));
  }
  return cell;
}

std::string saved_cell(const run_result& run) {
  const auto requests = static_cast<double>(run.seen.requests);
  const double share = requests > 0 ? static_cast<double>(run.seen.saved) * 100 / requests : 0;
  return fmt::format("{} ({:.1f} %)", cli::show_count(run.seen.saved), share);
}

// One row per value and one column per protection, so that the table fits on a phone.
std::string table_of(const results& all) {
  std::string html = "<table><thead><tr><th></th>";
  for (std::size_t i = 0; i < all.runs.size(); ++i) {
    html += fmt::format(
        "<th scope=\"col\"><span class=\"mark\" "
        "style=\"background:var(--series-{})\"></span>{}{}</th>",
        i % 5, escaped(all.runs[i].protection), all.runs[i].complete ? "" : " (partial)");
  }
  html += "</tr></thead><tbody>\n";
  const auto row = [&](const char* name, auto&& cell) {
    html += fmt::format("<tr><th scope=\"row\">{}</th>", name);
    for (const auto& run : all.runs) html += fmt::format("<td>{}</td>", cell(run));
    html += "</tr>\n";
  };
  const auto quantile = [](double fraction) {
    return [fraction](const run_result& run) {
      return cli::show_duration(run.seen.latency.quantile(fraction));
    };
  };
  row("Requests", [](const run_result& run) { return cli::show_count(run.seen.requests); });
  row("Backend loads", [](const run_result& run) { return cli::show_count(run.backend_loads); });
  row("Loads saved", saved_cell);
  row("Most concurrent loads",
      [](const run_result& run) { return cli::show_count(run.loads_in_flight.most()); });
  row("Errors", errors_cell);
  const auto guarded = [&](bool on, const char* name, std::uint64_t guard_counts::*which) {
    if (on)
      row(name, [which](const run_result& run) { return cli::show_count(run.guards.*which); });
  };
  const auto& guards = all.guards;
  guarded(guards.any(), "Requested loads", &guard_counts::asked);
  guarded(guards.attempts.has_value(), "Retries", &guard_counts::retries);
  guarded(guards.error_rate.has_value(), "Loads rejected by the breaker", &guard_counts::rejected);
  guarded(guards.error_rate.has_value(), "Times the breaker opened", &guard_counts::opened);
  guarded(guards.max_loads.has_value(), "Loads that had to wait in the queue",
          &guard_counts::queued);
  guarded(guards.max_loads.has_value(), "Loads that gave up in the queue", &guard_counts::gave_up);
  if (guards.max_loads) {
    row("Longest wait in the queue",
        [](const run_result& run) { return cli::show_duration(run.guards.longest_wait); });
  }
  const auto cached = [&](const char* name, std::uint64_t cache_counts::*which) {
    if (!all.cache) return;
    row(name, [which](const run_result& run) {
      return run.cached ? cli::show_count(*run.cached.*which) : std::string("-");
    });
  };
  cached("Cache hits", &cache_counts::hits);
  cached("Stale answers from the cache", &cache_counts::stale);
  cached("Cache misses", &cache_counts::misses);
  cached("Background refreshes", &cache_counts::refreshes);
  cached("Expired entries", &cache_counts::expired);
  cached("Evicted entries", &cache_counts::evicted);
  row("Latency, p50", quantile(0.5));
  row("Latency, p99", quantile(0.99));
  row("Latency, p99.9", quantile(0.999));
  row("Latency, maximum",
      [](const run_result& run) { return cli::show_duration(run.seen.latency.max()); });
  row("Requests per second",
      [](const run_result& run) { return cli::show_number(run.answers_per_s()); });
  row("Wall time", [](const run_result& run) { return cli::show_duration(run.wall); });
  return html + "</tbody></table>";
}

// A ratio in the form "4.1x lower": the number is at least 1.
std::string times(double base, double other, const char* more, const char* less) {
  if (base <= 0 || other <= 0) return "-";
  if (std::fabs(other / base - 1) < 0.005) return "the same";
  return other >= base ? fmt::format("{}&times; {}", cli::show_number(other / base), more)
                       : fmt::format("{}&times; {}", cli::show_number(base / other), less);
}

std::string cards_of(const results& all) {
  if (all.runs.size() < 2) return {};
  const auto& base = all.runs.front();
  if (base.seen.requests == 0 || base.backend_loads == 0) return {};
  std::string html;
  for (std::size_t i = 1; i < all.runs.size(); ++i) {
    const auto& run = all.runs[i];
    if (run.seen.requests == 0) continue;
    const double base_loads =
        static_cast<double>(base.backend_loads) / static_cast<double>(base.seen.requests);
    const double loads =
        static_cast<double>(run.backend_loads) / static_cast<double>(run.seen.requests);
    const double change = (1 - loads / base_loads) * 100;
    const auto pair =
        fmt::format("{} compared with {}", escaped(run.protection), escaped(base.protection));
    html += "<div class=\"cards\">\n";
    html += card(fmt::format("{:.1f} % {}", std::abs(change), change >= 0 ? "fewer" : "more"),
                 change > 1, fmt::format("backend loads, {}", pair));
    const auto base_p99 = static_cast<double>(base.seen.latency.quantile(0.99).count());
    const auto p99 = static_cast<double>(run.seen.latency.quantile(0.99).count());
    html += card(times(base_p99, p99, "higher", "lower"), p99 < base_p99 * 0.95,
                 fmt::format("p99 latency: {} instead of {}",
                             cli::show_duration(run.seen.latency.quantile(0.99)),
                             cli::show_duration(base.seen.latency.quantile(0.99))));
    html += card(
        times(base.answers_per_s(), run.answers_per_s(), "more", "less"),
        run.answers_per_s() > base.answers_per_s() * 1.05,
        fmt::format("throughput: {} instead of {} requests/s",
                    cli::show_number(run.answers_per_s()), cli::show_number(base.answers_per_s())));
    html += "</div>\n";
  }
  return html;
}

std::string about(const results& all) {
  std::string html;
  const auto entry = [&](const char* name, const std::string& value) {
    html += about_entry(name, value);
  };
  entry("Workload", escaped(all.workload));
  entry("Requests", fmt::format("{}, for {} distinct keys", cli::show_count(all.requests),
                                cli::show_count(all.distinct_keys)));
  if (all.skipped_lines > 0)
    entry("Skipped", cli::show_count(all.skipped_lines) + " malformed lines of the log");
  if (all.seed) entry("Seed", std::to_string(*all.seed));
  entry("Pacing", escaped(all.pacing));
  if (all.deadline) entry("Deadline", cli::show_duration(*all.deadline) + " for each caller");
  entry("Backend",
        escaped(all.backend) +
            (all.connections > 0 ? fmt::format(", {} connections", cli::show_count(all.connections))
                                 : ""));
  if (all.guards.any()) entry("Guards", escaped(all.guards.describe()));
  if (all.cache) entry("Cache", escaped(all.cache->describe()));
  if (!all.query.empty()) entry("Query", "<pre>" + escaped(all.query) + "</pre>");
  entry("Machine", escaped(all.machine));
  entry("Saved", "requests that the load of another request served");
  entry("Most concurrent loads",
        all.guards.max_loads ? "loads in flight, including those that wait for a connection, "
                               "without those in the queue"
                             : "loads in flight, including those that wait for a connection");
  entry("Latency",
        "of all requests, including failed ones; in an open loop from when the request was due");
  entry("Requests/s", "answered requests");
  return html;
}

}  // namespace

std::string to_html(const results& all) {
  report_page page{.title = all.runs.size() < 2
                                ? "The load on the backend and the latency of the callers"
                                : "What protection saves the backend and the callers",
                   .lead = fmt::format("{}; {} requests; {}; {}", all.workload,
                                       cli::show_count(all.requests), all.pacing, all.backend),
                   .cards = cards_of(all),
                   .table_name = "Results of each protection",
                   .table = table_of(all),
                   .charts = replay_charts_html,
                   .script = replay_js,
                   .about = about(all),
                   .data = to_json(all),
                   .version = all.version};
  if (all.interrupted) {
    page.warning =
        "<p class=\"warning\">This run was stopped early; these are the results up to that "
        "point.</p>";
  }
  return to_html(page);
}

}  // namespace singleflight::lab
