// SPDX-License-Identifier: Apache-2.0

// A live_value: what its readers see during changes, the calls of its listeners, and its end.

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <utility>
#include <vector>

#include "model/cache/item.hpp"
#include "model/worlds.hpp"
#include "support/model/executor.hpp"
#include "support/model/gate.hpp"
#include <singleflight/cache/live_value.hpp>
#include <singleflight/core/manual_timer.hpp>

namespace {

using model::add_world;
using model::gate;
using model::item;
using model::three;
using model::two;
using model::two_and_a_fault;
using model::world;
using singleflight::manual_timer;
using singleflight::subscription;
using namespace std::chrono_literals;
namespace platform = singleflight::detail::platform;

/// A value, its queue, and a history: when each load and set began, and what was seen when.
struct live_scene {
  using live = singleflight::live_value<item>;
  using options = live::options;

  explicit live_scene(world& in, options how = {}) : w(in) {
    how.group.executor = queue;
    how.random = [] { return std::uint64_t{0}; };
    value = std::make_unique<live>([this] { return item(loader()); }, std::move(how));
  }

  /// A thread of the world. Where memory runs short, the thread ends.
  template <class What>
  void thread(What what) {
    w.thread([this, what] {
      try {
        what();
      } catch (const std::bad_alloc&) {
        w.check(model::faults() > 0, "bad_alloc without a fault");
      }
      queue.run_all();
    });
  }

  /// Takes a number; other threads may run while it does.
  int load() {
    const int number = begin();
    arrive(model::op::load, nullptr, std::source_location::current());
    return number;
  }
  int loads() const { return static_cast<int>(began_.size()); }

  int get() {
    const int began = tick();
    const auto got = value->get();
    const int number = got->look();
    const model::spared books;
    seen_.push_back({number, began, got.version(), model::this_thread()});
    return number;
  }
  bool reload() {
    const int called = tick();
    const bool changed = value->reload();
    const int returned = tick();
    const model::spared books;
    over_.push_back({called, returned});
    return changed;
  }
  void set() {
    const int called = tick();
    const int number = begin();
    value->set(item(number));
    const int returned = tick();
    const model::spared books;
    began_[static_cast<std::size_t>(number) - 1] = returned;  // concurrent changes came before
    over_.push_back({called, returned});
  }

  /// Checks that every reader saw a value that it may see, and destroys the value.
  void finish() {
    queue.run_all();
    w.run();
    for (const sight& s : seen_) {
      for (const change& c : over_) {
        w.check(c.returned > s.began || began_[static_cast<std::size_t>(s.number) - 1] > c.called,
                "a value was seen that is older than a reload or a set that was over");
      }
      for (const sight& later : seen_) {
        w.check(later.thread != s.thread || later.began < s.began || later.version >= s.version,
                "a thread saw an older version after a newer one");
      }
    }
    value.reset();
    queue.run_all();
    singleflight::detail::hazard_domain::instance().reclaim(nullptr);
  }

  world& w;
  model::queue_executor queue;
  /// What the loader does; by default it calls load().
  std::function<int()> loader = [this] { return load(); };
  std::unique_ptr<live> value;

 private:
  struct sight {
    int number, began;
    std::uint64_t version;
    int thread;
  };
  struct change {
    int called, returned;
  };

  int begin() {
    const model::spared books;
    began_.push_back(tick());
    return static_cast<int>(began_.size());
  }
  int tick(const std::source_location& line = std::source_location::current()) {
    arrive(model::op::exchange, this, line);
    return ++time_;
  }

  int time_ = 0;
  std::vector<int> began_;
  std::vector<sight> seen_;
  std::vector<change> over_;
};

/// A listener, and a record of its calls.
struct recorder {
  explicit recorder(live_scene& of) : s(of) {}
  void operator()(const item& before, const item& now) {
    s.w.check(inside.exchange(1, std::memory_order_relaxed) == 0, "two calls at once");
    s.w.check(!ended, "a call after its end");
    s.w.check(last == 0 || last == before.look(), "a change that does not follow the last");
    last = now.look();
    ++calls;
    arrive(model::op::load, nullptr, std::source_location::current());
    s.w.check(!ended, "its end did not wait for its call");
    inside.store(0, std::memory_order_relaxed);
  }
  subscription listens() {
    return s.value->on_change(
        [this](const item& before, const item& now) { (*this)(before, now); });
  }

