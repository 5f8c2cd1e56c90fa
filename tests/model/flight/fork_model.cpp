// SPDX-License-Identifier: Apache-2.0

// A process that forks: all other threads stop where they are. Whoever waits for one of them, or
// for a lock that it holds, waits for ever: a deadlock, or a livelock. What stands on its stack is
// a frame that has gone.

#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <utility>

#include "model/flight/scene.hpp"
#include "support/model/gate.hpp"
#include <singleflight/core/manual_timer.hpp>

namespace {

using model::add_world;
using model::gate;
using model::ints;
using model::queue_executor;
using model::two;
using model::world;
using namespace std::chrono_literals;
using singleflight::flight_errc;
namespace platform = singleflight::detail::platform;

struct site {
  explicit site(world& in, singleflight::group_options options = {})
      : w(in), flights(std::make_unique<ints>(model::scene::with(std::move(options), queue))) {}
  site(const site&) = delete;
  site& operator=(const site&) = delete;

  /// A thread of the parent.
  template <class What>
  void thread(What what) {
    w.thread([this, what] {
      singleflight::detail::this_thread().vain_waits = 1;
      what();
      queue.run_all();
    });
  }
  /// A thread that forks, and what its child does.
  template <class What>
  void forks(What what) {
    w.thread([what] {
      singleflight::detail::this_thread().vain_waits = 1;
      platform::fork();
      what();
    });
  }
  /// In the child every key is free, and the group can end.
  void use_and_end() {
    w.check(flights->in_flight().empty(), "56: a flight without a leader is found in a child");
    w.check(*flights->run(1, [] { return 7; }) == 7, "56: a child does not load for itself");
    auto f = flights->start(1, [] { return 8; });
    queue.run_all();
    w.check(*f.get() == 8, "56: a child's started load does not run");
    flights->close();
  }
  /// The child of a thread that has a handle on a load of the parent's, with outcome 1 or an error.
  void look_and_end(std::unique_ptr<singleflight::flight<int>>& f) {
    const auto got = f->get_outcome();
    const auto code = got.errc();  // none: the load's own error
    w.check(got.has_value() ? *got.value() == 1 : !code || *code == flight_errc::broken,
            "56: a load of the parent's has another outcome in a child");
    f.reset();
    queue.run_all();  // what was queued does not run in the child a second time
    use_and_end();
  }

