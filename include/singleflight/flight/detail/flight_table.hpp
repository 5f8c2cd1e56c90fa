// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_table: the flights of a group by key: an array of bucket heads, each a chain of nodes.
//
// A head is a word: the first node's address and three low bits.
//   locked  one thread may change the head and the chain
//   slow    leaving takes the lock: the chain is or was longer than one node, a node here has a
//           joiner, a block or a successor, or the group is closed; cleared when the bucket is
//           empty again
//   moved   the bucket has moved to a larger array
// An empty bucket without bits is 0. A leader that is alone enters with one compare-exchange of 0
// for its node and leaves with one back; any bit, and any second node, sends it through the lock
// instead.
//
// I1  A chain changes only under its head's lock, or by those two compare-exchanges.
// I2  A successful fast leave proves: the node was alone, nobody has joined it, nobody waits behind
//     it, nobody closes.
// I3  Nodes of one key: at most one can be found (open or a barrier); any number is gone
//     (forgotten, abandoned, timed out: no longer found, but still there for close() to wait for).
// I4  `crowded` is the sum over all buckets of (nodes that can be found - 1), where there are any:
//     more heads would not part the flights of one key that are gone. Fast enters and leaves do not
//     change it.
// I10 A chain has three parts, in this order: nodes that can be found; nodes that are gone and not
//     revoked, which a forget still has to revoke; all others. So a look-up ends at the first node
//     that is gone, and a forget where the third part begins: how often a key was forgotten while
//     its loads still run costs neither anything.
// I11 A chain of two or more nodes is linked both ways, and its first node's `prev` is its last: a
//     node is unlinked, and put behind all others, without a walk. A node alone has no `prev`.
//
// Growth takes every lock of the array in order, moves the nodes, publishes the larger array and
// leaves `moved` behind. Arrays stay until the group goes, so a late compare-exchange on an old
// head fails harmlessly; together they are smaller than the present one.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>

#include "singleflight/core/support/bit_lock.hpp"
#include "singleflight/core/support/thread_state.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

struct block_base;

enum class flight_mode : std::uint8_t {
  open,       ///< found by everybody
  barrier,    ///< found, but callers go behind it (drain)
  forgotten,  ///< not found any more
};

/// A flight in the table; on the stack of the run() that leads it, or in a block.
struct alignas(8) flight_node {
  static constexpr steady_time not_begun = steady_time::min();

  flight_node* next = nullptr;
  flight_node* prev;  ///< in a chain of two or more (I11)
  std::size_t hash = 0;
  std::uint64_t id = 0;
  atomic<block_base*> block{nullptr};         ///< set once, under the bucket lock; null while thin
  block_base* successor = nullptr;            ///< bucket lock; holds a reference
  steady_time deadline = steady_time::max();  ///< the leader's own: advice to the load
  atomic<steady_time> began{not_begun};       ///< only where an option needs it
  atomic<flight_mode> mode{flight_mode::open};  ///< written under the bucket lock
  bool close_seen = false;                      ///< bucket lock
  bool unplaced = false;  ///< bucket lock: max_flights had no place for it; it ends as overloaded
  bool matches = false;   ///< bucket lock, within forget()
  atomic<bool> revoked{false};  ///< forget() or forget_all() was called, also after it was `gone`

