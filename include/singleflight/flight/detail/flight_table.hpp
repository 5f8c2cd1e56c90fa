// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_table: the flights of a group by key: an array of bucket heads, each with a chain of
// nodes.
//
// A head is a word: the first node's address and three low bits.
//   locked  the holder alone may change the head and the chain
//   slow    leaving takes the lock: the chain has or had more than one node, a node here has a
//           joiner, a block or a successor, or the group is closed; cleared when the bucket is
//           empty again
//   moved   the bucket has moved to a larger array
// An empty bucket without bits is 0. A leader that is alone enters with one compare-exchange from 0
// to its node, and leaves with one from its node to 0. If any bit is set, or there is a second
// node, it takes the lock instead.
//
// I1  A chain changes only under its head's lock, or by those two compare-exchanges.
// I2  A successful fast leave proves: the node was alone, it has no joiner and no successor, and
//     the group is not closing.
// I3  Of the nodes of one key, at most one can be found (open or a barrier). Any number of others
//     may be forgotten: they cannot be found, but close() still waits for them.
// I4  `crowded` is the sum over all buckets with a node that can be found of (such nodes - 1).
//     Forgotten nodes do not count, since more heads would not separate flights of one key. Fast
//     enters and leaves do not change it.
// I10 A chain has three parts, in this order: nodes that can be found; forgotten nodes that are not
//     revoked, which a forget still has to revoke; all others. So a look-up ends at the first
//     forgotten node, and a forget where the third part begins: neither gets slower if a key is
//     forgotten often while its loads still run.
// I11 A chain of two or more nodes is linked both ways, and its first node's `prev` is its last: a
//     node is unlinked, or moved to the end, without a walk. The `prev` of a single node is unset.
//
// Growth is done in steps. A larger array becomes the `next` one of the current array, under the
// lock of its first head. Each call that finds the table crowded claims some of the old buckets,
// and moves each under its lock: the nodes go to heads of the next array, which no other thread
// uses before the old head has its `moved`. A thread that locks such a head continues in the next
// array.
// The thread that moves the last bucket publishes the next array as the current one, again under
// the lock of the first head: so a fork, which holds all locks, sees one state. Arrays are kept
// until the group is destroyed, so a late compare-exchange on an old head fails harmlessly; all old
// arrays together are smaller than the current one.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>

#include "singleflight/core/support/bit_lock.hpp"
#include "singleflight/core/support/thread_state.hpp"
#include "singleflight/core/support/zeroed_array.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

struct block_base;

/// How a new call finds a flight. A flight is forgotten by forget(), when it is abandoned under
/// `stop`, when its load times out, and when it has become too old to join.
enum class flight_mode : std::uint8_t {
  open,       ///< it is found and may be joined
  barrier,    ///< it is found, but new callers wait behind it (drain)
  forgotten,  ///< it is not found; it stays in the table until its load has ended
};

/// A flight in the table; it is on the stack of the run() that leads it, or in a block.
struct alignas(8) flight_node {
  static constexpr steady_time not_begun = steady_time::min();

  flight_node* next = nullptr;
  flight_node* prev;  ///< in a chain of two or more (I11)
  std::size_t hash = 0;
  std::uint64_t id = 0;
  atomic<block_base*> block{nullptr};         ///< set once, under the bucket lock; null while thin
  block_base* successor = nullptr;            ///< bucket lock; holds a reference
  steady_time deadline = steady_time::max();  ///< the leader's own: advice to the load
  atomic<steady_time> began{not_begun};       ///< set only if an option needs it
  atomic<flight_mode> mode{flight_mode::open};  ///< written under the bucket lock
  bool close_seen = false;                      ///< bucket lock
  bool unplaced = false;  ///< bucket lock: max_flights had no place for it; it ends as overloaded
  bool matches = false;   ///< bucket lock, within forget()
  atomic<bool> revoked{
      false};  ///< forget() or forget_all() was called for it, perhaps after it was `forgotten`

  bool is_forgotten_locked() const noexcept {
    return mode.load(memory_order_relaxed) == flight_mode::forgotten;
  }
  /// Returns true if a forget has nothing to do for this node, nor for any node behind it (I10).
  bool is_settled_locked() const noexcept {
    return is_forgotten_locked() && revoked.load(memory_order_relaxed);
  }
};

class flight_table {
 public:
  using word = std::uintptr_t;
  using head = atomic<word>;
  static constexpr word locked = 1;
  static constexpr word slow = 2;
  static constexpr word moved = 4;
  static constexpr word bits = locked | slow | moved;
  using lock_bit = bit_lock<word, locked>;

