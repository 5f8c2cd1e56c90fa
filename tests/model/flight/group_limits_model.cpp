// SPDX-License-Identifier: Apache-2.0

// Limits: stop tokens, deadlines, timeouts, bounds on waiters; and the interest that they end.

#include <chrono>
#include <functional>
#include <optional>
#include <stop_token>

#include "model/flight/scene.hpp"
#include "support/model/gate.hpp"
#include <singleflight/core/manual_timer.hpp>

namespace {

using model::add_world;
using model::forever;
using model::gate;
using model::history;
using model::scene;
using model::three;
using model::two;
using model::world;
using singleflight::abandon;
using singleflight::flight_errc;
using singleflight::group_options;
using singleflight::manual_timer;
using namespace std::chrono_literals;
namespace platform = singleflight::detail::platform;

void stop(std::stop_source& source) { platform::request_stop(source); }

// ---- interest -----------------------------------------------------------------------------------

const add_world token("a load that asks for its stop token", three, [](world& w) {
  scene s(w);
  s.thread([&] {
    s.h.calls([&] {
      return int{*s.flights.run(1, [&](std::stop_token stop_token) {
        w.check(!platform::stop_requested(stop_token), "a load with interest was asked to stop");
        return s.h.load()();
      })};
    });
  });
  s.thread([&] { s.run(); });
  w.run();
  s.finish();
});

const add_world doomed("3: nobody joins a flight that was given up", two, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  auto f = std::make_optional(s.flights.start(1, [&](std::stop_token stop_token) {
    history::step();
    return platform::stop_requested(stop_token) ? -1 : s.h.load()();
  }));
  s.thread([&] { f.reset(); });
  s.thread([&] { s.drain(); });
  s.thread([&] {
    s.h.calls([&] {
      const int n = *s.flights.run(1, s.h.load());
      w.check(n > 0, "P6: a newcomer was given the value of a stopped load");
      return n;
    });
  });
  w.run();
  s.finish();
});

const add_world given_up("4: a newcomer does not wait for a load that was given up", two,
                         [](world& w) {
                           scene s(w);
                           s.h.may_overlap();
                           gate dropped;
                           gate served;
                           auto f = std::make_optional(s.flights.start(1, [&] {
                             served.wait();
                             return 0;
                           }));
                           s.thread([&] {
                             f.reset();
                             dropped.open();
                           });
                           s.thread([&] { s.drain(); });
                           s.thread([&] {
                             dropped.wait();
                             s.h.calls([&] { return int{*s.flights.run(1, s.h.load())}; });
                             served.open();
                           });
                           w.run();
                           s.finish();
                         });

const add_world dropped_during("3: a handle dropped during the load", two, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  s.thread([&] { const auto f = s.start(); });
  s.thread([&] { s.drain(); });
  s.thread([&] {
    s.run();
    s.drain();
  });
  w.run();
  s.finish();
});

const add_world abandoned("4: an abandoned load is asked to stop", three, [](world& w) {
  scene s(w);
  platform::atomic<bool> dropped{false};
  std::optional<singleflight::flight<int>> f(s.flights.start(1, [&](std::stop_token stop_token) {
    history::step();
    w.check(!dropped.load(std::memory_order_relaxed) || platform::stop_requested(stop_token),
            "P6: an abandoned load was not asked to stop");
    return 1;
  }));
  s.thread([&] {
    f.reset();
    dropped.store(true, std::memory_order_relaxed);
  });
  s.thread([&] { s.drain(); });
  w.run();
  s.finish();
});

const add_world drained("4: a newcomer waits for an abandoned load under drain", three,
                        [](world& w) {
                          scene s(w, {.on_abandon = abandon::drain});  // loads must not overlap
                          s.thread([&] {
                            { const auto f = s.start(); }
                            s.drain();
                            s.run();
                          });
                          s.thread([&] {
                            s.drain();
                            s.run();
                          });
                          w.run();
                          s.finish();
                        });

const add_world kept_on("4: a newcomer joins an abandoned load under finish", three, [](world& w) {
  scene s(w, {.on_abandon = abandon::finish});
  s.thread([&] {
    auto f = s.flights.start(1, [&](std::stop_token stop_token) {
      const int n = s.h.load()();
      w.check(!platform::stop_requested(stop_token), "P6: the load was asked to stop under finish");
      return n;
    });
    s.drain();
  });
  s.thread([&] {
    s.drain();
    s.run();
  });
  w.run();
  s.finish();
});

