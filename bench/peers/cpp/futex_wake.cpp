// SPDX-License-Identifier: Apache-2.0

// Question   How fast can this machine wake many blocked threads at all?
// Baseline   This is one: threads asleep on one word, and one system call that wakes all of them.
// Reading    last_ms: from just before the word is set to the last thread's return; waker_ms: to
//            the return of the call that woke them.

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <thread>

#include "bench/support/parked_threads.hpp"

namespace {

using word = std::atomic<std::uint32_t>;

void wait(void* context) {
  auto& woken = *static_cast<word*>(context);
  while (woken.load(std::memory_order_acquire) == 0) {
    syscall(SYS_futex, &woken, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto count = static_cast<std::size_t>(bench::argument(argc, argv, "threads", 10'000));
  word woken{0};
  bench::parked_threads threads(count, &wait, &woken);
  while (threads.begun() < count) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(bench::settling_time);

  const auto begin = bench::steady::now();
  woken.store(1, std::memory_order_release);
  syscall(SYS_futex, &woken, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  const auto waker = bench::steady::now();
  const auto last = threads.join();

  bench::figures result;
  result.add("last_ms", bench::nanoseconds(last - begin) / 1e6);
  result.add("waker_ms", bench::nanoseconds(waker - begin) / 1e6);
  result.print();
}
