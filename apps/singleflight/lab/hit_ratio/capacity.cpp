// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio/capacity.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/units.hpp"
#include "cli/usage_error.hpp"
#include "lab/workload/workload.hpp"

namespace singleflight::lab {

namespace {

constexpr const char* option = "--capacity";
constexpr const char* example = "1%,5%,1000";

capacity parse_capacity(std::string_view text) {
  capacity made;
  made.text = cli::one_line(text, 40);
  if (text.empty()) {
    throw cli::usage_error(fmt::format("{}: an entry of the list is empty; for example {} {}",
                                       option, option, example));
  }
  if (text.ends_with('%')) {
    made.share = cli::parse_percentage(option, text, example);
    if (*made.share == 0) {
      throw cli::usage_error(
          fmt::format("{}: a cache of {} has no entry; give a larger share, for example {} {}",
                      option, made.text, option, example));
    }
    return made;
  }
  if (text.find_first_not_of("0123456789") != std::string_view::npos) {
    throw cli::usage_error(fmt::format(
        "{}: '{}' is neither a share of the distinct keys, such as 5%, nor a number of entries, "
        "such as 1000; for example {} {}",
        option, made.text, option, example));
  }
  made.entries = cli::parse_count(option, text, {1, static_cast<double>(most_requests), example});
  return made;
}

}  // namespace

std::size_t capacity::of(std::size_t distinct_keys) const {
  if (!share) return entries;
  const double keys = std::round(*share * static_cast<double>(distinct_keys));
  return std::max<std::size_t>(static_cast<std::size_t>(keys), 1);
}

std::vector<capacity> parse_capacities(std::string_view text) {
  std::vector<capacity> chosen;
  while (true) {
    const auto comma = text.find(',');
    auto made = parse_capacity(text.substr(0, comma));
    const auto same = std::find_if(chosen.begin(), chosen.end(), [&](const capacity& other) {
      return other.share == made.share && other.entries == made.entries;
    });
    if (same != chosen.end()) {
      throw cli::usage_error(fmt::format("{}: {} is listed twice{}; list it once", option,
                                         same->text,
                                         same->text == made.text ? "" : " (" + made.text + ")"));
    }
    chosen.push_back(std::move(made));
    if (comma == std::string_view::npos) return chosen;
    text = text.substr(comma + 1);
  }
}

}  // namespace singleflight::lab
