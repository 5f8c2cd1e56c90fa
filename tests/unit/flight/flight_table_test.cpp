// SPDX-License-Identifier: Apache-2.0

// The table of a group: many keys, growth, what is left behind, and repeated calls.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include <singleflight/flight.hpp>

namespace {

using singleflight::inline_executor;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
constexpr int many = 100'000;
#else
constexpr int many = 1'000'000;
#endif

/// Counts the objects alive.
struct living {
  static inline std::atomic<int> alive{0};
  living() { ++alive; }
  living(const living&) { ++alive; }
  living(living&&) noexcept { ++alive; }
  living& operator=(const living&) = default;
  living& operator=(living&&) = default;
  ~living() { --alive; }
};

// Goal    Flights whose results are not read leave nothing behind: no entry, no value.
// Method  Every handle is dropped unread, half of them before the load runs, half after.
TEST(table, results_dropped_unread_leave_nothing) {  // Scenario 20
  support::manual_executor later;
  singleflight::group<int, living> g(
      {.executor = later, .on_abandon = singleflight::abandon::finish});
  for (int k = 0; k < many; ++k) {
    auto f = g.start(k, [] { return living(); });
    if (k % 2 == 0) {
      later.run_all();
    }
  }
  later.run_all();
  EXPECT_TRUE(g.in_flight().empty());
  EXPECT_EQ(g.stats().loads, static_cast<std::uint64_t>(many));
  EXPECT_EQ(living::alive.load(), 0);
}

// Goal    The table grows while flights are in it: each is found before and after, each ends, and
//         the table is empty then.
TEST(table, grows_under_its_flights) {
  support::manual_executor later;
  singleflight::group<int, int> g({.executor = later});
  std::vector<singleflight::flight<int>> first;
  std::vector<singleflight::flight<int>> second;
  constexpr int keys = 20'000;  // the first array has 512 heads
  for (int k = 0; k < keys; ++k) first.push_back(g.start(k, [k] { return k; }));
  EXPECT_EQ(g.in_flight().size(), static_cast<std::size_t>(keys));
  for (int k = 0; k < keys; ++k) second.push_back(g.start(k, [] { return -1; }));
  EXPECT_EQ(g.stats().joined, static_cast<std::uint64_t>(keys));
  later.run_all();
  for (int k = 0; k < keys; ++k) {
    ASSERT_EQ(*first[static_cast<std::size_t>(k)].get(), k);
    ASSERT_EQ(*second[static_cast<std::size_t>(k)].get(), k);
  }
  EXPECT_TRUE(g.in_flight().empty());
}

// Goal    Growth while other threads enter and leave loses no flight and finds each leader again.
// Method  One thread makes the table grow from its smallest size; two lead and join on few keys
//         meanwhile.
TEST(table, grows_while_others_enter_and_leave) {
  support::manual_executor later;
  singleflight::group<int, int> g({.executor = later});
  std::atomic<bool> grown{false};
  std::vector<std::thread> others;
  for (int t = 0; t < 2; ++t) {
    others.emplace_back([&g, &grown] {
      for (int i = 0; !grown.load(); ++i) {
        const int k = -1 - i % 7;
        ASSERT_EQ(*g.run(k, [k] { return k; }), k);
      }
    });
  }
  std::vector<singleflight::flight<int>> held;
  for (int k = 0; k < 20'000; ++k) held.push_back(g.start(k, [k] { return k; }));
  grown = true;
  for (std::thread& t : others) t.join();
  EXPECT_EQ(g.in_flight().size(), held.size());
  later.run_all();
  for (std::size_t k = 0; k < held.size(); ++k) ASSERT_EQ(*held[k].get(), static_cast<int>(k));
}

// Goal    After forget, callers that are inside keep the old answer, and later calls get a new one.
// Method  The old load is held until the new one has ended.
TEST(table, forget_parts_old_callers_from_new) {  // Scenario 18
  singleflight::group<std::string, int> g;
  support::gate old_load;
  std::optional<int> leader_got;
  std::optional<int> joiner_got;
  std::thread leader([&] {
    leader_got = *g.run("k", [&] {
      old_load.wait();
      return 1;
    });
  });
  old_load.await_arrivals();
  std::thread joiner([&] { joiner_got = *g.run("k", [] { return -1; }); });
  support::until_callers(g, 2);
  EXPECT_TRUE(g.forget("k"));
  EXPECT_FALSE(g.forget("k"));  // it cannot be found any more
  EXPECT_EQ(*g.run("k", [] { return 2; }), 2);
  old_load.open();
  leader.join();
  joiner.join();
  EXPECT_EQ(leader_got, 1);
  EXPECT_EQ(joiner_got, 1);
  EXPECT_EQ(g.stats().loads, 2U);
}

// Goal    A key that was forgotten many times while its loads still run costs a call no more than
//         any other: neither forget nor start looks at the old flights, and the table does not grow
//         for them. All of them end, and close() stops each once.
// Method  The comparisons of keys are counted. The old flights were forgotten, or given up by their
//         callers and then forgotten: the first forget looks at each of these once more.
TEST(table, forgotten_flights_cost_newcomers_nothing) {
  struct counted_equal {
    std::size_t* count;
    bool operator()(int a, int b) const {
      ++*count;
      return a == b;
    }
  };
  using counted_group = singleflight::group<int, int, singleflight::key_hash<int>, counted_equal>;
  constexpr std::size_t old = 10'000;
  for (const bool given_up : {false, true}) {
    support::manual_executor later;
    std::size_t compared = 0;
    counted_group g({.executor = later}, {}, counted_equal{&compared});
    std::vector<singleflight::flight<int>> handles;
    const auto start = [&](int key) { handles.push_back(g.start(key, [] { return 1; })); };
    std::size_t forgotten = 0;
    for (std::size_t i = 0; i < old; ++i) {
      start(1);
      if (given_up) {
        handles.pop_back();
      } else {
        forgotten += g.forget(1) ? 1U : 0U;
      }
    }
    EXPECT_EQ(forgotten, given_up ? 0U : old);
    EXPECT_FALSE(given_up && g.forget(1)) << "an abandoned flight cannot be found";
    EXPECT_LE(compared, given_up ? old : 2 * old);
    compared = 0;
    for (int i = 0; i < 100; ++i) {
      start(1);
      start(2);
      EXPECT_TRUE(g.forget(1));
      EXPECT_TRUE(g.forget(2));
      EXPECT_FALSE(g.forget(1));
    }
    EXPECT_LE(compared, 1'000u);
    start(1);
    start(1);  // joins
    EXPECT_EQ(g.in_flight().size(), 1u);
    EXPECT_EQ(g.stats().joined, 1u);
    EXPECT_EQ(g.forget_all(), 1u);
    if (given_up) later.run_all();
    g.close();
    for (auto& f : handles) {
      const auto got = f.get_outcome();
      EXPECT_TRUE(given_up ? got.has_value() : got.errc() == singleflight::flight_errc::closed);
    }
    later.run_all();
  }
}

// Goal    The chain of a bucket, step by step: nodes that can be found come before those that
//         cannot, and of the latter, those that a forget has still to revoke come first (I10). Only
//         nodes that can be found make the table grow (I4).
TEST(table, a_chain_has_three_parts) {
  using namespace singleflight::detail;
  flight_table table;
  flight_node nodes[8];
  const auto order = [&] {
    std::string names;
    const flight_table::bucket b = table.lock(0);
    for (const flight_node* n = b.first(); n != nullptr; n = n->next) {
      names += static_cast<char>('a' + (n - nodes));
      EXPECT_EQ(
          n->next == nullptr ? b.first()->next != nullptr ? b.first()->prev : n : n->next->prev, n)
          << names;
    }
    flight_table::unlock(b);
    return names;
  };
  const auto with_bucket = [&](auto step) {
    flight_table::bucket b = table.lock(0);
    step(b);
    flight_table::unlock(b);
    return order();
  };
  const auto link = [&](flight_node& n) {
    return with_bucket([&](auto& b) { table.link_locked(b, n); });
  };
  const auto retire = [&](flight_node& n, bool revoked) {
    return with_bucket([&](auto& b) {
      n.revoked.store(revoked);
      table.retire_locked(b, n);
    });
  };
  const auto unlink = [&](flight_node& n) {
    return with_bucket([&](auto& b) { table.unlink_locked(b, n, false); });
  };
  EXPECT_EQ(link(nodes[0]), "a");
  EXPECT_EQ(retire(nodes[0], true), "a");
  EXPECT_EQ(link(nodes[1]), "ba");
  EXPECT_EQ(link(nodes[2]), "cba");
  EXPECT_EQ(retire(nodes[2], false), "bca");
  EXPECT_EQ(link(nodes[3]), "dbca");
  EXPECT_EQ(retire(nodes[1], false), "dbca");
  EXPECT_EQ(retire(nodes[1], false), "dbca") << "it is retired already";
  EXPECT_EQ(link(nodes[4]), "edbca");
  EXPECT_EQ(retire(nodes[4], true), "dbcae");
  nodes[2].revoked.store(true);
  EXPECT_EQ(with_bucket([&](auto& b) { flight_table::settle_locked(b, nodes[2]); }), "dbaec");
  nodes[5].mode.store(flight_mode::forgotten);  // takes the place of a retired one
  EXPECT_EQ(link(nodes[5]), "dfbaec");
  EXPECT_EQ(link(nodes[6]), "gdfbaec");
  table.grow();
  EXPECT_TRUE(table.crowded()) << "growth has begun";
  EXPECT_EQ(order(), "gdfbaec");
  while (table.crowded()) table.grow();
  EXPECT_EQ(order(), "gdfbaec");
  EXPECT_EQ(unlink(nodes[0]), "gdfbec");
  EXPECT_EQ(unlink(nodes[2]), "gdfbe");
  EXPECT_EQ(unlink(nodes[6]), "dfbe");
  EXPECT_EQ(unlink(nodes[3]), "fbe");
  EXPECT_EQ(unlink(nodes[5]), "be");
  EXPECT_EQ(unlink(nodes[4]), "b");
  EXPECT_EQ(unlink(nodes[1]), "");

  std::vector<flight_node> many(1'000);
  flight_table small;
  for (flight_node& n : many) {
    n.mode.store(flight_mode::open);
    flight_table::bucket b = small.lock(0);
    small.link_locked(b, n);
    flight_table::unlock(b);
  }
  EXPECT_TRUE(small.crowded());
  for (flight_node& n : many) {
    flight_table::bucket b = small.lock(0);
    small.retire_locked(b, n);
    flight_table::unlock(b);
  }
  EXPECT_FALSE(small.crowded());
}

// Goal    The table grows in steps of sixteen buckets. Between them, each node is found by its
//         hash, a walk meets it once, and the crowd is counted right (I4).
TEST(table, grows_in_steps) {
  using namespace singleflight::detail;
  flight_table table;
  std::vector<flight_node> nodes(8'000);
  const auto hash_of = [](std::size_t i) { return i * 0x9E3779B97F4A7C15U; };
  const auto is_there = [&](const flight_node& node) {
    const locked_bucket b(table.lock(node.hash));
    const flight_node* n = b.first();
    while (n != nullptr && n != &node) n = n->next;
    return n == &node;
  };
  const auto met = [&] {
    std::size_t count = 0;
    table.each([&](flight_table::head& at) {
      const locked_bucket b(flight_table::lock_at(at));
      for (const flight_node* n = b.first(); n != nullptr; n = n->next) ++count;
      return !b.has_moved();
    });
    return count;
  };
  std::size_t linked = 0;
  const auto link = [&] {
    flight_node& node = nodes[linked];
    node.hash = hash_of(linked++);
    locked_bucket b(table.lock(node.hash));
    table.link_locked(b, node);
  };
  for (const std::size_t heads : {32U, 128U, 512U}) {
    while (!table.crowded()) link();
    std::size_t steps = 0;
    while (table.crowded() && steps < 100) {
      table.grow();
      ++steps;
      if (steps % 3 == 0) link();
      ASSERT_EQ(met(), linked);
      for (std::size_t i = steps % 7; i < linked; i += 7) ASSERT_TRUE(is_there(nodes[i])) << i;
      if (steps == heads / 16) break;
    }
    EXPECT_EQ(steps, heads / 16);
  }
  while (!table.crowded()) link();
  EXPECT_GT(linked, 2'000U) << "with 2,048 heads, half of which are shared";
  for (std::size_t i = 0; i < linked; ++i) {
    locked_bucket b(table.lock(nodes[i].hash));
    table.unlink_locked(b, nodes[i], false);
  }
  EXPECT_FALSE(table.crowded());
  EXPECT_EQ(met(), 0U);
}

// Goal    A group is closed while its table grows: every flight ends.
TEST(table, closed_as_it_grows) {
  support::manual_executor later;
  singleflight::group<int, int> g({.executor = later});
  std::vector<singleflight::flight<int>> all;
  for (int k = 0; k < 900; ++k) all.push_back(g.start(k, [k] { return k; }));  // some steps
  EXPECT_EQ(g.in_flight().size(), all.size());
  g.close();
  for (auto& each : all) EXPECT_EQ(each.get_outcome().errc(), singleflight::flight_errc::closed);
  later.run_all();
}

// Goal    When two callers miss one after the other, the second load can see what the first one
//         did, so a loader that looks again does not load twice (P7).
// Method  The second caller has missed before the first flight ends, and leads after it has ended.
TEST(table, the_second_load_sees_what_the_first_filled) {  // Scenario 25
  singleflight::group<std::string, int> g;
  std::map<std::string, int> cache;  // no lock of its own: the flights order its uses
  int loads = 0;
  const auto look_again = [&] {
    if (const auto hit = cache.find("k"); hit != cache.end()) return hit->second;
    ++loads;
    return cache["k"] = 7;
  };
  support::gate second_missed;
  support::gate first_ended;
  std::thread second([&] {
    second_missed.open();  // it has seen no entry
    first_ended.wait();
    EXPECT_EQ(*g.run("k", look_again), 7);
  });
  second_missed.wait();
  EXPECT_EQ(*g.run("k", look_again), 7);
  first_ended.open();
  second.join();
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(g.stats().loads, 2U);  // two flights in series
}

}  // namespace
