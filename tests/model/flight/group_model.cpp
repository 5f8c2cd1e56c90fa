// SPDX-License-Identifier: Apache-2.0

// Small worlds of callers on one key. Each is run under every schedule within its bound, and its
// history checked against the promises.

#include <chrono>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

#include "model/flight/history.hpp"
#include "model/flight/worlds.hpp"
#include "support/executors.hpp"
#include "support/task.hpp"

namespace {

using model::history;
using model::ints;
using model::world;
using singleflight::abandon;
using singleflight::group_options;
using namespace std::chrono_literals;

/// A group with a queue for its loads and resumptions, and a history.
struct scene {
  explicit scene(world& in, group_options options = {})
      : h(in), flights(with(options, queue)), w(in) {}
  static group_options with(group_options options, support::manual_executor& executor) {
    options.executor = executor;
    return options;
  }

  void run(bool fails = false, singleflight::limits bounds = {}) {
    h.call([&] { return *flights.run(1, h.load(fails), bounds); });
    ++calls;
  }
  void run_fresh() {
    h.call([&] { return *flights.run_fresh(1, h.load()); }, true);
    ++calls;
  }
  /// Runs what is queued; of its own accord only once, so that others may run the rest.
  void drain() {
    while (queue.run_one()) {
    }
  }
  /// What a coroutine caller does: start, await, perhaps bounded.
  support::owned await(std::stop_token stop = {}, bool fails = false) {
    return wait(*this, stop, fails);
  }
  static support::owned wait(scene& s, std::stop_token stop, bool fails) {
    const int began = s.h.begin();
    auto f = s.flights.start(1, s.h.load(fails));
    auto got = co_await f.until(std::chrono::steady_clock::time_point::max(), stop).as_outcome();
    s.h.end(began, got);
    ++s.calls;
  }
  void finish(int expected) {
    drain();
    h.check(expected);
    w.check(flights.in_flight().empty(), "P2: a flight stays in the table");
    flights.close();
  }

  history h;
  support::manual_executor queue;
  ints flights;
  world& w;
  int calls = 0;
};

constexpr auto forever = std::chrono::steady_clock::time_point::max();
const model::limits three{.preemptions = 3};
const model::limits two{.preemptions = 2};

// ---- threads ------------------------------------------------------------------------------------

const model::add_world two_runs("2: two runs", three, [](world& w) {
  scene s(w);
  for (int i = 0; i < 2; ++i) w.thread([&] { s.run(); });
  w.run();
  s.finish(2);
});

const model::add_world three_runs("2: three runs", two, [](world& w) {
  scene s(w);
  for (int i = 0; i < 3; ++i) w.thread([&] { s.run(); });
  w.run();
  s.finish(3);
});

const model::add_world two_keys("two keys of one bucket", three, [](world& w) {
  scene s(w);
  w.thread([&] { (void)s.flights.run(2, [] { return 7; }); });
  w.thread([&] { s.run(); });
  w.run();
  s.finish(1);
});

const model::add_world three_keys("three keys, one hot", two, [](world& w) {
  scene s(w);
  w.thread([&] {
    (void)s.flights.run(2, [] {
      history::step();
      return 7;
    });
  });
  w.thread([&] {
    (void)s.flights.run(3, [] {
      history::step();
      return 7;
    });
  });
  w.thread([&] { s.run(); });
  w.run();
  s.finish(1);
});

const model::add_world in_turn("5: calls in turn", three, [](world& w) {
  scene s(w);
  for (int i = 0; i < 2; ++i) {
    w.thread([&] {
      s.run();
      s.run();
    });
  }
  w.run();
  s.finish(4);
});

const model::add_world failing("8: a load that throws", three, [](world& w) {
  scene s(w);
  for (int i = 0; i < 2; ++i) w.thread([&] { s.run(true); });
  w.run();
  s.finish(2);
});

const model::add_world forget("1, 18: forget beside two runs", two, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  w.thread([&] { s.run(); });
  w.thread([&] { s.run(); });
  w.thread([&] { s.flights.forget(1); });
  w.run();
  s.finish(2);
});

const model::add_world after_forget("18: a call after forget", three, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  w.thread([&] { s.run(); });
  w.thread([&] {
    s.flights.forget(1);
    s.run_fresh();  // its load begins after the call
  });
  w.run();
  s.finish(2);
});

const model::add_world fresh("19: fresh behind a run", three, [](world& w) {
  scene s(w);
  w.thread([&] { s.run(); });
  w.thread([&] { s.run_fresh(); });
  w.run();
  s.finish(2);
});

const model::add_world fresh_shared("19: two fresh behind a run", two, [](world& w) {
  scene s(w);
  w.thread([&] { s.run(); });
  w.thread([&] { s.run_fresh(); });
  w.thread([&] { s.run_fresh(); });
  w.run();
  s.finish(3);
});

const model::add_world hand_over("17: hand-over between runs", three, [](world& w) {
  scene s(w, {.on_error = singleflight::hand_over(1)});
  w.thread([&] { s.run(true); });
  w.thread([&] { s.run(); });
  w.run();
  s.finish(2);
});

