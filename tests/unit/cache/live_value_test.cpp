// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/asleep.hpp"
#include "support/bare_timer.hpp"
#include "support/death.hpp"
#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/sanitizers.hpp"
#include "support/task.hpp"
#include "support/thread_end.hpp"
#include <singleflight/cache/live_value.hpp>
#include <singleflight/core.hpp>

namespace {

namespace sf = singleflight;
using namespace std::chrono_literals;
using sf::live_value;
using strings = std::vector<std::string>;

/// The source of the loads: a number that a test changes.
struct source {
  std::atomic<int> number{1};
  std::atomic<int> loads{0};
  auto loader() {
    return [this] {
      ++loads;
      return number.load();
    };
  }
};

/// Counts the callers that join.
struct joiners : sf::observer {
  void joined(std::uint64_t) noexcept override { ++count; }
  std::atomic<int> count{0};
};

/// A listener that records its calls.
struct journal {
  auto listener(const std::string& name = "") {
    return [this, name](int before, int now) {
      const std::lock_guard hold(lock);
      lines.push_back(name + std::to_string(before) + ">" + std::to_string(now));
    };
  }
  strings take() {
    const std::lock_guard hold(lock);
    return std::exchange(lines, {});
  }
  std::mutex lock;
  strings lines;
};

// ---- reading and reloading ----------------------------------------------------------------------

// Goal    The value is loaded when the live_value is constructed, and can then be read any number
//         of times.
TEST(live_value, is_loaded_once) {
  source from;
  const live_value<int> number(from.loader());
  EXPECT_EQ(*number.get(), 1);
  from.number = 2;
  EXPECT_EQ(*number.get(), 1);
  EXPECT_EQ(number.get().version(), 1U);
  EXPECT_EQ(from.loads, 1);
}

// Goal    The constructor throws the loader's exception.
TEST(live_value, no_first_value) {
  const auto make = [] {
    const live_value<int> number([]() -> int { throw std::out_of_range("no file"); });
  };
  EXPECT_THROW(make(), std::out_of_range);
}

// Goal    With an initial value nothing is loaded until a reload is requested.
TEST(live_value, an_initial_value) {
  source from;
  live_value<int> number(from.loader(), {.initial = 7});
  EXPECT_EQ(*number.get(), 7);
  EXPECT_EQ(number.get().version(), 1U);
  EXPECT_EQ(from.loads, 0);
  EXPECT_TRUE(number.reload());
  EXPECT_EQ(*number.get(), 1);
  EXPECT_EQ(number.get().version(), 2U);
}

// Goal    A reload is visible to every later get; an equal value is no change.
TEST(live_value, reload) {
  source from;
  live_value<int> number(from.loader());
  from.number = 2;
  EXPECT_TRUE(number.reload());
  EXPECT_EQ(*number.get(), 2);
  EXPECT_EQ(number.get().version(), 2U);
  EXPECT_FALSE(number.reload());
  EXPECT_EQ(number.get().version(), 2U);
  EXPECT_EQ(from.loads, 3);
}

// Goal    For values that can be neither compared nor copied, each load is a change.
TEST(live_value, values_that_only_move) {
  struct page {
    std::unique_ptr<int> number;
  };
  live_value<page> number(
      [by = std::make_unique<int>(3)] { return page{std::make_unique<int>(*by)}; });
  EXPECT_TRUE(number.reload());
  EXPECT_EQ(*number.get()->number, 3);
  EXPECT_TRUE(number.set(page{std::make_unique<int>(4)}));
  EXPECT_EQ(*number.get()->number, 4);
  EXPECT_EQ(number.get().version(), 3U);
}

// Goal    A reload that fails throws the loader's error; the last good value stays.
TEST(live_value, a_failed_reload_changes_nothing) {
  bool fails = false;
  live_value<int> number([&]() -> int {
    if (fails) throw std::out_of_range("no source");
    return 1;
  });
  fails = true;
  EXPECT_THROW(number.reload(), std::out_of_range);
  EXPECT_EQ(*number.get(), 1);
  EXPECT_EQ(number.get().version(), 1U);
  EXPECT_EQ(number.stats().load_failures, 1U);
  EXPECT_EQ(number.stats().loads, 2U);
}

// Goal    A reload that is requested while a load runs gets a value that was read after the call,
//         and all such reloads share one load.
// Method  The running load has read the source, and is held until all other reloads have joined:
//         one of them will lead the next load, and the observer reports the others. The source
//         changes before they are called.
TEST(live_value, overlapping_reloads_share_the_next_load) {
  constexpr int others = 4;
  source from;
  joiners in;
  support::gate hold;
  std::atomic<bool> held{false};
  live_value<int> number(
      [&] {
        const int read = from.loader()();
        if (held) hold.wait();
        return read;
      },
      {.group = {.observer = &in}});
  held = true;
  std::jthread leader([&] { number.reload(); });
  hold.await_arrivals();
  from.number = 2;
  std::atomic<int> right{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < others; ++i) {
      threads.emplace_back([&] {
        number.reload();
        if (*number.get() == 2) ++right;
      });
    }
    support::eventually([&] { return in.count == others - 1; }, "the other reloads");
    hold.open();
  }
  EXPECT_EQ(right, others);
  EXPECT_EQ(from.loads, 3) << "at construction, the held one, and one for all others";
}

