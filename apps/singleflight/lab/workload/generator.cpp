// SPDX-License-Identifier: Apache-2.0
#include "lab/workload/generator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include "cli/units.hpp"
#include "cli/usage_error.hpp"

namespace singleflight::lab {

namespace {

// std::uniform_real_distribution may differ between standard libraries; this function does not.
double next_fraction(std::mt19937_64& random) {
  return static_cast<double>(random() >> 11U) * 0x1p-53;
}

std::vector<double> cumulative_weights(const generator& g) {
  std::vector<double> sums(g.keys);
  double sum = 0;
  for (std::uint32_t rank = 0; rank < g.keys; ++rank) {
    switch (g.form) {
      case generator::shape::hot:
        sum += rank == 0 ? (g.keys == 1 ? 1 : g.share) : (1 - g.share) / (g.keys - 1);
        break;
      case generator::shape::zipf: sum += std::pow(rank + 1.0, -g.skew); break;
      case generator::shape::uniform: sum += 1; break;
    }
    sums[rank] = sum;
  }
  return sums;
}

std::string describe(const generator& g) {
  switch (g.form) {
    case generator::shape::hot:
      return fmt::format("generated: hot, {:g} % of the requests for one of {} keys", g.share * 100,
                         cli::show_count(g.keys));
    case generator::shape::zipf:
      return fmt::format("generated: Zipf, skew {:g}, over {} keys", g.skew,
                         cli::show_count(g.keys));
    case generator::shape::uniform: break;
  }
  return fmt::format("generated: uniform over {} keys", cli::show_count(g.keys));
}

}  // namespace

generator generator::parse(std::string_view text) {
  generator g;
  const auto colon = text.find(':');
  const auto name = text.substr(0, colon);
  if (name == "hot") {
    g.form = shape::hot;
  } else if (name == "zipf") {
    g.form = shape::zipf;
  } else if (name == "uniform") {
    g.form = shape::uniform;
  } else {
    throw cli::usage_error(
        fmt::format("--generate: '{}' is not hot, zipf or uniform; for example --generate "
                    "zipf:keys=1000,skew=0.99",
                    cli::one_line(text, 40)));
  }
  if (colon == std::string_view::npos) return g;

  auto rest = text.substr(colon + 1);
  while (true) {
    const auto comma = rest.find(',');
    const auto setting = rest.substr(0, comma);
    const auto equals = setting.find('=');
    const auto setting_name = setting.substr(0, equals);
    const auto value =
        equals == std::string_view::npos ? std::string_view{} : setting.substr(equals + 1);
    if (setting_name == "keys") {
      g.keys = static_cast<std::uint32_t>(
          cli::parse_count("--generate keys", value, {1, 10'000'000, "hot:keys=1000"}));
    } else if (setting_name == "skew" && g.form == shape::zipf) {
      g.skew = cli::parse_number("--generate skew", value, {0, 10, "zipf:skew=0.99"});
    } else if (setting_name == "share" && g.form == shape::hot) {
      g.share = cli::parse_number("--generate share", value, {0, 1, "hot:share=0.9"});
    } else {
      throw cli::usage_error(fmt::format("--generate: {} has no setting '{}'; it has {}", name,
                                         cli::one_line(setting, 40),
                                         g.form == shape::hot    ? "keys=N and share=0.9"
                                         : g.form == shape::zipf ? "keys=N and skew=0.99"
                                                                 : "keys=N"));
    }
    if (comma == std::string_view::npos) return g;
    rest = rest.substr(comma + 1);
  }
}

workload generator::make(std::size_t requests, std::uint64_t seed) const {
  const auto sums = cumulative_weights(*this);
  std::mt19937_64 random(seed);
  workload made;
  made.source = describe(*this);
  made.keys.reserve(keys);
  for (std::uint32_t key = 1; key <= keys; ++key) made.keys.push_back(std::to_string(key));
  made.requests.reserve(requests);
  for (std::size_t i = 0; i < requests; ++i) {
    const double point = next_fraction(random) * sums.back();
    const auto at = std::upper_bound(sums.begin(), sums.end(), point);
    made.requests.push_back(static_cast<std::uint32_t>(
        std::min<std::ptrdiff_t>(at - sums.begin(), static_cast<std::ptrdiff_t>(keys) - 1)));
  }
  made.keep_first(requests);
  return made;
}

}  // namespace singleflight::lab
