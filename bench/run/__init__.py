# SPDX-License-Identifier: Apache-2.0
"""Runs our benchmarks and their peers side by side, and reports who is faster and by how much.

    rows        the table: what each row reads, its peer and its target
    scenarios   what one round runs to measure the rows
    programs    the programs that the scenarios run, and how the peers are built
    build_cost  what a source file costs to compile, here and at another commit
    lab         the logs that the program reads and simulates, and what it takes
    report      the table on standard output, the JSON file, the machine
    __main__    the command line and the rounds

Every round runs each program once, ours directly before or after the peer's (the order alternates),
so that both see the same machine. A figure is the median over the rounds, and a ratio is the median
of the rounds' ratios. bench/README.md explains each row and how to read it.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

Figures = dict[str, float]


class Failure(Exception):
    """Ends the run with exit code 1: a peer is missing, or a program failed."""


class UsageError(Exception):
    """Ends the run with exit code 2: an option that makes no sense."""