// Goal    A started reload can be awaited, waited for with or without a limit, or dropped.
TEST(live_value, start_reload) {
  source from;
  support::manual_executor executor;
  live_value<int> number(from.loader(), {.group = {.executor = executor}});
  from.number = 2;
  std::optional<bool> changed;
  const auto awaiting = [&]() -> support::detached {
    auto reload = number.start_reload();
    changed = *co_await reload;
  };
  awaiting();
  EXPECT_EQ(*number.get(), 1);
  while (!changed && executor.run_all() > 0) {
  }
  EXPECT_EQ(changed, true);
  EXPECT_EQ(*number.get(), 2);

  from.number = 3;
  { auto dropped = number.start_reload(); }
  executor.run_all();
  EXPECT_EQ(*number.get(), 3) << "the load must run although nobody waits for it";
}

// Goal    A limit ends the wait for a reload, not the reload.
TEST(live_value, a_bounded_wait) {
  source from;
  support::manual_executor executor;
  sf::manual_timer time;
  live_value<int> number(from.loader(), {.group = {.executor = executor, .timer = &time}});
  from.number = 2;
  auto reload = number.start_reload();
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(reload.until(time.now() + 1h, stop.get_token()).get_outcome().errc(),
            sf::flight_errc::cancelled);
  executor.run_all();
  EXPECT_EQ(*number.get(), 2);
}

// Goal    A load that would wait for itself gets `recursive`.
TEST(live_value, a_reload_within_the_loader) {
  live_value<int>* self = nullptr;
  live_value<int> number([&] {
    if (self != nullptr) self->reload();
    return 1;
  });
  self = &number;
  try {
    number.reload();
    ADD_FAILURE() << "the reload waited for itself";
  } catch (const sf::flight_error& error) {
    EXPECT_EQ(error.errc(), sf::flight_errc::recursive);
  }
  EXPECT_EQ(*number.get(), 1);
}

// ---- set ----------------------------------------------------------------------------------------

// Goal    A value that set stores is a version like any other, unless it is equal.
TEST(live_value, set) {
  source from;
  live_value<int> number(from.loader());
  EXPECT_TRUE(number.set(5));
  EXPECT_EQ(*number.get(), 5);
  EXPECT_EQ(number.get().version(), 2U);
  EXPECT_FALSE(number.set(5));
  EXPECT_TRUE(number.reload());
  EXPECT_EQ(*number.get(), 1) << "a later load does not depend on it";
}

// Goal    A reload that began before a set is not stored, and its result says so.
TEST(live_value, a_set_overtakes_a_reload) {
  source from;
  support::gate hold;
  std::atomic<bool> held{false};
  live_value<int> number([&] {
    const int read = from.loader()();
    if (held) hold.wait();
    return read;
  });
  held = true;
  from.number = 2;
  bool changed = true;
  std::jthread reload([&] { changed = number.reload(); });
  hold.await_arrivals();
  EXPECT_TRUE(number.set(9));
  EXPECT_EQ(*number.get(), 9);
  hold.open();
  reload.join();
  EXPECT_FALSE(changed);
  EXPECT_EQ(*number.get(), 9);
  EXPECT_EQ(number.get().version(), 2U);
  EXPECT_EQ(number.stats().not_stored, 1U);
}

