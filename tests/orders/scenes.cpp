// SPDX-License-Identifier: Apache-2.0

// A scene must not order its threads by anything but the rule that it claims. So the threads meet
// at relaxed flags, which ThreadSanitizer does not count as an edge, and whatever takes a lock when
// a thread begins or ends is kept out of the scene (side_by_side).

#include "orders/scenes.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include <singleflight/cache/loading_cache.hpp>
#include <singleflight/flight.hpp>
#include <singleflight/sync/semaphore.hpp>

namespace orders {
namespace {

using singleflight::any_executor;
using singleflight::flight;
using singleflight::flight_context;
using singleflight::flight_errc;
using singleflight::group;
using singleflight::permit;
using singleflight::semaphore;
using singleflight::shared_result;
using singleflight::task;
using singleflight::thread_pool;
using singleflight::detail::counter;
using singleflight::detail::flight_stats;
using singleflight::detail::flight_table;
namespace rule = singleflight::detail::rule;
using singleflight::detail::sleeper;
using singleflight::detail::word_lock;

void require(bool what, const char* message) {
  if (what) return;
  std::fprintf(stderr, "orders: %s\n", message);
  std::abort();
}

/// Waits until `come()` is true, without an edge; aborts when that takes too long. It naps: on a
/// busy machine a thread that spins would fill ThreadSanitizer's history of it, and ThreadSanitizer
/// reports no race of which it no longer has both sides.
template <class Come>
void await(Come&& come) {
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  for (int turn = 0; !come(); ++turn) {
    require(std::chrono::steady_clock::now() < patience, "a scene waits in vain");
    if (turn < 100) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
}

/// Signals that something has happened, without ordering anything. It shares no eight bytes with
/// what a scene guards: ThreadSanitizer remembers four accesses of these, and a thread that awaits
/// a flag on a busy machine makes very many.
class alignas(64) flag {
 public:
  void raise() noexcept { up_.store(true, std::memory_order_relaxed); }
  void await() const {
    orders::await([this] { return up_.load(std::memory_order_relaxed); });
  }

 private:
  std::atomic<bool> up_{false};
};

/// Runs both concurrently. A thread's index and slots are handed out and returned under locks: here
/// before either function begins, and after both have ended.
template <class First, class Second>
void side_by_side(First&& first, Second&& second) {
  std::atomic<int> begun{0};
  std::atomic<int> ended{0};
  const auto arrive = [](std::atomic<int>& at) {
    at.fetch_add(1, std::memory_order_relaxed);
    await([&at] { return at.load(std::memory_order_relaxed) == 2; });
  };
  const auto act = [&](auto& what) {
    (void)singleflight::detail::thread_index(singleflight::detail::this_thread());
    (void)singleflight::detail::this_hazard_record();
    arrive(begun);
    what();
    arrive(ended);
  };
  std::thread a([&] { act(first); });
  std::thread b([&] { act(second); });
  a.join();
  b.join();
}

// ---- permits ------------------------------------------------------------------------------------

// A holder's effects are seen by the next holder, though neither had to queue.
void permit_to_permit() {
  semaphore all(1);
  int guarded = 0;
  flag returned;
  side_by_side(
      [&] {
        {
          const permit mine = all.acquire();
          guarded = 1;
        }
        returned.raise();
      },
      [&] {
        returned.await();
        const permit mine = all.acquire();
        require(guarded == 1, "a permit was given with nothing done under it");
      });
}

// A thread that is notified sees what the notifying thread did before.
void notified_thread() {
  alignas(64) std::atomic<sleeper*> asleep{nullptr};
  const std::stop_token nothing;
  int guarded = 0;
  flag over;
  side_by_side(
      [&] {
        sleeper me(singleflight::default_timer(), std::chrono::steady_clock::time_point::max(),
                   nothing);
        asleep.store(&me, std::memory_order_release);  // orders the other direction only
        me.sleep();
        require(guarded == 1, "a thread was notified before the write");
        over.raise();
      },
      [&] {
        await([&] { return asleep.load(std::memory_order_acquire) != nullptr; });
        guarded = 1;
        sleeper::wake(asleep.load(std::memory_order_relaxed)->tell());
        over.await();
      });
}

// When a handle is ready, the last holder's effects are visible.
void permit_is_ready() {
  semaphore all(1);
  int guarded = 0;
  std::optional<permit> held(all.acquire());
  auto place = all.start_acquire();
  side_by_side(
      [&] {
        guarded = 1;
        held.reset();
      },
      [&] {
        await([&] { return place.ready(); });
        require(guarded == 1, "a permit was given with nothing done under it");
      });
}

// ---- locks --------------------------------------------------------------------------------------

void two_holders() {
  word_lock lock;
  int guarded = 0;
  flag held;
  const auto count = [&] {
    lock.lock();
    held.raise();
    ++guarded;
    std::this_thread::yield();
    lock.unlock();
  };
  side_by_side(count, [&] {
    held.await();  // mostly into a lock that is held
    count();
  });
  require(guarded == 2, "a lock had two holders at a time");
}

// ---- one leader after the other -----------------------------------------------------------------

/// Both leaders enter and leave by one compare-exchange.
void leader_after_leader() {
  group<int, int> g;
  int loaded = 0;
  flag ended;
  const auto load = [&] { return ++loaded; };
  side_by_side(
      [&] {
        (void)g.run(1, load);
        ended.raise();
      },
      [&] {
        ended.await();
        require(*g.run(1, load) == 2, "the second load did not see the first");
      });
}

/// The joiner reads hash and key of a node that the leader made on its stack.
void joiner_meets_leader() {
  group<int, int> g;
  flag inside;
  side_by_side(
      [&] {
        (void)g.run(1, [&](const flight_context& context) {
          inside.raise();
          await([&] { return context.callers() == 2; });
          return 1;
        });
      },
      [&] {
        inside.await();
        require(*g.run(1, [] { return 2; }) == 1, "the joiner led");
      });
}

/// The second call's node occupies the memory of the first call's, which another thread has read.
void node_is_used_again() {
  group<int, int> g;
  flag inside;
  flag seen;
  side_by_side(
      [&] {
        for (int call = 0; call < 2; ++call) {
          (void)g.run(call, [&] {
            if (call == 0) {
              inside.raise();
              seen.await();
            }
            return 1;
          });
        }
      },
      [&] {
        inside.await();
        require(g.in_flight().size() == 1, "the flight is not there");
        seen.raise();
      });
}

// ---- the end of a flight ------------------------------------------------------------------------

/// A caller that is notified of the end reads what the load wrote. It never sleeps: sleepers that
/// the end wakes are notified under the lock.
void outcome_is_found() {
  thread_pool pool({.max_threads = 1});
  group<int, int> g({.executor = pool});
  int written = 0;
  flight<int> handle = g.start(1, [&] { return written = 1; });
  await([&] { return handle.ready(); });
  require(written == 1, "the load's effect is not there");
}

/// The same for a thread that sleeps, or is about to sleep.
void outcome_wakes() {
  thread_pool pool({.max_threads = 1});
  group<int, int> g({.executor = pool});
  int written = 0;
  flag waiting;
  flight<int> handle = g.start(1, [&] {
    waiting.await();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return written = 1;
  });
  waiting.raise();
  handle.wait();
  require(written == 1, "the load's effect is not there");
}

// ---- blocks -------------------------------------------------------------------------------------

/// The joiner makes the block; the load queries its context meanwhile, and so uses it. The joiner
/// has made its counters before, since who reads them acquires that.
template <auto Ask>
void load_meets_block() {
  group<int, int> g;
  flag inside;
  side_by_side(
      [&] {
        (void)g.run(1, [&](const flight_context& context) {
          inside.raise();
          await([&] { return g.stats().joined == 1; });
          require(Ask(context), "the load does not know its flight");
          return 1;
        });
      },
      [&] {
        (void)g.run(2, [] { return 2; });
        inside.await();
        (void)g.run(1, [] { return 2; });
      });
}
bool counts_callers(const flight_context& context) { return context.callers() == 2; }
bool has_no_deadline(const flight_context& context) {
  return context.deadline() == std::chrono::steady_clock::time_point::max();
}
bool can_be_stopped(const flight_context& context) { return context.stop_token().stop_possible(); }

/// Two results share a block; the first reads the value, the last deletes it.
void last_owner_deletes() {
  std::vector<task> queue;
  group<int, int> g({.executor = [&queue](task t) { queue.push_back(std::move(t)); }});
  flight<int> one = g.start(1, [] { return 7; });
  flight<int> other = g.start(1, [] { return 8; });
  for (task& t : queue) t();
  queue.clear();
  std::optional<shared_result<int>> first(one.get());
  std::optional<shared_result<int>> last(other.get());
  flag dropped;
  side_by_side(
      [&] {
        require(**first == 7, "not the flight's value");
        first.reset();
        dropped.raise();
      },
      [&] {
        dropped.await();
        last.reset();
      });
}

// ---- the table ----------------------------------------------------------------------------------

/// The growth is over, or has begun and has moved the first buckets.
template <auto Use, bool Over = true>
void table_grows() {
  flight_table table;
  flag grown;
  side_by_side(
      [&] {
        do {
          table.grow();
        } while (Over && table.crowded());
        grown.raise();
      },
      [&] {
        grown.await();
        Use(table);
      });
}
void look_up(flight_table& table) { flight_table::unlock(table.lock(~std::size_t{0})); }
void finish_growth(flight_table& table) {
  while (table.crowded()) table.grow();
}
void ask_for_size(flight_table& table) { require(!table.crowded(), "an empty table is crowded"); }
void visit_all(flight_table& table) {
  int heads = 0;
  table.each([&heads](flight_table::head& at) {
    ++heads;
    const flight_table::bucket bucket = flight_table::lock_at(at);
    flight_table::unlock(bucket);
    return !bucket.has_moved();
  });
  require(heads > 0, "a table without buckets");
}
void grow_again(flight_table& table) { table.grow(); }

// ---- executors ----------------------------------------------------------------------------------

/// Two owners of one executor; the first uses it, the last deletes it.
void last_executor_deletes() {
  std::optional<any_executor> first(std::in_place, [uses = 0](task t) mutable {
    if (++uses == 1) t();
  });
  std::optional<any_executor> last(first);
  flag dropped;
  side_by_side(
      [&] {
        first->execute(task([] {}));
        first.reset();
        dropped.raise();
      },
      [&] {
        dropped.await();
        last.reset();
      });
}

// ---- counters -----------------------------------------------------------------------------------

/// Each of the first eight threads makes counters for itself; the ninth makes those of eight.
template <auto Use>
void chunk_is_made() {
  flight_stats stats;
  alignas(64) std::atomic<int> arrived{0};
  flag over;
  std::vector<std::thread> early;
  for (int i = 0; i < 8; ++i) {
    early.emplace_back([&] {
      stats.add_error(flight_errc::closed);  // gives this thread its index
      arrived.fetch_add(1, std::memory_order_relaxed);
      over.await();
    });
  }
  await([&] { return arrived.load(std::memory_order_relaxed) == 8; });
  flag made;
  side_by_side(
      [&] {
        stats.add_error(flight_errc::closed);
        made.raise();
      },
      [&] {
        made.await();
        Use(stats);
      });
  over.raise();
  for (std::thread& t : early) t.join();
}

void sum(flight_stats& stats) {
  const auto closed =
      static_cast<std::size_t>(counter::errors) + static_cast<std::size_t>(flight_errc::closed);
  require(stats.totals()[closed] == 9, "a thread was not counted");
}
void count(flight_stats& stats) { stats.add_error(flight_errc::closed); }

// ---- the entries of a cache ---------------------------------------------------------------------

using store = singleflight::detail::entry_store<
    int, int,
    singleflight::detail::key_access<int, singleflight::key_hash<int>, singleflight::key_equal>,
    singleflight::key_equal>;

struct entries {
  entries() : all(options, times, {}) {}

  static store::entry& make(int key) {
    return store::entry::make(false, 1, 0, singleflight::detail::entry_kind::value, int{key},
                              int{key});
  }
  void put(int key) {
    store::entry& e = make(key);
    const singleflight::detail::hazard_hold mine(e, nullptr);
    singleflight::detail::removed_entries removed;
    {
      const std::lock_guard hold(all.lock());
      all.store_locked(e, all.find_locked(e.hash, e.key()), 0, removed);
    }
    finish(removed);
  }
  void remove(int key) {
    singleflight::detail::removed_entries removed;
    {
      const std::lock_guard hold(all.lock());
      all.remove_locked(*all.find_locked(1, key), singleflight::removal_cause::invalidated,
                        removed);
    }
    finish(removed);
  }
  void finish(singleflight::detail::removed_entries& removed) { all.finish(removed); }
  void read(int key) {
    const store::found f = all.find(1, key);
    require(f && f.entry->value == key, "not the entry's value");
  }
  void glance(int key) {
    const auto seen = all.glance(1, key);
    require(seen.entry != nullptr && seen.entry->value == key, "not the entry's value");
    singleflight::detail::release(*seen.slot);
  }

  const singleflight::cache_options<int, int> options{};
  const singleflight::detail::lifetimes times{options, false};
  store all;
};

/// With the barrier in all threads, or as if there were one: no scene tests that race.
struct mode {
  explicit mode(bool one_sided) {
    (void)singleflight::detail::hazard_domain::instance();
    singleflight::detail::hazard_mode::one_sided.store(one_sided, std::memory_order_relaxed);
  }
  mode(const mode&) = delete;
  mode& operator=(const mode&) = delete;
  ~mode() { singleflight::detail::hazard_mode::one_sided.store(false, std::memory_order_relaxed); }
};

/// The last reader has released the entry; the thread that removes the entry frees it.
template <bool OneSided>
void reader_then_reclaimer() {
  const mode by(OneSided);
  entries e;
  e.put(1);
  flag dropped;
  side_by_side(
      [&] {
        e.read(1);
        dropped.raise();
      },
      [&] {
        dropped.await();
        e.remove(1);
        e.all.flush();
      });
}

/// One thread's handle is dropped by another; the first then finds the slot free and reuses it.
void slot_is_used_again() {
  const mode by(true);
  entries e;
  e.put(1);
  e.put(2);
  store::found handle;
  alignas(64) std::atomic<bool> found{false};
  flag dropped;
  side_by_side(
      [&] {
        handle = e.all.find(1, 1);
        found.store(true, std::memory_order_release);  // orders the other direction only
        dropped.await();
        const store::found other = e.all.find(1, 2);
        e.remove(1);
        e.all.flush();
      },
      [&] {
        await([&] { return found.load(std::memory_order_acquire); });
        require(handle.entry->value == 1, "not the entry's value");
        handle = {};
        dropped.raise();
      });
}

/// Two owners; the first reads, the last frees.
void last_entry_owner_frees() {
  store::entry& e = entries::make(1);
  std::optional<singleflight::detail::hazard_hold> last(std::in_place, e, nullptr);
  std::optional<singleflight::detail::hazard_hold> first(last->share());
  flag dropped;
  side_by_side(
      [&] {
        require(e.value == 1, "not the entry's value");
        first.reset();
        dropped.raise();
      },
      [&] {
        dropped.await();
        last.reset();
      });
}

constexpr auto find = &entries::read;
constexpr auto glance = &entries::glance;

/// A reader takes no lock: the entry that it finds was made by the thread that stored it.
template <int Key, int Before, auto Read>
void entry_is_found() {
  entries e;
  for (int key = 1; key <= Before; ++key) e.put(key);
  flag stored;
  side_by_side(
      [&] {
        e.put(Key);
        stored.raise();
      },
      [&] {
        stored.await();
        (e.*Read)(Key);
      });
}
constexpr int full = 22;  // this many entries fill the first lines

/// The same where the table grows: a search finds an entry that was there before, a glance the one
/// that the new lines begin with. Without the barrier, the reclaimer's look at the reader's slot
/// would be an edge as well.
template <int Key, auto Read>
void entry_is_found_in_grown_table() {
  const mode by(true);
  entries e;
  for (int key = 1; key <= full; ++key) e.put(key);
  flag grown;
  side_by_side(
      [&] {
        e.put(full + 1);
        grown.raise();
      },
      [&] {
        grown.await();
        (e.*Read)(Key);
      });
}

/// One thread removes an entry, another reclaims it.
void removed_is_reclaimed() {
  entries e;
  e.put(1);
  flag left;
  side_by_side(
      [&] {
        e.remove(1);
        left.raise();
      },
      [&] {
        left.await();
        e.all.flush();
      });
}

constexpr scene scenes[] = {
    {rule::unlock_releases, "two holders of a lock", two_holders},
    {rule::lock_acquires, "two holders of a lock", two_holders},
    {rule::enter_releases, "a joiner meets a leader", joiner_meets_leader},
    {rule::enter_acquires, "a leader after a leader", leader_after_leader},
    {rule::leave_releases, "a leader after a leader", leader_after_leader},
    {rule::leave_acquires, "a node is used again", node_is_used_again},
    {rule::end_releases, "an outcome is found", outcome_is_found},
    {rule::waiter_acquires, "an outcome is found", outcome_is_found},
    {rule::waiter_acquires, "an outcome wakes", outcome_wakes},
    {rule::attach_releases, "a load counts its callers", load_meets_block<counts_callers>},
    {rule::context_acquires, "a load counts its callers", load_meets_block<counts_callers>},
    {rule::context_acquires, "a load asks for its deadline", load_meets_block<has_no_deadline>},
    {rule::context_acquires, "a load asks for its token", load_meets_block<can_be_stopped>},
    {rule::drop_releases, "the last owner deletes", last_owner_deletes},
    {rule::last_drop_acquires, "the last owner deletes", last_owner_deletes},
    {rule::growth_releases, "a look-up in a grown table", table_grows<look_up>},
    {rule::locate_acquires, "a look-up in a grown table", table_grows<look_up>},
    {rule::locate_acquires, "the size of a grown table", table_grows<ask_for_size>},
    {rule::locate_acquires, "a walk through a grown table", table_grows<visit_all>},
    {rule::locate_acquires, "a grown table grows", table_grows<grow_again>},
    {rule::growth_releases, "a growth that another thread ends", table_grows<finish_growth, false>},
    {rule::locate_acquires, "a growth that another thread ends", table_grows<finish_growth, false>},
    {rule::executor_drop_releases, "the last owner of an executor", last_executor_deletes},
    {rule::last_executor_drop_acquires, "the last owner of an executor", last_executor_deletes},
    {rule::take_acquires, "a permit after a permit", permit_to_permit},
    {rule::give_releases, "a permit after a permit", permit_to_permit},
    {rule::notified_acquires, "a thread is notified", notified_thread},
    {rule::notify_releases, "a thread is notified", notified_thread},
    {rule::settled_acquires, "a permit is ready", permit_is_ready},
    {rule::settle_releases, "a permit is ready", permit_is_ready},
    {rule::sole_owner_acquires, "the last owner of an entry", last_entry_owner_frees},
    {rule::owner_drop_releases, "the last owner of an entry", last_entry_owner_frees},
    {rule::emptied_slot_releases, "a reader, then a reclaimer", reader_then_reclaimer<false>},
    {rule::scan_acquires, "a reader, then a reclaimer", reader_then_reclaimer<false>},
    {rule::emptied_slot_releases, "a reader, then a reclaimer's barrier",
     reader_then_reclaimer<true>},
    {rule::scan_acquires, "a reader, then a reclaimer's barrier", reader_then_reclaimer<true>},
    {rule::free_slot_acquires, "a slot is used again", slot_is_used_again},
    {rule::entry_releases, "an entry is found", entry_is_found<1, 0, find>},
    {rule::find_acquires, "an entry is found", entry_is_found<1, 0, find>},
    {rule::find_acquires, "an entry is found at a glance", entry_is_found<1, 0, glance>},
    {rule::entry_releases, "an entry that replaces another", entry_is_found<1, 1, find>},
    {rule::find_acquires, "an entry that replaces another", entry_is_found<1, 1, find>},
    {rule::find_acquires, "a replacing entry, at a glance", entry_is_found<1, 1, glance>},
    {rule::table_releases, "an entry in a grown table", entry_is_found_in_grown_table<1, find>},
    {rule::table_acquires, "an entry in a grown table", entry_is_found_in_grown_table<1, find>},
    {rule::table_acquires, "a grown table, at a glance",
     entry_is_found_in_grown_table<full + 1, glance>},
    {rule::removed_releases, "a removed entry is reclaimed", removed_is_reclaimed},
    {rule::removed_acquires, "a removed entry is reclaimed", removed_is_reclaimed},
    {rule::stripes_release, "a sum over new counters", chunk_is_made<sum>},
    {rule::stripes_acquire, "a sum over new counters", chunk_is_made<sum>},
    {rule::stripes_acquire, "a count in new counters", chunk_is_made<count>},
};

}  // namespace

std::span<const scene> all() { return scenes; }

}  // namespace orders