  struct bucket {
    head* at;
    word value;  ///< the head without the lock bit; stored back by unlock
    flight_node* first() const noexcept { return reinterpret_cast<flight_node*>(value & ~bits); }
    bool has_moved() const noexcept { return (value & moved) != 0; }
  };

  flight_table() noexcept = default;
  flight_table(const flight_table&) = delete;
  flight_table& operator=(const flight_table&) = delete;
  ~flight_table();

  /// Returns the head for `hash` in the current array. The acquire pairs with the release in
  /// grow().
  head& locate(std::size_t hash) const noexcept {
    const array* const a =
        current_.load(platform::order(rule::locate_acquires, memory_order_acquire));
    return a->heads[hash >> a->shift];
  }

  /// The fast enter. The acquire pairs with the release of the last leave of the bucket; the
  /// release pairs with the acquire of any thread that locks the bucket and reads the node.
  static bool enter_alone(head& at, flight_node& node) noexcept {
    word expected = 0;
    return at.compare_exchange_strong(
        expected, reinterpret_cast<word>(&node),
        platform::acquire_release(rule::enter_acquires, rule::enter_releases),
        memory_order_relaxed);
  }
  /// Called after the bucket was found occupied, most often by a thin flight. If that flight ends
  /// within a few microseconds, it costs all callers less to lead another load than to share that
  /// one (two threads on one key with an empty load: five times less). This waits before the lock
  /// is taken, since a locked bucket makes the leader's fast leave fail; the pauses grow, so that
  /// the leader keeps its cache line for a while. A thread that waited in vain (for a long load, or
  /// for that of another key) waits again only every 16th time. Returns false if the caller must
  /// enter under the lock.
  bool enter_soon(flight_node& node, thread_state& self) const noexcept;
  /// The fast leave (I2). The release pairs with the acquire of the next enter of the bucket; the
  /// acquire pairs with the unlock of the thread that last read the node, since the node's memory
  /// is reused after this.
  static bool leave_alone(head& at, flight_node& node) noexcept { return leave_as(at, node, 0); }
  /// Like leave_alone(), but leaves the bucket, which is then empty, locked.
  static bool leave_locking(head& at, flight_node& node) noexcept {
    return leave_as(at, node, locked);
  }

  bucket lock(std::size_t hash) const noexcept {
    const array* a = current_.load(platform::order(rule::locate_acquires, memory_order_acquire));
    for (;;) {
      head& at = a->heads[hash >> a->shift];
      const word value = lock_bit::lock(at);
      if ((value & moved) == 0) return {&at, value};
      lock_bit::unlock(at, value);
      a = a->next.load(memory_order_relaxed);  // stored before `moved`, which was read by the lock
    }
  }
  static void unlock(const bucket& b) noexcept { lock_bit::unlock(*b.at, b.value); }

  /// Links the node into the part of the chain that its mode requires (I10).
  void link_locked(bucket& b, flight_node& node) noexcept;
  void unlink_locked(bucket& b, flight_node& node, bool keep_slow) noexcept;
  /// Makes `node` forgotten: from now on it is not found.
  void retire_locked(bucket& b, flight_node& node) noexcept;
  /// Moves `node`, which is forgotten and has just been revoked, behind all others.
  static void settle_locked(bucket& b, flight_node& node) noexcept;

  /// Returns whether grow() has something to do. Acquires the array as locate() does: another
  /// thread may have replaced it since.
  bool crowded() const noexcept {
    const std::ptrdiff_t crowd = crowded_.load(memory_order_relaxed);
    const array* const a =
        current_.load(platform::order(rule::locate_acquires, memory_order_acquire));
    const std::size_t most = a->count <= eager_count ? 0 : a->count / 2;
    return crowd > static_cast<std::ptrdiff_t>(most) ||
           a->next.load(memory_order_relaxed) != nullptr;
  }

  /// Begins to make four times as many heads, or moves some buckets to them. If there is no memory,
  /// the chains get longer instead.
  void grow() noexcept;

  /// Calls visit(head) for every bucket, locked by lock_at() in it; visit returns false if the
  /// bucket has moved, whose heads in the next array are then visited instead. So each node that is
  /// in the table from the first call to the last is met exactly once.
  template <class Visit>
  void each(Visit&& visit) const {
    const array* const a =
        current_.load(platform::order(rule::locate_acquires, memory_order_acquire));
    for (std::size_t i = 0; i < a->count; ++i) visit_bucket(*a, i, visit);
  }
  static bucket lock_at(head& at) noexcept { return {&at, lock_bit::lock(at)}; }

