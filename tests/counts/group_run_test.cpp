// SPDX-License-Identifier: Apache-2.0

// What run() costs, in things that can be counted.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <semaphore>
#include <string>
#include <string_view>
#include <thread>

#include "singleflight/flight.hpp"
#include "support/allocation_count.hpp"

namespace {

using singleflight::flight_context;
using singleflight::group;
using support::allocations_of_this_thread;

constexpr std::string_view long_key = "a key that fits no small-string buffer";

std::string_view load_view() { return "value:0123456789"; }

template <class Fn>
std::size_t allocations_of(Fn&& fn) {
  const std::size_t before = allocations_of_this_thread();
  std::forward<Fn>(fn)();
  return allocations_of_this_thread() - before;
}

// Goal    A call that is not shared allocates nothing, from a thread's second call on (so P9 has
//         fewer ways to fail).
TEST(run_counts, alone_allocates_nothing) {
  group<std::string, std::string_view> views;
  const std::string key(long_key);
  views.run(key, load_view);
  EXPECT_EQ(allocations_of([&] {
              for (int i = 0; i < 1000; ++i) EXPECT_EQ(views.run(key, load_view)->size(), 16U);
            }),
            0U);
}

// Goal    Nor do limits, outcomes, contexts and a fresh load, as long as the call is not shared.
TEST(run_counts, alone_in_other_forms_allocates_nothing) {
  group<std::string, std::string_view> views;
  const std::string key(long_key);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::hours(1);
  const auto with_context = [](flight_context& context) {
    return context.forgotten() ? std::string_view() : load_view();
  };
  views.run(key, load_view);
  EXPECT_EQ(allocations_of([&] {
              (void)views.run(key, load_view, {.deadline = deadline});
              (void)views.run(singleflight::as_outcome, key, load_view);
              (void)views.run(key, with_context);
              (void)views.run_fresh(key, load_view);
            }),
            0U);
}

// Goal    A string key passed as a view or a literal is not copied into a string.
TEST(run_counts, heterogeneous_look_up_allocates_nothing) {
  group<std::string, int> numbers;
  const auto one = [] { return 1; };
  numbers.run(long_key, one);
  EXPECT_EQ(allocations_of([&] {
              (void)numbers.run(long_key, one);
              (void)numbers.run("a literal that fits no small-string buffer", one);
              numbers.forget(long_key);
            }),
            0U);
}

// Goal    The first joiner pays for the shared block; later ones pay nothing.
// Method  The leader admits one joiner after the other, and ends when all have joined.
TEST(run_counts, one_allocation_a_shared_flight) {
  constexpr std::size_t joiners = 4;
  group<std::string, std::string_view> views;
  const std::string key(long_key);
  std::array<std::size_t, joiners> allocations{};
  std::array<std::optional<std::thread>, joiners> threads;
  const auto result = views.run(key, [&](flight_context& context) {
    for (std::size_t i = 0; i < joiners; ++i) {
      std::binary_semaphore warm{0};
      threads[i].emplace([&, i] {
        views.run("a key to warm this thread's state with", load_view);
        warm.release();
        allocations[i] = allocations_of([&] { (void)views.run(key, load_view); });
      });
      warm.acquire();
      while (context.callers() < i + 2) std::this_thread::yield();
    }
    return load_view();
  });
  for (auto& thread : threads) thread->join();
  EXPECT_EQ(result.callers(), joiners + 1);
  EXPECT_EQ(allocations, (std::array<std::size_t, joiners>{1, 0, 0, 0}));
}

// ---- instructions -------------------------------------------------------------------------------

void call_in_turn(long calls) {
  // An idle second thread: libstdc++ leaves out atomic instructions in a process that has never had
  // one.
  std::binary_semaphore stop{0};
  std::thread other([&stop] { stop.acquire(); });
  std::array<std::string, 1024> keys;
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = "key:" + std::to_string(100000000000 + i);
  group<std::string, std::string_view> views;
  for (long i = 0; i < calls; ++i) {
    if (views.run(keys[static_cast<std::size_t>(i) % keys.size()], load_view)->size() != 16) {
      std::abort();
    }
  }
  stop.release();
  other.join();
}

/// All instructions that this program executes under callgrind when it makes `calls` calls.
std::optional<long long> instructions(long calls) {
  namespace fs = std::filesystem;
  const fs::path out =
      fs::temp_directory_path() / ("singleflight-counts-" + std::to_string(getpid()));
  const std::string out_option = "--callgrind-out-file=" + out.string();
  const std::string program = fs::read_symlink("/proc/self/exe").string();
  const std::string count = std::to_string(calls);
  const pid_t child = fork();
  if (child == 0) {
    execlp("valgrind", "valgrind", "--quiet", "--tool=callgrind", out_option.c_str(),
           program.c_str(), "--calls", count.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) return std::nullopt;
  std::ifstream report(out);
  std::optional<long long> total;
  for (std::string line; std::getline(report, line);) {
    if (line.starts_with("summary: ")) total = std::stoll(line.substr(9));
    if (line.starts_with("totals: ")) total = std::stoll(line.substr(8));
  }
  fs::remove(out);
  return total;
}

// Goal    A call that is not shared stays as short as it is. The bound is a little above the count
//         for g++ 12 and Clang 16 at -O2; raise it only for a promise that is worth the time.
// Method  The difference between a long and a short run is the cost of the calls alone.
TEST(run_counts, instructions_of_a_call_alone) {
  constexpr long few = 10'000, many = 60'000;
  constexpr double bound = 190;
  const auto base = instructions(few);
  const auto more = instructions(many);
  ASSERT_TRUE(base && more) << "valgrind could not count; on Debian: apt-get install valgrind";
  const double per_call = static_cast<double>(*more - *base) / static_cast<double>(many - few);
  RecordProperty("instructions_per_call", std::to_string(per_call));
  std::printf("instructions per call: %.1f\n", per_call);
  EXPECT_LE(per_call, bound);
}

}  // namespace

// Under callgrind the program runs itself as the workload.
int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--calls") == 0) {
    call_in_turn(std::strtol(argv[2], nullptr, 10));
    return 0;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
