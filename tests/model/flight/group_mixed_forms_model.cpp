// SPDX-License-Identifier: Apache-2.0

// Every form of caller concurrent with every other, two and three at a time.

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "model/flight/scene.hpp"

namespace {

using model::add_world;
using model::limits;
using model::scene;
using model::world;
using singleflight::abandon;
using singleflight::flight_errc;
using singleflight::group_options;

struct form {
  const char* name;
  void (*play)(scene& s, std::size_t place, bool fails);
  bool leads;  ///< it brings a load along
};

constexpr form forms[] = {
    {"run", [](scene& s, std::size_t, bool fails) { s.run(fails); }, true},
    {"get", [](scene& s, std::size_t, bool fails) { s.get(fails); }, true},
    {"await", [](scene& s, std::size_t at, bool fails) { s.await(at, fails); }, true},
    {"on_ready", [](scene& s, std::size_t, bool fails) { s.call_back(fails); }, true},
    {"run_fresh", [](scene& s, std::size_t, bool) { s.run_fresh(); }, true},
    {"fresh await", [](scene& s, std::size_t at, bool) { s.await(at, false, true); }, true},
    {"drop", [](scene& s, std::size_t, bool) { s.drop(); }, true},
    {"forget", [](scene& s, std::size_t, bool) { s.flights.forget(1); }, false},
    {"close", [](scene& s, std::size_t, bool) { s.flights.close(); }, false},
};
constexpr std::size_t leads = 6;  // of the forms, those that wait for an outcome
constexpr std::size_t all_forms = std::size(forms);

constexpr std::size_t on_ready = 3;
constexpr std::size_t fresh_await = 5;
constexpr std::size_t drop = 6;
constexpr std::size_t forget = 7;
constexpr std::size_t close = 8;

/// Callers of these forms, each on a thread of its own; if `fails`, the first caller's load fails.
template <class... Forms>
void play(world& w, const group_options& options, bool fails, Forms... which) {
  scene s(w, options);
  static_assert(sizeof...(which) <= 6);
  const auto among = [&](std::size_t f) { return ((which == f) || ...); };
  if (among(close)) s.h.may_end(flight_errc::closed);
  if (among(forget) || (among(drop) && options.on_abandon == abandon::stop)) s.h.may_overlap();
  std::size_t place = 0;
  const auto add = [&](std::size_t f) {
    s.thread([&s, f, place, fails] { forms[f].play(s, place, fails && place == 0); });
    ++place;
  };
  (add(which), ...);
  w.run();
  s.finish();
}

struct policy {
  const char* name;
  group_options (*options)();
  bool fails;
};
constexpr policy policies[] = {
    {"", [] { return group_options{}; }, false},
    {", fails", [] { return group_options{}; }, true},
    {", hands over",
     [] { return group_options{.on_error = singleflight::error_policy::hand_over(1)}; }, true},
    {", drain", [] { return group_options{.on_abandon = abandon::drain}; }, false},
    {", finish", [] { return group_options{.on_abandon = abandon::finish}; }, false},
};

void add_pair(std::size_t a, std::size_t b, const policy& how, const limits& bounds,
              const std::string& more = {}) {
  const std::string name =
      std::string("10: ") + forms[a].name + " and " + forms[b].name + how.name + more;
  add_world(name, bounds, [a, b, &how](world& w) { play(w, how.options(), how.fails, a, b); });
}

const bool forms_added = [] {
  for (std::size_t a = 0; a < all_forms; ++a) {
    for (std::size_t b = a; b < all_forms; ++b) {
      if (!forms[a].leads) continue;
      add_pair(a, b, policies[0], model::three);
    }
  }
  // The first caller's load fails, and the group hands over, to a candidate of each kind. (A
  // callback waits as a coroutine does.)
  for (std::size_t a = 0; a < 3; ++a) {
    for (std::size_t b = 0; b < all_forms; ++b) {
      if (b < 3) add_pair(a, b, policies[1], model::three);
      if (b != on_ready && b != fresh_await) add_pair(a, b, policies[2], model::three);
    }
  }
  // A caller that leaves, where the load is waited for, or kept.
  for (const policy* how : {&policies[3], &policies[4]}) {
    for (std::size_t b = 0; b < all_forms; ++b) {
      if (b != on_ready && b != fresh_await) add_pair(drop, b, *how, model::three);
    }
  }
  // With a fault anywhere.
  for (std::size_t a = 0; a < leads; ++a) {
    for (std::size_t b = a; b < all_forms; ++b) {
      add_pair(a, b, policies[0], model::two_and_a_fault, ", and a fault");
    }
    add_pair(0, a, policies[2], model::two_and_a_fault, ", and a fault");
  }
  // Three: two that wait for an outcome, and one of any form.
  for (std::size_t a = 0; a < leads; ++a) {
    for (std::size_t b = a; b < leads; ++b) {
      for (std::size_t c = b; c < all_forms; ++c) {
        add_world(
            std::string("10: ") + forms[a].name + ", " + forms[b].name + " and " + forms[c].name,
            a == 0 && b < 3 && c >= leads ? model::two : limits{.preemptions = 1},
            [a, b, c](world& w) { play(w, group_options{}, false, a, b, c); });
      }
    }
  }
  // Six: at random.
  const limits random{.preemptions = 4, .random_schedules = 100'000};
  add_world("10: six forms at random", random, [](world& w) {
    play(w, group_options{}, false, std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{4},
         drop, forget);
  });
  add_world("10: six forms at random, hands over", random, [](world& w) {
    play(w, group_options{.on_error = singleflight::error_policy::hand_over(2)}, true,
         std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{0}, drop, close);
  });
  add_world("10: six forms at random, drain", random, [](world& w) {
    play(w, group_options{.on_abandon = abandon::drain}, false, std::size_t{0}, std::size_t{1},
         std::size_t{3}, std::size_t{5}, drop, drop);
  });
  add_world("10: six forms at random, and a fault",
            {.preemptions = 4, .faults = 1, .random_schedules = 100'000}, [](world& w) {
              play(w, group_options{}, false, std::size_t{0}, std::size_t{1}, std::size_t{3},
                   std::size_t{4}, drop, forget);
            });
  return true;
}();

}  // namespace
