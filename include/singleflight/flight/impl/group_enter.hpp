// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_enter: how a call joins a flight or begins one; used by run, start and the bulk calls.

#include "singleflight/flight/detail/rules.hpp"
#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

// ---- admission and caller: the result of entering, and what a call brings along ----------------

/// The result of entering: the call leads (`shared` is set if its flight has a block already), it
/// joined `shared` (with a reference and an interest of its own), it was refused, or it needs a
/// block to enter.
template <class Key, class Value, class Hash, class Equal>
struct group<Key, Value, Hash, Equal>::admission {
  enum class kind : std::uint8_t { leads, joined, refused, needs_block } decision;
  block* shared = nullptr;
  flight_errc code{};
  bool keeps = false;      ///< joined, and the flight must keep the caller's load
  std::uint32_t kept = 0;  ///< the serial of the load, if the flight keeps it already
  observer* watch = nullptr;
};

/// A call that enters. A blocking call leads with a node on its own stack, and lends its loader to
/// a flight that needs a leader. A started call leads with a block that owns its key and its load,
/// and is made once it is known to be needed.
template <class Key, class Value, class Hash, class Equal>
struct group<Key, Value, Hash, Equal>::caller {
  detail::flight_core& core;
  node* own = nullptr;                    ///< of a blocking call
  std::unique_ptr<started_block> made{};  ///< of a started one
  // Of a blocking call:
  std::unique_ptr<block> first_block{};   ///< for a leader that needs a block from the beginning
  std::unique_ptr<keyed_block> behind{};  ///< to wait behind a flight that has no successor
  bool absent = false;                    ///< it first waits for other keys (run_many)

  bool lends() const noexcept { return own != nullptr; }
  bool can_lead() const noexcept { return lends() || made != nullptr; }
  bool can_succeed() const noexcept { return lends() ? behind != nullptr : made != nullptr; }
  /// Whether the flight of `shared`, which the call joins, must keep the call's load.
  bool keeps(const block* shared) const noexcept {
    // The bucket lock is held, the block lock is not. In a group that does not hand over, the phase
    // `running` remains until the flight is done; in all other phases it may need a leader later.
    using detail::flight_phase;
    if (lends()) return false;
    if (core.hands_over()) return true;
    if (shared == nullptr) return false;
    const flight_phase now = shared->phase();
    return now != flight_phase::running &&
           (now != flight_phase::offered ||
            detail::platform::holds(detail::rule::joiner_sees_the_offer));
  }
  bool keeps_behind() const noexcept { return !lends(); }

  block* lead_locked(detail::flight_table::bucket& bucket) noexcept {
    if (!lends()) {
      prepare_lead(*made);
      core.table.link_locked(bucket, made->own);
      return made.get();
    }
    if (first_block != nullptr) {
      detail::flight_core::attach_locked(bucket, *own, *first_block);
      first_block->add_reference();  // the leader's own
    }
    core.table.link_locked(bucket, *own);
    return first_block.release();
  }
  block& succeed_locked() noexcept {
    using namespace detail;
    if (lends()) {
      behind->lenders.store(1, memory_order_relaxed);
      behind->absent.store(absent ? 1 : 0, memory_order_relaxed);
      return *behind.release();
    }
    made->create_waiting_room();
    made->set_phase_locked(flight_phase::waiting);
    flight_core::keep_locked(*made, *made->owned);
    return *made.release();
  }
  void make_behind(std::size_t hash, view key) {
    behind = make_keyed(core, detail::flight_phase::waiting, hash, key);
    behind->use_own_node();
  }
};

// ---- look-up and new blocks ---------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::find(const detail::flight_table::bucket& bucket,
                                          std::size_t hash, view key) const -> node* {
  for (detail::flight_node* n = bucket.first(); n != nullptr; n = n->next) {
    if (n->is_forgotten_locked() && detail::platform::holds(detail::rule::forgotten_is_not_found)) {
      return nullptr;  // all nodes behind it are forgotten, too (I10)
    }
    if (n->hash == hash && is_of(*static_cast<node*>(n), key)) return static_cast<node*>(n);
  }
  return nullptr;
}

template <class Key, class Value, class Hash, class Equal>
bool group<Key, Value, Hash, Equal>::too_old(const node& n,
                                             detail::steady_time now) const noexcept {
  const auto window = core_.options().join_window;
  if (window.count() <= 0) return false;
  const auto began = n.began.load(detail::memory_order_relaxed);
  return began != detail::flight_node::not_begun && detail::time_between(began, now) > window;
}

template <class Key, class Value, class Hash, class Equal>
detail::block_base* group<Key, Value, Hash, Equal>::make_block(detail::flight_core& core,
                                                               const detail::flight_node& n) {
  const auto& keyed = static_cast<const node&>(n);
  return make_block_for(core, n.hash, access::load(keyed.key)).release();
}

