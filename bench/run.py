#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs our benchmarks and their peers side by side and prints who is faster, by how much.

Every round runs each program once, ours and the peer's one after the other and in turn first, so that
both see the same machine; a figure is the median over the rounds, and a ratio the median of the
rounds' ratios. bench/README.md says what each row asks and how to read it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import statistics
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable

ROOT = Path(__file__).resolve().parent.parent
MIN_ROUNDS = 5
PROGRAM_TIMEOUT_S = 300

Figures = dict[str, float]


class Failure(Exception):
    """Something that ends the run with exit code 1: a missing peer, a program that failed."""


class UsageError(Exception):
    """What was asked for makes no sense: exit code 2."""


# --- rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of the table. A figure is named (program, figure) after measure()'s result."""

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

    def target(self) -> str | None:
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
        ours, peer = ours - self.less, peer - self.less
        above, below = (peer, ours) if self.ratio == "faster" else (ours, peer)
        return above / max(below, 1e-9)

    def meets(self, ours: float, ratio: float | None) -> bool:
        if self.min_ratio is not None:
            return ratio is not None and ratio >= self.min_ratio
        if self.max_ratio is not None:
            return ratio is not None and ratio <= self.max_ratio
        if self.min_value is not None:
            return ours >= self.min_value
        if self.max_value is not None:
            return ours <= self.max_value
        return True


GO = "go singleflight.Do"
GO_SEMAPHORE = "go semaphore.Weighted"
ERRGROUP = "go errgroup.Group"
FUTURE = "mutex + unordered_map<string, shared_future>"
CAFFEINE = "caffeine LoadingCache.get"
GROUPCACHE = "groupcache Group.Get"

# The traces of row 20, and the capacities, in entries, at which they are played.
TRACES = {
    "loop": (512,),
    "multi1": (1_000,),
    "sprite": (353, 707),
    "web07": (204, 2_048),
    "domains": (176, 1_763),
    "oltp": (1_000, 5_000, 10_000),
}
TRACE_POINTS = [(trace, capacity) for trace, sizes in TRACES.items() for capacity in sizes]

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
        "ours.awaited_ns", GO, "go.alone_ns", min_ratio=2),
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
        "ours.leader_ms", "futex wake-all, its caller", "futex.waker_ms", ratio="share"),
    Row("8a", "8", "stampede at Go's highest rate: p99 (ratio: less the 1 ms load)", "ms",
        "stampede", "ours.p99_ms", GO, "go.p99_ms", min_ratio=8, less=1.0),
    Row("8b", "8", "stampede: highest sustained rate", "requests/s", "stampede",
        "ours.sustained", GO, "go.sustained", ratio="share", min_ratio=4),
    Row("9", "9", "semaphore: acquire + release, uncontended", "ns/pair", "semaphore",
        "ours.alone_ns", GO_SEMAPHORE, "go.alone_ns", min_ratio=2),
    Row("9a", "9", "the same: allocations", "per pair", "semaphore", "ours.alone_allocations",
        max_value=0),
    Row("9t", "9", "the same, 2 threads", "ns/pair", "semaphore",
        "ours.two_threads_ns", GO_SEMAPHORE, "go.two_threads_ns"),
    Row("10", "10", "one release that frees 10,000 coroutines: to the last", "ns/waiter",
        "permit-fan-in", "ours.wake_ns", "goroutines in Weighted.Acquire", "go.wake_ns",
        min_ratio=8),
    Row("11a", "11", "error_group: 1,000,000 no-op tasks, 2 workers, no limit", "ns/task",
        "error-group", "ours.task_ns", ERRGROUP, "go.task_ns", min_ratio=1.5),
    Row("11b", "11", "the same, limit 64", "ns/task", "error-group-limit", "ours.task_ns",
        ERRGROUP, "go.task_ns", min_ratio=1.5),
    Row("11aa", "11", "the same, no limit: allocations", "per task", "error-group",
        "ours.allocations", max_value=1),
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
    Row("16s", "16", "the same, 1 thread, asked for by std::string", "ns/call", "hits",
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
    Row("19", "19", "memory beside key and value, 1,000,000 entries, one ttl", "bytes",
        "cache-memory", "ours.bytes_per_entry", max_value=48),
    Row("20", "20", "hit ratio of six traces as a share of OPT's, mean", "of OPT", "hit-ratio",
        "ours.of_opt", min_value=0.86),
    Row("20l", "20", "the same: below LRU where that is worst", "points", "hit-ratio",
        "ours.below_lru", max_value=1),
    Row("20c", "20", "the same from 8 threads: difference where that is worst", "points",
        "hit-ratio", "ours.eight_worst", max_value=0.5),
    Row("20cm", "20", "the same from 8 threads: difference of the means", "points", "hit-ratio",
        "ours.eight_mean"),
    *(Row(f"20.{n}", "20", f"hit ratio, {trace}, {capacity:,} entries", "%", "hit-ratio",
          f"ours.{trace}_{capacity}", "OPT", f"opt.{trace}_{capacity}", ratio="share")
      for n, (trace, capacity) in enumerate(TRACE_POINTS, 1)),
    Row("21", "21", "10,000 coroutines as a hot key is refreshed: loads", "loads", "refresh",
        "ours.loads", max_value=1),
    Row("21s", "21", "the same: callers that were suspended", "callers", "refresh",
        "ours.suspended", max_value=0),
]