// Goal    A reload that is called after a set is stored, even while an older one still runs.
TEST(live_value, a_reload_after_a_set) {
  source from;
  support::gate hold;
  std::atomic<int> call{0};
  live_value<int> number([&] {
    const int read = from.loader()();
    if (++call == 2) hold.wait();
    return read;
  });
  std::jthread old([&] { number.reload(); });
  hold.await_arrivals();
  number.set(9);
  from.number = 3;
  EXPECT_TRUE(number.reload());
  EXPECT_EQ(*number.get(), 3);
  hold.open();
  old.join();
  EXPECT_EQ(*number.get(), 3);
}

/// A number whose comparison with 9 can be blocked.
struct compared {
  int number;
  static inline std::atomic<support::gate*> hold{nullptr};
  bool operator==(const compared& other) const {
    if (number == 9 || other.number == 9) {
      if (support::gate* const at = hold.exchange(nullptr)) at->wait();
    }
    return number == other.number;
  }
};

// Goal    A reload that ends during a set is stored: no set has overtaken its load yet.
// Method  The set begins while the load is held, and blocks where it compares the values.
TEST(live_value, a_reload_while_a_set_is_under_way) {
  std::atomic<int> number{1};
  support::gate loading;
  live_value<compared> value([&] {
    const int read = number;
    if (read == 2) loading.wait();
    return compared{read};
  });
  number = 2;
  std::jthread reload([&] {
    EXPECT_TRUE(value.reload());
    EXPECT_EQ(value.get()->number, 2);
  });
  loading.await_arrivals();
  support::gate comparing;
  compared::hold = &comparing;
  std::jthread set([&] { EXPECT_TRUE(value.set(compared{9})); });
  comparing.await_arrivals();
  loading.open();
  reload.join();
  comparing.open();
  set.join();
  EXPECT_EQ(value.get()->number, 9);
  EXPECT_EQ(value.get().version(), 3U);
  EXPECT_EQ(value.stats().not_stored, 0U);
}

// Goal    The first load may take longer than load_timeout: its value is stored, although it is
//         late.
TEST(live_value, a_first_load_that_ends_late) {
  sf::manual_timer time;
  live_value<int> number(
      [&](sf::flight_context& flight) {
        time.advance(5s);
        support::eventually([&] { return flight.forgotten(); }, "the timeout");
        return 1;
      },
      {.group = {.timer = &time, .load_timeout = 5s}});
  EXPECT_EQ(*number.get(), 1);
}

// Goal    A load that hung beyond load_timeout, and ends after a later one, does not replace the
//         later value; one that was not overtaken is stored, although it is late.
TEST(live_value, a_load_that_ends_late) {
  for (const bool overtaken : {false, true}) {
    sf::manual_timer time;
    support::gate hold;
    std::atomic<int> loads{0};
    live_value<int> number(
        [&](sf::flight_context& flight) {
          const int load = ++loads;
          if (load == 2) {
            hold.wait();
            support::eventually([&] { return flight.forgotten(); }, "the timeout");
          }
          return load;
        },
        {.group = {.timer = &time, .load_timeout = 5s}});
    std::jthread hung([&] { EXPECT_EQ(number.reload(), !overtaken); });
    hold.await_arrivals();
    time.advance(5s);
    if (overtaken) {
      EXPECT_TRUE(number.reload());
    }
    hold.open();
    hung.join();
    EXPECT_EQ(*number.get(), overtaken ? 3 : 2);
    EXPECT_EQ(number.stats().not_stored, overtaken ? 1U : 0U);
  }
}

// ---- handles ------------------------------------------------------------------------------------

// Goal    A handle keeps its version, beyond the live_value's end, even if there are more handles
//         than slots.
TEST(live_value, handles_keep_their_version) {
  std::vector<sf::live_snapshot<std::string>> kept;
  std::shared_ptr<const std::string> shared;
  {
    int load = 0;
    live_value<std::string> text([&] { return std::string(40, static_cast<char>('a' + load++)); });
    for (int i = 0; i < 10; ++i) {
      kept.push_back(text.get());
      kept.push_back(kept.back());
      text.reload();
    }
    shared = text.get().share();
    kept.erase(kept.begin());
  }
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const auto version = (i + 1) / 2;
    EXPECT_EQ(*kept[i], std::string(40, static_cast<char>('a' + version)));
    EXPECT_EQ(kept[i].version(), version + 1);
    EXPECT_EQ(kept[i]->size(), 40U);
  }
  EXPECT_EQ(*shared, std::string(40, 'k'));
}

