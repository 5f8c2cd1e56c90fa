// SPDX-License-Identifier: Apache-2.0

// The table, fresh calls, forgetting, hand-over and closing: several operations in turn.

#include <optional>
#include <source_location>
#include <stop_token>

#include "model/flight/scene.hpp"
#include "support/model/gate.hpp"

namespace {

using model::add_world;
using model::gate;
using model::history;
using model::ints;
using model::scene;
using model::three;
using model::two;
using model::world;
using singleflight::flight_errc;

// ---- the table ----------------------------------------------------------------------------------

const add_world two_keys("two keys of one bucket", three, [](world& w) {
  scene s(w);
  s.thread([&] { (void)s.flights.run(2, [] { return 7; }); });
  s.thread([&] { s.run(); });
  w.run();
  s.finish();
});

const add_world patient("2: two runs that look before they join", three, [](world& w) {
  scene s(w);
  for (int i = 0; i < 2; ++i) s.thread([&] { s.run(); }, true);
  w.run();
  s.finish();
});

const add_world three_keys("three keys, one hot", two, [](world& w) {
  scene s(w);
  for (const int other : {2, 3}) {
    s.thread([&s, other] {
      (void)s.flights.run(other, [] {
        history::step();
        return 7;
      });
    });
  }
  s.thread([&] { s.run(); });
  w.run();
  s.finish();
});

const add_world growth("the table grows during a run", two, [](world& w) {
  scene s(w);
  s.thread([&] {
    (void)s.flights.run(2, [&] {
      (void)s.flights.run(3, [&] {
        (void)s.flights.run(4, [] { return 7; });
        return 7;
      });
      return 7;
    });
  });
  s.thread([&] { s.run(); });
  s.thread([&] { s.run(); });
  w.run();
  s.finish();
});

const add_world whole_growth("the table grows during a run, from beginning to end", two,
                             [](world& w) {
                               scene s(w);
                               s.thread([&] {
                                 (void)s.flights.run(2, [&] {
                                   (void)s.flights.run(3, [&] {
                                     (void)s.flights.run(4, [&] {
                                       (void)s.flights.run(
                                           5, [&] { return *s.flights.run(6, [] { return 7; }); });
                                       return 7;
                                     });
                                     return 7;
                                   });
                                   return 7;
                                 });
                               });
                               s.thread([&] { s.run(); });
                               w.run();
                               s.finish();
                             });

const add_world growth_and_walk("in_flight as the table grows", two, [](world& w) {
  scene s(w);
  gate inside;
  gate seen;
  s.thread([&] {
    (void)s.flights.run(2, [&] {
      return *s.flights.run(3, [&] {
        inside.open();
        const int got = *s.flights.run(4, [&] { return *s.flights.run(5, [] { return 7; }); });
        seen.wait();
        return got;
      });
    });
  });
  s.thread([&] {
    inside.wait();
    int met = 0;
    for (const auto& one : s.flights.in_flight()) met += one.key == 2 || one.key == 3 ? 1 : 0;
    w.check(met == 2, "a walk does not meet each flight once");
    seen.open();
  });
  w.run();
  s.finish();
});

const add_world looking("in_flight during a run", three, [](world& w) {
  scene s(w);
  s.thread([&] { s.run(); });
  s.thread([&] {
    for (const auto& one : s.flights.in_flight()) {
      w.check(one.key == 1 && one.callers == 1, "in_flight reports a flight that does not exist");
    }
  });
  w.run();
  s.finish();
});

const add_world in_turn("5: calls in turn", three, [](world& w) {
  scene s(w);
  for (int i = 0; i < 2; ++i) {
    s.thread([&] {
      s.run();
      s.run();
    });
  }
  w.run();
  s.finish();
});

const add_world in_turn_awaited("5: calls in turn, awaited", three, [](world& w) {
  scene s(w);
  s.thread([&] {
    s.await(0);
    s.run();
  });
  s.thread([&] { s.await(1); });
  w.run();
  s.finish();
});

const add_world three_in_turn("5: three calls in turn during another", three, [](world& w) {
  scene s(w);
  s.thread([&] {
    s.run();
    s.run();
    s.run();
  });
  s.thread([&] { s.run(); });
  w.run();
  s.finish();
});

const add_world throws_at_once("7: a load that throws at once", three, [](world& w) {
  scene s(w);
  for (int i = 0; i < 2; ++i) {
    s.thread([&s] {
      s.run(true);
      s.run();
    });
  }
  w.run();
  s.finish();
});

// ---- forget -------------------------------------------------------------------------------------

const add_world stale_erase("1: a stale erase", two, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  s.thread([&] { s.run(); });
  s.thread([&] {
    history::call mine(s.h, true);  // its load begins after the forget
    s.flights.forget(1);
    mine.given(s.flights.run(model::as_outcome, 1, s.h.load()));
  });
  s.thread([&] { s.run(); });
  w.run();
  s.finish();
});

