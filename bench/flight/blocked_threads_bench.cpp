// SPDX-License-Identifier: Apache-2.0

// Question   Ten thousand threads are blocked on one key: how long after the load ends does the
//            last of them have the outcome?
// Baseline   bench/peers/cpp/futex_wake.cpp: one system call that wakes as many bare threads.
// Reading    last_ms: from just before the load returns to the last thread's return; leader_ms: to
//            the return of the leader's own call.

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "bench/support/parked_threads.hpp"
#include "singleflight/flight.hpp"

namespace {

using group_type = singleflight::group<std::string, std::string_view>;

const std::string hot_key = "key:000000000000";

void join(void* context) {
  auto& group = *static_cast<group_type*>(context);
  const auto result = group.run(hot_key, [] { return std::string_view("the joiner's own"); });
  if (*result != "value:0123456789") bench::fail("a thread led a load of its own");
}

}  // namespace

int main(int argc, char** argv) {
  const auto count = static_cast<std::size_t>(bench::argument(argc, argv, "threads", 10'000));
  group_type group;
  std::optional<bench::parked_threads> threads;
  bench::steady::time_point begin;
  const auto result = group.run(hot_key, [&](singleflight::flight_context& context) {
    threads.emplace(count, &join, &group);
    while (context.callers() < count + 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(bench::settling_time);
    begin = bench::steady::now();
    return std::string_view("value:0123456789");
  });
  const auto leader = bench::steady::now();
  const auto last = threads->join();
  if (result.callers() != count + 1) bench::fail("not every thread shared the load");

  bench::figures figures;
  figures.add("last_ms", bench::nanoseconds(last - begin) / 1e6);
  figures.add("leader_ms", bench::nanoseconds(leader - begin) / 1e6);
  figures.print();
  return 0;
}
