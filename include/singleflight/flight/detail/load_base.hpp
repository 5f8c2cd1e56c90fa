// SPDX-License-Identifier: Apache-2.0
#pragma once

// load_base: an owned load, as the life of a flight sees it: queued, claimed, run, and at its end.

#include <cstdint>
#include <memory>
#include <utility>

#include "singleflight/flight/detail/flight_block.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Loads that begin together, and not one by one.
struct gathering {
  /// A thread of the executor waits for one of them, which is open: it may begin them here, if it
  /// is time.
  virtual void begin_here() = 0;

 protected:
  ~gathering() = default;
};

/// A load that owns its loader and key, to be run on the executor; part of the block that start()
/// made.
struct load_base : task_node, kept_node {
  load_base(block_base& where, bool awaited) noexcept
      : task_node(&act_on), home(&where), block(&where), awaits(awaited) {}

  /// Begins it, unless its flight is over; flight_core::run_owned() for this load.
  void run();
  /// Runs the loader and sees to it that `block` is finished, now or later. Where the loader is
  /// awaited, this takes over the reference of the run.
  virtual void call() = 0;
  /// Ends its lifetime; its memory is `home`'s.
  virtual void destroy() noexcept = 0;
  /// Whether run() may be made once more after a failure.
  virtual bool repeatable() const noexcept = 0;
  /// With which others it begins, if it does; asked under the block lock while it is open.
  virtual std::shared_ptr<gathering> gathered_in() const noexcept = 0;

  // `state`: queued while the node is in an executor's queue, claimed once somebody runs the load.
  // A load that was claimed by a waiter leaves its node queued; a relaunch then uses that place.
  static constexpr std::uint32_t queued = 1;
  static constexpr std::uint32_t claimed = 2;

  bool open() const noexcept { return (state.load(memory_order_acquire) & claimed) == 0; }
  /// True for the one who may run it.
  bool claim() noexcept { return (state.fetch_or(claimed, memory_order_acq_rel) & claimed) == 0; }

  atomic<std::uint32_t> state{claimed};
  block_base* const home;  ///< whose memory this is; kept alive by the flight that keeps the load
  block_base* block;       ///< the flight that it leads
  load_base* next;         ///< while in a list
  led_frame frame;         ///< what .within names, once it runs

  /// The flight that this run led is over: its reference goes, with the run's own where they are
  /// one count; called on the thread of control of the run.
  void drop_flight(block_base& flight) noexcept {
    if (&flight == home && merge_drops) {
      ++owed;
    } else {
      flight.drop_reference();
    }
  }
  /// The end of a run: drops its reference on `home`.
  void end_run() noexcept {
    const std::uint32_t n = merge_drops ? 1 + std::exchange(owed, 0U) : 1;
    if (unshared) {  // the handle that start() is about to return is the only
                     // other owner
      home->counts.store(home->counts.load(memory_order_relaxed) - n, memory_order_relaxed);
    } else {
      home->drop_references(n);
    }
  }

  /// The thread that runs this load within the very call of start() that made it. While it does,
  /// nobody else knows the block but those who have found it in the table. Written by that thread.
  atomic<const thread_state*> within_start{nullptr};
  bool unshared = false;  ///< ended there, and nobody had found it

  const bool awaits;  ///< the loader is awaited
  bool merge_drops =
      true;  ///< not for a promise, which may outlive the run, nor where runs may overlap
  std::uint32_t owed = 0;

 protected:
  ~load_base() = default;

 private:
  static void act_on(task_node* node, bool run);
};

/// Marks this thread as inside of the flight of `b`: its load may be unable to end before what runs
/// here has returned.
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