const add_world after_forget("18: a call after forget", three, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  s.thread([&] { s.run(); });
  s.thread([&] {
    s.flights.forget(1);
    s.run_fresh();  // its load begins after the call
  });
  w.run();
  s.finish();
});

const add_world forget_all("18: forget_all during calls of two keys", two, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  s.thread([&] { s.run(); });
  s.thread([&] { (void)s.flights.run(2, [] { return 7; }); });
  s.thread([&] {
    s.flights.forget_all();
    s.run_fresh();
  });
  w.run();
  s.finish();
});

// ---- fresh --------------------------------------------------------------------------------------

const add_world fresh_and_forget("19: fresh callers, and the first flight is forgotten", two,
                                 [](world& w) {
                                   scene s(w);
                                   s.h.may_overlap();
                                   s.thread([&] { s.run(); });
                                   s.thread([&] {
                                     s.run_fresh();
                                     s.run_fresh();
                                   });
                                   s.thread([&] { s.flights.forget(1); });
                                   w.run();
                                   s.finish();
                                 });

const add_world fresh_elected_stops("19: the fresh caller elected is stopped", two, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  s.h.may_end(flight_errc::cancelled);
  std::stop_source stop;
  s.thread([&] {
    s.run();
    singleflight::detail::platform::request_stop(stop);
  });
  s.thread([&] { s.run_fresh({.stop = stop.get_token()}); });
  s.thread([&] { s.run_fresh(); });
  w.run();
  s.finish();
});

// Scenario 50.
// The steps before are forced: the start joins after the election, the stop comes after that. When
// the elected caller wakes up is left open.
const add_world offered_back("50: the elected caller is stopped during a start", two, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  s.h.may_end(flight_errc::cancelled);
  std::stop_source stop;
  model::gate elected;
  const auto until_called = [&s](std::uint64_t count) {
    while (s.flights.stats().calls < count) model::pause(std::source_location::current());
  };
  s.thread([&] {
    s.h.calls([&] {
      return int{*s.flights.run(1, [&] {
        until_called(2);
        return s.h.load()();
      })};
    });
    elected.open();
    until_called(3);
    singleflight::detail::platform::request_stop(stop);
  });
  s.thread([&] { s.run_fresh({.stop = stop.get_token()}); });
  s.thread([&] {
    elected.wait();
    s.get();
  });
  w.run();
  s.finish();
});

// The flight is offered to one caller, given back, and offered to the other: a caller that looked
// at the first offer must not fall asleep on the second one.
const add_world offered_again("50: the elected caller is stopped while another waits", two,
                              [](world& w) {
                                scene s(w, {.on_error = singleflight::error_policy::hand_over(2)});
                                s.h.may_overlap();
                                s.h.may_end(flight_errc::cancelled);
                                std::stop_source stop;
                                s.thread([&] {
                                  s.h.calls([&] {
                                    return int{*s.flights.run(1, [&] {
                                      while (s.flights.stats().calls < 3) {
                                        model::pause(std::source_location::current());
                                      }
                                      return s.h.load(true)();
                                    })};
                                  });
                                  singleflight::detail::platform::request_stop(stop);
                                });
                                s.thread([&] { s.run(false, {.stop = stop.get_token()}); });
                                s.thread([&] { s.run(); });
                                w.run();
                                s.finish();
                              });

// ---- hand-over ----------------------------------------------------------------------------------

const add_world hand_over_three("17: hand-over, one of two takes over", two, [](world& w) {
  scene s(w, {.on_error = singleflight::error_policy::hand_over(1)});
  s.thread([&] { s.run(true); });
  s.thread([&] { s.run(); });
  s.thread([&] { s.run(); });
  w.run();
  s.finish();
});

const add_world hand_over_bounded("17: hand-over is bounded", two, [](world& w) {
  scene s(w, {.on_error = singleflight::error_policy::hand_over(1)});
  for (int i = 0; i < 3; ++i) s.thread([&] { s.run(true); });
  w.run();
  const auto stats = s.flights.stats();
  w.check(stats.handed_over <= stats.calls - stats.joined, "17: a flight was handed on twice");
  s.finish();
});

const add_world hand_over_kept("17: hand-over to a kept load, which fails as well", two,
                               [](world& w) {
                                 scene s(w, {.on_error = singleflight::error_policy::hand_over(1)});
                                 s.thread([&] { s.await(0, true); });
                                 s.thread([&] { s.await(1, true); });
                                 s.thread([&] { s.drain(); });
                                 w.run();
                                 s.finish();
                                 w.check(s.h.loads() <= 4, "17: more loads than were agreed on");
                               });

const add_world hand_over_stop("17: the one elected is stopped", two, [](world& w) {
  scene s(w, {.on_error = singleflight::error_policy::hand_over(1)});
  s.h.may_overlap();
  s.h.may_end(flight_errc::cancelled);
  std::stop_source stop;
  s.thread([&] { s.run(true); });
  s.thread([&] { s.run(false, {.stop = stop.get_token()}); });
  s.thread([&] { singleflight::detail::platform::request_stop(stop); });
  w.run();
  s.finish();
});