  world& w;
  queue_executor queue;
  std::unique_ptr<ints> flights;
};

// What is made and goes meanwhile is held by the fork, or is not there: a lock that is gone.
const add_world comes_and_goes("56: a fork beside a group that comes and goes", two, [](world& w) {
  site s(w);
  s.thread([&] {
    ints own;
    (void)own.run(1, [] { return 1; });
  });
  s.forks([&] { s.use_and_end(); });
  w.run();
});

const add_world child_beside_run("56: a fork beside two runs", two, [](world& w) {
  site s(w);
  s.thread([&] { (void)s.flights->run(1, [] { return 1; }); });
  s.thread([&] { (void)s.flights->run(1, [] { return 2; }); });
  s.forks([&] { s.use_and_end(); });
  w.run();
});

const add_world beside_fresh("56: a fork beside run_fresh and forget", two, [](world& w) {
  site s(w);
  s.thread([&] { (void)s.flights->run(1, [] { return 1; }); });
  s.thread([&] {
    (void)s.flights->run_fresh(1, [] { return 2; });
    s.flights->forget(1);
  });
  s.forks([&] { s.use_and_end(); });
  w.run();
});

// The forking thread has a handle on a load that another thread runs, or will run.
const add_world handle("56: a fork with a handle on a started load", two, [](world& w) {
  site s(w);
  auto f = std::make_unique<singleflight::flight<int>>(s.flights->start(1, [] { return 1; }));
  s.thread([] {});
  s.forks([&] { s.look_and_end(f); });
  w.run();
});

// The load ends for a thread that sleeps; or it fails, and there is perhaps nobody to lead again.
const add_world awaited("56: a fork with a handle on a load that is awaited", two, [](world& w) {
  site s(w);
  auto f = std::make_unique<singleflight::flight<int>>(s.flights->start(1, [] { return 1; }));
  s.thread([&] { s.w.check(*s.flights->start(1, [] { return 1; }).get() == 1, "P1: an outcome"); });
  s.thread([] {});
  s.forks([&] { s.look_and_end(f); });
  w.run();
});

// An event loop forks with a caller in its queue whose time is over, as another thread leaves last.
const add_world timed_out("56: a fork before a caller who has timed out is resumed", two,
                          [](world& w) {
                            singleflight::manual_timer clock;
                            queue_executor loop;
                            site s(w, {.timer = &clock});
                            auto last = std::make_unique<singleflight::flight<int>>(
                                s.flights->start(1, [] { return 1; }));
                            auto f = s.flights->start(1, [] { return 1; });
                            bool called = false;
                            f.until(clock.now() + 5ms).on(loop).on_ready([&](const auto& got) {
                              called = true;
                              w.check(!got.has_value(), "56: a caller did not time out");
                            });
                            clock.advance(5ms);
                            w.thread([&] { last.reset(); });
                            w.thread([&] {
                              platform::fork();
                              loop.run_all();
                              w.check(called, "56: a caller who has timed out is not resumed");
                            });
                            w.run();
                          });

const add_world failing("56: a fork with a handle on a load that fails", two, [](world& w) {
  site s(w);
  auto f = std::make_unique<singleflight::flight<int>>(
      s.flights->start(1, []() -> int { throw std::domain_error("load"); }));
  s.thread([] {});
  s.forks([&] { s.look_and_end(f); });
  w.run();
});

const add_world refused("56: a fork with a handle on a load that nobody takes over", two,
                        [](world& w) {
                          site s(w, {.on_error = singleflight::hand_over(1)});
                          auto once = [mine = std::make_unique<int>(0)]() -> int {
                            throw std::domain_error("load " + std::to_string(*mine));
                          };
                          auto f = std::make_unique<singleflight::flight<int>>(
                              s.flights->start(1, std::move(once)));
                          s.thread([] {});
                          s.forks([&] { s.look_and_end(f); });
                          w.run();
                        });

// A load that forks goes on; those who had joined it are not there any more.
const add_world forks_within("56: a load that forks beside a joiner", two, [](world& w) {
  site s(w);
  s.w.thread([&] {
    bool forked = false;
    const auto got = s.flights->run(1, [&] {
      platform::fork();
      forked = true;
      return 1;
    });
    w.check(*got == (forked ? 1 : 2), "56: a load that forks has lost its outcome");
    if (forked) s.use_and_end();
  });
  s.thread([&] { (void)s.flights->run(1, [] { return 2; }); });
  w.run();
});

// A limit that strikes in a child takes no lock of a flight that was over at the fork (V4): the one
// that ends it may still be within that lock.
const add_world strikes_late(
    "56: a limit strikes in a child on a flight that is done", two, [](world& w) {
      site s(w, {.on_error = singleflight::hand_over(1)});
      auto once = [mine = std::make_unique<int>(0)]() -> int {
        throw std::domain_error("load " + std::to_string(*mine));
      };
      auto f = s.flights->start(1, std::move(once));
      std::stop_source source;
      f.until(model::forever, source.get_token()).on_ready([](const auto&) {});
      s.thread([] {});
      s.w.thread([&] {
        platform::fork();
        platform::request_stop(source);
      });
      w.run();
    });

// A load that nobody wants any more is told so in the child too, where the thread that was to do it
// is not there.
void told_there(world& w, bool by_deadline) {
  site s(w);
  singleflight::manual_timer time;
  ints flights(model::scene::with({.timer = &time}, s.queue));
  queue_executor stalled;
  std::stop_source source;
  gate told;
  bool forked = false;
  auto f = flights.start(1, [&](std::stop_token stop) {
    forked = true;
    platform::fork();
    const platform::stop_callback<std::function<void()>> on_stop(stop, [&] { told.open(); });
    if (flights.stats().abandoned != 0) told.wait();
    return 1;
  });
  f.until(time.now() + 1s, source.get_token()).on(stalled).on_ready([](const auto&) {});
  s.thread([] {});  // runs the load
  w.thread([&] {
    singleflight::detail::this_thread().vain_waits = 1;
    if (by_deadline) {
      time.advance(2s);
    } else {
      platform::request_stop(source);
    }
  });
  w.run();
  if (!forked) stalled.run_all();
}
const add_world told_of_deadline("56: a load that forks as its last caller times out", two,
                                 [](world& w) { told_there(w, true); });
const add_world told_of_stop("56: a load that forks as its last caller is stopped", two,
                             [](world& w) { told_there(w, false); });

// An executor that refuses in the child, and may still have, or never had, what it took before.
const add_world refuses_there("56: a load that forks, and its executor refuses", two, [](world& w) {
  site s(w);
  bool in_child = false;
  gate told;
  const singleflight::any_executor on([&](singleflight::task t) {
    if (in_child) throw std::domain_error("refused");
    s.queue.execute(std::move(t));
  });
  const auto load = [&] {
    platform::fork();
    in_child = true;
    return 1;
  };
  std::stop_source source;
  auto first = s.flights->start(1, load);
  auto second = s.flights->start(1, load);
  first.until(model::forever, source.get_token()).on(on).on_ready([](const auto&) {});
  second.on(on).on_ready([&](const auto&) { told.open(); });
  platform::request_stop(source);
  for (int i = 0; i < 2; ++i) {
    s.thread([&] {
      while (in_child ? s.queue.drop_one() : s.queue.run_one()) {
      }
      if (in_child) told.wait();  // it has dropped what it still had
    });
  }
  w.run();
});

// Whom another thread was to tell of an end is told in the parent alone, also of one that came
// before the fork.
const add_world told_elsewhere("56: a fork beside the end of an awaited load", two, [](world& w) {
  site s(w);
  bool told = false;
  bool newcomer = false;
  auto theirs = s.flights->start(1, [] { return 1; });
  theirs.on(singleflight::inline_executor).on_ready([&](const auto&) { told = true; });
  auto mine = s.flights->start(1, [] { return 1; });
  s.thread([] {});
  s.forks([&] {
    const bool before = told;
    mine.on(singleflight::inline_executor).on_ready([&](const auto&) { newcomer = true; });
    w.check(newcomer, "56: who asks in a child is not told");
    w.check(told == before, "56: a child tells whom the parent tells");
  });
  w.run();
});

}  // namespace
