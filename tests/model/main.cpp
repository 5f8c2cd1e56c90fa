// SPDX-License-Identifier: Apache-2.0

// Runs every world, or every world with one rule broken after the other.
//
//   (nothing)        each world within its bound; exit 1 if one fails
//   --schedules N    the same, at most N schedules a world
//   --mutants        each rule broken in the world that claims it, a line each:
//                    `mutant | rule | killed by | after N schedules`; exit 1 if one lives
//   --rule NAME      one rule broken in every world: which notice
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

struct mutant {
  rule which;
  const char* name;
  const char* what;
};
constexpr mutant mutants[] = {
#define SINGLEFLIGHT_RULE(name, what) {rule::name, #name, what},
    SINGLEFLIGHT_RULES(SINGLEFLIGHT_RULE)
#undef SINGLEFLIGHT_RULE
};

/// Runs a world with a rule broken, at most 10^5 schedules.
model::report break_rule(rule which, const model::named_world& in) {
  platform::broken_rule = which;
  model::limits bounds = in.bounds;
  bounds.schedules = std::min<std::uint64_t>(bounds.schedules, 100'000);
  model::report r = model::explore(in.what, bounds);
  platform::broken_rule = rule::none;
  return r;
}

int run_everywhere(const char* name) {
  for (const mutant& m : mutants) {
    if (std::strcmp(m.name, name) != 0) continue;
    int killers = 0;
    for (const model::named_world& w : model::worlds()) {
      const model::report r = break_rule(m.which, w);
      if (r.failure.empty()) continue;
      ++killers;
      std::printf("%s: %s | %ju\n", w.name.c_str(), r.failure.c_str(),
                  static_cast<std::uintmax_t>(r.schedules));
      std::fflush(stdout);
    }
    return killers != 0 ? 0 : 1;
  }
  std::fprintf(stderr, "no such rule: %s\n", name);
  return 2;
}

int run_mutants() {
  int living = 0;
  std::printf("mutant | rule | killed by | after N schedules\n");
  for (const mutant& m : mutants) {
    const model::claim* const claim =
        std::find_if(std::begin(model::claims), std::end(model::claims),
                     [&m](const model::claim& c) { return c.broken == m.which; });
    const model::named_world* claimant = nullptr;
    for (const model::named_world& w : model::worlds()) {
      if (claim != std::end(model::claims) && w.name == claim->world) claimant = &w;
    }
    model::report r;
    if (claimant != nullptr) r = break_rule(m.which, *claimant);
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
  if (argc == 3 && std::strcmp(argv[1], "--rule") == 0) return run_everywhere(argv[2]);
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
  std::fprintf(stderr, "usage: %s [--schedules N | --mutants | --rule NAME | --world NAME [--replay 1,2,...]]\n",
               argv[0]);
  return 2;
}
