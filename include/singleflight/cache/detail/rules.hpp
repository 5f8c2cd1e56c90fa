// SPDX-License-Identifier: Apache-2.0
#pragma once

// The rules that the promises of this floor rest on (core/support/rules.hpp).

#include "singleflight/core/support/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

// X(rule, what breaks without it)
#define SINGLEFLIGHT_CACHE_RULES(X)                                                                \
  X(found_is_confirmed, "a reader uses an entry that was removed before it was protected")         \
  X(held_is_kept, "an entry is freed while a reader uses it")                                      \
  X(left_table_is_emptied, "a search of lines that clear has left finds an entry that is freed")   \
  X(forgotten_is_not_stored, "a load stores a value that is older than an invalidation")           \
  X(invalidation_forgets_flight, "a later caller joins a load that began before an invalidation")  \
  X(put_forgets_flight, "a load overwrites a value that was put after it began")                   \
  X(clear_forgets_flights, "a load that began before a clear is stored after it")                  \
  X(filter_forgets_flights, "a load that began before invalidate_if is stored after it")           \
  X(cleared_before_forgotten, "a load serves what it found while the cache was cleared")           \
  X(filter_forgets_finders, "a load serves what it found while invalidate_if removed it")          \
  X(forgotten_error_is_not_stored, "a load stores an error that is older than an invalidation")    \
  X(table_is_confirmed, "a reader searches a table that was freed before it was protected")        \
  X(overtaken_search_repeats, "a search does not find what was moved as the table grew")           \
  X(source_is_confirmed, "a reader searches a source that was freed before it was protected")      \
  X(source_is_searched_first, "a search does not find what moves from the source meanwhile")       \
  X(moved_is_put_first, "an entry is in neither array for a while as it moves")                    \
  X(search_sees_moves, "a search does not find an entry that moves home meanwhile")                \
  X(entry_never_displaces_itself, "an entry that was removed is still found")                      \
  X(displacement_raises_moves, "a search does not find an entry that is displaced meanwhile")      \
  X(counted_before_released, "an entry is freed while its reader exchanges a slot for a count")    \
  X(last_handle_reclaims, "an entry that was kept for a handle stays when that is dropped")        \
  X(newcomer_is_stamped, "a load stores a second entry for a key that was just stored")            \
  X(load_looks_again, "a late call loads again what was just stored")                              \
  X(refused_barrier_is_replaced, "once the barrier is refused, nothing is freed any more")         \
  X(nothing_ends_within_a_load,                                                                    \
    "a value is destroyed within the load that its destructor waits for")                          \
  X(late_comer_sees_failure, "a late call loads again what has just failed")                       \
  X(claim_spares_failure, "a hit on a value that is due discards that its load has just failed")   \
  X(store_needs_sweep, "an entry that is stored as a sweep ends is never swept")                   \
  X(stop_waits_for_sweep, "a sweep runs in a cache that was destroyed")                            \
  X(stop_waits_for_arming, "a sweep's alarm is armed for a cache that was destroyed")              \
  X(stopped_sweep_stays, "a sweep is posted, or armed, for a cache that was destroyed")            \
  X(sweep_ends_before_flights, "a sweep's listener calls a cache that is being destroyed")         \
  X(overtaken_is_not_shown, "a load replaces a value that was set, or loaded, after it began")     \
  X(replaced_is_compared_again, "a change replaces a version that it was not compared with")       \
  X(one_task_notifies, "two tasks call one listener concurrently")                                 \
  X(task_holds_listeners, "the task that calls listeners runs after the value was destroyed")      \
  X(removal_moves_cursor, "a listener whose subscription has ended is called for the next change") \
  X(removal_waits_for_call, "a listener runs after its subscription has ended")                    \
  X(listener_may_end_itself, "a listener that ends itself waits for itself")                       \
  X(new_listener_skips_past, "a listener is called for a change from before it was added")         \
  X(changes_are_bounded, "a listener that hangs keeps every version alive")                        \
  X(end_waits_for_notifier, "a listener runs after its value was destroyed")                       \
  X(end_waits_for_report, "an error is reported to a value that was destroyed")                    \
  X(late_report_is_dropped, "a report begins for a value that was destroyed")                      \
  X(parents_ticket_is_void, "a change is delivered on two threads of a child at once")             \
  X(cut_turn_is_dropped, "a child arms the alarm of a schedule that is armed")

// X(order, what breaks without it)
#define SINGLEFLIGHT_CACHE_ORDER_RULES(X)                                                 \
  X(sole_owner_acquires, "the last owner frees an entry that others still use")           \
  X(owner_drop_releases, "an owner's use of an entry does not end before its deletion")   \
  X(emptied_slot_releases, "a reader's use of an entry does not end before its deletion") \
  X(scan_acquires, "an entry is freed that its last reader still uses")                   \
  X(free_slot_acquires, "a reused slot loses the release of the thread that emptied it")  \
  X(entry_releases, "an entry is found before it is complete")                            \
  X(find_acquires, "a reader does not see the contents of an entry")                      \
  X(table_releases, "new lines are found before they are complete")                       \
  X(table_acquires, "new lines are searched before they are complete")                    \
  X(removed_releases, "an entry is reclaimed before its removal is complete")             \
  X(removed_acquires, "an entry is reclaimed by a thread that does not see its removal")

namespace rule {
enum cache_rules : rule_id {
  first_of_cache = 3000,
#define SINGLEFLIGHT_RULE(name, what) name,
  SINGLEFLIGHT_CACHE_RULES(SINGLEFLIGHT_RULE) SINGLEFLIGHT_CACHE_ORDER_RULES(SINGLEFLIGHT_RULE)
#undef SINGLEFLIGHT_RULE
};
}  // namespace rule

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
