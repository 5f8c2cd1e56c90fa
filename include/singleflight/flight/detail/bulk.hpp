// SPDX-License-Identifier: Apache-2.0
#pragma once

// bulk: run_many and start_many: one load for those of many keys that nobody is loading yet.
//
// run_many enters key by key, loads what it leads in one call, publishes it, and only then waits
// for what it joined; a key that stands twice is led once and joined by its second position.
// start_many is start, key by key, with promise loaders that deposit their promises; one task
// claims them all, then makes one call for the promises it was given. A load that is run alone,
// because a waiter claimed it or it was handed over, makes a call for its one key.

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "singleflight/flight/detail/deposits.hpp"
#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// What several started loads of one start_many share.
template <class Key, class Value, class LoadMany>
struct bulk_call {
  using deposits = detail::deposits<Key, Value>;

  template <class Fn>
  explicit bulk_call(Fn&& fn) : load_many(std::forward<Fn>(fn)) {}

  void load(deposits& given) {
    given.load(load_many, [] {});
  }

  /// Where this thread deposits: with the task that gathers on it, or alone.
  deposits& deposits_here(deposits& alone) {
    platform::unique_lock hold(lock);
    return gathering != nullptr && gatherer == platform::this_thread_id() ? *gathering : alone;
  }

  /// While it lives, loads of this call that run on this thread deposit into `to`.
  struct gathering_here {
    gathering_here(bulk_call& of, deposits& to) : all(of) { set(&to); }
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

/// The task of a start_many: claims the loads, then loads what they deposited.
template <class Key, class Value, class LoadMany>
struct bulk_task final : task_node {
  using call = bulk_call<Key, Value, LoadMany>;
  explicit bulk_task(std::shared_ptr<call> shared) : task_node(&act_on), all(std::move(shared)) {}

