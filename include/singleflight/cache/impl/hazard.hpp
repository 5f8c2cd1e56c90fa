// SPDX-License-Identifier: Apache-2.0
#pragma once

// hazard: how removed objects are kept while a slot protects them, and when they are freed; how a
// thread gets and gives back its record; what a fork does to both.

#include <algorithm>
#include <memory>
#include <new>
#include <utility>

#include "singleflight/cache/detail/hazard.hpp"
#include "singleflight/cache/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY hazard_record& hazard_domain::take() {
  platform::unique_lock hold(lock_);
  hazard_record* record = records_;
  while (record != nullptr && record->taken) record = record->next;
  if (record == nullptr) {
    [[maybe_unused]] const platform::kept_for_good memory{};
    scanned_.reserve((count_ + 1) * hazard_record::all);
    record = new hazard_record;
    record->next = records_;
    records_ = record;
    ++count_;
  }
  record->taken = true;
  return *record;
}

SINGLEFLIGHT_BODY void hazard_domain::reclaim(reclaimable* list) noexcept {
  do {
    reclaimable* last = list;
    for (int n = 1; n < most_at_once && last != nullptr; ++n) last = last->next;
    reclaimable* const rest = last == nullptr ? nullptr : std::exchange(last->next, nullptr);
    reclaim_some(std::exchange(list, rest));
  } while (list != nullptr);
}

SINGLEFLIGHT_BODY void hazard_domain::reclaim_some(reclaimable* list) noexcept {
  reclaimable* unheld = nullptr;
  {
    platform::unique_lock hold(lock_);
    append(std::exchange(kept_, nullptr), list);
    if (graceful_) list = after_grace(list);
    if (list == nullptr) return;
    if (hazard_mode::is_one_sided()) {
      if (!platform::barrier_in_all_threads()) {
        kept_ = list;  // until a later call
        if (++refusals_ == most_refusals && platform::holds(rule::refused_barrier_is_replaced)) {
          hazard_mode::one_sided.store(false, memory_order_relaxed);
          graceful_ = true;
        }
        return;
      }
      refusals_ = 0;
    }
    scan();
    while (reclaimable* const object = list) {
      list = object->next;
      reclaimable*& to = held(object) ? kept_ : unheld;
      object->next = to;
      to = object;
    }
  }
  while (reclaimable* const object = unheld) {
    unheld = object->next;
    object->drop_reference();
  }
}

SINGLEFLIGHT_BODY void hazard_domain::append(reclaimable* more, reclaimable*& list) noexcept {
  if (more == nullptr) return;
  reclaimable* last = more;
  while (last->next != nullptr) last = last->next;
  last->next = list;
  list = more;
}

SINGLEFLIGHT_BODY reclaimable* hazard_domain::after_grace(reclaimable* fresh) noexcept {
  append(fresh, gathering_);
  const steady_time now = platform::now();
  if (waiting_ != nullptr && now - waiting_since_ < grace) return nullptr;
  waiting_since_ = now;
  return std::exchange(waiting_, std::exchange(gathering_, nullptr));
}

SINGLEFLIGHT_BODY void hazard_domain::scan() noexcept {
  scanned_.clear();
  for (hazard_record* record = records_; record != nullptr; record = record->next) {
    for (hazard_slot& slot : record->slots) {
      const memory_order_t acquire = platform::order(rule::scan_acquires, memory_order_acquire);
      reclaimable* object = slot.load(acquire);
      if (!hazard_mode::is_one_sided()) {
        while (!slot.compare_exchange_strong(
            object, object, platform::order(rule::scan_acquires, memory_order_acq_rel), acquire)) {
        }
      }
      if (object != nullptr) scanned_.push_back(object);  // take() has reserved space
    }
  }
  if (scanned_.size() > 1) std::sort(scanned_.begin(), scanned_.end());
}

SINGLEFLIGHT_BODY bool hazard_domain::held(reclaimable* object) const noexcept {
  if (!platform::holds(rule::held_is_kept)) return false;
  return !scanned_.empty() && std::binary_search(scanned_.begin(), scanned_.end(), object);
}

/// The threads that do not exist in the child have returned their records, with the slots of their
/// handles, which the forking thread may hold now. The slots that only a call needs are emptied.
SINGLEFLIGHT_BODY void hazard_domain::repair() noexcept {
  const hazard_record* const mine = platform::per_thread<hazard_thread>().record;
  for (hazard_record* record = records_; record != nullptr; record = record->next) {
    if (record == mine) continue;
    record->taken = false;
    record->passing().store(nullptr, memory_order_relaxed);
    record->structure().store(nullptr, memory_order_relaxed);
    record->source().store(nullptr, memory_order_relaxed);
  }
  if (hazard_mode::is_one_sided()) (void)platform::ask_for_barrier();
}

SINGLEFLIGHT_BODY void give_hazard_record_back() noexcept {
  auto& self = platform::per_thread<hazard_thread>();
  self.ended = true;
  if (hazard_record* const mine = self.record) {
    self.record = nullptr;
    hazard_domain::instance().give_back(*mine);
  }
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY hazard_record* take_hazard_record(
    hazard_thread& self) noexcept {
  if (self.ended) return nullptr;
  try {
    self.record = &hazard_domain::instance().take();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  platform::at_thread_exit<&give_hazard_record_back>();
  return self.record;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
