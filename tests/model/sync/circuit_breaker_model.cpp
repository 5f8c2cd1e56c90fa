// SPDX-License-Identifier: Apache-2.0

// The circuit breaker: which calls are admitted as it opens, half-opens and closes, and which
// results count.

#include <chrono>
#include <stdexcept>

#include "model/worlds.hpp"
#include "support/model/gate.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/sync/circuit_breaker.hpp>

namespace {

using model::add_world;
using model::gate;
using model::three;
using model::world;
using singleflight::as_outcome;
using singleflight::breaker_state;
using singleflight::circuit_breaker;
using singleflight::flight_errc;
using singleflight::flight_error;
using namespace std::chrono_literals;
namespace platform = singleflight::detail::platform;

struct failure {};

/// A breaker that one failure opens, for a second; one good probe closes it.
struct breaker_site {
  explicit breaker_site(world& in) : w(in), breaker(options(*this)) {}
  breaker_site(const breaker_site&) = delete;
  breaker_site& operator=(const breaker_site&) = delete;

  static singleflight::circuit_breaker_options options(breaker_site& s) {
    return {.min_calls = 1,
            .open_for = 1s,
            .probes = 1,
            .on_change = [&s](breaker_state from, breaker_state to) { s.changed(from, to); },
            .timer = &s.time};
  }
  void changed(breaker_state from, breaker_state to) {
    w.check(inside.exchange(1, std::memory_order_relaxed) == 0, "two changes at a time");
    w.check(last.load(std::memory_order_relaxed) == from, "changes out of order");
    w.check(from != breaker_state::closed || to == breaker_state::open, "half open from closed");
    last.store(to, std::memory_order_relaxed);
    inside.store(0, std::memory_order_relaxed);
  }
  void fail() {
    (void)breaker.call(as_outcome, [] { throw failure(); });
  }
  bool succeed() {
    return breaker.call(as_outcome, [] {}).has_value();
  }
  void finish(breaker_state state) {
    w.check(breaker.state() == state, "the breaker is in another state");
    w.check(last.load(std::memory_order_relaxed) == state, "a change was not reported");
  }

