# SPDX-License-Identifier: Apache-2.0
"""A second simulator of the lab's protections, to compare with the lab's own: an event simulation
that is as plain as possible.

A request is (time in ns, key). At each moment the loads that are over end before the requests that
arrive then. The caches here are never full and their entries expire exactly, so a log for a
comparison has fewer keys than the cache has entries, and no request within a tenth of a millisecond
of an expiry.
"""

import heapq

PROTECTIONS = ("none", "flight", "cache-alone", "cache")


class Process:
    """What one process shares: the loads that run, and the answers that are stored."""

    def __init__(self):
        self.running = {}  # key -> number of the load
        self.stored = {}  # key -> when it was stored
        self.refreshing = {}  # key -> until when no other refresh begins


# pylint: disable-next=too-many-locals
def simulate(requests, protection, load_time, ttl=0, refresh_after=0, processes=1):
    """Returns the counts of a protection. `load_time(number)` is the time in ns of the load that
    request number `number` begins; times of 0 turn a feature off."""
    fleet = [Process() for _ in range(processes)]
    ends = []  # a heap of (end, number of the load, process, key)
    counts = {"loads": 0, "joined": 0, "hits": 0, "refreshes": 0, "peak": 0}
    joins = protection in ("flight", "cache")
    stores = protection in ("cache-alone", "cache")

    def end_loads(now):
        while ends and ends[0][0] <= now:
            end, number, process, key = heapq.heappop(ends)
            if process.running.get(key) == number:
                del process.running[key]
            if stores:
                process.stored[key] = end
                process.refreshing.pop(key, None)

    def begin(number, now, process, key):
        counts["loads"] += 1
        heapq.heappush(ends, (now + load_time(number), counts["loads"], process, key))
        counts["peak"] = max(counts["peak"], len(ends))
        if joins:
            process.running[key] = counts["loads"]

    for number, (now, key) in enumerate(requests):
        end_loads(now)
        process = fleet[number % processes]
        stored = process.stored.get(key)
        if stored is not None and (ttl == 0 or now - stored < ttl):
            counts["hits"] += 1
            due = protection == "cache" and 0 < refresh_after <= now - stored
            # For a second after one refresh has begun no other one does.
            if due and process.refreshing.get(key, 0) <= now and key not in process.running:
                counts["refreshes"] += 1
                process.refreshing[key] = now + 1_000_000_000
                begin(number, now, process, key)
        elif joins and key in process.running:
            counts["joined"] += 1
        else:
            begin(number, now, process, key)
    return counts
