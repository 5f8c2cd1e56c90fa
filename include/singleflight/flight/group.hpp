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
    prepare(own, self, k.view());
    if (!core_.plain() || !detail::flight_table::enter_alone(core_.table.locate(own.hash), own))
        [[unlikely]] {
      if (!core_.plain() || !core_.table.enter_soon(own, self)) {
        return run_contended(own, k.view(), self, load, no_limits(), false).value();
      }
    }
    return lead_alone(own, self, load, nullptr);
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
  friend class batcher<Key, Value, Hash, Equal>;  // its keys start here, and launch together
  template <class, class, class, class>
  friend class loading_cache;  // hashes a key once for both
  template <class>
  friend class live_value;  // asks after a fork what has become of a flight

  /// A locked bucket that is unlocked at the end of its scope, also when a comparison throws.
  struct locked_bucket : detail::flight_table::bucket {
    explicit locked_bucket(detail::flight_table::bucket b) noexcept : bucket(b) {}
    locked_bucket(const locked_bucket&) = delete;
    locked_bucket& operator=(const locked_bucket&) = delete;
    ~locked_bucket() { detail::flight_table::unlock(*this); }
  };

  /// How a call got in: it leads (`shared` is set when its flight has a block already), it joined
  /// `shared` (a reference and an interest are its own), or it was refused.
  struct entry {
    enum class kind : std::uint8_t { leads, joined, refused } how;
    block* shared = nullptr;
    flight_errc code{};
    bool keeps = false;      ///< joined, and the caller's load is to be kept with the flight
    std::uint32_t kept = 0;  ///< the serial of a load that is kept already
    observer* watch = nullptr;
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
    const std::size_t h = hash_(key);
    if constexpr (std::is_same_v<Hash, key_hash<Key>>) {
      return h;
    } else {
      return static_cast<std::size_t>(detail::hash_word(h));  // std::hash is often the identity
    }
  }
  void prepare(node& n, detail::thread_state& self, view key) const {
    n.hash = hash_of(key);
    n.key = access::store(key);
    n.id = detail::next_flight_id(self);
  }

  bool is_of(const node& n, view key) const { return equal_(access::load(n.key), key); }
  /// The flight that a call for `key` meets: open or a barrier. Bucket lock held; may throw.
  node* find(const detail::flight_table::bucket& b, std::size_t hash, view key) const {
    for (detail::flight_node* n = b.first(); n != nullptr; n = n->next) {
      if (n->is_gone_locked() && detail::platform::holds(detail::rule::forgotten_is_not_found)) {
        return nullptr;  // and so are all behind it (I10)
      }
      if (n->hash == hash && is_of(*static_cast<node*>(n), key)) return static_cast<node*>(n);
    }
    return nullptr;
  }

  static detail::block_base* make_block(detail::flight_core& core, const detail::flight_node& n) {
    const auto& keyed = static_cast<const node&>(n);
    return make_block_for(core, n.hash, access::load(keyed.key)).release();
  }
  /// A block for a thin flight. Where it may change its leader it needs a key of its own.
  static std::unique_ptr<block> make_block_for(detail::flight_core& core, std::size_t hash,
                                               view key) {
    if (core.hands_over()) {
      return make_keyed(core, detail::flight_phase::running, hash, key);
    }
    return std::make_unique<block>(core, core.options().executor, core.clock(),
                                   detail::flight_phase::running);
  }

  static std::unique_ptr<keyed_block> make_keyed(detail::flight_core& core,
                                                 detail::flight_phase phase, std::size_t hash,
                                                 view key) {
    return detail::make_with_key<keyed_block, access>(key, [&](void* at, void* room) {
      return ::new (at) keyed_block(core, phase, hash, key, room);
    });
  }

  entry refuse(flight_errc code) noexcept {
    core_.stats.add(detail::figure::refused);
    core_.stats.add_error(code);
    return {.how = entry::kind::refused, .code = code};
  }

  /// What the handle of a refused start shares: a flight that is over.
  block& refused_block(flight_errc code) {
    auto made = std::make_unique<block>(core_, core_.options().executor, core_.clock(),
                                        detail::flight_phase::done);
    made->counts.store(detail::block_base::one_reference, detail::memory_order_relaxed);
    made->result = detail::flight_result::code;
    made->code = code;
    made->id = 0;
    return *made.release();
  }

  /// Whether the flight is too old to join. Bucket lock held.
  bool too_old(const node& n, detail::steady_time now) const noexcept {
    const auto window = core_.options().join_window;
    if (window.count() <= 0) return false;
    const auto began = n.began.load(detail::memory_order_relaxed);
    return began != detail::flight_node::not_begun && detail::time_between(began, now) > window;
  }

  struct run_caller;
  template <class Load>
  struct start_caller;

  template <class Caller>
  entry enter(Caller& caller, std::size_t hash, view key, bool fresh);
  /// With `unlaunched`, the load of a flight that this call leads is left there for the caller to
  /// launch.
  template <class Arg, class Load>
  flight<Value> start_flight(const Arg& key, Load&& load, bool fresh,
                             detail::load_base** unlaunched);

  template <bool Throws, class Arg, class Load>
  std::conditional_t<Throws, result, outcome<result>> run_bounded(const Arg& key, Load& load,
                                                                  const limits& bounds,
                                                                  bool fresh) {
    node own;
    detail::thread_state& self = detail::this_thread();
    if constexpr (Throws) {
      const argument<Arg> k(key);
      prepare(own, self, k.view());
      return run_contended(own, k.view(), self, load, bounds, fresh).value();
    } else {
      try {
        const argument<Arg> k(key);
        prepare(own, self, k.view());
        return run_contended(own, k.view(), self, load, bounds, fresh);
      } catch (...) {  // this call's own load, or its own key: the caller wants it as an outcome
        if (detail::platform::is_thread_exit()) throw;
        return std::current_exception();
      }
    }
  }

  template <class Load>
  SINGLEFLIGHT_NOINLINE outcome<result> run_contended(node& own, view key,
                                                      detail::thread_state& self, Load& load,
                                                      const limits& bounds, bool fresh);
  template <class Load>
  result lead_alone(node& own, detail::thread_state& self, Load& load,
                    const detail::led_frame* within);
  template <class Load>
  SINGLEFLIGHT_NOINLINE result lead_shared(detail::flight_node& n, block& b,
                                           detail::thread_state& self, Load& load,
                                           const limits& bounds);
  template <class Load>
  outcome<result> await_joined(block& b, detail::thread_state& self, Load& load,
                               const limits& bounds);
  SINGLEFLIGHT_COLD void settle(node& own, detail::thread_state& self, result& r);
  SINGLEFLIGHT_COLD void settle_error(node& own, detail::thread_state& self, flight_errc code,
                                      std::exception_ptr error);
  /// Ends a flight with a block in an error, and drops the flight's reference and `references`
  /// more.
  void end_in_error(detail::flight_node& n, block& b, flight_errc code, std::exception_ptr error,
                    std::uint32_t references);
  static bool arrive(block& b) noexcept;
  void end_bulk_key(node& own, detail::thread_state& self, block* led, flight_errc code,
                    std::exception_ptr error);
  void settle_bulk_key(node& own, detail::thread_state& self, block* led, outcome<Value>& said,
                       outcome<result>& to);

  bool close_by(detail::steady_time deadline) {
    if (core_.leads_on_this_thread()) throw flight_error(flight_errc::recursive);
    return core_.close_until(deadline);
  }

  detail::flight_core core_;
  [[no_unique_address]] Hash hash_;
  [[no_unique_address]] Equal equal_;
};

SINGLEFLIGHT_END_NAMESPACE

#include "singleflight/flight/detail/bulk.hpp"
#include "singleflight/flight/detail/group_impl.hpp"
#include "singleflight/flight/detail/group_lead.hpp"
#include "singleflight/flight/detail/group_look.hpp"