// Goal    A handle may move to another thread and be destroyed there.
TEST(live_value, a_handle_on_another_thread) {
  source from;
  live_value<int> number(from.loader());
  auto handle = number.get();
  number.set(2);
  std::jthread([mine = std::move(handle)] { EXPECT_EQ(*mine, 1); }).join();
}

// Goal    A version that is no longer held is destroyed: with its last handle, or, without one, at
//         the change.
TEST(live_value, old_versions_end) {
  std::atomic<int> alive{0};
  struct counted {
    explicit counted(std::atomic<int>& a) : all(&a) { ++*all; }
    counted(counted&& other) noexcept : all(other.all) { ++*all; }
    ~counted() { --*all; }
    std::atomic<int>* all;
  };
  {
    live_value<counted> value([&] { return counted(alive); });
    EXPECT_EQ(alive, 1);
    value.reload();
    EXPECT_EQ(alive, 1);
    {
      const auto kept = value.get();
      value.reload();
      value.reload();
      EXPECT_EQ(alive, 2);
    }
    EXPECT_EQ(alive, 1);
  }
  EXPECT_EQ(alive, 0);
}

// Goal    A thread that is ending, and has released its slots, can still read.
TEST(live_value, get_at_the_end_of_a_thread) {
  static source from;
  static live_value<int> number(from.loader());
  static std::atomic<int> read{0};
  struct late_reader {
    ~late_reader() { read = *number.get(); }
  };
  std::jthread([] {
    static thread_local late_reader late;  // made before the slots: it is destroyed after them
    (void)&late;
    EXPECT_EQ(*number.get(), 1);
  }).join();
  EXPECT_EQ(read, 1);
}

// Goal    age is the time since the load; since_success also counts loads that changed nothing.
TEST(live_value, age) {
  source from;
  sf::manual_timer time;
  live_value<int> number(from.loader(), {.group = {.timer = &time}});
  time.advance(5s);
  EXPECT_EQ(number.get().age(), 5s);
  EXPECT_EQ(number.stats().since_success, 5s);
  number.reload();
  time.advance(1s);
  EXPECT_EQ(number.get().age(), 6s);
  EXPECT_EQ(number.stats().since_success, 1s);
}

// ---- listeners ----------------------------------------------------------------------------------

// Goal    A listener is called for every change after its subscription, on the executor, in order,
//         and for no other load.
TEST(live_value, listeners_are_called_in_order) {
  source from;
  support::manual_executor executor;
  journal heard;
  live_value<int> number(from.loader(), {.group = {.executor = executor}});
  number.set(2);
  const auto first = number.on_change(heard.listener("a"));
  number.set(3);
  const auto second = number.on_change(heard.listener("b"));
  number.set(4);
  number.set(4);
  number.reload();
  EXPECT_EQ(heard.take(), strings{}) << "no listener may run on the thread that changes the value";
  EXPECT_EQ(executor.size(), 1U) << "one task for all";
  executor.run_all();
  EXPECT_EQ(heard.take(), (strings{"a2>3", "a3>4", "b3>4", "a4>1", "b4>1"}));
  number.set(5);
  executor.run_all();
  EXPECT_EQ(heard.take(), (strings{"a1>5", "b1>5"}));
}

// Goal    Listeners are called one at a time, for one change at a time, even if the executor has
//         idle threads; within a listener, get returns the reported value or a later one.
TEST(live_value, one_listener_at_a_time) {
  constexpr int changes = 50;
  support::thread_per_task threads;
  source from;
  std::atomic<int> open{0};
  std::atomic<int> last{1};
  std::atomic<int> calls{0};
  live_value<int> number(from.loader(), {.group = {.executor = threads}});
  const auto listen = [&](int before, int now) {
    EXPECT_EQ(open.fetch_add(1), 0);
    EXPECT_EQ(before, last.exchange(now));
    EXPECT_LE(now, *number.get());
    ++calls;
    --open;
  };
  const auto subscribed = number.on_change(listen);
  for (int i = 0; i < changes; ++i) number.set(i + 2);
  support::eventually([&] { return calls == changes; }, "the changes");
}