const model::add_world hand_over_stop("17: the one elected is stopped", two, [](world& w) {
  scene s(w, {.on_error = singleflight::hand_over(1)});
  s.h.may_overlap();
  std::stop_source stop;
  w.thread([&] { s.run(true); });
  w.thread([&] { s.run(false, {.stop = stop.get_token()}); });
  w.thread([&] { stop.request_stop(); });
  w.run();
  s.finish(2);
});

const model::add_world stop_beside_end("16: a stop beside the end", two, [](world& w) {
  scene s(w);
  std::stop_source stop;
  s.h.may_overlap();
  w.thread([&] { s.run(); });
  w.thread([&] { s.run(false, {.stop = stop.get_token()}); });
  w.thread([&] { stop.request_stop(); });
  w.run();
  s.finish(2);
});

const model::add_world close_beside("23: close beside two runs", two, [](world& w) {
  scene s(w);
  w.thread([&] { s.run(); });
  w.thread([&] {
    s.run();
    s.run();
  });
  w.thread([&] {
    s.flights.close();
    w.check(s.flights.in_flight().empty(), "P10: close has returned while a flight is there");
    w.check(s.h.running() == 0, "P10: close has returned while a load runs");
  });
  w.run();
  s.finish(3);
});

const model::add_world token("a load that asks for its stop token", three, [](world& w) {
  scene s(w);
  w.thread([&] {
    s.h.call([&] {
      return *s.flights.run(1, [&](std::stop_token stop) {
        w.check(!stop.stop_requested(), "a wanted load was told to stop");
        return s.h.load()();
      });
    });
  });
  w.thread([&] { s.run(); });
  w.run();
  s.finish(2);
});

// ---- started loads ------------------------------------------------------------------------------

const model::add_world start_and_run("10: a start and a run", three, [](world& w) {
  scene s(w);
  w.thread([&] {
    s.h.call([&] {
      auto f = s.flights.start(1, s.h.load());
      s.drain();
      return *f.get();
    });
  });
  w.thread([&] {
    s.run();
    s.drain();
  });
  w.run();
  s.finish(2);
});

const model::add_world in_place("a load that ends within start", two, [](world& w) {
  history h(w);
  ints flights({.executor = singleflight::inline_executor});
  w.thread([&] {
    h.call([&] {
      auto f = flights.start(1, h.load());
      return *f.get();
    });
  });
  w.thread([&] { h.call([&] { return *flights.run(1, h.load()); }); });
  w.thread([&] {
    h.call([&] {
      auto f = flights.start(1, h.load());
      return *f.get();
    });
  });
  w.run();
  h.check(3);
});

const model::add_world handle_dropped("3: a handle dropped beside the load", two, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  w.thread([&] { auto f = s.flights.start(1, s.h.load()); });
  w.thread([&] { s.drain(); });
  w.thread([&] {
    s.h.call([&] { return *s.flights.run(1, s.h.load()); });
    s.drain();
  });
  w.run();
  s.finish(1);
});

const model::add_world doomed("3: nobody joins a flight that was given up", two, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  w.thread([&] {
    auto f = s.flights.start(1, [&](std::stop_token stop) {
      history::step();
      return stop.stop_requested() ? -1 : s.h.load()();
    });
  });
  w.thread([&] { s.drain(); });
  w.thread([&] {
    s.h.call([&] {
      const int n = *s.flights.run(1, s.h.load());
      w.check(n > 0, "P6: a newcomer was given what a stopped load said");
      return n;
    });
    s.drain();
  });
  w.run();
  s.finish(1);
});

const model::add_world abandoned("4: an abandoned load is told", three, [](world& w) {
  scene s(w);
  bool dropped = false;
  std::optional<singleflight::flight<int>> f(s.flights.start(1, [&](std::stop_token stop) {
    history::step();
    w.check(!dropped || stop.stop_requested(), "P6: a load that nobody wants was not told");
    return 1;
  }));
  w.thread([&] {
    f.reset();
    dropped = true;
  });
  w.thread([&] { s.drain(); });
  w.run();
  s.finish(0);
});

const model::add_world joiner_leaves("10: a joiner leaves a run", three, [](world& w) {
  scene s(w);
  w.thread([&] {
    s.h.call([&] {
      return *s.flights.run(1, [&](std::stop_token stop) {
        const int n = s.h.load()();
        w.check(!stop.stop_requested(), "P6: a wanted load was told to stop");
        return n;
      });
    });
  });
  w.thread([&] { auto f = s.flights.start(1, s.h.load()); });
  w.run();
  s.finish(1);
});

const model::add_world elsewhere("9: a blocking wait for a queued load", three, [](world& w) {
  scene s(w);
  w.thread([&] {
    s.h.call([&] {
      auto f = s.flights.start(1, s.h.load());
      return *f.get();
    });
  });
  w.thread([&] {
    while (!s.queue.run_one()) model::pause(std::source_location::current());
  });
  w.run();
  s.finish(1);
});

