# SPDX-License-Identifier: Apache-2.0
"""What a source file of bench/build_cost costs to compile, with our headers or another commit's."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from . import ROOT, Failure, Figures, UsageError
from .programs import completed, first_line, run_program

SOURCES = ROOT / "bench" / "build_cost"
OUR_HEADERS = ROOT / "include"


def compiler_path(name: str) -> str | None:
    """The path of a compiler, never a link to ccache; None where it is not installed."""
    for directory in os.get_exec_path():
        path = shutil.which(name, path=directory)
        if path is not None and Path(path).resolve().name != "ccache":
            return path
    return None


def text_bytes(object_file: Path) -> int:
    """The bytes of all sections of machine code."""
    sections = (line.split() for line in run_program(["size", "-A", str(object_file)]).splitlines())
    return sum(int(cells[1]) for cells in sections if cells and cells[0].startswith(".text"))


def compile_cost(compiler: str, headers: Path, source: str, options: tuple[str, ...]) -> Figures:
    """Compiles a file once: the compiler's user seconds, children included, and bytes of code."""
    with tempfile.TemporaryDirectory(prefix="singleflight-bench-") as scratch:
        out = Path(scratch) / "out.o"
        command = [compiler, "-std=c++20", "-g0", *options, "-I", str(headers),
                   "-c", str(SOURCES / source), "-o", str(out)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = completed(command)
        user_s = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            raise Failure(f"{source} does not compile with {headers}"
                          + (f": {errors[0]}" if errors else ""))
        return {"user_s": user_s, "text_bytes": text_bytes(out)}


@dataclass(frozen=True)
class OtherCommit:
    """The commit that --against names."""

    name: str
    headers: Path


def git(*arguments: str) -> list[str]:
    """A git command on this repository."""
    return ["git", "-C", str(ROOT), *arguments]


@contextmanager
def checked_out(revision: str | None) -> Iterator[OtherCommit | None]:
    """Checks out a revision's headers in a temporary worktree, which is removed at the end."""
    if revision is None:
        yield None
        return
    commit = first_line(git("rev-parse", "--verify", "--quiet", "--end-of-options",
                            f"{revision}^{{commit}}"))
    if not commit:
        raise UsageError(f"--against: there is no commit '{revision}'")
    with tempfile.TemporaryDirectory(prefix="singleflight-bench-") as scratch:
        tree = Path(scratch) / "tree"
        try:
            run_program(git("worktree", "add", "--quiet", "--detach", "--no-checkout",
                            str(tree), commit))
            run_program(["git", "-C", str(tree), "checkout", "--quiet", commit, "--", "include"])
            name = first_line(git("rev-parse", "--short", commit))
            yield OtherCommit(f"commit {name}", tree / "include")
        finally:
            if tree.exists():
                run_program(git("worktree", "remove", "--force", str(tree)))
