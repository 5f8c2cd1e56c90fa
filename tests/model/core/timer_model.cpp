// SPDX-License-Identifier: Apache-2.0

// The timers: arming, firing and cancelling at the same time. A node may be freed as soon as it is
// cancelled, so most nodes here are, and the model finds later uses of them.

#include <chrono>
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
using singleflight::default_timer;
using singleflight::manual_timer;
using namespace std::chrono_literals;
namespace platform = singleflight::detail::platform;

/// Counts its fires; each begins and ends with a step that uses the node.
class alarm : public singleflight::timer_node {
 public:
  using reaction = std::function<void(alarm&)>;
  explicit alarm(reaction on_fire = {}) : timer_node(&fire_alarm), on_fire_(std::move(on_fire)) {}
  int fired() const { return fired_.load(std::memory_order_relaxed); }

 private:
  static void fire_alarm(timer_node& node) noexcept {
    auto& self = static_cast<alarm&>(node);
    self.fired_.fetch_add(1, std::memory_order_relaxed);
    if (self.on_fire_) self.on_fire_(self);
    self.over_.store(1, std::memory_order_relaxed);
  }
  reaction on_fire_;
  platform::atomic<int> fired_{0};
  platform::atomic<int> over_{0};
};

/// A node in memory of its own, freed when it is cancelled.
class guest {
 public:
  guest(singleflight::timer& at, std::chrono::nanoseconds in, alarm::reaction on_fire = {})
      : timer_(at), node_(std::make_unique<alarm>(std::move(on_fire))) {
    timer_.arm(*node_, timer_.now() + in);
  }
  alarm& operator*() const { return *node_; }
  /// Cancels and frees the node; returns how often it fired.
  int cancel() {
    timer_.cancel(*node_);
    const int times = node_->fired();
    node_.reset();
    return times;
  }
  ~guest() {
    if (node_ != nullptr) timer_.cancel(*node_);
  }
  guest(const guest&) = delete;
  guest& operator=(const guest&) = delete;

 private:
  singleflight::timer& timer_;
  std::unique_ptr<alarm> node_;
};

// ---- manual_timer -------------------------------------------------------------------------------

const add_world cancel_during_advance("manual_timer: cancel during advance", three, [](world& w) {
  manual_timer time;
  guest a(time, 1s);
  w.thread([&] { time.advance(2s); });
  w.thread([&] { w.check(a.cancel() <= 1, "a node fired twice"); });
  w.run();
});

const add_world two_cancels("manual_timer: two cancels during one advance", two, [](world& w) {
  manual_timer time;
  guest a(time, 1s);
  guest b(time, 2s);
  w.thread([&] { time.advance(3s); });
  w.thread([&] { w.check(a.cancel() <= 1, "a node fired twice"); });
  w.thread([&] { w.check(b.cancel() <= 1, "a node fired twice"); });
  w.run();
});

const add_world one_node_two_cancels("manual_timer: two cancels of one node", two, [](world& w) {
  manual_timer time;
  guest a(time, 1s);
  gate cancelled;
  w.thread([&] { time.advance(2s); });
  w.thread([&] {
    time.cancel(*a);
    cancelled.open();
  });
  w.thread([&] {
    time.cancel(*a);
    cancelled.wait();
    w.check(a.cancel() <= 1, "a node fired twice");
  });
  w.run();
});

const add_world arm_during_advance("manual_timer: arm during advance", three, [](world& w) {
  manual_timer time;
  const auto start = time.now();
  alarm early;
  alarm due;
  alarm later;
  time.arm(early, start + 1s);
  w.thread([&] {
    time.advance(2s);
    w.check(early.fired() == 1, "advance has returned before a node fired that was due");
  });
  w.thread([&] {
    time.arm(due, start + 1s);
    time.arm(later, start + 3s);
  });
  w.run();
  w.check(due.fired() == 1, "a node that is due did not fire once");
  w.check(later.fired() == 0, "a node fired before its time");
  time.advance(1s);
  w.check(early.fired() == 1 && due.fired() == 1 && later.fired() == 1, "a node did not fire once");
});

