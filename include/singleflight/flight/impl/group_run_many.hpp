// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_run_many: run_many: one load for all of the given keys that are not in flight.
//
// It enters key by key, loads the keys that it leads in one call, publishes them, and only then
// waits for the flights that it joined. If a key is passed twice, its second position joins the
// flight of the first.

#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "singleflight/flight/detail/deposits.hpp"
#include "singleflight/flight/detail/rules.hpp"
#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// One call of run_many. At its end, also after an exception, no flight that it led is in the
/// table, and it has left all flights that it joined.
template <class Key, class Value, class Hash, class Equal>
template <class LoadMany>
class group<Key, Value, Hash, Equal>::bulk_run {
 public:
  bulk_run(group& flights, const std::vector<Key>& keys, LoadMany& load_many, const limits& bounds)
      : group_(flights),
        keys_(keys),
        load_many_(load_many),
        bounds_(bounds),
        places_(std::make_unique<position[]>(keys.size())) {
    results_.reserve(keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) results_.emplace_back(flight_errc::broken);
  }
  bulk_run(const bulk_run&) = delete;
  bulk_run& operator=(const bulk_run&) = delete;
  ~bulk_run() {
    self_.led = outer_;
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      position& slot = places_[i];
      slot.on_stop.reset();
      if (slot.leads) group_.end_bulk_key(slot.own, self_, slot.led, flight_errc::broken, nullptr);
      if (slot.joined != nullptr) {
        const detail::inside_run inside(self_);
        slot.joined->absent.fetch_sub(1, detail::memory_order_relaxed);
        detail::flight_core::leave(*slot.joined, detail::wait_verdict::outcome, true);
      }
    }
  }

  std::vector<outcome<result>> operator()() {
    enter_all();
    load();
    settle();
    await_joined();
    look_again();
    return std::move(results_);
  }

 private:
  struct position {
    node own;
    detail::led_frame frame{};
    std::optional<flight_context> context{};  // if the loader takes it
    detail::block_base* joined = nullptr;     // with a reference and an interest
    detail::block_base* led = nullptr;        // of a led flight that had a block from the beginning
    std::optional<detail::platform::stop_callback<detail::leader_cancellation>> on_stop{};
    bool leads = false;
    flight_errc refused{};
    std::exception_ptr failed{};  // thrown by its own hash, comparison, copy or allocation
  };

  void enter_all() {
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      position& slot = places_[i];
      try {
        enter(slot, keys_[i]);
      } catch (...) {  // the failure of one key does not affect the others
        if (slot.leads || detail::platform::is_thread_exit()) throw;
        slot.failed = std::current_exception();
      }
      if (slot.leads) {
        ++led_count_;
        if (group_.core_.table.crowded()) group_.core_.table.grow();  // a step for each
      }
      if (led_keys_.size() > led_count_) led_keys_.pop_back();
    }
  }
  void enter(position& slot, const Key& key) {
    using namespace detail;
    flight_core& core = group_.core_;
    group_.prepare(slot.own, self_, key);
    slot.own.deadline = bounds_.deadline;
    if (const auto code = expired(bounds_, core.clock())) {
      slot.refused = core.refuse(*code);
      return;
    }
    led_keys_.push_back(key);  // the copy may throw: it is made before the flight
    flight_call call{.core = core, .own = slot.own, .lends = true};
    call.absent = true;
    call.prepare_block(bounds_);
    const admission admitted = call.enter(false);
    if (admitted.decision == admission::kind::refused) {
      slot.refused = admitted.code;
    } else if (admitted.decision == admission::kind::joined) {
      slot.joined = admitted.shared;
      if (admitted.watch != nullptr) admitted.watch->joined(admitted.shared->id);
    } else {
      slot.leads = true;
      slot.led = admitted.shared;
      slot.frame = {slot.own.id, self_.led, bounds_.within.frame, &core, true};
      self_.led = &slot.frame;
      core.stats.add(counter::led);
      if (admitted.shared != nullptr && bounds_.stop.stop_possible()) {
        slot.on_stop.emplace(bounds_.stop, leader_cancellation{*admitted.shared});
      }
    }
  }

  // ---- the flights that it leads ----------------------------------------------------------------

  /// Visits the positions that lead.
  template <class Visit>
  void each_led(const Visit& visit) {
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      if (places_[i].leads) visit(places_[i]);
    }
  }
  void load() {
    if (!led_keys_.empty()) {
      try {
        each_led([this](position& slot) {
          if (slot.led != nullptr) {
            group_.core_.begin(*slot.led);
          } else if (!group_.core_.plain()) {
            group_.core_.mark_begin(slot.own);
          }
        });
        loaded_ = call();
      } catch (...) {
        if (detail::platform::is_thread_exit()) throw;
        error_ = std::current_exception();
      }
    }
    self_.led = outer_;
  }
  std::vector<outcome<Value>> call() {
    return detail::call_in_bulk<Value>(load_many_, std::span<const Key>(led_keys_), [this] {
      std::vector<const flight_context*> flights;
      each_led([&](position& slot) {
        slot.context.emplace(group_.core_, slot.own, slot.frame);
        flights.push_back(&*slot.context);
      });
      return flights;
    });
  }
  void settle() {
    const bool fits = loaded_.size() == led_keys_.size();
    std::size_t next = 0;
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      position& slot = places_[i];
      if (slot.refused != flight_errc{}) results_[i] = slot.refused;
      if (slot.failed != nullptr) results_[i] = slot.failed;
      if (!std::exchange(slot.leads, false)) continue;
      slot.on_stop.reset();
      if (error_ != nullptr) {
        group_.end_bulk_key(slot.own, self_, slot.led, {}, error_);
        results_[i] = error_;
      } else if (!fits) {
        group_.end_bulk_key(slot.own, self_, slot.led, flight_errc::broken, nullptr);
      } else {
        group_.settle_bulk_key(slot.own, self_, slot.led, loaded_[next++], results_[i]);
      }
    }
  }

  // ---- the flights that it joined ---------------------------------------------------------------

  void await_joined() {
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      detail::block_base*& joined = places_[i].joined;
      if (joined == nullptr) continue;
      if (arrive(*joined)) {
        detail::make_room(passed_over_);
        passed_over_.push_back(i);
        std::exchange(joined, nullptr)->drop_reference();
        continue;
      }
      // Called if this caller is elected, after a failure or for a successor.
      const auto load_one = [&](const flight_context& context) -> Value {
        return call_for(keys_[i], context);
      };
      try {
        results_[i] = outcome_of(detail::flight_call::await_joined(
            group_.core_, *std::exchange(joined, nullptr), self_, lent(load_one), bounds_));
      } catch (...) {
        if (detail::platform::is_thread_exit()) throw;
        results_[i] = std::current_exception();
      }
    }
  }
  Value call_for(const Key& key, const flight_context& context) {
    std::vector<outcome<Value>> just = detail::call_in_bulk<Value>(
        load_many_, std::span<const Key>(std::addressof(key), 1),
        [&context] { return std::vector<const flight_context*>{&context}; });
    if (just.size() != 1) throw flight_error(flight_errc::broken);
    return std::move(just.front()).value();
  }
  void look_again() {
    if (passed_over_.empty()) return;
    std::vector<Key> again;
    for (const std::size_t i : passed_over_) again.push_back(keys_[i]);
    auto more = group_.run_many(again, load_many_, bounds_);
    for (std::size_t n = 0; n < more.size(); ++n) results_[passed_over_[n]] = std::move(more[n]);
  }

  group& group_;
  const std::vector<Key>& keys_;
  LoadMany& load_many_;
  const limits& bounds_;
  detail::thread_state& self_ = detail::this_thread();
  const detail::led_frame* const outer_ = self_.led;
  const std::unique_ptr<position[]> places_;
  std::vector<Key> led_keys_;
  std::size_t led_count_ = 0;
  std::vector<outcome<Value>> loaded_;
  std::exception_ptr error_;
  std::vector<std::size_t> passed_over_;
  std::vector<outcome<result>> results_;
};

