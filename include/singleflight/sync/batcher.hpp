// SPDX-License-Identifier: Apache-2.0
#pragma once

/// batcher: independent calls for single keys, gathered into one load of many.
///
/// Use when    many callers ask for different keys at about the same moment, and the backend
///             answers a hundred keys as fast as one: the fields of a query, the rows of a page.
/// Not for     callers that know all their keys (group::run_many, start_many); keeping answers
///             (that is a cache). A call for a key that is gathered or being loaded joins it.
/// Example     examples/11_batcher.cpp
///
/// Threads     every member, from any thread; the destructor once no new call can begin. The loader
///             is called on the executor, up to max_in_flight times at once.
/// Ordering    the keys of a batch are in the order of their calls. Batches are given to the
///             executor in the order of their first keys; one that a waiter runs may overtake
///             those, but overtakes each of them once at most. The load's effects happen-before
///             every return of its outcome (P7).
/// Blocking    start and flush return at once. load waits, up to its limits; on a thread of the
///             executor it may run its batch itself, once that is due (and before it one that was
///             overtaken), so a pool of one thread does not wait for itself. So does a wait on a
///             handle; one with limits only where the executor has no thread to spare. Within the
///             loader, load is refused as `recursive`, because the batch holds the place that it
///             would wait for; a handle from start must not be waited for there either. The same
///             goes for loaders that call each other's batchers in a cycle: with max_in_flight = 1
///             that is refused, too; with more places it may hang.
/// Cancel      a caller's limit ends its own wait only, and not while its thread runs a batch: as
///             with the leader of a run, it returns when the loader does. A key whose callers have
///             all left before its batch begins is not loaded, nor is a batch without keys; its
///             place of max_keys is free at once, its memory when the batch is destroyed. Once the
///             batch has begun, nothing is stopped: the answer is discarded, and a new call for
///             that key loads it again.
/// Errors      an exception of the loader, to every caller of its batch, with its own type; a
///             result of another size than the span: `broken`; otherwise each key has its own
///             outcome. flight_error for the library's own. A throwing hash, comparison, key copy
///             or allocation fails only its own call, or key (P9).
/// Lifetime    start owns its key. The destructor closes: flights of gathered keys end as `closed`,
///             and it waits for the loader's calls (P10). Handles may outlive the batcher.
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
  /// Returns one outcome per key, by position; for an absent key, Value is an empty std::optional.
  using loader = std::function<std::vector<outcome<Value>>(std::span<const Key>)>;

  /// Throws std::invalid_argument for a bound of zero, a negative delay, or an empty loader.
  explicit batcher(loader load_many, batcher_options options = {}, Hash hash = {}, Equal equal = {})
      : line_(make_line(std::move(load_many), options)),
        flights_({.executor = std::move(options.executor),
                  .timer = options.timer,
                  .max_flights = options.max_keys,
                  .observer = options.observer},
                 std::move(hash), std::move(equal)) {}
  /// Chosen for a callable that is not a loader: a static assertion says why.
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
  /// Calls close(). Aborts the process if called within the loader: it would wait for itself.
  ~batcher() {
    detail::require(!detail::group_door::core(flights_).leads_on_this_thread(),
                    "batcher: destroyed within its own loader");
    const detail::call_scope scope;  // waiters that resume on this thread do so after the end
    shut();
    line_->drop_loader();
  }

  // ---- loading ----------------------------------------------------------------------------------

  /// Returns a handle for the answer for `key`, to be awaited, waited for, or given a callback. A
  /// refusal (closed, overloaded) is its outcome.
  template <class Arg>
  [[nodiscard]] flight<Value> start(const Arg& key) {
    const detail::call_scope scope;
    detail::load_base* unlaunched = nullptr;
    flight<Value> handle = detail::group_door::start_unlaunched(
        flights_, key, detail::batched_key<Key, Value>(detail::group_door::own_of(flights_, key)),
        unlaunched);
    if (unlaunched != nullptr) line_->add(*unlaunched);
    return handle;
  }

  /// Returns the answer for `key`; waits for it within `bounds`.
  template <class Arg>
  result load(const Arg& key, const limits& bounds = {}) {
    return wait_for(key, bounds).value();
  }
  template <class Arg>
  outcome<result> load(as_outcome_t, const Arg& key, const limits& bounds = {}) {
    try {
      return wait_for(key, bounds);
    } catch (...) {  // thrown by this call's own key
      if (detail::platform::is_thread_exit()) throw;
      return std::current_exception();
    }
  }
  /// Returns one outcome per key, by position, repeats included; the keys share batches with those
  /// of other callers.
  template <class Keys>
  std::vector<outcome<result>> load_many(const Keys& keys, const limits& bounds = {});

  /// Sends the keys gathered so far now, or as soon as fewer than max_in_flight calls run.
  void flush() {
    const detail::call_scope scope;
    line_->flush();
  }

  // ---- statistics -------------------------------------------------------------------------------

  batcher_stats stats() const {
    const group_stats calls = flights_.stats();
    batcher_stats s;
    const ended_calls& ended = calls;
    static_cast<ended_calls&>(s) = ended;
    static_cast<batch_counts&>(s) = line_->counts();
    s.calls = calls.calls;
    s.joined = calls.joined;
    s.abandoned = calls.abandoned;
    return s;
  }
  /// Returns the keys that a new call would join, gathered or being loaded.
  std::vector<flight_info<Key>> in_flight() const { return flights_.in_flight(); }

  void observe(metric_visitor& visitor) const override {
    const batcher_stats s = stats();
    detail::observe_counters(visitor, s);
    visitor.gauge("largest", s.largest);
  }

  // ---- shutdown ---------------------------------------------------------------------------------

  /// Refuses new calls, ends the flights of keys that are not being loaded as `closed`, and waits
  /// for the loader's calls. Throws flight_error(recursive) within the loader. A caller that gets
  /// `closed` must not destroy the batcher before this returns.
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
    if (options.max_in_flight == 0) refuse("max_in_flight is 0, and no batch would ever be sent");
    if (options.max_delay.count() < 0) {
      refuse("max_delay is " + std::to_string(options.max_delay.count()) +
             " ns, and must not be negative; zero means none");
    }
    return std::make_shared<line>(options, std::move(load_many));
  }

  template <class Arg>
  outcome<result> wait_for(const Arg& key, const limits& bounds) {
    if (const auto code = refusal_for(bounds)) return detail::group_door::refuse(flights_, *code);
    flight<Value> handle = start(key);
    return wait_on(handle, bounds);
  }
  /// Returns why a call with `bounds` is refused before it begins, if it is.
  std::optional<flight_errc> refusal_for(const limits& bounds) const {
    if (detail::group_door::core(flights_).leads_on_this_thread()) return flight_errc::recursive;
    return detail::expired(bounds, detail::group_door::core(flights_).clock());
  }
  static outcome<result> wait_on(flight<Value>& handle, const limits& bounds) {
    return detail::group_door::outcome_of(handle, bounds, detail::blocked_wait::form::join);
  }

  /// 1. the group refuses new calls, and no load begins any more; 2. batches that are not with the
  /// loader end, and the alarm is cancelled; 3. the loader's calls are waited for.
  /// Waiters that resume on this thread do so last, and may destroy the batcher; while the loader
  /// is waited for they resume on default_pool(), and must not.
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
  std::vector<std::pair<std::size_t, flight<Value>>> handles;
  for (const auto& key : keys) {
    results.emplace_back(flight_errc::broken);
    try {
      if (const auto code = refusal_for(bounds)) {
        results.back() = detail::group_door::refuse(flights_, *code);
      } else {
        detail::make_room(handles);
        handles.emplace_back(results.size() - 1, start(key));
      }
    } catch (...) {  // one key's failure is not the others'
      if (detail::platform::is_thread_exit()) throw;
      results.back() = std::current_exception();
    }
  }
  for (auto& [index, handle] : handles) results[index] = wait_on(handle, bounds);
  return results;
}

SINGLEFLIGHT_END_NAMESPACE
