// SPDX-License-Identifier: Apache-2.0
#pragma once

// hazard: how readers hold memory without a lock and without a reference count, and when it is
// freed.
//
// Hazard pointers (M. Michael, "Hazard Pointers: Safe Memory Reclamation for Lock-Free Objects",
// IEEE TPDS 2004), with the fence on the reclaimer's side alone, as in folly's hazptr and P1202.
//
// A reader stores the object it has found in a slot of its thread's record, then checks that the
// object is still where it found it; only after that does it use it. A thread that has removed an
// object from its structure gives it to reclaim(), which frees the objects that no slot protects
// and keeps the rest. There is also a reference count, for a thread that holds more objects than it
// has slots, or for longer than a call.
//
// H1  `references` counts the owners of an object: one is the structure in which it is found, until
//     reclaim(); each counted holder is one. The last one destroys it.
// H2  Reader: slot = object; barrier; is the object still found? Reclaimer: the object is no longer
//     found; barrier; read the slots. So either the reader sees that it was removed, or the
//     reclaimer sees the slot. The reclaimer's barrier reaches all threads (platform), so the
//     reader's has to stop the compiler only. Where the machine has no such barrier, every change
//     of a slot is a read-modify-write, and so is the reclaimer's scan: they form one release
//     sequence, so that a reader that comes after the scan has seen what happened before it.
// H3  A slot is emptied with release, and scanned with acquire: what its reader did with the object
//     happens-before its destruction. A slot is reused by its own thread, after an acquire: the
//     chain continues through the thread that emptied it.
// H4  A reader that exchanges its slot for a count counts first: the reclaimer reads slots, then
//     counts.
// H5  If the kernel refuses the barrier later, both sides pay from then on, and removed objects are
//     scanned for only after a grace period. A reader that read the switch before it was turned off
//     may still protect without a fence, whenever its thread continues: its store is then in its
//     processor's store buffer, for microseconds, or until its thread is descheduled. Either it
//     checked before the object was removed, and its slot is seen after the grace period; or it
//     checked later, and has seen that the object was removed. (Morrison and Afek, "Temporally
//     Bounding TSO for Fence-Free Asymmetric Synchronization", ASPLOS 2015.)
// H6  `lock_` guards the list of records, and all objects that wait. No destructor of a user runs
//     under it. Records are never freed: a thread that ends returns its own, with the slots that
//     handles still hold, for the next thread.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/core/support/thread_state.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// The base of objects that can be held in this way. It is made with the reference of its
/// structure.
struct reclaimable : platform::allocated {
  using end = void (*)(reclaimable*) noexcept;

  reclaimable* next = nullptr;  ///< in the structure, then in a list of removed objects
  union {
    reclaimable* prev;  ///< in the structure
    end destroy;        ///< once it is removed, or if it is never in a structure
  };
  atomic<std::uint32_t> references{1};
  atomic<std::uint8_t> place{0};  ///< where in the structure: the structure's own numbers, and:
  static constexpr std::uint8_t left = 0xff;

  reclaimable() noexcept : prev(nullptr) {}
  reclaimable(const reclaimable&) = delete;
  reclaimable& operator=(const reclaimable&) = delete;

  void add_reference() noexcept { references.fetch_add(1, memory_order_relaxed); }
  /// Requires that `destroy` is set if this is the last one.
  void drop_reference() noexcept {
    // The release orders this owner's uses before the destruction by the last one (acquire).
    if (references.load(platform::order(rule::sole_owner_acquires, memory_order_acquire)) == 1 ||
        references.fetch_sub(1, platform::acquire_release(rule::sole_owner_acquires,
                                                          rule::owner_drop_releases)) == 1) {
      destroy(this);
    }
  }

 protected:
  ~reclaimable() = default;
};

using hazard_slot = atomic<reclaimable*>;

/// One thread's slots.
struct alignas(64) hazard_record : platform::allocated {
  static constexpr std::size_t handles = platform::tuned(std::size_t{6}, std::size_t{1});
  static constexpr std::size_t all = handles + 3;

  hazard_slot slots[all]{};
  hazard_record* next = nullptr;  // this and the next: guarded by the domain's lock
  bool taken = true;

  hazard_slot& passing() noexcept { return slots[handles]; }  ///< exchanged for a count
  /// The structure that is searched, and the one that its contents come from.
  hazard_slot& structure() noexcept { return slots[handles + 1]; }
  hazard_slot& source() noexcept { return slots[handles + 2]; }

  /// Returns null if all are in use.
  hazard_slot* free_handle() noexcept {
    for (std::size_t i = 0; i < handles; ++i) {
      if (slots[i].load(platform::order(rule::free_slot_acquires, memory_order_acquire)) ==
          nullptr) {
        return &slots[i];  // H3
      }
    }
    return nullptr;
  }
};

/// Whether the reclaimer's barrier reaches all threads; set before any record is used, and turned
/// off permanently if the kernel refuses it later (H5).
struct SINGLEFLIGHT_SHARED_STATE hazard_mode {
  static inline constinit platform::late_switch one_sided{false};
  static bool is_one_sided() noexcept { return one_sided.load(memory_order_relaxed); }
};

/// H2, the reader: it then checks that `object` is still found.
inline void protect(hazard_slot& slot, reclaimable* object,
                    bool one_sided = hazard_mode::is_one_sided()) noexcept {
  if (one_sided) [[likely]] {
    slot.store(object, memory_order_release);
    platform::keep_order();
  } else {
    slot.exchange(object, memory_order_acq_rel);
  }
}
inline void release(hazard_slot& slot, bool one_sided = hazard_mode::is_one_sided()) noexcept {
  if (one_sided) [[likely]] {
    slot.store(nullptr, platform::order(rule::emptied_slot_releases, memory_order_release));
  } else {
    slot.exchange(nullptr, platform::order(rule::emptied_slot_releases, memory_order_acq_rel));
  }
}