  world& w;
  singleflight::manual_timer time;
  platform::atomic<int> inside{0};
  platform::atomic<breaker_state> last{breaker_state::closed};
  circuit_breaker breaker;
};

// The probe waits for the other call's end, so the other one has to be rejected.
const add_world one_probe("circuit_breaker: two calls as open_for ends", three, [](world& w) {
  breaker_site s(w);
  s.breaker.force_open();
  s.time.advance(1s);
  gate other_ended;
  platform::atomic<int> probes{0};
  for (int i = 0; i < 2; ++i) {
    w.thread([&] {
      const auto o = s.breaker.call(as_outcome, [&] {
        w.check(probes.fetch_add(1, std::memory_order_relaxed) == 0, "two calls became probes");
        other_ended.wait();
      });
      w.check(o || o.errc() == flight_errc::rejected, "a call was neither admitted nor rejected");
      other_ended.open();
    });
  }
  w.run();
  w.check(probes.load(std::memory_order_relaxed) == 1, "no call became the probe");
  s.finish(breaker_state::closed);
});

// The other call may have seen the breaker half open, and take the lock after the breaker has
// closed and open_for has passed once more.
const add_world closes("circuit_breaker: a call as the probe closes", three, [](world& w) {
  breaker_site s(w);
  s.breaker.force_open();
  s.time.advance(1s);
  gate half_open;
  w.thread([&] {
    (void)s.breaker.call(as_outcome, [&] { half_open.open(); });
    s.time.advance(2s);
  });
  w.thread([&] {
    half_open.wait();
    (void)s.succeed();
  });
  w.run();
  s.finish(breaker_state::closed);
});

// The late call fails where one failure would open the breaker.
const add_world late("circuit_breaker: a late result", three, [](world& w) {
  breaker_site s(w);
  gate began;
  gate closed_again;
  w.thread([&] {
    (void)s.breaker.call(as_outcome, [&] {
      began.open();
      closed_again.wait();
      throw failure();
    });
  });
  w.thread([&] {
    began.wait();
    s.fail();
    s.time.advance(1s);
    w.check(s.succeed(), "the probe was rejected");
    closed_again.open();
  });
  w.run();
  w.check(s.breaker.stats().failures == 1, "a late result counts");
  s.finish(breaker_state::closed);
});

// A probe hangs until another call has ended, so that call has to be admitted.
const add_world hung("circuit_breaker: a probe that hangs", three, [](world& w) {
  breaker_site s(w);
  s.breaker.force_open();
  s.time.advance(1s);
  gate hangs;
  gate other_ended;
  w.thread([&] {
    (void)s.breaker.call(as_outcome, [&] {
      hangs.open();
      other_ended.wait();
      throw failure();
    });
  });
  w.thread([&] {
    hangs.wait();
    s.time.advance(1s);
    w.check(s.succeed(), "a probe that hangs keeps all others out");
    other_ended.open();
  });
  w.run();
  w.check(s.breaker.stats().failures == 0, "a late probe counts");
  s.finish(breaker_state::closed);
});

// The overdue probe never ends. The call that is admitted in addition to it waits for the other's
// end, so the other one has to be rejected.
const add_world overdue("circuit_breaker: two calls during an overdue probe", three, [](world& w) {
  breaker_site s(w);
  singleflight::detail::breaker_core core(breaker_site::options(s));
  core.force_open();
  s.time.advance(1s);
  w.check(static_cast<bool>(core.admit()), "the probe was rejected");
  s.time.advance(1s);
  gate other_ended;
  platform::atomic<int> probes{0};
  for (int i = 0; i < 2; ++i) {
    w.thread([&] {
      if (const auto leave = core.admit()) {
        w.check(probes.fetch_add(1, std::memory_order_relaxed) == 0, "two for one overdue probe");
        other_ended.wait();
        core.settle(leave, singleflight::detail::call_result::success);
      }
      other_ended.open();
    });
  }
  w.run();
  w.check(probes.load(std::memory_order_relaxed) == 1, "none for an overdue probe");
  w.check(core.state() == breaker_state::closed, "the result of the second probe does not count");
});

// A probe that hung ends within the next round, whose verdict is still open.
const add_world late_probe("circuit_breaker: a late probe", three, [](world& w) {
  breaker_site s(w);
  s.breaker.force_open();
  s.time.advance(1s);
  gate hangs;
  gate next_round;
  gate back;
  w.thread([&] {
    (void)s.breaker.call(as_outcome, [&] {
      hangs.open();
      next_round.wait();
      throw failure();
    });
    w.check(s.breaker.state() == breaker_state::half_open, "a late probe decides the next round");
    back.open();
  });
  w.thread([&] {
    hangs.wait();
    s.time.advance(1s);
    s.fail();
    w.check(s.breaker.state() == breaker_state::open, "the round continues after its verdict");
    s.time.advance(1s);
    const auto o = s.breaker.call(as_outcome, [&] {
      next_round.open();
      back.wait();
    });
    w.check(o.has_value(), "no round follows");
  });
  w.run();
  w.check(s.breaker.stats().failures == 1, "a late probe counts");
  s.finish(breaker_state::closed);
});

const add_world cancelled("circuit_breaker: a cancelled probe during a call", three, [](world& w) {
  breaker_site s(w);
  s.breaker.force_open();
  s.time.advance(1s);
  w.thread([&] {
    (void)s.breaker.call(as_outcome, [] { throw flight_error(flight_errc::cancelled); });
  });
  w.thread([&] { (void)s.succeed(); });
  w.run();
  w.check(s.breaker.state() == breaker_state::closed || s.succeed(), "a place was lost");
  s.finish(breaker_state::closed);
});

const add_world changes("circuit_breaker: a failure during reset", three, [](world& w) {
  breaker_site s(w);
  w.thread([&] { s.fail(); });
  w.thread([&] { s.breaker.reset(); });
  w.run();
  const breaker_state state = s.breaker.state();
  w.check(state != breaker_state::half_open, "half open without a probe");
  s.finish(state);
});

// A failure, and a success that ends the bucket: the window turns during a count.
const add_world turns("circuit_breaker: the window turns during a failure", three, [](world& w) {
  breaker_site s(w);
  s.time.advance(1s);  // the first bucket is over
  w.thread([&] { (void)s.succeed(); });
  w.thread([&] { s.fail(); });
  w.run();
  const auto stats = s.breaker.stats();
  w.check(stats.failures == 1, "a failure was lost");
  w.check(stats.calls + stats.rejected >= 1 && stats.calls <= 2, "a call was lost");
  s.finish(breaker_state::open);
});

}  // namespace
