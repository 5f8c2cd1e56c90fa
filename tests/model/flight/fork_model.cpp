// SPDX-License-Identifier: Apache-2.0

// A process that forks: all other threads stop where they are. Whoever waits for one of them, or
// for a lock that it holds, waits for ever: a deadlock, or a livelock. What stands on its stack is a
// frame that has gone.

#include <memory>

#include "model/flight/scene.hpp"

namespace {

using model::add_world;
using model::ints;
using model::queue_executor;
using model::two;
using model::world;
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
    w.thread([this, what] {
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

  world& w;
  queue_executor queue;
  std::unique_ptr<ints> flights;
};

const add_world beside_run("56: a fork beside two runs", two, [](world& w) {
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

// A load that forks goes on; those who had joined it are not there any more.
const add_world within("56: a load that forks beside a joiner", two, [](world& w) {
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

}  // namespace