// Goal    A listener is not called after its subscription has ended; end() waits for a call that is
//         running.
// Method  The listener is held. The thread that ends the subscription can fall asleep only in
//         end().
TEST(live_value, the_end_of_a_subscription_waits) {
  source from;
  live_value<int> number(from.loader());
  support::gate hold;
  std::atomic<bool> returned{false};
  auto subscribed = number.on_change([&](int, int) {
    hold.wait();
    returned = true;
  });
  number.set(2);
  hold.await_arrivals();
  std::atomic<const support::asleep*> ender{nullptr};
  bool was_running = false;
  std::jthread ending([&] {
    const support::asleep self;
    ender = &self;
    subscribed.end();
    was_running = returned;
    ender = nullptr;
  });
  support::eventually(
      [&] {
        const auto* const who = ender.load();
        return who != nullptr && (*who)();
      },
      "the wait in end()");
  number.set(3);
  EXPECT_FALSE(returned);
  hold.open();
  ending.join();
  EXPECT_TRUE(was_running);
  returned = false;
  number.set(4);
  support::gate last;
  const auto other = number.on_change([&](int, int) { last.open(); });
  number.set(5);
  last.wait();
  EXPECT_FALSE(returned) << "called after its subscription has ended";
}

// Goal    A change that is queued when a subscription ends is not reported to its listener.
TEST(live_value, an_ended_subscription_is_not_called) {
  source from;
  support::manual_executor executor;
  journal heard;
  live_value<int> number(from.loader(), {.group = {.executor = executor}});
  auto a = number.on_change(heard.listener("a"));
  auto b = number.on_change(heard.listener("b"));
  number.set(2);
  a.end();
  EXPECT_FALSE(a);
  EXPECT_TRUE(b);
  executor.run_all();
  EXPECT_EQ(heard.take(), strings{"b1>2"});
  b = number.on_change(heard.listener("c"));
  number.set(3);
  executor.run_all();
  EXPECT_EQ(heard.take(), strings{"c2>3"});
}

// Goal    A listener may end its own subscription, and others before and after it; its captures
//         live until it has returned.
TEST(live_value, a_listener_ends_subscriptions) {
  source from;
  support::manual_executor executor;
  journal heard;
  live_value<int> number(from.loader(), {.group = {.executor = executor}});
  sf::subscription first;
  sf::subscription own;
  sf::subscription next;
  first = number.on_change(heard.listener("first "));
  const auto kept = std::make_shared<std::string>("own ");
  const std::weak_ptr<std::string> captured = kept;
  own = number.on_change([&, mine = std::shared_ptr(kept)](int before, int now) {
    first.end();
    own.end();
    next.end();
    heard.listener (*mine)(before, now);
  });
  next = number.on_change(heard.listener("next "));
  const auto last = number.on_change(heard.listener("last "));
  number.set(2);
  number.set(3);
  executor.run_all();
  EXPECT_EQ(heard.take(), (strings{"first 1>2", "own 1>2", "last 1>2", "last 2>3"}));
  EXPECT_EQ(captured.use_count(), 1) << "the listener must be destroyed";
}

// Goal    A listener may reload and set; those changes are reported after it has returned.
TEST(live_value, a_listener_that_changes_the_value) {
  source from;
  support::manual_executor executor;
  journal heard;
  live_value<int> number(from.loader(), {.group = {.executor = executor}});
  const auto first = number.on_change([&](int before, int now) {
    if (now == 2) {
      from.number = 10;
      EXPECT_TRUE(number.reload());
      EXPECT_EQ(*number.get(), 10);
      number.set(11);
    }
    heard.listener("a")(before, now);
  });
  const auto second = number.on_change(heard.listener("b"));
  number.set(2);
  executor.run_all();
  EXPECT_EQ(heard.take(), (strings{"a1>2", "b1>2", "a2>10", "b2>10", "a10>11", "b10>11"}));
}

// Goal    Listeners are called although the executor refuses or drops the task.
TEST(live_value, an_executor_that_fails) {
  const auto tells = [](sf::any_executor executor) {
    source from;
    support::gate called;
    live_value<int> number(from.loader(), {.group = {.executor = std::move(executor)}});
    const auto subscribed = number.on_change([&](int, int) { called.open(); });
    number.set(2);
    called.wait();
  };
  tells(support::dropping_executor{});
  tells(support::refusing_executor{});
}

// Goal    On the inline executor a listener runs as set returns.
TEST(live_value, inline_listeners) {
  source from;
  journal heard;
  live_value<int> number(from.loader(), {.group = {.executor = sf::inline_executor}});
  const auto subscribed = number.on_change(heard.listener());
  number.set(2);
  EXPECT_EQ(heard.take(), strings{"1>2"});
}