const add_world joiner_leaves("10: a joiner leaves a run", three, [](world& w) {
  scene s(w);
  s.thread([&] {
    s.h.calls([&] {
      return int{*s.flights.run(1, [&](std::stop_token stop_token) {
        const int n = s.h.load()();
        w.check(!platform::stop_requested(stop_token),
                "P6: a load with interest was asked to stop");
        return n;
      })};
    });
  });
  s.thread([&] { const auto f = s.start(); });
  w.run();
  s.finish();
});

const add_world first_leaves("15: the first caller leaves, a joiner gets the value", two,
                             [](world& w) {
                               scene s(w);
                               s.h.may_overlap();
                               s.h.may_end(flight_errc::cancelled);
                               std::stop_source source;
                               s.thread([&] { s.await(0, false, false, source.get_token()); });
                               s.thread([&] { s.run(); });
                               s.thread([&] { stop(source); });
                               w.run();
                               s.finish();
                             });

const add_world leader_stops("15: a run leader's stop ends its interest only", two, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  std::stop_source source;
  gate leads;
  s.thread([&] {
    s.h.calls([&] {
      return int{*s.flights.run(1,
                                [&](std::stop_token) {
                                  leads.open();
                                  return s.h.load()();
                                },
                                {.stop = source.get_token()})};
    });
    leads.open();  // also when it has joined
  });
  s.thread([&] { s.run(); });
  s.thread([&] {
    leads.wait();
    stop(source);
  });
  w.run();
  s.finish();
});

/// The load's stop callback calls the group: no lock may be held.
const add_world calls_back("4: a stop callback that calls the group", three, [](world& w) {
  scene s(w);
  std::optional<singleflight::flight<int>> f(s.flights.start(1, [&](std::stop_token stop_token) {
    const platform::stop_callback<std::function<void()>> on_stop(
        stop_token, [&] { (void)s.flights.in_flight(); });
    return s.h.load()();
  }));
  s.thread([&] { f.reset(); });
  s.thread([&] { s.drain(); });
  w.run();
  s.finish();
});

// ---- a limit as the load ends -------------------------------------------------------------------

const add_world stop_at_end("16: a stop as the load ends", two, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  s.h.may_end(flight_errc::cancelled);
  std::stop_source source;
  s.thread([&] { s.run(); });
  s.thread([&] { s.run(false, {.stop = source.get_token()}); });
  s.thread([&] { stop(source); });
  w.run();
  s.finish();
});

const add_world await_stop("16: a stop during a coroutine's wait", two, [](world& w) {
  scene s(w);
  s.h.may_end(flight_errc::cancelled);
  s.h.may_overlap();
  std::stop_source source;
  s.thread([&] { s.run(); });
  s.thread([&] { s.await(0, false, false, source.get_token()); });
  s.thread([&] {
    stop(source);
    s.drain();
  });
  w.run();
  s.finish();
});

const add_world stop_after_outcome("16: a stop after the outcome", three, [](world& w) {
  scene s(w);  // a cancellation after the outcome has no effect
  std::stop_source source;
  s.await(0, false, false, source.get_token());
  w.check(s.h.count() == 1, "the coroutine has not been resumed");
  s.thread([&] {
    stop(source);
    s.drain();
  });
  s.thread([&] { history::step(); });
  w.run();
  s.finish();
});

const add_world stop_after_publication("16: a stop after publication", three, [](world& w) {
  scene s(w);
  model::queue_executor resumptions;
  std::stop_source source;
  const auto wait = [](scene& in, model::queue_executor& on,
                       std::stop_token stop_token) -> support::owned {
    history::call mine(in.h);
    auto f = in.start();
    mine.given(co_await f.until(forever, stop_token).on(on).as_outcome());
  };
  s.frames[0].emplace(wait(s, resumptions, source.get_token()));
  s.thread([&] {
    s.drain();  // runs the load, which publishes
    stop(source);
    resumptions.run_all();
  });
  w.thread([&] { history::step(); });
  w.run();
  resumptions.run_all();
  s.finish();
});

const add_world stop_before_wait("16: a stop as a wait begins", three, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  model::queue_executor resumptions;
  std::stop_source source;
  bool over = false;
  // The load never runs, and another caller keeps it wanted: only the stop can end the wait.
  auto other = s.flights.start(1, [] { return 1; });
  const auto wait = [&]() -> support::owned {
    auto f = s.flights.start(1, [] { return 1; });
    (void)co_await f.until(forever, source.get_token()).on(resumptions).as_outcome();
    over = true;
  };
  std::optional<support::owned> waiting;
  w.thread([&] {
    waiting.emplace(wait());
    resumptions.run_all();
  });
  w.thread([&] {
    stop(source);
    resumptions.run_all();
  });
  w.run();
  w.check(over, "P4: a stop before the wait is lost");
  s.finish();
});

