// SPDX-License-Identifier: Apache-2.0

// Two shared objects, each compiled with the headers and hidden visibility, share the process-wide
// state.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <set>
#include <thread>

#include "sides.hpp"
#include "support/gate.hpp"
#include <singleflight/flight.hpp>

namespace {

using namespace shared_objects;
using singleflight::flight_errc;
using errc = std::optional<flight_errc>;

// Goal    There is one default pool, timer, error category, wait graph, per-thread state and hash
//         secret in the process.
TEST(shared_objects, share_what_is_process_wide) {  // Scenario 28c
  const process_wide a = seen_by_a();
  const process_wide b = seen_by_b();
  EXPECT_EQ(a.pool, b.pool);
  EXPECT_EQ(a.timer, b.timer);
  EXPECT_EQ(a.category, b.category);
  EXPECT_EQ(a.graph, b.graph);
  EXPECT_EQ(a.this_thread, b.this_thread);
  EXPECT_EQ(a.hash_secret, b.hash_secret);
  EXPECT_EQ(a.hash, b.hash);
  EXPECT_EQ(a.hash, singleflight::key_hash<int>{}(7));
  EXPECT_EQ(a.pool, &singleflight::default_pool()) << "the program itself, too";
  EXPECT_EQ(a.category, &singleflight::flight_category());
}

// Goal    Flight ids are unique over both.
TEST(shared_objects, ids_are_unique) {  // Scenario 28c
  std::set<std::uint64_t> ids;
  for (int i = 0; i < 1000; ++i) {
    ids.insert(flight_id_in_a());
    ids.insert(flight_id_in_b());
  }
  EXPECT_EQ(ids.size(), 2000u);
}

// Goal    The library's error thrown in one object is caught by its type in another.
TEST(shared_objects, errors_keep_their_type) {
  try {
    throw_in_a();
  } catch (const singleflight::flight_error& error) {
    EXPECT_EQ(error.code(), flight_errc::rejected);
  }
}

// Goal    Nested loads across both objects work; a load that calls for its own key again is
//         `recursive`.
TEST(shared_objects, nested_and_recursive_on_one_thread) {  // Scenario 28c
  errc inner;
  EXPECT_EQ(run_in_a(1, [&] { inner = run_in_b(1, [] {}); }), errc());
  EXPECT_EQ(inner, errc());
  errc back;
  EXPECT_EQ(run_in_a(1, [&] { inner = run_in_b(1, [&] { back = run_in_a(1, [] { FAIL(); }); }); }),
            errc());
  EXPECT_EQ(inner, errc());
  EXPECT_EQ(back, flight_errc::recursive);
}

// Goal    A cycle over two threads, A -> B in one object and B -> A in the other, is detected: one
//         of the two waits gets `recursive`, the other its outcome.
// Method  Both lead before either calls for the other's key.
TEST(shared_objects, cycle_over_two_threads) {  // Scenario 28c
  support::gate a_leads;
  support::gate b_leads;
  errc waits_for_b;
  errc waits_for_a;
  std::jthread other([&] {
    EXPECT_EQ(run_in_b(2,
                       [&] {
                         b_leads.open();
                         a_leads.wait();
                         waits_for_a = run_in_a(2, [] {});
                       }),
              errc());
  });
  EXPECT_EQ(run_in_a(2,
                     [&] {
                       a_leads.open();
                       b_leads.wait();
                       waits_for_b = run_in_b(2, [] {});
                     }),
            errc());
  other.join();
  EXPECT_EQ((waits_for_a == flight_errc::recursive) + (waits_for_b == flight_errc::recursive), 1);
  EXPECT_EQ((waits_for_a == errc()) + (waits_for_b == errc()), 1);
}

}  // namespace
