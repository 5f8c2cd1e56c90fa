// SPDX-License-Identifier: Apache-2.0
#pragma once

/// group: at most one load per key at a time; whoever asks meanwhile shares its outcome.
///
/// Use when    many callers want the same costly answer at the same moment.
/// Not for     keeping answers (that is a cache); joining different keys (that is a batch).
/// Example     examples/01_group.cpp
///
/// Threads     every member, from any thread; the destructor once no new call can begin.
/// Ordering    the load's effects happen-before every return of its outcome (P7). Once anybody has
///             been given an outcome, no call that begins later receives it (P3). A call that must
///             see an earlier write is run_fresh.
/// Blocking    run: the leader runs the load on its own thread, no lock held; joiners wait for it,
///             up to their limits. start returns at once; the load runs on the group's executor.
/// Cancel      a joiner's stop or deadline ends its own wait only; the last to leave ends the
///             load's use: group_options::on_abandon says what happens then (P6). A run leader
///             stays until its load returns.
/// Errors      the load's exception, to every sharer, with its own type: treat the object as const.
///             flight_error for the library's own. A throwing hash, comparison, key copy or
///             allocation harms only its own call (P9). A key or a result of another type converts
///             where it loses nothing, else it does not compile; one whose sign the type lacks is
///             a std::invalid_argument (flight/key.hpp).
/// Lifetime    run borrows its arguments; start owns them. The destructor closes: it refuses
///             newcomers, tells running loads to stop and waits for them (P10). Values that handles
///             still hold, or that a resumption is about to take, may be destroyed after the group;
///             so may a started load and its value: until the thread that has answered it lets go,
///             and the executor has come to its task.
/// Cost        run alone: no allocation, no system call, two read-modify-writes. A joiner: one
///             short critical section; the first one of a flight allocates what they share. start:
///             one allocation. The table grows with the flights and keeps its size: 8 bytes a
///             flight at its most. An idle group: less than 8 KiB.

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
#include "singleflight/flight/detail/keyed.hpp"
#include "singleflight/flight/flight.hpp"
#include "singleflight/flight/flight_promise.hpp"
#include "singleflight/flight/group_options.hpp"
#include "singleflight/flight/key.hpp"
#include "singleflight/flight/shared_result.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class Key, class Value, class Hash, class Equal>
class batcher;
template <class Key, class Value, class Hash, class Equal>
class loading_cache;
template <class T>
class live_value;

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
  using lent = detail::lent_loader<Value>;
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
      : core_(std::move(options), &group::make_block),
        hash_(std::move(hash)),
        equal_(std::move(equal)) {
    static_assert(access::is_key());
    detail::draw_hash_secret();  // hash_of() needs it whatever the hash
  }
  group(const group&) = delete;
  group& operator=(const group&) = delete;
  /// close(). Aborts the process when called within one of the group's own loads, or a stop
  /// callback of one: it would wait for itself.
  ~group() {
    detail::require(!core_.leads_on_this_thread(), "group: destroyed within one of its own loads");
    core_.close_until(detail::steady_time::max());
  }

  // ---- run: blocks; the leader runs `load` inline -----------------------------------------------

  /// The outcome of the flight for `key`: led by this call if nobody else is on it. `load` is any
  /// callable; it may take a flight_context& or a std::stop_token.
  template <class Arg, class Load>
  result run(const Arg& key, Load&& load) {
    const argument<Arg> k(key);
    node own;
    detail::thread_state& self = detail::this_thread();
    if (!enter_alone(own, self, k.view())) [[unlikely]] {
      return run_contended(own, k.view(), self, lent(load), no_limits(), false).value();
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

  /// Like run, but the load begins after this call: behind one that runs, shared with other fresh
  /// callers. It never overlaps the load that it waits behind, unless the group has given that one
  /// up (forgotten, abandoned under `stop`, timed out): those behind it begin at once then.
  template <class Arg, class Load>
  result run_fresh(const Arg& key, Load&& load, const limits& bounds = {}) {
    return run_bounded<true>(key, load, bounds, true);
  }
  template <class Arg, class Load>
  outcome<result> run_fresh(as_outcome_t, const Arg& key, Load&& load, const limits& bounds = {}) {
    return run_bounded<false>(key, load, bounds, true);
  }

  // ---- start: returns at once; the load runs on the executor ------------------------------------

  /// A share of the flight for `key`: started by this call if nobody else is on it. Owns key and
  /// load. `load` may also take a flight_promise<Value>, or return an awaitable. A refusal (closed,
  /// overloaded) is found in the handle.
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

  /// One outcome per key, by position, repeats included. `load_many(std::span<const Key>)` returns
  /// std::vector<outcome<Value>> for the keys that nobody is on yet; keys in flight are joined.
  /// What this call leads is published before it waits for what it joined. A key whose hash or
  /// comparison throws has that as its outcome; the others are loaded.
  template <class Keys, class LoadMany>
  std::vector<outcome<result>> run_many(const Keys& keys, LoadMany&& load_many,
                                        const limits& bounds = {});
  /// The same on the executor; one handle per key, by position. `load_many` may be called several
  /// times, also at the same time: for a key that a waiter claims or takes over alone.
  template <class Keys, class LoadMany>
  [[nodiscard]] std::vector<flight<Value>> start_many(const Keys& keys, LoadMany&& load_many);

  // ---- forgetting -------------------------------------------------------------------------------

  /// Newcomers no longer find the flight for `key`; those inside get its outcome. Callers of
  /// run_fresh behind it begin at once. False when there is none.
  template <class Arg>
  bool forget(const Arg& key) {
    const argument<Arg> k(key);
    return forget_with(hash_of(k.view()), k.view(), []() noexcept {});
  }

  /// forget for every key; returns how many flights were forgotten.
  std::size_t forget_all();

  // ---- looking ----------------------------------------------------------------------------------

  /// The flights that newcomers would find, as they were at some moment during the call.
  std::vector<flight_info<Key>> in_flight() const;

  group_stats stats() const noexcept;
  void observe(metric_visitor& visitor) const override;

  // ---- the end ----------------------------------------------------------------------------------

  /// Refuses newcomers, tells running loads to stop and waits for them; a load that has not begun
  /// never does: its callers get `closed`. Throws flight_error(recursive) within one of the group's
  /// loads, and within a stop callback of one, on whichever thread that is called. Who is told
  /// `closed` must not destroy the group meanwhile.
  void close() { close_by(detail::steady_time::max()); }
  /// False when loads still run after `duration`; the group must then stay alive.
  template <class Rep, class Period>
  [[nodiscard]] bool close_for(std::chrono::duration<Rep, Period> duration) {
    return close_by(detail::deadline_after(core_.clock().now(), duration));
  }

 private:
  friend detail::group_door;

  /// A locked bucket that is unlocked at the end of its scope, also when a comparison throws.
  struct locked_bucket : detail::flight_table::bucket {
    explicit locked_bucket(detail::flight_table::bucket locked) noexcept : bucket(locked) {}
    locked_bucket(const locked_bucket&) = delete;
    locked_bucket& operator=(const locked_bucket&) = delete;
    ~locked_bucket() { unlock(); }
    /// Before the end of the scope.
    void unlock() noexcept {
      if (this->at != nullptr) detail::flight_table::unlock(*this);
      this->at = nullptr;
    }
  };

  static const limits& no_limits() noexcept {
    static const limits none;
    return none;
  }

  /// forget, and `change` in one step with it, under the bucket's lock: no flight of the key begins
  /// or ends meanwhile. Where a comparison throws, neither was done.
  template <class Change>
  bool forget_with(std::size_t hash, view key, const Change& change);

  std::size_t hash_of(view key) const {
    if constexpr (!std::is_invocable_v<const Hash&, view>) {
      (void)access::is_key();  // says what is missing
      return detail::never<std::size_t>();
    } else if constexpr (std::is_same_v<Hash, key_hash<Key>>) {
      return hash_(key);
    } else {
      return static_cast<std::size_t>(
          detail::hash_word(hash_(key)));  // std::hash is often the identity
    }
  }
  void prepare(node& n, detail::thread_state& self, view key) const {
    n.hash = hash_of(key);
    n.key = access::store(key);
    n.id = detail::next_flight_id(self);
  }

  bool is_of(const node& n, view key) const { return equal_(access::load(n.key), key); }
  /// The flight that a call for `key` meets: open or a barrier. Bucket lock held; may throw.
  node* find(const detail::flight_table::bucket& bucket, std::size_t hash, view key) const;
  /// Whether the flight is too old to join. Bucket lock held.
  bool too_old(const node& n, detail::steady_time now) const noexcept;
  static detail::block_base* make_block(detail::flight_core& core, const detail::flight_node& n);
  /// A block for a thin flight. Where it may change its leader it needs a key of its own.
  static std::unique_ptr<block> make_block_for(detail::flight_core& core, std::size_t hash,
                                               view key);
  static std::unique_ptr<keyed_block> make_keyed(detail::flight_core& core,
                                                 detail::flight_phase phase, std::size_t hash,
                                                 view key);
  /// What the handle of a refused start shares: a flight that is over.
  block& refused_block(flight_errc code);

  struct admission;
  struct caller;
  admission refuse(flight_errc code) noexcept;
  admission enter(caller& call, std::size_t hash, view key, bool fresh);
  /// With `unlaunched`, the load of a flight that this call leads is left there for the caller to
  /// launch.
  template <class Arg, class Load>
  flight<Value> start_flight(const Arg& key, Load&& load, bool fresh,
                             detail::load_base** unlaunched) {
    const argument<Arg> k(key);
    return start_owned(k.view(), given_loader::template of<Load>(load), fresh, unlaunched);
  }
  SINGLEFLIGHT_NOINLINE flight<Value> start_owned(view key, given_loader load, bool fresh,
                                                  detail::load_base** unlaunched);
  struct start_mode {
    bool fresh;
    bool outermost;  ///< of the library's calls on this thread
    detail::load_base** unlaunched;
  };
  SINGLEFLIGHT_INLINE started_block* make_started(std::size_t hash, view key, given_loader load);
  SINGLEFLIGHT_INLINE static void prepare_lead(started_block& made) noexcept;
  SINGLEFLIGHT_INLINE bool start_alone(started_block& made) noexcept;
  std::optional<flight<Value>> start_slowly(std::unique_ptr<started_block> made, std::size_t hash,
                                            view key, start_mode mode);
  SINGLEFLIGHT_INLINE flight<Value> lead_started(started_block& made, start_mode mode);

  template <bool Throws, class Arg, class Load>
  std::conditional_t<Throws, result, outcome<result>> run_bounded(const Arg& key, Load& load,
                                                                  const limits& bounds,
                                                                  bool fresh) {
    node own;
    detail::thread_state& self = detail::this_thread();
    if constexpr (Throws) {
      const argument<Arg> k(key);
      prepare(own, self, k.view());
      return run_contended(own, k.view(), self, lent(load), bounds, fresh).value();
    } else {
      try {
        const argument<Arg> k(key);
        prepare(own, self, k.view());
        return run_contended(own, k.view(), self, lent(load), bounds, fresh);
      } catch (...) {  // this call's own load, or its own key: the caller wants it as an outcome
        if (detail::platform::is_thread_exit()) throw;
        return std::current_exception();
      }
    }
  }

  /// Makes the node of a run(). True: its flight is in the table, and nobody else is on it.
  SINGLEFLIGHT_NOINLINE bool enter_alone(node& own, detail::thread_state& self, view key) {
    prepare(own, self, key);
    return core_.plain() && (detail::flight_table::enter_alone(core_.table.locate(own.hash), own) ||
                             core_.table.enter_soon(own, self));
  }
  SINGLEFLIGHT_NOINLINE outcome<result> run_contended(node& own, view key,
                                                      detail::thread_state& self, const lent& load,
                                                      const limits& bounds, bool fresh);
  /// load(void* at, const flight_context&) constructs the value: a `lent`, or the same in line.
  template <class Load>
  result lead_alone(node& own, detail::thread_state& self, const Load& load,
                    const detail::led_frame* within);
  SINGLEFLIGHT_NOINLINE result lead_shared(detail::flight_node& n, block& b,
                                           detail::thread_state& self, const lent& load,
                                           const limits& bounds);
  outcome<result> await_joined(block& b, detail::thread_state& self, const lent& load,
                               const limits& bounds);
  /// Within the handler of what the load has thrown.
  SINGLEFLIGHT_COLD void fail_alone(node& own, detail::thread_state& self,
                                    const detail::led_frame& frame);
  SINGLEFLIGHT_COLD void settle(node& own, detail::thread_state& self, result& r);
  SINGLEFLIGHT_COLD void settle_error(node& own, detail::thread_state& self, flight_errc code,
                                      std::exception_ptr error);
  /// Ends a flight with a block in an error, and drops the flight's reference and `references`
  /// more.
  void end_in_error(detail::flight_node& n, block& b, flight_errc code, std::exception_ptr error,
                    std::uint32_t references);
  template <class LoadMany>
  class bulk_run;
  static bool arrive(block& b) noexcept;
  void end_bulk_key(node& own, detail::thread_state& self, block* led, flight_errc code,
                    std::exception_ptr error);
  void settle_bulk_key(node& own, detail::thread_state& self, block* led, outcome<Value>& loaded,
                       outcome<result>& given);

  bool close_by(detail::steady_time deadline) {
    if (core_.leads_on_this_thread()) throw flight_error(flight_errc::recursive);
    return core_.close_until(deadline);
  }

  detail::flight_core core_;
  [[no_unique_address]] Hash hash_;
  [[no_unique_address]] Equal equal_;
};

SINGLEFLIGHT_END_NAMESPACE

#include "singleflight/flight/impl/group_enter.hpp"
#include "singleflight/flight/impl/group_look.hpp"
#include "singleflight/flight/impl/group_run.hpp"
#include "singleflight/flight/impl/group_run_many.hpp"
#include "singleflight/flight/impl/group_start.hpp"
#include "singleflight/flight/impl/group_start_many.hpp"
