// SPDX-License-Identifier: Apache-2.0

// Runs every world, or every world with one rule at a time broken.
//
//   (nothing)        each world within its bound; exit 1 if one fails
//   --schedules N    the same, at most N schedules a world
//   --mutants        each rule broken in the world that claims it, a line each:
//                    `mutant | rule | killed by | after N schedules`; exit 1 if one lives
//   --rule NAME N    one rule broken in every world, at most N schedules in each: prints which fail
//   --world NAME     one world; with --replay 1,2,… one schedule of it, step by step

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "model/claims.hpp"
#include "model/worlds.hpp"
#include <singleflight/flight.hpp>

namespace {

namespace platform = singleflight::detail::platform;
namespace rule = singleflight::detail::rule;

std::string text_of(const model::limits& bounds) {
  std::string text = std::to_string(bounds.preemptions) +
                     (bounds.random_schedules != 0 ? " changes of priority" : " preemptions");
  if (bounds.faults != 0) text += ", " + std::to_string(bounds.faults) + " fault";
  return text;
}

/// Totals over all exploring processes.
struct totals {
  std::atomic<std::size_t> next{0};
  std::atomic<std::uint64_t> schedules{0};
  std::atomic<std::uint64_t> states{0};
  std::atomic<std::size_t> exhausted{0};
  std::atomic<std::size_t> failed{0};
};

void run_world(const model::named_world& w, std::uint64_t most, totals& sum) {
  model::limits bounds = w.bounds;
  bounds.schedules = std::min(bounds.schedules, most);
  if (bounds.random_schedules != 0) {
    bounds.random_schedules = std::min(bounds.random_schedules, most);
  }
  const model::report r = model::explore(w.what, bounds);
  sum.schedules += r.schedules;
  sum.states += r.states;
  if (r.exhausted) ++sum.exhausted;
  if (!r.failure.empty()) ++sum.failed;
  std::printf("%-70s %8ju schedules %8ju states%s at %s\n%s", w.name.c_str(),
              static_cast<std::uintmax_t>(r.schedules), static_cast<std::uintmax_t>(r.states),
              r.exhausted ? ", exhausted" : "", text_of(bounds).c_str(),
              r.failure.empty() ? "" : (r.text() + "\n").c_str());
  std::fflush(stdout);
}

/// Starts one process per processor, each taking the next world; a process runs one scheduler.
int run_all(std::uint64_t most = ~std::uint64_t{0}) {
  void* const shared =
      ::mmap(nullptr, sizeof(totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    std::perror("model: no memory to share");
    return 1;
  }
  totals& sum = *::new (shared) totals;
  const std::vector<model::named_world>& worlds = model::worlds();
  const auto begin = std::chrono::steady_clock::now();
  std::fflush(stdout);
  for (unsigned i = std::max(1U, std::thread::hardware_concurrency()); i > 0; --i) {
    const ::pid_t child = ::fork();
    if (child < 0) {
      std::perror("model: no process");
      return 1;
    }
    if (child == 0) {
      for (std::size_t n; (n = sum.next++) < worlds.size();) run_world(worlds[n], most, sum);
      std::_Exit(0);
    }
  }
  bool whole = true;
  int ended = 0;
  while (::wait(&ended) > 0) whole = whole && ended == 0;
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%ju schedules, %ju distinct states, %.1f s; %zu of %zu worlds exhausted\n",
              static_cast<std::uintmax_t>(sum.schedules), static_cast<std::uintmax_t>(sum.states),
              took.count(), sum.exhausted.load(), worlds.size());
  if (!whole) std::fprintf(stderr, "model: a process has died; its worlds were not explored\n");
  if (sum.failed != 0) std::fprintf(stderr, "model: %zu worlds failed\n", sum.failed.load());
  return whole && sum.failed == 0 ? 0 : 1;
}

const model::named_world* find_world(const char* name) {
  for (const model::named_world& w : model::worlds()) {
    if (w.name == name) return &w;
  }
  return nullptr;
}

struct mutant {
  singleflight::detail::rule_id which;
  const char* name;
  const char* what;
};
constexpr mutant mutants[] = {
#define SINGLEFLIGHT_RULE(name, what) {rule::name, #name, what},
    SINGLEFLIGHT_RULES(SINGLEFLIGHT_RULE)
#undef SINGLEFLIGHT_RULE
};

/// Runs a world with a rule broken.
model::report break_rule(singleflight::detail::rule_id which, const model::named_world& in,
                         std::uint64_t most) {
  platform::broken_rule = which;
  model::limits bounds = in.bounds;
  bounds.schedules = std::min(bounds.schedules, most);
  if (bounds.random_schedules != 0) {
    bounds.random_schedules = std::min(bounds.random_schedules, most);
  }
  model::report r = model::explore(in.what, bounds);
  platform::broken_rule = rule::none;
  return r;
}

int run_everywhere(const char* name, std::uint64_t most) {
  for (const mutant& m : mutants) {
    if (std::strcmp(m.name, name) != 0) continue;
    int killers = 0;
    for (const model::named_world& w : model::worlds()) {
      const model::report r = break_rule(m.which, w, most);
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
    const model::named_world* const claimant =
        claim == std::end(model::claims) ? nullptr : find_world(claim->world);
    model::report r;
    if (claimant != nullptr) r = break_rule(m.which, *claimant, 100'000);
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
  const auto is = [&](int n, const char* what) {
    return argc > n && std::strcmp(argv[n], what) == 0;
  };
  if (argc == 1) return run_all();
  if (argc == 3 && is(1, "--schedules")) return run_all(std::strtoull(argv[2], nullptr, 10));
  if (argc == 2 && is(1, "--mutants")) return run_mutants();
  if (argc == 4 && is(1, "--rule"))
    return run_everywhere(argv[2], std::strtoull(argv[3], nullptr, 10));
  if (is(1, "--world") && (argc == 3 || (argc == 5 && is(3, "--replay")))) {
    const model::named_world* const w = find_world(argv[2]);
    if (w == nullptr) {
      std::fprintf(stderr, "no such world: %s\n", argv[2]);
      return 2;
    }
    if (argc == 3) {
      totals sum;
      run_world(*w, ~std::uint64_t{0}, sum);
      return sum.failed == 0 ? 0 : 1;
    }
    std::vector<int> choices;
    std::stringstream list(argv[4]);
    for (std::string each; std::getline(list, each, ',');) {
      if (!each.empty()) choices.push_back(std::atoi(each.c_str()));
    }
    const model::report r = model::replay(w->what, choices, w->bounds);
    std::printf("%s\n", r.text().c_str());
    return r.failure.empty() ? 0 : 1;
  }
  std::fprintf(stderr,
               "usage: %s [--schedules N | --mutants | --rule NAME N | --world NAME [--replay "
               "1,2,...]]\n",
               argv[0]);
  return 2;
}
