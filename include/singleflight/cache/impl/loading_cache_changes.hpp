// SPDX-License-Identifier: Apache-2.0
#pragma once

// loading_cache: how entries are put, invalidated and refreshed.
//
// A load answers with the entry that it finds if another load has stored one meanwhile, or if it
// fails. It looks without the store's lock. So an entry is removed while the bucket of its flights
// is locked, or before that: either the load has entered the bucket at that point, and is
// forgotten; or it enters it later, which acquires what the bucket's lock has released, and finds
// no entry. In the opposite order a load that begins between the two finds the entry, and gives it
// to callers that join it, even after the end of the invalidation.
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
  removed_entries removed;
  {
    detail::platform::unique_lock hold(store_.lock());
    entry* const old = store_.find_locked(static_cast<std::uint32_t>(hash), k.view());
    const auto change = [&]() noexcept { store_locked(made, old, removed); };
    if (detail::platform::holds(detail::rule::put_forgets_flight)) {
      detail::group_door::forget_with(flights_, hash, k.view(), change);
    } else {
      change();
    }
  }
  finish_store(removed);
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
bool loading_cache<Key, Value, Hash, Equal>::invalidate(const Arg& key) {
  const detail::call_scope scope;
  const argument<Arg> k(key);
  const std::size_t hash = detail::group_door::hash_of(flights_, k.view());
  removed_entries removed;
  bool any = false;
  {
    detail::platform::unique_lock hold(store_.lock());
    entry* const e = store_.find_locked(static_cast<std::uint32_t>(hash), k.view());
    const auto change = [&]() noexcept {
      if (e != nullptr) store_.remove_locked(*e, removal_cause::invalidated, removed);
    };
    if (detail::platform::holds(detail::rule::invalidation_forgets_flight)) {
      any = detail::group_door::forget_with(flights_, hash, k.view(), change);
    } else {
      change();
    }
    any = any || e != nullptr;
  }
  finish(removed);
  return any;
}

template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::clear() {
  const detail::call_scope scope;
  detail::cleared_entries cleared{};
  {
    detail::platform::unique_lock hold(store_.lock());
    detail::platform::in_order(
        detail::rule::cleared_before_forgotten, [&] { cleared = store_.clear_locked(); },
        [&] {
          if (detail::platform::holds(detail::rule::clear_forgets_flights)) flights_.forget_all();
        });
  }
  removed_entries removed;
  store_.dismiss(cleared, removed);
  core_.finish(store_, removed, detail::reclaim_time::now);
}

/// One call of invalidate_if. It forgets all loads first: what is stored from then on began later.
/// Then it visits the table, some lines at a time. At its end, also if `which` throws, it forgets
/// the loads that have begun meanwhile: they may have found an entry before it was removed.
template <class Key, class Value, class Hash, class Equal>
template <class Which>
class loading_cache<Key, Value, Hash, Equal>::filter {
  static constexpr bool by_view =
      std::is_invocable_v<Which&, view> || std::is_invocable_v<Which&, view, const Value&>;
  using key_argument = std::conditional_t<by_view, view, const Key&>;
  static constexpr bool by_key = std::is_invocable_v<Which&, key_argument>;
  static_assert(by_key || std::is_invocable_v<Which&, key_argument, const Value&>,
                "singleflight: invalidate_if asks which(key) or which(key, value)");
  static constexpr std::size_t lines = 16;

 public:
  filter(loading_cache& cache, Which& which) : cache_(cache), which_(which) {
    detail::platform::unique_lock hold(cache_.store_.lock());
    if (detail::platform::holds(detail::rule::filter_forgets_flights)) cache_.flights_.forget_all();
  }
  filter(const filter&) = delete;
  filter& operator=(const filter&) = delete;
  ~filter() {
    if (detail::platform::holds(detail::rule::filter_forgets_finders)) cache_.flights_.forget_all();
  }

  /// Counts what it removes in `count`.
  void operator()(std::size_t& count) {
    const typename store_type::pin places(cache_.store_);
    bool more = true;
    while (more) {
      some_.reserve(lines * detail::entry_line::places);
      more = visit();
      std::erase_if(some_, [this](found& f) { return !matches(*f.entry); });
      if (!some_.empty()) remove(count);
      some_.clear();
    }
  }

 private:
  bool visit() {
    detail::platform::unique_lock hold(cache_.store_.lock());
    return cache_.store_.visit_locked(next_, lines, [&](entry& e) {
      e.add_reference();
      some_.push_back({&e, detail::hazard_hold(e, nullptr)});
    });
  }
  bool matches(entry& e) {
    const auto key_of = [](entry& from) -> decltype(auto) {
      if constexpr (by_view) {
        return from.key();
      } else {
        return access::own(from.key());
      }
    };
    if constexpr (by_key) {
      return static_cast<bool>(detail::invoke_whole(which_, static_cast<key_argument>(key_of(e))));
    } else {
      return e.kind() == detail::entry_kind::value &&
             static_cast<bool>(detail::invoke_whole(which_, static_cast<key_argument>(key_of(e)),
                                                    std::as_const(e.value)));
    }
  }
  void remove(std::size_t& count) {
    removed_entries removed;
    {
      detail::platform::unique_lock hold(cache_.store_.lock());
      for (const found& f : some_) {
        if (!cache_.store_.holds_locked(*f.entry)) continue;
        cache_.store_.remove_locked(*f.entry, removal_cause::invalidated, removed);
        ++count;
      }
    }
    cache_.core_.finish(cache_.store_, removed, detail::reclaim_time::later);
  }

  loading_cache& cache_;
  Which& which_;
  detail::entry_table::position next_{};
  std::vector<found> some_{};
};

template <class Key, class Value, class Hash, class Equal>
template <class Which>
std::size_t loading_cache<Key, Value, Hash, Equal>::invalidate_if(Which&& which) {
  const detail::call_scope scope;
  std::size_t count = 0;
  struct flushing {  // after all else: the cache may be destroyed with what is reclaimed
    store_type& store;
    const std::size_t& count;
    ~flushing() {
      if (count > 0) store.flush();
    }
  } const flush{store_, count};
  filter<std::remove_reference_t<Which>>(*this, which)(count);
  return count;
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
void loading_cache<Key, Value, Hash, Equal>::refresh(const Arg& key) {
  const argument<Arg> k(key);
  start_load(k.view(), entry_hash(k.view()), own_loader{*this}.own(), cause::forced).detach();
}

SINGLEFLIGHT_END_NAMESPACE