template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::make_block_for(detail::flight_core& core, std::size_t hash,
                                                    view key) -> std::unique_ptr<block> {
  if (core.hands_over()) return make_keyed(core, detail::flight_phase::running, hash, key);
  return std::make_unique<block>(core, core.options().executor, core.clock(),
                                 detail::flight_phase::running);
}

template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::make_keyed(detail::flight_core& core,
                                                detail::flight_phase phase, std::size_t hash,
                                                view key) -> std::unique_ptr<keyed_block> {
  return detail::make_with_key<keyed_block, access>(key, [&](void* at, void* room) {
    return ::new (at) keyed_block(core, phase, hash, key, room);
  });
}

template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::refuse(flight_errc code) noexcept -> admission {
  core_.stats.add(detail::counter::refused);
  core_.stats.add_error(code);
  return {.decision = admission::kind::refused, .code = code};
}

template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::refused_block(flight_errc code) -> block& {
  auto made = std::make_unique<block>(core_, core_.options().executor, core_.clock(),
                                      detail::flight_phase::done);
  made->counts.store(detail::block_base::one_reference, detail::memory_order_relaxed);
  made->result = detail::flight_result::code;
  made->code = code;
  made->id = 0;
  return *made.release();
}

// ---- entering -----------------------------------------------------------------------------------
// One pass under the bucket lock decides: lead, join, or wait behind. If that needs an allocation,
// it is made outside of the lock, and the next pass decides again.

template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::enter(caller& call, std::size_t hash, view key, bool fresh)
    -> admission {
  using namespace detail;
  enum class need { nothing, spare, own } needed{};
  std::unique_ptr<block> spare;  // for another call's thin flight
  const steady_time now =
      core_.options().join_window.count() > 0 ? core_.clock().now() : steady_time{};
  for (;;) {
    block_base* promoted = nullptr;
    needed = need::nothing;
    {
      locked_bucket bucket(core_.table.lock(hash));
      if (core_.closed() && platform::holds(rule::closed_refuses))
        return refuse(flight_errc::closed);
      node* const found = find(bucket, hash, key);
      if (found == nullptr) {
        if (call.can_lead()) {
          if (!core_.admit_flight()) return refuse(flight_errc::overloaded);
          return {.decision = admission::kind::leads, .shared = call.lead_locked(bucket)};
        }
        needed = need::own;
      } else if (const auto mode = found->mode.load(memory_order_relaxed);
                 mode == flight_mode::open && too_old(*found, now)) {
        promoted = core_.forget_locked(bucket, *found);
      } else {
        auto* shared = static_cast<block*>(found->block.load(memory_order_relaxed));
        const bool behind = mode == flight_mode::barrier ||
                            (fresh && platform::holds(rule::fresh_goes_behind) &&
                             (shared == nullptr || shared->phase() == flight_phase::running));
        if (behind && found->successor == nullptr) {
          if (call.can_succeed()) {
            block& next = call.succeed_locked();
            // The reference that makes it the successor, and the caller's; the caller's interest.
            next.counts.store(2 * block_base::one_reference + block_base::one_interest,
                              memory_order_relaxed);
            flight_core::set_successor_locked(bucket, *found, next);
            core_.stats.add(counter::started);
            return {.decision = admission::kind::joined,
                    .shared = &next,
                    .kept = call.keeps_behind() ? next.room.kept.last_serial() : 0};
          }
          needed = need::own;
        } else {
          if (behind) shared = static_cast<block*>(found->successor);
          const bool keeps = behind ? call.keeps_behind() : call.keeps(shared);
          if (keeps && !call.can_lead()) {
            needed = need::own;
          } else if (shared == nullptr && spare == nullptr) {
            needed = need::spare;
          } else {
            if (shared == nullptr) {
              shared = spare.release();
              flight_core::attach_locked(bucket, *found, *shared);
            }
            const bool absent = call.absent;  // counted before the caller is counted as a lender
            if (absent) shared->absent.fetch_add(1, memory_order_relaxed);
            if (!core_.join_locked(bucket, *shared, call.lends() || keeps)) {
              if (absent) shared->absent.fetch_sub(1, memory_order_relaxed);
              return refuse(flight_errc::overloaded);
            }
            return {.decision = admission::kind::joined,
                    .shared = shared,
                    .keeps = keeps,
                    .watch = core_.options().observer};
          }
        }
      }
    }
    if (promoted != nullptr) flight_core::activate(*promoted);
    if (needed == need::spare) spare = make_block_for(core_, hash, key);
    if (needed == need::own) {
      if (!call.lends()) return {.decision = admission::kind::needs_block};
      call.make_behind(hash, key);
    }
  }
}

SINGLEFLIGHT_END_NAMESPACE
