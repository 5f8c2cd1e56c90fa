# SPDX-License-Identifier: Apache-2.0
"""The scenarios: what one round runs, and which figures it finds."""

from __future__ import annotations

import gzip
import re
import shutil
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Callable

from . import Failure, Figures, UsageError, lab
from .build_cost import OUR_HEADERS, compile_cost, compiler_path
from .programs import Programs, figures_of, run_program
from .rows import (COMPILERS, FORMS, PATTERN_CAPACITIES, TRACE_POINTS, TRACES,
                   build_cost_scenario)


class Scenario:
    """Programs that one round runs together."""

    programs: Programs
    ours: tuple[str, ...] = ()  # the C++ programs that it runs, the peers' included
    once = False  # a count rather than a time: one round is enough

    def __init__(self, programs: Programs):
        self.programs = programs

    def sides(self) -> dict[str, Callable[[], Figures]]:
        """How each side is measured: ours and the peers, by the names that the rows use."""
        raise NotImplementedError

    def needs_go(self) -> bool:
        """Whether the Go peer must be built."""
        return "go" in self.sides()

    def needs_java(self) -> bool:
        """Whether the Java peer must be built."""
        return "java" in self.sides()

    def skipped(self) -> str | None:
        """Why this cannot be measured here, where that is no failure."""
        return None

    def round(self, number: int) -> Figures:
        """Measures each side once, in alternating order; the figures are named side.figure."""
        sides = list(self.sides().items())
        if number % 2:
            sides.reverse()
        found: Figures = {}
        for name, measure in sides:
            found.update({f"{name}.{figure}": value for figure, value in measure().items()})
        return found


class Calls(Scenario):
    """Calls of run and start; Go's Do; a mutex, a map and a shared_future."""

    ours = ("group_bench", "future_group_bench")

    def sides(self):
        return {
            "ours": lambda: self.programs.google_benchmark("group_bench"),
            "go": lambda: self.programs.go("do"),
            "future": lambda: self.programs.google_benchmark("future_group_bench"),
        }


class Guards(Scenario):
    """What retry and circuit_breaker add to a call."""

    ours = ("guards_bench",)

    def sides(self):
        # The guarded call and the bare one are measured in one process.
        def overheads() -> Figures:
            found = self.programs.google_benchmark("guards_bench")
            for guard in ("breaker", "retry"):
                found[f"{guard}_overhead_ns"] = found[f"{guard}_ns"] - found["bare_ns"]
            return found

        return {"ours": overheads}


class Instructions(Scenario):
    """The instructions of one call of run, counted by callgrind."""

    ours = ("run_calls",)
    once = True
    few, many = 20_000, 120_000

    def count(self, calls: int) -> int:
        """The instructions of a process that makes so many calls."""
        valgrind = shutil.which("valgrind")
        if valgrind is None:
            raise Failure("callgrind is not installed. On Debian: apt-get install valgrind")
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "callgrind.out"
            run_program([valgrind, "--tool=callgrind", f"--callgrind-out-file={out}",
                         self.programs.ours("run_calls"), f"--calls={calls}"])
            total = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
        if total is None:
            raise Failure("callgrind reported no total")
        return int(total.group(1))

    def sides(self):
        # The difference of two runs is the calls alone, without start-up and warm-up.
        def instructions() -> Figures:
            difference = self.count(self.many) - self.count(self.few)
            return {"instructions": difference / (self.many - self.few)}

        return {"ours": instructions}


class FanIn(Scenario):
    """A million waiters on one key."""

    ours = ("fan_in_bench",)

    def sides(self):
        return {
            "ours": lambda: figures_of([self.programs.ours("fan_in_bench"), "--waiters=1000000"]),
            "go": lambda: self.programs.go("fan-in", waiters=1_000_000),
        }


class FanInLimits(Scenario):
    """Waiters on one key, each with a deadline and a stop token."""

    ours = ("fan_in_bench",)

    def sides(self):
        return {
            "ours": lambda: figures_of(
                [self.programs.ours("fan_in_bench"), "--waiters=1000000", "--limits=1"]),
            # A million of these would take more than 5 GB.
            "go": lambda: self.programs.go("fan-in-limits", waiters=250_000),
        }


class Blocked(Scenario):
    """Ten thousand threads blocked on one key, and as many on one futex."""

    ours = ("blocked_threads_bench", "futex_wake")
    # The order in which ten thousand threads are scheduled is chance: a round is a median of runs.
    runs = 5

    def round(self, number: int) -> Figures:
        ours, futex = [], []
        for i in range(self.runs):
            for name, found in (("blocked_threads_bench", ours), ("futex_wake", futex))[
                :: 1 if (i + number) % 2 == 0 else -1
            ]:
                found.append(figures_of([self.programs.ours(name), "--threads=10000"]))

        def middle(found: list[Figures], figure: str) -> float:
            return statistics.median(one[figure] for one in found)

        return {
            "ours.last_ms": middle(ours, "last_ms"),
            "ours.leader_ms": middle(ours, "leader_ms"),
            "futex.last_ms": middle(futex, "last_ms"),
            "futex.waker_ms": middle(futex, "waker_ms"),
        }

    def sides(self):
        return {}


