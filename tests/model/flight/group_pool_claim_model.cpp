// SPDX-License-Identifier: Apache-2.0

// A pool of one thread, which waits for a load that only it could run.

#include <chrono>
#include <optional>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

#include "model/flight/scene.hpp"
#include "support/model/gate.hpp"

namespace {

using model::add_world;
using model::gate;
using model::history;
using model::ints;
using model::two;
using model::world;
using singleflight::group_options;
using singleflight::task;
using singleflight::thread_pool;
namespace platform = singleflight::detail::platform;

/// Runs `on_pool` on the only thread of a pool, and `elsewhere` on a thread of its own.
struct pool_of_one {
  explicit pool_of_one(world& in, group_options options = {})
      : w(in), h(in), with(std::move(options)) {}

  template <class OnPool, class Elsewhere>
  void play(OnPool on_pool, Elsewhere elsewhere) {
    w.thread([&, on_pool, elsewhere] {
      thread_pool pool({.max_threads = 1});
      with.executor = pool;
      ints flights(with);
      gate over;
      pool.execute(task([&] {
        on_pool(flights);
        over.open();
      }));
      elsewhere(flights);
      over.wait();
    });
    w.run();
    h.check();
  }
  template <class OnPool>
  void play(OnPool on_pool) {
    play(on_pool, [](ints&) {});
  }