def select(only: str | None) -> list[Row]:
    if only is None:
        return ROWS
    known = list(dict.fromkeys(row.group for row in ROWS)) + [
        row.id for row in ROWS if row.id != row.group
    ]
    asked = [part.strip() for part in only.split(",")]
    for part in asked:
        if part not in known:
            raise UsageError(f"--only: unknown row '{part}'; the rows are {', '.join(known)}")
    # A row named like its group (1) brings the group's other rows (1a, 1i, 1s) along.
    return [row for row in ROWS if row.id in asked or row.group in asked]


# The collector with which Caffeine's figures are best; with the default one a write costs more.
JAVA_OPTIONS = ("-XX:+UseParallelGC",)


# --- programs -----------------------------------------------------------------------------------


def run_program(command: list[str], environment: dict[str, str] | None = None,
                given: str | None = None) -> str:
    """Standard output of a program that must succeed; `given` is its standard input."""
    name = Path(command[0]).name
    source = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            **source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PROGRAM_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise Failure(f"{name} could not be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{name} was not done after {PROGRAM_TIMEOUT_S} s") from error
    if done.returncode != 0:
        how = (
            f"was killed by signal {-done.returncode}"
            if done.returncode < 0
            else f"failed with exit code {done.returncode}"
        )
        said = done.stderr.strip().splitlines()
        raise Failure(f"{' '.join(command)} {how}" + (f": {said[-1]}" if said else ""))
    return done.stdout


