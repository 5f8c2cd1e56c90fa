// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio/hit_ratio_results.hpp"

#include <fmt/format.h>

#include <initializer_list>

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
  if (row.optimum.requests == 0) return "-";
  return percent(share(row.loading_cache.requests, row.optimum.requests));
}

std::string size_of(const hits_at& row) {
  return fmt::format("{} {}", cli::show_count(row.entries), row.entries == 1 ? "entry" : "entries");
}

json hits_of(const hit_ratios& all, const cache_hits& hits) {
  json made = {{"hits", hits.requests}, {"ratio", cli::rounded(all.ratio(hits))}};
  if (all.bytes > 0) {
    made["bytes"] = hits.bytes;
    made["byte_ratio"] = cli::rounded(all.byte_ratio(hits));
  }
  return made;
}

// The same three caches as lines of text: of requests, or of bytes.
using ratio_of = double (hit_ratios::*)(const cache_hits&) const;

cli::cells ratios(const hit_ratios& all, const hits_at& row, ratio_of ratio) {
  cli::cells made{row.capacity, cli::show_count(row.entries)};
  for (const auto* hits : {&row.lru, &row.loading_cache, &row.optimum})
    made.push_back(percent((all.*ratio)(*hits)));
  return made;
}

std::string table_head(std::initializer_list<const char*> more) {
  std::string html = "<table><thead><tr><th scope=\"col\">Capacity</th>";
  int colour = 0;
  for (const char* cache : {"LRU", "loading_cache", "Optimum"}) {
    html += fmt::format(
        "<th scope=\"col\"><span class=\"mark\" "
        "style=\"background:var(--series-{})\"></span>{}</th>",
        colour++, cache);
  }
  for (const char* name : more) html += fmt::format("<th scope=\"col\">{}</th>", name);
  return html + "</tr></thead><tbody>\n";
}

std::string row_of(const hit_ratios& all, const hits_at& row, ratio_of ratio) {
  std::string html =
      fmt::format("<tr><th scope=\"row\">{}{}</th>", size_of(row),
                  row.capacity.ends_with('%') ? " (" + escaped(row.capacity) + ")" : "");
  for (const auto* hits : {&row.lru, &row.loading_cache, &row.optimum})
    html += fmt::format("<td>{}</td>", percent((all.*ratio)(*hits)));
  return html;
}

std::string tables_of(const hit_ratios& all) {
  auto html = table_head({"Of the optimum"});
  for (const auto& row : all.rows) {
    html +=
        row_of(all, row, &hit_ratios::ratio) + fmt::format("<td>{}</td></tr>\n", of_optimum(row));
  }
  html += "</tbody></table>";
  if (all.bytes == 0) return html;
  html += "\n<h2>Byte hit ratio at each capacity</h2>\n" + table_head({});
  for (const auto& row : all.rows) html += row_of(all, row, &hit_ratios::byte_ratio) + "</tr>\n";
  return html + "</tbody></table>";
}

std::string cards_of(const hit_ratios& all) {
  constexpr std::size_t most_cards = 4;
  std::string html;
  for (const auto& row : all.rows) {
    if (row.optimum.requests == 0 || all.rows.size() > most_cards) return {};
    html += card(of_optimum(row), row.loading_cache.requests >= row.lru.requests,
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
  if (all.bytes > 0) {
    html += about_entry("Byte hit ratio",
                        fmt::format("the share of the bytes of all answers, {} in all, that are in "
                                    "hits; capacities count entries, whatever their size",
                                    cli::show_count(all.bytes)));
  }
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

double hit_ratios::ratio(const cache_hits& hits) const { return share(hits.requests, requests); }

double hit_ratios::byte_ratio(const cache_hits& hits) const { return share(hits.bytes, bytes); }

std::string to_table(const hit_ratios& all) {
  std::vector<cli::cells> rows{
      {"capacity", "entries", "LRU", "loading_cache", "optimum", "of the optimum"}};
  for (const auto& row : all.rows) {
    rows.push_back(ratios(all, row, &hit_ratios::ratio));
    rows.back().push_back(of_optimum(row));
  }
  auto text = cli::aligned(rows);
  if (all.bytes == 0) return text;
  rows = {{"of the bytes", "entries", "LRU", "loading_cache", "optimum"}};
  for (const auto& row : all.rows) rows.push_back(ratios(all, row, &hit_ratios::byte_ratio));
  return text + "\n" + cli::aligned(rows);
}

json to_json(const hit_ratios& all) {
  json made;
  auto& workload = made["workload"];
  workload["source"] = all.workload;
  workload["requests"] = all.requests;
  workload["distinct_keys"] = all.distinct_keys;
  workload["skipped_lines"] = all.skipped_lines;
  if (all.bytes > 0) workload["bytes"] = all.bytes;
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
    if (row.optimum.requests > 0) {
      each["of_optimum"] = cli::rounded(share(row.loading_cache.requests, row.optimum.requests));
    }
    made["capacities"].push_back(std::move(each));
  }
  made["interrupted"] = all.interrupted;
  return made;
}

std::string to_html(const hit_ratios& all) {
  return to_html(report_page{
      .title = "The hit ratio that a cache would have",
      .lead = fmt::format("{}; {} requests for {} distinct keys", all.workload,
                          cli::show_count(all.requests), cli::show_count(all.distinct_keys)),
      .warning = all.interrupted ? "<p class=\"warning\">This run was stopped early; larger "
                                   "capacities were not measured.</p>"
                                 : "",
      .cards = cards_of(all),
      .table_name = "Hit ratio at each capacity",
      .table = tables_of(all),
      .charts = hit_ratio_charts_html,
      .script = hit_ratio_js,
      .about = about(all),
      .data = to_json(all),
      .version = all.version});
}

}  // namespace singleflight::lab
