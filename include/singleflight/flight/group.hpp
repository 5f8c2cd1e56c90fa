// SPDX-License-Identifier: Apache-2.0
#pragma once

/// group: at most one load per key at a time; concurrent callers for that key share its outcome.
///
/// Use when    many callers need the same expensive result at the same time.
/// Not for     keeping results (use a cache); loading different keys together (use a batcher).
/// Example     examples/01_group.cpp
///
/// Threads     every member, from any thread; the destructor once no new call can begin.
/// Ordering    the load's effects happen-before every return of its outcome (P7). Once any caller
///             has received an outcome, no call that begins later receives it (P3). A call that
///             must see an earlier write uses run_fresh.
/// Blocking    run: the leader runs the load on its own thread, with no lock held; joiners wait for
///             it, up to their limits. start returns at once; the load runs on the group's
///             executor.
/// Cancel      a joiner's stop or deadline ends its own wait only; once no caller is left,
///             group_options::on_abandon decides what happens to the load (P6). A run leader stays
///             until its load returns.
/// Errors      every caller of the flight gets the load's exception, with its own type: treat the
///             object as const. The library's own errors are flight_error. If a hash, comparison,
///             key copy or allocation throws, only its own call fails (P9). A key or a result of
///             another type is converted if nothing can be lost, and does not compile otherwise; a
///             value whose sign the type lacks throws std::invalid_argument (flight/key.hpp).
/// Lifetime    run borrows its arguments; start owns them. The destructor closes: it refuses new
///             calls, asks running loads to stop and waits for them (P10). These may be destroyed
///             after the group: values that handles still hold or that a resumption is about to
///             take; a started load and its value, until the thread that answered has released
///             them and the executor has processed the load's task.
/// Cost        run alone: no allocation, no system call, two read-modify-writes. A joiner: one
///             short critical section; the first joiner of a flight allocates the shared block.
///             start: one allocation. The table grows with the number of flights and does not
///             shrink: 8 bytes per flight at most. An idle group: less than 8 KiB.

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "singleflight/core/observable.hpp"
#include "singleflight/core/support/require.hpp"
#include "singleflight/flight/detail/flight_call.hpp"
#include "singleflight/flight/detail/key_access.hpp"
#include "singleflight/flight/detail/keyed.hpp"
#include "singleflight/flight/flight.hpp"
#include "singleflight/flight/flight_promise.hpp"
#include "singleflight/flight/group_options.hpp"
#include "singleflight/flight/key.hpp"
#include "singleflight/flight/shared_result.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class Key, class Value, class Hash = key_hash<Key>, class Equal = key_equal>
class group final : public observable {
  static_assert(std::is_object_v<Key> && !std::is_const_v<Key> && !std::is_array_v<Key>,
                "singleflight: a key is kept: Key is an object type, without const, no array");
  static_assert(std::is_void_v<Value> ||
                    (std::is_object_v<Value> && !std::is_const_v<Value> && !std::is_array_v<Value>),
                "singleflight: callers share a value: Value is void or an object type, without "
                "const, no array; for a reference, return a pointer");
  using access = detail::key_access<Key, Hash, Equal>;
  using view = typename access::view;
  using node = detail::keyed_node<typename access::stored>;
  using block = detail::flight_block<Value>;
  using keyed_block = detail::keyed_block<Value, Key, access>;
  using started_block = detail::started_block<Value, Key, access>;
  using given_loader = detail::given_loader<Value>;
  template <class Arg>
  using argument = detail::key_argument<Key, access, Arg>;
  template <class Arg>
  static Key own_of(const Arg& key) {
    return argument<Arg>(key).own();
  }

 public:
  using key_type = Key;
  using mapped_type = Value;
  using result = shared_result<Value>;

  /// Throws std::invalid_argument for a negative duration.
  explicit group(group_options options = {}, Hash hash = {}, Equal equal = {})
      : core_(std::move(options), {std::addressof(equal_), &group::same_key, &group::make_block}),
        hash_(std::move(hash)),
        equal_(std::move(equal)) {
    static_assert(access::is_key());
    detail::draw_hash_secret();  // hash_of() needs it with any hash
  }
  group(const group&) = delete;
  group& operator=(const group&) = delete;
  /// Calls close(). Aborts the process if called within one of the group's own loads, or within a
  /// stop callback of one: it would wait for itself.
  ~group() {
    detail::require(!core_.leads_on_this_thread(), "group: destroyed within one of its own loads");
    core_.close_until(detail::steady_time::max());
  }

  // ---- run: blocks; the leader runs `load` inline -----------------------------------------------

