// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>

namespace sf = singleflight;

namespace {

/// Counts the objects alive and the copies.
struct counted {
  static inline std::atomic<int> alive{0};
  static inline std::atomic<int> copies{0};
  explicit counted(int n) : number(n) { ++alive; }
  counted(const counted& o) : number(o.number) {
    ++alive;
    ++copies;
  }
  counted(counted&& o) noexcept : number(o.number) { ++alive; }
  ~counted() { --alive; }
  int number;
};
using flights_type = sf::group<int, counted>;
using result = sf::shared_result<counted>;

/// Two handles on one value: those of the leader and of a joiner.
std::pair<result, result> two_handles(int number) {
  support::manual_executor queue;
  flights_type flights({.executor = queue});
  auto leader = flights.start(1, [number] { return counted(number); });
  auto joiner = flights.start(1, [] { return counted(0); });
  queue.run_all();
  auto first = leader.get();
  auto second = joiner.get();
  return {std::move(first), std::move(second)};
}

// Goal    The handle can be moved and not copied; access is const.
TEST(shared_result, is_a_move_only_handle_with_const_access) {
  static_assert(!std::is_copy_constructible_v<result>);
  static_assert(std::is_nothrow_move_constructible_v<result>);
  static_assert(std::is_same_v<decltype(*std::declval<result&>()), const counted&>);
  static_assert(std::is_same_v<decltype(std::declval<result&>().operator->()), const counted*>);
}

// Goal    Alone, the value is stored in the handle, moves with it, and can be taken or made a
//         shared_ptr.
TEST(shared_result, alone) {
  counted::copies = 0;
  flights_type flights;
  {
    result r = flights.run(1, [] { return counted(7); });
    EXPECT_EQ(r->number, 7);
    EXPECT_EQ(r.get().number, 7);
    EXPECT_FALSE(r.shared());
    EXPECT_EQ(r.callers(), 1U);
    result moved = std::move(r);
    EXPECT_EQ(moved->number, 7);
    result other = flights.run(1, [] { return counted(8); });
    other = std::move(moved);
    EXPECT_EQ(other->number, 7);
    auto taken = std::move(other).try_take();
    ASSERT_TRUE(taken.has_value());
    EXPECT_EQ(taken->number, 7);
    const std::shared_ptr<const counted> kept = flights.run(1, [] { return counted(9); }).share();
    EXPECT_EQ(kept->number, 9);
  }
  EXPECT_EQ(counted::alive, 0);
  EXPECT_EQ(counted::copies, 0);
}

// Goal    Shared, both handles refer to one object, which stays where it is as the handles move; it
//         cannot be taken; it is destroyed with the last handle or shared_ptr.
TEST(shared_result, shared) {
  counted::copies = 0;
  {
    auto [leader, joiner] = two_handles(5);
    EXPECT_EQ(leader.role(), sf::flight_role::leader);
    EXPECT_EQ(joiner.role(), sf::flight_role::joiner);
    EXPECT_TRUE(leader.shared());
    EXPECT_TRUE(joiner.shared());
    EXPECT_EQ(leader.callers(), 2U);
    const counted* const object = &*leader;
    EXPECT_EQ(&*joiner, object);
    result moved = std::move(leader);
    EXPECT_EQ(&*moved, object);
    EXPECT_FALSE(std::move(moved).try_take().has_value());
    EXPECT_EQ(moved->number, 5) << "a handle that cannot be taken keeps its value";  // NOLINT
    std::shared_ptr<const counted> kept = std::move(moved).share();
    EXPECT_EQ(kept.get(), object);
    { const result dropped = std::move(joiner); }
    EXPECT_EQ(counted::alive, 1);
    EXPECT_EQ(kept->number, 5);
    const auto copy = kept;
    kept.reset();
    EXPECT_EQ(copy->number, 5);
  }
  EXPECT_EQ(counted::alive, 0);
  EXPECT_EQ(counted::copies, 0);
}

// Goal    A started value that is not shared can be taken out of its block; so can the value of a
//         loader that queried its stop token.
TEST(shared_result, unshared_in_a_block) {
  support::manual_executor queue;
  {
    flights_type flights({.executor = queue});
    auto f = flights.start(1, [] { return counted(3); });
    queue.run_all();
    auto r = f.get();
    EXPECT_FALSE(r.shared());
    auto taken = std::move(r).try_take();
    ASSERT_TRUE(taken.has_value());
    EXPECT_EQ(taken->number, 3);
    auto s = flights.run(1, [](std::stop_token) { return counted(4); });
    EXPECT_FALSE(s.shared());
    EXPECT_EQ(std::move(s).share()->number, 4);
  }
  EXPECT_EQ(counted::alive, 0);
}

// Goal    The value outlives its group.
TEST(shared_result, outlives_the_group) {
  std::optional<result> kept;
  {
    auto [leader, joiner] = two_handles(6);
    kept.emplace(std::move(joiner));
  }
  EXPECT_EQ((*kept)->number, 6);
  kept.reset();
  EXPECT_EQ(counted::alive, 0);
}

// Goal    Moving an assigned handle to itself keeps the value.
TEST(shared_result, self_move) {
  auto [leader, joiner] = two_handles(2);
  auto& alias = leader;
  leader = std::move(alias);
  EXPECT_EQ(leader->number, 2);
}

// Goal    A handle whose assignment throws, because the value's move does, is empty afterwards; its
//         previous value is destroyed once.
TEST(shared_result, assignment_that_throws) {
  struct moody {
    explicit moody(bool t) : throws(t), token(std::make_shared<int>(0)) {}
    moody(moody&& other) : throws(other.throws), token(other.token) {
      if (throws) throw std::domain_error("move");
    }
    bool throws;
    std::shared_ptr<int> token;
  };
  sf::group<int, moody> flights;
  auto to = flights.run(1, [] { return moody(false); });
  auto from = flights.run(1, [] { return moody(true); });
  const std::weak_ptr<int> was = to->token;
  EXPECT_THROW(to = std::move(from), std::domain_error);
  EXPECT_TRUE(was.expired());
  EXPECT_EQ(from->token.use_count(), 1);
}

}  // namespace