  static void act_on(task_node* node, bool run) {
    const call_scope scope;  // what the gathering lets run on this thread comes after it
    const std::unique_ptr<bulk_task> self(static_cast<bulk_task*>(node));
    typename call::deposits given;
    {
      const typename call::gathering_here gather(*self->all, given);
      // Each deposits its promise, unless it was claimed or has no callers any more.
      while (self->acted < self->loads.size()) self->act_on_next(run);
    }
    if (!given.promises.empty()) self->all->load(given);
  }
  ~bulk_task() {  // a thread that ends while it gathers leaves the others broken
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
  auto one = std::make_unique<bulk_task<Key, Value, std::decay_t<LoadMany>>>(all);
  std::vector<flight<Value>> handles;
  struct launching {  // also when a later key throws: what was begun must not stay behind
    std::unique_ptr<bulk_task<Key, Value, std::decay_t<LoadMany>>>& one;
    const std::vector<flight<Value>>& handles;
    const any_executor executor;  // by value: the group may go while it runs
    ~launching() noexcept(false) { now(); }
    void now() const {
      if (one == nullptr || one->loads.empty()) return;
      for (load_base* load : one->loads) flight_core::open_load(*load);
      if (executor.is_inline()) tell();  // before it runs them, perhaps
      try {
        executor.execute(task(one.release()));
      } catch (...) {  // refused: dropping the task has ended the flights as broken
        if (platform::is_thread_exit()) throw;
      }
      if (!executor.is_inline() && platform::holds(rule::posted_load_is_told)) tell();
    }
    void tell() const {
      for (const flight<Value>& mine : handles) flight_core::tell_claimers(*mine.block_);
    }
  } const launch{one, handles, core_.options().executor};
  for (const auto& key : keys) {
    const Key own_key = own_of(key);
    detail::make_room(one->loads);  // what is begun must find its place
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
    if (unlaunched != nullptr) one->loads.push_back(unlaunched);
  }
  launch.now();
  return handles;
}

template <class Key, class Value, class Hash, class Equal>
template <class Keys, class LoadMany>
auto group<Key, Value, Hash, Equal>::run_many(const Keys& keys, LoadMany&& load_many,
                                              const limits& bounds)
    -> std::vector<outcome<result>> {
  using namespace detail;
  static_assert(goes_in_bulk<Key>() && loads_in_bulk<Key, Value, LoadMany>());
  thread_state& self = this_thread();
  const inside_run inside(self);
  std::vector<Key> all;
  for (const auto& key : keys) all.push_back(own_of(key));

  struct position {
    node own;
    led_frame frame{};
    std::optional<flight_context> context{};  // where the loader asks for it
    block* joined = nullptr;                  // with a reference and an interest
    block* led = nullptr;  // the block of a led flight that had one from the begin
    std::optional<platform::stop_callback<withdrawing>> on_stop{};
    bool leads = false;
    flight_errc refused{};
    std::exception_ptr failed{};  // its own hash, comparison, copy or allocation has thrown
  };
  const auto places = std::make_unique<position[]>(all.size());
  const led_frame* const outer = self.led;
  struct leaving {  // whatever happens: no led flight stays in the table, no joined one is held
    group& g;
    thread_state& self;
    const led_frame* outer;
    position* places;
    std::size_t count;
    ~leaving() {
      self.led = outer;
      for (std::size_t i = 0; i < count; ++i) {
        places[i].on_stop.reset();
        if (places[i].leads)
          g.end_bulk_key(places[i].own, self, places[i].led, flight_errc::broken, nullptr);
        if (places[i].joined != nullptr) {
          const inside_run inside(self);
          places[i].joined->absent.fetch_sub(1, memory_order_relaxed);
          flight_core::leave(*places[i].joined, wait_verdict::outcome, true);
        }
      }
    }
  } leave{*this, self, outer, places.get(), all.size()};

  std::vector<outcome<result>> results;
  results.reserve(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) results.emplace_back(flight_errc::broken);
  std::vector<Key> mine;
  const auto get_in = [&](position& at, const Key& key) {
    prepare(at.own, self, key);
    at.own.deadline = bounds.deadline;
    if (const auto code = expired(bounds, core_.clock())) {
      at.refused = refuse(*code).code;
      return;
    }
    mine.push_back(key);  // a copy that throws does so before the flight is there
    run_caller caller{core_, at.own};
    caller.absent = true;
    if (bounds.stop.stop_possible() || core_.options().load_timeout.count() > 0) {
      caller.first_block = make_block_for(core_, at.own.hash, key);
    }
    const entry in = enter(caller, at.own.hash, key, false);
    if (in.how == entry::kind::refused) {
      at.refused = in.code;
    } else if (in.how == entry::kind::joined) {
      at.joined = in.shared;
      if (in.watch != nullptr) in.watch->joined(in.shared->id);
    } else {
      at.leads = true;
      at.led = in.shared;
      at.frame = {at.own.id, self.led, bounds.within.frame, &core_, true};
      self.led = &at.frame;
      core_.stats.add(figure::led);
      if (in.shared != nullptr && bounds.stop.stop_possible()) {
        at.on_stop.emplace(bounds.stop, withdrawing{*in.shared});
      }
    }
  };
  std::size_t leads = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    try {
      get_in(places[i], all[i]);
    } catch (...) {  // one key's failure is not the others'
      if (places[i].leads || platform::is_thread_exit()) throw;
      places[i].failed = std::current_exception();
    }
    if (places[i].leads) ++leads;
    if (mine.size() > leads) mine.pop_back();
  }
  if (core_.table.crowded()) core_.table.grow();