  /// Returns the outcome of the flight for `key`; this call leads it if there is none yet. `load`
  /// is any callable; it may take a flight_context& or a std::stop_token.
  template <class Arg, class Load>
  result run(const Arg& key, Load&& load) {
    const argument<Arg> k(key);
    node own;
    detail::thread_state& self = detail::this_thread();
    if (!enter_alone(own, self, k.view())) [[unlikely]] {
      return run_contended(own, self, lent(load), no_limits(), false).value();
    }
    return lead_alone(
        own, self,
        [&load](void* at, const flight_context& context) {
          detail::make_value_of<Value>(at, load, context);
        },
        nullptr);
  }
  template <class Arg, class Load>
  result run(const Arg& key, Load&& load, const limits& bounds) {
    return run_bounded<true>(key, load, bounds, false);
  }
  template <class Arg, class Load>
  outcome<result> run(as_outcome_t, const Arg& key, Load&& load, const limits& bounds = {}) {
    return run_bounded<false>(key, load, bounds, false);
  }

  /// Like run, but the load begins after this call: it waits behind a load that already runs, and
  /// is shared with other fresh callers. It never overlaps the load that it waits behind, unless
  /// that flight was forgotten, abandoned under `stop`, or timed out: then it begins at once.
  template <class Arg, class Load>
  result run_fresh(const Arg& key, Load&& load, const limits& bounds = {}) {
    return run_bounded<true>(key, load, bounds, true);
  }
  template <class Arg, class Load>
  outcome<result> run_fresh(as_outcome_t, const Arg& key, Load&& load, const limits& bounds = {}) {
    return run_bounded<false>(key, load, bounds, true);
  }

  // ---- start: returns at once; the load runs on the executor ------------------------------------

  /// Returns a share of the flight for `key`; this call starts it if there is none yet. The flight
  /// owns the key and the load. `load` may also take a flight_promise<Value>, or return an
  /// awaitable. If the call is refused (closed, overloaded), the handle holds that error.
  template <class Arg, class Load>
  [[nodiscard]] flight<Value> start(const Arg& key, Load&& load) {
    return start_flight(key, std::forward<Load>(load), false, nullptr);
  }
  /// Like start, but the load begins after this call.
  template <class Arg, class Load>
  [[nodiscard]] flight<Value> start_fresh(const Arg& key, Load&& load) {
    return start_flight(key, std::forward<Load>(load), true, nullptr);
  }

  // ---- many keys, one load ----------------------------------------------------------------------

  /// Returns one outcome per key, by position, repeats included. `load_many(std::span<const Key>)`
  /// returns std::vector<outcome<Value>> for the keys that are not in flight; the others are
  /// joined. The flights that this call leads are published before it waits for those that it
  /// joined. If the hash or comparison of a key throws, that is its outcome; the others are loaded.
  template <class Keys, class LoadMany>
  std::vector<outcome<result>> run_many(const Keys& keys, LoadMany&& load_many,
                                        const limits& bounds = {});
  /// Like run_many, but on the executor; returns one handle per key, by position. `load_many` may
  /// be called several times, also concurrently: for a key that a waiter claims or takes over
  /// alone.
  template <class Keys, class LoadMany>
  [[nodiscard]] std::vector<flight<Value>> start_many(const Keys& keys, LoadMany&& load_many);

  // ---- forgetting -------------------------------------------------------------------------------

  /// Makes later calls no longer find the flight for `key`; its callers still get its outcome.
  /// Callers of run_fresh behind it begin at once. Returns false if there is no such flight.
  template <class Arg>
  bool forget(const Arg& key) {
    const argument<Arg> k(key);
    return forget_with(hash_of(k.view()), k.view(), []() noexcept {});
  }

  /// Calls forget for every key; returns how many flights were forgotten.
  std::size_t forget_all() { return core_.forget_all(); }

  // ---- inspection -------------------------------------------------------------------------------

  /// Returns the flights that a new call would find, each as it was at some moment during the call.
  std::vector<flight_info<Key>> in_flight() const;

  group_stats stats() const noexcept { return core_.totals(); }
  void observe(metric_visitor& visitor) const override { core_.observe(visitor); }

  // ---- the end ----------------------------------------------------------------------------------

  /// Refuses new calls, asks running loads to stop and waits for them. A load that has not begun
  /// never begins: its callers get `closed`. Throws flight_error(recursive) within one of the
  /// group's loads, and within a stop callback of one, on any thread. A caller that gets `closed`
  /// must not destroy the group while this call waits.
  void close() { close_by(detail::steady_time::max()); }
  /// Returns false if loads still run after `duration`; the group must then stay alive.
  template <class Rep, class Period>
  [[nodiscard]] bool close_for(std::chrono::duration<Rep, Period> duration) {
    return close_by(detail::deadline_after(core_.clock().now(), duration));
  }

 private:
  friend detail::group_door;

  static const limits& no_limits() noexcept {
    static const limits none;
    return none;
  }

  /// Calls forget and `change` in one step, under the bucket's lock: no flight of the key begins or
  /// ends in between. If a comparison throws, neither has happened.
  template <class Change>
  bool forget_with(std::size_t hash, view key, const Change& change);