class Semaphore(Scenario):
    """Pairs of acquire and release while permits are available."""

    ours = ("semaphore_bench",)

    def sides(self):
        return {
            "ours": lambda: self.programs.google_benchmark("semaphore_bench"),
            "go": lambda: self.programs.go("semaphore"),
        }


class PermitFanIn(Scenario):
    """One release that admits ten thousand waiters."""

    ours = ("permit_fan_in_bench",)

    def sides(self):
        return {
            "ours": lambda: figures_of([self.programs.ours("permit_fan_in_bench")]),
            "go": lambda: self.programs.go("permit-fan-in", waiters=10_000),
        }


class Stampede(Scenario):
    """Searches the highest rate that each side sustains, then measures our latency at Go's rate."""

    ours = ("stampede_bench",)
    step = 1.05
    seconds = 5.0
    completions = 0.99
    p99_ms = 100.0
    ceiling = 1e8

    def __init__(self, programs: Programs):
        super().__init__(programs)
        self.start = {"ours": 1.6e6, "go": 4e5}
        self.stride = 4  # in steps; 1 in later rounds, which begin where the last one ended

    def needs_go(self) -> bool:
        return True

    def probe(self, side: str, rate: float, seed: int) -> Figures:
        """Runs one side at one rate."""
        if side == "go":
            return self.programs.go("stampede", rate=rate, seconds=self.seconds, seed=seed)
        return figures_of([self.programs.ours("stampede_bench"), f"--rate={rate:g}",
                           f"--seconds={self.seconds:g}", f"--seed={seed}"])

    def sustained(self, found: Figures) -> bool:
        """Whether a run kept up with its arrivals."""
        return found["completed"] >= self.completions and found["p99_ms"] <= self.p99_ms

    def highest(self, side: str, seed: int) -> tuple[float, Figures]:
        """The highest rate start * step^n that is sustained, and what was measured there."""
        start = self.start[side]
        measured: dict[int, Figures] = {}

        def ok(n: int) -> bool:
            if n not in measured:
                rate = start * self.step**n
                if not 100 <= rate <= self.ceiling:
                    raise Failure(f"stampede: {side} reached {rate:g} requests/s, which is absurd")
                measured[n] = self.probe(side, rate, seed)
                if not self.sustained(measured[n]):  # once may be another process's fault
                    measured[n] = self.probe(side, rate, seed + 1000)
            return self.sustained(measured[n])

        stride = self.stride
        low, high = 0, 0
        if ok(0):
            while ok(low + stride):
                low += stride
            high = low + stride
        else:
            while not ok(low - stride):
                low -= stride
            high = low
            low -= stride
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if ok(middle) else (low, middle)
        rate = start * self.step**low
        self.start[side] = rate
        return rate, measured[low]

    def round(self, number: int) -> Figures:
        seed = 42 + number
        found: Figures = {}
        order = ["ours", "go"]
        for side in order[:: -1 if number % 2 else 1]:
            rate, at_rate = self.highest(side, seed)
            found[f"{side}.sustained"] = rate
            found[f"{side}.own_p99_ms"] = at_rate["p99_ms"]
        self.stride = 1
        found["go.p99_ms"] = found["go.own_p99_ms"]
        found["ours.p99_ms"] = self.probe("ours", found["go.sustained"], seed)["p99_ms"]
        return found

    def sides(self):
        return {}


class ErrorGroup(Scenario):
    """A million tasks that do nothing, in one group."""

    ours = ("error_group_bench",)
    limit = 0  # none

    def sides(self):
        return {
            "ours": lambda: figures_of([self.programs.ours("error_group_bench"),
                                        "--tasks=1000000", f"--limit={self.limit}"]),
            "go": lambda: self.programs.go("errgroup", tasks=1_000_000, limit=self.limit),
        }


class ErrorGroupLimit(ErrorGroup):
    """The same, with at most 64 tasks at a time."""

    limit = 64


class Batcher(Scenario):
    """A thousand callers at once through a batcher."""

    ours = ("batcher_bench",)

    def sides(self):
        return {"ours": lambda: figures_of([self.programs.ours("batcher_bench")])}