  std::vector<outcome<Value>> loaded;
  std::exception_ptr error;
  if (!mine.empty()) {
    try {
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (!places[i].leads) continue;
        if (places[i].led != nullptr) {
          core_.begin(*places[i].led);
        } else if (!core_.plain()) {
          core_.mark_begin(places[i].own);
        }
      }
      if constexpr (takes_flights<Key, LoadMany>) {
        std::vector<const flight_context*> flights;
        for (std::size_t i = 0; i < all.size(); ++i) {
          if (!places[i].leads) continue;
          places[i].context.emplace(core_, places[i].own, places[i].frame);
          flights.push_back(&*places[i].context);
        }
        loaded = load_many(std::span<const Key>(mine), bulk_flights(flights));
      } else {
        loaded = load_many(std::span<const Key>(mine));
      }
    } catch (...) {
      if (platform::is_thread_exit()) throw;
      error = std::current_exception();
    }
  }
  self.led = outer;
  const bool fits = loaded.size() == mine.size();
  std::size_t next = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    position& at = places[i];
    if (at.refused != flight_errc{}) results[i] = at.refused;
    if (at.failed != nullptr) results[i] = at.failed;
    if (!std::exchange(at.leads, false)) continue;
    at.on_stop.reset();
    if (error != nullptr) {
      end_bulk_key(at.own, self, at.led, {}, error);
      results[i] = error;
    } else if (!fits) {
      end_bulk_key(at.own, self, at.led, flight_errc::broken, nullptr);
    } else {
      settle_bulk_key(at.own, self, at.led, loaded[next++], results[i]);
    }
  }
  std::vector<std::size_t> passed_over;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (places[i].joined == nullptr) continue;
    if (arrive(*places[i].joined)) {
      detail::make_room(passed_over);
      passed_over.push_back(i);
      std::exchange(places[i].joined, nullptr)->drop_reference();
      continue;
    }
    block* const b = std::exchange(places[i].joined, nullptr);
    // Elected after a failure, or in a successor's turn.
    const auto load_one = [&](const flight_context& context) -> Value {
      const std::span<const Key> key(std::addressof(all[i]), 1);
      std::vector<outcome<Value>> just;
      if constexpr (takes_flights<Key, LoadMany>) {
        const flight_context* const flight = &context;
        just = load_many(key, bulk_flights(std::span(&flight, 1)));
      } else {
        just = load_many(key);
      }
      if (just.size() != 1) throw flight_error(flight_errc::broken);
      return std::move(just.front()).value();
    };
    try {
      results[i] = await_joined(*b, self, load_one, bounds);
    } catch (...) {
      if (platform::is_thread_exit()) throw;
      results[i] = std::current_exception();
    }
  }
  if (!passed_over.empty()) {
    std::vector<Key> again;
    for (const std::size_t i : passed_over) again.push_back(all[i]);
    auto more = run_many(again, static_cast<LoadMany&&>(load_many), bounds);
    for (std::size_t n = 0; n < more.size(); ++n) results[passed_over[n]] = std::move(more[n]);
  }
  return results;
}

/// A bulk call has come to wait for this flight: from now on it can lead. True: the flight has
/// ended without it, in a failure that others may have had before the call began (P3). It is asked
/// of a caller that could lead, so that one looks again instead.
template <class Key, class Value, class Hash, class Equal>
bool group<Key, Value, Hash, Equal>::arrive(block& b) noexcept {
  using namespace detail;
  if (!b.done()) {
    // An election, under this lock, sees it absent or able, and in `lenders` either way.
    b.lock();
    b.absent.fetch_sub(1, memory_order_relaxed);
    b.unlock();
  }
  return b.done() && b.result == flight_result::error && b.error_given &&
         platform::holds(rule::passed_over_looks_again);
}

/// Ends one key of a bulk load without a value.
template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::end_bulk_key(node& own, detail::thread_state& self, block* led,
                                                  flight_errc code, std::exception_ptr error) {
  if (led == nullptr) {
    settle_error(own, self, code, std::move(error));
    return;
  }
  const detail::inside_run inside(self);
  end_in_error(own, *led, code, std::move(error), 1);
}

/// Ends one key of a bulk load with what the load said of it; a value whose move throws harms
/// nobody else.
template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::settle_bulk_key(node& own, detail::thread_state& self,
                                                     block* led, outcome<Value>& said,
                                                     outcome<result>& to) {
  using namespace detail;
  if (!said.has_value()) {
    const std::optional<flight_errc> code = detail::code_of(said);
    const std::exception_ptr error = code ? nullptr : said.exception();
    end_bulk_key(own, self, led, code.value_or(flight_errc{}), error);
    if (code) {
      to = *code;
    } else {
      to = error;
    }
    return;
  }
  result r;
  try {
    const auto take = [&said]() -> decltype(auto) { return std::move(said).value(); };
    r.emplace(take);
    if (led != nullptr) led->construct(std::move(r.inline_value()));
  } catch (...) {
    if (platform::is_thread_exit()) {
      end_bulk_key(own, self, led, flight_errc::broken, nullptr);
      throw;
    }
    end_bulk_key(own, self, led, {}, std::current_exception());
    to = std::current_exception();
    return;
  }
  try {
    if (led == nullptr) {
      settle(own, self, r);
    } else {
      const inside_run inside(self);
      if (core_.finish_and_drop(*led, flight_result::value)) {
        r.become_share(*led);
      } else {
        r.take_back(*led);  // expired: nobody shares it
      }
    }
    to = std::move(r);
  } catch (...) {
    if (platform::is_thread_exit()) throw;
    to = std::current_exception();
  }
}

SINGLEFLIGHT_END_NAMESPACE
