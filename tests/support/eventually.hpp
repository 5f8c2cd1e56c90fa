// SPDX-License-Identifier: Apache-2.0
#pragma once

// Waiting for a condition that another thread brings about: a spin that yields, never a sleep of a
// guessed length, and a failure when it does not come.

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <thread>

#include "support/gate.hpp"

namespace support {

/// Spins until `holds()`; false, and a failure of the test, when it never does.
template <class Condition>
bool eventually(Condition holds, const char* what = "a condition") {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) {
      ADD_FAILURE() << "never came: " << what;
      return false;
    }
    std::this_thread::yield();
  }
  return true;
}

/// How many callers are inside, over all flights that newcomers would find.
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

/// Spins until newcomers would find `count` flights.
template <class Group>
bool until_flights(const Group& group, std::size_t count) {
  return eventually([&] { return group.in_flight().size() == count; }, "the flights");
}

}  // namespace support