class Hits(Scenario):
    """Hits of a full cache; Caffeine's cases each run in a process of their own."""

    ours = ("hit_bench",)
    cases = ("hit", "hit-ttl", "hit-strings", "hit-strings-equal")

    def sides(self):
        def ours() -> Figures:
            found = self.programs.google_benchmark("hit_bench")
            found["ttl_overhead_ns"] = found["hit_ttl_ns"] - found["hit_ns"]
            return found

        def java() -> Figures:
            return {name: value for case in self.cases
                    for name, value in self.programs.caffeine(case).items()}

        return {"ours": ours, "java": java, "go": lambda: self.programs.go("cache")}


class Misses(Scenario):
    """Misses of a full cache whose load does nothing."""

    ours = ("miss_bench",)

    def sides(self):
        # Caffeine evicts on its pool or on the calling thread; the faster of the two counts.
        def java() -> Figures:
            found = {**self.programs.caffeine("miss"), **self.programs.caffeine("miss-same-thread")}
            return {**found, "miss_ns": min(found.values())}

        return {"ours": lambda: self.programs.google_benchmark("miss_bench"), "java": java}


class Growth(Scenario):
    """A cache that is filled from empty, cleared, and destroyed."""

    ours = ("growth_bench",)
    entries = 4_000_000

    def sides(self):
        def growth() -> Figures:
            found = figures_of([self.programs.ours("growth_bench"), f"--entries={self.entries}"])
            found["worst_put_beyond_ms"] = found["worst_put_ms"] - found["worst_gap_ms"]
            found["worst_miss_beyond_ms"] = found["worst_miss_ms"] - found["worst_idle_ms"]
            return found

        return {"ours": growth, "java": lambda: self.programs.caffeine("grow")}


class LargeGrowth(Growth):
    """The same with more entries, and without a peer, which takes too long."""

    entries = 16_000_000

    def sides(self):
        return {"ours": super().sides()["ours"]}


class Flights(Scenario):
    """A million flights of one group, and its close."""

    ours = ("flight_table_bench",)

    def sides(self):
        def flights() -> Figures:
            found = figures_of([self.programs.ours("flight_table_bench")])
            found["worst_start_beyond_ms"] = found["worst_start_ms"] - found["worst_gap_ms"]
            found["ten_closes_ms"] = 10 * found["close_tenth_ms"]
            return found

        return {"ours": flights}


class Scale(Scenario):
    """What may grow with the number of alarms, waits, threads and entries."""

    ours = ("scale_bench",)

    def sides(self):
        return {"ours": lambda: figures_of([self.programs.ours("scale_bench")])}


class CacheMemory(Scenario):
    """The bytes that a full cache has allocated."""

    ours = ("memory_bench",)
    once = True

    def sides(self):
        return {"ours": lambda: figures_of([self.programs.ours("memory_bench"),
                                            "--entries=1000000"])}


class HitRatio(Scenario):
    """Real traces, replayed through our cache, OPT and LRU."""

    ours = ("hit_ratio_bench",)
    once = True

    def trace_file(self, trace: str) -> Path:
        """The path of a trace."""
        return self.programs.traces / f"{trace}.txt.gz"

    def skipped(self) -> str | None:
        if self.programs.traces is None:
            return ("there are no traces; --traces or SINGLEFLIGHT_TRACES names their directory "
                    "(bench/README.md lists them)")
        for trace in TRACES:
            if not self.trace_file(trace).is_file():
                raise UsageError(f"--traces: there is no {self.trace_file(trace)}; --traces or "
                                 "SINGLEFLIGHT_TRACES names the directory of the traces "
                                 "(bench/README.md lists them)")
        return None

    def replay(self, trace: str, capacities: tuple[int, ...]) -> Figures:
        """The hit ratios of one trace, in percent, by cache and capacity."""
        path = self.trace_file(trace)
        try:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                requests = file.read()
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise Failure(f"{path} cannot be read: {error}") from error
        return figures_of([self.programs.ours("hit_ratio_bench"),
                           f"--capacities={','.join(map(str, capacities))}"], given=requests)

    def round(self, number: int) -> Figures:
        replayed = {trace: self.replay(trace, capacities) for trace, capacities in TRACES.items()}

        def column(name: str) -> list[float]:
            return [replayed[trace][f"{name}_{capacity}"] for trace, capacity in TRACE_POINTS]

        ours, eight, opt, lru = map(column, ("ours", "eight", "opt", "lru"))
        by_weight = {name: statistics.mean(column(name))
                     for name in ("weighted", "weighted_lru", "weight", "weight_lru")}
        found: Figures = {
            "ours.of_opt": statistics.mean(a / b for a, b in zip(ours, opt)),
            "ours.below_lru": max(b - a for a, b in zip(ours, lru)),
            "ours.eight_worst": max(abs(a - b) for a, b in zip(ours, eight)),
            "ours.eight_mean": abs(statistics.mean(ours) - statistics.mean(eight)),
            "ours.weighted": by_weight["weighted"], "lru.weighted": by_weight["weighted_lru"],
            "ours.weight": by_weight["weight"], "lru.weight": by_weight["weight_lru"],
        }
        for (trace, capacity), a, b in zip(TRACE_POINTS, ours, opt):
            found[f"ours.{trace}_{capacity}"] = a
            found[f"opt.{trace}_{capacity}"] = b
        return found

    def sides(self):
        return {}