  // ---- fork: all buckets are held at once, the current array's first ----------------------------

  void hold_all() const noexcept;
  void release_all() const noexcept;
  /// Calls visit(bucket&), which may change the bucket's value, until it returns false.
  template <class Visit>
  bool each_held(Visit&& visit) const noexcept {
    for (const array* a = current_.load(memory_order_relaxed); a != nullptr;
         a = a->next.load(memory_order_relaxed)) {
      for (std::size_t i = 0; i < a->count; ++i) {
        bucket b{&a->heads[i], a->heads[i].load(memory_order_relaxed) & ~locked};
        if ((b.value & moved) != 0) continue;
        const bool more = visit(b);
        b.at->store(b.value | locked, memory_order_relaxed);
        if (!more) return false;
      }
    }
    return true;
  }
  /// In a child: nothing is counted as crowded, and what other threads had claimed may be claimed
  /// again.
  void repair_held() noexcept;

 private:
  static constexpr unsigned first_bits = platform::tuned(5U, 1U);
  static constexpr std::size_t first_count = std::size_t{1} << first_bits;
  static constexpr unsigned first_shift = std::numeric_limits<std::size_t>::digits - first_bits;

  /// Arrays of up to so many heads grow as soon as two flights share a bucket: a group that is
  /// idle, or used by one thread at a time, is small, and in any other threads seldom meet.
  static constexpr std::size_t eager_count = platform::tuned(std::size_t{128}, std::size_t{0});
  static constexpr std::size_t factor = 4;  // of growth
  static constexpr unsigned factor_bits = 2;
  /// How many buckets a call moves.
  static constexpr std::size_t step = platform::tuned(std::size_t{16}, std::size_t{1});

  struct array {
    std::size_t count = first_count;
    unsigned shift = first_shift;
    head* heads = nullptr;
    array* older = nullptr;
    zeroed_array<head> memory{};     // of the heads, but for the first array's
    atomic<array*> next{nullptr};    // set under the lock of the first head
    atomic<std::size_t> claimed{0};  // the buckets before this one are moved, or being moved
    atomic<std::size_t> moved_count{0};
  };

  template <class Visit>
  static void visit_bucket(const array& a, std::size_t i, Visit& visit) {
    if (visit(a.heads[i])) return;
    const array& next = *a.next.load(memory_order_relaxed);  // stored before `moved`
    for (std::size_t j = 0; j < factor; ++j) visit_bucket(next, i * factor + j, visit);
  }
  /// Returns the next array, made if there is none; null if there is no memory, or growth is over.
  array* begin_growth(array& old) noexcept;
  void move_bucket(array& old, std::size_t i, array& fresh) noexcept;

  static bool leave_as(head& at, flight_node& node, word left) noexcept {
    word expected = reinterpret_cast<word>(&node);
    return at.compare_exchange_strong(
        expected, left, platform::acquire_release(rule::leave_acquires, rule::leave_releases),
        memory_order_relaxed);
  }

  static bool is_found(const flight_node* node) noexcept {
    return node != nullptr && !node->is_forgotten_locked();
  }

  // ---- chains (I11) -----------------------------------------------------------------------------

  /// Links `node` in front of `before`; behind all others if that is null.
  static void link_before_locked(bucket& b, flight_node& node, flight_node* before) noexcept;
  static void take_out_locked(bucket& b, flight_node& node) noexcept;
  /// Links a forgotten node: behind all others if it is revoked, else before all forgotten ones.
  static void link_forgotten_locked(bucket& b, flight_node& node) noexcept;

  alignas(64) head first_heads_[first_count]{};  // shares no cache line with what each call reads
  array first_{first_count, first_shift, first_heads_, nullptr};
  atomic<array*> current_{&first_};
  atomic<std::ptrdiff_t> crowded_{0};
};

/// Holds a locked bucket and unlocks it at the end of the scope, also if a comparison throws.
struct locked_bucket : flight_table::bucket {
  explicit locked_bucket(flight_table::bucket taken) noexcept : bucket(taken) {}
  locked_bucket(const locked_bucket&) = delete;
  locked_bucket& operator=(const locked_bucket&) = delete;
  ~locked_bucket() { unlock(); }
  /// Unlocks before the end of the scope.
  void unlock() noexcept {
    if (at != nullptr) flight_table::unlock(*this);
    at = nullptr;
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/flight/impl/flight_table.hpp"
#endif
