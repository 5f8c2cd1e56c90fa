// SPDX-License-Identifier: Apache-2.0
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <string_view>

#include "cli/text_table.hpp"
#include "cli/units.hpp"
#include "cli/usage_error.hpp"
#include "lab/protection/cache_table.hpp"
#include "lab/simulation/simulation_results.hpp"

namespace singleflight::lab {

namespace {

constexpr std::size_t most_rows_of_hours = 24;
constexpr std::size_t longest_name = 48;

std::string name_of(const std::string& key) { return cli::one_line(key, longest_name); }

std::string protections_table(const simulation_results& all) {
  if (all.runs.empty()) return {};
  std::vector<cli::cells> rows{
      {"protection", "requests", "loads", "saved", "joined", "peak", "errors"}};
  for (const auto& run : all.runs) {
    rows.push_back({run.protection, cli::show_count(run.requests), cli::show_count(run.loads),
                    show_saved(run.requests, run.loads), cli::show_count(run.joins),
                    cli::show_count(run.peak_loads), cli::show_count(run.failed)});
  }
  return cli::aligned(rows) + "\n";
}

// The protections that can save loads.
std::vector<const simulated_run*> saving(const simulation_results& all) {
  auto found = all.complete_runs();
  std::erase_if(found, [](const auto* run) { return run->protection == "none"; });
  return found;
}

// If there are many hours, several of them make one row.
std::string hours_table(const simulation_results& all) {
  const auto runs = saving(all);
  const auto& every = all.profile.hours;
  if (runs.empty() || every.size() < 2) return {};
  constexpr std::array<int, 6> widths{1, 6, 24, 7 * 24, 28 * 24, 365 * 24};
  const auto span = (every.back().start - every.front().start).count() + 1;
  const auto fits = [&](int width) { return span <= width * std::int64_t{most_rows_of_hours}; };
  const auto found = std::find_if(widths.begin(), widths.end(), fits);
  const int width = found == widths.end() ? widths.back() : *found;
  const char* const titles[] = {"hour", "6 hours", "day", "week", "4 weeks", "year"};
  std::vector<cli::cells> rows{
      {fmt::format("saved, by {}", titles[std::min(found - widths.begin(), std::ptrdiff_t{5})]),
       "requests"}};
  for (const auto* run : runs) rows.front().push_back(run->protection);
  for (std::size_t begin = 0; begin < every.size();) {
    const auto place = every[begin].start.count() / width;
    std::size_t end = begin;
    std::uint64_t requests = 0;
    while (end < every.size() && every[end].start.count() / width == place) {
      requests += every[end++].requests;
    }
    rows.push_back(
        {show_moment(std::chrono::hours(place * width), false), cli::show_count(requests)});
    for (const auto* run : runs) {
      std::uint64_t loads = 0;
      for (std::size_t i = begin; i < end; ++i) loads += run->loads_by_hour[i];
      rows.back().push_back(show_saved(requests, loads));
    }
    begin = end;
  }
  return cli::aligned(rows) + "\n";
}

std::string hot_keys_table(const simulation_results& all) {
  const auto runs = saving(all);
  if (all.profile.hottest.empty() || (runs.empty() && !all.runs.empty())) return {};
  std::vector<cli::cells> rows{{runs.empty() ? "hottest keys" : "saved, hottest keys", "requests"}};
  for (const auto* run : runs) rows.front().push_back(run->protection);
  for (std::size_t i = 0; i < all.profile.hottest.size(); ++i) {
    const auto requests = all.profile.hottest[i].requests;
    rows.push_back({name_of(all.hot_names[i]), cli::show_count(requests)});
    for (const auto* run : runs)
      rows.back().push_back(show_saved(requests, run->loads_of_hottest[i]));
  }
  return cli::aligned(rows) + "\n";
}

std::string stampedes_table(const simulation_results& all) {
  const auto& profile = all.profile;
  const auto runs = all.complete_runs();
  if (profile.stampedes.empty()) return {};
  std::vector<cli::cells> rows{
      {runs.empty() ? "largest stampedes" : "loads let through, largest stampedes", "when",
       "at once"}};
  for (const auto* run : runs) rows.front().push_back(run->protection);
  for (std::size_t i = 0; i < profile.stampedes.size(); ++i) {
    const auto& each = profile.stampedes[i];
    rows.push_back({name_of(all.stampede_names[i]), show_moment(all.began + each.begin, true),
                    cli::show_count(each.requests)});
    for (const auto* run : runs) rows.back().push_back(cli::show_count(run->loads_let_through[i]));
  }
  return cli::aligned(rows) + "\n";
}

std::string sweep_table(const simulation_results& all) {
  if (!all.sweep) return {};
  const auto& made = *all.sweep;
  std::vector<cli::cells> rows{{"saved by a cache, entries"}};
  for (const auto ttl : made.ttls) rows.front().push_back(show_ttl(ttl));
  for (std::size_t c = 0; c < made.capacities.size(); ++c) {
    rows.push_back({cli::show_count(made.capacities[c])});
    for (const double share : made.saved[c]) rows.back().push_back(show_share(share));
  }
  auto text = cli::aligned(rows);
  if (made.sampled < 1) {
    text += fmt::format("from the ten hottest keys and a sample of {} of the others\n",
                        show_share(made.sampled));
  }
  return text + "\n";
}

std::string recommendation_lines(const simulation_results& all) {
  constexpr std::size_t most_columns = 100;
  constexpr std::string_view heading = "recommended ";
  std::string text;
  for (const auto& reason : all.recommended.reasons) {
    std::string line(text.empty() ? heading : std::string_view("            "));
    for (std::string_view rest = reason; !rest.empty();) {
      const auto word = rest.substr(0, rest.find(' '));
      if (line.size() + 1 + word.size() > most_columns) {
        text += line + "\n";
        line.assign(heading.size() + 2, ' ');
      }
      line += fmt::format(" {}", word);
      rest.remove_prefix(std::min(word.size() + 1, rest.size()));
    }
    text += line + "\n";
  }
  return text;
}

std::string notes_lines(const simulation_results& all) {
  std::string text;
  for (const auto& run : all.runs) {
    if (!run.complete) {
      text += fmt::format("{}: stopped early; these are the results up to that point\n",
                          run.protection);
    }
  }
  return text;
}

}  // namespace

std::vector<const simulated_run*> simulation_results::complete_runs() const {
  std::vector<const simulated_run*> found;
  for (const auto& run : runs) {
    if (run.complete) found.push_back(&run);
  }
  return found;
}

double simulation_results::requests_per_s() const {
  const double seconds = std::chrono::duration<double>(duration).count();
  return seconds > 0 ? static_cast<double>(requests) / seconds : 0;
}

std::string show_saved(std::uint64_t requests, std::uint64_t loads) {
  if (requests == 0) return "-";
  return show_share(1 - static_cast<double>(loads) / static_cast<double>(requests));
}

std::string show_moment(std::chrono::nanoseconds since_epoch, bool with_seconds) {
  // Before 1990 the log counts from a moment of its own.
  constexpr auto calendar = std::chrono::hours(24 * 365 * 20);
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since_epoch);
  const auto rest = std::chrono::floor<std::chrono::milliseconds>(since_epoch - seconds);
  if (since_epoch < calendar) {
    return with_seconds ? fmt::format("+{}.{:03} s", seconds.count(), rest.count())
                        : fmt::format("+{} h", seconds / std::chrono::hours(1));
  }
  const std::time_t time = seconds.count();
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  return with_seconds ? fmt::format("{:%Y-%m-%d %H:%M:%S}.{:03}", parts, rest.count())
                      : fmt::format("{:%Y-%m-%d %H:%M}", parts);
}

std::string to_table(const simulation_results& all) {
  return protections_table(all) + cache_table(all.runs) + hours_table(all) + hot_keys_table(all) +
         stampedes_table(all) + sweep_table(all) + recommendation_lines(all) + notes_lines(all);
}

}  // namespace singleflight::lab
