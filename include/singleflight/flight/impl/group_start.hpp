// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_start: how start() begins a load. It makes a block that owns the key and the load, puts it
// into the table (by start_alone(), or by enter() under the bucket lock), and passes the load to
// the executor; flight_core_loads.hpp continues from there.

#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// Makes the block that owns the key and the loader.
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
  made->use_own_node();
  return made.release();
}

/// Called before the block is put into the table to lead.
template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::prepare_lead(started_block& made) noexcept {
  using namespace detail;
  // The flight's reference, the handle's and the task's; the handle's interest.
  made.counts.store(3 * block_base::one_reference + block_base::one_interest, memory_order_relaxed);
  made.run_leads = false;
  made.load = made.owned;  // `claimed` until the call opens it: so no other thread ends it
}

/// Leads if the bucket is empty. If this returns false, `made` has one reference, the caller's.
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
  const start_mode mode{fresh, scope.outermost(), unlaunched};
  if (!core_.plain() || core_.table.locate(hash).load(detail::memory_order_relaxed) != 0) {
    if (auto joined = start_slowly(nullptr, hash, key, mode)) return *std::move(joined);
  }
  started_block* const made = make_started(hash, key, load);
  if (start_alone(*made)) return lead_started(*made, mode);
  return *start_slowly(std::unique_ptr<started_block>(made), hash, key, mode);
}

/// Starts under the bucket's lock. Returns nothing if that needs a block and `made` is null.
template <class Key, class Value, class Hash, class Equal>
std::optional<flight<Value>> group<Key, Value, Hash, Equal>::start_slowly(
    std::unique_ptr<started_block> made, std::size_t hash, view key, start_mode mode) {
  using namespace detail;
  caller call{.core = core_, .made = std::move(made)};
  const admission admitted = enter(call, hash, key, mode.fresh);
  switch (admitted.decision) {
    case admission::kind::needs_block: return std::nullopt;
    case admission::kind::leads: return lead_started(*call.made.release(), mode);
    case admission::kind::refused:
      return flight<Value>(refused_block(admitted.code), flight_role::joiner, 0);
    case admission::kind::joined: break;
  }
  std::uint32_t kept = admitted.kept;
  if (admitted.keeps) {
    kept = core_.keep(*admitted.shared, *call.made->owned);
    call.made.release()->drop_reference();
  }
  if (admitted.watch != nullptr) admitted.watch->joined(admitted.shared->id);
  return flight<Value>(*admitted.shared, flight_role::joiner, kept);
}

template <class Key, class Value, class Hash, class Equal>
flight<Value> group<Key, Value, Hash, Equal>::lead_started(started_block& made, start_mode mode) {
  using namespace detail;
  if (core_.table.crowded()) core_.table.grow();
  core_.stats.add(counter::started);
  load_base& load = *made.owned;
  struct holding {  // drops the handle's share if the load ends this thread
    block* mine;
    ~holding() {
      if (mine != nullptr) (void)flight<Value>(*mine, flight_role::leader, 0);
    }
  } hold{&made};
  if (mode.unlaunched != nullptr) {
    *mode.unlaunched = &load;
  } else if (mode.outermost && core_.options().executor.is_inline() &&
             !is_inside_run(this_thread())) {
    // The trampoline would run it at the end of this call: it runs here, without the queue.
    struct running {  // resets within_start, also if the load ends this thread
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