  live_scene& s;
  platform::atomic<int> inside{0};
  int last = 0;
  int calls = 0;
  bool ended = false;
};

// ---- readers during changes ---------------------------------------------------------------------

const add_world set_during_reload("19: live_value: set during reload", two, [](world& w) {
  live_scene s(w);
  s.thread([&] {
    s.reload();
    (void)s.get();
  });
  s.thread([&] {
    s.set();
    (void)s.get();
  });
  w.run();
  (void)s.get();
  s.finish();
});

const add_world two_reloads("19: live_value: reload during reload", two, [](world& w) {
  live_scene s(w);
  for (int i = 0; i < 2; ++i) {
    s.thread([&] {
      s.reload();
      (void)s.get();
    });
  }
  w.run();
  w.check(s.loads() <= 3, "more loads than reloads");
  s.finish();
});

const add_world two_sets("live_value: a reader during two sets", two, [](world& w) {
  live_scene s(w);
  s.thread([&] { s.set(); });
  s.thread([&] { s.set(); });
  s.thread([&] {
    (void)s.get();
    (void)s.get();
  });
  w.run();
  w.check(s.value->stats().version == 3, "a version was lost");
  s.finish();
});

const add_world held("live_value: a version is held as it is replaced, and its value is destroyed",
                     two, [](world& w) {
                       live_scene s(w);
                       gate mine;
                       s.thread([&] {
                         auto first = s.value->get();
                         const auto copy = first;
                         const int number = first->look();
                         mine.open();
                         w.check(copy->look() == number, "another value");
                         const auto shared = std::move(first).share();
                         w.check(shared->look() == number, "another value");
                       });
                       s.thread([&] {
                         s.set();
                         mine.wait();
                         s.value.reset();
                       });
                       w.run();
                       s.finish();
                     });

const add_world overtaken("27: live_value: a load that hangs ends after the next one", two,
                          [](world& w) {
                            manual_timer time;
                            live_scene s(w, {.group = {.timer = &time, .load_timeout = 5s}});
                            gate runs;
                            gate ends;
                            s.loader = [&] {
                              const int number = s.load();
                              if (number == 2) {
                                runs.open();
                                ends.wait();
                              }
                              return number;
                            };
                            s.thread([&] { s.value->reload(); });
                            s.thread([&] {
                              runs.wait();
                              time.advance(5s);
                              ends.open();
                              s.reload();
                              (void)s.get();
                            });
                            w.run();
                            (void)s.get();
                            s.finish();
                          });

const add_world set_and_fault("19: live_value: set during reload, a fault", two_and_a_fault,
                              [](world& w) {
                                live_scene s(w);
                                s.thread([&] {
                                  s.reload();
                                  (void)s.get();
                                });
                                s.thread([&] { s.set(); });
                                w.run();
                                s.finish();
                              });

/// Values that may be equal: they are compared with no lock held.
const add_world equal_sets("live_value: two sets of the same value", three, [](world& w) {
  singleflight::live_value<int> value([] { return 1; });
  bool changed[2] = {};
  w.thread([&] { changed[0] = value.set(2); });
  w.thread([&] { changed[1] = value.set(2); });
  w.run();
  w.check(changed[0] != changed[1], "two sets of one value did not make one change");
  w.check(*value.get() == 2 && value.get().version() == 2, "versions");
});

// ---- listeners ----------------------------------------------------------------------------------

const add_world called_in_order("live_value: a listener during two sets", two, [](world& w) {
  live_scene s(w);
  recorder e(s);
  {
    const subscription listens = e.listens();
    s.thread([&] { s.set(); });
    s.thread([&] { s.set(); });
    w.run();
    w.check(e.calls == 2 && e.last == s.value->get()->look(), "a change was not reported");
  }
  s.finish();
});

const add_world called_again("live_value: a change as the last one has been reported", three,
                             [](world& w) {
                               live_scene s(w);
                               recorder e(s);
                               {
                                 const subscription listens = e.listens();
                                 s.set();
                                 s.thread([&] { s.queue.run_all(); });
                                 s.thread([&] { s.set(); });
                                 w.run();
                                 w.check(e.calls == 2, "a change was not reported");
                               }
                               s.finish();
                             });

const add_world falls_behind("live_value: a listener that falls behind", two, [](world& w) {
  live_scene s(w, {.max_changes = 1});
  recorder e(s);
  {
    const subscription listens = e.listens();
    for (int i = 0; i < 3; ++i) s.set();
    s.thread([&] { s.set(); });
    s.thread([&] { s.queue.run_all(); });
    w.run();
    const auto merged = s.value->stats().changes_merged;
    w.check(merged >= 2, "more changes wait than max_changes");
    w.check(e.calls + static_cast<int>(merged) == 4, "a change was lost");
    w.check(e.last == s.value->get()->look(), "the latest version was not reported");
  }
  s.finish();
});

const add_world newcomer("live_value: a listener subscribes during a change", two, [](world& w) {
  live_scene s(w);
  recorder old(s);
  recorder e(s);
  {
    const subscription always = old.listens();
    subscription listens;
    s.thread([&] {
      s.set();
      s.set();
    });
    int after = 0;
    s.thread([&] {
      const int before = s.get();
      listens = e.listens();
      after = s.get();
      s.queue.run_all();
      w.check(e.calls == 0 || e.last > before, "a call for a change before its subscription");
    });
    w.run();
    w.check(after == 3 || e.last == 3, "a change was not reported");
    w.check(old.calls == 2, "a change was not reported");
  }
  s.finish();
});

const add_world leaver("live_value: a subscription ends during a change", three, [](world& w) {
  live_scene s(w);
  recorder e(s);
  subscription listens = e.listens();
  s.thread([&] { s.set(); });
  s.thread([&] {
    listens.end();
    w.check(e.inside.load(std::memory_order_relaxed) == 0, "its end did not wait for its call");
    e.ended = true;
  });
  w.run();
  s.finish();
});

const add_world one_leaves("live_value: the listener that is next leaves", two, [](world& w) {
  live_scene s(w);
  recorder first(s);
  recorder second(s);
  recorder third(s);
  {
    const subscription one = first.listens();
    subscription next = second.listens();
    const subscription last = third.listens();
    s.thread([&] { s.set(); });
    s.thread([&] {
      next.end();
      second.ended = true;
    });
    w.run();
    w.check(first.calls == 1 && third.calls == 1, "a change was not reported");
  }
  s.finish();
});

const add_world removes_itself("live_value: a listener ends itself, and the next", two,
                               [](world& w) {
                                 live_scene s(w);
                                 recorder e(s);
                                 subscription own;
                                 subscription other;
                                 own = s.value->on_change([&](const item&, const item&) {
                                   other.end();
                                   e.ended = true;
                                   own.end();
                                 });
                                 other = e.listens();
                                 s.thread([&] { s.set(); });
                                 s.thread([&] { s.set(); });
                                 w.run();
                                 s.finish();
                               });

const add_world reloads("live_value: a listener reloads", two, [](world& w) {
  live_scene s(w);
  int calls = 0;
  {
    const subscription listens = s.value->on_change([&](const item&, const item& now) {
      const int number = now.look();
      if (++calls == 1) s.reload();
      w.check(s.get() >= number, "a listener sees an older value");
    });
    s.thread([&] { s.set(); });
    s.thread([&] { (void)s.get(); });
    w.run();
    w.check(calls == 2, "a change was not reported");
  }
  s.finish();
});

// ---- the end ------------------------------------------------------------------------------------

const add_world called_at_the_end("live_value: it is destroyed as its task calls the listener", two,
                                  [](world& w) {
                                    live_scene s(w);
                                    recorder e(s);
                                    subscription listens = e.listens();
                                    s.set();
                                    s.set();
                                    s.thread([&] { s.queue.run_all(); });
                                    s.thread([&] {
                                      s.value.reset();
                                      e.ended = true;
                                    });
                                    w.run();
                                    listens = {};
                                    s.finish();
                                  });

const add_world task_stays("live_value: it is destroyed while its listeners' task is queued", two,
                           [](world& w) {
                             live_scene s(w);
                             recorder e(s);
                             subscription listens = e.listens();
                             s.set();
                             s.thread([&] { s.queue.run_one(); });
                             s.thread([&] {
                               listens.end();
                               e.ended = true;
                               s.value.reset();
                             });
                             w.run();
                             s.finish();
                           });

const add_world schedule_ends("live_value: it is destroyed during its schedule", two, [](world& w) {
  manual_timer time;
  bool ended = false;
  live_scene s(w, {.reload_every = 1s,
                   .on_error =
                       [&](const std::exception_ptr&) {
                         arrive(model::op::load, nullptr, std::source_location::current());
                         w.check(!ended, "a report after the end");
                       },
                   .group = {.timer = &time}});
  s.loader = [&]() -> int {
    s.load();
    throw std::runtime_error("no value");
  };
  s.thread([&] { time.advance(1s); });
  s.thread([&] {
    s.value.reset();
    ended = true;
  });
  w.run();
  time.advance(10s);
  w.run();
  s.finish();
});

const add_world schedule("live_value: a reload during the schedule", two, [](world& w) {
  manual_timer time;
  live_scene s(w, {.reload_every = 1s, .group = {.timer = &time}});
  s.thread([&] { time.advance(1s); });
  s.thread([&] {
    s.reload();
    (void)s.get();
  });
  w.run();
  const int so_far = s.loads();
  time.advance(1s);
  s.queue.run_all();
  w.run();
  w.check(s.loads() == so_far + 1, "the schedule has ended");
  s.finish();
});

// ---- fork ---------------------------------------------------------------------------------------
// The child of a thread that has an event loop: the queue exists, and its tasks run in the child.

/// Called in both processes: a change whose call was running on another thread is reported again.
struct child_recorder {
  child_recorder(live_scene& of, gate& at_last) : s(of), done(at_last) {}
  void operator()(const item& before, const item& now) {
    const int self = model::this_thread();
    const int other = inside.exchange(self, std::memory_order_relaxed);
    s.w.check(other == 0 || (other == vanishes && self != vanishes), "56: calls on two threads");
    const bool again = last == now.look() && self != vanishes;
    s.w.check(last == 0 || last == before.look() || again,
              "56: a change was lost, or reported twice");
    last = now.look();
    arrive(model::op::load, nullptr, std::source_location::current());
    inside.store(0, std::memory_order_relaxed);
    if (now.look() == awaited.load(std::memory_order_relaxed)) done.open();
  }
  subscription listens() {
    return s.value->on_change(
        [this](const item& before, const item& now) { (*this)(before, now); });
  }
  /// In the child: runs the queued tasks, and waits until a last change has been reported.
  void receives_all() {
    s.queue.run_all();
    awaited.store(s.loads() + 1, std::memory_order_relaxed);
    s.set();
    s.queue.run_all();
    done.wait();
  }

