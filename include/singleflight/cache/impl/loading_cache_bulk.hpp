// SPDX-License-Identifier: Apache-2.0
#pragma once

// loading_cache: get_all, and the load of many keys in one call.

#include "singleflight/cache/loading_cache.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

// ---- get_all ------------------------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
class loading_cache<Key, Value, Hash, Equal>::bulk_get {
 public:
  bulk_get(loading_cache& cache, const limits& bounds) noexcept : cache_(cache), bounds_(bounds) {}

  template <class Keys>
  std::vector<outcome<result>> operator()(const Keys& keys) {
    for (const auto& key : keys) look_up(key);
    if (!due_.empty()) refresh_due();
    if (missing_.empty()) return std::move(results_);
    if (!cache_.load_many_ && cache_.loader_->awaits()) {
      start_each();
    } else {
      load_together();
    }
    return std::move(results_);
  }

 private:
  template <class Arg>
  void look_up(const Arg& key) {
    results_.emplace_back(flight_errc::broken);
    try {
      const argument<std::remove_cvref_t<Arg>> k(key);
      const auto hash = cache_.entry_hash(k.view());
      found f = cache_.store_.find(hash, k.view());
      const auto state = f ? cache_.freshness_of(*f.entry) : entry_freshness::expired;
      const auto refresh = [&] {
        if (cache_.load_many_) return due_.push_back(access::own(k.view()));
        cache_.refresh_behind(k.view(), hash);
      };
      if (auto known = cache_.answer_now(f, state, refresh)) {
        results_.back() = *std::move(known);
        return;
      }
      cache_.core_.stats.add(counter::misses);
      places_.push_back(results_.size() - 1);
      missing_.push_back(access::own(k.view()));
    } catch (...) {  // one key's failure does not affect the others
      if (detail::platform::is_thread_exit()) throw;
      results_.back() = std::current_exception();
      if (places_.size() > missing_.size()) places_.pop_back();
    }
  }
  void refresh_due() {
    try {
      cache_.refresh_behind(due_);
    } catch (...) {  // the answers stand; a later hit begins the refresh again
      if (detail::platform::is_thread_exit()) throw;
    }
  }
  /// Starts loads that are awaited, and that no `load_many` takes together.
  void start_each() {
    std::vector<std::optional<flight<result>>> started(missing_.size());
    for (std::size_t i = 0; i < missing_.size(); ++i) {
      try {
        const view key = key_view_of(missing_[i]);
        started[i].emplace(cache_.start_load(key, cache_.entry_hash(key), own_loader{cache_}.own(),
                                             cause::missing));
      } catch (...) {
        if (detail::platform::is_thread_exit()) throw;
        results_[places_[i]] = std::current_exception();
      }
    }
    for (std::size_t i = 0; i < started.size(); ++i) {
      if (started[i]) results_[places_[i]] = cache_.wait_for(*started[i], bounds_);
    }
  }
  void load_together() {
    auto each = cache_.flights_.run_many(
        missing_,
        [this](std::span<const Key> keys, const detail::bulk_flights& flights) {
          return cache_.lead_many(keys, flights, cause::missing);
        },
        bounds_);
    for (std::size_t i = 0; i < each.size(); ++i) {
      results_[places_[i]] = detail::own_handle(std::move(each[i]));
    }
  }

  loading_cache& cache_;
  const limits& bounds_;
  std::vector<outcome<result>> results_{};
  std::vector<Key> missing_{};
  std::vector<Key> due_{};
  std::vector<std::size_t> places_{};  // of the missing keys, in results_
};

template <class Key, class Value, class Hash, class Equal>
template <class Keys>
auto loading_cache<Key, Value, Hash, Equal>::get_all(const Keys& keys, const limits& bounds)
    -> std::vector<outcome<result>> {
  const detail::end_scope scope;
  static_assert(detail::goes_in_bulk<Key>());
  return bulk_get(*this, bounds)(keys);
}

/// Refreshes keys that have become due together: by one call of `load_many`, as get_all makes for
/// missing keys.
template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::refresh_behind(const std::vector<Key>& keys) {
  if (keys.size() == 1) {  // as for a single hit
    const view key = key_view_of(keys.front());
    return refresh_behind(key, entry_hash(key));
  }
  auto each = flights_.start_many(
      keys, [this](std::span<const Key> these, const detail::bulk_flights& flights) {
        return lead_many(these, flights, cause::due);
      });
  for (flight<result>& one : each) std::move(one).detach();
}

