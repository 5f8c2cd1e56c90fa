// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_call: a call of a group on its way into a flight: it enters, then leads or waits. It knows
// neither keys nor values: group<Key, Value> gives it a node with the key, and constructs or takes
// the value where the result says so.

#include <cstdint>
#include <exception>
#include <memory>

#include "singleflight/flight/detail/blocked_wait.hpp"
#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/flight_share.hpp"
#include "singleflight/flight/detail/loader_form.hpp"
#include "singleflight/flight/shared_result.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// The stop callback of a run() leader. The leader waits for it before its call returns; so
/// everything that runs here counts as inside of that flight, and no other load runs here.
struct leader_cancellation {
  block_base& block;
  void operator()() const {
    const limit_scope limit;
    const inside_flight here(block);
    flight_core::cancel_leader(block);
  }
};

/// The result of entering: the call leads (`shared` is set if its flight has a block already), it
/// joined `shared` (with a reference and an interest of its own), it was refused, or it needs a
/// block to enter.
struct admission {
  enum class kind : std::uint8_t { leads, joined, refused, needs_block } decision;
  block_base* shared = nullptr;
  flight_errc code{};
  bool keeps = false;      ///< joined, and the flight must keep the caller's load
  std::uint32_t kept = 0;  ///< the serial of the load, if the flight keeps it already
  observer* watch = nullptr;
};

/// How a blocking call ended, or continues.
struct run_end {
  enum class kind : std::uint8_t {
    alone,      ///< it leads a flight without a block, and has not called its loader yet
    outcome,    ///< `shared` is done; the call has a reference on it
    own_value,  ///< `shared` has a value that no other caller gets, and a reference of the call
    refused,    ///< with `code`; or a limit has ended its wait
  } how;
  block_base* shared = nullptr;
  flight_role role = flight_role::joiner;
  flight_errc code{};
};

/// How a started call begins its load.
struct start_mode {
  bool fresh;
  bool outermost;          ///< no other call of the library is below this one on this thread
  load_base** unlaunched;  ///< if given, the load that it leads is stored here, to be launched
};

/// A call that enters. A blocking call leads with a node on its own stack, and lends its loader to
/// a flight that needs a leader. A started call leads with a block that owns its key and its load,
/// and is made once it is known to be needed.
struct flight_call {
  flight_core& core;
  flight_node& own;  ///< with the key; a blocking call leads with it
  const bool lends;  ///< a blocking call
  // Of a started call:
  std::unique_ptr<block_base> made{};
  load_base* load = nullptr;  ///< in `made`
  // Of a blocking call:
  std::unique_ptr<block_base> first_block{};  ///< for a leader that needs one from the beginning
  std::unique_ptr<block_base> behind{};       ///< to wait behind a flight that has no successor
  bool absent = false;                        ///< it first waits for other keys (run_many)

  /// Joins the flight of the key, leads a new one, or waits behind another. Throws what comparing
  /// and copying the key throws.
  admission enter(bool fresh);
  /// Makes `first_block` if the limits or the options need one.
  void prepare_block(const limits& bounds);

  /// Enters, and leads or waits. Throws what the loader throws, if this call leads. Called inside
  /// of run().
  static run_end run(flight_core& core, flight_node& own, thread_state& self,
                     const lent_loader& loader, const limits& bounds, bool fresh);
  /// Waits for a flight that this call has joined; leads it if it is elected.
  static run_end await_joined(flight_core& core, block_base& b, thread_state& self,
                              const lent_loader& loader, const limits& bounds);

  /// Starts under the bucket's lock. Returns a share without a block if that needs one.
  started_share start(const start_mode& mode);
  /// Begins the load of a flight that is in the table.
  static started_share lead_started(flight_core& core, block_base& b, load_base& load,
                                    const start_mode& mode);
  /// Called before the block is put into the table to lead.
  static void prepare_lead(block_base& b, load_base& load) noexcept {
    // The flight's reference, the handle's and the task's; the handle's interest.
    b.counts.store(3 * block_base::one_reference + block_base::one_interest, memory_order_relaxed);
    b.run_leads = false;
    b.load = &load;  // `claimed` until the call opens it: so no other thread ends it
  }

  /// Called within the handler of the exception that the load of a thin flight has thrown.
  static void fail_alone(flight_core& core, flight_node& own, thread_state& self,
                         const led_frame& frame);
  /// Ends a thin flight without a value; it may have a block in the meantime.
  static void end_thin(flight_core& core, flight_node& own, thread_state& self, flight_errc code,
                       std::exception_ptr error);
  /// Ends a flight that has a block with an error; drops the flight's reference and `references`
  /// more.
  static void end_in_error(flight_core& core, flight_node& n, block_base& b, flight_errc code,
                           std::exception_ptr error, std::uint32_t references);

 private:
  bool can_lead() const noexcept { return lends || made != nullptr; }
  bool can_succeed() const noexcept { return lends ? behind != nullptr : made != nullptr; }
  bool keeps(const block_base* shared) const noexcept;
  bool keeps_behind() const noexcept { return !lends; }
  block_base* lead_locked(flight_table::bucket& bucket) noexcept;
  admission wait_behind_locked(flight_table::bucket& bucket, flight_node& ahead) noexcept;
  admission join_locked(flight_table::bucket& bucket, block_base& shared, bool keeps) noexcept;
  flight_node* find_locked(const flight_table::bucket& bucket) const;
  static run_end lead_shared(flight_core& core, flight_node& n, block_base& b, thread_state& self,
                             const lent_loader& loader, const limits& bounds);
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/flight/impl/flight_call_enter.hpp"
#include "singleflight/flight/impl/flight_call_run.hpp"
#include "singleflight/flight/impl/flight_call_start.hpp"
#endif
