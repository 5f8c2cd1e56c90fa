// SPDX-License-Identifier: Apache-2.0

// Scenario 52: callers whose wait is cancelled while the executor that is to resume them stalls.
// From the verdict on they count nowhere: not in the outcome, not for a bound, not as interest.

#include <chrono>
#include <coroutine>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <utility>

#include "model/flight/scene.hpp"
#include "support/model/gate.hpp"
#include <singleflight/core/manual_timer.hpp>

namespace {

using model::add_world;
using model::forever;
using model::gate;
using model::queue_executor;
using model::scene;
using model::three;
using model::two;
using model::world;
using singleflight::abandon;
using singleflight::flight_errc;
using singleflight::manual_timer;
using namespace std::chrono_literals;
using time_point = std::chrono::steady_clock::time_point;
namespace detail = singleflight::detail;
namespace platform = singleflight::detail::platform;

/// A coroutine that waits for `f` until a limit, on an executor that stalls, and records its
/// outcome.
support::owned wait_on(scene& s, queue_executor on, singleflight::flight<int> f,
                       time_point deadline, std::stop_token stop = {}) {
  model::history::call mine(s.h);
  mine.given(co_await f.until(deadline, std::move(stop)).on(on).as_outcome());
}

// ---- the outcome counts the callers that get it -------------------------------------------------

/// Checks the leader's count of callers against whether the other caller gave up.
void counts_callers_that_get_it(world& w, bool blocks, bool by_deadline) {
  manual_timer time;
  scene s(w, {.timer = &time});
  s.h.may_end(by_deadline ? flight_errc::timed_out : flight_errc::cancelled);
  queue_executor stalled;
  std::stop_source source;
  gate leads;
  gate joined;
  std::size_t callers = 0;
  std::optional<bool> taken;
  std::optional<support::owned> waits;
  const time_point deadline = by_deadline ? time.now() + 1s : forever;
  s.thread([&] {
    s.h.calls([&] {
      auto r = s.flights.run(1, [&] {
        leads.open();
        joined.wait();
        return s.h.load()();
      });
      callers = r.callers();
      const int n = *r;
      taken = std::move(r).try_take().has_value();
      return n;
    });
  });
  s.thread([&] {
    leads.wait();
    if (blocks) {
      joined.open();
      s.run(false, {.deadline = deadline, .stop = source.get_token()});
    } else {
      waits.emplace(
          wait_on(s, stalled, s.flights.start(1, s.h.load()), deadline, source.get_token()));
      joined.open();
    }
  });
  s.thread([&] {
    joined.wait();
    if (by_deadline) {
      time.advance(2s);
    } else {
      platform::request_stop(source);
    }
  });
  w.run();
  stalled.run_all();
  s.finish();
  const int gave_up = s.h.count(flight_errc::timed_out) + s.h.count(flight_errc::cancelled);
  if (s.h.loads() == 1) {  // else the second caller was late, and led
    w.check(callers + static_cast<std::size_t>(gave_up) == 2,
            "52: an outcome counts a caller that has given up, or misses one that has it");
    w.check(*taken == (callers == 1), "52: a value that no other caller has cannot be taken");
  }
  waits.reset();
}
const add_world counts_coroutine("52: the outcome as a stop fires, a coroutine that is not resumed",
                                 two,
                                 [](world& w) { counts_callers_that_get_it(w, false, false); });
const add_world counts_deadline(
    "52: the outcome as a deadline expires, a coroutine that is not resumed", two,
    [](world& w) { counts_callers_that_get_it(w, false, true); });
const add_world counts_blocked("52: the outcome as a stop fires, a thread", two,
                               [](world& w) { counts_callers_that_get_it(w, true, false); });

// ---- the load is asked to stop ------------------------------------------------------------------

/// The load ends when it is asked to stop; its only caller is not resumed before.
void stopped_without_resumption(world& w, abandon policy, bool by_deadline) {
  manual_timer time;
  scene s(w, {.timer = &time, .on_abandon = policy});
  s.h.may_end(by_deadline ? flight_errc::timed_out : flight_errc::cancelled);
  queue_executor stalled;
  std::stop_source source;
  gate stopped;
  const detail::thread_state* clock_thread = nullptr;
  const time_point deadline = by_deadline ? time.now() + 1s : forever;
  std::optional<support::owned> waits(wait_on(
      s, stalled,
      s.flights.start(1,
                      [&](std::stop_token t) {
                        const platform::stop_callback<std::function<void()>> on_stop(t, [&] {
                          w.check(&detail::this_thread() != clock_thread,
                                  "52: a stop callback on the timer's thread");
                          stopped.open();
                        });
                        stopped.wait();
                        return 1;
                      }),
      deadline, source.get_token()));
  s.thread([&] { s.drain(); });
  w.thread([&] {
    if (by_deadline) {
      clock_thread = &detail::this_thread();
      time.advance(2s);
    } else {
      platform::request_stop(source);
    }
  });
  w.run();
  w.check(s.flights.in_flight().empty(), "52: an abandoned flight stays");
  w.check(s.flights.stats().abandoned == 1, "P6: an abandoned flight is not counted");
  stalled.run_all();
  s.finish();
  waits.reset();
}
const add_world stop_without_resumption("52: the last caller is stopped, its executor stalls",
                                        three, [](world& w) {
                                          stopped_without_resumption(w, abandon::stop, false);
                                        });
const add_world deadline_without_resumption("52: the last caller times out, its executor stalls",
                                            two, [](world& w) {
                                              stopped_without_resumption(w, abandon::stop, true);
                                            });
const add_world drain_without_resumption("52: the last caller times out, drain", two, [](world& w) {
  stopped_without_resumption(w, abandon::drain, true);
});

/// P6: the stop is requested before the last caller returns, also where the pool is late, and where
/// its load times out as well.
void stopped_before_return(world& w, std::chrono::nanoseconds load_timeout) {
  manual_timer time;
  scene s(w, {.timer = &time, .load_timeout = load_timeout});
  s.h.may_end(flight_errc::timed_out);
  queue_executor stalled;
  gate begun;
  gate returned;
  std::stop_token stop_token;
  std::optional<support::owned> waits(wait_on(s, stalled,
                                              s.flights.start(1,
                                                              [&](std::stop_token t) {
                                                                stop_token = std::move(t);
                                                                begun.open();
                                                                returned.wait();
                                                                return 1;
                                                              }),
                                              time.now() + 1s));
  s.thread([&] { s.drain(); });
  s.thread([&] {
    begun.wait();
    time.advance(2s);
    stalled.run_all();
    w.check(platform::stop_requested(stop_token),
            "P6: the last caller returned before its load was asked to stop");
    returned.open();
  });
  w.run();
  s.finish();
  waits.reset();
}
const add_world before_return("52: the last caller times out and returns", two,
                              [](world& w) { stopped_before_return(w, {}); });
const add_world with_its_load("52: the last caller times out as its load does, and returns", two,
                              [](world& w) { stopped_before_return(w, 2s); });

/// A thread that waits for the fire may be what the destructor of a loader waits for.
const add_world dropped_in_fire(
    "52: a load is dropped as the one ahead times out", two, [](world& w) {
      manual_timer time;
      queue_executor loads;
      bool drops = false;
      const singleflight::any_executor on([&](singleflight::task t) {
        if (!drops) loads.execute(std::move(t));
      });
      model::ints flights({.executor = on, .timer = &time, .load_timeout = 1s});
      gate begun;
      gate over;
      const detail::thread_state* clock_thread = nullptr;
      std::shared_ptr<int> part(new int(3), [&](const int* p) {
        w.check(&detail::this_thread() != clock_thread, "52: a load is destroyed within a fire");
        delete p;
      });
      auto hangs = flights.start(1, [&] {
        begun.open();
        over.wait();
        return 1;
      });
      auto behind = flights.start_fresh(1, [] { return 2; });
      auto joiner = flights.start_fresh(1, [own = std::move(part)] { return *own; });
      w.thread([&] { loads.run_one(); });
      w.thread([&] {
        begun.wait();
        drops = true;
        clock_thread = &detail::this_thread();
        time.advance(2s);
        clock_thread = nullptr;
        over.open();
      });
      w.run();
      w.check(joiner.get_outcome().errc() == flight_errc::broken, "P5: a dropped load hangs");
    });

// ---- what else a caller counts for --------------------------------------------------------------

const add_world successor("52: a deadline ends the flight ahead of a fresh one", two, [](world& w) {
  manual_timer time;
  scene s(w, {.timer = &time});
  s.h.may_end(flight_errc::timed_out);
  s.h.may_overlap();
  queue_executor stalled;
  std::optional<support::owned> waits(
      wait_on(s, stalled, s.flights.start(1, [&] { return s.h.load()(); }), time.now() + 1s));
  s.thread(
      [&] { s.await(0, false, true); });  // no thread sleeps on it: the pool may queue its load
  s.thread([&] { time.advance(2s); });
  w.run();
  stalled.run_all();
  s.finish();
  waits.reset();
});

const add_world kept("52: the load of a caller that has timed out does not lead", two,
                     [](world& w) {
                       manual_timer time;
                       scene s(w, {.timer = &time,
                                   .on_error = singleflight::error_policy::hand_over(1)});
                       s.h.may_end(flight_errc::timed_out);
                       queue_executor stalled;
                       gate leads;
                       gate over;
                       bool led = false;
                       std::optional<support::owned> waits;
                       s.thread([&] {
                         s.h.calls([&] {
                           return int{*s.flights.run(1, [&] {
                             leads.open();
                             over.wait();
                             return s.h.load(true)();
                           })};
                         });
                       });
                       s.thread([&] {
                         leads.wait();
                         waits.emplace(wait_on(s, stalled,
                                               s.flights.start(1,
                                                               [&] {
                                                                 led = true;
                                                                 return s.h.load()();
                                                               }),
                                               time.now() + 1s));
                         time.advance(2s);
                         over.open();
                       });
                       w.run();
                       w.check(!led, "52: the load of a caller that has given up has led");
                       stalled.run_all();
                       s.finish();
                       waits.reset();
                     });

/// No load has begun: the flight ends with its last caller, and the group may be destroyed (I6).
const add_world group_destroyed(
    "52: the group is destroyed after a deadline, before the resumption", two, [](world& w) {
      manual_timer time;
      model::history h(w);
      queue_executor loads;
      queue_executor stalled;
      std::optional<model::ints> flights;
      flights.emplace(singleflight::group_options{.executor = loads, .timer = &time});
      bool timed_out = false;
      const auto wait = [&](singleflight::flight<int> f) -> support::owned {
        auto mine = std::move(f);
        timed_out = (co_await mine.until(time.now() + 1s).on(stalled).as_outcome()).errc() ==
                    flight_errc::timed_out;
      };
      std::optional<support::owned> waits(wait(flights->start(1, [] { return 1; })));
      gate expired;
      w.thread([&] {
        time.advance(2s);
        expired.open();
        stalled.run_all();
      });
      w.thread([&] {
        expired.wait();
        flights.reset();
        loads.run_all();
      });
      w.run();
      w.check(timed_out, "52: a caller is not resumed with its verdict");
      waits.reset();
    });

/// A coroutine destroyed after its verdict: its interest has ended, exactly once.
const add_world destroyed("52: a coroutine is destroyed after its verdict", two, [](world& w) {
  manual_timer time;
  scene s(w, {.timer = &time});
  s.h.may_leave();
  s.h.may_end(flight_errc::timed_out);
  queue_executor stalled;
  std::optional<support::owned> waits(wait_on(s, stalled, s.start(), time.now() + 1s));
  auto stays = s.start();
  w.thread([&] { time.advance(2s); });  // neither of them runs the load
  w.thread([&] { waits.reset(); });
  w.run();
  w.check(s.flights.in_flight().at(0).callers == 1,
          "52: a destroyed caller still counts, or twice");
  stalled.run_all();
  s.drain();
  w.check(*std::move(stays).get() == 1, "a caller has lost its flight");
  s.finish();
});

// ---- what waits on one executor share -----------------------------------------------------------

/// The same on an executor that other waits name as well.
support::owned wait_on_shared(scene& s, singleflight::any_executor on, singleflight::flight<int> f,
                              std::stop_token stop = {}) {
  model::history::call mine(s.h);
  mine.given(co_await f.until(forever, std::move(stop)).on(on).as_outcome());
}

/// One wait is over, and releases what it shares, while another begins on the same executor.
void ends_as_another_begins(world& w, bool destroyed) {
  scene s(w);
  s.h.may_end(flight_errc::cancelled);
  s.h.may_leave();
  queue_executor queue;
  const singleflight::any_executor on(queue);  // a copy of it is equal
  std::stop_source source;
  const auto stays = s.start();
  s.frames[0].emplace(wait_on_shared(s, on, s.start(), source.get_token()));
  w.thread([&] {
    if (destroyed) {
      s.frames[0].reset();
    } else {
      platform::request_stop(source);
      queue.run_all();
    }
  });
  w.thread([&] { s.frames[1].emplace(wait_on_shared(s, on, s.start())); });
  w.run();
  s.drain();
  queue.run_all();
  s.finish();
}
const add_world ends_as_begins("P4: a wait ends as another begins on its executor", three,
                               [](world& w) { ends_as_another_begins(w, false); });
const add_world destroyed_as_begins(
    "P4: a coroutine is destroyed as another begins to wait on its executor", three,
    [](world& w) { ends_as_another_begins(w, true); });

// ---- max_waiters as the leader leaves -----------------------------------------------------------

/// Two may wait in addition to the leader: the third caller fits before the leader leaves, and
/// after.
const add_world fits("48: max_waiters as the leader leaves", three, [](world& w) {
  scene s(w, {.max_waiters = 2});
  std::optional<singleflight::flight<int>> leader(s.start());
  std::optional<singleflight::flight<int>> waiter(s.start());
  w.thread([&] { leader.reset(); });
  w.thread([&] {
    const auto newcomer = s.start();
    w.check(!newcomer.ready(), "48: a caller was refused that fits before and after");
  });
  w.run();
  s.drain();
  w.check(waiter->get_outcome().has_value(), "a waiter was refused");
  s.finish();
});

/// One may wait: no other fits, neither in addition to the leader, nor after the hand-over.
const add_world full("48: max_waiters as the leader hands over", two, [](world& w) {
  scene s(w, {.on_error = singleflight::error_policy::hand_over(1), .max_waiters = 1});
  s.h.may_end(flight_errc::overloaded);
  gate leads;
  gate joined;
  std::size_t callers = 0;
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
    s.h.calls([&] {
      auto f = s.start();
      joined.open();
      s.drain();
      auto r = f.get();
      callers = r.callers();
      return int{*r};
    });
  });
  s.thread([&] {
    joined.wait();
    s.get();
  });
  w.run();
  s.finish();
  w.check(callers == 1, "48: more wait than max_waiters allows");
});

}  // namespace