const add_world advance_during_arm(
    "manual_timer: advance as a node is armed that is due at once", three, [](world& w) {
      manual_timer time;
      alarm early;
      alarm due;
      time.arm(early, time.now() + 1s);
      w.thread([&] {
        time.advance(2s);
        w.check(early.fired() == 1, "advance has returned before a node fired");
      });
      w.thread([&] { time.arm(due, time.now()); });
      w.run();
      w.check(due.fired() == 1, "a node that is due did not fire once");
    });

const add_world cancel_during_both(
    "manual_timer: cancel during advance and arm", two, [](world& w) {
      manual_timer time;
      const auto start = time.now();
      guest a(time, 1s);
      alarm due;
      w.thread([&] { time.advance(1s); });
      w.thread([&] { time.arm(due, start); });
      w.thread([&] { w.check(a.cancel() <= 1, "a node fired twice"); });
      w.run();
      w.check(due.fired() == 1, "a node that is due did not fire once");
    });

const add_world in_order("manual_timer: nodes fire in order", two, [](world& w) {
  manual_timer time;
  alarm first;
  alarm second([&](alarm&) { w.check(first.fired() == 1, "a later node overtook an earlier"); });
  alarm another;
  time.arm(second, time.now() + 2s);
  time.arm(first, time.now() + 1s);
  w.thread([&] { time.advance(1s); });
  w.thread([&] { time.advance(1s); });
  w.thread([&] { time.arm(another, time.now() + 1s); });
  w.run();
  w.check(first.fired() == 1 && second.fired() == 1, "a node did not fire once");
  time.advance(1s);
  w.check(another.fired() == 1, "a node did not fire once");
});

const add_world fired_before("manual_timer: advance by a thread that fired before", two,
                             [](world& w) {
                               manual_timer time;
                               alarm due;
                               alarm first;
                               alarm second;
                               time.arm(second, time.now() + 2s);
                               time.arm(first, time.now() + 1s);
                               w.thread([&] {
                                 time.arm(due, time.now());
                                 time.advance(1s);
                                 w.check(first.fired() == 1,
                                         "advance has returned before a due node fired");
                               });
                               w.thread([&] { time.advance(1s); });
                               w.run();
                               w.check(second.fired() == 1, "a node did not fire once");
                             });

const add_world fire_arms("manual_timer: a fire arms another", three, [](world& w) {
  manual_timer time;
  const auto start = time.now();
  alarm b;
  alarm a([&](alarm&) { time.arm(b, start + 1s); });  // due already
  alarm c;
  time.arm(a, start + 1s);
  w.thread([&] {
    time.advance(2s);
    w.check(b.fired() == 1, "advance has returned before a node fired that a fire armed");
  });
  w.thread([&] { time.arm(c, start + 1s); });
  w.run();
  w.check(a.fired() == 1 && b.fired() == 1 && c.fired() == 1, "a node did not fire once");
});

const add_world arms_again("manual_timer: cancel during a fire that arms again", three,
                           [](world& w) {
                             manual_timer time;
                             guest a(time, 1s,
                                     [&](alarm& self) { time.arm(self, self.when + 2s); });
                             w.thread([&] {
                               time.advance(2s);
                               time.advance(2s);
                             });
                             w.thread([&] { (void)a.cancel(); });
                             w.run();
                             time.advance(2s);
                           });

const add_world arms_again_due(
    "manual_timer: cancel during a fire that arms again, due", three, [](world& w) {
      manual_timer time;
      guest a(time, 1s, [&](alarm& self) { time.arm(self, self.when + 1s); });
      w.thread([&] { time.advance(2s); });
      w.thread([&] { w.check(a.cancel() <= 2, "a node fired more often than armed"); });
      w.run();
      time.advance(2s);
    });

const add_world fire_cancels("manual_timer: a fire cancels another that is due", three,
                             [](world& w) {
                               manual_timer time;
                               const auto start = time.now();
                               guest b(time, 2s, [&](alarm&) { w.fail("a cancelled node fired"); });
                               alarm a([&](alarm&) { (void)b.cancel(); });
                               alarm c;
                               time.arm(a, start + 1s);
                               w.thread([&] { time.advance(3s); });
                               w.thread([&] { time.arm(c, start + 2s); });
                               w.run();
                               w.check(a.fired() == 1 && c.fired() == 1,
                                       "a node did not fire once");
                             });

