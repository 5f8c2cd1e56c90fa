# SPDX-License-Identifier: Apache-2.0
"""The rows of the table: what each one reads, its peer, and its target."""

from __future__ import annotations

from dataclasses import dataclass, replace

from . import UsageError

# The peer of a row that compares this tree with another commit.
OTHER_COMMIT = "the commit of --against"


@dataclass(frozen=True)
class Row:
    """One line of the table. Its figures are named side.figure, as in Scenario.round's result."""

    id: str
    group: str  # `--only 2` selects all rows of group 2
    metric: str
    unit: str
    scenario: str
    ours: str
    peer: str = ""  # its name, empty when there is none
    peer_figure: str = ""
    # How the ratio is formed: "faster" is peer/ours, "share" is ours/peer.
    ratio: str = "faster"
    # The target: at least or at most this ratio, or at least or at most this value of ours.
    min_ratio: float | None = None
    max_ratio: float | None = None
    min_value: float | None = None
    max_value: float | None = None
    # Subtracted from both sides before the ratio is formed.
    less: float = 0.0
    compiler: str = ""  # of a build-cost row

    def target(self) -> str | None:
        """The target as the table prints it."""
        if self.min_ratio is not None:
            return f">= {self.min_ratio:g}x"
        if self.max_ratio is not None:
            return f"<= {self.max_ratio:g}x"
        if self.min_value is not None:
            return f">= {self.min_value:g} {self.unit}"
        if self.max_value is not None:
            return f"<= {self.max_value:g} {self.unit}" if self.max_value else "0"
        return None

    def ratio_of(self, ours: float, peer: float) -> float:
        """The ratio of one round."""
        ours, peer = ours - self.less, peer - self.less
        above, below = (peer, ours) if self.ratio == "faster" else (ours, peer)
        return above / max(below, 1e-9)

    def meets(self, ours: float, ratio: float | None) -> bool:
        """Whether the target is met; a row without a target always meets it."""
        if self.min_ratio is not None:
            return ratio is not None and ratio >= self.min_ratio
        if self.max_ratio is not None:
            return ratio is not None and ratio <= self.max_ratio
        if self.min_value is not None:
            return ours >= self.min_value
        if self.max_value is not None:
            return ours <= self.max_value
        return True

    def compares_commits(self) -> bool:
        """Whether the peer is the commit that --against names."""
        return self.peer == OTHER_COMMIT

    def against(self, commit: str | None) -> Row:
        """This row with `commit` as its peer; without one it has neither a ratio nor a target."""
        if not self.compares_commits():
            return self
        if commit is None:
            return replace(self, peer="", peer_figure="", max_ratio=None)
        return replace(self, peer=commit)


GO = "go singleflight.Do"
GO_SEMAPHORE = "go semaphore.Weighted"
ERRGROUP = "go errgroup.Group"
FUTURE = "mutex + unordered_map<string, shared_future>"
CAFFEINE = "caffeine LoadingCache.get"
GROUPCACHE = "groupcache Group.Get"

# The traces of row 20, and the capacities, in entries, at which they are replayed.
TRACES = {
    "loop": (512,),
    "multi1": (1_000,),
    "sprite": (353, 707),
    "web07": (204, 2_048),
    "domains": (176, 1_763),
    "oltp": (1_000, 5_000, 10_000),
}
TRACE_POINTS = [(trace, capacity) for trace, sizes in TRACES.items() for capacity in sizes]

# The families of patterns of row 95, and the capacities for which they are made.
PATTERNS = ("two_skews", "phases", "dead_phase", "pinned_scan", "low_locality", "used_twice",
            "working_sets", "loop", "shuffled_loop", "back_and_forth", "all_fit")
PATTERN_CAPACITIES = (10, 50, 700, 5_000)

# The compilers of the build-cost rows, by what they add to the row's id.
COMPILERS = {"": "g++", "c": "clang++-16"}

# How the file uses the library, likewise: as a program that links singleflight::compiled, or one
# that has the headers alone. (The other commit may know the second form only.)
FORMS = {"": "compiled library", "h": "headers alone"}


def build_cost_scenario(source: str, form: str, compiler: str) -> str:
    """The name of the scenario that compiles `source` so."""
    return f"{source}, {FORMS[form]}, {compiler}"