#if !defined(SUPPORT_TSAN)  // TSan does not support threads that end this way
// Goal    When a listener ends its thread, another thread calls the other listeners and reports
//         later changes.
TEST(live_value, a_listener_that_ends_its_thread) {
  if (!support::threads_can_end) GTEST_SKIP() << "this unwinder cannot end a thread in a task";
  source from;
  support::thread_per_task threads;
  support::gate called;
  live_value<int> number(from.loader(), {.group = {.executor = threads}});
  const auto fatal = number.on_change([](int, int now) {
    if (now == 2) ::pthread_exit(nullptr);
  });
  const auto other = number.on_change([&](int, int now) {
    if (now == 3) called.open();
  });
  number.set(2);
  number.set(3);
  called.wait();
}
#endif

// ---- the schedule -------------------------------------------------------------------------------

struct schedule : testing::Test {
  source from;
  support::manual_executor executor;
  sf::manual_timer time;
  std::vector<std::string> errors;
  std::atomic<bool> fails{false};

  auto loader() {
    return [this] {
      const int read = from.loader()();
      if (fails) throw std::runtime_error("load " + std::to_string(from.loads));
      return read;
    };
  }
  sf::live_options<int> every(std::chrono::nanoseconds interval) {
    sf::live_options<int> options;
    options.reload_every = interval;
    options.jitter = 0;
    options.group = {.executor = executor, .timer = &time};
    options.on_error = [this](const std::exception_ptr& error) {
      try {
        std::rethrow_exception(error);
      } catch (const std::exception& e) {
        errors.emplace_back(e.what());
      }
    };
    return options;
  }
  /// Whether it loads when this much time has passed, and not earlier.
  bool loads_after(std::chrono::nanoseconds wait) {
    const int before = from.loads;
    time.advance(wait - 1ns);
    executor.run_all();
    if (from.loads != before) return false;
    time.advance(1ns);
    executor.run_all();
    return from.loads == before + 1;
  }
};

// Goal    The value is reloaded when its time has come, on the executor, again and again.
TEST_F(schedule, reloads_by_itself) {
  const live_value<int> number(loader(), every(30s));
  from.number = 2;
  EXPECT_TRUE(loads_after(30s));
  EXPECT_EQ(*number.get(), 2);
  from.number = 3;
  time.advance(30s);
  EXPECT_EQ(*number.get(), 2) << "the load must not run on the timer's thread";
  executor.run_all();
  EXPECT_EQ(*number.get(), 3);
  EXPECT_TRUE(loads_after(30s));
  EXPECT_EQ(errors, strings{});
}

// Goal    Jitter makes the waits shorter, by no more than its share.
TEST_F(schedule, jitter_shortens) {
  auto options = every(100s);
  options.jitter = 0.5;
  std::uint64_t bits = 0;
  options.random = [&] { return bits; };
  const live_value<int> number(loader(), std::move(options));
  bits = ~std::uint64_t{0};
  EXPECT_TRUE(loads_after(100s)) << "without bits set, the wait is not shortened";
  bits = std::uint64_t{1} << 63;
  EXPECT_TRUE(loads_after(50s));
  EXPECT_FALSE(loads_after(75s - 1s));
  EXPECT_TRUE(loads_after(1s));
}

// Goal    A random source that throws does not end the schedule.
TEST_F(schedule, continues_if_random_throws) {
  auto options = every(100s);
  options.random = []() -> std::uint64_t { throw std::runtime_error("no entropy"); };
  const live_value<int> number(loader(), std::move(options));
  EXPECT_TRUE(loads_after(100s));
  EXPECT_TRUE(loads_after(100s));
  EXPECT_EQ(errors, strings{});
}

// Goal    A load that fails is reported to on_error and tried again soon, then less and less often,
//         up to reload_every; a load that succeeds resets the waits.
TEST_F(schedule, failures_back_off) {
  const live_value<int> number(loader(), every(5s));
  fails = true;
  EXPECT_TRUE(loads_after(5s));
  EXPECT_EQ(errors, strings{"load 2"});
  EXPECT_TRUE(loads_after(1s));
  EXPECT_TRUE(loads_after(2s));
  EXPECT_TRUE(loads_after(4s));
  EXPECT_TRUE(loads_after(5s));
  EXPECT_TRUE(loads_after(5s));
  EXPECT_EQ(errors.size(), 6U);
  EXPECT_EQ(*number.get(), 1) << "the last good value";
  fails = false;
  from.number = 2;
  EXPECT_TRUE(loads_after(5s));
  EXPECT_EQ(*number.get(), 2);
  fails = true;
  EXPECT_TRUE(loads_after(5s));
  EXPECT_TRUE(loads_after(1s));
  EXPECT_EQ(number.stats().load_failures, 8U);
}