/// A deadline on a clock that a thread of the world advances.
template <class Caller>
void deadline_at_end(world& w, Caller caller) {
  manual_timer time;
  scene s(w, {.timer = &time});
  s.h.may_end(flight_errc::timed_out);
  s.h.may_overlap();
  const auto deadline = time.now() + 1s;
  s.thread([&] { s.run(); });
  s.thread([&] { caller(s, deadline); });
  s.thread([&] {
    time.advance(2s);
    s.drain();
  });
  w.run();
  s.finish();
}
const add_world deadline_run("16: a deadline as the load ends, a run", two, [](world& w) {
  deadline_at_end(w, [](scene& s, auto at) { s.run(false, {.deadline = at}); });
});
const add_world deadline_await("16: a deadline as the load ends, a coroutine", two, [](world& w) {
  deadline_at_end(w, [](scene& s, auto at) { s.await(0, false, false, {}, at); });
});

const add_world kernel_deadline("16: a deadline that the machine keeps", three, [](world& w) {
  scene s(w);
  s.h.may_end(flight_errc::timed_out);
  gate held;
  s.thread([&] {
    s.h.calls([&] {
      return int{*s.flights.run(1, [&] {
        const int n = s.h.begin_load();
        held.wait();
        s.h.end_load();
        return n;
      })};
    });
  });
  s.thread([&] {
    s.run(false, {.deadline = platform::now() + 1s});
    held.open();
  });
  w.run();
  s.finish();
});

// ---- a hung leader ------------------------------------------------------------------------------

const add_world load_timeout("27: a load that hangs, load_timeout", two, [](world& w) {
  manual_timer time;
  scene s(w, {.timer = &time, .load_timeout = 1s});
  s.h.may_overlap();
  s.h.may_end(flight_errc::timed_out);
  gate held;
  gate hangs;
  s.thread([&] {
    s.h.calls([&] {
      return int{*s.flights.run(1, [&] {
        const int n = s.h.begin_load();
        hangs.open();
        held.wait();
        s.h.end_load();
        return n;
      })};
    });
  });
  s.thread([&] {
    hangs.wait();
    s.run();  // joins and times out, or calls later and leads
    if (s.h.count(flight_errc::timed_out) == 1) {
      s.run();
      w.check(s.h.count(flight_errc::timed_out) == 1, "27: the key was still taken");
    }
    held.open();
  });
  s.thread([&] {
    hangs.wait();
    time.advance(2s);
  });
  w.run();
  s.finish();
});

const add_world ends_twice("27: the load that hangs ends after its flight", three, [](world& w) {
  manual_timer time;
  scene s(w, {.timer = &time, .load_timeout = 1s});
  s.h.may_end(flight_errc::timed_out);
  gate held;
  gate hangs;
  gate ended;
  s.thread([&] {
    s.h.calls([&] {
      return int{*s.flights.run(1, [&] {
        const int n = s.h.begin_load();
        hangs.open();
        held.wait();
        s.h.end_load();
        return n;
      })};
    });
    ended.open();
  });
  s.thread([&] {
    hangs.wait();
    auto f = s.start();
    auto same = s.start();
    time.advance(2s);
    const auto first = std::move(f).get_outcome();
    w.check(first.errc() == flight_errc::timed_out, "27: a load that hangs has answered");
    held.open();
    ended.wait();
    const auto second = std::move(same).get_outcome();
    w.check(second.errc() == flight_errc::timed_out, "P4: one flight has had two outcomes");
  });
  w.run();
  s.finish();
});

const add_world timeout_at_end("27: load_timeout as the load ends", two, [](world& w) {
  manual_timer time;
  scene s(w, {.timer = &time, .load_timeout = 1s});
  s.h.may_overlap();
  s.h.may_end(flight_errc::timed_out);
  s.thread([&] { s.get(); });
  s.thread([&] { time.advance(2s); });
  s.thread([&] { s.run(); });
  w.run();
  s.finish();
});

const add_world timeout_hand_over("27: load_timeout during a hand-over", two, [](world& w) {
  manual_timer time;
  scene s(
      w,
      {.timer = &time, .on_error = singleflight::error_policy::hand_over(1), .load_timeout = 1s});
  s.h.may_overlap();
  s.h.may_end(flight_errc::timed_out);
  s.thread([&] { s.run(true); });
  s.thread([&] { s.run(); });
  s.thread([&] { time.advance(2s); });
  w.run();
  s.finish();
});

