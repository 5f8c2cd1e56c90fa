// SPDX-License-Identifier: Apache-2.0
#pragma once

// cache_changes: how entries are put, invalidated, refreshed and swept.
//
// A load answers with what it finds where another one has stored meanwhile, or where it fails. It
// looks without the store's lock. So the entry leaves while the bucket of its flights is locked, or
// before that: either the load has entered the bucket by then, and is forgotten; or it enters it
// later, which acquires what the bucket's lock has released, and finds no entry. The other way
// round a load that begins between the two finds the entry, and gives it to whoever joins it, also
// after the end of the invalidation.
//
// The lock order is store, then bucket of the group. Forgetting promotes no successor, since this
// group has none (no run_fresh, no drain): nothing is handed to an executor under the lock.

#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/cache/loading_cache.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

// ---- changing -----------------------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
void loading_cache<Key, Value, Hash, Equal>::put_loaded(const Arg& key, loaded&& value) {
  const detail::call_scope scope;
  const argument<Arg> k(key);
  const std::size_t hash = detail::group_door::hash_of(flights_, k.view());
  Key own = access::own(k.view());
  const made_entry made = make_entry(own, static_cast<std::uint32_t>(hash), std::move(value));
  typename store_type::departed gone;
  {
    detail::platform::unique_lock hold(store_.lock());
    entry* const old = store_.find_locked(static_cast<std::uint32_t>(hash), k.view());
    const auto change = [&]() noexcept { store_locked(made, old, gone); };
    if (detail::platform::holds(detail::rule::put_forgets_flight)) {
      detail::group_door::forget_with(flights_, hash, k.view(), change);
    } else {
      change();
    }
  }
  finish_store(gone);
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
bool loading_cache<Key, Value, Hash, Equal>::invalidate(const Arg& key) {
  const detail::call_scope scope;
  const argument<Arg> k(key);
  const std::size_t hash = detail::group_door::hash_of(flights_, k.view());
  typename store_type::departed gone;
  bool any = false;
  {
    detail::platform::unique_lock hold(store_.lock());
    entry* const e = store_.find_locked(static_cast<std::uint32_t>(hash), k.view());
    const auto change = [&]() noexcept {
      if (e != nullptr) store_.remove_locked(*e, removal_cause::invalidated, gone);
    };
    if (detail::platform::holds(detail::rule::invalidation_forgets_flight)) {
      any = detail::group_door::forget_with(flights_, hash, k.view(), change);
    } else {
      change();
    }
    any = any || e != nullptr;
  }
  finish(gone);
  return any;
}

template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::clear() {
  const detail::call_scope scope;
  typename store_type::departed gone;
  {
    detail::platform::unique_lock hold(store_.lock());
    detail::platform::in_order(
        detail::rule::cleared_before_forgotten, [&] { store_.clear_locked(gone); },
        [&] {
          if (detail::platform::holds(detail::rule::clear_forgets_flights)) flights_.forget_all();
        });
  }
  finish(gone, detail::giving_back::all);
}

/// Forgets all loads first: what is stored from then on began later. Then it goes through the
/// table, some lines at a time, while entries stay where they are; where the table has grown
/// meanwhile, once more. At its end, however that comes, it forgets the loads that have begun
/// meanwhile: they may have found an entry before it was taken out.
template <class Key, class Value, class Hash, class Equal>
template <class Which>
std::size_t loading_cache<Key, Value, Hash, Equal>::invalidate_if(Which&& which) {
  constexpr bool by_view =
      std::is_invocable_v<Which&, view> || std::is_invocable_v<Which&, view, const Value&>;
  using asked = std::conditional_t<by_view, view, const Key&>;
  constexpr bool by_key = std::is_invocable_v<Which&, asked>;
  static_assert(by_key || std::is_invocable_v<Which&, asked, const Value&>,
                "singleflight: invalidate_if asks which(key) or which(key, value)");
  constexpr std::size_t lines = 16;
  const detail::call_scope scope;
  std::size_t count = 0;
  struct flushing {  // after all else: the cache may go with what is given back
    store_type& of;
    const std::size_t& count;
    ~flushing() {
      if (count > 0) of.flush();
    }
  } const flush{store_, count};
  std::vector<found> some;
  {
    detail::platform::unique_lock hold(store_.lock());
    if (detail::platform::holds(detail::rule::filter_forgets_flights)) flights_.forget_all();
  }
  struct at_end {
    decltype(flights_)& of;
    ~at_end() {
      if (detail::platform::holds(detail::rule::filter_forgets_finders)) of.forget_all();
    }
  } const finders{flights_};
  const typename store_type::pin places(store_);
  std::size_t at = 0;
  std::size_t size = 0;
  do {
    some.reserve(lines * detail::entry_line::places);
    {
      detail::platform::unique_lock hold(store_.lock());
      if (store_.lines_locked() != size) {
        size = store_.lines_locked();
        at = 0;
      }
      at = store_.visit_locked(at, lines, [&](entry& e) {
        e.add_reference();
        some.push_back({&e, detail::hazard_hold(e, nullptr)});
      });
    }
    const auto key_of = [](entry& e) -> decltype(auto) {
      if constexpr (by_view) {
        return e.key();
      } else {
        return access::own(e.key());
      }
    };
    std::erase_if(some, [&](found& f) {
      entry& e = *f.at;
      if constexpr (by_key) {
        return !detail::invoke_whole(which, static_cast<asked>(key_of(e)));
      } else {
        return e.kind() != detail::entry_kind::value ||
               !detail::invoke_whole(which, static_cast<asked>(key_of(e)), std::as_const(e.value));
      }
    });
    if (!some.empty()) {
      typename store_type::departed gone;
      {
        detail::platform::unique_lock hold(store_.lock());
        for (const found& f : some) {
          if (f.at->place.load(detail::memory_order_relaxed) == detail::reclaimable::left) continue;
          store_.remove_locked(*f.at, removal_cause::invalidated, gone);
          ++count;
        }
      }
      finish(gone, detail::giving_back::later);
    }
    some.clear();
  } while (at != 0);
  return count;
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
void loading_cache<Key, Value, Hash, Equal>::refresh(const Arg& key) {
  const argument<Arg> k(key);
  start_load(k.view(), entry_hash(k.view()), own_loader{*this}.own(), cause::told).detach();
}

/// Some lines at a time: nobody waits for the whole table.
template <class Key, class Value, class Hash, class Equal>
bool loading_cache<Key, Value, Hash, Equal>::sweep(void* of) {
  auto& self = *static_cast<loading_cache*>(of);
  constexpr std::size_t lines = 64;
  bool at_end = false;
  bool more = false;
  while (!at_end) {
    const detail::cache_ticks at = self.now();
    typename store_type::departed gone;
    {
      detail::platform::unique_lock hold(self.store_.lock());
      at_end = self.store_.sweep_locked(lines, at, gone);
      more = self.store_.size_locked() > 0;
    }
    self.finish(gone);
  }
  self.store_.flush();
  return more;
}

SINGLEFLIGHT_END_NAMESPACE
