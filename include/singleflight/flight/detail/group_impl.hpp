// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_impl: how a call gets into a flight, leads it, and how a leader's outcome is settled.

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
    return core.hands_over() ||
           (shared != nullptr && (shared->phase() != detail::flight_phase::running ||
                                  shared->offered.load(detail::memory_order_relaxed)));
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
  void make(std::size_t hash, view key) {
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
                    .kept = caller.keeps_behind() ? next.room.kept->serial : 0};
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
            if (!core_.join_locked(b, *shared, Caller::lends || keeps)) {
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
    if (promoted != nullptr) core_.activate(*promoted);
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

// ---- run ----------------------------------------------------------------------------------------

/// Leads thin: nobody else is on the flight yet, and mostly nobody will be.
template <class Key, class Value, class Hash, class Equal>
template <class Load>
auto group<Key, Value, Hash, Equal>::lead_alone(node& own, detail::thread_state& self, Load& load,
                                                const detail::led_frame* within) -> result {
  using namespace detail;
  const led_frame frame{own.id, self.led, within, &core_, true};
  self.led = &frame;
  core_.stats.add(figure::led);
  if (!core_.plain()) core_.mark_begin(own);
  result r;
  try {
    if constexpr (form_of<Value, Load>() == loader_form::nothing) {
      r.emplace(load);
    } else {
      const flight_context context(core_, own, frame);
      const auto call = [&]() -> decltype(auto) { return call_loader<Value>(load, context); };
      r.emplace(call);
    }
  } catch (...) {
    if (platform::is_thread_exit()) {
      self.led = frame.outer;
      settle_error(own, self, flight_errc::broken, nullptr);
      throw;
    }
    self.led = frame.outer;
    settle_error(own, self, {}, std::current_exception());
    throw;
  }
  self.led = frame.outer;
  if (!core_.plain() || !flight_table::leave_alone(core_.table.locate(own.hash), own))
      [[unlikely]] {
    settle(own, self, r);
  }
  return r;
}

/// The thin leader could not leave alone: somebody may have joined.
template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::settle(node& own, detail::thread_state& self, result& r) {
  using namespace detail;
  const inside_run inside(self);
  auto* const b = static_cast<block*>(core_.leave_table(own, load_result::value));
  if (b == nullptr) return;
  b->add_reference();  // the leader's own
  try {
    b->construct(std::move(r.inline_value()));
  } catch (...) {
    end_in_error(own, *b, {}, std::current_exception(), 1);
    throw;
  }
  if (core_.finish_and_drop(*b, flight_result::value)) {
    r.become_share(*b);
  } else {
    r.take_back(*b);  // expired: nobody shares it
  }
}

template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::settle_error(node& own, detail::thread_state& self,
                                                  flight_errc code, std::exception_ptr error) {
  using namespace detail;
  const inside_run inside(self);
  const load_result how = error == nullptr ? load_result::broken : load_result::error;
  if (block_base* const b = core_.leave_table(own, how, code)) {
    end_in_error(own, static_cast<block&>(*b), code, std::move(error), 0);
  }
}

template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::end_in_error(detail::flight_node& n, block& b,
                                                  flight_errc code, std::exception_ptr error,
                                                  std::uint32_t references) {
  using namespace detail;
  flight_core::finished end{};
  if (error == nullptr) {
    end = core_.finish(b, flight_result::code, code);
  } else {
    error = keep_alive(std::move(error));
    end = core_.hand_over_from(n, b, error);
    if (!end.published) {
      end = core_.finish(b, flight_result::error, {}, std::move(error), false);
    }
  }
  // None to drop: somebody leads on, and the block may be gone with it.
  if (end.over || references > 0) b.drop_references(references + (end.over ? 1U : 0U));
}

/// Leads a flight that has a block: from the begin, for an option or a limit that needs one, or as
/// the one who was elected. The caller's reference on `b` goes into the result.
template <class Key, class Value, class Hash, class Equal>
template <class Load>
auto group<Key, Value, Hash, Equal>::lead_shared(detail::flight_node& n, block& b,
                                                 detail::thread_state& self, Load& load,
                                                 const limits& bounds) -> result {
  using namespace detail;
  const led_frame frame{b.id, self.led, bounds.within.frame, &core_, true};
  self.led = &frame;
  try {
    core_.begin(b);
    std::optional<platform::stop_callback<withdrawing>> on_stop;
    if (bounds.stop.stop_possible()) on_stop.emplace(bounds.stop, withdrawing{b});
    const flight_context context(core_, n, frame);
    if constexpr (std::is_void_v<Value>) {
      call_loader<Value>(load, context);
      b.construct();
    } else {
      b.construct_from([&]() -> decltype(auto) { return call_loader<Value>(load, context); });
    }
  } catch (...) {
    if (platform::is_thread_exit()) {
      self.led = frame.outer;
      const inside_run inside(self);
      end_in_error(n, b, flight_errc::broken, nullptr, 1);
      throw;
    }
    self.led = frame.outer;
    const inside_run inside(self);
    end_in_error(n, b, {}, std::current_exception(), 1);
    throw;
  }
  self.led = frame.outer;
  const inside_run inside(self);
  if (core_.finish_and_drop(b, flight_result::value)) {
    return result(typename result::from_block{}, b, flight_role::leader);
  }
  result alone;  // expired: nobody shares it
  alone.take_back(b);
  return alone;
}

template <class Key, class Value, class Hash, class Equal>
template <class Load>
auto group<Key, Value, Hash, Equal>::run_contended(node& own, view key, detail::thread_state& self,
                                                   Load& load, const limits& bounds, bool fresh)
    -> outcome<result> {
  using namespace detail;
  const inside_run inside(self);
  if (const auto code = expired(bounds, core_.clock())) return refuse(*code).code;
  own.deadline = bounds.deadline;
  run_caller caller{core_, own};
  if (bounds.stop.stop_possible() || core_.options().load_timeout.count() > 0) {
    caller.first_block = make_block_for(core_, own.hash, key);
  }
  const entry in = enter(caller, own.hash, key, fresh);
  switch (in.how) {
    case entry::kind::refused: return in.code;
    case entry::kind::leads:
      if (core_.table.crowded()) core_.table.grow();
      if (in.shared == nullptr) return lead_alone(own, self, load, bounds.within.frame);
      core_.stats.add(figure::led);
      return lead_shared(own, *in.shared, self, load, bounds);
    case entry::kind::joined: break;
  }
  if (in.watch != nullptr) in.watch->joined(in.shared->id);
  return await_joined(*in.shared, self, load, bounds);
}

template <class Key, class Value, class Hash, class Equal>
template <class Load>
auto group<Key, Value, Hash, Equal>::await_joined(block& b, detail::thread_state& self, Load& load,
                                                  const limits& bounds) -> outcome<result> {
  using namespace detail;
  wait_verdict verdict{};
  try {
    verdict = blocked_wait(b, bounds, blocked_wait::form::run).wait();
  } catch (...) {
    const inside_run inside(self);
    flight_core::leave(b, wait_verdict::outcome, true);
    throw;
  }
  switch (verdict) {
    case wait_verdict::outcome: return flight_share<Value>::outcome_of(b, flight_role::joiner);
    case wait_verdict::lead:
      core_.stats.add(figure::begun);
      b.lock();
      b.offered.store(false, memory_order_relaxed);
      b.leader_gone.store(false, memory_order_relaxed);
      b.run_leads = true;
      b.node->deadline = bounds.deadline;
      b.unlock();
      return lead_shared(*b.node, b, self, load, bounds);
    case wait_verdict::timed_out:
    case wait_verdict::cancelled:
    case wait_verdict::recursive: break;
  }
  {
    const inside_run inside(self);
    flight_core::leave(b, verdict, true);
  }
  return verdict == wait_verdict::timed_out   ? flight_errc::timed_out
         : verdict == wait_verdict::cancelled ? flight_errc::cancelled
                                              : flight_errc::recursive;
}

SINGLEFLIGHT_END_NAMESPACE
