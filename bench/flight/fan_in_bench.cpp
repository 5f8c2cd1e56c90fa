// SPDX-License-Identifier: Apache-2.0

// Question   A million coroutines wait on one key: what does it take to join (cold heap), what does
//            a waiter cost in memory, and how long after the load ends does the last one have its
//            outcome?
// Baseline   As many goroutines blocked in golang.org/x/sync/singleflight.Do; with --limits=1, as
//            many in a select on DoChan and a context that has a deadline.
// Reading    Nanoseconds and resident bytes per waiter; the waiter's own coroutine frame is part of
//            both. A fresh process each time, since the second million would find a warm heap.

#include <chrono>
#include <cmath>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "bench/support/coroutines.hpp"
#include "bench/support/process.hpp"
#include "singleflight/flight.hpp"

namespace {

using group_type = singleflight::group<std::string, std::string_view>;

constexpr std::string_view hot_key = "key:000000000000";

struct scene {
  group_type group{{.executor = singleflight::inline_executor}};
  bench::steady::time_point deadline = bench::steady::now() + std::chrono::hours(1);
  std::stop_source stop;
  std::stop_token token = stop.get_token();
  std::size_t waiters = 0;
  std::size_t answered = 0;
  std::size_t bytes = 0;
  bench::steady::time_point last;

  void count(std::string_view value) {
    bytes += value.size();
    if (++answered == waiters) last = bench::steady::now();
  }
};

std::string_view must_not_load() { bench::fail("a waiter led a load of its own"); }

bench::detached wait(scene& s) {
  auto flight = s.group.start(hot_key, &must_not_load);
  s.count(*co_await flight);
}

bench::detached wait_with_limits(scene& s) {
  auto flight = s.group.start(hot_key, &must_not_load);
  s.count(*co_await flight.until(s.deadline, s.token));
}

/// The load that all waiters share.
class held_load {
 public:
  explicit held_load(scene& s)
      : leader_(s.group.start(hot_key, [this](singleflight::flight_promise<std::string_view> p) {
          promise_ = std::move(p);
        })) {
    if (!promise_) bench::fail("the load did not begin");
  }
  void end() { promise_->set_value("value:0123456789"); }

 private:
  std::optional<singleflight::flight_promise<std::string_view>> promise_;
  singleflight::flight<std::string_view> leader_;
};

/// Touches the code, and what exists once per process, before anything is measured.
void page_in(bool limits) {
  scene s;
  s.waiters = 10;
  held_load load(s);
  for (std::size_t i = 0; i < s.waiters; ++i) limits ? wait_with_limits(s) : wait(s);
  load.end();
}

}  // namespace

int main(int argc, char** argv) {
  const bench::idle_thread other;
  const bool limits = bench::argument(argc, argv, "limits", 0) != 0;
  page_in(limits);
  scene s;
  s.waiters = static_cast<std::size_t>(bench::argument(argc, argv, "waiters", 1'000'000));
  const auto count = static_cast<double>(s.waiters);
  held_load load(s);

  const double bytes_before = bench::resident_bytes();
  const auto joining = bench::steady::now();
  for (std::size_t i = 0; i < s.waiters; ++i) limits ? wait_with_limits(s) : wait(s);
  const auto joined = bench::steady::now();
  const double bytes_after = bench::resident_bytes();

  const auto load_ended = bench::steady::now();
  load.end();
  if (s.answered != s.waiters || s.bytes != 16 * s.waiters)
    bench::fail("not every waiter was answered");
  if (s.group.stats().loads != 1) bench::fail("there was more than one load");

  bench::figures figures;
  figures.add("join_ns", bench::nanoseconds(joined - joining) / count);
  figures.add("wake_ns", bench::nanoseconds(s.last - load_ended) / count);
  // Rounded to a hundredth: the process itself takes a page or two meanwhile.
  figures.add("bytes_per_waiter", std::round((bytes_after - bytes_before) / count * 100) / 100);
  figures.print();
  return 0;
}
