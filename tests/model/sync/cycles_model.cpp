// SPDX-License-Identifier: Apache-2.0

// Loads that wait for tasks and retries, which wait for loads: one wait of a cycle fails, wherever
// each part of it runs and whichever wait comes last. A cycle that is not detected is a deadlock.

#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include "model/worlds.hpp"
#include "support/model/executor.hpp"
#include "support/model/gate.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/flight.hpp>
#include <singleflight/sync.hpp>

namespace {

using model::add_world;
using model::gate;
using model::three;
using model::two;
using model::world;
using singleflight::as_outcome;
using singleflight::error_group;
using singleflight::flight_errc;
using ints = singleflight::group<int, int>;
namespace platform = singleflight::detail::platform;

/// Loads and tasks, and how many callers got `recursive`.
struct cycle_site {
  explicit cycle_site(world& in) : w(in) {}
  ~cycle_site() { queue.run_all(); }  // late tickets find no work

  /// A thread that serves one ticket, if there ever is one.
  void server() {
    w.thread([this] {
      for (int turn = 0; turn < 3 && !queue.run_one(); ++turn) {
        model::pause(std::source_location::current());
      }
    });
  }
  /// Calls for `key`; a call that leads it here loads 0.
  bool call(int key) {
    const auto got = flights.run(as_outcome, key, [] { return 0; });
    if (got.errc() == flight_errc::recursive) {
      recursive.fetch_add(1, std::memory_order_relaxed);
    } else {
      w.check(got.has_value(), "13: an unexpected error");
    }
    return got.has_value();
  }
  int reported() const { return recursive.load(std::memory_order_relaxed); }

