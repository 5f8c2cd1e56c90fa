// SPDX-License-Identifier: Apache-2.0

// A process that forks: all other threads stop where they are. A wait for one of them, or for a
// lock that it holds, never ends: a deadlock, or a livelock. An object on the stack of such a
// thread is in a frame that no longer exists.

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
  /// A thread that forks, and runs `what` in the child.
  template <class What>
  void forks(What what) {
    w.thread([what] {
      singleflight::detail::this_thread().vain_waits = 1;
      platform::fork();
      what();
    });
  }
  /// In the child every key is free, and the group can be closed.
  void use_and_end() {
    w.check(flights->in_flight().empty(), "56: a flight without a leader is found in a child");
    w.check(*flights->run(1, [] { return 7; }) == 7, "56: a child does not load for itself");
    auto f = flights->start(1, [] { return 8; });
    queue.run_all();
    w.check(*f.get() == 8, "56: a child's started load does not run");
    flights->close();
  }
  /// For the child of a thread with a handle on a load of the parent, whose outcome is 1 or an
  /// error.
  void look_and_end(std::unique_ptr<singleflight::flight<int>>& f) {
    const auto got = f->get_outcome();
    const auto code = got.errc();  // none: the load's own error
    w.check(got.has_value() ? *got.value() == 1 : !code || *code == flight_errc::broken,
            "56: a load of the parent has another outcome in a child");
    f.reset();
    queue.run_all();  // tasks of the parent do not run a second time in the child
    use_and_end();
  }

  world& w;
  queue_executor queue;
  std::unique_ptr<ints> flights;
};

// A group that is made or destroyed meanwhile is held by the fork, or has left its list: its lock
// no longer exists.
const add_world made_and_destroyed("56: a fork as a group is made and destroyed", two,
                                   [](world& w) {
                                     site s(w);
                                     s.thread([&] {
                                       ints own;
                                       (void)own.run(1, [] { return 1; });
                                     });
                                     s.forks([&] { s.use_and_end(); });
                                     w.run();
                                   });

const add_world child_during_run("56: a fork during two runs", two, [](world& w) {
  site s(w);
  s.thread([&] { (void)s.flights->run(1, [] { return 1; }); });
  s.thread([&] { (void)s.flights->run(1, [] { return 2; }); });
  s.forks([&] { s.use_and_end(); });
  w.run();
});

const add_world during_fresh("56: a fork during run_fresh and forget", two, [](world& w) {
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

// The load ends for a thread that sleeps; or it fails, and there may be no caller left to lead.
const add_world awaited("56: a fork with a handle on a load that is awaited", two, [](world& w) {
  site s(w);
  auto f = std::make_unique<singleflight::flight<int>>(s.flights->start(1, [] { return 1; }));
  s.thread([&] { s.w.check(*s.flights->start(1, [] { return 1; }).get() == 1, "P1: an outcome"); });
  s.thread([] {});
  s.forks([&] { s.look_and_end(f); });
  w.run();
});

// An event loop forks with a caller in its queue that has timed out, while another thread, the last
// caller, leaves.
const add_world timed_out("56: a fork before a caller that has timed out is resumed", two,
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
                              w.check(called, "56: a caller that has timed out is not resumed");
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
                          site s(w, {.on_error = singleflight::error_policy::hand_over(1)});
                          auto once = [mine = std::make_unique<int>(0)]() -> int {
                            throw std::domain_error("load " + std::to_string(*mine));
                          };
                          auto f = std::make_unique<singleflight::flight<int>>(
                              s.flights->start(1, std::move(once)));
                          s.thread([] {});
                          s.forks([&] { s.look_and_end(f); });
                          w.run();
                        });

// A load that forks continues; the threads that had joined it no longer exist.
const add_world forks_within("56: a load that forks with a joiner", two, [](world& w) {
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

// A limit that expires in a child takes no lock of a flight that was done at the fork (V4): the
// thread that ended the flight may still have been inside that lock.
const add_world expires_late(
    "56: a limit expires in a child on a flight that is done", two, [](world& w) {
      site s(w, {.on_error = singleflight::error_policy::hand_over(1)});
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

// An abandoned load is asked to stop in the child too, where the thread that was to do it does not
// exist.
void stopped_in_child(world& w, bool by_deadline) {
  site s(w);
  singleflight::manual_timer time;
  ints flights(model::scene::with({.timer = &time}, s.queue));
  queue_executor stalled;
  std::stop_source source;
  gate stopped;
  bool forked = false;
  auto f = flights.start(1, [&](std::stop_token stop) {
    forked = true;
    platform::fork();
    const platform::stop_callback<std::function<void()>> on_stop(stop, [&] { stopped.open(); });
    if (flights.stats().abandoned != 0) stopped.wait();
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
const add_world child_stops_at_deadline("56: a load that forks as its last caller times out", two,
                                        [](world& w) { stopped_in_child(w, true); });
const add_world child_stops_at_stop("56: a load that forks as its last caller is stopped", two,
                                    [](world& w) { stopped_in_child(w, false); });

// An executor that refuses in the child; of its tasks from before, it may have all, some or none.
const add_world refuses_in_child(
    "56: a load that forks, and its executor refuses", two, [](world& w) {
      site s(w);
      bool in_child = false;
      gate called;
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
      second.on(on).on_ready([&](const auto&) { called.open(); });
      platform::request_stop(source);
      for (int i = 0; i < 2; ++i) {
        s.thread([&] {
          while (in_child ? s.queue.drop_one() : s.queue.run_one()) {
          }
          if (in_child) called.wait();  // the queue has been dropped
        });
      }
      w.run();
    });

// A callback that another thread was to call at an end is called in the parent only, also where
// that end came before the fork.
const add_world called_in_parent("56: a fork as an awaited load ends", two, [](world& w) {
  site s(w);
  bool called = false;
  bool newcomer = false;
  auto theirs = s.flights->start(1, [] { return 1; });
  theirs.on(singleflight::inline_executor).on_ready([&](const auto&) { called = true; });
  auto mine = s.flights->start(1, [] { return 1; });
  s.thread([] {});
  s.forks([&] {
    const bool before = called;
    mine.on(singleflight::inline_executor).on_ready([&](const auto&) { newcomer = true; });
    w.check(newcomer, "56: a callback registered in a child is not called");
    w.check(called == before, "56: a child calls a callback of the parent");
  });
  w.run();
});

}  // namespace
