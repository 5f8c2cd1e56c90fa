// SPDX-License-Identifier: Apache-2.0

// The semaphore: permits are conserved, the queue is first in, first out, and every waiter is
// notified once, however a grant, a limit, a resize and the end coincide.

#include <chrono>
#include <coroutine>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <utility>

#include "model/worlds.hpp"
#include "support/model/executor.hpp"
#include "support/model/gate.hpp"
#include "support/task.hpp"
#include <singleflight/sync/semaphore.hpp>

namespace {

using model::add_world;
using model::gate;
using model::queue_executor;
using model::three;
using model::two;
using model::two_and_a_fault;
using model::world;
using singleflight::as_outcome;
using singleflight::flight_errc;
using singleflight::outcome;
using singleflight::permit;
using singleflight::semaphore;
namespace platform = singleflight::detail::platform;

constexpr auto forever = std::chrono::steady_clock::time_point::max();

/// A semaphore, the queue on which its coroutines resume, and the number of permits in use.
struct permit_scene {
  explicit permit_scene(world& in, std::ptrdiff_t capacity)
      : w(in), most(capacity), all(std::make_unique<semaphore>(capacity, options())) {}
  singleflight::semaphore_options options() const { return {.executor = queue}; }

  template <class What>
  void thread(What what) {
    w.thread([this, what] {
      what();
      queue.run_all();  // runs the tasks that it caused: other threads may be blocked
    });
  }

  /// Holds `mine` for a moment; checks that no more permits are in use than exist.
  void hold(permit mine) {
    const std::ptrdiff_t n = mine.size();
    w.check(inside.fetch_add(n, std::memory_order_relaxed) + n <= most,
            "more permits in use than exist");
    inside.fetch_sub(n, std::memory_order_relaxed);
    served.fetch_add(1, std::memory_order_relaxed);
  }
  /// A blocking call; returns the error that it was refused with, if any.
  std::optional<flight_errc> block(std::ptrdiff_t n, std::stop_token stop = {}) {
    auto got = all->acquire(as_outcome, n, {.deadline = forever, .stop = std::move(stop)});
    if (!got) return got.errc();
    hold(std::move(*got));
    return std::nullopt;
  }
  /// A coroutine that queues now; it lives until its owner destroys it.
  support::owned await(std::ptrdiff_t n, std::stop_token stop = {}) {
    return wait(*this, n, std::move(stop));
  }
  /// Checks that all permits have been returned, and that no waiter is left.
  void finish() {
    queue.run_all();
    w.run();
    w.check(all->waiters_approx() == 0, "a waiter is left in the queue");
    w.check(all->available() == all->capacity(), "permits were lost, or made");
  }

  world& w;
  const std::ptrdiff_t most;
  queue_executor queue;
  std::unique_ptr<semaphore> all;
  platform::atomic<std::ptrdiff_t> inside{0};
  platform::atomic<int> served{0};
  platform::atomic<int> refused{0};