  bool is_forgotten_locked() const noexcept {
    return mode.load(memory_order_relaxed) == flight_mode::forgotten;
  }
  /// No forget has anything to do here, nor behind it (I10).
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
  };

  flight_table() noexcept = default;
  flight_table(const flight_table&) = delete;
  flight_table& operator=(const flight_table&) = delete;
  ~flight_table();

  /// The head where `hash` lives now. Its acquire pairs with the release in grow().
  head& locate(std::size_t hash) const noexcept {
    const array* const a =
        current_.load(platform::order(rule::locate_acquires, memory_order_acquire));
    return a->heads[hash >> a->shift];
  }

  /// The fast enter. Its acquire pairs with the release of whoever left the bucket last, its
  /// release with whoever locks the bucket and looks at the node.
  static bool enter_alone(head& at, flight_node& node) noexcept {
    word expected = 0;
    return at.compare_exchange_strong(
        expected, reinterpret_cast<word>(&node),
        platform::acquire_release(rule::enter_acquires, rule::enter_releases),
        memory_order_relaxed);
  }
  /// For a caller who has found the bucket taken, most often by a thin flight: where that ends
  /// within a few microseconds, leading a load of one's own costs everybody less than sharing that
  /// one would (two threads on one key with an empty load: five times less). It waits before the
  /// lock is taken, since a locked bucket makes the leader's fast leave fail; the pauses grow, so
  /// that the leader keeps its cache line for a while. A thread that waited in vain (for a long
  /// load, or for another key's) tries again only every 16th time. False: look under the lock.
  bool enter_soon(flight_node& node, thread_state& self) const noexcept;
  /// The fast leave (I2). Its release pairs with whoever enters the bucket next; its acquire with
  /// the unlock of whoever last looked at the node, since the node's memory is reused after this.
  static bool leave_alone(head& at, flight_node& node) noexcept { return leave_as(at, node, 0); }
  /// The same, and the bucket, which is empty then, is locked.
  static bool leave_locking(head& at, flight_node& node) noexcept {
    return leave_as(at, node, locked);
  }

  bucket lock(std::size_t hash) const noexcept {
    for (;;) {
      head& at = locate(hash);
      const word value = lock_bit::lock(at);
      if ((value & moved) == 0) return {&at, value};
      lock_bit::unlock(at, value);
    }
  }
  static void unlock(const bucket& b) noexcept { lock_bit::unlock(*b.at, b.value); }

  /// Where its mode says (I10).
  void link_locked(bucket& b, flight_node& node) noexcept;
  void unlink_locked(bucket& b, flight_node& node, bool keep_slow) noexcept;
  /// `node` cannot be found any more.
  void retire_locked(bucket& b, flight_node& node) noexcept;
  /// `node`, which is gone, has just been revoked: behind all others.
  static void settle_locked(bucket& b, flight_node& node) noexcept;

  /// Acquires the array as locate() does: another thread may have made it since.
  bool crowded() const noexcept {
    const std::ptrdiff_t crowd = crowded_.load(memory_order_relaxed);
    const array* const a =
        current_.load(platform::order(rule::locate_acquires, memory_order_acquire));
    return crowd > static_cast<std::ptrdiff_t>(a->count / 2);
  }

  /// Four times as many heads; without memory for them the chains grow longer instead.
  void grow() noexcept;

  /// Calls visit(head) for every bucket of the present array, and again, after restart(), for all
  /// of a larger one if the table grew meanwhile. `visit` locks through lock_at().
  template <class Visit, class Restart = void (*)()>
  void each(
      Visit&& visit, Restart&& restart = [] {}) const {
    for (const array* a =
             current_.load(platform::order(rule::locate_acquires, memory_order_acquire));
         ;) {
      for (std::size_t i = 0; i < a->count; ++i) visit(a->heads[i]);
      const array* const now =
          current_.load(platform::order(rule::locate_acquires, memory_order_acquire));
      if (now == a) return;
      restart();
      a = now;
    }
  }
  static bucket lock_at(head& at) noexcept { return {&at, lock_bit::lock(at)}; }

  // ---- fork: all buckets at once, in the order of growth ----------------------------------------

  void hold_all() const noexcept;
  void release_all() const noexcept;
  /// Calls visit(bucket&), which may change its value, until it returns false.
  template <class Visit>
  bool each_held(Visit&& visit) const noexcept {
    const array* const a = current_.load(memory_order_relaxed);
    for (std::size_t i = 0; i < a->count; ++i) {
      bucket b{&a->heads[i], a->heads[i].load(memory_order_relaxed) & ~locked};
      const bool more = visit(b);
      b.at->store(b.value | locked, memory_order_relaxed);
      if (!more) return false;
    }
    return true;
  }
  void crowd_held(std::ptrdiff_t crowd) noexcept { crowded_.store(crowd, memory_order_relaxed); }

 private:
  static constexpr unsigned first_bits = platform::tuned(9U, 1U);
  static constexpr std::size_t first_count = std::size_t{1} << first_bits;
  static constexpr unsigned first_shift = std::numeric_limits<std::size_t>::digits - first_bits;

  struct array {
    std::size_t count = first_count;
    unsigned shift = first_shift;
    head* heads = nullptr;
    array* older = nullptr;
  };

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

  /// Null `before`: behind all others.
  static void link_before_locked(bucket& b, flight_node& node, flight_node* before) noexcept;
  static void take_out_locked(bucket& b, flight_node& node) noexcept;
  /// A node that is gone: behind all others, or in front of all that are gone.
  static void link_forgotten_locked(bucket& b, flight_node& node) noexcept;

  alignas(64) head first_heads_[first_count]{};  // no line with what every call reads
  array first_{first_count, first_shift, first_heads_, nullptr};
  atomic<array*> current_{&first_};
  atomic<std::ptrdiff_t> crowded_{0};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/flight/impl/flight_table.hpp"
#endif
