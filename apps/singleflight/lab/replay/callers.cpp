// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/callers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <latch>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "cli/usage_error.hpp"

namespace singleflight::lab {

namespace {

using clock = std::chrono::steady_clock;

constexpr auto tolerated_delay = std::chrono::milliseconds(10);
// Enough for a burst of a few requests to find existing threads.
constexpr std::size_t spare_threads = 8;

class open_loop {
 public:
  open_loop(const std::vector<std::chrono::nanoseconds>& due, std::size_t most_threads,
            const make_request& make)
      : due_(due), most_threads_(most_threads), make_(make) {}

  calling run(const std::stop_token& stop) {
    start_ = clock::now();
    const std::stop_callback on_stop(stop, [this] {
      const std::scoped_lock lock(mutex_);
      stopped_ = true;
      changed_.notify_all();
    });
    {
      std::unique_lock lock(mutex_);
      for (std::size_t i = 0; i < std::min(spare_threads, due_.size()); ++i) add_thread_locked();
      if (threads_.empty() && !due_.empty())
        throw cli::usage_error("the system does not allow another thread; close some programs");
      changed_.wait(lock, [this] { return finished_ == threads_.size(); });
    }
    for (auto& thread : threads_) thread.join();
    account_.threads = threads_.size();
    return account_;
  }

 private:
  void add_thread_locked() {
    if (threads_.size() >= most_threads_) {
      account_.out_of_threads = true;
      return;
    }
    try {
      threads_.emplace_back([this, number = threads_.size()] { work(number); });
    } catch (const std::system_error&) {
      most_threads_ = threads_.size();
      account_.out_of_threads = true;
    }
  }

  void work(std::size_t number) {
    while (const auto request = next()) make_(number, *request, start_ + due_[*request]);
    const std::scoped_lock lock(mutex_);
    ++finished_;
    changed_.notify_all();
  }

  // Waits until the next request is due and returns its index; empty if there is none.
  std::optional<std::size_t> next() {
    std::unique_lock lock(mutex_);
    if (stopped_ || next_ == due_.size()) return std::nullopt;
    const auto request = next_++;
    const auto due = start_ + due_[request];
    ++waiting_;
    changed_.wait_until(lock, due, [this] { return stopped_; });
    --waiting_;
    if (stopped_) return std::nullopt;
    const auto delay = clock::now() - due;
    account_.worst_delay = std::max<std::chrono::nanoseconds>(account_.worst_delay, delay);
    if (delay > tolerated_delay) ++account_.started_late;
    if (waiting_ < std::min(spare_threads, due_.size() - next_)) add_thread_locked();
    return request;
  }

  const std::vector<std::chrono::nanoseconds>& due_;
  std::size_t most_threads_;
  const make_request& make_;
  clock::time_point start_{};

  std::mutex mutex_;  // guards the members below; not held while a request is made
  std::condition_variable changed_;
  std::deque<std::thread> threads_;
  std::size_t next_ = 0;
  std::size_t waiting_ = 0;
  std::size_t finished_ = 0;
  bool stopped_ = false;
  calling account_;
};

}  // namespace

calling call_in_closed_loop(std::size_t requests, std::size_t callers, const make_request& make,
                            const std::stop_token& stop) {
  callers = std::min(callers, requests);
  std::atomic<std::size_t> next = 0;
  std::atomic<bool> abandoned = false;
  std::latch start(1);
  std::vector<std::jthread> threads;
  threads.reserve(callers);
  try {
    for (std::size_t number = 0; number < callers; ++number) {
      threads.emplace_back([&, number] {
        start.wait();
        while (!abandoned && !stop.stop_requested()) {
          const auto request = next.fetch_add(1, std::memory_order_relaxed);
          if (request >= requests) return;
          make(number, request, clock::now());
        }
      });
    }
  } catch (const std::system_error&) {
    abandoned = true;
    start.count_down();
    throw cli::usage_error(
        fmt::format("--callers: the system allows no more than {} threads; try --callers {}",
                    threads.size(), std::max<std::size_t>(threads.size() / 2, 1)));
  }
  start.count_down();
  threads.clear();  // joins
  calling account;
  account.threads = callers;
  return account;
}

calling call_in_open_loop(const std::vector<std::chrono::nanoseconds>& due,
                          std::size_t most_threads, const make_request& make,
                          const std::stop_token& stop) {
  return open_loop(due, most_threads, make).run(stop);
}

}  // namespace singleflight::lab
