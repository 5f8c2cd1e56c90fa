// SPDX-License-Identifier: Apache-2.0

// start_retry: what ends a sleep, concurrently and as the sleep begins; what ends a wait; the drop
// of the handle. A run that is lost never ends, and leaks; a run that continues twice is found too.

#include <chrono>
#include <coroutine>
#include <limits>
#include <optional>
#include <stop_token>
#include <utility>

#include "model/worlds.hpp"
#include "support/model/executor.hpp"
#include "support/model/gate.hpp"
#include "support/task.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/sync/start_retry.hpp>

namespace {

using model::add_world;
using model::queue_executor;
using model::three;
using model::two_and_a_fault;
using model::world;
using singleflight::flight_errc;
using singleflight::manual_timer;
using singleflight::outcome;
using singleflight::pending_result;
using singleflight::start_retry;
using namespace std::chrono_literals;
namespace platform = singleflight::detail::platform;

constexpr auto no_deadline = std::chrono::steady_clock::time_point::max();

struct retry_scene {
  explicit retry_scene(world& in) : w(in) {}

  /// Two attempts with a second between them; the first one fails.
  pending_result<int> start(const std::stop_token& stop = {}, std::uint32_t attempts = 2) {
    return start_retry(
        {.max_attempts = attempts,
         .base = 1s,
         .multiplier = 1,
         .random = [] { return std::numeric_limits<std::uint64_t>::max(); },
         .timer = &time},
        [this](std::uint32_t attempt) {
          w.check(inside.fetch_add(1, std::memory_order_relaxed) == 0, "two attempts at a time");
          calls.fetch_add(1, std::memory_order_relaxed);
          inside.fetch_sub(1, std::memory_order_relaxed);
          if (attempt == 1) throw 1;
          return 7;
        },
        {.deadline = no_deadline, .stop = stop}, queue);
  }
  template <class What>
  void thread(What what) {
    w.thread([this, what] {
      what();
      queue.run_all();  // runs the tasks that it caused: other threads may be blocked
    });
  }
  /// A coroutine that waits; it records once how its wait ended.
  support::owned await(pending_result<int> of, const std::stop_token& stop = {}) {
    return wait(*this, std::move(of), stop);
  }
  void finish() {
    w.run();
    queue.run_all();
    w.check(notified.load(std::memory_order_relaxed) == 1, "a waiter was not notified once");
  }

  world& w;
  manual_timer time;  // does not advance
  queue_executor queue;
  platform::atomic<int> inside{0};
  platform::atomic<int> calls{0};
  platform::atomic<int> notified{0};
  std::optional<outcome<int>> got;