  world& w;
  history h;
  group_options with;
};

const add_world behind_queued("49: behind a queued load on the pool of one", two, [](world& w) {
  pool_of_one p(w);
  p.play([&p](ints& flights) {
    auto queued = flights.start(1, p.h.load());
    p.h.calls([&] { return int{*flights.run_fresh(1, p.h.load())}; }, true);
    p.h.calls([&] { return int{*flights.start_fresh(1, p.h.load()).get()}; }, true);
    p.h.calls([&] { return int{*queued.get()}; });
  });
});

const add_world behind_abandoned("49: behind an abandoned load on the pool of one", two,
                                 [](world& w) {
                                   pool_of_one p(w, {.on_abandon = singleflight::abandon::drain});
                                   p.play([&p](ints& flights) {
                                     { const auto dropped = flights.start(1, p.h.load()); }
                                     p.h.calls([&] { return int{*flights.run(1, p.h.load())}; });
                                   });
                                 });

// No thread is free for the abandoned load: the next caller leads at once.
const add_world abandoned_in_queue("49: an abandoned load that nobody runs", two, [](world& w) {
  model::scene s(w, {.on_abandon = singleflight::abandon::drain});
  s.thread([&] {
    { const auto dropped = s.start(); }
    s.h.calls([&] { return int{*s.flights.run(1, s.h.load())}; });
  });
  w.run();
  w.check(s.h.loads() == 1, "49: an abandoned load has run");
  s.finish();
});

// The load ahead is put into the table by another thread, which hands it over to the pool only
// after it was found there.
const add_world behind_unopened(
    "49: behind a load on its way to the pool of one", two, [](world& w) {
      pool_of_one p(w);
      p.play(
          [&p](ints& flights) {
            p.h.calls([&] { return int{*flights.run_fresh(1, p.h.load())}; }, true);
          },
          [&p](ints& flights) {
            p.h.calls([&] { return int{*flights.start(1, p.h.load()).get()}; });
          });
    });

// The load ahead fails on another thread; the one kept with it is queued on the pool.
const add_world behind_handed_over("49: behind a load that is handed over to the pool of one", two,
                                   [](world& w) {
                                     pool_of_one p(
                                         w, {.on_error = singleflight::error_policy::hand_over(1)});
                                     gate joined;
                                     gate behind;
                                     p.play(
                                         [&](ints& flights) {
                                           joined.wait();
                                           std::optional<singleflight::flight<int>> kept;
                                           p.h.calls(
                                               [&] {
                                                 kept.emplace(flights.start(1, p.h.load()));
                                                 behind.open();
                                                 return int{*flights.run_fresh(1, p.h.load())};
                                               },
                                               true);
                                           p.h.calls([&] { return int{*kept->get()}; });
                                         },
                                         [&](ints& flights) {
                                           p.h.calls([&] {
                                             return int{*flights.run(1, [&] {
                                               joined.open();
                                               behind.wait();
                                               return p.h.load(true)();
                                             })};
                                           });
                                         });
                                   });

// With limits that are not reached: no other thread could run the load.
void bounded(world& w, bool by_token) {
  pool_of_one p(w);
  std::stop_source never;
  p.play([&](ints& flights) {
    const auto wait = [&](singleflight::flight<int> f) {
      return int{*(by_token ? f.until(model::forever, never.get_token()).get()
                            : f.until(platform::now() + std::chrono::hours(1)).get())};
    };
    p.h.calls([&] { return wait(flights.start(1, p.h.load())); });
    p.h.calls(
        [&] {
          auto queued = flights.start(1, p.h.load());
          auto fresh = flights.start_fresh(1, p.h.load());
          return wait(std::move(fresh));
        },
        true);
  });
}
const add_world with_deadline("49: a wait with a deadline on the pool of one", two,
                              [](world& w) { bounded(w, false); });
const add_world with_token("49: a wait with a stop token on the pool of one", two,
                           [](world& w) { bounded(w, true); });

// The load is put into the table by another thread, which hands it over to the pool only after the
// pool's thread has checked whether a thread is free for it.
const add_world joins_unopened(
    "49: a wait with a stop token for a load on its way to the pool of one", two, [](world& w) {
      pool_of_one p(w);
      std::stop_source never;
      p.play(
          [&](ints& flights) {
            p.h.calls([&] {
              auto f = flights.start(1, p.h.load());
              return int{*f.until(model::forever, never.get_token()).get()};
            });
          },
          [&p](ints& flights) {
            p.h.calls([&] { return int{*flights.start(1, p.h.load()).get()}; });
          });
    });

// Behind the load of another thread, which ends, or hands over to the load that the pool's thread
// has brought along.
void bounded_behind(world& w, bool fails) {
  group_options options;
  if (fails) options.on_error = singleflight::error_policy::hand_over(1);
  pool_of_one p(w, options);
  std::stop_source never;
  p.play(
      [&](ints& flights) {
        const auto wait = [&](singleflight::flight<int> f) {
          return int{*f.until(model::forever, never.get_token()).get()};
        };
        p.h.calls(
            [&] {
              return wait(fails ? flights.start(1, p.h.load())
                                : flights.start_fresh(1, p.h.load()));
            },
            !fails);
      },
      [&](ints& flights) { p.h.calls([&] { return int{*flights.run(1, p.h.load(fails))}; }); });
}
const add_world behind_run("49: a wait with a stop token behind a run on the pool of one", two,
                           [](world& w) { bounded_behind(w, false); });
const add_world after_failed_run(
    "49: a wait with a stop token for a load that is handed over to the pool of one", two,
    [](world& w) { bounded_behind(w, true); });

// Loads of many keys; the pool's thread waits for one of them.
const add_world joins_many(
    "49: a wait with a stop token for one of many on their way to the pool of one", two,
    [](world& w) {
      pool_of_one p(w);
      std::stop_source never;
      p.play(
          [&](ints& flights) {
            p.h.calls([&] {
              auto f = flights.start(2, p.h.load());
              return int{*f.until(model::forever, never.get_token()).get()};
            });
          },
          [&p](ints& flights) {
            p.h.calls([&] {
              auto all = flights.start_many(std::vector{1, 2}, [&](std::span<const int> keys) {
                std::vector<singleflight::outcome<int>> got(keys.size(), 0);
                got.back() = p.h.load()();
                return got;
              });
              return int{*all.back().get()};
            });
          });
    });

}  // namespace