def build_cost_rows(row_id: str, group: str, metric: str, unit: str, source: str, figure: str,
                    max_ratio: float) -> list[Row]:
    """A row for each form and compiler: what `source` costs to compile here and at the other
    commit."""
    return [Row(row_id + form + suffix, group, f"{metric}, {FORMS[form]}, {compiler}", unit,
                build_cost_scenario(source, form, compiler), f"ours.{figure}", OTHER_COMMIT,
                f"against.{figure}", ratio="share", max_ratio=max_ratio, compiler=compiler)
            for form in FORMS for suffix, compiler in COMPILERS.items()]


ROWS = [
    Row("1", "1", "run, distinct 16-byte keys, no-op load, 1 thread", "ns/call", "calls",
        "ours.alone_ns", GO, "go.alone_ns", min_ratio=4.5),
    Row("1a", "1", "the same: allocations", "per call", "calls",
        "ours.alone_allocations", GO, "go.alone_allocations", ratio="share", max_value=0),
    Row("1i", "1", "the same: instructions (callgrind)", "per call", "instructions",
        "ours.instructions"),
    Row("1s", "1", "the same, against shared_future", "ns/call", "calls",
        "ours.alone_ns", FUTURE, "future.alone_ns"),
    Row("2a", "2", "run, distinct keys, 2 threads", "ns/call", "calls",
        "ours.distinct_ns", GO, "go.distinct_ns", min_ratio=6),
    Row("2as", "2", "the same, against shared_future", "ns/call", "calls",
        "ours.distinct_ns", FUTURE, "future.distinct_ns"),
    Row("2b", "2", "run, one hot key, 2 threads", "ns/call", "calls",
        "ours.hot_ns", GO, "go.hot_ns", min_ratio=3),
    Row("2bs", "2", "the same, against shared_future", "ns/call", "calls",
        "ours.hot_ns", FUTURE, "future.hot_ns"),
    Row("3", "3", "start + co_await, no-op awaitable load, inline_executor", "ns/call", "calls",
        "ours.awaited_in_place_ns", GO, "go.alone_ns", min_ratio=2),
    Row("3a", "3", "the same: allocations, with a coroutine as load", "per call", "calls",
        "ours.awaited_allocations", GO, "go.alone_allocations", ratio="share", max_value=2),
    Row("3c", "3", "the same, with a coroutine as load", "ns/call", "calls",
        "ours.awaited_ns", GO, "go.alone_ns", min_ratio=2.5),
    Row("4", "4", "1,000,000 coroutine waiters: end of load to the last", "ns/waiter", "fan-in",
        "ours.wake_ns", "go goroutines in Do", "go.wake_ns", min_ratio=10),
    Row("5a", "5", "resident bytes per waiter, frame included", "bytes", "fan-in",
        "ours.bytes_per_waiter", "go goroutines in Do", "go.bytes_per_waiter", ratio="share",
        max_value=176),
    Row("5b", "5", "the same, with a deadline and a stop token", "bytes", "fan-in-limits",
        "ours.bytes_per_waiter", "go DoChan + context, 250,000", "go.bytes_per_waiter",
        ratio="share", max_value=256),
    Row("6", "6", "1,000,000 waiters: time to join, cold heap", "ns/waiter", "fan-in",
        "ours.join_ns", "go spawning goroutines", "go.join_ns", min_ratio=15),
    Row("7", "7", "10,000 blocked threads: end of load to the last", "ms", "blocked",
        "ours.last_ms", "futex wake-all", "futex.last_ms", ratio="share", max_ratio=1.2),
    Row("7l", "7", "the same: the leader's own return", "ms", "blocked",
        "ours.leader_ms", "futex wake-all, its caller", "futex.waker_ms", ratio="share",
        max_ratio=1.05),
    Row("8a", "8", "stampede at Go's highest rate: p99 (ratio: less the 1 ms load)", "ms",
        "stampede", "ours.p99_ms", GO, "go.p99_ms", min_ratio=8, less=1.0),
    Row("8b", "8", "stampede: highest sustained rate", "requests/s", "stampede",
        "ours.sustained", GO, "go.sustained", ratio="share", min_ratio=4),
    Row("9", "9", "semaphore: acquire + release, uncontended", "ns/pair", "semaphore",
        "ours.alone_ns", GO_SEMAPHORE, "go.alone_ns", min_ratio=2),
    Row("9a", "9", "the same: allocations", "per pair", "semaphore", "ours.alone_allocations",
        max_value=0),
    Row("9t", "9", "the same, 2 threads", "ns/pair", "semaphore",
        "ours.two_threads_ns", GO_SEMAPHORE, "go.two_threads_ns", min_ratio=1.5),
    Row("10", "10", "one release that frees 10,000 coroutines: to the last", "ns/waiter",
        "permit-fan-in", "ours.wake_ns", "goroutines in Weighted.Acquire", "go.wake_ns",
        min_ratio=8),
    Row("11a", "11", "error_group: 1,000,000 no-op tasks, 2 workers, no limit", "ns/task",
        "error-group", "ours.task_ns", ERRGROUP, "go.task_ns", min_ratio=1.5),
    Row("11b", "11", "the same, limit 64", "ns/task", "error-group-limit", "ours.task_ns",
        ERRGROUP, "go.task_ns", min_ratio=1.5),
    Row("11aa", "11", "the same, no limit: allocations", "per task", "error-group",
        "ours.allocations", max_value=0.05),
    Row("12a", "12", "batcher, 1,000 callers at once, 100 us window: backend calls", "calls",
        "batcher", "ours.calls", max_value=20),
    Row("12b", "12", "the same: p99 beyond the backend's 1 ms", "ms", "batcher",
        "ours.added_p99_ms", max_value=1.1),
    Row("13a", "13", "circuit_breaker, closed: over the bare call", "ns/call", "guards",
        "ours.breaker_overhead_ns", max_value=25),
    Row("13aa", "13", "the same: allocations", "per call", "guards",
        "ours.breaker_allocations", max_value=0),
    Row("13b", "13", "retry, first try succeeds: over the bare call", "ns/call", "guards",
        "ours.retry_overhead_ns", max_value=10),
    Row("13ba", "13", "the same: allocations", "per call", "guards",
        "ours.retry_allocations", max_value=0),
    Row("14", "14", "hit, 1,000 entries, keys are numbers, Zipf 0.99, 1 thread", "ns/call", "hits",
        "ours.hit_ns", CAFFEINE, "java.hit.alone_ns", min_ratio=1.5),
    Row("14t", "14", "the same, 2 threads", "ns/call", "hits",
        "ours.hit_two_ns", CAFFEINE, "java.hit.two_threads_ns", min_ratio=1.5),
    Row("14a", "14", "the same: allocations", "per call", "hits", "ours.hit_allocations",
        max_value=0),
    Row("14w", "14", "the same, 1 thread, in a cache that is not new", "ns/call", "hits",
        "ours.hit_worn_ns", CAFFEINE, "java.hit.alone_ns", min_ratio=1.5),
    Row("14g", "14", "hit, 1,000 entries, 16-byte keys, 1 thread", "ns/call", "hits",
        "ours.hit_text_ns", GROUPCACHE, "go.alone_ns", min_ratio=6),
    Row("14gt", "14", "the same, 16-byte keys, 2 threads", "ns/call", "hits",
        "ours.hit_text_two_ns", GROUPCACHE, "go.two_threads_ns", min_ratio=6),
    Row("15", "15", "hit with ttl and statistics, 1 thread", "ns/call", "hits",
        "ours.hit_ttl_ns", CAFFEINE, "java.hit-ttl.alone_ns", min_ratio=2.5),
    Row("15t", "15", "the same, 2 threads", "ns/call", "hits",
        "ours.hit_ttl_two_ns", CAFFEINE, "java.hit-ttl.two_threads_ns", min_ratio=2.5),
    Row("16", "16", "hit, 100,000 entries, 16-byte keys, Zipf 0.99, 1 thread", "ns/call", "hits",
        "ours.hit_many_ns", CAFFEINE, "java.hit-strings.alone_ns", min_ratio=1.5),
    Row("16t", "16", "the same, 2 threads", "ns/call", "hits",
        "ours.hit_many_two_ns", CAFFEINE, "java.hit-strings.two_threads_ns", min_ratio=1.5),
    Row("16e", "16", "the same, 1 thread, the peer's keys equal, not identical", "ns/call", "hits",
        "ours.hit_many_ns", CAFFEINE, "java.hit-strings-equal.alone_ns"),
    Row("16w", "16", "the same, 1 thread, in a cache that is not new", "ns/call", "hits",
        "ours.hit_many_worn_ns", CAFFEINE, "java.hit-strings.alone_ns", min_ratio=1.5),
    Row("16s", "16", "the same, 1 thread, looked up by std::string", "ns/call", "hits",
        "ours.hit_many_strings_ns", CAFFEINE, "java.hit-strings.alone_ns", min_ratio=1.5),
    Row("16st", "16", "the same, 2 threads", "ns/call", "hits",
        "ours.hit_many_strings_two_ns", CAFFEINE, "java.hit-strings.two_threads_ns",
        min_ratio=1.5),
    Row("17", "17", "what a ttl adds to a hit (15 less 14)", "ns/call", "hits",
        "ours.ttl_overhead_ns", max_value=2),
    Row("18", "18", "miss: no-op load, insert, evict; 10,000 entries", "ns/call", "misses",
        "ours.miss_ns", CAFFEINE, "java.miss_ns", min_ratio=1.2),
    Row("18s", "18", "the same, the peer evicts on the calling thread", "ns/call", "misses",
        "ours.miss_ns", CAFFEINE, "java.miss-same-thread.miss_ns"),
    Row("18a", "18", "the same: allocations", "per call", "misses", "ours.miss_allocations"),
    Row("19", "19", "memory besides key and value, 1,000,000 entries, one ttl", "bytes",
        "cache-memory", "ours.bytes_per_entry", max_value=44),
    Row("20", "20", "hit ratio of six traces as a share of OPT's, mean", "of OPT", "hit-ratio",
        "ours.of_opt", min_value=0.89),
    Row("20l", "20", "the same: below LRU where that is worst", "points", "hit-ratio",
        "ours.below_lru", max_value=1),
    Row("20c", "20", "the same from 8 threads: difference where that is worst", "points",
        "hit-ratio", "ours.eight_worst", max_value=0.5),
    Row("20cm", "20", "the same from 8 threads: difference of the means", "points", "hit-ratio",
        "ours.eight_mean"),
    *(Row(f"20.{n}", "20", f"hit ratio, {trace}, {capacity:,} entries", "%", "hit-ratio",
          f"ours.{trace}_{capacity}", "OPT", f"opt.{trace}_{capacity}", ratio="share")
      for n, (trace, capacity) in enumerate(TRACE_POINTS, 1)),
    Row("95l", "95", "patterns: below LRU where that is worst", "points", "hit-patterns",
        "ours.below_lru", max_value=1),
    Row("95w", "95", "six traces with weights: hit ratio, mean", "%", "hit-ratio",
        "ours.weighted", "LRU", "lru.weighted", ratio="share"),
    Row("95b", "95", "the same: hit weight", "%", "hit-ratio", "ours.weight", "LRU", "lru.weight",
        ratio="share"),
    *(Row(f"95.{n}{suffix}", "95", f"hit ratio, {pattern.replace('_', ' ')}", "%", "hit-patterns",
          f"ours.ours_{pattern}", peer, f"ours.{peer.lower()}_{pattern}", ratio="share")
      for n, pattern in enumerate(PATTERNS, 1)
      for suffix, peer in (("", "OPT"), ("l", "LRU"))),
    Row("21", "21", "10,000 coroutines as a hot key is refreshed: loads", "loads", "refresh",
        "ours.loads", max_value=1),
    Row("21s", "21", "the same: callers that were suspended", "callers", "refresh",
        "ours.suspended", max_value=0),
    Row("90", "90", "worst put as a cache grows to 4,000,000, less the machine's worst gap", "ms",
        "growth", "ours.worst_put_beyond_ms", max_value=1),
    Row("90x", "90", "the same: to 16,000,000", "ms", "growth-16m", "ours.worst_put_beyond_ms",
        max_value=1),
    Row("90m", "90", "worst miss of another thread meanwhile, less that without growth", "ms",
        "growth", "ours.worst_miss_beyond_ms"),
    Row("90c", "90", "worst put of another thread while 4,000,000 entries are cleared", "ms",
        "growth", "ours.worst_clear_ms"),
    Row("90ct", "90", "clear of 4,000,000 entries", "ms", "growth", "ours.clear_ms"),
    Row("91", "91", "put, mean, while a cache grows to 4,000,000", "ns/call", "growth",
        "ours.put_ns", CAFFEINE, "java.grow.put_ns", min_ratio=3),
    Row("91r", "91", "the same, next to a cache with a reserve", "ns/call", "growth",
        "ours.put_ns", "with reserve", "ours.reserved_ns", ratio="share", max_ratio=1.4),
    Row("92", "92", "worst start of 1,000,000 flights, less the machine's worst gap", "ms",
        "flights", "ours.worst_start_beyond_ms", max_value=1),
    Row("92c", "92", "close of 1,000,000 flights, next to ten times close of 100,000", "ms",
        "flights", "ours.close_ms", "a tenth of them", "ours.ten_closes_ms", ratio="share"),
    Row("98a", "98", "arm and cancel one of 1,000,000 alarms, next to one of 1,000", "ns/call",
        "scale", "ours.alarm_ns_many", "of 1,000", "ours.alarm_ns", ratio="share"),
    Row("98w", "98", "a wait within a load, with 1,000 recorded waits, next to none", "ns/call",
        "scale", "ours.wait_ns_many", "with none", "ours.wait_ns", ratio="share"),
    Row("98m", "98", "a miss, with 1,000 threads that have used caches, next to 1", "ns/call",
        "scale", "ours.miss_ns_many", "with 1", "ours.miss_ns", ratio="share"),
    Row("98t", "98", "stats, with 1,000 threads, next to 1", "ns/call", "scale",
        "ours.stats_ns_many", "with 1", "ours.stats_ns", ratio="share"),
    Row("98s", "98", "worst put of another thread while 4,000,000 entries expire", "ms", "scale",
        "ours.worst_sweep_ms_many"),
    Row("98i", "98", "the same while invalidate_if visits them", "ms", "scale",
        "ours.worst_filter_ms_many"),
    Row("97g", "97", "memory of a group that has made one call", "bytes", "cache-memory",
        "ours.group_bytes", max_value=2048),
    Row("97c", "97", "memory of a cache with one entry", "bytes", "cache-memory",
        "ours.one_bytes", max_value=3072),
    Row("97m", "97", "memory of each of 100,000 caches with ten entries", "bytes", "cache-memory",
        "ours.ten_bytes"),
    Row("93", "93", "destructor of a cache of 16,000,000, with free_on", "ms", "growth-16m",
        "ours.handed_ms", max_value=10),
    Row("93o", "93", "the same without it", "ms", "growth-16m", "ours.end_ms"),
    *build_cost_rows("50", "50", "to compile a group with 20 loaders, -O2", "user s",
                     "loaders", "user_s", max_ratio=0.45),
    *build_cost_rows("50b", "50b", "to compile 10 types of loading_cache, -O2", "user s",
                     "caches", "user_s", max_ratio=0.45),
    *build_cost_rows("50bt", "50b", "machine code of 10 types of loading_cache, -O2", "bytes",
                     "caches", "text_bytes", max_ratio=0.5),
    *build_cost_rows("51", "51", "machine code of a group with 20 loaders, -O2", "bytes",
                     "loaders", "text_bytes", max_ratio=0.4),
    *build_cost_rows("52", "52", "to compile flight.hpp and one call of run, -O0", "user s",
                     "one call", "user_s", max_ratio=0.6),
    Row("80", "80", "lab read, a Combined Log of 1 GB, one processor", "MB/s", "lab-reading",
        "ours.mb_per_s", min_value=400),
    Row("80w", "80", "the same, next to wc -l", "s", "lab-reading", "ours.s", "wc -l", "wc.s"),
    Row("80g", "80", "the same with 50 MB, next to goaccess", "s", "lab-reading-goaccess",
        "ours.s", "goaccess", "goaccess.s", min_ratio=8),
    Row("81", "81", "lab, 10,000,000 requests for a million keys, 4 protections", "s",
        "lab-simulation", "ours.s", max_value=10),
    Row("81m", "81", "the same: memory", "MB", "lab-simulation", "ours.peak_mb", max_value=300),
    Row("81p", "81", "the same, next to a plain simulator", "s", "lab-simulation", "ours.s",
        "simulator in Python", "python.s", min_ratio=20),
]


def select(only: str | None) -> list[Row]:
    """The rows that `--only` names, or all of them."""
    if only is None:
        return ROWS
    known = list(dict.fromkeys(row.group for row in ROWS)) + [
        row.id for row in ROWS if row.id != row.group
    ]
    named = [part.strip() for part in only.split(",")]
    for name in named:
        if name not in known:
            raise UsageError(f"--only: unknown row '{name}'; the rows are {', '.join(known)}")
    # A row whose id is its group's (1) also selects the group's other rows (1a, 1i, 1s).
    return [row for row in ROWS if row.id in named or row.group in named]
