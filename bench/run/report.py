# SPDX-License-Identifier: Apache-2.0
"""The report: the rows' figures as a table and as JSON, and the machine they were measured on."""

from __future__ import annotations

import json
import os
import re
import stat
import statistics
import tempfile
from pathlib import Path
from typing import Iterable

from . import ROOT, Failure, Figures, UsageError
from .build_cost import compiler_path
from .programs import JAVA_OPTIONS, Programs, first_line
from .rows import COMPILERS, Row


def cmake_cache(build: Path) -> dict[str, str]:
    """The variables of a build directory's cache."""
    try:
        text = (build / "CMakeCache.txt").read_text()
    except OSError as error:
        raise Failure(f"{build} is no build directory; make one with: cmake --preset release && "
                      "cmake --build --preset release") from error
    return dict(re.findall(r"^([A-Za-z0-9_]+):[A-Z]+=(.*)$", text, re.MULTILINE))


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


def machine(cache: dict[str, str], rows: list[Row]) -> str:
    """All that the rows' figures depend on but the code: machine, system, compilers, flags."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    release = os.uname().release
    flags = " ".join(f"{cache.get('CMAKE_CXX_FLAGS', '')} "
                     f"{cache.get('CMAKE_CXX_FLAGS_RELEASE', '')}".split())
    parts = [f"{processor()}, {os.cpu_count()} processors, {memory:.0f} GiB", f"Linux {release}",
             f"{first_line([cache.get('CMAKE_CXX_COMPILER', 'c++'), '--version'])}, {flags}"]
    if any(row.peer_figure.startswith("go.") for row in rows):
        version = first_line([Programs.go_compiler(), "version"])
        parts.append(f"{version.removeprefix('go version ')}, GOMAXPROCS=2")
    if any(row.peer_figure.startswith("java.") for row in rows):
        version = first_line([Programs.java("java"), "--version"])
        jar = Path(Programs.caffeine_jar()).resolve().stem
        parts.append(f"{version}, {' '.join(JAVA_OPTIONS)}, {jar}")
    for compiler in COMPILERS.values():
        if any(row.compiler == compiler for row in rows):
            parts.append(f"build cost: {first_line([compiler_path(compiler), '--version'])}")
    return "; ".join(parts)


def commit() -> str:
    """The commit of this tree, and whether what is measured was changed since."""
    name = first_line(["git", "-C", str(ROOT), "rev-parse", "HEAD"])
    if not name:
        return "unknown"
    changed = first_line(["git", "-C", str(ROOT), "status", "--porcelain", "--",
                          "include", "bench"])
    return name + ("+changes" if changed else "")


def report_row(row: Row, rounds: list[Figures], skipped: str | None) -> dict[str, object]:
    """A row of the report: medians over the rounds, or why the row was skipped."""
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
    """A figure as the table prints it."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")


def table_line(row: dict) -> tuple[str, ...]:
    """The cells of one row."""
    metric = f"{row['id']:<6}{row['metric']}, {row['unit']}"
    target = row["target"] or "-"
    if row["skipped"]:
        return (metric, "SKIPPED", "-", "-", target, "SKIPPED")
    peer = f"{number(row['peer_value'])} ({row['peer']})" if row["peer"] else "-"
    ratio = f"{number(row['ratio'])}x" if row["ratio"] is not None else "-"
    verdict = "-" if row["target"] is None else "yes" if row["ok"] else "NO"
    return (metric, number(row["ours"]), peer, ratio, target, verdict)


def print_table(rows: Iterable[dict]) -> None:
    """Prints the rows, each column as wide as its widest cell."""
    lines = [("metric", "ours", "peer", "ratio", "target", "ok"), *map(table_line, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    for n, line in enumerate(lines):
        print(" | ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
        if n == 0:
            print("-|-".join("-" * width for width in widths))


class JsonFile:
    """A report that is written whole or not at all; its path is checked before the long run."""

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
        """Writes the report; a regular file is replaced in one step."""
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
