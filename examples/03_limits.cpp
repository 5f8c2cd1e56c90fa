// SPDX-License-Identifier: Apache-2.0
//
// A load hangs. Callers with a deadline or a stop token leave; the other callers and the load are
// not affected.

#include <chrono>
#include <cstdio>
#include <latch>
#include <stop_token>
#include <string>

#include <singleflight/flight.hpp>

using namespace std::chrono_literals;
using singleflight::flight_errc;
using clock_type = std::chrono::steady_clock;

int main() {
  std::latch may_answer(1);
  singleflight::group<std::string, int> prices({.max_waiters = 2});
  const auto load = [&may_answer] {
    may_answer.wait();
    return 42;
  };

  auto patient = prices.start("tea", load);  // the load runs on the default pool

  // A thread that waits for at most 20 ms. With `as_outcome` an error is returned, not thrown.
  const auto late =
      prices.run(singleflight::as_outcome, "tea", load, {.deadline = clock_type::now() + 20ms});
  std::printf("deadline    %s\n", make_error_code(*late.errc()).message().c_str());

  // With a handle, the limit is passed to the wait.
  auto hurried = prices.start("tea", load);
  const auto early = hurried.until(clock_type::now() + 20ms).as_outcome().get();

  // A stop token. If it has already fired, the call ends at once and loads nothing.
  std::stop_source cancelled;
  cancelled.request_stop();
  const auto stopped =
      prices.run(singleflight::as_outcome, "tea", load, {.stop = cancelled.get_token()});
  std::printf("stop token  %s\n", make_error_code(*stopped.errc()).message().c_str());

  // Two callers may wait in addition to the leader; the third is refused at once, and cheaply.
  auto second = prices.start("tea", load);
  auto third = prices.start("tea", load);
  const auto shed = prices.run(singleflight::as_outcome, "tea", load);
  std::printf("max_waiters %s\n", make_error_code(*shed.errc()).message().c_str());

  may_answer.count_down();
  const bool all_served = *patient.get() == 42 && *second.get() == 42 && *third.get() == 42;
  return all_served && late.errc() == flight_errc::timed_out &&
                 early.errc() == flight_errc::timed_out &&
                 stopped.errc() == flight_errc::cancelled && shed.errc() == flight_errc::overloaded
             ? 0
             : 1;
}