  live_scene& s;
  gate& done;
  int vanishes = 0;  ///< the thread that calls it before the fork
  platform::atomic<int> inside{0};
  platform::atomic<int> awaited{0};
  int last = 0;
};

const add_world forks_before_loop("56: a fork during a change, in an event loop", two,
                                  [](world& w) {
                                    live_scene s(w);
                                    gate received;
                                    child_recorder e(s, received);
                                    subscription listens = e.listens();
                                    s.set();
                                    w.thread([&] { s.set(); });
                                    w.thread([&] {
                                      platform::fork();
                                      e.receives_all();
                                      listens.end();
                                      s.value.reset();
                                      s.queue.run_all();
                                    });
                                    w.run();
                                  });

const add_world forks_during_call("56: a fork as a task calls the listener", two, [](world& w) {
  live_scene s(w);
  gate received;
  child_recorder e(s, received);
  subscription listens = e.listens();
  s.set();
  w.thread([&] {
    e.vanishes = model::this_thread();
    s.queue.run_all();
  });
  w.thread([&] {
    platform::fork();
    e.receives_all();
    listens.end();
    s.value.reset();
    s.queue.run_all();
  });
  w.run();
});

/// Wraps a timer, and checks that no node is armed that is armed already.
class watched_timer final : public singleflight::timer {
 public:
  watched_timer(world& in, timer& of) : w_(in), of_(of) {}
  time_point now() const noexcept override { return of_.now(); }
  void arm(singleflight::timer_node& node, time_point when) override {
    w_.check(node.next == nullptr, "56: an alarm is armed twice");
    last = when;
    of_.arm(node, when);
  }
  void cancel(singleflight::timer_node& node) noexcept override { of_.cancel(node); }