template <class Key, class Value, class Hash, class Equal>
template <class Keys, class LoadMany>
auto group<Key, Value, Hash, Equal>::run_many(const Keys& keys, LoadMany&& load_many,
                                              const limits& bounds)
    -> std::vector<outcome<result>> {
  using namespace detail;
  static_assert(goes_in_bulk<Key>() && loads_in_bulk<Key, Value, LoadMany>());
  const inside_run inside(this_thread());
  std::vector<Key> all;
  for (const auto& key : keys) all.push_back(own_of(key));
  return bulk_run<std::remove_reference_t<LoadMany>>(*this, all, load_many, bounds)();
}

/// The bulk call begins to wait for flight `b`; from now on it can lead it. Returns true if `b` has
/// already ended without it, with an error that other callers may have received before the bulk
/// call began (P3): the caller must not return that error, and looks the key up again.
template <class Key, class Value, class Hash, class Equal>
bool group<Key, Value, Hash, Equal>::arrive(detail::block_base& b) noexcept {
  using namespace detail;
  if (!b.done()) {
    // An election, under this lock, finds it absent or not, and counted in `lenders` either way.
    b.lock();
    b.absent.fetch_sub(1, memory_order_relaxed);
    b.unlock();
  }
  return b.done() && b.result == flight_result::error && b.error_given &&
         platform::holds(rule::passed_over_looks_again);
}