  std::size_t hash_of(view key) const {
    if constexpr (!std::is_invocable_v<const Hash&, view>) {
      (void)access::is_key();  // its static_assert names what is missing
      return detail::never<std::size_t>();
    } else if constexpr (std::is_same_v<Hash, key_hash<Key>> || detail::is_avalanching<Hash>) {
      return static_cast<std::size_t>(hash_(key));
    } else {
      return static_cast<std::size_t>(
          detail::hash_word(hash_(key)));  // std::hash is often the identity
    }
  }
  /// Gives `n` the key of a call, which must live as long.
  static void set_key(node& n, std::size_t hash, view key) {
    n.hash = hash;
    n.key = access::store(key);
  }
  void prepare(node& n, detail::thread_state& self, view key) const {
    set_key(n, hash_of(key), key);
    n.id = detail::next_flight_id(self);
  }

  bool is_of(const node& n, view key) const { return equal_(access::load(n.key), key); }
  static bool same_key(const void* equal, const detail::flight_node& a,
                       const detail::flight_node& b);
  static detail::block_base* make_block(detail::flight_core& core, const detail::flight_node& of,
                                        detail::flight_phase phase);
  /// The loader of a blocking call.
  template <class Load>
  static detail::lent_loader lent(Load& load) noexcept {
    return detail::lent_loader::of<Value>(load);
  }

  /// If `unlaunched` is given, the load of a flight that this call leads is stored there, for the
  /// caller to launch.
  template <class Arg, class Load>
  flight<Value> start_flight(const Arg& key, Load&& load, bool fresh,
                             detail::load_base** unlaunched) {
    const argument<Arg> k(key);
    return start_owned(k.view(), given_loader::template of<Load>(load), fresh, unlaunched);
  }
  SINGLEFLIGHT_NOINLINE flight<Value> start_owned(view key, given_loader load, bool fresh,
                                                  detail::load_base** unlaunched);
  SINGLEFLIGHT_INLINE started_block* make_started(std::size_t hash, view key, given_loader load);

  template <bool Throws, class Arg, class Load>
  std::conditional_t<Throws, result, outcome<result>> run_bounded(const Arg& key, Load& load,
                                                                  const limits& bounds,
                                                                  bool fresh) {
    node own;
    detail::thread_state& self = detail::this_thread();
    if constexpr (Throws) {
      const argument<Arg> k(key);
      prepare(own, self, k.view());
      return run_contended(own, self, lent(load), bounds, fresh).value();
    } else {
      try {
        const argument<Arg> k(key);
        prepare(own, self, k.view());
        return run_contended(own, self, lent(load), bounds, fresh);
      } catch (...) {  // from this call's own load or key: returned as an outcome
        if (detail::platform::is_thread_exit()) throw;
        return std::current_exception();
      }
    }
  }

  /// Prepares the node of a run(). Returns true if its flight is in the table and this call leads
  /// it alone.
  SINGLEFLIGHT_NOINLINE bool enter_alone(node& own, detail::thread_state& self, view key) {
    prepare(own, self, key);
    return core_.plain() && (detail::flight_table::enter_alone(core_.table.locate(own.hash), own) ||
                             core_.table.enter_soon(own, self));
  }
  SINGLEFLIGHT_NOINLINE outcome<result> run_contended(node& own, detail::thread_state& self,
                                                      const detail::lent_loader& load,
                                                      const limits& bounds, bool fresh);
  /// load(void* at, const flight_context&) constructs the value: a lent_loader, or the same inline.
  template <class Load>
  result lead_alone(node& own, detail::thread_state& self, const Load& load,
                    const detail::led_frame* within);
  /// Returns the outcome of a call that does not lead alone.
  static outcome<result> outcome_of(const detail::run_end& end);
  SINGLEFLIGHT_COLD void settle(node& own, detail::thread_state& self, result& r);
  template <class LoadMany>
  class bulk_run;
  static bool arrive(detail::block_base& b) noexcept;
  void end_bulk_key(node& own, detail::thread_state& self, detail::block_base* led,
                    flight_errc code, std::exception_ptr error);
  void settle_bulk_key(node& own, detail::thread_state& self, detail::block_base* led,
                       outcome<Value>& loaded, outcome<result>& given);

  bool close_by(detail::steady_time deadline) {
    if (core_.leads_on_this_thread()) throw flight_error(flight_errc::recursive);
    return core_.close_until(deadline);
  }

  detail::flight_core core_;
  [[no_unique_address]] Hash hash_;
  [[no_unique_address]] Equal equal_;
};

SINGLEFLIGHT_END_NAMESPACE

#include "singleflight/flight/impl/group_keys.hpp"
#include "singleflight/flight/impl/group_look.hpp"
#include "singleflight/flight/impl/group_run.hpp"
#include "singleflight/flight/impl/group_run_many.hpp"
#include "singleflight/flight/impl/group_start.hpp"
#include "singleflight/flight/impl/group_start_many.hpp"
