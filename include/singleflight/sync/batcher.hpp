// SPDX-License-Identifier: Apache-2.0
#pragma once

/// batcher: independent calls for single keys, gathered into one load of many.
///
/// Use when    many callers ask for different keys at about the same moment, and the backend
///             answers a hundred keys as fast as one: the fields of a query, the rows of a page.
/// Not for     callers who know all their keys (group::run_many, start_many); keeping answers (that
///             is a cache). Who asks for a key that is gathered or loaded already joins it.
/// Example     examples/11_batcher.cpp
///
/// Threads     every member, from any thread; the destructor once no new call can begin. The loader
///             is called on the executor, up to max_in_flight times at once.
/// Ordering    the keys of a batch stand in the order of their calls. Batches are handed to the
///             executor in the order of their first keys; one that a waiter runs may overtake
///             those, but passes over each of them once at most. The load's effects happen-before
///             every return of its outcome (P7).
/// Blocking    start and flush return at once. load waits, up to its limits; on a thread of the
///             executor it may run its batch itself, once that is due (and before it one that was
///             passed over), so a pool of one thread does not wait for itself. So does a wait on a
///             handle; one with limits only where the executor has no thread to spare. Within the
///             loader, load is refused as `recursive`, for the batch holds the place that it would
///             wait for; what start returns must not be waited for there either. The same goes for
///             loaders that ask each other's batchers in a ring: with max_in_flight = 1 that is
///             refused, too; with more places it may hang.
/// Cancel      a caller's limit ends its own wait only, and not while its thread runs a batch: as
///             with the leader of a run, it stays until the loader returns. A key whose callers
///             have all left before its batch begins is not loaded, nor is a batch without keys;
///             its place of max_keys is free at once, its memory when the batch goes. Later nothing
///             is told to stop: the answer goes to nobody, and a newcomer for that key asks anew.
/// Errors      an exception of the loader, to every caller of its batch, with its own type; a
///             result of another size than the span: `broken`; otherwise each key has its own
///             outcome. flight_error for the library's own. A throwing hash, comparison, key copy
///             or allocation harms only its own call, or key (P9).
/// Lifetime    start owns its key. The destructor closes: gathered keys end as `closed`, and it
///             waits for the loader's calls (P10). Handles may outlive the batcher.
/// Cost        a key: the allocation of a start and a short critical section; a batch: some more
///             allocations, and one task. A joiner: as in a group. The delay: one timer node.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "singleflight/flight/detail/group_door.hpp"
#include "singleflight/flight/group.hpp"
#include "singleflight/sync/batcher_options.hpp"
#include "singleflight/sync/detail/batch_line.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class Key, class Value, class Hash = key_hash<Key>, class Equal = key_equal>
class batcher final : public observable {
  static_assert(std::is_void_v<Value> || (std::is_object_v<Value> && !std::is_const_v<Value> &&
                                          std::move_constructible<Value>),
                "singleflight: a batch returns values: Value is void or an object type, without "
                "const, that can be moved");
  using line = detail::batch_line<Key, Value>;

 public:
  using key_type = Key;
  using mapped_type = Value;
  using result = shared_result<Value>;
  /// Returns one outcome per key, by position; absence is an empty std::optional as Value.
  using loader = std::function<std::vector<outcome<Value>>(std::span<const Key>)>;

  /// Throws std::invalid_argument for a bound of zero, a negative delay, or an empty loader.
  explicit batcher(loader load_many, batcher_options options = {}, Hash hash = {}, Equal equal = {})
      : line_(make_line(std::move(load_many), options)),
        flights_({.executor = std::move(options.executor),
                  .timer = options.timer,
                  .max_flights = options.max_keys,
                  .observer = options.observer},
                 std::move(hash), std::move(equal)) {}
  /// Another loader is none: it says why.
  template <class LoadMany>
    requires(!std::is_convertible_v<LoadMany, loader> &&
             !std::is_same_v<std::remove_cvref_t<LoadMany>, batcher>)
  explicit batcher(LoadMany&& load_many, batcher_options options = {}, Hash hash = {},
                   Equal equal = {})
      : batcher(loader(), std::move(options), std::move(hash), std::move(equal)) {
    static_assert(detail::loads_in_bulk<Key, Value, std::decay_t<LoadMany>>());
    (void)load_many;
  }
  batcher(const batcher&) = delete;
  batcher& operator=(const batcher&) = delete;
  /// close(). Aborts the process when called within the loader: it would wait for itself.
  ~batcher() {
    detail::require(!detail::group_door::core(flights_).leads_on_this_thread(),
                    "batcher: destroyed within its own loader");
    const detail::call_scope scope;  // who resumes on this thread does so once all have ended
    shut();
    line_->drop_loader();
  }

  // ---- asking -----------------------------------------------------------------------------------

  /// A share of the answer for `key`, to be awaited, waited for, or called back. A refusal (closed,
  /// overloaded) is found in the handle.
  template <class Arg>
  [[nodiscard]] flight<Value> start(const Arg& key) {
    const detail::call_scope scope;
    detail::load_base* begun = nullptr;
    flight<Value> handle = detail::group_door::start_unlaunched(
        flights_, key, detail::batched_key<Key, Value>(detail::group_door::own_of(flights_, key)),
        begun);
    if (begun != nullptr) line_->add(*begun);
    return handle;
  }