 private:
  static support::owned wait(permit_scene& s, std::ptrdiff_t n, std::stop_token stop) {
    auto place = s.all->start_acquire(n);
    auto got = co_await place.until(forever, stop).as_outcome();
    if (got) {
      s.hold(std::move(*got));
    } else {
      s.refused.fetch_add(1, std::memory_order_relaxed);
    }
  }
};

const add_world exclusion("30: semaphore: three threads, one permit", two, [](world& w) {
  permit_scene s(w, 1);
  for (int i = 0; i < 3; ++i) {
    s.thread([&] { w.check(!s.block(1), "a permit was refused"); });
  }
  w.run();
  w.check(s.served.load(std::memory_order_relaxed) == 3, "a waiter was not served");
  s.finish();
});

const add_world pair("30: semaphore: two threads, one permit, a fault", two_and_a_fault,
                     [](world& w) {
                       permit_scene s(w, 1);
                       for (int i = 0; i < 2; ++i) {
                         s.thread([&] { w.check(!s.block(1), "a permit was refused"); });
                       }
                       w.run();
                       s.finish();
                     });

const add_world mixed("30: semaphore: a thread, a coroutine and a release", three, [](world& w) {
  permit_scene s(w, 1);
  std::optional<support::owned> waiting;
  std::optional<permit> held(s.all->acquire());
  s.thread([&] { w.check(!s.block(1), "a permit was refused"); });
  s.thread([&] { waiting.emplace(s.await(1)); });
  s.thread([&] { held.reset(); });
  w.run();
  s.finish();
  w.check(s.served.load(std::memory_order_relaxed) == 2, "a waiter was not served");
});

const add_world small_behind_large("30: semaphore: a small request behind a large one", three,
                                   [](world& w) {
                                     permit_scene s(w, 2);
                                     permit held = s.all->acquire(1);
                                     auto large = s.all->start_acquire(2);
                                     platform::atomic<int> noted{0};
                                     w.check(!s.all->try_acquire(1), "try_acquire has overtaken");
                                     s.thread([&] { held.release(); });
                                     s.thread([&] {
                                       const auto small = s.all->acquire(as_outcome, 1);
                                       w.check(noted.load(std::memory_order_relaxed) == 1,
                                               "a small request has overtaken");
                                     });
                                     s.thread([&] {
                                       const permit all_there_is = large.get();
                                       noted.store(1, std::memory_order_relaxed);
                                     });
                                     w.run();
                                     s.finish();
                                   });

const add_world stop_during_grant("30: semaphore: a stop during the grant", three, [](world& w) {
  permit_scene s(w, 1);
  std::stop_source stop;
  std::optional<permit> held(s.all->acquire());
  s.thread([&] {
    const auto why = s.block(1, stop.get_token());
    w.check(!why || *why == flight_errc::cancelled, "a wait ended in another way");
  });
  s.thread([&] { platform::request_stop(stop); });
  s.thread([&] { held.reset(); });
  w.run();
  s.finish();
});

const add_world stop_during_ready("30: semaphore: a stop during the grant to a coroutine", three,
                                  [](world& w) {
                                    permit_scene s(w, 1);
                                    std::stop_source stop;
                                    std::optional<permit> held(s.all->acquire());
                                    auto waiting = s.await(1, stop.get_token());
                                    s.thread([&] { platform::request_stop(stop); });
                                    s.thread([&] { held.reset(); });
                                    w.run();
                                    s.finish();
                                    w.check(s.served.load(std::memory_order_relaxed) +
                                                    s.refused.load(std::memory_order_relaxed) ==
                                                1,
                                            "a coroutine was not notified once");
                                  });

const add_world front_is_stopped("30: semaphore: the front waiter is stopped", three, [](world& w) {
  permit_scene s(w, 2);
  std::stop_source stop;
  permit held = s.all->acquire(1);
  auto front = s.await(2, stop.get_token());
  s.thread([&] { w.check(!s.block(1), "a permit was refused"); });
  s.thread([&] { platform::request_stop(stop); });
  w.run();
  held.release();
  s.finish();
});

const add_world front_is_late("30: semaphore: the front thread is stopped during a release", two,
                              [](world& w) {
                                permit_scene s(w, 2);
                                std::stop_source stop;
                                std::optional<permit> held(s.all->acquire(1));
                                s.thread([&] { (void)s.block(2, stop.get_token()); });
                                s.thread([&] { w.check(!s.block(1), "a permit was refused"); });
                                s.thread([&] {
                                  platform::request_stop(stop);
                                  held.reset();
                                });
                                w.run();
                                s.finish();
                              });

const add_world dropped_permit("30: semaphore: a handle dropped during the grant", three,
                               [](world& w) {
                                 permit_scene s(w, 1);
                                 std::optional<permit> held(s.all->acquire());
                                 s.thread([&] { const auto unused = s.all->start_acquire(1); });
                                 s.thread([&] { held.reset(); });
                                 s.thread([&] { w.check(!s.block(1), "a permit was refused"); });
                                 w.run();
                                 s.finish();
                               });

const add_world destroyed("28b: semaphore: a coroutine destroyed during the grant", three,
                          [](world& w) {
                            permit_scene s(w, 1);
                            std::optional<permit> held(s.all->acquire());
                            std::optional<support::owned> waiting(s.await(1));
                            w.thread([&] { held.reset(); });
                            // Where the coroutine would resume: this thread drains the executor.
                            w.thread([&] {
                              waiting.reset();
                              s.queue.run_all();
                            });
                            w.run();
                            s.finish();
                          });

const add_world named_batch("28b: semaphore: a wait on an executor of its own is given up", three,
                            [](world& w) {
                              permit_scene s(w, 1);
                              queue_executor own;
                              std::optional<permit> held(s.all->acquire());
                              const auto wait = [](permit_scene& in,
                                                   queue_executor on) -> support::owned {
                                auto place = in.all->start_acquire(1);
                                in.hold(co_await place.on(on));
                              };
                              std::optional<support::owned> waiting(wait(s, own));
                              w.thread([&] { held.reset(); });
                              w.thread([&] {
                                own.run_one();
                                waiting.reset();
                                own.run_all();
                              });
                              w.run();
                              own.run_all();
                              s.finish();
                            });

const add_world closing("30: semaphore: close with queued waiters", two, [](world& w) {
  permit_scene s(w, 1);
  std::optional<permit> held(s.all->acquire());
  std::optional<support::owned> waiting;
  s.thread([&] {
    const auto why = s.block(1);
    w.check(!why || *why == flight_errc::closed, "a wait ended in another way");
  });
  s.thread([&] { waiting.emplace(s.await(1)); });
  s.thread([&] {
    s.all->close();
    w.check(!s.all->try_acquire(1), "a closed semaphore has granted a permit");
  });
  w.run();
  w.check(s.served.load(std::memory_order_relaxed) == 0, "a permit that was held was granted");
  held.reset();
  s.finish();
});

const add_world smaller("30: semaphore: resize below a queued request", three, [](world& w) {
  permit_scene s(w, 2);
  permit held = s.all->acquire(1);
  s.thread([&] {
    try {
      const auto why = s.block(2);
      w.check(why == flight_errc::rejected, "a wait ended in another way");
    } catch (const std::invalid_argument&) {
    }
  });
  s.thread([&] { s.all->resize(1); });
  w.run();
  held.release();
  w.check(s.all->available() == 1, "permits were lost, or made");
  s.finish();
});

const add_world resizes("30: semaphore: resize during resize and a release", two, [](world& w) {
  permit_scene s(w, 3);
  std::optional<permit> held(s.all->acquire(2));
  auto waiting = s.await(2);
  s.thread([&] { s.all->resize(2); });
  s.thread([&] { s.all->resize(3); });
  s.thread([&] { held.reset(); });
  w.run();
  s.finish();
  w.check(s.served.load(std::memory_order_relaxed) == 1, "a waiter was not served");
});

const add_world resize_in_rounds("30: semaphore: resize up during resize down", two, [](world& w) {
  permit_scene s(w, 3);
  std::optional<permit> held(s.all->acquire(3));
  auto one = s.await(3);
  auto two_of_them = s.await(3);
  s.thread([&] { s.all->resize(1); });
  s.thread([&] { s.all->resize(2); });
  w.run();
  held.reset();
  s.finish();
  w.check(s.refused.load(std::memory_order_relaxed) == 2, "a request that is too large was left");
});

const add_world destroyed_at_limit(
    "30: semaphore: it is destroyed as a limit expires", three, [](world& w) {
      permit_scene s(w, 1);
      std::stop_source stop;
      std::optional<permit> held(s.all->acquire());
      gate queued;
      s.thread([&] {
        auto place = s.all->start_acquire(1);
        queued.open();
        const auto got = place.until(forever, stop.get_token()).as_outcome().get();
        w.check(!got, "a permit of a destroyed semaphore");
      });
      s.thread([&] {
        queued.wait();
        s.all->close();
        held.reset();
        s.all.reset();
      });
      s.thread([&] { platform::request_stop(stop); });
      w.run();
    });

const add_world destroyed_after_serving(
    "30: semaphore: it is destroyed after the last waiter it served", two, [](world& w) {
      permit_scene s(w, 2);
      std::optional<permit> held(s.all->acquire(2));
      platform::atomic<int> left{2};
      gate queued[2];
      for (gate& mine : queued) {
        s.thread([&] {
          {
            auto place = s.all->start_acquire(1);
            mine.open();
            s.hold(place.get());
          }
          if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            s.all.reset();
          }
        });
      }
      s.thread([&] {
        for (gate& one : queued) one.wait();
        held.reset();
      });
      w.run();
    });