const add_world own_fire("manual_timer: cancel within the node's fire", three, [](world& w) {
  manual_timer time;
  guest a(time, 1s, [&](alarm& self) { time.cancel(self); });
  w.thread([&] { time.advance(2s); });
  w.thread([&] { w.check(a.cancel() <= 1, "a node fired twice"); });
  w.run();
});

// The three move down from one slot in several rounds, the latest first.
const add_world crowd("manual_timer: a crowd is due during arm and cancel", two, [](world& w) {
  manual_timer time;
  const auto start = time.now();
  int before = 0;  // how many have fired; used by the thread that fires
  const auto at_place = [&](int place) {
    return [&w, &before, place](alarm&) {
      w.check(before <= place, "a later node overtook an earlier");
      before = place;
    };
  };
  alarm last(at_place(3));
  alarm first(at_place(1));
  alarm late;
  time.arm(last, start + 3s + 300ns);
  guest middle(time, 3s + 200ns, at_place(2));
  time.arm(first, start + 3s + 100ns);
  w.thread([&] {
    time.advance(4s);
    w.check(first.fired() == 1 && last.fired() == 1, "advance has returned before all fired");
  });
  w.thread([&] { w.check(middle.cancel() <= 1, "a node fired twice"); });
  w.thread([&] {
    time.arm(late, start + 5s);
    time.cancel(late);
  });
  w.run();
  w.check(late.fired() == 0, "a cancelled node fired");
});

// ---- default_timer ------------------------------------------------------------------------------

/// Arms `node`; the first attempt may find no thread for the timer.
void arm(world& w, alarm& node, platform::steady_time when) {
  try {
    default_timer().arm(node, when);
  } catch (const std::system_error&) {
    w.check(model::faults() > 0, "a thread was refused without a fault");
    w.check(node.next == nullptr, "a node that was refused is armed");
    default_timer().arm(node, when);
  }
}

void overtake(world& w) {
  gate has_fired;
  const auto start = platform::now();
  alarm far([&](alarm&) { w.fail("a cancelled node fired"); });
  alarm near([&](alarm& self) {
    w.check(platform::now() == self.when, "a node fired late");
    has_fired.open();
  });
  w.thread([&] {
    arm(w, far, start + 10s);
    has_fired.wait();
    default_timer().cancel(far);
  });
  w.thread([&] { arm(w, near, start + 1s); });
  w.run();
  w.check(near.fired() == 1, "a node did not fire once");
}
const add_world overtakes("default_timer: an earlier node overtakes", two, overtake);
const add_world overtakes_fault("default_timer: an earlier node overtakes, a fault",
                                two_and_a_fault, overtake);

void cancel_during_fire(world& w) {
  alarm* const node = new alarm;
  w.thread([&, node] {
    arm(w, *node, platform::now());
    default_timer().cancel(*node);
    w.check(node->fired() <= 1, "a node fired twice");
    delete node;
  });
  w.run();
}
const add_world steady_cancel("default_timer: cancel during fire", three, cancel_during_fire);
const add_world steady_cancel_fault("default_timer: cancel during fire, a fault", two_and_a_fault,
                                    cancel_during_fire);

const add_world cancel_of_first("default_timer: the first node is cancelled", two, [](world& w) {
  gate has_fired;
  const auto start = platform::now();
  alarm second([&](alarm& self) {
    w.check(platform::now() == self.when, "a node did not fire in time");
    has_fired.open();
  });
  alarm* const first = new alarm([&](alarm&) { w.fail("a cancelled node fired"); });
  w.thread([&, first] {
    arm(w, *first, start + 1s);
    default_timer().cancel(*first);
    delete first;
  });
  w.thread([&] {
    arm(w, second, start + 2s);
    has_fired.wait();
  });
  w.run();
  w.check(second.fired() == 1, "a node did not fire once");
});

