// SPDX-License-Identifier: Apache-2.0
//
// One request fans out to several backends: all or nothing (error_group, collect), or one outcome
// for each within a time limit (run_all).

#include <chrono>
#include <cstdio>
#include <functional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <singleflight/sync.hpp>

int main() {
  using namespace std::chrono_literals;

  // The values are in the order of the calls; the first error would stop the others and be thrown.
  const std::vector<std::function<std::string()>> parts{
      [] { return "prices"; }, [] { return "stock"; }, [] { return "reviews"; }};
  const std::vector<std::string> page = singleflight::collect<std::string>(parts, {.limit = 2});
  std::printf("%s, %s, %s\n", page[0].c_str(), page[1].c_str(), page[2].c_str());

  // Tasks without values. The slow one checks its stop token, and so ends after the first error.
  singleflight::error_group tasks;
  tasks.go([](std::stop_token stop) {
    while (!stop.stop_requested()) std::this_thread::yield();
  });
  tasks.go([] { throw std::runtime_error("no index"); });
  std::string why;
  try {
    tasks.wait();
  } catch (const std::runtime_error& error) {
    why = error.what();
  }
  std::printf("%s; %zu error(s)\n", why.c_str(), tasks.errors().size());

  // One outcome for each call, one call at a time, within a time limit for all of them.
  const std::vector<std::function<int(std::stop_token)>> calls{
      [](std::stop_token) { return 1; },
      [](std::stop_token) -> int { throw std::runtime_error("no such shard"); },
      [](std::stop_token stop) {
        while (!stop.stop_requested()) std::this_thread::yield();  // until the time limit
        return 3;
      },
      [](std::stop_token) { return 4; }};
  const auto shards = singleflight::run_all(calls, {.timeout = 20ms, .limit = 1});
  for (const auto& one : shards) std::printf(one ? "%d " : "- ", one ? *one : 0);
  std::printf("\n");

  return why == "no index" && *shards[0] == 1 && !shards[1] && *shards[2] == 3 &&
                 shards[3].errc() == singleflight::flight_errc::timed_out
             ? 0
             : 1;
}
