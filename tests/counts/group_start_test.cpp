// SPDX-License-Identifier: Apache-2.0

// What start() and co_await cost, in things that can be counted.

#include <gtest/gtest.h>
#include <malloc.h>

#include <chrono>
#include <coroutine>
#include <exception>
#include <new>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "singleflight/flight.hpp"
#include "support/allocation_count.hpp"

namespace {

using singleflight::flight_promise;
using singleflight::group;
using support::allocations_of_this_thread;

using view_group = group<std::string, std::string_view>;

constexpr std::string_view hot_key = "key:000000000000";

std::size_t last_frame_bytes = 0;

/// A caller's coroutine that records how much memory its frame took: the allocator's chunk,
/// including the allocator's own header.
struct caller {
  struct promise_type {
    static void* operator new(std::size_t bytes) {
      void* const frame = ::operator new(bytes);
      last_frame_bytes = malloc_usable_size(frame) + sizeof(std::size_t);
      return frame;
    }
    static void operator delete(void* frame) { ::operator delete(frame); }
    caller get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
  };
};

/// A load that is a minimal coroutine: it never suspends once it has begun.
struct view_load {
  struct promise_type {
    view_load get_return_object() noexcept {
      return view_load(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    std::suspend_always final_suspend() const noexcept { return {}; }
    void return_value(std::string_view result) noexcept { value = result; }
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
    std::string_view value;
  };
  explicit view_load(std::coroutine_handle<promise_type> f) noexcept : frame(f) {}
  view_load(view_load&& other) noexcept : frame(std::exchange(other.frame, nullptr)) {}
  view_load& operator=(view_load&&) = delete;
  ~view_load() {
    if (frame) frame.destroy();
  }
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<>) const {
    frame.resume();
    return false;
  }
  std::string_view await_resume() const noexcept { return frame.promise().value; }
  std::coroutine_handle<promise_type> frame;
};

view_load load_as_coroutine() { co_return "value:0123456789"; }

struct ready_view {
  bool await_ready() const noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  std::string_view await_resume() const noexcept { return "value:0123456789"; }
};
ready_view load_as_awaitable() { return {}; }

std::string_view no_load_of_its_own() { return "a waiter led a load of its own"; }

template <class Load>
caller call_in_turn(view_group& views, Load load, int calls, std::optional<double>& per_call) {
  std::size_t before = 0;
  for (int i = 0; i <= calls; ++i) {
    if (i == 1) before = allocations_of_this_thread();  // the first call sets up the thread
    auto flight = views.start(hot_key, load);
    auto result = co_await flight;
    EXPECT_EQ(result->size(), 16U);
  }
  per_call = static_cast<double>(allocations_of_this_thread() - before) / calls;
}

// Goal    A started load that is not shared makes one allocation for the flight, and one for the
//         load's own frame if it is a coroutine.
TEST(start_counts, a_call_alone_allocates_twice_at_most) {
  view_group views({.executor = singleflight::inline_executor});
  std::optional<double> coroutine, awaitable;
  call_in_turn(views, &load_as_coroutine, 100, coroutine);
  call_in_turn(views, &load_as_awaitable, 100, awaitable);
  ASSERT_TRUE(coroutine && awaitable) << "a call did not return on its own thread";
  EXPECT_LE(*coroutine, 2);
  EXPECT_LE(*awaitable, 2);
}

struct scene {
  view_group views{{.executor = singleflight::inline_executor}};
  std::chrono::steady_clock::time_point deadline =
      std::chrono::steady_clock::now() + std::chrono::hours(1);
  std::stop_source stop;
  std::stop_token token = stop.get_token();
  int resumed = 0;

  void tell(std::string_view value) { resumed += value == "value:0123456789" ? 1 : 0; }
};

caller wait(scene& s) {
  auto flight = s.views.start(hot_key, &no_load_of_its_own);
  s.tell(*co_await flight);
}

caller wait_with_limits(scene& s) {
  auto flight = s.views.start(hot_key, &no_load_of_its_own);
  s.tell(*co_await flight.until(s.deadline, s.token));
}

class waiters : public testing::Test {
 protected:
  void SetUp() override {
    leader_.emplace(s.views.start(
        hot_key, [this](flight_promise<std::string_view> promise) { load = std::move(promise); }));
    ASSERT_TRUE(load);
  }
  scene s;
  std::optional<flight_promise<std::string_view>> load;

