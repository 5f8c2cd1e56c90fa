// SPDX-License-Identifier: Apache-2.0

// Groups of tasks: tickets, waiters that help and sleep, stops, the end of a group. A task that was
// lost, or a waiter that was not notified, is a deadlock; a ticket that runs after its group was
// destroyed touches freed memory.

#include <chrono>
#include <memory>
#include <new>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

#include "model/worlds.hpp"
#include "support/model/executor.hpp"
#include "support/model/gate.hpp"
#include <singleflight/sync.hpp>

namespace {

using model::add_world;
using model::gate;
using model::three;
using model::two;
using model::two_and_a_fault;
using model::world;
using singleflight::as_outcome;
using singleflight::error_group;
using singleflight::flight_errc;
namespace platform = singleflight::detail::platform;

struct task_failure {};

struct counter {
  void count() { value_.fetch_add(1, std::memory_order_relaxed); }
  void uncount() { value_.fetch_sub(1, std::memory_order_relaxed); }
  int value() const { return value_.load(std::memory_order_relaxed); }

 private:
  platform::atomic<int> value_{0};
};

/// An executor whose tasks run on those threads of the world that call server().
struct tasks_site {
  explicit tasks_site(world& in) : w(in) {}
  ~tasks_site() { queue.run_all(); }  // late tickets find no work

  /// A thread that serves one ticket.
  void server() {
    w.thread([this] {
      while (!queue.run_one()) model::pause(std::source_location::current());
    });
  }
  error_group group(std::size_t limit = singleflight::error_group_options::no_limit) {
    return error_group({.executor = queue, .limit = limit});
  }
  void fails(error_group& g) {
    try {
      g.wait();
    } catch (const task_failure&) {
      return;
    }
    w.fail("a wait has lost its error");
  }

