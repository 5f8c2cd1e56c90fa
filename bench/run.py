#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs our benchmarks and their peers side by side and prints who is faster, by how much.

Every round runs each program once, ours and the peer's one after the other and in turn first, so that
both see the same machine; a figure is the median over the rounds, and a ratio the median of the
rounds' ratios. bench/README.md says what each row asks and how to read it.
"""

from __future__ import annotations

import argparse
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
    # The target: at least this ratio, at most this ratio, or at most this value of ours.
    min_ratio: float | None = None
    max_ratio: float | None = None
    max_value: float | None = None
    # Subtracted from both sides before the ratio is formed.
    less: float = 0.0

    def target(self) -> str | None:
        if self.min_ratio is not None:
            return f">= {self.min_ratio:g}x"
        if self.max_ratio is not None:
            return f"<= {self.max_ratio:g}x"
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
        if self.max_value is not None:
            return ours <= self.max_value
        return True


GO = "go singleflight.Do"
ERRGROUP = "go errgroup.Group"
FUTURE = "mutex + unordered_map<string, shared_future>"

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
    Row("11a", "11", "error_group, 1,000,000 no-op tasks, 2 workers", "ns/task", "error-group",
        "ours.task_ns", ERRGROUP, "go.task_ns", min_ratio=1.5),
    Row("11c", "11", "the same: allocations", "per task", "error-group",
        "ours.allocations", ERRGROUP, "go.allocations", ratio="share", max_value=1),
    Row("11b", "11", "the same, limit 64", "ns/task", "error-group-limit",
        "ours.task_ns", ERRGROUP, "go.task_ns", min_ratio=1.5),
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


# --- programs -----------------------------------------------------------------------------------


def run_program(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Standard output of a program that must succeed."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
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


def figures_of(command: list[str], environment: dict[str, str] | None = None) -> Figures:
    """What a program printed as one JSON object of numbers."""
    output = run_program(command, environment)
    try:
        return {name: float(value) for name, value in json.loads(output).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise Failure(f"{' '.join(command)} printed no JSON object of figures") from error


@dataclass
class Programs:
    """Where the programs are. Building the Go peer is this script's part, the rest is CMake's."""

    build: Path

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
                      "apt-get install golang-1.19 golang-golang-x-sync-dev")

    def build_go(self) -> None:
        out = self.build / "bench" / "peers" / "go"
        out.mkdir(parents=True, exist_ok=True)
        go_path = os.environ.get("SINGLEFLIGHT_GOPATH", "/usr/share/gocode")
        package = Path(go_path) / "src/golang.org/x/sync/singleflight"
        compiler = self.go_compiler()
        if not package.is_dir():
            raise Failure(f"missing peer: golang.org/x/sync/singleflight is not in {go_path}. On "
                          "Debian: apt-get install golang-golang-x-sync-dev")
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


SCENARIOS: dict[str, type[Scenario]] = {
    "calls": Calls,
    "instructions": Instructions,
    "fan-in": FanIn,
    "fan-in-limits": FanInLimits,
    "blocked": Blocked,
    "stampede": Stampede,
    "error-group": ErrorGroup,
    "error-group-limit": ErrorGroupLimit,
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


def machine(cache: dict[str, str], with_go: bool) -> str:
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
    return "; ".join(parts)


def commit() -> str:
    name = first_line(["git", "-C", str(ROOT), "rev-parse", "HEAD"])
    if not name:
        return "unknown"
    changed = first_line(["git", "-C", str(ROOT), "status", "--porcelain", "--",
                          "include", "bench"])
    return name + ("+changes" if changed else "")


# --- the report ---------------------------------------------------------------------------------


def report_row(row: Row, rounds: list[Figures]) -> dict[str, object]:
    def series(figure: str) -> list[float]:
        try:
            return [one[figure] for one in rounds]
        except KeyError as error:
            raise Failure(f"row {row.id}: nothing was measured for {figure}") from error

    ours = statistics.median(series(row.ours))
    peer_value = ratio = None
    if row.peer:
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
        "ok": row.meets(ours, ratio),
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
        peer = f"{number(row['peer_value'])} ({row['peer']})" if row["peer"] else "-"
        ratio = f"{number(row['ratio'])}x" if row["ratio"] is not None else "-"
        verdict = "-" if row["target"] is None else "yes" if row["ok"] else "NO"
        lines.append((f"{row['id']:<4}{row['metric']}, {row['unit']}", number(row["ours"]), peer,
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
               "column ok); 1 when a program or a peer is missing or failed; 2 for a wrong option.",
    )
    parser.add_argument("--only", metavar="ROWS",
                        help="rows or groups of rows, such as 1,2,5a (all of them by default)")
    parser.add_argument("--rounds", metavar="N", type=int, default=MIN_ROUNDS,
                        help=f"interleaved rounds, {MIN_ROUNDS} or more (default {MIN_ROUNDS})")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the report there")
    parser.add_argument("--build", metavar="DIR", type=Path, default=ROOT / "build" / "release",
                        help="a Release build with benchmarks (default build/release)")
    options = parser.parse_args(given)
    if options.rounds < MIN_ROUNDS:
        raise UsageError(f"--rounds: {options.rounds} is too few for a median; "
                         f"{MIN_ROUNDS} is the least")
    return options


def measure(rows: list[Row], programs: Programs, rounds: int) -> dict[str, list[Figures]]:
    scenarios = {row.scenario: SCENARIOS[row.scenario](programs) for row in rows}
    for scenario in scenarios.values():
        for name in scenario.ours:
            programs.ours(name)
    if any(scenario.needs_go() for scenario in scenarios.values()):
        programs.build_go()
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
        found = measure(rows, Programs(build), options.rounds)
        reported = [report_row(row, found[row.scenario]) for row in rows]
        with_go = any(row.peer_figure.startswith("go.") for row in rows)
        report = {"machine": machine(cache, with_go), "commit": commit(), "rows": reported}
        if json_file:
            json_file.write(report)
        print_table(reported)
        missed = [row["id"] for row in reported if not row["ok"]]
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
