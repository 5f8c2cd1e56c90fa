// SPDX-License-Identifier: Apache-2.0
#pragma once

// Waits for a condition that another thread brings about: spins and yields, never sleeps for a
// guessed time, and fails the test when the condition does not come true.

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <thread>

#include "support/gate.hpp"

namespace support {

/// Spins until `holds()` is true; returns false, and fails the test, when it never is.
template <class Condition>
bool eventually(Condition holds, const char* what = "a condition") {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) {
      ADD_FAILURE() << "never came true: " << what;
      return false;
    }
    std::this_thread::yield();
  }
  return true;
}

/// The number of callers inside, over all flights that a new call would find.
template <class Group>
std::size_t callers_inside(const Group& group) {
  std::size_t sum = 0;
  for (const auto& flight : group.in_flight()) sum += flight.callers;
  return sum;
}

/// Spins until exactly `count` callers are inside.
template <class Group>
bool until_callers(const Group& group, std::size_t count) {
  return eventually([&] { return callers_inside(group) == count; }, "the callers inside");
}

/// Spins until a new call would find exactly `count` flights.
template <class Group>
bool until_flights(const Group& group, std::size_t count) {
  return eventually([&] { return group.in_flight().size() == count; }, "the flights");
}

}  // namespace support