const add_world steady_again("default_timer: cancel during a fire that arms again", three,
                             [](world& w) {
                               gate has_fired;
                               alarm* const node = new alarm([&](alarm& self) {
                                 has_fired.open();
                                 default_timer().arm(self, self.when + 1s);
                               });
                               w.thread([&, node] {
                                 arm(w, *node, platform::now());
                                 has_fired.wait();
                                 default_timer().cancel(*node);
                                 delete node;
                               });
                               w.run();
                             });

/// Reads the coarse clock now, and again after it has been unused for so long that it parks.
void read_coarse(world& w, int times) {
  platform::atomic<unsigned> nobody{0};
  auto last = platform::steady_time::min();
  for (int i = 0; i < times; ++i) {
    const auto coarse = default_timer().coarse_now();
    const auto exact = platform::now();
    w.check(coarse <= exact && coarse >= exact - 1ms, "the coarse time is old");
    w.check(coarse >= last, "the coarse time went back");
    last = coarse;
    const auto until = exact + (i == 0 ? 1500us : 5000us);
    while (platform::now() < until) (void)platform::wait(nobody, 0U, platform::nap_channel, &until);
  }
}
const add_world coarse("default_timer: coarse_now", three, [](world& w) {
  w.thread([&] { read_coarse(w, 3); });
  w.run();
});
// During a fire, played by a sleep, time passes: what a reader stores meanwhile must stay.
const add_world coarse_and_crowd("default_timer: coarse_now during a long fire", two, [](world& w) {
  gate has_fired;
  alarm slow([&](alarm&) {
    has_fired.open();
    platform::atomic<unsigned> nobody{0};
    const auto until = platform::now() + 500us;
    while (platform::now() < until) (void)platform::wait(nobody, 0U, platform::nap_channel, &until);
  });
  w.thread([&] {
    arm(w, slow, platform::now());
    has_fired.wait();
    platform::atomic<unsigned> nobody{0};
    auto last = platform::steady_time::min();
    for (int i = 0; i < 3; ++i) {
      const auto until = platform::now() + 200us;
      while (platform::now() < until) {
        (void)platform::wait(nobody, 0U, platform::nap_channel, &until);
      }
      const auto seen = default_timer().coarse_now();
      w.check(seen >= last, "the coarse time went back");
      last = seen;
    }
    default_timer().cancel(slow);
  });
  w.run();
});
const add_world coarse_two("default_timer: coarse_now from two threads", two, [](world& w) {
  w.thread([&] { read_coarse(w, 2); });
  w.thread([&] { read_coarse(w, 1); });
  w.run();
});
const add_world coarse_fault("default_timer: coarse_now, a fault", two_and_a_fault, [](world& w) {
  w.thread([&] { read_coarse(w, 2); });
  w.run();
});

const add_world coarse_and_arm("default_timer: coarse_now during arm", two, [](world& w) {
  gate has_fired;
  const auto start = platform::now();
  alarm a([&](alarm& self) {
    w.check(platform::now() == self.when, "a node did not fire in time");
    has_fired.open();
  });
  w.thread([&] { read_coarse(w, 1); });
  w.thread([&] {
    arm(w, a, start + 1200us);
    has_fired.wait();
  });
  w.run();
  w.check(a.fired() == 1, "a node did not fire once");
});

const add_world timer_and_pool("default_timer: inline work of a fire goes to the pool", two,
                               [](world& w) {
                                 gate ran;
                                 int on = 0;
                                 alarm a([&](alarm&) {
                                   on = model::this_thread();
                                   singleflight::inline_executor.execute(singleflight::task([&] {
                                     w.check(model::this_thread() != on,
                                             "work ran on the timer's thread");
                                     ran.open();
                                   }));
                                 });
                                 w.thread([&] {
                                   arm(w, a, platform::now());
                                   ran.wait();
                                   default_timer().cancel(a);
                                 });
                                 w.run();
                               });

// A child of fork has no thread for its timer: an alarm that was armed still fires.
const add_world in_child("56: an alarm in a child", two, [](world& w) {
  gate has_fired;
  alarm armed([&](alarm&) { has_fired.open(); });
  w.thread([&] { guest(default_timer(), 1ns); });
  w.thread([&] {
    default_timer().arm(armed, default_timer().now() + 10ns);
    platform::fork();
    has_fired.wait();
    default_timer().cancel(armed);
  });
  w.run();
});

}  // namespace
