// SPDX-License-Identifier: Apache-2.0
#pragma once

// load_base: an owned load without its value type: it is queued, claimed, run, and ends.

#include <cstdint>
#include <memory>
#include <utility>

#include "singleflight/flight/detail/flight_block.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Loads that begin together.
struct gathering {
  /// Called by a thread of the executor that waits for one of them, which is open: begins them on
  /// this thread if they are due.
  virtual void begin_here() = 0;

 protected:
  ~gathering() = default;
};

/// A load that owns its loader and its key, and runs on the executor; part of the block that
/// start() makes.
struct load_base : task_node, kept_node {
  load_base(block_base& where, bool awaited) noexcept
      : task_node(&act_on), home(&where), block(&where), awaits(awaited) {}

  /// Runs it, unless its flight has ended; calls flight_core::run_owned().
  void run();
  /// Calls the loader, and makes sure that `block` is finished, now or later. If the loader is
  /// awaited, this takes over the reference of the run.
  virtual void call() = 0;
  /// Ends its lifetime; its memory belongs to `home`.
  virtual void destroy() noexcept = 0;
  /// Returns whether run() may be called again after a failure.
  virtual bool repeatable() const noexcept = 0;
  /// Returns the loads that it begins with, if any; called under the block lock while it is open.
  virtual std::shared_ptr<gathering> gathered_in() const noexcept = 0;

  // `state`: queued while the node is in an executor's queue, claimed once a thread runs the load.
  // If a waiter claims the load, its node stays queued; a later launch then uses that place.
  static constexpr std::uint32_t queued = 1;
  static constexpr std::uint32_t claimed = 2;

  bool open() const noexcept { return (state.load(memory_order_acquire) & claimed) == 0; }
  /// Returns true to the one thread that may run it.
  bool claim() noexcept { return (state.fetch_or(claimed, memory_order_acq_rel) & claimed) == 0; }

  atomic<std::uint32_t> state{claimed};
  block_base* const home;  ///< contains this load; kept alive by the flight that keeps the load
  block_base* block;       ///< the flight that it leads
  load_base* next;         ///< while in a list
  led_frame frame;         ///< for .within, once it runs

  /// Called when the flight that this run led has ended: drops its reference, together with that of
  /// the run if both are on `home`. Called on the thread of control of the run.
  void drop_flight(block_base& flight) noexcept {
    if (&flight == home && merge_drops) {
      ++owed;
    } else {
      flight.drop_reference();
    }
  }
  /// Ends a run: drops its reference on `home`.
  void end_run() noexcept {
    const std::uint32_t n = merge_drops ? 1 + std::exchange(owed, 0U) : 1;
    if (unshared) {  // the only other owner is the handle that start() is about to return
      home->counts.store(home->counts.load(memory_order_relaxed) - n, memory_order_relaxed);
    } else {
      home->drop_references(n);
    }
  }

  /// The thread that runs this load within the call of start() that made it. Meanwhile only callers
  /// that have found the flight in the table know the block. Written by that thread.
  atomic<const thread_state*> within_start{nullptr};
  bool unshared = false;  ///< it ended within start(), and no caller had found it

  const bool awaits;  ///< the loader is awaited
  /// False for a promise, which may outlive the run, and if runs may overlap.
  bool merge_drops = true;
  std::uint32_t owed = 0;

 protected:
  ~load_base() = default;

 private:
  static void act_on(task_node* node, bool run);
};

/// Marks this thread as inside of the flight of `b`, whose load may be unable to end before the
/// code that runs here has returned.
class inside_flight {
 public:
  explicit inside_flight(const block_base& b) noexcept
      : self_(this_thread()), frame_{b.id, self_.led, nullptr, b.core, false} {
    if (platform::holds(rule::stop_counts_as_load)) self_.led = &frame_;
  }
  inside_flight(const inside_flight&) = delete;
  inside_flight& operator=(const inside_flight&) = delete;
  ~inside_flight() { self_.led = frame_.outer; }

 private:
  thread_state& self_;
  const led_frame frame_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
