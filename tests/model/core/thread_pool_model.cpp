// SPDX-License-Identifier: Apache-2.0

// The elastic pool and the trampoline. The world waits for every task: a lost one is a deadlock.

#include <functional>
#include <memory>
#include <system_error>
#include <utility>

#include "model/worlds.hpp"
#include "support/model/gate.hpp"
#include <singleflight/core.hpp>

namespace {

using model::add_world;
using model::gate;
using model::three;
using model::two;
using model::two_and_a_fault;
using model::world;
using singleflight::default_pool;
using singleflight::inline_executor;
using singleflight::task;
using singleflight::thread_pool;
namespace platform = singleflight::detail::platform;

/// A task that records whether it ran or was dropped.
class job : public singleflight::detail::task_node {
 public:
  explicit job(std::function<void()> what = {}) : task_node(&act_on), what_(std::move(what)) {}
  int ran() const { return ran_.load(std::memory_order_relaxed); }
  int dropped() const { return dropped_.load(std::memory_order_relaxed); }
  void wait() { done_.wait(); }
  task as_task() { return task(this); }

 private:
  static void act_on(task_node* node, bool run) {
    auto& self = static_cast<job&>(*node);
    (run ? self.ran_ : self.dropped_).fetch_add(1, std::memory_order_relaxed);
    if (run) {
      struct at_end {  // also when the thread ends
        gate& done;
        ~at_end() { done.open(); }
      } const opens{self.done_};
      if (self.what_) self.what_();
    }
  }
  std::function<void()> what_;
  platform::atomic<int> ran_{0};
  platform::atomic<int> dropped_{0};
  gate done_;
};

/// A pool with jobs; checks them at its end.
struct site {
  site(world& in, std::size_t max_threads)
      : w(in),
        pool(std::make_unique<thread_pool>(
            singleflight::thread_pool_options{.max_threads = max_threads})) {}
  site(const site&) = delete;
  site& operator=(const site&) = delete;
  ~site() {
    for (const job* j : {&a, &b, &c}) {
      w.check(j->ran() + j->dropped() <= 1, "a task ran twice, or was dropped as well");
    }
  }
  /// Returns false if the pool has refused the task, which was then dropped.
  bool execute(job& j) {
    try {
      pool->execute(j.as_task());
      return true;
    } catch (const std::system_error&) {
      w.check(model::faults() > 0, "a thread was refused without a fault");
      w.check(j.dropped() == 1, "a task that was refused is not dropped");
      return false;
    }
  }
  void finish(std::initializer_list<const job*> run) {
    for (const job* j : run) w.check(j->ran() == 1, "a task did not run");
  }