// ---- the load of many keys ----------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
class loading_cache<Key, Value, Hash, Equal>::bulk_load {
 public:
  bulk_load(loading_cache& cache, const detail::bulk_flights& flights) noexcept
      : cache_(cache), flights_(flights) {}

  std::vector<outcome<result>> operator()(std::span<const Key> keys, cause why) {
    places_.reserve(keys.size());
    hashes_.reserve(keys.size());
    for (const Key& key : keys) look_again(key, why);
    if (keys_.empty()) return std::move(results_);
    cache_.count_loads(why, keys_.size());
    call();
    for (std::size_t i = 0; i < keys_.size(); ++i) conclude(i);
    return std::move(results_);
  }

 private:
  void look_again(const Key& key, cause why) {
    results_.emplace_back(flight_errc::broken);
    try {
      const auto hash = cache_.entry_hash(key_view_of(key));
      if (auto known = cache_.look_again(key_view_of(key), hash, why)) {
        results_.back() = *std::move(known);
        return;
      }
      keys_.push_back(key);
      places_.push_back(results_.size() - 1);  // reserved, as the next one is
      hashes_.push_back(hash);
    } catch (...) {  // one key's failure does not affect the others
      if (detail::platform::is_thread_exit()) throw;
      results_.back() = std::current_exception();
    }
  }
  void call() {
    try {
      if (cache_.load_many_) {
        answers_ = cache_.load_many_(std::span<const Key>(keys_));
        if (answers_.size() != keys_.size()) throw flight_error(flight_errc::broken);
      }
    } catch (...) {
      if (detail::platform::is_thread_exit()) throw;
      error_ = std::current_exception();
    }
  }
  void conclude(std::size_t i) {
    try {
      const flight_context& flight = flights_[places_[i]];
      const auto load = [&](const Key& key) -> loaded {
        if (error_ != nullptr) std::rethrow_exception(error_);
        if (cache_.load_many_) return std::move(answers_[i]).value();
        return cache_.loader_->load(key, flight);
      };
      results_[places_[i]] = cache_.conclude(keys_[i], hashes_[i], 0, flight, load);
    } catch (...) {
      if (detail::platform::is_thread_exit()) throw;
      results_[places_[i]] = std::current_exception();
    }
  }

  loading_cache& cache_;
  const detail::bulk_flights& flights_;
  std::vector<outcome<result>> results_{};
  std::vector<Key> keys_{};  // those that have to be loaded
  std::vector<std::size_t> places_{};
  std::vector<std::uint32_t> hashes_{};
  std::vector<outcome<loaded>> answers_{};
  std::exception_ptr error_{};
};

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::lead_many(std::span<const Key> keys,
                                                       const detail::bulk_flights& flights,
                                                       cause why) -> std::vector<outcome<result>> {
  return bulk_load(*this, flights)(keys, why);
}

template <class Key, class Value, class Hash, class Equal>
template <class LoadMany>
auto loading_cache<Key, Value, Hash, Equal>::bulk_loader_of(LoadMany&& load_many) -> bulk_loader {
  constexpr bool fits = requires(std::decay_t<LoadMany> fn, std::span<const Key> keys) {
    detail::code_of(fn(keys).front());
  };
  static_assert(
      fits,
      "singleflight: a cache's load_many takes a std::span<const Key> and returns a std::vector of "
      "outcome<Value>, outcome<std::optional<Value>> or outcome<with_ttl<Value>>, by position");
  if constexpr (!fits) {
    return detail::never<bulk_loader>();
  } else {
    return [fn = std::forward<LoadMany>(load_many)](std::span<const Key> keys) mutable {
      auto given = fn(keys);
      std::vector<outcome<loaded>> answers;
      answers.reserve(given.size());
      for (auto& one : given) {
        if (one.has_value()) {
          answers.emplace_back(detail::as_loaded<Value>(std::move(*one)));
        } else if (const auto code = detail::code_of(one)) {
          answers.emplace_back(*code);
        } else {
          answers.emplace_back(one.exception());
        }
      }
      return answers;
    };
  }
}

SINGLEFLIGHT_END_NAMESPACE
