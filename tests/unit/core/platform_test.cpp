// SPDX-License-Identifier: Apache-2.0

// The seam costs nothing: in a build for users its types are the standard's own, and its switches
// are constants.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <type_traits>
#include <utility>

#include "support/asleep.hpp"
#include "support/eventually.hpp"
#include "support/rules.hpp"
#include <singleflight/core/support/platform.hpp>

namespace {

namespace platform = singleflight::detail::platform;
namespace rule = singleflight::detail::rule;

static_assert(std::is_same_v<platform::atomic<std::uintptr_t>, std::atomic<std::uintptr_t>>);
static_assert(std::is_same_v<platform::atomic<bool>, std::atomic<bool>>);
static_assert(std::is_same_v<platform::mutex, std::mutex>);
static_assert(std::is_same_v<platform::condition_variable, std::condition_variable>);
static_assert(std::is_same_v<platform::unique_lock, std::unique_lock<std::mutex>>);
static_assert(std::is_same_v<platform::thread, std::thread>);
static_assert(std::is_same_v<platform::thread_id, std::thread::id>);
static_assert(std::is_same_v<platform::memory_order_t, std::memory_order>);
struct nothing {
  void operator()() const noexcept {}
};
static_assert(std::is_same_v<platform::stop_callback<nothing>, std::stop_callback<nothing>>);
static_assert(sizeof(platform::never_destroyed<long>) == sizeof(long));
static_assert(platform::tuned(64, 1) == 64);

// Every rule holds, and every order is the one that the code names.
#define SINGLEFLIGHT_RULE(name, what) static_assert(platform::holds(rule::name), what);
SINGLEFLIGHT_RULES(SINGLEFLIGHT_RULE)
#undef SINGLEFLIGHT_RULE
#define SINGLEFLIGHT_RULE(name, what)                                                             \
  static_assert(                                                                                  \
      platform::order(rule::name, std::memory_order_release) == std::memory_order_release, what); \
  static_assert(platform::acquire_release(rule::name, rule::none) == std::memory_order_acq_rel,   \
                what);
SINGLEFLIGHT_ORDER_RULES(SINGLEFLIGHT_RULE)
#undef SINGLEFLIGHT_RULE

int called = 0;
void call() noexcept { ++called; }

// Goal    A function registered for a thread's exit is called there once, however often it was
//         registered.
TEST(platform, at_thread_exit) {
  std::thread([] {
    platform::at_thread_exit<&call>();
    platform::at_thread_exit<&call>();
    EXPECT_EQ(called, 0);
  }).join();
  EXPECT_EQ(called, 1);
}

// Goal    A stop request to a thread is visible through the seam.
TEST(platform, stop_requested) {
  std::stop_source source;
  const std::stop_token token = source.get_token();
  EXPECT_FALSE(platform::stop_requested(token));
  platform::request_stop(source);
  EXPECT_TRUE(platform::stop_requested(token));
  EXPECT_FALSE(platform::stop_requested(std::stop_token()));
}

// Goal    When several threads create the object at the same time, all of them get the one that was
//         published first; an object made by another thread is destroyed, and no thread waits.
// Method  While one object is being made, another is made and published, as another thread would
//         do.
TEST(platform, one_per_process) {
  struct counted {
    explicit counted(int& count) : living(++count, count) {}
    counted(const counted&) = delete;
    counted& operator=(const counted&) = delete;
    ~counted() { --living.second; }
    std::pair<int, int&> living;
  };
  static constinit platform::one_per_process<counted> one;
  static int living = 0;
  const auto make = [] { return std::make_unique<counted>(living); };
  EXPECT_EQ(one.peek(), nullptr);
  counted* published = nullptr;
  counted& got = one.get([&] {
    auto late = make();
    published = &one.get(make);
    EXPECT_EQ(living, 2);
    return late;
  });
  EXPECT_EQ(&got, published);
  EXPECT_EQ(one.peek(), published);
  EXPECT_EQ(living, 1);
  EXPECT_EQ(&one.get(make), published);
  EXPECT_EQ(living, 1);
}

// Goal    A deadline beyond the range of a 32-bit time_t does not end a wait at once.
// Method  Truncated to 32 bits, this deadline would have passed. The thread is woken once it
//         sleeps.
TEST(platform, wait_until_a_far_deadline) {
  std::atomic<std::uint32_t> word{0};
  std::atomic<const support::asleep*> sleeper{nullptr};
  std::atomic<bool> expired{false};
  std::thread waiting([&] {
    const support::asleep self;
    const auto deadline =
        platform::now() - std::chrono::seconds(1) + std::chrono::seconds(std::int64_t{1} << 32);
    sleeper = &self;
    while (word == 0 && !expired) {
      expired = !platform::wait(word, std::uint32_t{0}, platform::all_channels, &deadline);
    }
    while (word == 0) std::this_thread::yield();
  });
  EXPECT_TRUE(support::eventually(
      [&] { return expired || (sleeper != nullptr && (*sleeper.load())()); }, "a thread asleep"));
  word = 1;
  platform::wake(word, 1);
  waiting.join();
  EXPECT_FALSE(expired);
}

}  // namespace
