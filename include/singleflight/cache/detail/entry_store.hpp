// SPDX-License-Identifier: Apache-2.0
#pragma once

// entry_store: the entries of a cache by key: found without a lock. What does not depend on keys
// and values is in store_core.hpp.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "singleflight/cache/detail/store_core.hpp"
#include "singleflight/flight/detail/group_door.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class Key, class Value, class Access, class Equal>
class entry_store : public store_core {
 public:
  using entry = detail::entry<Key, Value, Access>;
  using view = typename Access::view;

  entry_store(const cache_options<Key, Value>& options, const lifetimes& times, Equal equal)
      : store_core(options.capacity, options.reserve, static_cast<bool>(options.weigher), times,
                   {&entry::end_of, options.on_removal ? &notify_removal : nullptr,
                    std::addressof(options.on_removal), &options.free_on}),
        equal_(std::move(equal)) {}

  struct found {
    entry_store::entry* entry = nullptr;
    hazard_hold hold{};
    explicit operator bool() const noexcept { return entry != nullptr; }
  };
  /// An entry, protected by a slot that no hold owns yet.
  struct glanced {
    entry_store::entry* entry = nullptr;
    hazard_slot* slot = nullptr;
  };
  /// Finds the entry for `key` for most hits. If it is null, find() has to search. May throw what
  /// the comparison throws.
  glanced glance(std::uint32_t hash, view key) const {
    hazard_record* const record = platform::per_thread<hazard_thread>().record;
    if (record == nullptr) [[unlikely]] {
      return {};
    }
    hazard_slot* const slot = record->free_handle();
    if (slot == nullptr) [[unlikely]] {
      return {};
    }
    return {static_cast<entry*>(table().glance(hash, *record, *slot, same_as(key))), slot};
  }
  /// Returns the entry for `key`, fresh or not. May throw what the comparison throws.
  SINGLEFLIGHT_NOINLINE found find(std::uint32_t hash, view key) const {
    hazard_record* const record = this_hazard_record();
    if (hazard_slot* const slot = record == nullptr ? nullptr : record->free_handle()) {
      auto* const e = static_cast<entry*>(table().find(hash, *record, *slot, same_as(key)));
      if (e == nullptr) return {};
      help();
      return {e, hazard_hold(*e, slot)};
    }
    return find_without_slot(hash, key, record);
  }
  /// Like find(), but the entry is held by a count, for a caller that keeps it for long.
  found find_counted(std::uint32_t hash, view key) const {
    found f = find(hash, key);
    f.hold.count();
    return f;
  }

  // ---- under lock() -----------------------------------------------------------------------------

  entry* find_locked(std::uint32_t hash, view key) const {
    return static_cast<entry*>(table().find_locked(hash, same_as(key)));
  }
  /// Calls visit(entry) for the entries of the next lines (entry_table::visit_locked).
  template <class Visit>
  bool visit_locked(entry_table::position& at, std::size_t lines, Visit&& visit) {
    return table().visit_locked(at, lines, [&](entry_base& e) { visit(static_cast<entry&>(e)); });
  }

 private:
  auto same_as(view key) const noexcept {
    return [this, stored = Access::store(key)](const entry_base& e) {  // no copy of a key
      return equal_(static_cast<const entry&>(e).key(), Access::load(stored));
    };
  }
  static void notify_removal(const void* listener, entry_base& removed,
                             removal_cause cause) noexcept {
    using function = decltype(cache_options<Key, Value>::on_removal);
    auto& e = static_cast<entry&>(removed);
    (*static_cast<const function*>(listener))(
        e.key(), e.kind() == entry_kind::value ? std::addressof(e.value) : nullptr, cause);
  }
  /// Called if no slot is free for a handle; `record` is null at the thread's end.
  found find_without_slot(std::uint32_t hash, view key, hazard_record* record) const {
    entry_base* e = nullptr;
    if (record != nullptr) {
      e = table().find(hash, *record, record->passing(), same_as(key));
      if (e == nullptr) return {};
      e->add_reference();  // H4
      release(record->passing());
    } else {
      platform::unique_lock hold(lock());
      e = find_locked(hash, key);
      if (e == nullptr) return {};
      e->add_reference();
    }
    return {static_cast<entry*>(e), hazard_hold(*e, nullptr)};
  }

  [[no_unique_address]] Equal equal_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