/// The process's records, and the objects that could not be freed yet.
class SINGLEFLIGHT_SHARED_STATE hazard_domain final : fork_member {
 public:
  static hazard_domain& instance() {
    static constinit platform::one_per_process<hazard_domain> one;
    return one.get([] { return std::make_unique<hazard_domain>(); });
  }
  hazard_domain() noexcept : fork_member(rank::last) {
    hazard_mode::one_sided.store(platform::ask_for_barrier(), memory_order_relaxed);
    enter_forks();
  }
  ~hazard_domain() { leave_forks(); }

  /// Throws std::bad_alloc.
  hazard_record& take();
  void give_back(hazard_record& record) noexcept {
    platform::unique_lock hold(lock_);
    record.taken = false;
  }

  /// Drops the structure's reference on each object of `list`, linked by `next`, none of which is
  /// found any more: now, or in a later call, once the handle that protects it has been dropped.
  /// Holds the lock for some of them at a time.
  void reclaim(reclaimable* list) noexcept;
  /// Puts the objects of one list, linked by `next`, in front of another.
  static void append(reclaimable* more, reclaimable*& list) noexcept;

 private:
  static constexpr int most_refusals =
      8;  ///< consecutive; fewer may be due to a shortage of memory
  static constexpr std::chrono::milliseconds grace{2};  ///< H5: a thousand times what is needed

  /// So many objects are looked up among what the slots protect while the lock is held: a tenth of
  /// a millisecond. Each time costs a barrier.
  static constexpr int most_at_once = 2048;

  void reclaim_some(reclaimable* list) noexcept;
  /// H5: takes `fresh`, and returns what has now waited for the grace period.
  reclaimable* after_grace(reclaimable* fresh) noexcept;
  /// Collects what the slots protect, sorted.
  void scan() noexcept;
  bool held(reclaimable* object) const noexcept;

  // ---- fork -------------------------------------------------------------------------------------

  SINGLEFLIGHT_COLD void hold() noexcept override { lock_.lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { lock_.unlock(); }
  SINGLEFLIGHT_BODY void repair() noexcept override;

  platform::mutex lock_;
  hazard_record* records_ = nullptr;
  std::size_t count_ = 0;
  reclaimable* kept_ = nullptr;
  int refusals_ = 0;  // of the barrier, consecutive
  bool graceful_ = false;
  reclaimable* gathering_ = nullptr;  // this and the next: while graceful_
  reclaimable* waiting_ = nullptr;    // all of it since waiting_since_, or longer
  steady_time waiting_since_{};
  std::vector<reclaimable*> scanned_;
};

struct SINGLEFLIGHT_SHARED_STATE hazard_thread {
  hazard_record* record = nullptr;
  bool ended = false;  ///< code that runs later in the thread's end has no record
};

void give_hazard_record_back() noexcept;

hazard_record* take_hazard_record(hazard_thread& self) noexcept;

/// Returns the calling thread's record; null at the thread's end, or if there is no memory for one.
inline hazard_record* this_hazard_record() noexcept {
  auto& self = platform::per_thread<hazard_thread>();
  if (self.record == nullptr) [[unlikely]] {
    return take_hazard_record(self);
  }
  return self.record;
}

/// How a handle holds an object: by a slot, or by a count. Move-only; copies are counted.
class hazard_hold {
 public:
  hazard_hold() noexcept = default;
  /// Holds `object` by a slot that already protects it, or, if that is null, by a reference of the
  /// caller's.
  hazard_hold(reclaimable& object, hazard_slot* slot) noexcept : object_(&object), slot_(slot) {}
  hazard_hold(hazard_hold&& other) noexcept
      : object_(std::exchange(other.object_, nullptr)), slot_(other.slot_) {}
  hazard_hold& operator=(hazard_hold&& other) noexcept {
    if (this != &other) {
      drop();
      object_ = std::exchange(other.object_, nullptr);
      slot_ = other.slot_;
    }
    return *this;
  }
  ~hazard_hold() { drop(); }

  reclaimable* object() const noexcept { return object_; }
  /// Returns another hold, which is counted.
  hazard_hold share() const noexcept {
    if (object_ == nullptr) return {};
    object_->add_reference();
    return {*object_, nullptr};
  }
  /// Exchanges the slot for a count, for a handle that is kept for longer than a call.
  void count() noexcept {
    if (object_ == nullptr || slot_ == nullptr) return;
    platform::in_order(  // H4
        rule::counted_before_released, [this] { object_->add_reference(); },
        [this] { leave_slot(); });
  }

 private:
  SINGLEFLIGHT_COLD static void reclaim_kept() noexcept {
    hazard_domain::instance().reclaim(nullptr);
  }
  void drop() noexcept {
    if (object_ == nullptr) return;
    if (slot_ != nullptr) [[likely]] {
      leave_slot();
    } else {
      drop_reference(*object_);
    }
  }
  SINGLEFLIGHT_NOINLINE static void drop_reference(reclaimable& object) noexcept {
    object.drop_reference();
  }
  void leave_slot() noexcept {
    const bool left = object_->place.load(memory_order_relaxed) == reclaimable::left;
    detail::release(*std::exchange(slot_, nullptr));
    // The object may be kept for this slot alone. (If it is removed between the two steps above, it
    // is kept until the next reclaim.)
    if (left && platform::holds(rule::last_handle_reclaims)) [[unlikely]] {
      reclaim_kept();
    }
  }

  reclaimable* object_ = nullptr;
  hazard_slot* slot_ = nullptr;  // null if counted
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/cache/impl/hazard.hpp"
#endif
