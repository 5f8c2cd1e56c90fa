// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_start_many: start_many: one load for all of the given keys that are not in flight.
//
// It calls start, key by key, with promise loaders that deposit their promises; one task claims all
// loads, then makes one call for the deposited promises. A load that runs alone, because a waiter
// claimed it or it was handed over, makes a call for its one key.

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "singleflight/flight/detail/deposits.hpp"
#include "singleflight/flight/detail/rules.hpp"
#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// The state that the loads of one start_many share.
template <class Key, class Value, class LoadMany>
struct bulk_call {
  using deposits = detail::deposits<Key, Value>;

  template <class Fn>
  explicit bulk_call(Fn&& fn) : load_many(std::forward<Fn>(fn)) {}

  void load(deposits& given) {
    given.load(load_many, [] {});
  }

  /// Returns where a load on this thread deposits its promise: with the task that is gathering on
  /// this thread, or, if there is none, in `alone`.
  deposits& deposits_here(deposits& alone) {
    platform::unique_lock hold(lock);
    return gathering != nullptr && gatherer == platform::this_thread_id() ? *gathering : alone;
  }

  /// For as long as the object exists, loads of this call that run on this thread deposit into
  /// `to`.
  struct gathering_here {
    gathering_here(bulk_call& call, deposits& to) : all(call) { set(&to); }
    gathering_here(const gathering_here&) = delete;
    gathering_here& operator=(const gathering_here&) = delete;
    ~gathering_here() { set(nullptr); }
    void set(deposits* to) {
      platform::unique_lock hold(all.lock);
      all.gathering = to;
      all.gatherer = platform::this_thread_id();
    }
    bulk_call& all;
  };

  LoadMany load_many;
  deposits* gathering = nullptr;  // set by the task while it claims
  platform::thread_id gatherer;
  platform::mutex lock;  // guards the two above
};

/// The task of a start_many: claims the loads, then calls the bulk loader for what they deposited.
template <class Key, class Value, class LoadMany>
struct bulk_task final : task_node {
  using call = bulk_call<Key, Value, LoadMany>;
  explicit bulk_task(std::shared_ptr<call> shared) : task_node(&act_on), all(std::move(shared)) {}

  static void act_on(task_node* node, bool run) {
    const call_scope scope;  // tasks that the gathering queues on this thread run after it
    const std::unique_ptr<bulk_task> self(static_cast<bulk_task*>(node));
    typename call::deposits given;
    {
      const typename call::gathering_here gather(*self->all, given);
      // Each load deposits its promise, unless it was claimed or has no callers left.
      while (self->acted < self->loads.size()) self->act_on_next(run);
    }
    if (!given.promises.empty()) self->all->load(given);
  }
  ~bulk_task() {  // if the thread ends while it gathers, the other flights end as broken
    while (acted < loads.size()) act_on_next(false);
  }
  void act_on_next(bool run) {
    load_base* const load = loads[acted++];
    load->act(load, run);
  }

  std::shared_ptr<call> all;
  std::vector<load_base*> loads;  // each with the reference of its task
  std::size_t acted = 0;
};

}  // namespace detail

template <class Key, class Value, class Hash, class Equal>
template <class Keys, class LoadMany>
auto group<Key, Value, Hash, Equal>::start_many(const Keys& keys, LoadMany&& load_many)
    -> std::vector<flight<Value>> {
  using namespace detail;
  using call = bulk_call<Key, Value, std::decay_t<LoadMany>>;
  static_assert(loads_in_bulk<Key, Value, std::decay_t<LoadMany>>());
  const call_scope scope;
  const auto all = std::make_shared<call>(std::forward<LoadMany>(load_many));
  auto bulk = std::make_unique<bulk_task<Key, Value, std::decay_t<LoadMany>>>(all);
  std::vector<flight<Value>> handles;
  struct launching {  // also if a later key throws: the loads that were made must begin
    std::unique_ptr<bulk_task<Key, Value, std::decay_t<LoadMany>>>& bulk;
    const std::vector<flight<Value>>& handles;
    const any_executor executor;  // by value: the group may be destroyed while it runs
    ~launching() noexcept(false) { now(); }
    void now() const {
      if (bulk == nullptr || bulk->loads.empty()) return;
      for (load_base* load : bulk->loads) flight_core::open_load(*load);
      if (executor.is_inline()) notify_claimers();  // before execute() runs them
      try {
        executor.execute(task(bulk.release()));
      } catch (...) {  // refused: dropping the task has ended the flights as broken
        if (platform::is_thread_exit()) throw;
      }
      if (!executor.is_inline() && platform::holds(rule::posted_load_notifies_claimers))
        notify_claimers();
    }
    void notify_claimers() const {
      for (const flight<Value>& mine : handles) flight_core::notify_claimers(*mine.block_);
    }
  } const launch{bulk, handles, core_.options().executor};
  for (const auto& key : keys) {
    const Key own_key = own_of(key);
    detail::make_room(bulk->loads);  // storing a load that has begun must not throw
    detail::make_room(handles);
    load_base* unlaunched = nullptr;
    handles.push_back(start_flight(
        own_key,
        [all, own_key](flight_promise<Value> promise) {
          typename call::deposits alone;
          typename call::deposits& to = all->deposits_here(alone);
          to.add(Key(own_key), std::move(promise));
          if (!alone.promises.empty()) all->load(alone);
        },
        false, &unlaunched));
    if (unlaunched != nullptr) bulk->loads.push_back(unlaunched);
  }
  launch.now();
  return handles;
}

SINGLEFLIGHT_END_NAMESPACE
