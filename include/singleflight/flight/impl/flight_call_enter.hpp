// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_call_enter: how a call joins a flight or begins one, for run, start and the bulk calls.
//
// One pass under the bucket lock decides: lead, join, or wait behind. If that needs an allocation,
// it is made outside of the lock, and the next pass decides again.

#include <memory>

#include "singleflight/flight/detail/flight_call.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

// ---- what the call brings along -----------------------------------------------------------------

SINGLEFLIGHT_BODY void flight_call::prepare_block(const limits& bounds) {
  if (bounds.stop.stop_possible() || core.options().load_timeout.count() > 0) {
    first_block.reset(core.steps.make_block(core, own, flight_phase::running));
  }
}

/// Whether the flight of `shared`, which the call joins, must keep the call's load.
SINGLEFLIGHT_BODY bool flight_call::keeps(const block_base* shared) const noexcept {
  // The bucket lock is held, the block lock is not. In a group that does not hand over, the phase
  // `running` remains until the flight is done; in all other phases it may need a leader later.
  if (lends) return false;
  if (core.hands_over()) return true;
  if (shared == nullptr) return false;
  const flight_phase now = shared->phase();
  return now != flight_phase::running &&
         (now != flight_phase::offered || platform::holds(rule::joiner_sees_the_offer));
}

SINGLEFLIGHT_BODY block_base* flight_call::lead_locked(flight_table::bucket& bucket) noexcept {
  if (!lends) {
    prepare_lead(*made, *load);
    core.table.link_locked(bucket, *made->own_node);
    return made.get();
  }
  if (first_block != nullptr) {
    flight_core::attach_locked(bucket, own, *first_block);
    first_block->add_reference();  // the leader's own
  }
  core.table.link_locked(bucket, own);
  return first_block.release();
}

/// Makes the call's block the successor of `ahead`.
SINGLEFLIGHT_BODY admission flight_call::wait_behind_locked(flight_table::bucket& bucket,
                                                            flight_node& ahead) noexcept {
  if (lends) {
    behind->lenders.store(1, memory_order_relaxed);
    behind->absent.store(absent ? 1 : 0, memory_order_relaxed);
  } else {
    made->create_waiting_room();
    made->set_phase_locked(flight_phase::waiting);
    flight_core::keep_locked(*made, *load);
  }
  block_base& next = lends ? *behind.release() : *made.release();
  // The reference that makes it the successor, and the caller's; the caller's interest.
  next.counts.store(2 * block_base::one_reference + block_base::one_interest, memory_order_relaxed);
  flight_core::set_successor_locked(bucket, ahead, next);
  core.stats.add(counter::started);
  return {.decision = admission::kind::joined,
          .shared = &next,
          .kept = keeps_behind() ? next.room.kept.last_serial() : 0};
}

SINGLEFLIGHT_BODY admission flight_call::join_locked(flight_table::bucket& bucket,
                                                     block_base& shared, bool keeps) noexcept {
  if (absent) shared.absent.fetch_add(1, memory_order_relaxed);  // before it counts as a lender
  if (!core.join_locked(bucket, shared, lends || keeps)) {
    if (absent) shared.absent.fetch_sub(1, memory_order_relaxed);
    return {.decision = admission::kind::refused, .code = core.refuse(flight_errc::overloaded)};
  }
  return {.decision = admission::kind::joined,
          .shared = &shared,
          .keeps = keeps,
          .watch = core.options().observer};
}

// ---- entering -----------------------------------------------------------------------------------

/// Returns the flight that the call finds: open or a barrier. May throw.
SINGLEFLIGHT_BODY flight_node* flight_call::find_locked(const flight_table::bucket& bucket) const {
  for (flight_node* n = bucket.first(); n != nullptr; n = n->next) {
    if (n->is_forgotten_locked() && platform::holds(rule::forgotten_is_not_found)) {
      return nullptr;  // all nodes behind it are forgotten, too (I10)
    }
    if (n->hash == own.hash && core.steps.same(core.steps.equal, *n, own)) return n;
  }
  return nullptr;
}

SINGLEFLIGHT_BODY admission flight_call::enter(bool fresh) {
  using kind = admission::kind;
  enum class need { nothing, spare_block, own_block } needed{};
  std::unique_ptr<block_base> spare;  // for another call's thin flight
  const steady_time now =
      core.options().join_window.count() > 0 ? core.clock().now() : steady_time{};
  for (;;) {
    block_base* promoted = nullptr;
    needed = need::nothing;
    {
      locked_bucket bucket(core.table.lock(own.hash));
      if (core.closed() && platform::holds(rule::closed_refuses)) {
        return {.decision = kind::refused, .code = core.refuse(flight_errc::closed)};
      }
      flight_node* const found = find_locked(bucket);
      if (found == nullptr) {
        if (can_lead()) {
          if (!core.admit_flight()) {
            return {.decision = kind::refused, .code = core.refuse(flight_errc::overloaded)};
          }
          return {.decision = kind::leads, .shared = lead_locked(bucket)};
        }
        needed = need::own_block;
      } else if (const auto mode = found->mode.load(memory_order_relaxed);
                 mode == flight_mode::open && core.too_old(*found, now)) {
        promoted = core.forget_locked(bucket, *found);
      } else {
        block_base* shared = found->block.load(memory_order_relaxed);
        const bool goes_behind = mode == flight_mode::barrier ||
                                 (fresh && platform::holds(rule::fresh_goes_behind) &&
                                  (shared == nullptr || shared->phase() == flight_phase::running));
        if (goes_behind && found->successor == nullptr) {
          if (can_succeed()) {
            return wait_behind_locked(bucket, *found);
          }
          needed = need::own_block;
        } else {
          if (goes_behind) shared = found->successor;
          const bool kept = goes_behind ? keeps_behind() : keeps(shared);
          if (kept && !can_lead()) {
            needed = need::own_block;
          } else if (shared == nullptr && spare == nullptr) {
            needed = need::spare_block;
          } else {
            if (shared == nullptr) {
              shared = spare.release();
              flight_core::attach_locked(bucket, *found, *shared);
            }
            return join_locked(bucket, *shared, kept);
          }
        }
      }
    }
    if (promoted != nullptr) flight_core::activate(*promoted);
    if (needed == need::spare_block)
      spare.reset(core.steps.make_block(core, own, flight_phase::running));
    if (needed == need::own_block) {
      if (!lends) return {.decision = kind::needs_block};
      behind.reset(core.steps.make_block(core, own, flight_phase::waiting));
      behind->use_own_node();
    }
  }
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