  world& w;
  std::unique_ptr<thread_pool> pool;
  job a;
  job b;
  job c;
};

// ---- tasks from two threads ---------------------------------------------------------------------

void two_posters(world& w, std::size_t max_threads) {
  site s(w, max_threads);
  gate posted;
  job second([&] {
    w.check(max_threads > 1 || s.a.ran() == 1, "a task began before one handed over earlier");
  });
  w.thread([&] {
    s.execute(s.a);
    s.execute(second);
    posted.open();
  });
  w.thread([&] {
    s.execute(s.b);
    posted.wait();
    for (job* j : {&s.a, &s.b, &second}) j->wait();
    s.pool.reset();
  });
  w.run();
  s.finish({&s.a, &s.b, &second});
}
const add_world posters_one("thread_pool: tasks of two threads, one worker", two,
                            [](world& w) { two_posters(w, 1); });
const add_world posters_two("thread_pool: tasks of two threads, two workers", two,
                            [](world& w) { two_posters(w, 2); });

void post_to_idle(world& w, std::size_t max_threads) {
  site s(w, max_threads);
  w.thread([&] {
    s.execute(s.a);
    s.a.wait();
    s.execute(s.b);
    s.b.wait();
    s.pool.reset();
  });
  w.run();
  s.finish({&s.a, &s.b});
}
const add_world idle_one("thread_pool: a post with an idle thread", three,
                         [](world& w) { post_to_idle(w, 1); });
const add_world idle_two("thread_pool: a post with an idle thread, two workers", three,
                         [](world& w) { post_to_idle(w, 2); });
const add_world idle_fault("thread_pool: a post with an idle thread, a fault", two_and_a_fault,
                           [](world& w) {
                             site s(w, 2);
                             w.thread([&] {
                               if (s.execute(s.a)) s.a.wait();
                               if (s.execute(s.b)) s.b.wait();
                               s.pool.reset();
                             });
                             w.run();
                             w.check(s.a.ran() + s.a.dropped() == 1, "a task was lost");
                             w.check(s.b.ran() + s.b.dropped() == 1, "a task was lost");
                           });

const add_world two_posts_to_idle("thread_pool: two posts with one idle thread", two, [](world& w) {
  site s(w, 2);
  gate x;
  gate y;
  job first([&] {
    y.open();
    x.wait();
  });
  job second([&] {
    x.open();
    y.wait();
  });
  gate posted;
  s.w.thread([&] {
    s.execute(s.a);
    s.a.wait();
    s.execute(first);
    posted.open();
  });
  s.w.thread([&] {
    s.a.wait();
    s.execute(second);
    posted.wait();
    first.wait();
    second.wait();
    s.pool.reset();
  });
  w.run();
  s.finish({&s.a, &first, &second});
});

// ---- the end ------------------------------------------------------------------------------------

const add_world stops_idle("thread_pool: the destructor with an idle thread", three, [](world& w) {
  site s(w, 1);
  w.thread([&] {
    s.execute(s.a);
    s.a.wait();
    s.pool.reset();
  });
  w.run();
  s.finish({&s.a});
});

void ends_with_queue(world& w, std::size_t max_threads) {
  site s(w, max_threads);
  w.thread([&] {
    s.execute(s.a);
    s.execute(s.b);
    s.execute(s.c);
    s.pool.reset();
  });
  w.run();
  s.finish({&s.a, &s.b, &s.c});
}
// Only a thread that was woken by another cause runs the task before its post has notified.
const add_world destroyed_at_once(
    "thread_pool: the pool is destroyed as its last task has run, a fault", two_and_a_fault,
    [](world& w) {
      site s(w, 1);
      gate over;
      job last([&] { over.open(); });
      w.thread([&] {
        if (s.execute(s.a)) s.a.wait();
        if (!s.execute(last)) over.open();
      });
      w.thread([&] {
        over.wait();
        s.pool.reset();  // the post may not have returned
      });
      w.run();
    });

const add_world queued_one("thread_pool: the destructor runs what is queued", three,
                           [](world& w) { ends_with_queue(w, 1); });
const add_world queued_two("thread_pool: the destructor runs what is queued, two workers", two,
                           [](world& w) { ends_with_queue(w, 2); });

void task_posts(world& w, std::size_t max_threads) {
  site s(w, max_threads);
  thread_pool& pool = *s.pool;
  job outer([&] { pool.post(&s.b, true); });
  w.thread([&] {
    s.execute(s.a);
    s.execute(outer);
    s.pool.reset();
  });
  w.run();
  s.finish({&s.a, &s.b, &outer});
}
const add_world posts_one("thread_pool: a task posts another", three,
                          [](world& w) { task_posts(w, 1); });
const add_world posts_two("thread_pool: a task posts another, two workers", two,
                          [](world& w) { task_posts(w, 2); });

const add_world waits_at_end("thread_pool: a task waits for another at the end", three,
                             [](world& w) {
                               site s(w, 2);
                               thread_pool& pool = *s.pool;
                               job outer([&] {
                                 pool.execute(s.b.as_task());
                                 s.b.wait();
                               });
                               w.thread([&] {
                                 s.execute(s.a);
                                 s.execute(outer);
                                 s.pool.reset();
                               });
                               w.run();
                               s.finish({&s.a, &s.b, &outer});
                             });

/// Ends a thread as pthread_exit does.
void end_of_thread(world& w) {
  site s(w, 1);
  job last([] { throw model::thread_exit(); });
  w.thread([&] {
    const bool begun = s.execute(last);
    const bool queued = s.execute(s.a);
    s.pool.reset();
    w.check(!begun || last.ran() == 1, "a task did not run");
    w.check(!queued || s.a.ran() == 1, "a task did not run");
  });
  w.run();
}
const add_world thread_ends("thread_pool: a task ends its thread", three, end_of_thread);
const add_world thread_ends_fault("thread_pool: a task ends its thread, a fault", two_and_a_fault,
                                  end_of_thread);

// ---- no thread can be started -------------------------------------------------------------------

const add_world refused("thread_pool: no thread", two_and_a_fault, [](world& w) {
  site s(w, 2);
  gate posted;
  bool ran_a = false;
  w.thread([&] {
    ran_a = s.execute(s.a);
    if (ran_a) s.a.wait();
    posted.open();
  });
  w.thread([&] {
    const bool runs = s.execute(s.b);
    if (runs) s.b.wait();
    posted.wait();
    w.check(runs || ran_a, "one fault refused two tasks");
    s.pool.reset();
  });
  w.run();
});

const add_world kept("thread_pool: a kept node, and no thread", two_and_a_fault, [](world& w) {
  site s(w, 1);
  w.thread([&] {
    s.pool->post(&s.a, true);
    if (s.execute(s.b)) {  // a thread can be made now, so the node runs as well
      s.a.wait();
      s.b.wait();
    }
    s.pool.reset();
  });
  w.run();
  s.finish({&s.a});
});

const add_world kept_alone("thread_pool: a kept node, and no other one", two_and_a_fault,
                           [](world& w) {
                             job j;
                             w.thread([&] {
                               default_pool().post(&j, true);
                               j.wait();  // no other thread will run it
                             });
                             w.run();
                             w.check(j.ran() == 1, "a task did not run");
                           });

// A process that forks while a pool works: its child has threads of its own, and none of the tasks.
const add_world forks("56: a fork while a pool works", two, [](world& w) {
  auto pool = std::make_unique<thread_pool>(singleflight::thread_pool_options{.max_threads = 2});
  job a;
  job b;
  w.thread([&] { pool->execute(a.as_task()); });
  w.thread([&] {
    platform::fork();
    pool->execute(b.as_task());
    b.wait();
    pool.reset();
  });
  w.run();
  w.check(b.ran() == 1, "56: a child's task did not run");
});

const add_world kept_to_end("thread_pool: a kept node, and the pool's end", two_and_a_fault,
                            [](world& w) {
                              site s(w, 1);
                              w.thread([&] {
                                s.pool->post(&s.a, true);
                                s.pool.reset();
                              });
                              w.run();
                              s.finish({&s.a});
                            });

const add_world of_all("default_pool from two threads", two, [](world& w) {
  job jobs[2];
  for (job& j : jobs) {
    w.thread([&j] {
      default_pool().execute(j.as_task());
      j.wait();
    });
  }
  w.run();
  for (const job& j : jobs) w.check(j.ran() == 1 && j.dropped() == 0, "a task did not run once");
});

// ---- the trampoline -----------------------------------------------------------------------------

const add_world trampoline("inline_executor: a task queues another", three, [](world& w) {
  struct pair {
    explicit pair(world& in)
        : outer([this, &in] {
            inline_executor.execute(inner.as_task());
            in.check(inner.ran() == 0, "a task nests in another");
          }) {}
    job inner;
    job outer;
  } one(w), other(w);
  for (pair* p : {&one, &other}) {
    w.thread([&w, p] {
      inline_executor.execute(p->outer.as_task());
      w.check(p->inner.ran() == 1, "the outermost call has returned before a task ran");
    });
  }
  w.run();
});

const add_world inside("inline_executor: inside run it means the pool", two, [](world& w) {
  job on_pool([&] { w.check(model::this_thread() > 2, "work ran on a thread inside run"); });
  job here([&] { w.check(model::this_thread() == 2, "work ran elsewhere"); });
  w.thread([&] {
    const singleflight::detail::inside_run now(singleflight::detail::this_thread());
    inline_executor.execute(on_pool.as_task());
    on_pool.wait();
  });
  w.thread([&] {
    inline_executor.execute(here.as_task());
    w.check(here.ran() == 1, "the outermost call has returned before a task ran");
  });
  w.run();
});

const add_world throws("inline_executor: a task that throws leaves the rest to the pool", three,
                       [](world& w) {
                         job rest;
                         job fails([&] {
                           inline_executor.execute(rest.as_task());
                           throw 1;
                         });
                         w.thread([&] {
                           bool thrown = false;
                           try {
                             inline_executor.execute(fails.as_task());
                           } catch (int) {
                             thrown = true;
                           }
                           w.check(thrown, "an exception was lost");
                           rest.wait();
                           job next;
                           inline_executor.execute(next.as_task());
                           w.check(next.ran() == 1, "the trampoline is stuck");
                         });
                         w.run();
                         w.check(rest.ran() == 1, "a task did not run");
                       });

}  // namespace