const add_world join_window("27: a newcomer after the join window", two, [](world& w) {
  manual_timer time;
  scene s(w, {.timer = &time, .join_window = 1s});
  s.h.may_overlap();
  gate held;
  gate hangs;
  s.thread([&] {
    s.h.calls([&] {
      return int{*s.flights.run(1, [&] {
        const int n = s.h.begin_load();
        hangs.open();
        held.wait();
        s.h.end_load();
        return n;
      })};
    });
  });
  s.thread([&] {
    hangs.wait();
    time.advance(2s);
    s.run();  // leads its own load: the one that hangs is too old
    held.open();
  });
  s.thread([&] {
    hangs.wait();
    s.run();
  });
  w.run();
  s.finish();
});

// ---- bounds -------------------------------------------------------------------------------------

const add_world max_waiters("28: one waiter, and one too many", two, [](world& w) {
  scene s(w, {.max_waiters = 1});
  s.h.may_end(flight_errc::overloaded);
  for (int i = 0; i < 3; ++i) s.thread([&] { s.run(); });
  w.run();
  w.check(s.h.count(flight_errc::overloaded) <= 1, "28: a caller that was inside was refused");
  w.check(s.h.count(flight_errc::overloaded) == 1 || s.h.loads() > 1,
          "28: more than max_waiters have joined");
  s.finish();
});

const add_world max_flights("28: one flight, and one too many", three, [](world& w) {
  scene s(w, {.max_flights = 1});
  s.h.may_end(flight_errc::overloaded);
  s.thread([&] {
    try {
      (void)s.flights.run(2, [] {
        history::step();
        return 7;
      });
    } catch (const singleflight::flight_error&) {
      return;
    }
  });
  s.thread([&] {
    s.run();
    s.run();
  });
  w.run();
  const int refused = s.h.count(flight_errc::overloaded);
  s.run();
  w.check(s.h.count(flight_errc::overloaded) == refused, "28: a flight that is over still counts");
  s.finish();
});

// The load ahead continues when it is forgotten or given up: the successor has no place then.
void forgotten_with_successor(world& w, bool forgets) {
  scene s(w, {.max_flights = 1});
  s.h.may_end(flight_errc::overloaded);
  s.h.may_end(flight_errc::cancelled);
  std::stop_source stop;
  s.thread([&] {
    s.run(false, forgets ? singleflight::limits{} : singleflight::limits{.stop = stop.get_token()});
  });
  s.thread([&] { s.run_fresh(); });
  s.thread([&] {
    if (forgets) {
      s.flights.forget(1);
    } else {
      platform::request_stop(stop);
    }
  });
  w.run();
  const int refused = s.h.count(flight_errc::overloaded);
  s.run();
  w.check(s.h.count(flight_errc::overloaded) == refused, "48: a flight that is over still counts");
  s.finish();
}
const add_world forgotten_bound("48: a forgotten load under max_flights", two,
                                [](world& w) { forgotten_with_successor(w, true); });
const add_world abandoned_bound("48: an abandoned load under max_flights", two,
                                [](world& w) { forgotten_with_successor(w, false); });

// ---- two limits that expire at once -------------------------------------------------------------

/// Each of two waits, which resume on the thread that makes them ready, is ended by a thread of its
/// own: neither thread resumes the other's wait while it is ending its own.
void two_limits_at_once(world& w, bool by_deadline) {
  singleflight::manual_timer time;
  scene s(w, {.timer = &time});
  s.h.may_end(flight_errc::cancelled);
  s.h.may_end(flight_errc::timed_out);
  std::stop_source one;
  std::stop_source other;
  const auto wait = [&](singleflight::flight<int> f, manual_timer::time_point deadline,
                        std::stop_token stop) -> support::owned {
    history::call mine(s.h);
    auto mine_too = std::move(f);
    mine.given(co_await mine_too.until(deadline, std::move(stop))
                   .on(singleflight::inline_executor)
                   .as_outcome());
  };
  const auto stays = s.start();
  const auto soon = time.now() + 1s;
  s.frames[0].emplace(wait(s.start(), by_deadline ? soon : forever, one.get_token()));
  s.frames[1].emplace(wait(s.start(), forever, other.get_token()));
  s.thread([&] {
    if (by_deadline) {
      time.advance(2s);
    } else {
      platform::request_stop(one);
    }
  });
  s.thread([&] { platform::request_stop(other); });
  w.run();
  s.drain();
  s.finish();
}
const add_world two_stops("16: two stops at once, of waits that resume on the stopping thread", two,
                          [](world& w) { two_limits_at_once(w, false); });
const add_world stop_and_deadline("16: a stop and a deadline at once, the same", two,
                                  [](world& w) { two_limits_at_once(w, true); });

}  // namespace