 private:
  static support::owned wait(retry_scene& s, pending_result<int> of, std::stop_token stop) {
    auto how = co_await of.until(no_deadline, stop).as_outcome();
    s.got.emplace(std::move(how));
    s.notified.fetch_add(1, std::memory_order_relaxed);
  }
};

const add_world stop_at_begin("start_retry: a stop as a sleep begins", three, [](world& w) {
  retry_scene s(w);
  std::stop_source stop;
  auto waiter = s.await(s.start(stop.get_token()));
  s.thread([&] { s.queue.run_one(); });
  s.thread([&] { platform::request_stop(stop); });
  s.finish();
  w.check(s.got->errc() == flight_errc::cancelled, "a stop was missed");
  w.check(s.calls.load(std::memory_order_relaxed) <= 1, "an attempt began after the stop");
});

const add_world stop_at_alarm("start_retry: a stop as the alarm fires", three, [](world& w) {
  retry_scene s(w);
  std::stop_source stop;
  auto waiter = s.await(s.start(stop.get_token()));
  s.queue.run_one();
  s.thread([&] { platform::request_stop(stop); });
  s.thread([&] { s.time.advance(1s); });
  s.finish();
  const int calls = s.calls.load(std::memory_order_relaxed);
  w.check(s.got->has_value() ? calls == 2 : s.got->errc() == flight_errc::cancelled,
          "a retry ended in another way");
});

const add_world drop_at_sleep(
    "start_retry: a handle dropped as a sleep begins", three, [](world& w) {
      retry_scene s(w);
      std::optional<pending_result<int>> all(s.start());
      s.thread([&] { s.queue.run_one(); });
      s.thread([&] { all.reset(); });
      w.run();
      s.queue.run_all();  // time does not advance: without its end it leaks
      w.check(s.calls.load(std::memory_order_relaxed) <= 1, "an abandoned retry continued");
    });

const add_world drop_at_alarm("start_retry: a handle dropped as the alarm fires", three,
                              [](world& w) {
                                retry_scene s(w);
                                std::optional<pending_result<int>> all(s.start());
                                s.queue.run_one();
                                s.thread([&] { all.reset(); });
                                s.thread([&] { s.time.advance(1s); });
                                w.run();
                                s.queue.run_all();
                              });

const add_world drop_at_end("start_retry: a handle dropped as the retry ends", three, [](world& w) {
  retry_scene s(w);
  std::optional<pending_result<int>> all(s.start({}, 1));
  s.thread([&] { s.queue.run_one(); });
  s.thread([&] { all.reset(); });
  w.run();
  s.queue.run_all();
});

const add_world woken_during_fire("start_retry: its second attempt as the alarm returns", three,
                                  [](world& w) {
                                    retry_scene s(w);
                                    auto waiter = s.await(s.start());
                                    s.queue.run_one();
                                    // Not drained here: the other thread runs the attempt to its
                                    // end.
                                    w.thread([&] { s.time.advance(1s); });
                                    w.thread([&] {
                                      while (s.notified.load(std::memory_order_relaxed) == 0) {
                                        if (!s.queue.run_one()) platform::pause();
                                      }
                                      waiter.reset();
                                    });
                                    s.finish();
                                  });

const add_world await_at_end("start_retry: a wait begins as the retry ends", three, [](world& w) {
  retry_scene s(w);
  std::optional<support::owned> waiter;
  auto all = s.start({}, 1);
  s.thread([&] { s.queue.run_one(); });
  s.thread([&] { waiter.emplace(s.await(std::move(all))); });
  s.finish();
});

const add_world get_at_end("start_retry: get as the retry ends, a fault", two_and_a_fault,
                           [](world& w) {
                             retry_scene s(w);
                             std::optional<pending_result<int>> all;
                             try {
                               all.emplace(s.start({}, 1));
                             } catch (const std::bad_alloc&) {
                               return;
                             }
                             s.thread([&] { s.queue.run_one(); });
                             s.thread([&] { w.check(!all->get_outcome(), "a value"); });
                             w.run();
                           });

const add_world get_stopped("start_retry: a stop during get as the retry ends", three,
                            [](world& w) {
                              retry_scene s(w);
                              std::stop_source stop;
                              auto all = s.start({}, 1);
                              s.thread([&] { s.queue.run_one(); });
                              s.thread([&] {
                                const auto how =
                                    all.until(no_deadline, stop.get_token()).get_outcome();
                                w.check(!how, "a value");
                              });
                              s.thread([&] { platform::request_stop(stop); });
                              w.run();
                              s.queue.run_all();
                            });

const add_world limit_at_end("start_retry: a limit of the wait as the retry ends", three,
                             [](world& w) {
                               retry_scene s(w);
                               std::stop_source stop;
                               auto waiter = s.await(s.start({}, 1), stop.get_token());
                               s.thread([&] { s.queue.run_one(); });
                               s.thread([&] { platform::request_stop(stop); });
                               s.finish();
                             });

const add_world limit_after_end("start_retry: a limit of the wait after the retry ended", three,
                                [](world& w) {
                                  retry_scene s(w);
                                  std::stop_source stop;
                                  auto waiter = s.await(s.start({}, 1), stop.get_token());
                                  w.thread([&] {
                                    s.queue.run_one();
                                    platform::request_stop(stop);
                                    s.queue.run_all();
                                  });
                                  s.finish();
                                  w.check(!s.got->has_value() && !s.got->errc(),
                                          "a limit has won that came after the end");
                                });

const add_world destroyed_call("28b: start_retry: a coroutine destroyed as the retry ends", three,
                               [](world& w) {
                                 retry_scene s(w);
                                 std::optional<support::owned> waiter(s.await(s.start({}, 1)));
                                 // Where the coroutine would resume: this thread drains the
                                 // executor.
                                 w.thread([&] {
                                   s.queue.run_one();
                                   waiter.reset();
                                   s.queue.run_all();
                                 });
                                 w.thread([&] { s.time.advance(1s); });
                                 w.run();
                               });

/// The attempt fails; the run sleeps until it is notified that no caller waits any more.
const add_world given_up_unresumed(
    "52: start_retry: a wait is given up, its executor stalls", three, [](world& w) {
      retry_scene s(w);
      queue_executor stalled;
      std::stop_source stop;
      bool gave_up = false;
      const auto wait = [&](pending_result<int> of) -> support::owned {
        auto mine = std::move(of);
        const auto got =
            co_await mine.until(no_deadline, stop.get_token()).on(stalled).as_outcome();
        gave_up = got.errc() == flight_errc::cancelled;
      };
      const platform::atomic<int>& calls = s.calls;
      std::optional<support::owned> waiter(wait(s.start()));
      s.thread([&] { s.queue.run_one(); });
      s.thread([&] { platform::request_stop(stop); });
      w.run();
      s.queue.run_all();
      s.time.advance(5s);  // finds no sleeping run
      s.queue.run_all();
      w.check(calls.load(std::memory_order_relaxed) <= 1, "52: an abandoned retry continued");
      stalled.run_all();
      w.check(gave_up, "52: a wait that was given up has another outcome");
      waiter.reset();
    });

}  // namespace
