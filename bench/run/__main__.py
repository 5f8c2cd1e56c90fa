# SPDX-License-Identifier: Apache-2.0
"""The command line of `./dev bench`: parses the options, runs the rounds, reports."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from . import ROOT, Failure, Figures, UsageError
from .build_cost import checked_out
from .programs import Programs
from .report import JsonFile, cmake_cache, commit, machine, print_table, report_row
from .rows import Row, select
from .scenarios import SCENARIOS, Scenario

MIN_ROUNDS = 5


def say(text: str) -> None:
    """Prints a line that is not part of the table."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def arguments(given: list[str]) -> argparse.Namespace:
    """The options, checked as far as they can be on their own."""
    parser = argparse.ArgumentParser(
        prog="./dev bench",
        description="Runs our benchmarks and, interleaved with them, the same work by other means.",
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
                        default=os.environ.get("SINGLEFLIGHT_TRACES") or None,
                        help="the traces of row 20, NAME.txt.gz with a key a line (default: the "
                             "environment variable SINGLEFLIGHT_TRACES; without either the row is "
                             "skipped)")
    parser.add_argument("--against", metavar="REV",
                        help="the commit that rows 50 to 52 compare this tree with (without it "
                             "they have no ratio)")
    options = parser.parse_args(given)
    if options.traces is not None and not options.traces.is_dir():
        raise UsageError(f"--traces: {options.traces} is no directory")
    if options.rounds < MIN_ROUNDS:
        raise UsageError(f"--rounds: {options.rounds} is too few for a median; "
                         f"{MIN_ROUNDS} is the least")
    return options


def release_cache(build: Path) -> dict[str, str]:
    """The CMake cache of the build directory, which must be of a Release build."""
    cache = cmake_cache(build)
    if cache.get("CMAKE_BUILD_TYPE") != "Release":
        raise Failure(f"{build} is a {cache.get('CMAKE_BUILD_TYPE') or 'debug'} build; only a "
                      "Release build's figures mean anything: cmake --preset release")
    return cache


def measure(scenarios: dict[str, Scenario], programs: Programs,
            rounds: int) -> dict[str, list[Figures]]:
    """Runs the rounds, after a check that every program is there; the figures of each round."""
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


def measure_rows(rows: list[Row], programs: Programs, rounds: int) -> list[dict]:
    """The report's rows, in the order of `rows`."""
    scenarios = {row.scenario: SCENARIOS[row.scenario](programs) for row in rows}
    skipped = {name: why for name, scenario in scenarios.items() if (why := scenario.skipped())}
    for name, why in skipped.items():
        say(f"SKIPPED: {name}: {why}")
    found = measure({name: one for name, one in scenarios.items() if name not in skipped},
                    programs, rounds)
    return [report_row(row, found.get(row.scenario, []), skipped.get(row.scenario))
            for row in rows]


def say_what_is_missing(reported: list[dict]) -> None:
    """The rows that were skipped, by reason, and those that miss their target."""
    skipped: dict[str, list[str]] = {}
    for row in reported:
        if row["skipped"]:
            skipped.setdefault(row["skipped"], []).append(row["id"])
    for why, ids in skipped.items():
        say(f"SKIPPED: rows {', '.join(ids)}: {why}")
    missed = [row["id"] for row in reported if row["ok"] is False]
    if missed:
        say(f"below target: {', '.join(missed)}")


def bench(options: argparse.Namespace) -> None:
    """Measures the rows that the options select, and reports them."""
    rows = select(options.only)
    if options.against is not None and not any(row.compares_commits() for row in rows):
        raise UsageError("--against: none of the rows selected compares commits; 50 to 52 do")
    json_file = JsonFile(options.json) if options.json else None
    build = options.build.resolve()
    cache = release_cache(build)
    busy = os.getloadavg()[0]
    if busy > 0.5:
        say(f"the machine is not idle (load {busy:.1f}): look at ratios rather than at times")
    with checked_out(options.against) as other:
        programs = Programs(build, options.traces, other.headers if other else None)
        rows = [row.against(other.name if other else None) for row in rows]
        reported = measure_rows(rows, programs, options.rounds)
    measured = [row for row, one in zip(rows, reported) if not one["skipped"]]
    report = {"machine": machine(cache, measured), "commit": commit(), "rows": reported}
    if json_file:
        json_file.write(report)
    print_table(reported)
    say_what_is_missing(reported)


def main(given: list[str]) -> int:
    """Runs the benchmarks; returns the exit code."""
    # A terminated run cleans up as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        bench(arguments(given))
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
