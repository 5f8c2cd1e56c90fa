// SPDX-License-Identifier: Apache-2.0

// Waiters that are not threads: where they resume, what is destroyed while they wait, and loads
// that never answer.

#include <coroutine>
#include <memory>
#include <optional>
#include <stdexcept>

#include "model/flight/scene.hpp"
#include "support/model/gate.hpp"

namespace {

using model::add_world;
using model::history;
using model::ints;
using model::scene;
using model::three;
using model::two;
using model::world;
using singleflight::flight_errc;

const add_world in_place("a load that ends within start", two, [](world& w) {
  history h(w);
  ints flights({.executor = singleflight::inline_executor});
  const auto get = [&] {
    h.calls([&] {
      auto f = flights.start(1, h.load());
      return int{*std::move(f).get()};
    });
  };
  w.thread(get);
  w.thread([&] { h.calls([&] { return int{*flights.run(1, h.load())}; }); });
  w.thread(get);
  w.run();
  h.check();
});

const add_world queued_load("9: a blocking wait for a queued load", three, [](world& w) {
  scene s(w);
  s.thread([&] {
    s.h.calls([&] {
      auto f = s.start();
      return int{*std::move(f).get()};
    });
  });
  s.thread([&] {
    while (!s.queue.run_one()) model::pause(std::source_location::current());
  });
  w.run();
  s.finish();
});

// ---- no result ----------------------------------------------------------------------------------

const add_world task_dropped("9: the executor drops the task", two, [](world& w) {
  scene s(w);
  s.h.may_end(flight_errc::broken);
  s.h.may_overlap();
  s.thread([&] {
    s.h.calls([&] {
      auto f = s.start();
      s.queue.drop_one();
      return int{*std::move(f).get()};
    });
  });
  s.thread([&] { s.run(); });
  s.thread([&] { s.await(0); });
  w.run();
  s.finish();
});

/// The promise is destroyed, answered or not, on another thread.
template <class End>
void promise_ends_elsewhere(world& w, End end) {
  scene s(w);
  std::optional<singleflight::flight_promise<int>> kept;
  model::gate begun;
  const auto start = [&] {
    return s.flights.start(1, [&](singleflight::flight_promise<int> p) {
      s.h.begin_load();
      kept.emplace(std::move(p));
      begun.open();
    });
  };
  s.h.may_end(flight_errc::broken);
  history::call first(s.h);
  auto f = start();
  s.thread([&] {
    s.drain();
    begun.wait();
    s.h.end_load();
    end(*kept);
    kept.reset();
  });
  s.thread([&] { s.run(); });
  s.thread([&] { first.given(std::move(f).get_outcome()); });
  w.run();
  s.finish();
}
const add_world promise_destroyed("9: a promise is destroyed unanswered", two,
                                  [](world& w) { promise_ends_elsewhere(w, [](auto&) {}); });
const add_world promise_answers("9: a promise answers on another thread", two, [](world& w) {
  promise_ends_elsewhere(w, [](auto& p) { p.set_value(1); });
});

/// What a loader is suspended on: another thread resumes or destroys it.
struct suspension {
  std::coroutine_handle<>* place;
  model::gate* taken;
  int number;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> h) const noexcept {
    *place = h;
    taken->open();
  }
  int await_resume() const noexcept { return number; }
};

template <class End>
void awaited_load(world& w, End end) {
  scene s(w);
  s.h.may_end(flight_errc::broken);
  std::coroutine_handle<> place;
  model::gate taken;
  history::call first(s.h);
  auto f = s.flights.start(1, [&] { return suspension{&place, &taken, s.h.begin_load()}; });
  s.thread([&] {
    s.drain();
    taken.wait();
    s.h.end_load();
    end(place);
  });
  s.thread([&] {
    s.run();
    s.run();  // checks that the key is not stuck
  });
  s.thread([&] { first.given(std::move(f).get_outcome()); });
  w.run();
  s.finish();
}
const add_world load_destroyed("6: an awaited load is destroyed", two, [](world& w) {
  awaited_load(w, [](auto& place) { place.destroy(); });
});
const add_world load_resumed("6: an awaited load is resumed on another thread", two, [](world& w) {
  awaited_load(w, [](auto& place) { place.resume(); });
});

// ---- callbacks ----------------------------------------------------------------------------------

const add_world retry("14: a callback that calls again", three, [](world& w) {
  scene s(w);
  s.thread([&] {
    auto mine = std::make_shared<history::call>(s.h);
    s.start().on_ready([&s, mine](const auto& got) {
      mine->given(got);
      s.run();  // the history checks P3: it gets another load's value
    });
    s.drain();
  });
  s.thread([&] { s.run(); });
  w.run();
  s.finish();
});

// ---- where waiters resume -----------------------------------------------------------------------

