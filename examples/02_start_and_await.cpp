// SPDX-License-Identifier: Apache-2.0
//
// A thousand coroutines wait for one load on a pool of two threads. A waiter costs its own frame
// and nothing else.

#include <coroutine>
#include <cstdio>
#include <exception>
#include <latch>
#include <string>

#include <singleflight/flight.hpp>

namespace {

using users = singleflight::group<std::string, std::string>;

// A coroutine that starts at once and is not awaited. Any coroutine type works.
struct background {
  struct promise_type {
    background get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
};

background serve(users& all, std::latch& may_answer, std::latch& served) {
  // start() owns the key and the loader, runs the loader on the group's executor, and never blocks.
  auto flight = all.start("user:42", [&may_answer] {
    may_answer.wait();  // a slow query
    return std::string("Ada");
  });
  const auto user = co_await flight;  // resumes on the group's executor
  if (*user == "Ada") served.count_down();
}

}  // namespace

int main() {
  constexpr int requests = 1000;
  std::latch may_answer(1);
  std::latch served(requests);
  singleflight::thread_pool pool({.max_threads = 2});
  users all({.executor = pool});

  for (int i = 0; i < requests; ++i) serve(all, may_answer, served);
  may_answer.count_down();
  served.wait();

  const auto stats = all.stats();
  std::printf("%d requests served by %d load\n", requests, static_cast<int>(stats.loads));
  return stats.loads == 1 && stats.joined == requests - 1 ? 0 : 1;
}