  world& w;
  model::queue_executor queue;
  ints flights;
  platform::atomic<int> recursive{0};
};

const add_world waits("13: a load waits for tasks that call for its key", two, [](world& w) {
  cycle_site s(w);
  w.thread([&] {
    (void)s.flights.run(1, [&] {
      error_group g({.executor = s.queue});
      g.go([&] { s.call(1); });
      g.go([&] { s.call(1); });
      w.check(g.wait(as_outcome).has_value(), "13: the wait for tasks has failed");
      return 1;
    });
  });
  s.server();
  w.run();
  w.check(s.reported() == 2, "13: a task was given the outcome of a load that waits for it");
});

// Scenario 56. The lock of a flight is taken within the graph's lock, to end a wait for it: a fork
// that takes them in another order waits for ever.
const add_world forks("56: a fork as a wait is ended by a cycle", three, [](world& w) {
  cycle_site s(w);
  gate begun;
  w.thread([&] {
    (void)s.flights.run(1, [&] {
      error_group g({.executor = s.queue});
      g.go([&] {
        begun.open();
        s.call(1);
      });
      begun.wait();  // the task has the only ticket
      (void)g.wait(as_outcome);
      return 1;
    });
  });
  w.thread([&] {
    while (!s.queue.run_one()) model::pause(std::source_location::current());
  });
  w.thread([&] {
    begun.wait();
    platform::fork();
  });
  w.run();
});

const add_world destroyed_group("13: a group is destroyed whose task calls for the key of its load",
                                three, [](world& w) {
                                  cycle_site s(w);
                                  gate begun;
                                  w.thread([&] {
                                    (void)s.flights.run(1, [&] {
                                      error_group g({.executor = s.queue});
                                      g.go([&] {
                                        begun.open();
                                        s.call(1);
                                      });
                                      begun.wait();
                                      return 1;
                                    });
                                  });
                                  w.thread([&] {
                                    while (!s.queue.run_one())
                                      model::pause(std::source_location::current());
                                  });
                                  w.run();
                                  w.check(s.reported() == 1,
                                          "13: a task was given the outcome of its load");
                                });

const add_world nested("13: run_all within run_all, whose call needs the key of the load", two,
                       [](world& w) {
                         cycle_site s(w);
                         const auto inner = [&] {
                           std::vector<std::function<bool()>> calls(1, [&] { return s.call(1); });
                           return singleflight::run_all(calls, {.executor = s.queue}).size() == 1;
                         };
                         w.thread([&] {
                           (void)s.flights.run(1, [&] {
                             std::vector<std::function<bool()>> calls(1, inner);
                             (void)singleflight::run_all(calls, {.executor = s.queue});
                             return 1;
                           });
                         });
                         s.server();
                         s.server();
                         w.run();
                         w.check(s.reported() == 1, "13: a call was given the outcome of its load");
                       });

const add_world retries(
    "13: a load waits for a retry whose attempt calls for its key", three, [](world& w) {
      cycle_site s(w);
      w.thread([&] {
        (void)s.flights.run(1, [&] {
          auto all = singleflight::start_retry(
              {.max_attempts = 1}, [&] { return s.call(1); }, {}, s.queue);
          const auto how = all.get_outcome();
          w.check(how || how.errc() == flight_errc::recursive, "13: an unexpected error");
          if (!how) s.recursive.fetch_add(1, std::memory_order_relaxed);
          return 1;
        });
      });
      w.thread([&] {
        while (!s.queue.run_one()) {
          model::pause(std::source_location::current());
        }
      });
      w.run();
      w.check(s.reported() == 1, "13: a cycle was not reported to exactly one wait");
    });

/// The task of each of two groups waits for the other group.
const add_world groups("13: two groups whose tasks wait for each other's group", two, [](world& w) {
  cycle_site s(w);
  error_group a({.executor = s.queue});
  error_group b({.executor = s.queue});
  const auto wait_for = [&](error_group& g) {
    if (g.wait(as_outcome).errc() == flight_errc::recursive) {
      s.recursive.fetch_add(1, std::memory_order_relaxed);
    }
  };
  gate both;
  w.thread([&] {
    a.go([&] {
      both.wait();
      wait_for(b);
    });
    a.wait();
  });
  w.thread([&] {
    b.go([&] {
      both.open();
      wait_for(a);
    });
    b.wait();
  });
  w.run();
  w.check(s.reported() <= 2, "13: a cycle was reported to more waits than it has");
});

const add_world outlives("13: a task outlives the load that it calls for: no cycle", two,
                         [](world& w) {
                           cycle_site s(w);
                           error_group g({.executor = s.queue});
                           w.thread([&] {
                             (void)s.flights.run(1, [&] {
                               g.go([&] { s.call(1); });
                               return 1;
                             });
                             g.wait();
                           });
                           s.server();
                           w.run();
                           w.check(s.reported() == 0, "13: a cycle where there is none");
                         });

/// The load waits for the first use of a group, which fails. A task of the second use calls for the
/// load's key while the load's thread is still leaving that wait.
const add_world next_use("13: a task of the next use calls for a load: no cycle", three,
                         [](world& w) {
                           cycle_site s(w);
                           error_group g({.executor = s.queue});
                           gate begun;
                           bool waited_for_first = false;
                           w.thread([&] {
                             (void)s.flights.run(1, [&] {
                               g.go([&] {
                                 begun.open();
                                 throw 1;
                               });
                               const auto how = g.wait(as_outcome);
                               waited_for_first = !how.has_value() && !how.errc();
                               return 1;
                             });
                           });
                           w.thread([&] {
                             while (!s.queue.run_one()) {
                               model::pause(std::source_location::current());
                             }
                             begun.wait();
                             (void)g.wait(as_outcome);  // now the first use is over
                             g.go([&] { s.call(1); });
                             (void)g.wait(as_outcome);
                           });
                           w.run();
                           w.check(!waited_for_first || s.reported() == 0,
                                   "13: a cycle with a wait that is over");
                         });

/// x expires while its load waits for y; b's load waits for x and is notified; then y's calls for
/// b.
const add_world expired(
    "13: a wait for a flight that has expired: no cycle", {.preemptions = 1}, [](world& w) {
      using namespace std::chrono_literals;
      singleflight::manual_timer time;
      ints x({.timer = &time, .load_timeout = 1s});
      ints others;
      gate x_runs;
      gate y_runs;
      w.thread([&] {
        (void)x.run(as_outcome, 1, [&] {
          x_runs.open();
          y_runs.wait();
          const auto got = others.run(as_outcome, 2, [] { return 0; });
          w.check(got.errc() != flight_errc::recursive, "13: a cycle with a wait that is over");
          return 1;
        });
      });
      w.thread([&] {
        x_runs.wait();
        (void)others.run(3, [&] {
          (void)x.run(as_outcome, 1, [] { return 0; });
          return 3;
        });
      });
      w.thread([&] {
        x_runs.wait();
        (void)others.run(2, [&] {
          auto over = x.start(1, [] { return 0; });
          y_runs.open();
          time.advance(2s);
          while (!over.ready()) {
            model::pause(std::source_location::current());
          }
          const auto got = others.run(as_outcome, 3, [] { return 0; });
          w.check(got.errc() != flight_errc::recursive, "13: a cycle with a wait that is over");
          return 2;
        });
      });
      w.run();
    });

}  // namespace