// Goal    A schedule with reload_every shorter than retry_after keeps to reload_every after
//         failures.
TEST_F(schedule, retry_after_is_not_longer_than_the_interval) {
  auto options = every(2s);
  options.retry_after = 1h;
  const live_value<int> number(loader(), std::move(options));
  fails = true;
  EXPECT_TRUE(loads_after(2s));
  EXPECT_TRUE(loads_after(2s));
}

// Goal    A load that takes longer than the interval does not overlap the next one, whose time
//         counts from its end.
TEST_F(schedule, loads_do_not_overlap) {
  const live_value<int> number(loader(), every(10s));
  time.advance(10s);
  time.advance(1h);
  EXPECT_EQ(executor.size(), 1U);
  executor.run_all();
  EXPECT_EQ(from.loads, 2);
  EXPECT_TRUE(loads_after(10s));
}

// Goal    A load of the schedule joins one that runs.
TEST_F(schedule, joins_a_running_reload) {
  support::gate hold;
  std::atomic<bool> held{false};
  live_value<int> number(
      [&] {
        const int read = from.loader()();
        if (held) hold.wait();
        return read;
      },
      every(10s));
  held = true;
  std::jthread by_hand([&] { number.reload(); });
  hold.await_arrivals();
  time.advance(10s);
  hold.open();
  by_hand.join();
  executor.run_all();
  EXPECT_EQ(from.loads, 2);
  EXPECT_TRUE(loads_after(10s));
}

// Goal    When an executor drops the load, the load ends as broken and the schedule continues.
TEST_F(schedule, a_dropped_load) {
  support::gate reported;
  auto options = every(10s);
  options.on_error = [&](const std::exception_ptr&) { reported.open(); };
  const live_value<int> number(loader(), std::move(options));
  time.advance(10s);
  EXPECT_TRUE(executor.drop_one());
  executor.run_all();
  reported.wait();
  EXPECT_TRUE(loads_after(1s));
}

// Goal    Listeners are called for loads of the schedule.
TEST_F(schedule, calls_listeners) {
  journal heard;
  live_value<int> number(loader(), every(10s));
  const auto subscribed = number.on_change(heard.listener());
  from.number = 2;
  EXPECT_TRUE(loads_after(10s));
  EXPECT_EQ(heard.take(), strings{"1>2"});
}

// Goal    Nothing happens after the destructor: no load, no report, no listener call, although
//         tasks are queued.
TEST_F(schedule, the_end) {
  journal heard;
  sf::subscription subscribed;
  {
    live_value<int> number(loader(), every(10s));
    subscribed = number.on_change(heard.listener());
    number.set(2);
    time.advance(10s);
    EXPECT_EQ(executor.size(), 2U);
  }
  time.advance(1h);
  executor.run_all();
  EXPECT_EQ(from.loads, 1);
  EXPECT_EQ(heard.take(), strings{});
  EXPECT_EQ(errors, strings{});
}

