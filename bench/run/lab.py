# SPDX-License-Identifier: Apache-2.0
"""The lab at the size of a large log: how fast it reads, and how fast it simulates."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from . import ROOT, Failure, Figures
from .programs import Programs

AGENT = ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 "
         "Safari/537.36")
SIMULATED = 10_000_000


def the_lab(programs: Programs) -> str:
    """The path of the program."""
    path = programs.build / "bin" / "singleflight"
    if not path.is_file():
        raise Failure(f"there is no {path}; build it with: cmake --preset release && "
                      "cmake --build --preset release")
    return str(path)


def timed(command: list[str]) -> Figures:
    """How long a program takes that must succeed, and its most memory."""
    began = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as program:
        _, status, used = os.wait4(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
    if program.returncode != 0:
        raise Failure(f"{' '.join(command)} failed with exit code {program.returncode}")
    return {"s": time.monotonic() - began, "peak_mb": used.ru_maxrss / 1024}


def made_once(path: Path, lines) -> Path:
    """Writes the lines into a file, if it is not there from an earlier round."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        with open(unfinished, "w", encoding="ascii") as file:
            file.writelines(lines)
        unfinished.rename(path)
    return path


def access_log_lines(size: int):
    """A log in Combined Log Format: pages of a shop, some much more often than others."""
    chance = random.Random(1)
    block = []
    for i in range(5_000):
        second = i // 10
        page = int(10_000 ** chance.random())
        block.append(
            f"{chance.randrange(1, 224)}.{i % 251}.7.9 - - [01/Mar/2024:00:{second // 60:02}:"
            f'{second % 60:02} +0000] "GET /products/{page}?ref={i % 5} HTTP/1.1" 200 '
            f'{chance.randrange(200, 60_000)} "https://shop.example.org/list/{i % 800}" '
            f'"{AGENT if i % 2 else "curl/7.88"}"\n')
    text = "".join(block)
    for _ in range(-(-size // len(text))):
        yield text


def request_lines(count: int):
    """Requests in columns: a hundred a second, for about a million keys."""
    chance = random.Random(1)
    yield "time,key\n"
    moment = 1_700_000_000.0
    for _ in range(count):
        moment += chance.expovariate(100)
        yield f"{moment:.6f},{int(8_000_000 ** chance.random())}\n"


def reading(programs: Programs, side: str, size: int) -> Figures:
    """What the lab or a peer takes to read a log of so many bytes."""
    folder = programs.build / "bench" / "logs"
    log = made_once(folder / f"{size}.log", access_log_lines(size))
    command = {
        "ours": [the_lab(programs), "lab", "read", "--quiet", str(log)],
        "wc": ["wc", "-l", str(log)],
        "goaccess": ["goaccess", str(log), "--no-global-config", "--log-format=COMBINED",
                     "--no-progress", "--no-parsing-spinner", "-o",
                     str(folder / "goaccess.json")],
    }[side]
    # The log is in memory, and one processor is enough for each.
    taken = timed(["taskset", "-c", str(max(os.sched_getaffinity(0))), *command])
    return {"s": taken["s"], "mb_per_s": log.stat().st_size / 1e6 / taken["s"]}


def simulation(programs: Programs, side: str) -> Figures:
    """What the lab, or a plain simulator in Python, takes for four protections."""
    log = made_once(programs.build / "bench" / "logs" / "requests.csv", request_lines(SIMULATED))
    if side == "ours":
        return timed([the_lab(programs), "lab", "--log", str(log), "--load-time", "20ms",
                      "--protect", "none,flight,cache-alone,cache"])
    return timed([sys.executable, str(ROOT / "bench" / "peers" / "python" / "simulate.py"),
                  str(log)])
