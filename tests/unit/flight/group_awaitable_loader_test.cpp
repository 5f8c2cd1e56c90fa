// SPDX-License-Identifier: Apache-2.0
//
// Loaders that return an awaitable: every way in which it can be awaited, whether it is ready, is
// resumed on this thread or another one, or never is.

#include <gtest/gtest.h>

#include <atomic>
#include <coroutine>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/executors.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>

namespace sf = singleflight;

namespace {

using strings = sf::group<int, std::string>;

/// Counts the objects alive, so that each test detects a leak or a double destruction.
struct awaited {
  awaited() noexcept { ++alive; }
  awaited(const awaited&) = delete;
  awaited& operator=(const awaited&) = delete;
  ~awaited() { --alive; }
  static inline std::atomic<int> alive{0};
};

/// The value is a part of the awaitable: await_resume returns a reference into it.
struct never_ready : awaited {
  std::string value = "a value that is too long for the buffer of a string";
  bool await_ready() const noexcept { return false; }
  std::string& await_resume() noexcept { return value; }
};
const std::string expected = never_ready().value;

struct ready : never_ready {
  bool await_ready() const noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) const noexcept { std::abort(); }
};
struct stays : never_ready {  // does not suspend after all
  bool await_suspend(std::coroutine_handle<>) const noexcept { return false; }
};
struct resumes_at_once : never_ready {
  void await_suspend(std::coroutine_handle<> h) const { h.resume(); }
};
struct transfers_back : never_ready {
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> h) const noexcept { return h; }
};
struct resumed_before_it_returns : never_ready {
  bool await_suspend(std::coroutine_handle<> h) const {
    std::thread([h] { h.resume(); }).join();
    return true;
  }
};
struct has_member_operator : awaited {
  ready operator co_await() const { return {}; }
};
struct has_free_operator : awaited {};
ready operator co_await(const has_free_operator&) { return {}; }

/// Awaitables that throw, by place.
struct fails_before : never_ready {
  bool await_ready() const { throw std::domain_error("ready"); }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
};
struct fails_on_the_way : never_ready {
  void await_suspend(std::coroutine_handle<>) const { throw std::domain_error("suspend"); }
};
struct fails_after : never_ready {
  void await_suspend(std::coroutine_handle<> h) const { h.resume(); }
  std::string& await_resume() const { throw std::domain_error("resume"); }
};
struct fails_to_be : awaited {
  fails_to_be() { throw std::domain_error("constructor"); }
  bool await_ready() const noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  std::string await_resume() const { return {}; }
};
struct fails_to_give : awaited {
  ready operator co_await() const { throw std::domain_error("operator"); }
};

/// Stores the handle, for the test to resume or destroy.
struct parked : never_ready {
  explicit parked(std::coroutine_handle<>& place) : to(place) {}
  void await_suspend(std::coroutine_handle<> h) const noexcept { to = h; }
  std::coroutine_handle<>& to;
};

/// Calls `check` with a group for each way in which a load begins: from a queue, within start(),
/// and as one of several possible attempts.
void in_every_group(const std::function<void(strings&, const std::function<void()>&)>& check) {
  support::manual_executor queue;
  const std::function<void()> drain = [&] { queue.run_all(); };
  {
    SCOPED_TRACE("queued");
    strings flights({.executor = queue});
    check(flights, drain);
    EXPECT_EQ(flights.in_flight().size(), 0U);
  }
  {
    SCOPED_TRACE("within start");
    strings flights({.executor = sf::inline_executor});
    check(flights, drain);
    EXPECT_EQ(flights.in_flight().size(), 0U);
  }
  {
    SCOPED_TRACE("handing over");
    strings flights({.executor = queue, .on_error = sf::error_policy::hand_over(1)});
    check(flights, drain);
    EXPECT_EQ(flights.in_flight().size(), 0U);
  }
  EXPECT_EQ(awaited::alive, 0);
}