// Goal    Options out of range are refused with a message that names them.
TEST_F(schedule, refuses_options) {
  const auto refused = [&](sf::live_options<int> options) {
    try {
      const live_value<int> number(loader(), std::move(options));
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(refused({.reload_every = -1ns}), "live_value: reload_every is negative (-1 ns)");
  EXPECT_EQ(refused({.retry_after = 0ns}), "live_value: retry_after is not positive (0 ns)");
  EXPECT_EQ(refused({.jitter = 1.5}), "live_value: jitter 1.500000 is not in [0, 1]");
  EXPECT_EQ(from.loads, 0);
}

// ---- destruction --------------------------------------------------------------------------------

// Goal    The destructor requests a stop of a running load, and waits for it.
TEST(live_value, the_destructor_stops_a_load) {
  std::atomic<bool> ended{false};
  {
    support::gate loading;
    std::atomic<bool> hangs{false};
    live_value<int> number([&](std::stop_token stop) {
      if (hangs) {
        loading.open();
        support::eventually([&] { return stop.stop_requested(); }, "the stop");
        ended = true;
      }
      return 1;
    });
    hangs = true;
    number.start_reload().detach();
    loading.wait();
  }
  EXPECT_TRUE(ended);
}

// Goal    The destructor waits for the listener that is running, which may reload meanwhile; the
//         next change is not reported.
// Method  The listener is held. The thread that destroys the value can fall asleep only in the
//         destructor.
TEST(live_value, the_destructor_waits_for_a_listener) {
  source from;
  std::optional<live_value<int>> number(std::in_place, from.loader());
  support::gate hold;
  std::atomic<int> calls{0};
  std::atomic<bool> ended{false};
  const auto subscribed = number->on_change([&](int, int) {
    ++calls;
    hold.wait();
    number->reload();
    ended = true;
  });
  number->set(2);
  number->set(3);
  hold.await_arrivals();
  std::atomic<const support::asleep*> ender{nullptr};
  bool had_ended = false;
  std::jthread ending([&] {
    const support::asleep self;
    ender = &self;
    std::destroy_at(&*number);
    had_ended = ended;
  });
  support::eventually(
      [&] {
        const auto* const who = ender.load();
        return who != nullptr && (*who)();
      },
      "the wait in the destructor");
  hold.open();
  ending.join();
  std::construct_at(&*number, from.loader());
  EXPECT_TRUE(had_ended);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(from.loads, 3);
}

// Goal    A live_value that is destroyed by its own listener aborts with a message.
TEST(live_value, destroyed_within_its_listener) {
  support::die_apart();
  EXPECT_DEATH(
      {
        support::manual_executor executor;
        auto number = std::make_unique<live_value<int>>(
            [] { return 1; }, sf::live_options<int>{.group = {.executor = executor}});
        const auto subscribed = number->on_change([&](int, int) { number.reset(); });
        number->set(2);
        executor.run_all();
      },
      "live_value: destroyed within its listener");
}

// Goal    No reload runs within the fire of a timer, not even on inline_executor.
TEST(live_value, no_reload_runs_within_a_fire) {
  support::bare_timer time;
  std::atomic<int> loads{0};
  std::atomic<bool> within{false};
  const live_value<int> number(
      [&] {
        if (time.fires_here()) within = true;
        return ++loads;
      },
      {.reload_every = 1s, .group = {.executor = sf::inline_executor, .timer = &time}});
  EXPECT_EQ(loads, 1);
  time.fire_all();
  EXPECT_TRUE(support::eventually([&] { return *number.get() == 2; }, "the reload"));
  EXPECT_FALSE(within);
}

// Goal    While a thread waits for the listener of a subscription that it ends, or of a live_value
//         that it destroys, the tasks in its trampoline run elsewhere: the listener may wait for
//         them.
TEST(live_value, end_of_a_subscription_hands_the_trampoline_over) {
  for (const bool whole : {false, true}) {
    support::gate in_listener;
    support::gate loaded;
    sf::group<int, int> g({.executor = sf::inline_executor});
    auto number = std::make_optional<live_value<int>>([] { return 0; });
    std::optional<sf::subscription> subscribed(number->on_change([&](int, int) {
      in_listener.open();
      loaded.wait();
    }));
    std::optional<sf::flight_promise<int>> promise;
    auto f = g.start(1, [&](sf::flight_promise<int> p) { promise.emplace(std::move(p)); });
    bool ended = false;
    std::move(f).on_ready([&](const auto&) {
      const auto queued_here = g.start(2, [&] {
        loaded.open();
        return 1;
      });
      number->set(1);
      in_listener.wait();
      if (whole) {
        number.reset();
      } else {
        subscribed.reset();
      }
      ended = true;
    });
    promise->set_value(1);
    EXPECT_TRUE(ended);
  }
}

// Goal    observe() passes the statistics to a visitor.
TEST(live_value, statistics) {
  struct : sf::metric_visitor {
    void visit(std::string_view name, sf::metric_kind, double value) override {
      if (value != 0) text += std::string(name) + "=" + std::to_string(std::lround(value)) + " ";
    }
    std::string text;
  } visitor;
  source from;
  sf::manual_timer time;
  live_value<int> number(from.loader(), {.group = {.timer = &time}});
  number.set(4);
  time.advance(3s);
  number.observe(visitor);
  EXPECT_EQ(visitor.text, "version=2 loads=1 seconds_since_success=3 ");
}

}  // namespace