const add_world stranger("28a: a coroutine waits, a thread leads by run", three, [](world& w) {
  history h(w);
  ints flights({.executor = singleflight::inline_executor});
  int inside = 0;  // the thread that is inside run, perhaps under a lock of its own
  const auto wait = [&]() -> support::owned {
    history::call mine(h);
    auto f = flights.start(1, h.load());
    const auto got = co_await f.as_outcome();
    w.check(inside == 0 || model::this_thread() != inside, "P8: resumed on a thread inside run");
    mine.given(got);
  };
  std::optional<support::owned> waiting;
  w.thread([&] {
    inside = model::this_thread();
    h.calls([&] { return int{*flights.run(1, h.load())}; });
    inside = 0;
  });
  w.thread([&] { waiting.emplace(wait()); });
  w.run();
  h.check();
});

/// Resumes on `on`: the thread that runs that queue may destroy the coroutine.
support::owned wait_on(scene& s, model::queue_executor& on) {
  history::call mine(s.h);
  auto f = s.start();
  mine.given(co_await f.as_outcome().on(on));
}

const add_world destroyed_waiting("28b: a coroutine destroyed while it waits", three, [](world& w) {
  scene s(w);
  s.h.may_leave();
  s.h.may_overlap();
  model::queue_executor resumptions;
  s.thread([&] { s.run(); });
  s.thread([&] {
    s.frames[0].emplace(wait_on(s, resumptions));
    s.frames[0].reset();
    resumptions.run_all();
  });
  w.run();
  resumptions.run_all();
  s.finish();
});

const add_world destroyed_ready("28b: a coroutine destroyed after it was made ready", three,
                                [](world& w) {
                                  scene s(w);
                                  s.h.may_leave();
                                  model::queue_executor resumptions;
                                  s.frames[0].emplace(wait_on(s, resumptions));
                                  s.frames[1].emplace(wait_on(s, resumptions));
                                  s.thread([&] { s.drain(); });  // runs the load: both become ready
                                  s.thread([&] {
                                    s.frames[0].reset();
                                    resumptions.run_all();
                                  });
                                  w.run();
                                  resumptions.run_all();
                                  s.finish();
                                });

const add_world two_in_a_batch("26: two coroutines, two runners", two, [](world& w) {
  scene s(w);
  s.await(0);
  s.thread([&] { s.await(1); });
  s.thread([&] { s.await(2); });
  s.thread([&] { s.drain(); });
  w.run();
  s.finish();
});

// ---- a pool of one thread -----------------------------------------------------------------------

/// The load of a flight that the pool's only thread waits for is queued behind that wait.
const add_world pool_of_one("21: a blocking wait on the pool of one thread", two, [](world& w) {
  history h(w);
  w.thread([&] {
    singleflight::thread_pool pool({.max_threads = 1});
    ints flights({.executor = pool});
    model::gate done;
    pool.execute(singleflight::task([&] {
      h.calls([&] { return int{*flights.start(1, h.load()).get()}; });
      done.open();
    }));
    h.calls([&] { return int{*flights.start(1, h.load()).get()}; });
    done.wait();
  });
  w.run();
  h.check();
});

const add_world pool_of_one_joins(
    "21: a waiter on the pool joins a load that is not queued yet", two, [](world& w) {
      history h(w);
      w.thread([&] {
        singleflight::thread_pool pool({.max_threads = 1});
        ints flights({.executor = pool, .on_error = singleflight::error_policy::hand_over(1)});
        model::gate done;
        pool.execute(singleflight::task([&] {
          h.calls([&] { return int{*flights.start(1, h.load()).get()}; });
          done.open();
        }));
        h.calls([&] { return int{*flights.run(1, h.load(true))}; });
        done.wait();
      });
      w.run();
      h.check();
    });

// The second load fails on one pool thread; the third is claimed by the pool thread that waits for
// it, before it is handed to the pool.
const add_world claimed_meanwhile(
    "17: hand-over to a load that its waiter claims", two, [](world& w) {
      history h(w);
      model::gate all_joined;
      model::gate done;
      std::optional<singleflight::thread_pool> pool(
          std::in_place, singleflight::thread_pool_options{.max_threads = 2});
      std::optional<ints> flights(
          std::in_place,
          singleflight::group_options{.executor = *pool,
                                      .on_error = singleflight::error_policy::hand_over(2)});
      model::gate leads;
      model::gate returned;
      w.thread([&] {
        h.calls([&] {
          return int{*flights->run(1, [&] {
            leads.open();
            all_joined.wait();
            return h.load(true)();
          })};
        });
        returned.open();
      });
      w.thread([&] {
        leads.wait();
        {
          history::call mine(h);
          auto failing = flights->start(1, h.load(true));
          pool->execute(singleflight::task([&] {
            h.calls([&] {
              auto f = flights->start(1, h.load());
              all_joined.open();
              return int{*std::move(f).get()};
            });
            done.open();
          }));
          mine.given(std::move(failing).get_outcome());
        }
        done.wait();
        flights.reset();
        returned.wait();  // until then the first call may submit a task to the pool
        pool.reset();
      });
      w.run();
      h.check();
    });

}  // namespace
