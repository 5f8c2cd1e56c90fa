// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio/hit_ratio_results.hpp"

#include <fmt/format.h>

#include "cli/text_table.hpp"
#include "cli/units.hpp"
#include "lab/page/html.hpp"
#include "lab/page/page_assets.hpp"

namespace singleflight::lab {

namespace {

using json = nlohmann::ordered_json;

double share(std::uint64_t some, std::uint64_t all) {
  return all == 0 ? 0 : static_cast<double>(some) / static_cast<double>(all);
}

std::string percent(double share) { return fmt::format("{:.1f} %", share * 100); }

std::string of_optimum(const hits_at& row) {
  return row.optimum == 0 ? "-" : percent(share(row.loading_cache, row.optimum));
}

std::string size_of(const hits_at& row) {
  return fmt::format("{} {}", cli::show_count(row.entries), row.entries == 1 ? "entry" : "entries");
}

json hits_of(const hit_ratios& all, std::uint64_t hits) {
  return {{"hits", hits}, {"ratio", cli::rounded(all.ratio(hits))}};
}

std::string table_of(const hit_ratios& all) {
  std::string html = "<table><thead><tr><th scope=\"col\">Capacity</th>";
  int colour = 0;
  const auto column = [&](const char* name) {
    html += fmt::format(
        "<th scope=\"col\"><span class=\"mark\" "
        "style=\"background:var(--series-{})\"></span>{}</th>",
        colour++, name);
  };
  column("LRU");
  column("loading_cache");
  column("Optimum");
  html += "<th scope=\"col\">Of the optimum</th></tr></thead><tbody>\n";
  for (const auto& row : all.rows) {
    html += fmt::format("<tr><th scope=\"row\">{}{}</th>", size_of(row),
                        row.capacity.ends_with('%') ? " (" + escaped(row.capacity) + ")" : "");
    for (const auto hits : {row.lru, row.loading_cache, row.optimum})
      html += fmt::format("<td>{}</td>", percent(all.ratio(hits)));
    html += fmt::format("<td>{}</td></tr>\n", of_optimum(row));
  }
  return html + "</tbody></table>";
}

std::string cards_of(const hit_ratios& all) {
  constexpr std::size_t most_cards = 4;
  std::string html;
  for (const auto& row : all.rows) {
    if (row.optimum == 0 || all.rows.size() > most_cards) return {};
    html += card(of_optimum(row), row.loading_cache >= row.lru,
                 fmt::format("of the optimum, with {}", size_of(row)));
  }
  return "<div class=\"cards\">\n" + html + "</div>\n";
}

std::string about(const hit_ratios& all) {
  std::string html = about_entry("Workload", escaped(all.workload));
  html +=
      about_entry("Requests", fmt::format("{}, for {} distinct keys", cli::show_count(all.requests),
                                          cli::show_count(all.distinct_keys)));
  if (all.skipped_lines > 0)
    html +=
        about_entry("Skipped", cli::show_count(all.skipped_lines) + " malformed lines of the log");
  html += about_entry(
      "Hit ratio",
      "the share of the requests that a cache answers without a load; it is empty at first");
  html += about_entry(
      "Ceiling", percent(all.ceiling()) + ": the first request for each key is a hit in no cache");
  html += about_entry("LRU", "when it is full, it evicts the least recently used entry");
  html += about_entry("loading_cache",
                      "the library&#39;s own cache; one thread requests one key after the other");
  html +=
      about_entry("Optimum",
                  "knows all future requests and evicts the entry that is requested again last, "
                  "which may be the new one (Belady)");
  return html;
}

}  // namespace

double hit_ratios::ceiling() const { return share(requests - distinct_keys, requests); }

double hit_ratios::ratio(std::uint64_t hits) const { return share(hits, requests); }

std::string to_table(const hit_ratios& all) {
  std::vector<cli::cells> rows{
      {"capacity", "entries", "LRU", "loading_cache", "optimum", "of the optimum"}};
  for (const auto& row : all.rows) {
    rows.push_back({row.capacity, cli::show_count(row.entries), percent(all.ratio(row.lru)),
                    percent(all.ratio(row.loading_cache)), percent(all.ratio(row.optimum)),
                    of_optimum(row)});
  }
  return cli::aligned(rows);
}

json to_json(const hit_ratios& all) {
  json made;
  auto& workload = made["workload"];
  workload["source"] = all.workload;
  workload["requests"] = all.requests;
  workload["distinct_keys"] = all.distinct_keys;
  workload["skipped_lines"] = all.skipped_lines;
  made["version"] = all.version;
  made["ceiling"] = cli::rounded(all.ceiling());
  made["capacities"] = json::array();
  for (const auto& row : all.rows) {
    json each;
    each["capacity"] = row.capacity;
    each["entries"] = row.entries;
    each["lru"] = hits_of(all, row.lru);
    each["loading_cache"] = hits_of(all, row.loading_cache);
    each["optimum"] = hits_of(all, row.optimum);
    if (row.optimum > 0) each["of_optimum"] = cli::rounded(share(row.loading_cache, row.optimum));
    made["capacities"].push_back(std::move(each));
  }
  return made;
}

std::string to_html(const hit_ratios& all) {
  return to_html(report_page{
      .title = "The hit ratio that a cache would have",
      .lead = fmt::format("{}; {} requests for {} distinct keys", all.workload,
                          cli::show_count(all.requests), cli::show_count(all.distinct_keys)),
      .cards = cards_of(all),
      .table_name = "Hit ratio at each capacity",
      .table = table_of(all),
      .charts = hit_ratio_charts_html,
      .script = hit_ratio_js,
      .about = about(all),
      .data = to_json(all),
      .version = all.version});
}

}  // namespace singleflight::lab
