// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_impl: how a call gets into a flight, or begins one (group_lead.hpp: what a leader does).

#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

// ---- callers: what a call brings along ----------------------------------------------------------

/// A blocking call: leads on a node of its own stack; lends its loader where a leader is missing.
template <class Key, class Value, class Hash, class Equal>
struct group<Key, Value, Hash, Equal>::run_caller {
  detail::flight_core& core;
  node& own;
  std::unique_ptr<block> first_block{};   ///< for a leader that needs a block from the begin
  std::unique_ptr<keyed_block> behind{};  ///< for going behind a flight that has no successor
  bool absent = false;                    ///< it will wait for other keys first (run_many)

  static constexpr bool lends = true;
  bool can_lead() const noexcept { return true; }
  bool can_succeed() const noexcept { return behind != nullptr; }
  bool keeps(const block*) const noexcept { return false; }
  bool keeps_behind() const noexcept { return false; }

  block* lead_locked(detail::flight_table::bucket& b) noexcept {
    if (first_block != nullptr) {
      detail::flight_core::attach_locked(b, own, *first_block);
      first_block->add_reference();  // the leader's own
    }
    core.table.link_locked(b, own);
    return first_block.release();
  }
  block& succeed_locked() noexcept {
    behind->lenders.store(1, detail::memory_order_relaxed);
    behind->absent.store(absent ? 1 : 0, detail::memory_order_relaxed);
    return *behind.release();
  }
  void make(std::size_t hash, view key) {
    behind = make_keyed(core, detail::flight_phase::waiting, hash, key);
    behind->stand_alone();
  }
};

/// A started call: leads on a block that owns its key and load, made when it is known to be needed.
template <class Key, class Value, class Hash, class Equal>
template <class Load>
struct group<Key, Value, Hash, Equal>::start_caller {
  using made_block = detail::started_block<Value, Key, access, std::decay_t<Load>>;
  detail::flight_core& core;
  Load& load;
  std::unique_ptr<made_block> made{};

  static constexpr bool lends = false;
  bool can_lead() const noexcept { return made != nullptr; }
  bool can_succeed() const noexcept { return made != nullptr; }
  bool keeps(const block* shared) const noexcept {
    // Bucket lock held, not the block's. A phase that says `running` stays so until the flight is
    // done, where nothing is handed over; all others may come to need a leader.
    using detail::flight_phase;
    if (core.hands_over()) return true;
    if (shared == nullptr) return false;
    const flight_phase now = shared->phase();
    return now != flight_phase::running &&
           (now != flight_phase::offered ||
            detail::platform::holds(detail::rule::joiner_sees_the_offer));
  }
  bool keeps_behind() const noexcept { return true; }

  block* lead_locked(detail::flight_table::bucket& b) noexcept {
    prepare_lead();
    core.table.link_locked(b, made->own);
    return made.get();
  }
  void prepare_lead() noexcept {
    using namespace detail;
    // The flight's reference, the handle's and the task's; the handle's interest.
    made->counts.store(3 * block_base::one_reference + block_base::one_interest,
                       memory_order_relaxed);
    made->run_leads = false;
    made->load = &made->owned;  // `claimed` until this call hands it over: nobody ends it before
  }
  /// Somebody was faster into the table.
  void undo_lead() noexcept {
    using namespace detail;
    made->counts.store(block_base::one_reference, memory_order_relaxed);
    made->load = nullptr;
  }
  block& succeed_locked() noexcept {
    using namespace detail;
    made->furnish();
    made->set_phase_locked(flight_phase::waiting);
    flight_core::keep_locked(*made, made->owned);
    return *made.release();
  }
  SINGLEFLIGHT_INLINE void make(std::size_t hash, view key) {  // a call costs a start 3 %
    made = detail::make_with_key<made_block, access>(key, [&](void* at, void* room) {
      return ::new (at) made_block(core, hash, key, room, std::forward<Load>(load));
    });
    made->stand_alone();
    made->counts.store(detail::block_base::one_reference, detail::memory_order_relaxed);
  }
};

// ---- getting in ---------------------------------------------------------------------------------
// One pass under the bucket lock decides: lead, join, or go behind. What has to be allocated for
// that is allocated outside the lock, and the next pass looks again.

