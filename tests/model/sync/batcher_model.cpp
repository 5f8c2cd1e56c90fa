// SPDX-License-Identifier: Apache-2.0

// The batcher: batches that fill, fall due, are claimed, left and closed, all at the same time. A
// caller that gets no answer is noticed at the end of a world, or waits for ever: a deadlock.

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <source_location>
#include <span>
#include <stop_token>
#include <vector>

#include "model/worlds.hpp"
#include "support/model/executor.hpp"
#include "support/model/gate.hpp"
#include "support/task.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/sync/batcher.hpp>

namespace {

using namespace std::chrono_literals;
using model::add_world;
using model::gate;
using model::three;
using model::two;
using model::world;
using singleflight::flight_errc;
using keys_of_ints = singleflight::batcher<int, int>;
using outcomes = std::vector<singleflight::outcome<int>>;
namespace platform = singleflight::detail::platform;

/// For worlds too large to be exhausted in a few seconds.
constexpr model::limits samples{.preemptions = 3, .random_schedules = 20'000};
constexpr model::limits samples_and_a_fault{
    .preemptions = 3, .faults = 1, .random_schedules = 20'000};

/// A batcher, and callers that are answered with ten times their key.
struct scene {
  scene(world& in, singleflight::batcher_options options, bool on_queue = true)
      : w(in), max_batch(options.max_batch), max_in_flight(options.max_in_flight) {
    if (on_queue) options.executor = queue;
    options.timer = &clock;
    keys.emplace([this](std::span<const int> all) { return load(all); }, options);
  }

  outcomes load(std::span<const int> all) {
    struct leaving {
      platform::atomic<int>& of;
      ~leaving() { of.fetch_sub(1, std::memory_order_relaxed); }
    } const last{running};
    const auto now = running.fetch_add(1, std::memory_order_relaxed) + 1;
    w.check(static_cast<std::size_t>(now) <= max_in_flight,
            "more than max_in_flight batches at a time");
    w.check(!all.empty() && all.size() <= max_batch, "a batch without keys, or too large");
    outcomes values;
    for (std::size_t i = 0; i < all.size(); ++i) {
      w.check(std::find(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(i), all[i]) ==
                  all.begin() + static_cast<std::ptrdiff_t>(i),
              "12: a key twice in a batch");
      w.check(all[i] != unwanted, "a key was loaded that all callers had left");
      w.check(clock.now() >= not_before, "a batch was sent before it was due");
      values.emplace_back(all[i] * 10);
    }
    return values;
  }

  /// A thread of the world. Where memory runs short outside of any call, the thread ends.
  template <class What>
  void thread(What what) {
    w.thread([this, what] {
      try {
        what();
      } catch (const std::bad_alloc&) {
        w.check(model::faults() > 0, "bad_alloc without a fault");
      }
    });
  }

  void check_answer(int key, const singleflight::outcome<singleflight::shared_result<int>>& got) {
    const model::spared books;
    if (got) {
      w.check(**got == key * 10, "another key's value");
    } else if (model::faults() == 0) {
      w.check(got.errc() == may_end,
              "a call has ended with an error that this world does not allow");
    }
    answered.fetch_add(1, std::memory_order_relaxed);
  }
  /// start, and a coroutine that waits until the scene ends.
  void ask(std::size_t place, int key) {
    ++asked;
    frames.at(place).emplace(wait(*this, key));
  }
  /// start, and a blocking wait.
  void get(int key) {
    ++asked;
    auto f = keys->start(key);
    check_answer(key, f.get_outcome());
  }
  void finish() {
    for (int i = 0; i < 3; ++i) {
      clock.advance(10ms);
      queue.run_all();
      w.run();  // tasks that went to a pool
    }
    w.check(answered.load(std::memory_order_relaxed) == asked || model::faults() > 0,
            "P4: a call was not answered");
    if (keys) w.check(keys->in_flight().empty(), "P2: a key stays in flight");
    frames = {};
    keys.reset();
    clock.advance(1h);  // an alarm that is still armed would fire now
    queue.run_all();
  }

  world& w;
  const std::size_t max_batch;
  const std::size_t max_in_flight;
  std::optional<flight_errc> may_end;
  int unwanted = 0;  ///< a key that must not be loaded
  singleflight::timer::time_point not_before{};
  int asked = 0;
  platform::atomic<int> answered{0};
  platform::atomic<int> running{0};
  singleflight::manual_timer clock;
  model::queue_executor queue;
  std::array<std::optional<support::owned>, 4> frames;
  std::optional<keys_of_ints> keys;

 private:
  static support::owned wait(scene& s, int key) {
    try {
      auto f = s.keys->start(key);
      s.check_answer(key, co_await f.as_outcome());
    } catch (const std::bad_alloc&) {
      s.w.check(model::faults() > 0, "bad_alloc without a fault");
    }
  }
};

// ---- keys that arrive as a batch is sent --------------------------------------------------------

void two_callers(world& w, const singleflight::batcher_options& options, bool drop = false) {
  scene s(w, options);
  if (drop) s.may_end = flight_errc::broken;
  s.thread([&] {
    s.ask(0, 1);
    drop ? (void)s.queue.drop_one() : s.queue.run_all();
  });
  s.thread([&] {
    s.ask(1, 2);
    s.queue.run_all();
  });
  w.run();
  s.finish();
}
const add_world two_keys("12: batcher, two keys at once", two,
                         [](world& w) { two_callers(w, {.max_batch = 2, .max_in_flight = 1}); });
const add_world arrives_late("batcher: a key is added to a batch that is due", three, [](world& w) {
  scene s(w, {.max_batch = 2, .max_in_flight = 1});
  s.ask(0, 1);
  s.thread([&] { s.ask(1, 2); });
  s.thread([&] { s.queue.run_all(); });
  w.run();
  s.finish();
});
const add_world one_place("batcher: a line behind one place", two, [](world& w) {
  scene s(w, {.max_batch = 1, .max_in_flight = 1});
  s.ask(0, 1);
  s.ask(1, 2);
  s.thread([&] {
    s.queue.run_all();
    s.ask(2, 3);
  });
  s.thread([&] { s.queue.run_all(); });
  w.run();
  s.finish();
});
const add_world dropped("9: batcher, the executor drops a batch", two, [](world& w) {
  two_callers(w, {.max_batch = 2, .max_in_flight = 1}, true);
});
const add_world fault("batcher: two keys at once, a fault", samples_and_a_fault,
                      [](world& w) { two_callers(w, {.max_batch = 1, .max_in_flight = 1}); });

const add_world same_key("12: batcher, one key from two threads", two, [](world& w) {
  scene s(w, {.max_batch = 2, .max_in_flight = 1});
  for (std::size_t place = 0; place < 2; ++place) {
    s.thread([&s, place] {
      s.ask(place, 1);
      s.queue.run_all();
    });
  }
  w.run();
  s.finish();
});

// ---- a batch is full as its delay ends ----------------------------------------------------------

const add_world full_and_delay("batcher: a batch is full as its delay ends", samples, [](world& w) {
  scene s(w, {.max_batch = 2, .max_delay = 10ms, .max_in_flight = 1});
  s.thread([&] {
    s.ask(0, 1);
    s.ask(1, 2);
  });
  s.thread([&] {
    s.clock.advance(5ms);
    s.ask(2, 3);
  });
  s.thread([&] {
    s.clock.advance(5ms);
    s.queue.run_all();
  });
  w.run();
  s.finish();
});

const add_world flush_and_delay("batcher: flush as the delay ends", samples, [](world& w) {
  scene s(w, {.max_batch = 2, .max_delay = 10ms, .max_in_flight = 1});
  s.ask(0, 1);
  s.thread([&] {
    s.keys->flush();
    s.queue.run_all();
  });
  s.thread([&] {
    s.clock.advance(10ms);
    s.queue.run_all();
  });
  s.thread([&] { s.ask(1, 2); });
  w.run();
  s.finish();
});

// ---- callers that leave -------------------------------------------------------------------------

const add_world last_leaves("3: batcher, the last caller leaves as the batch is sent", three,
                            [](world& w) {
                              scene s(w, {.max_batch = 2, .max_in_flight = 1});
                              platform::atomic<int> left{0};
                              s.thread([&] {
                                { const auto leaver = s.keys->start(1); }
                                left.store(1, std::memory_order_relaxed);
                              });
                              s.thread([&] {
                                s.unwanted = left.load(std::memory_order_relaxed);
                                s.queue.run_all();
                              });
                              w.run();
                              s.unwanted = 1;
                              s.finish();
                            });

const add_world all_leave("batcher: all leave, and a newcomer arrives", two, [](world& w) {
  scene s(w, {.max_batch = 1, .max_in_flight = 1});
  s.thread([&] {
    { const auto leaver = s.keys->start(1); }
    s.queue.run_all();
  });
  s.thread([&] {
    s.ask(0, 1);
    s.queue.run_all();
  });
  w.run();
  s.finish();
});

/// One place, and a long delay: a caller that arrives after the last caller of key 1 has left finds
/// the place free.
const singleflight::batcher_options one_key{
    .max_batch = 3, .max_delay = 10ms, .max_in_flight = 1, .max_keys = 1};

const add_world newcomer("16: batcher, a newcomer as the last caller of a gathered key leaves",
                         three, [](world& w) {
                           scene s(w, one_key);
                           platform::atomic<int> left{0};
                           s.thread([&] {
                             { const auto leaver = s.keys->start(1); }
                             left.store(1, std::memory_order_release);
                           });
                           s.thread([&] {
                             const bool alone = left.load(std::memory_order_acquire) != 0;
                             s.ask(0,
                                   alone ? 2 : 1);  // joins, or starts a key; it is never refused
                           });
                           w.run();
                           s.finish();
                         });

/// The same as the delay ends: only a key whose load has begun may occupy the place.
const add_world leaves_due("16: batcher, the last caller leaves as its batch falls due", two,
                           [](world& w) {
                             scene s(w, one_key);
                             platform::atomic<int> begins{0};
                             s.thread([&] {
                               { const auto leaver = s.keys->start(1); }
                               if (begins.load(std::memory_order_relaxed) == 0) s.unwanted = 1;
                               auto next = s.keys->start(2);
                               if (next.ready() && !next.get_outcome().has_value()) {
                                 s.w.check(begins.load(std::memory_order_relaxed) != 0,
                                           "16: a key that has ended keeps its place");
                               } else {
                                 s.ask(0, 2);
                               }
                             });
                             s.thread([&] {
                               s.clock.advance(10ms);
                               begins.store(1, std::memory_order_relaxed);
                               s.queue.run_all();
                             });
                             w.run();
                             s.finish();
                           });

// ---- waiters of the executor itself -------------------------------------------------------------

/// A pool's thread waits for one key of a batch whose task is queued on that pool.
template <class Other>
void claimed(world& w, std::size_t max_threads, const singleflight::batcher_options& given,
             bool may_close, Other what_else) {
  std::optional<singleflight::thread_pool> pool(
      std::in_place, singleflight::thread_pool_options{.max_threads = max_threads});
  singleflight::batcher_options options = given;
  options.executor = *pool;
  scene s(w, options, false);
  if (may_close) s.may_end = flight_errc::closed;
  gate done;
  s.thread([&] {
    s.asked += 1;
    auto first = s.keys->start(1);
    pool->execute(singleflight::task([&] {
      s.get(2);
      done.open();
    }));
    what_else(s);
    s.check_answer(1, first.get_outcome());
    done.wait();
    s.keys.reset();
    pool.reset();
  });
  w.run();
  s.finish();
}
const add_world claims("21: batcher, a waiter of the pool and the batch's task", samples,
                       [](world& w) {
                         claimed(w, 2, {.max_batch = 2, .max_in_flight = 1}, false, [](scene&) {});
                       });
const add_world claims_alone("21: batcher, a waiter on the pool of one thread", two, [](world& w) {
  claimed(w, 1, {.max_batch = 1, .max_in_flight = 1}, false, [](scene&) {});
});
const add_world claims_delayed("21: batcher, a waiter on the pool is woken by the delay", two,
                               [](world& w) {
                                 claimed(w, 1,
                                         {.max_batch = 3, .max_delay = 10ms, .max_in_flight = 1},
                                         false, [](scene& s) {
                                           while (s.keys->in_flight().size() < 2) {
                                             model::pause(std::source_location::current());
                                           }
                                           s.clock.advance(10ms);
                                         });
                               });
/// With limits that are not reached: woken as the batch is given to the pool, by the delay or by a
/// flush, since no other thread can run it then.
void claimed_within(world& w, bool by_flush) {
  std::stop_source never;
  std::optional<singleflight::thread_pool> pool(
      std::in_place, singleflight::thread_pool_options{.max_threads = 1});
  scene s(w, {.max_batch = 2, .max_delay = 10ms, .executor = *pool}, false);
  gate gathered;
  gate done;
  s.thread([&] {
    pool->execute(singleflight::task([&] {
      ++s.asked;
      auto f = s.keys->start(1);
      gathered.open();
      s.check_answer(
          1,
          f.until(std::chrono::steady_clock::time_point::max(), never.get_token()).get_outcome());
      done.open();
    }));
    gathered.wait();
    if (by_flush) {
      s.keys->flush();
    } else {
      s.clock.advance(10ms);
    }
    done.wait();
    s.keys.reset();
    pool.reset();
  });
  w.run();
  s.finish();
}
const add_world within_delayed("49: batcher, a wait with a stop token is woken by the delay", two,
                               [](world& w) { claimed_within(w, false); });
const add_world within_flushed("49: batcher, a wait with a stop token is woken by a flush", two,
                               [](world& w) { claimed_within(w, true); });
/// Its deadline is that of the batch. It runs the batch or leaves; either way its key is over once
/// it has returned, and the next one fits.
const add_world leaves_within(
    "49: batcher, a bounded waiter leaves as its batch falls due", two, [](world& w) {
      std::optional<singleflight::thread_pool> pool(
          std::in_place, singleflight::thread_pool_options{.max_threads = 1});
      singleflight::batcher_options options = one_key;
      options.executor = *pool;
      scene s(w, options, false);
      s.not_before = s.clock.now() + 10ms;
      gate done;
      s.thread([&] {
        pool->execute(singleflight::task([&] {
          const auto got = s.keys->load(singleflight::as_outcome, 1, {.deadline = s.not_before});
          w.check(got ? **got == 10 : got.errc() == flight_errc::timed_out, "another outcome");
          auto next = s.keys->start(2);
          w.check(!next.ready(), "16: a key that has ended keeps its place");
          s.keys->flush();
          ++s.asked;
          s.check_answer(2, next.get_outcome());
          done.open();
        }));
        while (s.keys->in_flight().empty()) model::pause(std::source_location::current());
        s.clock.advance(10ms);
        done.wait();
        s.keys.reset();
        pool.reset();
      });
      w.run();
      s.finish();
    });
/// The waiter joins a key that is added to a batch which is due, between the key's start and its
/// place in the batch; the batch's task is queued behind the waiter on the pool's only thread.
const add_world joins_late(
    "21: batcher, a waiter of the pool as its key starts", two, [](world& w) {
      std::optional<singleflight::thread_pool> pool(
          std::in_place, singleflight::thread_pool_options{.max_threads = 1});
      scene s(w, {.max_batch = 2, .max_in_flight = 1, .executor = *pool}, false);
      gate done;
      s.thread([&] {
        pool->execute(singleflight::task([&] {
          s.get(2);
          done.open();
        }));
        s.asked += 2;
        auto first = s.keys->start(1);
        auto second = s.keys->start(2);
        s.check_answer(1, first.get_outcome());
        s.check_answer(2, second.get_outcome());
        done.wait();
        s.keys.reset();
        pool.reset();
      });
      w.run();
      s.finish();
    });
/// The only place belongs to a loader whose thread, the pool's other one, waits for this waiter
/// afterwards: only the waiter can run its batch.
void no_place(world& w, const singleflight::limits& bounds) {
  std::optional<singleflight::thread_pool> pool(
      std::in_place, singleflight::thread_pool_options{.max_threads = 2});
  scene s(w, {.max_batch = 1, .max_in_flight = 1, .executor = *pool}, false);
  gate answered;
  gate done;
  s.thread([&] {
    pool->execute(singleflight::task([&] {
      s.get(1);
      answered.wait();
      done.open();
    }));
    pool->execute(singleflight::task([&] {
      ++s.asked;
      s.check_answer(2, s.keys->load(singleflight::as_outcome, 2, bounds));
      answered.open();
    }));
    done.wait();
    s.keys.reset();
    pool.reset();
  });
  w.run();
  s.finish();
}
const add_world waits_for_place("21: batcher, a waiter of the pool without a place", samples,
                                [](world& w) { no_place(w, {}); });

const add_world claims_and_close("23: batcher, close during a wait of the pool", samples,
                                 [](world& w) {
                                   claimed(w, 2, {.max_batch = 2, .max_in_flight = 1}, true,
                                           [](scene& s) { s.keys->close(); });
                                 });

// ---- the end ------------------------------------------------------------------------------------

const add_world close_gathering("23: batcher, close while a batch gathers", two, [](world& w) {
  scene s(w, {.max_batch = 2, .max_delay = 10ms, .max_in_flight = 1});
  s.may_end = flight_errc::closed;
  s.thread([&] { s.ask(0, 1); });
  s.thread([&] { s.keys->close(); });
  s.thread([&] {
    s.clock.advance(10ms);
    s.queue.run_all();
  });
  w.run();
  s.finish();
});

const add_world destroyed_during_start(
    "23: batcher, it is destroyed as a key is added", three, [](world& w) {
      scene s(w, {.max_batch = 2, .max_delay = 10ms, .max_in_flight = 1});
      s.may_end = flight_errc::closed;
      s.thread([&] { s.ask(0, 1); });
      s.thread([&] {
        while (s.keys->in_flight().empty()) model::pause(std::source_location::current());
        s.keys.reset();  // the call that has begun is the last one
      });
      w.run();
      s.finish();
    });

const add_world destroyed_during_task("23: batcher, it is destroyed during its task", two,
                                      [](world& w) {
                                        scene s(w, {.max_batch = 2, .max_in_flight = 1});
                                        s.may_end = flight_errc::closed;
                                        s.ask(0, 1);
                                        { const auto left = s.keys->start(2); }
                                        s.thread([&] { s.queue.run_all(); });
                                        s.thread([&] { s.keys.reset(); });
                                        w.run();
                                        s.finish();
                                      });

/// The handle outlives the batcher, and the key that it leaves may be over already, or be closed.
const add_world destroyed_as_one_leaves(
    "23: batcher, it is destroyed as the last caller of a gathered key leaves", two, [](world& w) {
      scene s(w, one_key);
      std::optional<singleflight::flight<int>> one(s.keys->start(1));
      s.thread([&] { one.reset(); });
      s.thread([&] { s.keys.reset(); });
      w.run();
      s.finish();
    });

// ---- fork ---------------------------------------------------------------------------------------

/// Forks; the child loads a key, and destroys the batcher.
void fork_and_use(scene& s) {
  platform::fork();
  s.running.store(0, std::memory_order_relaxed);  // the parent's loads do not run here
  auto own = s.keys->start(2);
  s.clock.advance(10ms);
  s.queue.run_all();
  s.w.check(*own.get() == 20, "56: a key of a child has another value");
  s.keys.reset();
}

const add_world fork_and_batch("56: a fork during a batch", two, [](world& w) {
  scene s(w, {.max_batch = 2, .max_in_flight = 1});
  s.w.thread([&] {
    auto f = s.keys->start(1);
    s.queue.run_all();
  });
  s.w.thread([&] { fork_and_use(s); });
  w.run();
});

const add_world fork_and_delay("56: a fork while a batch gathers", two, [](world& w) {
  scene s(w, {.max_batch = 2, .max_delay = 10ms, .max_in_flight = 1});
  s.w.thread([&] {
    auto f = s.keys->start(1);
    s.clock.advance(10ms);
    s.queue.run_all();
  });
  s.w.thread([&] { fork_and_use(s); });
  w.run();
});

// The end of the batch in the child finds a key that is over, whose last caller was just leaving.
const add_world fork_in_loader(
    "56: a batch's load that forks as a caller leaves", two, [](world& w) {
      model::queue_executor queue;
      singleflight::batcher_options how{.max_batch = 2, .max_in_flight = 1};
      how.executor = queue;
      std::optional<singleflight::batcher<int, int>> keys;
      keys.emplace(
          [](std::span<const int> all) {
            platform::fork();
            std::vector<singleflight::outcome<int>> values;
            for (const int key : all) values.emplace_back(key * 10);
            return values;
          },
          how);
      std::optional<singleflight::flight<int>> leaves(keys->start(1));
      auto stays = keys->start(2);
      w.thread([&] { leaves.reset(); });
      w.thread([&] {
        queue.run_all();
        w.check(*stays.get() == 20, "56: a batch that forks loses an answer");
      });
      w.run();
    });

}  // namespace