  world& w;
  model::queue_executor queue;
  counter ran;
};

// ---- tasks, tickets, waiters --------------------------------------------------------------------

void go_and_wait(world& w, std::size_t limit, int servers) {
  tasks_site s(w);
  counter inside;
  const auto task = [&] {
    inside.count();
    w.check(static_cast<std::size_t>(inside.value()) <= limit, "more tasks run than the limit");
    s.ran.count();
    inside.uncount();
  };
  w.thread([&] {
    error_group g = s.group(limit);
    g.go(task);
    g.go(task);
    g.wait();
    w.check(s.ran.value() == 2, "a wait has returned before a task ended, or one ran twice");
  });
  for (int i = 0; i < servers; ++i) s.server();
  w.run();
  w.check(s.ran.value() == 2, "a task ran late");
}
const add_world one_server("error_group: two tasks, a waiter and a ticket", three,
                           [](world& w) { go_and_wait(w, 2, 1); });
const add_world in_series("29: a limit of 1, a waiter and a ticket", three,
                          [](world& w) { go_and_wait(w, 1, 1); });

const add_world each_other("error_group: two tasks that wait for each other", two, [](world& w) {
  w.thread([&] {
    singleflight::thread_pool pool({.max_threads = 2});
    gate x;
    gate y;
    gate both;
    error_group g({.executor = pool});
    g.go([&] {
      x.open();
      y.wait();
    });
    g.go([&] {
      y.open();
      x.wait();
      both.open();
    });
    both.wait();  // no other thread helps
    g.wait();
  });
  w.run();
});

const add_world late_go("error_group: a task hands over another and waits for it", three,
                        [](world& w) {
                          tasks_site s(w);
                          gate begun;
                          gate second;
                          w.thread([&] {
                            error_group g = s.group();
                            g.go([&] {
                              begun.open();
                              g.go([&] { second.open(); });
                              second.wait();
                            });
                            begun.wait();
                            g.wait();
                          });
                          s.server();  // and no other: the waiter must help
                          w.run();
                        });

const add_world late_failure("error_group: a task hands over another that fails", three,
                             [](world& w) {
                               tasks_site s(w);
                               w.thread([&] {
                                 error_group g = s.group();
                                 g.go([&] { g.go([] { throw task_failure(); }); });
                                 s.fails(g);
                               });
                               s.server();
                               w.run();
                             });

const add_world two_waiters("error_group: two waiters and a ticket", two, [](world& w) {
  tasks_site s(w);
  error_group g = s.group();
  gate begun;
  counter failed;
  w.thread([&] {
    g.go([&] {
      begun.open();
      throw task_failure();
    });
    begun.wait();
    // This wait returns the outcome, or the other one does; neither is left asleep.
    if (!g.wait(as_outcome)) failed.count();
  });
  w.thread([&] {
    begun.wait();
    if (!g.wait(as_outcome)) failed.count();
  });
  s.server();
  w.run();
  w.check(failed.value() >= 1, "an error was reported to no wait");
  w.check(g.wait(as_outcome).has_value(), "an error is kept past its use");
});

const add_world go_during_wait("error_group: go during a wait", two, [](world& w) {
  tasks_site s(w);
  error_group g = s.group();
  w.thread([&] {
    g.go([&] { s.ran.count(); });
    g.wait();
    w.check(s.ran.value() >= 1, "a wait has returned before its task");
  });
  w.thread([&] {
    g.go([&] { s.ran.count(); });
    g.wait();
    w.check(s.ran.value() >= 1, "a wait has returned before its task");
  });
  s.server();
  w.run();
  w.check(s.ran.value() == 2, "a task did not run once");
});

const add_world dropped_tasks("error_group: the executor drops the ticket", three, [](world& w) {
  tasks_site s(w);
  w.thread([&] {
    error_group g = s.group();
    g.go([&] { g.go([&] { s.ran.count(); }); });
    g.wait();
    w.check(s.ran.value() == 1, "a task was lost with its ticket");
  });
  w.thread([&] {
    while (!s.queue.drop_one()) model::pause(std::source_location::current());
  });
  w.run();
});

const add_world short_of_memory("error_group: two tasks, a waiter and a ticket, a fault",
                                two_and_a_fault, [](world& w) {
                                  tasks_site s(w);
                                  w.thread([&] {
                                    int handed_over = 0;
                                    try {
                                      error_group g = s.group();
                                      for (int i = 0; i < 2; ++i) {
                                        g.go([&] { s.ran.count(); });
                                        ++handed_over;
                                      }
                                      g.wait();
                                      w.check(s.ran.value() == 2, "a task was lost");
                                    } catch (const std::bad_alloc&) {
                                      w.check(model::faults() > 0, "memory was short");
                                      w.check(s.ran.value() <= handed_over, "a task ran twice");
                                    }
                                  });
                                  w.thread([&] { s.queue.run_one(); });
                                  w.run();
                                });

// Scenarios 21, 28a.
const add_world nested_tasks("21: nested groups on a pool of one thread", two, [](world& w) {
  counter ran;
  w.thread([&] {
    singleflight::thread_pool pool({.max_threads = 1});
    gate over;  // everything is left to the pool
    error_group outer({.executor = pool});
    outer.go([&] {
      error_group inner({.executor = pool});
      inner.go([&] { ran.count(); });
      inner.wait();
      w.check(ran.value() == 1, "a wait has returned before its task");
      over.open();
    });
    over.wait();
    outer.wait();
  });
  w.run();
  w.check(ran.value() == 1, "a task did not run once");
});

// Scenario 28a.
const add_world inline_order("28a: inline_executor, a waiter is called for two tasks", two,
                             [](world& w) {
                               error_group g({.executor = singleflight::inline_executor});
                               gate begun;
                               gate first;
                               w.thread([&] {
                                 g.go([&] {
                                   begun.open();
                                   g.go([&] { first.open(); });
                                   g.go([&] { first.wait(); });  // it has begun before
                                 });
                               });
                               w.thread([&] {
                                 begun.wait();
                                 g.wait();
                               });
                               w.run();
                             });

// ---- stops --------------------------------------------------------------------------------------

const add_world stop_races("29: the first error as tasks begin", two, [](world& w) {
  tasks_site s(w);
  w.thread([&] {
    error_group g = s.group(1);
    g.go([] { throw task_failure(); });
    g.go([&] { s.ran.count(); });  // before or after the error: it must not begin
    s.fails(g);
    w.check(s.ran.value() == 0, "a task has begun after the first error");
    w.check(g.skipped() == 1, "a task that was skipped is not counted");
    w.check(g.errors().size() == 1, "an error was lost");
  });
  s.server();
  w.run();
});

const add_world skipped_end("29: a wait during a stop that skips", three, [](world& w) {
  tasks_site s(w);
  error_group g = s.group(1);
  struct mark {
    counter* ended;
    explicit mark(counter& c) : ended(&c) {}
    mark(mark&& other) noexcept : ended(std::exchange(other.ended, nullptr)) {}
    mark& operator=(mark&&) = delete;
    ~mark() {
      if (ended != nullptr) ended->count();
    }
  };
  counter ended;
  g.go([&, m = mark(ended)] { s.ran.count(); });
  g.go([&, m = mark(ended)] { s.ran.count(); });
  w.thread([&] {
    const bool all = g.wait(as_outcome).has_value();
    w.check(ended.value() == 2, "a wait has returned before a task's captures were destroyed");
    w.check(all == (s.ran.value() == 2), "a wait succeeded, and not all tasks ran");
    w.check(s.ran.value() + static_cast<int>(g.skipped()) == 2, "a task is not accounted for");
  });
  w.thread([&] { g.request_stop(); });
  w.run();
});

const add_world stop_callback("29: a stop callback that calls the group", two, [](world& w) {
  tasks_site s(w);
  w.thread([&] {
    error_group g = s.group();
    const auto token = g.stop_token();
    const auto more = [&] { g.go([&] { s.ran.count(); }); };
    const platform::stop_callback<decltype(more)> callback(token, more);
    g.go([] { throw task_failure(); });
    s.fails(g);
    w.check(s.ran.value() == 0, "a task has begun after the first error");
  });
  s.server();
  w.run();
});

const add_world stop_waits("29: a stop callback and a skipped task wait for their group", two,
                           [](world& w) {
                             tasks_site s(w);
                             error_group g = s.group(1);
                             struct waits {
                               error_group* group;
                               world* in;
                               waits(error_group& of, world& w) : group(&of), in(&w) {}
                               waits(waits&& other) noexcept
                                   : group(std::exchange(other.group, nullptr)), in(other.in) {}
                               waits& operator=(waits&&) = delete;
                               ~waits() {
                                 if (group == nullptr) return;
                                 in->check(group->wait(as_outcome).errc() == flight_errc::recursive,
                                           "a skipped task waits for itself");
                               }
                               void operator()() const {}
                             };
                             w.thread([&] {
                               const auto token = g.stop_token();
                               const auto wait = [&] {
                                 w.check(g.wait(as_outcome).errc() == flight_errc::recursive,
                                         "a stop callback waits for its own group");
                               };
                               const platform::stop_callback<decltype(wait)> callback(token, wait);
                               g.go(waits(g, w));
                               g.request_stop();
                             });
                             w.run();
                           });

const add_world parent_stops("29: the parent's stop as a group begins and ends", two, [](world& w) {
  tasks_site s(w);
  std::stop_source parent;
  w.thread([&] {
    error_group g({.executor = s.queue, .stop = parent.get_token()});
    g.go([&] { s.ran.count(); });
    const bool all = g.wait(as_outcome).has_value();
    w.check(all == (s.ran.value() == 1), "a task is lost");
  });
  w.thread([&] { platform::request_stop(parent); });
  w.run();
});

const add_world used_again("29: the use after one that failed", three, [](world& w) {
  tasks_site s(w);
  w.thread([&] {
    error_group g = s.group();
    g.go([] { throw task_failure(); });
    s.fails(g);
    g.go([&] { s.ran.count(); });
    w.check(g.wait(as_outcome).has_value(), "an error is reported again");
    w.check(s.ran.value() == 1, "a task of the next use was skipped");
    w.check(g.errors().empty(), "an error is kept past its use");
  });
  s.server();
  w.run();
});

// ---- the end of a group -------------------------------------------------------------------------

const add_world ends("error_group: the destructor and a ticket", three, [](world& w) {
  tasks_site s(w);
  auto there = std::make_unique<counter>();
  w.thread([&] {
    {
      error_group g = s.group();
      g.go([&] { there->count(); });
      g.go([&] { there->count(); });
    }
    there.reset();  // a task that still runs touches freed memory
  });
  s.server();
  w.run();
});

const add_world late_ticket("error_group: a ticket runs after the group is destroyed", three,
                            [](world& w) {
                              tasks_site s(w);
                              w.thread([&] {
                                error_group g = s.group();
                                g.go([&] { s.ran.count(); });
                                g.wait();
                                w.check(s.ran.value() == 1, "a task did not run once");
                              });
                              s.server();
                              w.run();
                            });

/// Drops its tasks, so that only waiters run tasks of the group.
struct drops {
  explicit drops(world& in) : w(&in) {}
  void execute(singleflight::task work) const {
    const std::weak_ptr<int> seen = life;
    world* const in = w;
    { const singleflight::task unrun(std::move(work)); }
    in->check(!seen.expired(), "an executor is destroyed while it is given a ticket");
  }
  world* w;
  std::shared_ptr<int> life = std::make_shared<int>();
};

const add_world destroyed_at_notify("error_group: it is destroyed as a waiter is notified", three,
                                    [](world& w) {
                                      auto g = std::make_unique<error_group>(
                                          singleflight::error_group_options{.executor = drops(w)});
                                      gate waits;
                                      w.thread([&, use = g.get()] {
                                        use->go([&, use] {
                                          use->go([] {});
                                          waits.open();  // this thread is in wait
                                        });
                                        (void)use->wait(as_outcome);
                                      });
                                      w.thread([&] {
                                        waits.wait();
                                        g.reset();
                                      });
                                      w.run();
                                    });

const add_world destroyed_during_go(
    "error_group: it is destroyed while a go submits its ticket", three, [](world& w) {
      auto g =
          std::make_unique<error_group>(singleflight::error_group_options{.executor = drops(w)});
      counter ran;
      w.thread([&, use = g.get()] { use->go([&] { ran.count(); }); });
      w.thread([&] {
        g->wait();
        if (ran.value() == 1) g.reset();  // go has begun, and may not have returned
      });
      w.run();
    });

// ---- run_all ------------------------------------------------------------------------------------

const add_world deadline("run_all: the deadline as calls begin and end", two, [](world& w) {
  tasks_site s(w);
  singleflight::manual_timer time;
  w.thread([&] {
    struct call {
      counter* ran;
      void operator()() const { ran->count(); }
    };
    const call both[] = {{&s.ran}, {&s.ran}};
    const auto all = singleflight::run_all(
        both,
        {.timeout = std::chrono::seconds(1), .limit = 1, .executor = s.queue, .timer = &time});
    int had = 0;
    for (const auto& one : all) {
      had += one ? 1 : 0;
      w.check(one || one.errc() == flight_errc::timed_out,
              "a call has another outcome than its own");
    }
    w.check(had == s.ran.value(), "a call ran, and its outcome is lost");
    w.check(all.at(0).has_value() || !all.at(1).has_value(), "a call began before an earlier one");
  });
  w.thread([&] { time.advance(std::chrono::seconds(2)); });
  w.run();
});

// ---- fork ---------------------------------------------------------------------------------------

const add_world fork_and_ticket("56: a fork with a ticket of an idle group", two, [](world& w) {
  tasks_site s(w);
  auto g = std::make_unique<error_group>(singleflight::error_group_options{.executor = s.queue});
  w.thread([&] { s.queue.run_all(); });
  w.thread([&] {
    g->go([&] { s.ran.count(); });
    g->wait();
    platform::fork();
    g->go([&] { s.ran.count(); });
    s.queue.run_all();
    w.check(s.ran.value() == 2, "56: an idle group submits no ticket in a child");
    g->wait();
    g.reset();
  });
  w.run();
});

}  // namespace