template <class Awaitable>
void answers() {
  in_every_group([](strings& flights, const std::function<void()>& drain) {
    auto f = flights.start(1, [] { return Awaitable(); });
    drain();
    EXPECT_TRUE(f.ready());
    EXPECT_EQ(awaited::alive, 0) << "the awaitable is destroyed with the load, not with the handle";
    EXPECT_EQ(*f.get(), expected);
  });
}
template <class Awaitable>
void fails() {
  in_every_group([](strings& flights, const std::function<void()>& drain) {
    int attempts = 0;
    auto f = flights.start(1, [&attempts] {
      ++attempts;
      return Awaitable();
    });
    drain();
    EXPECT_THROW((void)f.get(), std::domain_error);
    EXPECT_GE(attempts, 1);
  });
}

// Goal    A loader answers with every form of await_suspend, and with both forms of operator
//         co_await.
TEST(awaitable_loader, answers_however_it_is_resumed) {
  answers<ready>();
  answers<stays>();
  answers<resumes_at_once>();
  answers<transfers_back>();
  answers<resumed_before_it_returns>();
  answers<has_member_operator>();
  answers<has_free_operator>();
}

// Goal    Wherever an awaitable throws, its exception is the load's error (P5).
TEST(awaitable_loader, fails_wherever_it_throws) {
  fails<fails_before>();
  fails<fails_on_the_way>();
  fails<fails_after>();
  fails<fails_to_be>();
  fails<fails_to_give>();
}

// Goal    An awaitable that the loader does not own is awaited by reference.
TEST(awaitable_loader, by_reference) {
  in_every_group([](strings& flights, const std::function<void()>& drain) {
    ready mine;
    auto f = flights.start(1, [&mine]() -> ready& { return mine; });
    drain();
    EXPECT_EQ(*f.get(), expected);
    EXPECT_EQ(mine.value, expected) << "an lvalue is copied, not moved from";
  });
}

// Goal    A load that has suspended can be joined, and answers when it is resumed, on any thread;
//         one that is destroyed instead is broken (P5).
TEST(awaitable_loader, resumed_or_destroyed_later) {
  for (const bool destroyed : {false, true}) {
    in_every_group([destroyed](strings& flights, const std::function<void()>& drain) {
      std::coroutine_handle<> place;
      auto f = flights.start(1, [&place] { return parked(place); });
      drain();
      ASSERT_TRUE(place);
      EXPECT_FALSE(place.done());
      auto joiner = flights.start(1, [] { return ready(); });
      EXPECT_FALSE(f.ready());
      std::thread([&] { destroyed ? place.destroy() : place.resume(); }).join();
      drain();
      for (auto* each : {&f, &joiner}) {
        const auto got = each->get_outcome();
        if (destroyed) {
          EXPECT_EQ(got.errc(), sf::flight_errc::broken);
        } else {
          EXPECT_EQ(**got, expected);
        }
      }
    });
  }
}

// Goal    A load that ended within start(), before any other call could find it, leaves a handle
//         that outlives the group and serves every kind of wait.
TEST(awaitable_loader, a_handle_outlives_the_group) {
  std::vector<sf::flight<std::string>> handles;
  support::manual_executor queue;
  {
    strings flights({.executor = sf::inline_executor});
    for (int i = 0; i < 4; ++i) handles.push_back(flights.start(i, [] { return ready(); }));
  }
  EXPECT_TRUE(handles[0].wait_for(std::chrono::seconds(0)));
  EXPECT_EQ(*handles[0].get(), expected);
  int called = 0;
  const auto count = [&called](const auto& got) { called += **got == expected ? 1 : 0; };
  std::move(handles[1]).on_ready(count);
  EXPECT_EQ(called, 1) << "inline: at the end of this very call";
  std::move(handles[2]).on_ready(queue, count);
  queue.run_all();
  EXPECT_EQ(called, 2);
  std::move(handles[3]).detach();
}

}  // namespace