template <class Key, class Value, class Hash, class Equal>
template <class Caller>
auto group<Key, Value, Hash, Equal>::enter(Caller& caller, std::size_t hash, view key, bool fresh)
    -> entry {
  using namespace detail;
  enum class lack { nothing, spare, own } lack{};
  std::unique_ptr<block> spare;  // for a thin flight of somebody else's
  const steady_time now =
      core_.options().join_window.count() > 0 ? core_.clock().now() : steady_time{};
  for (;;) {
    block_base* promoted = nullptr;
    lack = lack::nothing;
    {
      locked_bucket b(core_.table.lock(hash));
      if (core_.closed() && platform::holds(rule::closed_refuses))
        return refuse(flight_errc::closed);
      node* const found = find(b, hash, key);
      if (found == nullptr) {
        if (caller.can_lead()) {
          if (!core_.admit_flight()) return refuse(flight_errc::overloaded);
          return {.how = entry::kind::leads, .shared = caller.lead_locked(b)};
        }
        lack = lack::own;
      } else if (const auto mode = found->mode.load(memory_order_relaxed);
                 mode == flight_mode::open && too_old(*found, now)) {
        promoted = core_.forget_locked(b, *found);
      } else {
        auto* shared = static_cast<block*>(found->block.load(memory_order_relaxed));
        const bool behind = mode == flight_mode::barrier ||
                            (fresh && platform::holds(rule::fresh_goes_behind) &&
                             (shared == nullptr || shared->phase() == flight_phase::running));
        if (behind && found->successor == nullptr) {
          if (caller.can_succeed()) {
            block& next = caller.succeed_locked();
            // The reference that makes it the successor, and the caller's; the caller's interest.
            next.counts.store(2 * block_base::one_reference + block_base::one_interest,
                              memory_order_relaxed);
            flight_core::set_successor_locked(b, *found, next);
            core_.stats.add(figure::started);
            return {.how = entry::kind::joined,
                    .shared = &next,
                    .kept = caller.keeps_behind() ? next.room.kept.last_serial() : 0};
          }
          lack = lack::own;
        } else {
          if (behind) shared = static_cast<block*>(found->successor);
          const bool keeps = behind ? caller.keeps_behind() : caller.keeps(shared);
          if (keeps && !caller.can_lead()) {
            lack = lack::own;
          } else if (shared == nullptr && spare == nullptr) {
            lack = lack::spare;
          } else {
            if (shared == nullptr) {
              shared = spare.release();
              flight_core::attach_locked(b, *found, *shared);
            }
            bool absent = false;  // counted before the caller is counted as a lender
            if constexpr (Caller::lends) absent = caller.absent;
            if (absent) shared->absent.fetch_add(1, memory_order_relaxed);
            if (!core_.join_locked(b, *shared, Caller::lends || keeps)) {
              if (absent) shared->absent.fetch_sub(1, memory_order_relaxed);
              return refuse(flight_errc::overloaded);
            }
            return {.how = entry::kind::joined,
                    .shared = shared,
                    .keeps = keeps,
                    .watch = core_.options().observer};
          }
        }
      }
    }
    if (promoted != nullptr) flight_core::activate(*promoted);
    if (lack == lack::spare) spare = make_block_for(core_, hash, key);
    if (lack == lack::own) caller.make(hash, key);
  }
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg, class Load>
flight<Value> group<Key, Value, Hash, Equal>::start_flight(const Arg& key, Load&& load, bool fresh,
                                                           detail::load_base** unlaunched) {
  using namespace detail;
  const call_scope scope;
  thread_state& self = this_thread();
  const argument<Arg> k(key);
  const std::size_t hash = hash_of(k.view());
  start_caller<Load> caller{core_, load};
  entry in{.how = entry::kind::refused};
  if (core_.plain() && core_.table.locate(hash).load(memory_order_relaxed) == 0) {
    caller.make(hash, k.view());
    caller.prepare_lead();
    if (flight_table::enter_alone(core_.table.locate(hash), caller.made->own)) {
      in = {.how = entry::kind::leads, .shared = caller.made.get()};
    } else {
      caller.undo_lead();
    }
  }
  if (in.how != entry::kind::leads) {
    in = enter(caller, hash, k.view(), fresh);
  }
  switch (in.how) {
    case entry::kind::refused: return flight<Value>(refused_block(in.code), flight_role::joiner, 0);
    case entry::kind::leads: {
      auto& b = *caller.made.release();
      if (core_.table.crowded()) core_.table.grow();
      core_.stats.add(figure::started);
      struct holding {  // the handle's share, also when the load ends its thread
        block* mine;
        ~holding() {
          if (mine != nullptr) (void)flight<Value>(*mine, flight_role::leader, 0);
        }
      } hold{&b};
      if (unlaunched != nullptr) {
        *unlaunched = &b.owned;
      } else if (scope.outermost() && core_.options().executor.is_inline() &&
                 !is_inside_run(self)) {
        // The end of this call is where the trampoline would run it: no detour through its queue.
        struct running {  // also when the load ends its thread
          atomic<const thread_state*>& on;
          ~running() { on.store(nullptr, memory_order_relaxed); }
        } const here{b.owned.within_start};
        b.owned.within_start.store(&self, memory_order_relaxed);
        core_.run_owned(b.owned);
      } else {
        flight_core::open_load(b.owned);
        flight_core::submit_load(b.owned);
      }
      return flight<Value>(*std::exchange(hold.mine, nullptr), flight_role::leader, 0);
    }
    case entry::kind::joined: break;
  }
  std::uint32_t kept = in.kept;
  if (in.keeps) {
    kept = core_.keep(*in.shared, caller.made->owned);
    caller.made.release()->drop_reference();
  }
  if (in.watch != nullptr) in.watch->joined(in.shared->id);
  return flight<Value>(*in.shared, flight_role::joiner, kept);
}

SINGLEFLIGHT_END_NAMESPACE
