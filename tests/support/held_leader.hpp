// SPDX-License-Identifier: Apache-2.0
#pragma once

// held_leader: a run() call that leads the flight of key 1; its load ends when the test opens
// `finish`, or at the latest when the object is destroyed.

#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include "support/gate.hpp"
#include <singleflight/flight.hpp>

namespace support {

struct held_leader {
  support::gate running;
  support::gate finish;
  std::optional<int> got;  ///< what run() returned; read it after the thread is joined
  std::jthread thread;

  /// Returns once the load runs.
  template <class Group>
  explicit held_leader(Group& g, int value = 1, singleflight::limits bounds = {})
      : thread([this, &g, value, bounds] {
          const auto load = [&] {
            running.open();
            finish.wait();
            return value;
          };
          got = *g.run(1, load, bounds);
          EXPECT_EQ(got, value);
        }) {
    running.wait();
  }
  held_leader(const held_leader&) = delete;
  held_leader& operator=(const held_leader&) = delete;
  ~held_leader() { finish.open(); }
};

}  // namespace support
