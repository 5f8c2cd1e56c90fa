// SPDX-License-Identifier: Apache-2.0
#pragma once

// Shared by most worlds of flights: a group of one hot key, a queue for its loads and resumptions,
// a history, and callers in every form.

#include <array>
#include <chrono>
#include <coroutine>
#include <initializer_list>
#include <optional>
#include <stop_token>
#include <utility>

#include "model/flight/history.hpp"
#include "model/worlds.hpp"
#include "support/model/executor.hpp"
#include "support/task.hpp"

namespace model {

inline constexpr auto forever = std::chrono::steady_clock::time_point::max();

struct scene {
  explicit scene(world& in, singleflight::group_options options = {})
      : w(in), h(in), flights(with(std::move(options), queue)) {}
  static singleflight::group_options with(singleflight::group_options options,
                                          const queue_executor& executor) {
    options.executor = executor;
    return options;
  }

  /// A thread of the world. Where memory runs short outside of any call, the thread ends.
  template <class What>
  void thread(What what, bool patient = false) {
    w.thread([this, what, patient] {
      // A thread whose last wait before a join was in vain joins at once.
      if (!patient) singleflight::detail::this_thread().vain_waits = 1;
      try {
        what();
      } catch (const std::bad_alloc&) {
        w.check(faults() > 0, "bad_alloc without a fault");
      }
      drain();  // runs the tasks that it caused: other threads may be blocked
    });
  }

  // ---- callers --------------------------------------------------------------------------------

  void run(bool fails = false, singleflight::limits bounds = {}) {
    h.calls([&] { return int{*flights.run(1, h.load(fails), bounds)}; });
    drain();
  }
  void run_fresh(singleflight::limits bounds = {}) {
    h.calls([&] { return int{*flights.run_fresh(1, h.load(), bounds)}; }, true);
    drain();
  }
  /// start, and a blocking wait.
  void get(bool fails = false, bool fresh = false) {
    h.calls(
        [&] {
          auto f = start(fails, fresh);
          drain();
          return int{*std::move(f).get()};
        },
        fresh);
  }
  /// start, and the handle is dropped.
  void drop() {
    { const auto f = start(false, false); }
    drain();
  }
  /// start, and a coroutine that waits; it lives until the scene ends, or until its frame is reset.
  void await(std::size_t place, bool fails = false, bool fresh = false, std::stop_token stop = {},
             std::chrono::steady_clock::time_point deadline = forever) {
    frames.at(place).emplace(wait(*this, fails, fresh, std::move(stop), deadline));
    drain();
  }
  /// start, and a callback.
  void call_back(bool fails = false) {
    auto mine = std::make_shared<history::call>(h);
    try {
      start(fails, false).on_ready([mine](const auto& got) { mine->given(got); });
    } catch (...) {
      mine->given(std::current_exception());
    }
    drain();
  }
  singleflight::flight<int> start(bool fails = false, bool fresh = false) {
    return fresh ? flights.start_fresh(1, h.load(fails)) : flights.start(1, h.load(fails));
  }

  /// Runs the queued tasks.
  void drain() { queue.run_all(); }

  /// Checks that every call has ended as promised, and that no flight is left.
  void finish() {
    drain();
    w.run();  // tasks that went to a pool
    h.check();
    w.check(flights.in_flight().empty(), "P2: a flight stays in the table");
    frames = {};
    flights.close();
  }

  world& w;
  history h;
  queue_executor queue;
  std::array<std::optional<support::owned>, 6> frames;
  ints flights;

 private:
  static support::owned wait(scene& s, bool fails, bool fresh, std::stop_token stop,
                             std::chrono::steady_clock::time_point deadline) {
    history::call mine(s.h, fresh);
    std::exception_ptr error;
    try {
      auto f = s.start(fails, fresh);
      mine.given(co_await f.until(deadline, stop).as_outcome());
    } catch (...) {
      error = std::current_exception();
    }
    if (error != nullptr) mine.given(error);
  }
};

}  // namespace model