  /// The answer for `key`; waits for it within `bounds`.
  template <class Arg>
  result load(const Arg& key, const limits& bounds = {}) {
    return wait_for(key, bounds).value();
  }
  template <class Arg>
  outcome<result> load(as_outcome_t, const Arg& key, const limits& bounds = {}) {
    try {
      return wait_for(key, bounds);
    } catch (...) {  // this call's own key: the caller wants it as an outcome
      if (detail::platform::is_thread_exit()) throw;
      return std::current_exception();
    }
  }
  /// One outcome per key, by position, repeats included; the keys go with those of other callers.
  template <class Keys>
  std::vector<outcome<result>> load_many(const Keys& keys, const limits& bounds = {});

  /// What is gathered goes now, or as soon as fewer than max_in_flight calls run.
  void flush() {
    const detail::call_scope scope;
    line_->flush();
  }

  // ---- looking ----------------------------------------------------------------------------------

  batcher_stats stats() const {
    const group_stats calls = flights_.stats();
    batcher_stats s;
    static_cast<ended_calls&>(s) = calls;
    static_cast<batch_counts&>(s) = line_->counts();
    s.calls = calls.calls;
    s.joined = calls.joined;
    s.abandoned = calls.abandoned;
    return s;
  }
  /// The keys that newcomers would join, gathered or being loaded.
  std::vector<flight_info<Key>> in_flight() const { return flights_.in_flight(); }

  void observe(metric_visitor& visitor) const override {
    const batcher_stats s = stats();
    detail::observe_counters(visitor, s);
    visitor.gauge("largest", s.largest);
  }

  // ---- the end ----------------------------------------------------------------------------------

  /// Refuses newcomers, ends keys that are not being loaded as `closed`, and waits for the loader's
  /// calls. Throws flight_error(recursive) within the loader. Who is told `closed` must not destroy
  /// the batcher meanwhile.
  void close() {
    if (detail::group_door::core(flights_).leads_on_this_thread())
      throw flight_error(flight_errc::recursive);
    shut();
  }

 private:
  static std::shared_ptr<line> make_line(loader&& load_many, const batcher_options& options) {
    const auto refuse = [](const std::string& why) {
      throw std::invalid_argument("batcher: " + why);
    };
    if (load_many == nullptr) refuse("load_many is empty, and nothing could be loaded");
    if (options.max_batch == 0) refuse("max_batch is 0, and no key would ever fit");
    if (options.max_in_flight == 0) refuse("max_in_flight is 0, and no batch would ever go");
    if (options.max_delay.count() < 0) {
      refuse("max_delay is " + std::to_string(options.max_delay.count()) +
             " ns, and must not be negative; zero means none");
    }
    return std::make_shared<line>(options, std::move(load_many));
  }

  template <class Arg>
  outcome<result> wait_for(const Arg& key, const limits& bounds) {
    if (const auto code = unfit(bounds)) return detail::group_door::refuse(flights_, *code);
    flight<Value> handle = start(key);
    return wait_on(handle, bounds);
  }
  /// Why a call with `bounds` would have no chance.
  std::optional<flight_errc> unfit(const limits& bounds) const {
    if (detail::group_door::core(flights_).leads_on_this_thread()) return flight_errc::recursive;
    return detail::expired(bounds, detail::group_door::core(flights_).clock());
  }
  static outcome<result> wait_on(flight<Value>& handle, const limits& bounds) {
    return detail::group_door::outcome_of(handle, bounds, detail::blocked_wait::form::join);
  }

  /// 1. the group refuses newcomers, and no load begins any more; 2. batches that are not with the
  /// loader end, and the alarm is cancelled; 3. the loader's calls are waited for.
  /// Who resumes on this thread does so last, and may take the batcher with it; but on
  /// default_pool(), and must not, while the loader is waited for.
  void shut() {
    const detail::call_scope scope;
    (void)detail::group_door::core(flights_).close_until(detail::steady_time::min());
    line_->close();
    (void)detail::group_door::core(flights_).close_until(detail::steady_time::max());
  }

  const std::shared_ptr<line> line_;
  group<Key, Value, Hash, Equal> flights_;
};

template <class Key, class Value, class Hash, class Equal>
template <class Keys>
auto batcher<Key, Value, Hash, Equal>::load_many(const Keys& keys, const limits& bounds)
    -> std::vector<outcome<result>> {
  std::vector<outcome<result>> results;
  std::vector<std::pair<std::size_t, flight<Value>>> asked;
  for (const auto& key : keys) {
    results.emplace_back(flight_errc::broken);
    try {
      if (const auto code = unfit(bounds)) {
        results.back() = detail::group_door::refuse(flights_, *code);
      } else {
        detail::make_room(asked);
        asked.emplace_back(results.size() - 1, start(key));
      }
    } catch (...) {  // one key's failure is not the others'
      if (detail::platform::is_thread_exit()) throw;
      results.back() = std::current_exception();
    }
  }
  for (auto& [at, handle] : asked) results[at] = wait_on(handle, bounds);
  return results;
}

SINGLEFLIGHT_END_NAMESPACE
