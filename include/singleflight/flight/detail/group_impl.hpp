// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_impl: how a call gets into a flight, or begins one (group_lead.hpp: what a leader does).

#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

// ---- callers: what a call brings along ----------------------------------------------------------

/// A blocking call leads on a node of its own stack, and lends its loader where a leader is
/// missing. A started one leads on a block that owns its key and load, made when it is known to be
/// needed.
template <class Key, class Value, class Hash, class Equal>
struct group<Key, Value, Hash, Equal>::caller {
  detail::flight_core& core;
  node* own = nullptr;                    ///< of a blocking call
  std::unique_ptr<started_block> made{};  ///< of a started one
  // Of a blocking call:
  std::unique_ptr<block> first_block{};   ///< for a leader that needs a block from the begin
  std::unique_ptr<keyed_block> behind{};  ///< for going behind a flight that has no successor
  bool absent = false;                    ///< it will wait for other keys first (run_many)

  bool lends() const noexcept { return own != nullptr; }
  bool can_lead() const noexcept { return lends() || made != nullptr; }
  bool can_succeed() const noexcept { return lends() ? behind != nullptr : made != nullptr; }
  /// Whether the call's load is to be kept with `shared`, which it joins.
  bool keeps(const block* shared) const noexcept {
    // Bucket lock held, not the block's. A phase that says `running` stays so until the flight is
    // done, where nothing is handed over; all others may come to need a leader.
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

  block* lead_locked(detail::flight_table::bucket& b) noexcept {
    if (!lends()) {
      prepare_lead(*made);
      core.table.link_locked(b, made->own);
      return made.get();
    }
    if (first_block != nullptr) {
      detail::flight_core::attach_locked(b, *own, *first_block);
      first_block->add_reference();  // the leader's own
    }
    core.table.link_locked(b, *own);
    return first_block.release();
  }
  block& succeed_locked() noexcept {
    using namespace detail;
    if (lends()) {
      behind->lenders.store(1, memory_order_relaxed);
      behind->absent.store(absent ? 1 : 0, memory_order_relaxed);
      return *behind.release();
    }
    made->furnish();
    made->set_phase_locked(flight_phase::waiting);
    flight_core::keep_locked(*made, *made->owned);
    return *made.release();
  }
  void make_behind(std::size_t hash, view key) {
    behind = make_keyed(core, detail::flight_phase::waiting, hash, key);
    behind->stand_alone();
  }
};

// ---- what a call looks at, and makes ------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::find(const detail::flight_table::bucket& b, std::size_t hash,
                                          view key) const -> node* {
  for (detail::flight_node* n = b.first(); n != nullptr; n = n->next) {
    if (n->is_gone_locked() && detail::platform::holds(detail::rule::forgotten_is_not_found)) {
      return nullptr;  // and so are all behind it (I10)
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
auto group<Key, Value, Hash, Equal>::refuse(flight_errc code) noexcept -> entry {
  core_.stats.add(detail::figure::refused);
  core_.stats.add_error(code);
  return {.how = entry::kind::refused, .code = code};
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

// ---- getting in ---------------------------------------------------------------------------------
// One pass under the bucket lock decides: lead, join, or go behind. What has to be allocated for
// that is allocated outside the lock, and the next pass looks again.

template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::enter(caller& who, std::size_t hash, view key, bool fresh)
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
        if (who.can_lead()) {
          if (!core_.admit_flight()) return refuse(flight_errc::overloaded);
          return {.how = entry::kind::leads, .shared = who.lead_locked(b)};
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
          if (who.can_succeed()) {
            block& next = who.succeed_locked();
            // The reference that makes it the successor, and the caller's; the caller's interest.
            next.counts.store(2 * block_base::one_reference + block_base::one_interest,
                              memory_order_relaxed);
            flight_core::set_successor_locked(b, *found, next);
            core_.stats.add(figure::started);
            return {.how = entry::kind::joined,
                    .shared = &next,
                    .kept = who.keeps_behind() ? next.room.kept.last_serial() : 0};
          }
          lack = lack::own;
        } else {
          if (behind) shared = static_cast<block*>(found->successor);
          const bool keeps = behind ? who.keeps_behind() : who.keeps(shared);
          if (keeps && !who.can_lead()) {
            lack = lack::own;
          } else if (shared == nullptr && spare == nullptr) {
            lack = lack::spare;
          } else {
            if (shared == nullptr) {
              shared = spare.release();
              flight_core::attach_locked(b, *found, *shared);
            }
            const bool absent = who.absent;  // counted before the caller is counted as a lender
            if (absent) shared->absent.fetch_add(1, memory_order_relaxed);
            if (!core_.join_locked(b, *shared, who.lends() || keeps)) {
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
    if (lack == lack::own) {
      if (!who.lends()) return {.how = entry::kind::lacks};
      who.make_behind(hash, key);
    }
  }
}

// ---- starting -----------------------------------------------------------------------------------

/// Makes the block that owns key and loader.
template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::make_started(std::size_t hash, view key, given_loader load)
    -> started_block* {
  auto made = detail::make_with_key<started_block, access>(
      key,
      [&](void* at, void* key_room) {
        return ::new (at) started_block(core_, detail::flight_phase::running, hash, key, key_room);
      },
      load.room());
  made->owned = &load.make(made.get() + 1, *made);
  made->stand_alone();
  return made.release();
}

/// Before it is put into the table to lead.
template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::prepare_lead(started_block& made) noexcept {
  using namespace detail;
  // The flight's reference, the handle's and the task's; the handle's interest.
  made.counts.store(3 * block_base::one_reference + block_base::one_interest, memory_order_relaxed);
  made.run_leads = false;
  made.load = made.owned;  // `claimed` until the call hands it over: nobody ends it before
}

/// Leads, if nobody is in the bucket. False: `made` has one reference, the caller's.
template <class Key, class Value, class Hash, class Equal>
bool group<Key, Value, Hash, Equal>::start_alone(started_block& made) noexcept {
  using namespace detail;
  if (core_.plain()) {
    prepare_lead(made);
    if (flight_table::enter_alone(core_.table.locate(made.own.hash), made.own)) return true;
    made.load = nullptr;
  }
  made.counts.store(block_base::one_reference, memory_order_relaxed);
  return false;
}

template <class Key, class Value, class Hash, class Equal>
flight<Value> group<Key, Value, Hash, Equal>::start_owned(view key, given_loader load, bool fresh,
                                                          detail::load_base** unlaunched) {
  const detail::call_scope scope;
  const std::size_t hash = hash_of(key);
  const starting how{fresh, scope.outermost(), unlaunched};
  if (!core_.plain() || core_.table.locate(hash).load(detail::memory_order_relaxed) != 0) {
    if (auto joined = start_slowly(nullptr, hash, key, how)) return *std::move(joined);
  }
  started_block* const made = make_started(hash, key, load);
  if (start_alone(*made)) return lead_started(*made, how);
  return *start_slowly(std::unique_ptr<started_block>(made), hash, key, how);
}

/// Not where nobody else is. Nothing: a block must be made, and there is none.
template <class Key, class Value, class Hash, class Equal>
std::optional<flight<Value>> group<Key, Value, Hash, Equal>::start_slowly(
    std::unique_ptr<started_block> made, std::size_t hash, view key, starting how) {
  using namespace detail;
  caller who{.core = core_, .made = std::move(made)};
  const entry in = enter(who, hash, key, how.fresh);
  switch (in.how) {
    case entry::kind::lacks: return std::nullopt;
    case entry::kind::leads: return lead_started(*who.made.release(), how);
    case entry::kind::refused: return flight<Value>(refused_block(in.code), flight_role::joiner, 0);
    case entry::kind::joined: break;
  }
  std::uint32_t kept = in.kept;
  if (in.keeps) {
    kept = core_.keep(*in.shared, *who.made->owned);
    who.made.release()->drop_reference();
  }
  if (in.watch != nullptr) in.watch->joined(in.shared->id);
  return flight<Value>(*in.shared, flight_role::joiner, kept);
}

template <class Key, class Value, class Hash, class Equal>
flight<Value> group<Key, Value, Hash, Equal>::lead_started(started_block& made, starting how) {
  using namespace detail;
  if (core_.table.crowded()) core_.table.grow();
  core_.stats.add(figure::started);
  load_base& load = *made.owned;
  struct holding {  // the handle's share, also when the load ends its thread
    block* mine;
    ~holding() {
      if (mine != nullptr) (void)flight<Value>(*mine, flight_role::leader, 0);
    }
  } hold{&made};
  if (how.unlaunched != nullptr) {
    *how.unlaunched = &load;
  } else if (how.outermost && core_.options().executor.is_inline() &&
             !is_inside_run(this_thread())) {
    // The end of this call is where the trampoline would run it: no detour through its queue.
    struct running {  // also when the load ends its thread
      atomic<const thread_state*>& on;
      ~running() { on.store(nullptr, memory_order_relaxed); }
    } const here{load.within_start};
    load.within_start.store(&this_thread(), memory_order_relaxed);
    flight_core::run_owned(load);
  } else {
    flight_core::open_load(load);
    flight_core::submit_load(load);
  }
  return flight<Value>(*std::exchange(hold.mine, nullptr), flight_role::leader, 0);
}

SINGLEFLIGHT_END_NAMESPACE
