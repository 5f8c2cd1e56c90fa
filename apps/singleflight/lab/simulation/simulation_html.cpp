// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "cli/units.hpp"
#include "lab/page/html.hpp"
#include "lab/page/page_assets.hpp"
#include "lab/simulation/simulation_results.hpp"

namespace singleflight::lab {

namespace {

// Of all runs, or only of those that were not stopped.
std::string columns_of(const simulation_results& all, bool stopped_too) {
  std::string html;
  for (std::size_t i = 0; i < all.runs.size(); ++i) {
    if (!all.runs[i].complete && !stopped_too) continue;
    html += fmt::format(
        "<th scope=\"col\"><span class=\"mark\" "
        "style=\"background:var(--series-{})\"></span>{}{}</th>",
        i % 5, escaped(all.runs[i].protection), all.runs[i].complete ? "" : " (partial)");
  }
  return html;
}

std::string runs_html(const simulation_results& all) {
  if (all.runs.empty()) return {};
  std::string html =
      fmt::format("<table><thead><tr><th></th>{}</tr></thead><tbody>\n", columns_of(all, true));
  const auto row = [&](const char* name, auto&& cell) {
    html += fmt::format("<tr><th scope=\"row\">{}</th>", name);
    for (const auto& run : all.runs) html += fmt::format("<td>{}</td>", cell(run));
    html += "</tr>\n";
  };
  const auto count = [&](const char* name, std::uint64_t simulated_run::*which) {
    row(name, [which](const simulated_run& run) { return cli::show_count(run.*which); });
  };
  count("Requests", &simulated_run::requests);
  count("Backend loads", &simulated_run::loads);
  row("Loads saved", [](const simulated_run& run) { return show_saved(run.requests, run.loads); });
  count("Requests that joined a load", &simulated_run::joins);
  count("Most concurrent loads", &simulated_run::peak_loads);
  count("Failed requests", &simulated_run::failed);
  const auto cached = [&](const char* name, std::uint64_t cache_counts::*which) {
    if (!all.cache) return;
    row(name, [which](const simulated_run& run) {
      return run.cached ? cli::show_count(*run.cached.*which) : std::string("-");
    });
  };
  cached("Cache hits", &cache_counts::hits);
  cached("Stale answers from the cache", &cache_counts::stale);
  cached("Background refreshes", &cache_counts::refreshes);
  cached("Expired entries", &cache_counts::expired);
  cached("Evicted entries", &cache_counts::evicted);
  return html + "</tbody></table>";
}

std::string hot_keys_html(const simulation_results& all) {
  const auto runs = all.complete_runs();
  if (all.profile.hottest.empty()) return {};
  std::string html = fmt::format(
      "<h2>{}</h2>\n<table><thead><tr><th scope=\"col\">Key</th>"
      "<th scope=\"col\">Requests</th>{}</tr></thead><tbody>\n",
      runs.empty() ? "The hottest keys" : "Loads saved, for the hottest keys",
      columns_of(all, false));
  for (std::size_t i = 0; i < all.profile.hottest.size(); ++i) {
    const auto requests = all.profile.hottest[i].requests;
    html += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td>", escaped(all.hot_names[i]),
                        cli::show_count(requests));
    for (const auto* run : runs)
      html += fmt::format("<td>{}</td>", show_saved(requests, run->loads_of_hottest[i]));
    html += "</tr>\n";
  }
  return html + "</tbody></table>\n";
}

std::string stampedes_html(const simulation_results& all) {
  const auto runs = all.complete_runs();
  if (all.profile.stampedes.empty()) return {};
  std::string html = fmt::format(
      "<h2>{}</h2>\n"
      "<table><thead><tr><th scope=\"col\">Key</th><th scope=\"col\">When</th>"
      "<th scope=\"col\">At once</th>{}</tr></thead><tbody>\n",
      runs.empty() ? "The largest stampedes"
                   : "Loads that each protection lets through, in the largest stampedes",
      columns_of(all, false));
  for (std::size_t i = 0; i < all.profile.stampedes.size(); ++i) {
    const auto& each = all.profile.stampedes[i];
    html += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td>",
                        escaped(all.stampede_names[i]), show_moment(all.began + each.begin, true),
                        cli::show_count(each.requests));
    for (const auto* run : runs)
      html += fmt::format("<td>{}</td>", cli::show_count(run->loads_let_through[i]));
    html += "</tr>\n";
  }
  return html + "</tbody></table>\n";
}