/// Ends the flight of one key of a bulk load without a value.
template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::end_bulk_key(node& own, detail::thread_state& self,
                                                  detail::block_base* led, flight_errc code,
                                                  std::exception_ptr error) {
  if (led == nullptr) {
    detail::flight_call::end_thin(core_, own, self, code, std::move(error));
    return;
  }
  const detail::inside_run inside(self);
  detail::flight_call::end_in_error(core_, own, *led, code, std::move(error), 1);
}

/// Ends the flight of one key of a bulk load with the outcome that the load returned for that key.
/// If moving the value throws, no other key is affected.
template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::settle_bulk_key(node& own, detail::thread_state& self,
                                                     detail::block_base* led,
                                                     outcome<Value>& loaded,
                                                     outcome<result>& given) {
  using namespace detail;
  if (!loaded.has_value()) {
    const std::optional<flight_errc> code = detail::code_of(loaded);
    const std::exception_ptr error = code ? nullptr : loaded.exception();
    end_bulk_key(own, self, led, code.value_or(flight_errc{}), error);
    if (code) {
      given = *code;
    } else {
      given = error;
    }
    return;
  }
  auto r = result_door::make_empty<Value>();
  try {
    result_door::emplace(r, [&](void* at) {
      if constexpr (std::is_void_v<Value>) {
        ::new (at) std::monostate();
      } else {
        ::new (at) Value(std::move(loaded).value());
      }
    });
    if (led != nullptr) {
      static_cast<block&>(*led).construct(std::move(result_door::inline_value(r)));
    }
  } catch (...) {
    if (platform::is_thread_exit()) {
      end_bulk_key(own, self, led, flight_errc::broken, nullptr);
      throw;
    }
    end_bulk_key(own, self, led, {}, std::current_exception());
    given = std::current_exception();
    return;
  }
  try {
    if (led == nullptr) {
      settle(own, self, r);
    } else {
      const inside_run inside(self);
      if (core_.finish_and_drop(*led, flight_result::value)) {
        result_door::become_share(r, static_cast<block&>(*led));
      } else {
        result_door::take_back(r, static_cast<block&>(*led));  // expired: no other caller gets it
      }
    }
    given = std::move(r);
  } catch (...) {
    if (platform::is_thread_exit()) throw;
    given = std::current_exception();
  }
}

SINGLEFLIGHT_END_NAMESPACE
