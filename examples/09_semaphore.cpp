// SPDX-License-Identifier: Apache-2.0
//
// Bounded concurrency: threads and coroutines queue for the connections of a database.

#include <chrono>
#include <coroutine>
#include <cstdio>
#include <exception>
#include <latch>
#include <thread>

#include <singleflight/sync.hpp>

namespace {

struct coroutine {  // a minimal coroutine type; use the one of your framework
  struct promise_type {
    coroutine get_return_object() { return {}; }
    std::suspend_never initial_suspend() { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};

coroutine import_rows(singleflight::semaphore& connections, std::latch& done) {
  {
    auto place = connections.start_acquire(2);  // in the queue from now on
    singleflight::permit two = co_await place;
    two.release(1);  // the second one was needed at the beginning only
    std::printf("the import has its connections\n");
  }  // the first one is returned here
  done.count_down();
}

}  // namespace

int main() {
  singleflight::semaphore connections(2);
  std::latch done(1);

  singleflight::permit mine = connections.acquire();
  import_rows(connections, done);  // requests two: it waits, and is not overtaken
  const bool overtaken = static_cast<bool>(connections.try_acquire());

  const auto soon = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
  const auto late = connections.acquire(singleflight::as_outcome, 1, {.deadline = soon});
  std::printf("a caller in a hurry %s\n", late ? "was served" : "has left the queue");

  mine.release();
  done.wait();
  const singleflight::permit last = connections.acquire(2);  // all permits were returned
  return !overtaken && late.errc() == singleflight::flight_errc::timed_out ? 0 : 1;
}