const add_world hand_over_mixed("17: hand-over between a thread and a caller that leaves", two,
                                [](world& w) {
                                  scene s(w,
                                          {.on_error = singleflight::error_policy::hand_over(2)});
                                  s.h.may_overlap();
                                  s.thread([&] { s.run(true); });
                                  s.thread([&] {
                                    auto f = std::make_optional(s.start(true));
                                    history::step();
                                    f.reset();
                                  });
                                  s.thread([&] { s.run(); });
                                  w.run();
                                  s.finish();
                                });

const add_world left_before("17: the load of a caller that has left does not lead", three,
                            [](world& w) {
                              scene s(w, {.on_error = singleflight::error_policy::hand_over(1)});
                              model::gate leads;
                              model::gate joined;
                              s.thread([&] {
                                s.h.calls([&] {
                                  return int{*s.flights.run(1, [&] {
                                    leads.open();
                                    joined.wait();
                                    return s.h.load(true)();
                                  })};
                                });
                              });
                              s.thread([&] {
                                leads.wait();
                                auto left = std::make_optional(s.flights.start(1, [&]() -> int {
                                  model::fail("17: the load of a caller that has left leads");
                                }));
                                history::call mine(s.h);
                                auto f = s.start();
                                left.reset();
                                joined.open();
                                s.drain();
                                mine.given(std::move(f).get_outcome());
                              });
                              w.run();
                              s.finish();
                            });

// ---- close --------------------------------------------------------------------------------------

const add_world close_runs("23: close during two runs", two, [](world& w) {
  scene s(w);
  s.h.may_end(flight_errc::closed);
  s.thread([&] { s.run(); });
  s.thread([&] {
    s.run();
    s.run();
  });
  s.thread([&] {
    s.flights.close();
    w.check(s.flights.in_flight().empty(), "P10: close has returned while there is a flight");
    w.check(s.h.running() == 0, "P10: close has returned while a load runs");
  });
  w.run();
  s.finish();
});

const add_world close_and_start("23: close during a started load", two, [](world& w) {
  scene s(w);
  s.h.may_end(flight_errc::closed);
  s.thread([&] { s.get(); });
  s.thread([&] { s.flights.close(); });
  s.thread([&] { s.drain(); });
  w.run();
  s.finish();
});

const add_world close_for("23: close_for while a load runs, and then close", three, [](world& w) {
  scene s(w);
  s.h.may_end(flight_errc::closed);
  model::gate held;
  model::gate runs;
  s.thread([&] {
    s.h.calls([&] {
      return int{*s.flights.run(1, [&] {
        const int n = s.h.begin_load();
        runs.open();
        held.wait();
        s.h.end_load();
        return n;
      })};
    });
    s.run();
  });
  s.thread([&] {
    runs.wait();
    w.check(!s.flights.close_for(std::chrono::seconds(1)),
            "P10: close_for did not wait for a load");
    w.check(s.h.running() == 1, "P10: close_for returned false while no load runs");
    held.open();
    s.flights.close();
    w.check(s.h.running() == 0, "P10: close has returned while a load runs");
  });
  w.run();
  s.finish();
  w.check(s.h.count(flight_errc::closed) == 1, "P10: a closed group has let a call in");
});

/// The group is destroyed as its last load ends: it must not be touched afterwards.
template <class Use>
void destroy_at_end(world& w, Use use) {
  history h(w);
  model::queue_executor queue;
  h.may_end(flight_errc::closed);
  h.may_overlap();
  auto flights = std::make_unique<ints>(singleflight::group_options{.executor = queue});
  singleflight::flight<int> f = flights->start(1, h.load());
  w.thread([&] { queue.run_all(); });
  w.thread([&] { use(h, std::move(f), queue); });
  w.thread([&] { flights.reset(); });
  w.run();
  queue.run_all();
  h.check();
}

const add_world destroyed_get("23: the group is destroyed as a blocked caller returns", two,
                              [](world& w) {
                                destroy_at_end(w, [](history& h, auto f, auto&) {
                                  h.calls([&] { return int{*std::move(f).get()}; });
                                });
                              });
const add_world destroyed_drop("23: the group is destroyed as a caller leaves", two, [](world& w) {
  destroy_at_end(w, [](history&, auto f, auto&) { const auto left = std::move(f); });
});
const add_world destroyed_callback("23: the group is destroyed as a callback runs", two,
                                   [](world& w) {
                                     destroy_at_end(w, [](history& h, auto f, auto& queue) {
                                       auto mine = std::make_shared<history::call>(h);
                                       std::move(f).on_ready(
                                           [mine](const auto& got) { mine->given(got); });
                                       queue.run_all();
                                     });
                                   });

}  // namespace