  time_point last;  ///< the time that the last alarm was armed for

 private:
  world& w_;
  timer& of_;
};

const add_world forks_during_schedule("56: a fork during the schedule", two, [](world& w) {
  manual_timer time;
  watched_timer watched(w, time);
  live_scene s(w, {.reload_every = 1s, .group = {.timer = &watched}});
  w.thread([&] {
    time.advance(1s);
    s.queue.run_all();
  });
  w.thread([&] {
    platform::fork();
    s.queue.run_all();
    const int so_far = s.loads();
    time.advance(1s);
    s.queue.run_all();
    w.check(s.loads() == so_far + 1, "56: the schedule has ended in a child, or loads twice");
    s.value.reset();
    s.queue.run_all();
    time.advance(10s);
  });
  w.run();
});

// The load of the forking thread is joined by the schedule, or has not begun yet, or is over.
const add_world forks_in_reload("56: a reload that forks during the schedule", two, [](world& w) {
  manual_timer time;
  watched_timer watched(w, time);
  live_scene s(w, {.reload_every = 1s, .group = {.timer = &watched}});
  bool forked = false;
  int forker = 0;
  s.loader = [&] {
    const int number = s.load();
    if (model::this_thread() == forker && !std::exchange(forked, true)) platform::fork();
    return number;
  };
  w.thread([&] {
    time.advance(1s);
    s.queue.run_all();
  });
  w.thread([&] {
    forker = model::this_thread();
    s.value->reload();
    if (!forked) return;
    s.queue.run_all();
    const int so_far = s.loads();
    time.advance(1s);
    s.queue.run_all();
    w.check(s.loads() == so_far + 1, "56: the schedule has ended in a child, or loads twice");
    s.value.reset();
    s.queue.run_all();
    time.advance(10s);
  });
  w.run();
});

// The alarm is due as the process forks, and the child's timer may fire it at once, while the task
// that reports a change is posted again.
const add_world forks_as_it_is_due("56: a fork as a schedule is due", two, [](world& w) {
  watched_timer watched(w, singleflight::default_timer());
  live_scene s(w, {.reload_every = 10ns, .jitter = 0, .group = {.timer = &watched}});
  const auto nap_until = [](std::chrono::steady_clock::time_point until) {
    const platform::atomic<unsigned> nobody{0};
    while (platform::now() < until) (void)platform::wait(nobody, 0U, platform::nap_channel, &until);
  };
  subscription listens = s.value->on_change([](const item&, const item&) {});
  s.set();
  w.thread([&, due = watched.last] {
    nap_until(due);
    platform::fork();
    const int so_far = s.loads();
    for (int i = 0; i < 2; ++i) {
      nap_until(platform::now() + 10ns);
      s.queue.run_all();
    }
    w.check(s.loads() > so_far, "56: the schedule has ended in a child");
    listens.end();
    s.value.reset();
    s.queue.run_all();
  });
  w.run();
});

}  // namespace