class HitPatterns(Scenario):
    """Generated patterns of requests, replayed through a cache, OPT and LRU."""

    ours = ("hit_ratio_bench",)
    once = True

    def sides(self):
        capacities = ",".join(map(str, PATTERN_CAPACITIES))
        return {"ours": lambda: figures_of([self.programs.ours("hit_ratio_bench"), "--patterns=1",
                                            f"--capacities={capacities}"])}


class Refresh(Scenario):
    """Ten thousand callers of one key while it is refreshed."""

    ours = ("refresh_bench",)

    def sides(self):
        return {"ours": lambda: figures_of([self.programs.ours("refresh_bench")])}


class BuildCost(Scenario):
    """One file of bench/build_cost, compiled with our headers and with those of another commit."""

    def __init__(self, programs: Programs, source: str, options: tuple[str, ...], form: str,
                 compiler: str):
        super().__init__(programs)
        self.source = source
        self.options = options if form == "h" else (*options, "-DSINGLEFLIGHT_COMPILED")
        self.compiler = compiler

    def cost(self, headers: Path) -> Figures:
        """What the file costs with these headers."""
        return compile_cost(compiler_path(self.compiler), headers, self.source, self.options)

    def sides(self):
        sides = {"ours": lambda: self.cost(OUR_HEADERS)}
        if self.programs.other_headers is not None:
            sides["against"] = lambda: self.cost(self.programs.other_headers)
        return sides

    def skipped(self) -> str | None:
        return None if compiler_path(self.compiler) else f"{self.compiler} is not installed"


class LabReading(Scenario):
    """The lab and a peer read an access log of so many bytes."""

    def __init__(self, programs: Programs, peer: str, size: int):
        super().__init__(programs)
        self.peer = peer
        self.size = size

    def sides(self):
        return {name: partial(lab.reading, self.programs, name, self.size)
                for name in ("ours", self.peer)}

    def skipped(self) -> str | None:
        return None if shutil.which(self.peer) else f"{self.peer} is not installed"


class LabSimulation(Scenario):
    """The lab and a simulator in Python simulate ten million requests."""

    def sides(self):
        return {name: partial(lab.simulation, self.programs, name) for name in ("ours", "python")}


class LibraryCost(BuildCost):
    """What the library adds to a file: its cost less that of the file without the library."""

    def cost(self, headers: Path) -> Figures:
        compiler = compiler_path(self.compiler)
        bare_options = (*self.options, "-DWITHOUT_LIBRARY")
        full = compile_cost(compiler, headers, self.source, self.options)
        bare = compile_cost(compiler, headers, self.source, bare_options)
        return {figure: value - bare[figure] for figure, value in full.items()}


BUILD_COSTS: dict[str, Callable[..., BuildCost]] = {
    "loaders": partial(BuildCost, source="loaders.cpp", options=("-O2",)),
    "caches": partial(BuildCost, source="caches.cpp", options=("-O2",)),
    "one call": partial(LibraryCost, source="one_call.cpp", options=("-O0",)),
}


SCENARIOS: dict[str, Callable[[Programs], Scenario]] = {
    "calls": Calls,
    "instructions": Instructions,
    "fan-in": FanIn,
    "fan-in-limits": FanInLimits,
    "blocked": Blocked,
    "stampede": Stampede,
    "semaphore": Semaphore,
    "permit-fan-in": PermitFanIn,
    "guards": Guards,
    "error-group": ErrorGroup,
    "error-group-limit": ErrorGroupLimit,
    "batcher": Batcher,
    "hits": Hits,
    "misses": Misses,
    "flights": Flights,
    "scale": Scale,
    "growth": Growth,
    "growth-16m": LargeGrowth,
    "cache-memory": CacheMemory,
    "hit-ratio": HitRatio,
    "hit-patterns": HitPatterns,
    "refresh": Refresh,
    "lab-reading": partial(LabReading, peer="wc", size=1_000_000_000),
    "lab-reading-goaccess": partial(LabReading, peer="goaccess", size=50_000_000),
    "lab-simulation": LabSimulation,
    **{build_cost_scenario(name, form, compiler): partial(scenario, form=form, compiler=compiler)
       for name, scenario in BUILD_COSTS.items()
       for form in FORMS
       for compiler in COMPILERS.values()},
}
