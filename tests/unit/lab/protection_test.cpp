// SPDX-License-Identifier: Apache-2.0
#include "lab/protection/protection.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <stdexcept>
#include <thread>

#include "lab/replay/load_meter.hpp"
#include "unit/lab/fake_backend.hpp"

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

class every_protection : public testing::TestWithParam<std::string> {};

TEST_P(every_protection, a_single_request_loads) {
  fake_backend backend([](const std::string& key) { return row{key, key == "none" ? 0U : 1U}; });
  load_meter loads(backend);
  const auto guard = make_protection(GetParam(), loads);
  const auto got = guard->ask("k", steady_time::max());
  EXPECT_EQ(got.from, reply::origin::own_load);
  EXPECT_FALSE(got.error);
  EXPECT_FALSE(got.empty);
  EXPECT_TRUE(guard->ask("none", steady_time::max()).empty);
  EXPECT_EQ(loads.loads(), 2U);
}

TEST_P(every_protection, an_expired_deadline_loads_nothing) {
  fake_backend backend([](const std::string& key) { return row{key, 1}; });
  load_meter loads(backend);
  const auto got = make_protection(GetParam(), loads)->ask("k", clock::now() - 1ms);
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->kind, "timed_out");
  EXPECT_EQ(got.from, reply::origin::no_load);
  EXPECT_EQ(loads.loads(), 0U);
}

TEST_P(every_protection, failures_have_their_kind) {
  fake_backend backend([](const std::string& key) -> row {
    if (key == "busy") throw backend_error("sqlite_busy", "database is locked");
    if (key == "queue") throw no_connection();
    if (key == "open") throw not_asked("rejected", "open");
    throw std::runtime_error("odd");
  });
  load_meter loads(backend);
  const auto guard = make_protection(GetParam(), loads);
  auto got = guard->ask("busy", steady_time::max());
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->kind, "sqlite_busy");
  EXPECT_EQ(got.error->what, "database is locked");
  EXPECT_EQ(got.from, reply::origin::own_load);
  got = guard->ask("other", steady_time::max());
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->kind, "exception");
  EXPECT_EQ(loads.loads(), 2U);
  got = guard->ask("queue", steady_time::max());
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->kind, "timed_out");
  EXPECT_EQ(got.from, reply::origin::no_load);
  got = guard->ask("open", steady_time::max());
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->kind, "rejected");
  EXPECT_EQ(got.from, reply::origin::no_load);
  EXPECT_EQ(loads.loads(), 2U);  // the others did not reach the backend
}

INSTANTIATE_TEST_SUITE_P(all, every_protection, testing::ValuesIn(protection_names()),
                         [](const auto& each) {
                           auto name = each.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Goal    A request that joins a load starts no load of its own, and returns at its deadline.
// Method  The load does not return until the second caller has given up.
TEST(flight_protection, joins_a_running_load) {
  std::latch loading(1);
  std::latch release(1);
  fake_backend backend([&](const std::string& key) {
    loading.count_down();
    release.wait();
    return row{key, 1};
  });
  load_meter loads(backend);
  const auto guard = make_protection("flight", loads);
  reply leader;
  std::jthread first([&] { leader = guard->ask("k", steady_time::max()); });
  loading.wait();
  const auto got = guard->ask("k", clock::now() + 1ms);
  release.count_down();
  first.join();
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->kind, "timed_out");
  EXPECT_EQ(got.from, reply::origin::no_load);
  EXPECT_EQ(leader.from, reply::origin::own_load);
  EXPECT_EQ(loads.loads(), 1U);
  EXPECT_EQ(loads.series().most(), 1U);
}

// Goal    Without protection two requests for one key are two concurrent loads.
TEST(no_protection, loads_for_each) {
  std::latch both(2);
  fake_backend backend([&](const std::string& key) {
    both.arrive_and_wait();
    return row{key, 1};
  });
  load_meter loads(backend);
  const auto guard = make_protection("none", loads);
  {
    std::jthread first([&] { guard->ask("k", steady_time::max()); });
    guard->ask("k", steady_time::max());
  }
  EXPECT_EQ(loads.loads(), 2U);
  EXPECT_EQ(loads.series().most(), 2U);
}

TEST(protection, unknown_names) {
  fake_backend backend([](const std::string&) { return row{}; });
  load_meter loads(backend);
  EXPECT_EQ(make_protection("umbrella", loads), nullptr);
  EXPECT_EQ(make_protection("", loads), nullptr);
}

}  // namespace
}  // namespace singleflight::lab
