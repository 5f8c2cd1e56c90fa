// SPDX-License-Identifier: Apache-2.0

// Loads that wait for loads: a cycle is reported to one of its callers, and to no other.

#include "model/flight/scene.hpp"

namespace {

using model::add_world;
using model::history;
using model::ints;
using model::scene;
using model::three;
using model::two;
using model::world;
using singleflight::as_outcome;
using singleflight::flight_errc;

const add_world itself("13: a load that calls itself, during a run", three, [](world& w) {
  scene s(w);
  s.thread([&] {
    s.h.calls([&] {
      return int{*s.flights.run(1, [&] {
        const int n = s.h.begin_load();
        const auto got = s.flights.run(as_outcome, 1, [] { return 0; });
        w.check(got.errc() == flight_errc::recursive, "13: the load was given its own outcome");
        s.h.end_load();
        return n;
      })};
    });
  });
  s.thread([&] { s.run(); });
  w.run();
  s.finish();
});

const add_world forgets_itself("13: a load that forgets its key and calls again", three,
                               [](world& w) {
                                 scene s(w);
                                 s.h.may_overlap();
                                 s.thread([&] {
                                   s.h.calls([&] {
                                     return int{*s.flights.run(1, [&] {
                                       const int n = s.h.begin_load();
                                       s.flights.forget(1);
                                       s.run();
                                       s.h.end_load();
                                       return n;
                                     })};
                                   });
                                 });
                                 s.thread([&] { s.run(); });
                                 w.run();
                                 s.finish();
                               });

/// One thread's load of `first` calls for `second`.
struct chain {
  explicit chain(world& in) : w(in) {}
  int ask(int first, int second) {
    const auto got = flights.run(as_outcome, first, [&] {
      const auto inner = flights.run(as_outcome, second, [] {
        history::step();
        return 1;
      });
      if (inner.errc() == flight_errc::recursive) ++recursive;
      w.check(inner || inner.errc() == flight_errc::recursive, "13: an unexpected error");
      return 2;
    });
    w.check(bool(got), "13: the outer load has failed");
    return got ? int{**got} : 0;
  }
  world& w;
  ints flights;
  int recursive = 0;
};

const add_world crossed_waits("13: A waits for B while B waits for A", three, [](world& w) {
  chain c(w);
  w.thread([&] { c.ask(1, 2); });
  w.thread([&] { c.ask(2, 1); });
  w.run();
  w.check(c.recursive <= 1, "13: one cycle was reported to both");
});

const add_world cycle("13: a cycle of three", two, [](world& w) {
  chain c(w);
  w.thread([&] { c.ask(1, 2); });
  w.thread([&] { c.ask(2, 3); });
  w.thread([&] { c.ask(3, 1); });
  w.run();
  w.check(c.recursive <= 1, "13: one cycle was reported more than once");
});

const add_world no_cycle("13: two loads wait for one: no cycle", three, [](world& w) {
  chain c(w);
  w.thread([&] { c.ask(1, 3); });
  w.thread([&] { c.ask(2, 3); });
  w.run();
  w.check(c.recursive == 0, "13: a cycle where there is none");
});

/// Loads on a pool name themselves: the pool's threads lead nothing.
const add_world started_within(
    "13: started loads name themselves", {.preemptions = 1}, [](world& w) {
      ints flights;
      singleflight::detail::platform::atomic<int> recursive{0};
      const auto ask = [&](int first, int second) {
        auto f = flights.start(first, [&, second](singleflight::flight_context& context) {
          auto other = flights.start(second, [] { return 1; });
          const auto got = std::move(other.within(context).as_outcome()).get();
          if (got.errc() == flight_errc::recursive)
            recursive.fetch_add(1, std::memory_order_relaxed);
          return 2;
        });
        w.check(std::move(f).get_outcome().has_value(), "13: the outer load has failed");
      };
      w.thread([&] { ask(1, 2); });
      w.thread([&] { ask(2, 1); });
      w.run();
      w.check(recursive.load(std::memory_order_relaxed) <= 1, "13: one cycle was reported to both");
    });

}  // namespace