std::string recommendation_of(const simulation_results& all) {
  if (all.recommended.reasons.empty()) return {};
  std::string html = "<section class=\"panel\">\n<h2>Recommendation</h2>\n<ul>\n";
  for (const auto& reason : all.recommended.reasons)
    html += fmt::format("<li>{}</li>\n", escaped(reason));
  return html + "</ul>\n</section>\n";
}

std::string cards_of(const simulation_results& all) {
  std::string html;
  for (const auto& run : all.runs) {
    if (run.protection == "none" || run.requests == 0) continue;
    html +=
        card(show_saved(run.requests, run.loads), run.saved() * 100 > std::int64_t(run.requests),
             fmt::format("of the loads saved by {}", escaped(run.protection)));
  }
  return html.empty() ? html : "<div class=\"cards\">\n" + html + "</div>\n";
}

std::string about(const simulation_results& all) {
  std::string html = about_entry("Workload", escaped(all.workload));
  html += about_entry(
      "Requests",
      fmt::format("{}, for {} distinct keys, {} a second on average", cli::show_count(all.requests),
                  cli::show_count(all.distinct_keys), cli::show_number(all.requests_per_s())));
  if (all.skipped_lines > 0)
    html +=
        about_entry("Skipped", cli::show_count(all.skipped_lines) + " malformed lines of the log");
  const auto counted = [&](const char* name, std::uint64_t count, const char* what) {
    if (count > 0) html += about_entry(name, fmt::format("{} {}", cli::show_count(count), what));
  };
  counted("Left out", all.other_methods, "requests, because of their method");
  counted("Answered with a 5xx", all.failed_answers, "requests, which count like the others");
  counted("Answered with a 304", all.not_modified, "requests, which count like the others");
  if (all.seed) html += about_entry("Seed", std::to_string(*all.seed));
  html += about_entry("Times",
                      "those of the log: nothing was loaded, and no time passed; the "
                      "library&#39;s own group and cache decided what each request does");
  html += about_entry("Load time", escaped(all.load_time));
  if (all.processes > 1) {
    html += about_entry("Processes",
                        fmt::format("{}, {}", cli::show_count(all.processes),
                                    all.one_fleet ? "which share one group and one cache"
                                                  : "each with a group and a cache of its own"));
  }
  if (all.cache) html += about_entry("Cache", escaped(all.cache->describe()));
  html += about_entry("Stampede",
                      "requests for one key, of which each but the first arrives while the load "
                      "that the first one begins is in progress; the largest one of each key");
  html += about_entry("Saved", "the share of the requests for which no load was made");
  return html;
}

}  // namespace

std::string to_html(const simulation_results& all) {
  report_page page{.title = "What protection would save the backend, at the times of the log",
                   .lead = fmt::format("{}; {} requests; loads of {}", all.workload,
                                       cli::show_count(all.requests), all.load_time),
                   .cards = recommendation_of(all) + cards_of(all),
                   .table_name = "Results of each protection",
                   .table = runs_html(all) + hot_keys_html(all) + stampedes_html(all),
                   .charts = simulation_charts_html,
                   .script = simulation_js,
                   .about = about(all),
                   .data = to_json(all),
                   .version = all.version};
  if (all.interrupted) {
    page.warning =
        "<p class=\"warning\">This simulation was stopped early; these are the results up to that "
        "point.</p>";
  }
  return to_html(page);
}

}  // namespace singleflight::lab
