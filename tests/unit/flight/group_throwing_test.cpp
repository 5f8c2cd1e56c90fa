// SPDX-License-Identifier: Apache-2.0

// Exceptions of the user's own code, and failed allocations: no stuck key, and no other caller is
// harmed.
//
// operator new of the whole test program is replaced by one that fails on demand: on one thread, at
// the n-th allocation. A test tries every n until the operation succeeds, so each allocation of
// each verb has failed once.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/flight.hpp>

namespace {

/// How many allocations of this thread succeed before one fails; negative: none fails.
constinit thread_local long allocations_left = -1;

// Not inlined: otherwise g++ would warn of a mismatch of new and free.
[[gnu::noinline]] void* take(std::size_t bytes) noexcept {
  return std::malloc(bytes != 0 ? bytes : 1);
}
[[gnu::noinline]] void give_back(void* memory) noexcept { std::free(memory); }

bool this_one_fails() noexcept {
  if (allocations_left < 0) return false;
  return allocations_left-- == 0;
}

}  // namespace

void* operator new(std::size_t bytes) {
  if (this_one_fails()) throw std::bad_alloc();
  if (void* const memory = take(bytes)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return this_one_fails() ? nullptr : take(bytes);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  const auto to = static_cast<std::size_t>(alignment);
  if (this_one_fails()) throw std::bad_alloc();
  if (void* const memory = std::aligned_alloc(to, (bytes + to - 1) / to * to)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { give_back(memory); }

namespace {

using namespace std::chrono_literals;
using singleflight::as_outcome;
using singleflight::flight_context;
using singleflight::flight_errc;

struct refusal : std::runtime_error {
  refusal() : std::runtime_error("refused") {}
};

/// Tries `attempt` with the first allocation of this thread failing, then the second, ... until
/// none of its allocations fails; returns how many there were. `after` checks the state each time.
template <class Attempt, class After>
int for_every_allocation(Attempt attempt, After after) {
  for (int n = 0; n < 200; ++n) {
    allocations_left = n;
    bool thrown = false;
    try {
      attempt();
    } catch (const std::bad_alloc&) {
      thrown = true;
    } catch (const singleflight::flight_error&) {
      thrown = true;
    }
    const bool failed = allocations_left < 0;
    allocations_left = -1;
    after(thrown);
    if (!failed) return n;
  }
  ADD_FAILURE() << "no end of allocations";
  return -1;
}

/// A key whose string is allocated on the heap, so its copy can fail.
const std::string heap_key(40, 'k');

/// Every verb, by name; `within` runs while a load for heap_key may be running.
struct verb {
  const char* name;
  std::function<void(singleflight::group<std::string, int>&)> call;
};

std::vector<verb> all_verbs() {
  using group = singleflight::group<std::string, int>;
  const auto load = [] { return 1; };
  const auto load_many = [](std::span<const std::string> keys) {
    return std::vector<singleflight::outcome<int>>(keys.size(), 1);
  };
  return {
      {"start", [=](group& g) { auto f = g.start(heap_key, load); }},
      {"start_fresh", [=](group& g) { auto f = g.start_fresh(heap_key, load); }},
      {"start_many",
       [=](group& g) {
         auto f = g.start_many(std::vector{heap_key, heap_key}, load_many);
       }},
      {"in_flight", [](group& g) { (void)g.in_flight(); }},
      {"forget", [](group& g) { (void)g.forget(std::string_view("other")); }},
      {"on_ready",
       [=](group& g) {
         auto f = g.start(heap_key, load);
         std::move(f).on_ready([](const auto&) {});
       }},
      {"on_ready_on",
       [=](group& g) {
         auto f = g.start(heap_key, load);
         std::move(f).on_ready(singleflight::default_pool(), [](const auto&) {});
       }},
      {"co_await",
       [=](group& g) {
         const support::owned waiting = [](group& in, auto with) -> support::owned {
           try {
             auto f = in.start(heap_key, with);
             (void)co_await f.on(singleflight::default_pool()).as_outcome();
           } catch (const std::bad_alloc&) {
           }
         }(g, load);
       }},
      {"run_expired",
       [=](group& g) {
         (void)g.run(as_outcome, heap_key, load,
                     {.deadline = std::chrono::steady_clock::time_point::min()});
       }},
  };
}

// Goal    Wherever an allocation fails in a verb, only that call is harmed: the key is not stuck,
//         no flight is left behind, nothing leaks (P9).
// Method  The group's executor keeps its tasks, so started loads stay queued.
TEST(throwing, allocation_fails_in_every_verb_alone) {  // Scenario 22
  for (const verb& v : all_verbs()) {
    for (const bool hands_over : {false, true}) {
      SCOPED_TRACE(v.name);
      support::manual_executor later;
      singleflight::group_options options{.executor = later};
      if (hands_over) options.on_error = singleflight::error_policy::hand_over(2);
      singleflight::group<std::string, int> g(options);
      for_every_allocation([&] { v.call(g); },
                           [&](bool) {
                             while (later.run_one()) {
                             }
                             EXPECT_TRUE(support::until_flights(g, 0));
                             EXPECT_EQ(*g.run(heap_key, [] { return 5; }), 5);
                           });
    }
  }
}

// Goal    The same while another caller leads a thin flight for the key: that leader, and a joiner
//         that came before, are not affected.
TEST(throwing, allocation_fails_in_every_verb_during_a_load) {  // Scenario 22
  for (const verb& v : all_verbs()) {
    for (const bool joined : {false, true}) {
      for (const bool hands_over : {false, true}) {
        SCOPED_TRACE(v.name);
        support::manual_executor later;
        singleflight::group_options options{.executor = later};
        if (hands_over) options.on_error = singleflight::error_policy::hand_over(2);
        singleflight::group<std::string, int> g(options);
        bool more = true;
        for (int n = 0; more && n < 100; ++n) {
          support::gate running;
          support::gate finish;
          std::jthread leader([&] {
            EXPECT_EQ(*g.run(heap_key,
                             [&] {
                               running.open();
                               finish.wait();
                               return 3;
                             }),
                      3);
          });
          running.wait();
          std::optional<singleflight::flight<int>> before;
          if (joined) before.emplace(g.start(heap_key, [] { return 1; }));
          allocations_left = n;
          try {
            v.call(g);
          } catch (const std::bad_alloc&) {
          }
          more = allocations_left < 0;
          allocations_left = -1;
          finish.open();
          leader.join();
          if (before) {
            EXPECT_EQ(*before->get(), 3);
          }
          while (later.run_one()) {
          }
          EXPECT_TRUE(support::until_flights(g, 0));
        }
        EXPECT_FALSE(more);
      }
    }
  }
}

// Goal    In the blocking verbs, an allocation that fails on the way in harms only that call.
TEST(throwing, allocation_fails_in_the_blocking_verbs) {  // Scenario 22
  singleflight::group<std::string, std::string> g;
  const auto load = [] { return std::string(3, 'v'); };
  std::stop_source stop;
  const singleflight::limits stoppable{.stop = stop.get_token()};
  const std::vector<std::function<void()>> calls{
      [&] { (void)g.run(heap_key, load); },
      [&] { (void)g.run(heap_key, load, stoppable); },
      [&] { (void)g.run_fresh(heap_key, load, stoppable); },
      [&] {
        (void)g.run(heap_key, [&](flight_context& context) {
          (void)context.stop_token();
          return load();
        });
      },
      [&] {
        (void)g.run_many(std::vector{heap_key, heap_key}, [&](std::span<const std::string> keys) {
          std::vector<singleflight::outcome<std::string>> all;
          for (std::size_t i = 0; i < keys.size(); ++i) all.emplace_back(load());
          return all;
        });
      },
      [&] { (void)g.run(std::string(41, 'o'), [&] { return *g.run(heap_key, load); }); },
  };
  for (const auto& call : calls) {
    for_every_allocation(call, [&](bool) {
      EXPECT_TRUE(g.in_flight().empty());
      EXPECT_EQ(*g.run(heap_key, load), "vvv");
    });
  }
}

// ---- keys that throw ----------------------------------------------------------------------------

/// Throws wherever its flags demand it.
struct moody_key {
  int number = 0;
  static inline std::atomic<bool> copy_throws{false};
  static inline std::atomic<bool> equal_throws{false};
  static inline std::atomic<bool> hash_throws{false};

  explicit moody_key(int n) : number(n) {}
  moody_key(const moody_key& other) : number(other.number) {
    if (copy_throws) throw refusal();
  }
  moody_key(moody_key&& other) : number(other.number) {
    if (copy_throws) throw refusal();
  }
  moody_key& operator=(const moody_key&) = delete;
  friend bool operator==(const moody_key& a, const moody_key& b) {
    if (equal_throws) throw refusal();
    return a.number == b.number;
  }
};
struct moody_hash {
  std::size_t operator()(const moody_key&) const {
    if (moody_key::hash_throws) throw refusal();
    return 7;  // all in one bucket: every look-up compares
  }
};
struct mood {
  explicit mood(std::atomic<bool>& what) : switch_(what) { switch_ = true; }
  ~mood() { switch_ = false; }
  std::atomic<bool>& switch_;
};

// Goal    A hash, comparison or key copy that throws harms its own call only: no stuck key, no lock
//         held; the running load and its callers continue (P9).
TEST(throwing, key_that_throws) {  // Scenario 22
  using moody_group = singleflight::group<moody_key, int, moody_hash>;
  for (std::atomic<bool>* what :
       {&moody_key::hash_throws, &moody_key::equal_throws, &moody_key::copy_throws}) {
    support::manual_executor later;
    moody_group g({.executor = later, .on_error = singleflight::error_policy::hand_over(1)});
    support::gate running;
    support::gate finish;
    std::jthread leader([&] {
      EXPECT_EQ(*g.run(moody_key(1),
                       [&] {
                         running.open();
                         finish.wait();
                         return 3;
                       }),
                3);
    });
    running.wait();
    auto before = g.start(moody_key(1), [] { return 0; });
    const std::vector<moody_key> two = [] {
      std::vector<moody_key> keys;
      keys.reserve(2);
      keys.emplace_back(1);
      keys.emplace_back(2);
      return keys;
    }();
    const auto load = [] { return 9; };
    const auto load_many = [](std::span<const moody_key> keys) {
      return std::vector<singleflight::outcome<int>>(keys.size(), 9);
    };
    const auto refused = [](const char* name, auto call, bool must) {
      SCOPED_TRACE(name);
      bool threw = false;
      try {
        call();
      } catch (const refusal&) {
        threw = true;
      }
      EXPECT_TRUE(threw || !must);
    };
    const bool not_copy = what != &moody_key::copy_throws;
    {
      const mood set(*what);
      const moody_key k(1);
      const moody_key other(2);
      refused(
          "run", [&] { (void)g.run(other, load); }, not_copy);
      EXPECT_TRUE(!not_copy || !g.run(as_outcome, other, load).has_value());
      refused(
          "run_fresh",
          [&] {
            (void)g.run_fresh(k, load, {.deadline = std::chrono::steady_clock::now() + 1ms}).get();
          },
          not_copy);
      refused(
          "start", [&] { (void)g.start(other, load); }, true);
      refused(
          "start_fresh", [&] { (void)g.start_fresh(k, load); }, true);
      refused(
          "run_many",
          [&] {
            for (const auto& o : g.run_many(two, load_many)) (void)o.value();
          },
          true);
      refused(
          "start_many", [&] { (void)g.start_many(two, load_many); }, true);
      refused(
          "forget", [&] { (void)g.forget(other); }, not_copy);
      refused(
          "in_flight", [&] { (void)g.in_flight(); }, !not_copy);
    }
    later.run_all();
    EXPECT_EQ(support::callers_inside(g), 2u);
    finish.open();
    leader.join();
    later.run_all();
    EXPECT_EQ(*before.get(), 3) << "completion calls neither hash nor equality";
    EXPECT_TRUE(g.in_flight().empty());
  }
}

// ---- values that throw --------------------------------------------------------------------------

struct moody_value {
  int number;
  static inline std::atomic<bool> move_throws{false};
  explicit moody_value(int n) : number(n) {}
  moody_value(const moody_value& other) : number(other.number) {}
  moody_value(moody_value&& other) : number(other.number) {
    if (move_throws.exchange(false)) throw refusal();
  }
};

// Goal    A value that cannot be moved into the shared place is an error of its load: all callers
//         get it, and the key is free.
TEST(throwing, value_that_cannot_be_moved) {  // Scenario 22
  singleflight::group<int, moody_value> g;
  support::gate running;
  support::gate finish;
  std::atomic<int> refused{0};
  std::jthread leader([&] {
    try {
      (void)g.run(1, [&] {
        running.open();
        finish.wait();
        return moody_value(1);
      });
    } catch (const refusal&) {
      ++refused;
    }
  });
  running.wait();
  auto joined = g.start(1, [] { return moody_value(2); });
  moody_value::move_throws = true;
  finish.open();
  leader.join();
  EXPECT_THROW((void)joined.get(), refusal);
  EXPECT_EQ(refused, 1);
  moody_value::move_throws = false;
  auto started = g.start(1, [] {
    const moody_value made(3);
    moody_value::move_throws = true;
    return std::optional<moody_value>(std::nullopt).value_or(made);
  });
  (void)started.get_outcome();
  moody_value::move_throws = false;
  EXPECT_EQ(g.run(1, [] { return moody_value(4); })->number, 4);
  EXPECT_TRUE(g.in_flight().empty());
}

/// Its copy throws; the handle to the shared value stays valid.
struct uncopyable_now {
  std::string text;
  static inline std::atomic<bool> copy_throws{false};
  explicit uncopyable_now(std::string t) : text(std::move(t)) {}
  uncopyable_now(const uncopyable_now& other) : text(other.text) {
    if (copy_throws) throw refusal();
  }
  uncopyable_now(uncopyable_now&&) = default;
};

// Goal    A value copy that fails affects only the caller that copies.
TEST(throwing, value_copy_harms_only_its_caller) {  // Scenario 22
  const auto wrapped = singleflight::deduplicate(
      std::function(
          [](int n) { return uncopyable_now(std::string(30, static_cast<char>('a' + n))); }),
      [](int n) { return n; });
  {
    const mood set(uncopyable_now::copy_throws);
    EXPECT_THROW((void)wrapped(1), refusal);
    EXPECT_THROW((void)wrapped(1), refusal);
  }
  EXPECT_EQ(wrapped(1).text, std::string(30, 'b'));
}

// ---- one exception, many threads ----------------------------------------------------------------

struct rich_error : std::runtime_error {
  explicit rich_error(const std::string& text) : std::runtime_error(text), detail(text) {}
  std::string detail;
};

// Goal    One exception object, rethrown and read in many threads at once and dropped at different
//         times, is clean under ThreadSanitizer and AddressSanitizer.
TEST(throwing, one_exception_in_many_threads) {  // Scenario 24
  singleflight::group<int, int> g;
  for (int turn = 0; turn < 30; ++turn) {
    support::gate running;
    support::gate fail;
    std::atomic<int> caught{0};
    const auto catching = [&](auto call) {
      try {
        call();
      } catch (const rich_error& error) {
        caught += error.detail == "no backend" && std::string(error.what()) == error.detail;
      }
    };
    {
      std::vector<std::jthread> threads;
      threads.emplace_back([&] {
        catching([&] {
          (void)g.run(1, [&]() -> int {
            running.open();
            fail.wait();
            throw rich_error("no backend");
          });
        });
      });
      running.wait();
      for (int i = 0; i < 7; ++i) {
        threads.emplace_back([&] { catching([&] { (void)g.run(1, [] { return 1; }); }); });
      }
      auto f = g.start(1, [] { return 1; });
      ASSERT_TRUE(support::until_callers(g, 9));
      fail.open();
      catching([&] { (void)f.get(); });
    }
    EXPECT_EQ(caught, 9);
  }
}

}  // namespace