const model::add_world fresh_elected_stops(
    "19: the fresh caller elected is stopped", two, [](world& w) {
      scene s(w);
      s.h.may_overlap();
      std::stop_source stop;
      w.thread([&] {
        s.run();
        stop.request_stop();
      });
      w.thread([&] {
        s.h.call([&] { return *s.flights.run_fresh(1, s.h.load(), {.stop = stop.get_token()}); });
      });
      w.thread([&] { s.run_fresh(); });
      w.run();
      s.finish(3);
    });

const model::add_world close_and_start("23: close beside a started load", two, [](world& w) {
  scene s(w);
  w.thread([&] {
    s.h.call([&] {
      auto f = s.flights.start(1, s.h.load());
      s.drain();
      return *f.get();
    });
  });
  w.thread([&] { s.flights.close(); });
  w.thread([&] { s.drain(); });
  w.run();
  s.finish(1);
});

const model::add_world finished("4: finish", three, [](world& w) {
  scene s(w, {.on_abandon = abandon::finish});
  w.thread([&] {
    { auto f = s.flights.start(1, s.h.load()); }
    s.drain();
  });
  w.thread([&] {
    s.drain();
    s.run();
    s.drain();
  });
  w.run();
  s.finish(1);
});

const model::add_world drained("4: drain", two, [](world& w) {
  scene s(w, {.on_abandon = abandon::drain});
  w.thread([&] {
    { auto f = s.flights.start(1, s.h.load()); }
    s.drain();
  });
  w.thread([&] { s.drain(); });
  w.thread([&] {
    s.run();
    s.drain();
  });
  w.run();
  s.finish(1);
});

// ---- coroutines ---------------------------------------------------------------------------------

const model::add_world two_coroutines("10: two coroutines", two, [](world& w) {
  scene s(w);
  std::optional<support::owned> first;
  std::optional<support::owned> second;
  w.thread([&] {
    first.emplace(s.await());
    s.drain();
  });
  w.thread([&] {
    second.emplace(s.await());
    s.drain();
  });
  w.run();
  s.finish(2);
});

const model::add_world coroutine_joins("10: a coroutine joins a run", three, [](world& w) {
  scene s(w);
  std::optional<support::owned> waiting;
  w.thread([&] { s.run(); });
  w.thread([&] {
    waiting.emplace(s.await());
    s.drain();
  });
  w.run();
  s.finish(2);
});

const model::add_world coroutine_stopped("16: a stop beside a coroutine's wait", two, [](world& w) {
  scene s(w);
  s.h.may_overlap();
  std::stop_source stop;
  std::optional<support::owned> waiting;
  w.thread([&] { s.run(); });
  w.thread([&] {
    waiting.emplace(s.await(stop.get_token()));
    s.drain();
  });
  w.thread([&] {
    stop.request_stop();
    s.drain();
  });
  w.run();
  s.finish(2);
});

const model::add_world stop_after_outcome("16: a stop after the outcome", three, [](world& w) {
  scene s(w);
  std::stop_source stop;
  std::optional<support::owned> waiting(s.await(stop.get_token()));
  w.thread([&] {
    s.queue.run_one();  // the load
    stop.request_stop();
    s.drain();
  });
  w.thread([&] { history::step(); });
  w.run();
  s.finish(1);
  w.check(s.h.errors().empty(), "P4: a cancel that came after the outcome had an effect");
});

const model::add_world stop_before_wait(
    "16: a stop beside the begin of a wait", three, [](world& w) {
      scene s(w);
      support::manual_executor resumptions;
      std::stop_source stop;
      bool over = false;
      const auto wait = [&]() -> support::owned {
        auto f = s.flights.start(1, [] { return 1; });
        (void)co_await f.until(forever, stop.get_token()).on(resumptions).as_outcome();
        over = true;
      };
      std::optional<support::owned> waiting;
      w.thread([&] {
        waiting.emplace(wait());
        resumptions.run_all();
      });
      w.thread([&] {
        stop.request_stop();
        resumptions.run_all();
      });
      w.run();
      w.check(over, "P4: a stop before the wait is lost");
      s.finish(0);
    });

const model::add_world coroutine_destroyed("28b: a coroutine destroyed while it waits", three,
                                           [](world& w) {
                                             scene s(w);
                                             std::optional<support::owned> waiting;
                                             w.thread([&] { s.run(); });
                                             w.thread([&] {
                                               waiting.emplace(s.await());
                                               waiting.reset();
                                               s.drain();
                                             });
                                             w.run();
                                             s.finish(s.calls);
                                           });

const model::add_world coroutine_hand_over("17: hand-over to a started load", two, [](world& w) {
  scene s(w, {.on_error = singleflight::hand_over(1)});
  std::optional<support::owned> waiting;
  w.thread([&] { s.run(true); });
  w.thread([&] {
    waiting.emplace(s.await());
    s.drain();
  });
  w.run();
  s.finish(2);
});

}  // namespace