def figures_of(command: list[str], environment: dict[str, str] | None = None,
               given: str | None = None) -> Figures:
    """What a program printed as one JSON object of numbers."""
    output = run_program(command, environment, given)
    try:
        return {name: float(value) for name, value in json.loads(output).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise Failure(f"{' '.join(command)} printed no JSON object of figures") from error


@dataclass
class Programs:
    """Where the programs are. The Go and Java peers are built here, the rest is CMake's part."""

    build: Path
    traces: Path

    def ours(self, name: str) -> str:
        path = self.build / "bench" / name
        if not path.is_file():
            raise Failure(f"{path} is not there; build it with: cmake --preset release && "
                          "cmake --build --preset release")
        return str(path)

    @staticmethod
    def go_compiler() -> str:
        candidates = [os.environ.get("GO", ""), "/usr/lib/go-1.19/bin/go", shutil.which("go") or ""]
        for candidate in candidates:
            if candidate and os.access(candidate, os.X_OK):
                return candidate
        raise Failure("missing peer: Go is not installed. On Debian: "
                      "apt-get install golang-1.19 golang-golang-x-sync-dev "
                      "golang-github-golang-groupcache-dev")

    def build_go(self) -> None:
        out = self.build / "bench" / "peers" / "go"
        out.mkdir(parents=True, exist_ok=True)
        go_path = os.environ.get("SINGLEFLIGHT_GOPATH", "/usr/share/gocode")
        compiler = self.go_compiler()
        for package, debian in (
            ("golang.org/x/sync/singleflight", "golang-golang-x-sync-dev"),
            ("github.com/golang/groupcache", "golang-github-golang-groupcache-dev"),
        ):
            if not (Path(go_path) / "src" / package).is_dir():
                raise Failure(f"missing peer: {package} is not in {go_path}. On Debian: "
                              f"apt-get install {debian}")
        done = subprocess.run(
            [compiler, "build", "-o", str(out / "peer"), "."],
            cwd=ROOT / "bench" / "peers" / "go",
            env={**os.environ, "GO111MODULE": "off", "GOPATH": go_path, "GOFLAGS": "",
                 "GOCACHE": str(out / "cache")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Failure(f"the Go peer does not build:\n{done.stdout.strip()}")

    def go(self, scenario: str, **options: float) -> Figures:
        command = [str(self.build / "bench" / "peers" / "go" / "peer"), f"-scenario={scenario}"]
        command += [f"-{name}={value:g}" if isinstance(value, float) else f"-{name}={value}"
                    for name, value in options.items()]
        return figures_of(command, {"GOMAXPROCS": "2"})

    @staticmethod
    def java(tool: str) -> str:
        home = os.environ.get("JAVA_HOME", "")
        for candidate in (f"{home}/bin/{tool}" if home else "", shutil.which(tool) or ""):
            if candidate and os.access(candidate, os.X_OK):
                return candidate
        raise Failure(f"missing peer: {tool} is not installed. On Debian: "
                      "apt-get install default-jdk-headless libcaffeine-java")

    @staticmethod
    def caffeine_jar() -> str:
        jar = os.environ.get("SINGLEFLIGHT_CAFFEINE_JAR", "/usr/share/java/caffeine.jar")
        if not Path(jar).is_file():
            raise Failure(f"missing peer: there is no {jar}. On Debian: "
                          "apt-get install libcaffeine-java")
        return jar

    def build_java(self) -> None:
        out = self.build / "bench" / "peers" / "java"
        out.mkdir(parents=True, exist_ok=True)
        self.java("java")
        done = subprocess.run(
            [self.java("javac"), "-d", str(out), "-cp", self.caffeine_jar(),
             str(ROOT / "bench" / "peers" / "java" / "Peer.java")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Failure(f"the Java peer does not build:\n{done.stdout.strip()}")

    def caffeine(self, case: str) -> Figures:
        classes = self.build / "bench" / "peers" / "java"
        found = figures_of([self.java("java"), *JAVA_OPTIONS, "-cp",
                            f"{classes}:{self.caffeine_jar()}", "Peer", case])
        return {f"{case}.{figure}": value for figure, value in found.items()}

    def google_benchmark(self, name: str) -> Figures:
        """Medians of a Google Benchmark program: <case>_ns and <case>_<counter>."""
        output = run_program([
            self.ours(name), "--benchmark_format=json", "--benchmark_min_time=0.05",
            "--benchmark_repetitions=5", "--benchmark_report_aggregates_only=true",
        ])
        try:
            cases = json.loads(output)["benchmarks"]
        except (ValueError, KeyError) as error:
            raise Failure(f"{name} printed no Google Benchmark report") from error
        found: Figures = {}
        for case in cases:
            if case.get("error_occurred"):
                raise Failure(f"{name}: {case['name']}: {case.get('error_message')}")
            if case.get("aggregate_name") != "median":
                continue
            label = case["run_name"].split("/")[0]
            assert case["time_unit"] == "ns"
            found[f"{label}_ns"] = case["real_time"]
            for counter in ("allocations", "loads"):
                if counter in case:
                    found[f"{label}_{counter}"] = case[counter]
        if not found:
            raise Failure(f"{name} measured nothing")
        return found


# --- scenarios: one round of each ---------------------------------------------------------------


class Scenario:
    """Programs that are run together in a round. A round's figures are named program.figure."""

    programs: Programs
    ours: tuple[str, ...] = ()  # the C++ programs that it runs, the peers' included
    once = False  # a count, not a time: one round says it all

    def __init__(self, programs: Programs):
        self.programs = programs

    def sides(self) -> dict[str, Callable[[], Figures]]:
        raise NotImplementedError

    def needs_go(self) -> bool:
        return "go" in self.sides()

    def needs_java(self) -> bool:
        return "java" in self.sides()

    def skipped(self) -> str | None:
        """Why this cannot be measured here, where that is no failure."""
        return None

    def round(self, number: int) -> Figures:
        sides = list(self.sides().items())
        if number % 2:
            sides.reverse()
        found: Figures = {}
        for name, measure in sides:
            found.update({f"{name}.{figure}": value for figure, value in measure().items()})
        return found


class Calls(Scenario):
    ours = ("group_bench", "future_group_bench")

    def sides(self):
        return {
            "ours": lambda: self.programs.google_benchmark("group_bench"),
            "go": lambda: self.programs.go("do"),
            "future": lambda: self.programs.google_benchmark("future_group_bench"),
        }


class Guards(Scenario):
    ours = ("guards_bench",)

    def sides(self):
        # What a guard adds to a call, both measured in one process.
        def overheads() -> Figures:
            found = self.programs.google_benchmark("guards_bench")
            for guard in ("breaker", "retry"):
                found[f"{guard}_overhead_ns"] = found[f"{guard}_ns"] - found["bare_ns"]
            return found

        return {"ours": overheads}


class Instructions(Scenario):
    ours = ("run_calls",)
    once = True
    few, many = 20_000, 120_000

    def count(self, calls: int) -> int:
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
    ours = ("fan_in_bench",)

    def sides(self):
        return {
            "ours": lambda: figures_of([self.programs.ours("fan_in_bench"), "--waiters=1000000"]),
            "go": lambda: self.programs.go("fan-in", waiters=1_000_000),
        }


class FanInLimits(Scenario):
    ours = ("fan_in_bench",)

    def sides(self):
        return {
            "ours": lambda: figures_of(
                [self.programs.ours("fan_in_bench"), "--waiters=1000000", "--limits=1"]),
            # A million of these would take more than 5 GB.
            "go": lambda: self.programs.go("fan-in-limits", waiters=250_000),
        }


class Blocked(Scenario):
    ours = ("blocked_threads_bench", "futex_wake")
    # Who of ten thousand threads is scheduled when is chance: a round takes the median of a few runs.
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
    ours = ("semaphore_bench",)

    def sides(self):
        return {
            "ours": lambda: self.programs.google_benchmark("semaphore_bench"),
            "go": lambda: self.programs.go("semaphore"),
        }


class PermitFanIn(Scenario):
    ours = ("permit_fan_in_bench",)

    def sides(self):
        return {
            "ours": lambda: figures_of([self.programs.ours("permit_fan_in_bench")]),
            "go": lambda: self.programs.go("permit-fan-in", waiters=10_000),
        }


class Stampede(Scenario):
    """Searches the highest rate that each side sustains, then asks ours for its latency at Go's."""

    ours = ("stampede_bench",)
    step = 1.05
    seconds = 5.0
    completions = 0.99
    p99_ms = 100.0
    ceiling = 1e8

    def __init__(self, programs: Programs):
        super().__init__(programs)
        self.start = {"ours": 1.6e6, "go": 4e5}
        self.stride = 4  # in steps; later rounds begin where the last one ended

    def needs_go(self) -> bool:
        return True

    def probe(self, side: str, rate: float, seed: int) -> Figures:
        if side == "go":
            return self.programs.go("stampede", rate=rate, seconds=self.seconds, seed=seed)
        return figures_of([self.programs.ours("stampede_bench"), f"--rate={rate:g}",
                           f"--seconds={self.seconds:g}", f"--seed={seed}"])

    def sustained(self, found: Figures) -> bool:
        return found["completed"] >= self.completions and found["p99_ms"] <= self.p99_ms

    def highest(self, side: str, seed: int) -> tuple[float, Figures]:
        """The highest rate start * step^n that is sustained, and what was measured there."""
        start = self.start[side]
        measured: dict[int, Figures] = {}

        def ok(n: int) -> bool:
            if n not in measured:
                rate = start * self.step**n
                if not 100 <= rate <= self.ceiling:
                    raise Failure(f"stampede: {side} ends at {rate:g} requests/s, which is absurd")
                measured[n] = self.probe(side, rate, seed)
                if not self.sustained(measured[n]):  # a neighbour's burst is no verdict
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
    ours = ("error_group_bench",)
    limit = 0  # none

    def sides(self):
        return {
            "ours": lambda: figures_of([self.programs.ours("error_group_bench"),
                                        "--tasks=1000000", f"--limit={self.limit}"]),
            "go": lambda: self.programs.go("errgroup", tasks=1_000_000, limit=self.limit),
        }


class ErrorGroupLimit(ErrorGroup):
    limit = 64


class Batcher(Scenario):
    ours = ("batcher_bench",)

    def sides(self):
        return {"ours": lambda: figures_of([self.programs.ours("batcher_bench")])}


class Hits(Scenario):
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
    ours = ("miss_bench",)

    def sides(self):
        # Whether Caffeine evicts on its pool or on the calling thread: the faster one counts.
        def java() -> Figures:
            found = {**self.programs.caffeine("miss"), **self.programs.caffeine("miss-same-thread")}
            return {**found, "miss_ns": min(found.values())}

        return {"ours": lambda: self.programs.google_benchmark("miss_bench"), "java": java}


class CacheMemory(Scenario):
    ours = ("memory_bench",)
    once = True

    def sides(self):
        return {"ours": lambda: figures_of([self.programs.ours("memory_bench"),
                                            "--entries=1000000"])}


def trace_file(directory: Path, trace: str) -> Path:
    return directory / f"{trace}.txt.gz"


class HitRatio(Scenario):
    ours = ("hit_ratio_bench",)
    once = True

    def skipped(self) -> str | None:
        for trace in TRACES:
            if not trace_file(self.programs.traces, trace).is_file():
                return (f"there is no {trace_file(self.programs.traces, trace)}; "
                        "--traces names the directory of the traces (bench/README.md lists them)")
        return None

    def play(self, trace: str, capacities: tuple[int, ...]) -> Figures:
        path = trace_file(self.programs.traces, trace)
        try:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                requests = file.read()
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise Failure(f"{path} cannot be read: {error}") from error
        return figures_of([self.programs.ours("hit_ratio_bench"),
                           f"--capacities={','.join(map(str, capacities))}"], given=requests)

    def round(self, number: int) -> Figures:
        played = {trace: self.play(trace, capacities) for trace, capacities in TRACES.items()}

        def column(name: str) -> list[float]:
            return [played[trace][f"{name}_{capacity}"] for trace, capacity in TRACE_POINTS]

        ours, eight, opt, lru = map(column, ("ours", "eight", "opt", "lru"))
        found: Figures = {
            "ours.of_opt": statistics.mean(a / b for a, b in zip(ours, opt)),
            "ours.below_lru": max(b - a for a, b in zip(ours, lru)),
            "ours.eight_worst": max(abs(a - b) for a, b in zip(ours, eight)),
            "ours.eight_mean": abs(statistics.mean(ours) - statistics.mean(eight)),
        }
        for (trace, capacity), a, b in zip(TRACE_POINTS, ours, opt):
            found[f"ours.{trace}_{capacity}"] = a
            found[f"opt.{trace}_{capacity}"] = b
        return found

    def sides(self):
        return {}


class Refresh(Scenario):
    ours = ("refresh_bench",)

    def sides(self):
        return {"ours": lambda: figures_of([self.programs.ours("refresh_bench")])}


SCENARIOS: dict[str, type[Scenario]] = {
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
    "cache-memory": CacheMemory,
    "hit-ratio": HitRatio,
    "refresh": Refresh,
}


# --- where it ran -------------------------------------------------------------------------------


def first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.splitlines()[0].strip() if done.stdout else ""


def cmake_cache(build: Path) -> dict[str, str]:
    try:
        text = (build / "CMakeCache.txt").read_text()
    except OSError as error:
        raise Failure(f"{build} is no build directory; make one with: cmake --preset release && "
                      "cmake --build --preset release") from error
    return dict(re.findall(r"^([A-Za-z0-9_]+):[A-Z]+=(.*)$", text, re.MULTILINE))


def machine(cache: dict[str, str], with_go: bool, with_java: bool) -> str:
    """Everything a figure depends on but the code: machine, system, compilers and their flags."""
    cpu = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    release = os.uname().release
    flags = " ".join(f"{cache.get('CMAKE_CXX_FLAGS', '')} "
                     f"{cache.get('CMAKE_CXX_FLAGS_RELEASE', '')}".split())
    parts = [f"{cpu}, {os.cpu_count()} processors, {memory:.0f} GiB", f"Linux {release}",
             f"{first_line([cache.get('CMAKE_CXX_COMPILER', 'c++'), '--version'])}, {flags}"]
    if with_go:
        version = first_line([Programs.go_compiler(), "version"])
        parts.append(f"{version.removeprefix('go version ')}, GOMAXPROCS=2")
    if with_java:
        version = first_line([Programs.java("java"), "--version"])
        jar = Path(Programs.caffeine_jar()).resolve().stem
        parts.append(f"{version}, {' '.join(JAVA_OPTIONS)}, {jar}")
    return "; ".join(parts)


def commit() -> str:
    name = first_line(["git", "-C", str(ROOT), "rev-parse", "HEAD"])
    if not name:
        return "unknown"
    changed = first_line(["git", "-C", str(ROOT), "status", "--porcelain", "--",
                          "include", "bench"])
    return name + ("+changes" if changed else "")


# --- the report ---------------------------------------------------------------------------------


def report_row(row: Row, rounds: list[Figures], skipped: str | None) -> dict[str, object]:
    def series(figure: str) -> list[float]:
        try:
            return [one[figure] for one in rounds]
        except KeyError as error:
            raise Failure(f"row {row.id}: nothing was measured for {figure}") from error

    ours = peer_value = ratio = None
    if not skipped:
        ours = statistics.median(series(row.ours))
    if row.peer and not skipped:
        peer_value = statistics.median(series(row.peer_figure))
        ratio = statistics.median(
            row.ratio_of(a, b) for a, b in zip(series(row.ours), series(row.peer_figure)))
    return {
        "id": row.id,
        "metric": row.metric,
        "unit": row.unit,
        "ours": ours,
        "peer": row.peer or None,
        "peer_value": peer_value,
        "ratio": ratio,
        "target": row.target(),
        "ok": None if skipped else row.meets(ours, ratio),
        "skipped": skipped,
    }


def number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")


def print_table(rows: Iterable[dict]) -> None:
    lines = [("metric", "ours", "peer", "ratio", "target", "ok")]
    for row in rows:
        if row["skipped"]:
            lines.append((f"{row['id']:<6}{row['metric']}, {row['unit']}", "SKIPPED", "-", "-",
                          row["target"] or "-", "SKIPPED"))
            continue
        peer = f"{number(row['peer_value'])} ({row['peer']})" if row["peer"] else "-"
        ratio = f"{number(row['ratio'])}x" if row["ratio"] is not None else "-"
        verdict = "-" if row["target"] is None else "yes" if row["ok"] else "NO"
        lines.append((f"{row['id']:<6}{row['metric']}, {row['unit']}", number(row["ours"]), peer,
                      ratio, row["target"] or "-", verdict))
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    for n, line in enumerate(lines):
        print(" | ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
        if n == 0:
            print("-|-".join("-" * width for width in widths))


class JsonFile:
    """A report that appears whole or not at all, at a place that is checked before the long run."""

    def __init__(self, path: Path):
        self.path = path
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            mode = None
        except OSError as error:
            raise UsageError(f"--json: {path} cannot be written: {error.strerror}") from error
        if mode is not None and stat.S_ISDIR(mode):
            raise UsageError(f"--json: {path} is a directory; name a file")
        self.in_place = mode is not None and not stat.S_ISREG(mode)  # a pipe or a terminal
        if mode is not None and not os.access(path, os.W_OK):
            raise UsageError(f"--json: {path} cannot be written: Permission denied")
        if not self.in_place:
            try:
                with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
                    pass
            except OSError as error:
                raise UsageError(f"--json: {path} cannot be written: {error.strerror}") from error

    def write(self, report: dict) -> None:
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        if self.in_place:
            self.path.write_text(text)
            return
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            scratch.write_text(text)
            scratch.replace(self.path)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise Failure(f"--json: {self.path} cannot be written: {error.strerror}") from error


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev bench",
        description="Our benchmarks and, beside them and interleaved, the same work elsewhere.",
        epilog="Exit code: 0 when everything was measured, whether targets are met or not (see the "
               "column ok) and apart from rows that say SKIPPED; 1 when a program or a peer is "
               "missing or failed; 2 for a wrong option.",
    )
    parser.add_argument("--only", metavar="ROWS",
                        help="rows or groups of rows, such as 1,2,5a (all of them by default)")
    parser.add_argument("--rounds", metavar="N", type=int, default=MIN_ROUNDS,
                        help=f"interleaved rounds, {MIN_ROUNDS} or more (default {MIN_ROUNDS})")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the report there")
    parser.add_argument("--build", metavar="DIR", type=Path, default=ROOT / "build" / "release",
                        help="a Release build with benchmarks (default build/release)")
    parser.add_argument("--traces", metavar="DIR", type=Path,
                        help="the traces of row 20, NAME.txt.gz with a key a line (default "
                             "../shared/traces beside the project; without it the row is skipped)")
    options = parser.parse_args(given)
    if options.traces is not None and not options.traces.is_dir():
        raise UsageError(f"--traces: {options.traces} is no directory")
    if options.rounds < MIN_ROUNDS:
        raise UsageError(f"--rounds: {options.rounds} is too few for a median; "
                         f"{MIN_ROUNDS} is the least")
    return options


def measure(scenarios: dict[str, Scenario], programs: Programs,
            rounds: int) -> dict[str, list[Figures]]:
    for scenario in scenarios.values():
        for name in scenario.ours:
            programs.ours(name)
    if any(scenario.needs_go() for scenario in scenarios.values()):
        programs.build_go()
    if any(scenario.needs_java() for scenario in scenarios.values()):
        programs.build_java()
    found: dict[str, list[Figures]] = {name: [] for name in scenarios}
    for n in range(rounds):
        for name, scenario in scenarios.items():
            if scenario.once and n > 0:
                continue
            say(f"round {n + 1} of {rounds}: {name}")
            found[name].append(scenario.round(n))
    return found


def main(given: list[str]) -> int:
    try:
        options = arguments(given)
        rows = select(options.only)
        json_file = JsonFile(options.json) if options.json else None
        build = options.build.resolve()
        cache = cmake_cache(build)
        if cache.get("CMAKE_BUILD_TYPE") != "Release":
            raise Failure(f"{build} is a {cache.get('CMAKE_BUILD_TYPE') or 'debug'} build; only a "
                          "Release build's figures mean anything: cmake --preset release")
        busy = os.getloadavg()[0]
        if busy > 0.5:
            say(f"the machine is not idle (load {busy:.1f}): look at ratios rather than at times")
        programs = Programs(build, options.traces or ROOT.parent / "shared" / "traces")
        scenarios = {row.scenario: SCENARIOS[row.scenario](programs) for row in rows}
        skipped = {name: why for name, scenario in scenarios.items() if (why := scenario.skipped())}
        for name, why in skipped.items():
            if options.traces:
                raise UsageError(f"--traces: {why}")
            say(f"SKIPPED: {name}: {why}")
        found = measure({name: one for name, one in scenarios.items() if name not in skipped},
                        programs, options.rounds)
        reported = [report_row(row, found.get(row.scenario, []), skipped.get(row.scenario))
                    for row in rows]
        with_go, with_java = (any(row.peer_figure.startswith(f"{peer}.") for row in rows)
                              for peer in ("go", "java"))
        report = {"machine": machine(cache, with_go, with_java), "commit": commit(),
                  "rows": reported}
        if json_file:
            json_file.write(report)
        print_table(reported)
        for name, why in skipped.items():
            ids = ", ".join(row.id for row in rows if row.scenario == name)
            say(f"SKIPPED: rows {ids}: {why}")
        missed = [row["id"] for row in reported if row["ok"] is False]
        if missed:
            say(f"below target: {', '.join(missed)}")
        return 0
    except UsageError as error:
        say(str(error))
        return 2
    except Failure as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; nothing was written")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
