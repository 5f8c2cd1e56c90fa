// SPDX-License-Identifier: Apache-2.0

// Runs every world, or every world with one rule broken after the other.
//
//   (nothing)        each world within its bound; exit 1 if one fails
//   --schedules N    the same, at most N schedules a world
//   --mutants        each rule broken in the world that claims it, a line each:
//                    `mutant | rule | killed by | after N schedules`; exit 1 if one lives
//   --world NAME     one world; with --replay 1,2,… one schedule of it, step by step

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "model/claims.hpp"
#include "model/worlds.hpp"
#include <singleflight/flight.hpp>

namespace {

namespace platform = singleflight::detail::platform;
using singleflight::detail::rule;

std::string text_of(const model::limits& bounds) {
  std::string text = std::to_string(bounds.preemptions) +
                     (bounds.random_schedules != 0 ? " changes of priority" : " preemptions");
  if (bounds.faults != 0) text += ", " + std::to_string(bounds.faults) + " fault";
  return text;
}

int run_all(const char* only, std::uint64_t most = ~std::uint64_t{0}) {
  std::uint64_t schedules = 0;
  std::uint64_t states = 0;
  std::size_t exhausted = 0;
  std::size_t count = 0;
  int status = 0;
  const auto begin = std::chrono::steady_clock::now();
  for (const model::named_world& w : model::worlds()) {
    if (only != nullptr && w.name != only) continue;
    ++count;
    model::limits bounds = w.bounds;
    bounds.schedules = std::min(bounds.schedules, most);
    const model::report r = model::explore(w.what, bounds);
    schedules += r.schedules;
    states += r.states;
    if (r.exhausted) ++exhausted;
    std::printf("%-60s %9ju schedules %9ju states%s at %s\n", w.name.c_str(),
                static_cast<std::uintmax_t>(r.schedules), static_cast<std::uintmax_t>(r.states),
                r.exhausted ? ", exhausted" : "", text_of(bounds).c_str());
    if (!r.failure.empty()) {
      std::printf("%s\n", r.text().c_str());
      status = 1;
    }
    std::fflush(stdout);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%ju schedules, %ju distinct states, %.1f s; %zu of %zu worlds exhausted\n",
              static_cast<std::uintmax_t>(schedules), static_cast<std::uintmax_t>(states),
              took.count(), exhausted, count);
  return count == 0 ? 2 : status;
}

int run_mutants() {
  struct mutant {
    rule which;
    const char* name;
    const char* what;
  };
  static const mutant all[] = {
#define SINGLEFLIGHT_RULE(name, what) {rule::name, #name, what},
      SINGLEFLIGHT_RULES(SINGLEFLIGHT_RULE)
#undef SINGLEFLIGHT_RULE
  };
  int living = 0;
  std::printf("mutant | rule | killed by | after N schedules\n");
  for (const mutant& m : all) {
    const model::claim* const claim =
        std::find_if(std::begin(model::claims), std::end(model::claims),
                     [&m](const model::claim& c) { return c.broken == m.which; });
    const model::named_world* claimant = nullptr;
    for (const model::named_world& w : model::worlds()) {
      if (claim != std::end(model::claims) && w.name == claim->world) claimant = &w;
    }
    model::report r;
    if (claimant != nullptr) {
      platform::broken_rule = m.which;
      model::limits bounds = claimant->bounds;
      bounds.schedules = 100'000;
      r = model::explore(claimant->what, bounds);
    }
    platform::broken_rule = rule::none;
    if (r.failure.empty()) ++living;
    std::printf("%s | %s | %s: %s | %ju\n", m.name, m.what,
                claimant == nullptr ? "no world claims it" : claimant->name.c_str(),
                r.failure.empty() ? "LIVES" : r.failure.c_str(),
                static_cast<std::uintmax_t>(r.schedules));
    std::fflush(stdout);
  }
  return living == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) return run_all(nullptr);
  if (argc == 2 && std::strcmp(argv[1], "--mutants") == 0) return run_mutants();
  if (argc == 3 && std::strcmp(argv[1], "--schedules") == 0) {
    return run_all(nullptr, std::strtoull(argv[2], nullptr, 10));
  }
  if (argc >= 3 && std::strcmp(argv[1], "--world") == 0) {
    if (argc == 3) return run_all(argv[2]);
    if (argc == 5 && std::strcmp(argv[3], "--replay") == 0) {
      std::vector<int> choices;
      std::stringstream list(argv[4]);
      for (std::string each; std::getline(list, each, ',');) {
        if (!each.empty()) choices.push_back(std::atoi(each.c_str()));
      }
      for (const model::named_world& w : model::worlds()) {
        if (w.name != argv[2]) continue;
        const model::report r = model::replay(w.what, choices, w.bounds);
        std::printf("%s\n", r.text().c_str());
        return r.failure.empty() ? 0 : 1;
      }
    }
  }
  std::fprintf(stderr, "usage: %s [--schedules N | --mutants | --world NAME [--replay 1,2,...]]\n",
               argv[0]);
  return 2;
}