// ---- fork ---------------------------------------------------------------------------------------

const add_world fork_and_queue("56: a fork while a thread queues", two, [](world& w) {
  permit_scene s(w, 2);
  std::optional<permit> held(s.all->acquire(1));
  w.thread([&] { (void)s.all->acquire(as_outcome, 2); });  // never granted: one permit is held
  w.thread([&] {
    platform::fork();
    s.hold(s.all->acquire(1));
    held.reset();
    s.hold(s.all->acquire(2));
    s.all.reset();
  });
  w.run();
});

const add_world fork_and_place("56: a fork with a place behind a thread", two, [](world& w) {
  permit_scene s(w, 2);
  std::optional<permit> held(s.all->acquire(1));
  w.thread([&] { (void)s.all->acquire(as_outcome, 2); });
  w.thread([&] {
    {
      auto mine = s.all->start_acquire(1);
      platform::fork();
      s.hold(mine.get());
    }
    held.reset();
    s.hold(s.all->acquire(2));
    s.all.reset();
  });
  w.run();
});

/// A coroutine that records its resumption before anything else can happen.
struct noted {
  struct awaiter : singleflight::pending_permit::awaiter {
    awaiter(singleflight::pending_permit& of, bool& to)
        : singleflight::pending_permit::awaiter(of), resumed(to) {}
    permit await_resume() {
      resumed = true;
      return singleflight::pending_permit::awaiter::await_resume();
    }
    bool& resumed;
  };
  support::owned wait(semaphore& from) {
    auto mine = from.start_acquire(1);
    place = &mine;
    const permit got = co_await awaiter(mine, resumed);
  }
  singleflight::pending_permit* place = nullptr;  ///< until it is resumed
  bool resumed = false;
};

// A grant by another thread to a coroutine that is not resumed yet belongs to the parent.
const add_world fork_and_grant("56: a fork during a grant to a coroutine", two, [](world& w) {
  auto& all = *new semaphore(2, {.executor = singleflight::inline_executor});
  std::optional<permit> held(all.acquire(1));
  std::optional<permit> mine(all.acquire(1));
  noted first;
  auto& waiting =
      *new std::optional<support::owned>(first.wait(all));  // its resumption may have begun
  w.thread([&] { held.reset(); });
  w.thread([&] {
    platform::fork();
    const bool before = first.resumed;
    const bool granted = before || first.place->ready();
    permit own = all.try_acquire(1);
    noted second;
    const support::owned newcomer = second.wait(all);
    mine.reset();
    own.release();
    w.check(second.resumed, "56: a child's coroutine is not resumed");
    w.check(before || first.resumed != granted, "56: a child resumes the parent's coroutine");
    if (before) return;
    w.check(all.available() == (granted ? 2 : 1), "56: a child's permits were lost");
    waiting.reset();
    w.check(all.available() == (granted ? 2 : 1), "56: a child's permits were given back twice");
  });
  w.run();
});

}  // namespace