 private:
  std::optional<singleflight::flight<std::string_view>> leader_;
};

// Goal    An awaiting caller costs its own coroutine frame and nothing else, neither when it joins
//         nor when it is resumed; the frame, including the library's part, has at most 176 bytes.
TEST_F(waiters, take_their_own_frame_and_nothing_else) {
  wait(s);
  const std::size_t before = allocations_of_this_thread();
  for (int i = 1; i < 100; ++i) wait(s);
  EXPECT_EQ(allocations_of_this_thread() - before, 99U);
  EXPECT_LE(last_frame_bytes, 176U);
  RecordProperty("bytes_per_waiter", std::to_string(last_frame_bytes));

  const std::size_t before_end = allocations_of_this_thread();
  load->set_value("value:0123456789");
  EXPECT_EQ(allocations_of_this_thread() - before_end, 0U);
  EXPECT_EQ(s.resumed, 100);
}

// Goal    A deadline and a stop token are stored in the frame as well, which then has at most 256
//         bytes.
TEST_F(waiters, with_a_deadline_and_a_stop_token_take_their_own_frame_and_nothing_else) {
  wait_with_limits(s);
  const std::size_t before = allocations_of_this_thread();
  for (int i = 1; i < 100; ++i) wait_with_limits(s);
  EXPECT_EQ(allocations_of_this_thread() - before, 99U);
  EXPECT_LE(last_frame_bytes, 256U);
  RecordProperty("bytes_per_waiter", std::to_string(last_frame_bytes));

  load->set_value("value:0123456789");
  EXPECT_EQ(s.resumed, 100);
}

/// An executor that is equal to no other; its tasks run when the test says so.
struct another_executor {
  void execute(singleflight::task work) { queue->push_back(std::move(work)); }
  void run_all() const {
    for (std::vector<singleflight::task> given; !queue->empty();) {
      given.swap(*queue);
      for (singleflight::task& work : given) work();
      given.clear();
    }
  }
  std::vector<singleflight::task>* queue;
};

caller wait_elsewhere(scene& s, another_executor& on) {
  auto flight = s.views.start(hot_key, &no_load_of_its_own);
  const auto got = co_await flight.until(s.deadline, s.token).on(on).as_outcome();
  s.resumed += got.errc() == singleflight::flight_errc::cancelled ? 1 : 0;
}
void call_back_elsewhere(scene& s, another_executor& on) {
  auto flight = s.views.start(hot_key, &no_load_of_its_own);
  flight.until(s.deadline, s.token).on(on).on_ready([&s](const auto& got) {
    s.resumed += got.errc() == singleflight::flight_errc::cancelled ? 1 : 0;
  });
}

void give_up(scene& s, const another_executor& on) {
  s.stop.request_stop();
  on.run_all();
  s.stop = {};
  s.token = s.stop.get_token();
}
void wait_elsewhere_then_give_up(scene& s, another_executor& on) {
  wait_elsewhere(s, on);
  give_up(s, on);
}
void call_back_elsewhere_then_give_up(scene& s, another_executor& on) {
  call_back_elsewhere(s, on);
  give_up(s, on);
}

// Goal    Callers that have given up leave nothing in a load that continues, wherever they resumed
//         (P4): a load that hangs accumulates no memory from them.
TEST_F(waiters, keep_nothing_once_they_have_given_up) {
  std::vector<singleflight::task> queue;
  std::vector<another_executor> elsewhere(100, another_executor{&queue});
  for (const auto wait : {&wait_elsewhere_then_give_up, &call_back_elsewhere_then_give_up}) {
    s.resumed = 0;
    wait(s, elsewhere[0]);  // initialises the thread's state
    const std::size_t before = support::kept_by_this_thread();
    for (another_executor& on : elsewhere) wait(s, on);
    EXPECT_EQ(support::kept_by_this_thread(), before);
    EXPECT_EQ(s.resumed, 101);
  }
  load->set_value("value:0123456789");
}

}  // namespace
