# SPDX-License-Identifier: Apache-2.0
"""Simulates a log of requests in columns with the plain simulator of the integration tests: four
protections, loads of 20 ms, a ttl of an hour."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "tests" / "integration" / "lab"))

from simulator import PROTECTIONS, simulate  # pylint: disable=wrong-import-position


def main():
    """The first argument is the log; each line after the first is a time in seconds and a key."""
    requests = []
    with open(sys.argv[1], encoding="ascii") as log:
        next(log)
        for line in log:
            moment, key = line.split(",")
            requests.append((int(float(moment) * 1e9), key))
    for protection in PROTECTIONS:
        counts = simulate(requests, protection, lambda _: 20_000_000, ttl=3600 * 10**9)
        print(protection, counts["loads"])


main()
