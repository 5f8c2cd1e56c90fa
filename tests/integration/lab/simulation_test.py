#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The simulation of a log with times: against a second simulator, against a replay in real time,
and as users run it. SINGLEFLIGHT names the program."""

import json
import random
import unittest

from program import LabCase, access_log, run
from simulator import PROTECTIONS, simulate

MS = 1_000_000


def arrivals(count, per_second, seed, step=10 * MS):
    """Requests as (ns, key), at times that are multiples of `step`; of 300 keys a few are far more
    popular than others."""
    dice = random.Random(seed)
    requests, now = [], 0.0
    for _ in range(count):
        now += dice.expovariate(per_second) * 1e9
        requests.append((int(now / step) * step, min(int(dice.paretovariate(0.8)), 300)))
    return requests


def as_csv(requests):
    lines = (f"{now // 1_000_000_000}.{now // 1000 % MS:06},k{key}\n" for now, key in requests)
    return "time,key\n" + "".join(lines)


class second_opinion(LabCase):
    # Goal    The lab's simulation makes exactly the loads that an independent one makes.
    # Method  Random logs. Loads of 20 ms end at moments at which requests arrive, loads of 23 ms
    #         between them.
    def test_loads_are_equal(self):
        compared = 0
        for number, (per_second, load_ms, ttl_ms, refresh_ms, processes) in enumerate((
                (200, 20, 0, 0, 1), (200, 23, 0, 0, 1), (20, 23, 1000, 0, 1), (100, 23, 500, 0, 3),
                (300, 213, 2000, 0, 1), (50, 23, 2000, 1000, 1), (80, 333, 3000, 1500, 2),
                (400, 3003, 0, 0, 1), (5, 23, 60000, 0, 5))):
            log = arrivals(3000, per_second, seed=number)
            options = ["--load-time", f"{load_ms}ms", "--processes", processes]
            options += ["--ttl", f"{ttl_ms}ms"] if ttl_ms else ["--capacity", 10_000]
            options += ["--refresh-after", f"{refresh_ms}ms"] if refresh_ms else []
            results, _, complaints = self.lab("--log", self.write("log", as_csv(log)), *options)
            self.assertRegex(complaints, r"\A[^\n]* is read as: CSV, key: key; [^\n]*\n\Z")
            self.assertEqual([each["protection"] for each in results["runs"]], list(PROTECTIONS))
            for each in results["runs"]:
                with self.subTest(number=number, protection=each["protection"]):
                    expected = simulate(log, each["protection"], lambda _: load_ms * MS,
                                        ttl_ms * MS, refresh_ms * MS, processes)
                    found = {"loads": each["backend_loads"], "joined": each["joined"],
                             "peak": each["peak_loads"]}
                    cache = each.get("cache", {"hits": 0, "refreshes": 0})
                    found |= {"hits": cache["hits"], "refreshes": cache["refreshes"]}
                    self.assertEqual(found, expected)
                    self.assertEqual(each["saved"], each["requests"] - each["backend_loads"])
                    compared += 1
        self.assertEqual(compared, 36)


class own_times(LabCase):
    # Goal    What is computed is what a replay at the log's own times measures, within 2 %.
    # Method  Five logs of less than a second, whose requests arrive at any microsecond: where the
    #         end of a load and a request coincide, a replay's threads decide by chance.
    def test_replay_at_the_same_speed(self):
        for number, (per_second, load, ttl) in enumerate((
                (600, "30ms", None), (500, "5ms", "200ms"), (800, "100ms", "150ms"),
                (400, "10ms", "1s"), (1000, "50ms", None))):
            log = arrivals(per_second * 3 // 4, per_second, seed=number, step=1000)
            path = self.write("log", as_csv(log))
            options = ["--log", path, "--backend", f"delay:{load}"]
            options += ["--protect", "flight,cache"]
            if ttl:
                options += ["--ttl", ttl]
            computed, _, _ = self.lab(*options, *([] if ttl else ["--capacity", 1000]))
            measured, text, _ = self.lab(*options, "--speed", 1)
            self.assertNotIn("the log has", text)
            for one, other in zip(computed["runs"], measured["runs"]):
                with self.subTest(number=number, protection=one["protection"]):
                    self.assertEqual(one["requests"], other["requests"])
                    self.assertAlmostEqual(one["backend_loads"], other["backend_loads"],
                                           delta=0.02 * other["backend_loads"])


class simulation(LabCase):
    def log(self, count=2000):
        return self.write("access", access_log(count))

    # Goal    A log with times is simulated, at once; one without is replayed; so is one with a
    #         pacing or --replay, which says how its rate compares with the log's.
    def test_what_is_simulated(self):
        results, text, _ = self.lab("--log", self.log(20_000))
        self.assertTrue(results["simulated"])
        self.assertIn("simulated at these times", text)
        self.assertIn("20.0 ms, assumed", text)
        keys = self.write("keys", "a\nb\na\n")
        results, text, complaints = self.lab("--log", keys, "--backend", "delay:1ms")
        self.assertNotIn("simulated", results)
        self.assertIn("no times that can be used, so it is replayed", complaints)
        results, _, _ = self.lab("--log", keys, "--connections", 2)
        self.assertEqual(results["workload"]["connections"], 2)
        self.assertNotIn("the log has", text)
        for how in (["--replay"], ["--callers", 9], ["--replay", "--rate", 1000]):
            results, text, _ = self.lab("--log", self.log(300), "--backend", "delay:1ms", *how)
            self.assertNotIn("simulated", results)
            self.assertRegex(text, r"the log has 7\.\d\d requests a second, this replay makes \d")

    def test_outputs(self):
        page = self.folder / "page.html"
        results, text, _ = self.lab("--log", self.log(), "--key-from", "path", "--load-time", "2s",
                                    "--report", page)
        runs = {each["protection"]: each for each in results["runs"]}
        self.assertEqual(runs["none"]["backend_loads"], 2000)
        for name, each in runs.items():
            self.assertEqual(sum(hour["loads"][name] for hour in results["hours"]),
                             each["backend_loads"])
        self.assertEqual(sum(hour["requests"] for hour in results["hours"]), 2000)
        self.assertEqual(results["hours"][0]["start"], "2024-03-12 09:00")
        hottest = results["hot_keys"][0]
        self.assertEqual(hottest["key"], "/products/1")
        self.assertEqual(hottest["loads"]["none"], hottest["requests"])
        self.assertGreater(results["all_stampedes"], 10)
        largest = results["stampedes"][0]
        self.assertEqual((largest["key"], largest["loads"]["none"], largest["loads"]["flight"]),
                         ("/products/1", largest["requests"], 1))
        self.assertEqual(largest["load_ms"], 2000)
        sweep = results["sweep"]
        self.assertEqual((len(sweep["saved"]), len(sweep["saved"][0])),
                         (len(sweep["capacities"]), len(sweep["ttls"])))
        advised = results["recommendation"]
        self.assertEqual(advised["protection"], "cache")
        self.assertEqual(results["workload"]["cache_capacity"], advised["capacity"])
        # Not sampled, so the sweep says what the run says; but its keys have other hashes, which
        # evictions depend on.
        row = sweep["capacities"].index(advised["capacity"])
        column = sweep["ttls_ms"].index(advised["ttl_ms"])
        self.assertAlmostEqual(sweep["saved"][row][column], runs["cache"]["saved"] / 2000,
                               delta=0.003)
        for words in ("saved, hottest keys", "largest stampedes", "saved by a cache",
                      "recommended", "chosen from the sweep"):
            self.assertIn(words, text)
        content = page.read_text()
        for words in ("Recommendation", "hottest keys", "largest stampedes", 'id="sweep"'):
            self.assertIn(words, content)

    # Goal    The same seed gives the same results; so does a second run without one.
    def test_runs_repeat(self):
        log = self.log()
        options = ["--log", log, "--key-from", "path",
                   "--load-time", "lognormal:200ms,p99=5s", "--fail", "10%",
                   "--ttl", "30s", "--refresh-after", "10s", "--stale-if-error", "1h"]
        first, _, _ = self.lab(*options)
        self.assertEqual(self.lab(*options)[0], first)
        self.assertNotEqual(self.lab(*options, "--seed", 2)[0]["runs"], first["runs"])
        cache = first["runs"][3]["cache"]
        self.assertGreater(cache["stale"], 0)
        self.assertGreater(cache["refreshes"], 0)
        self.assertEqual(cache["hits"] + cache["stale"] + cache["misses"], 2000)

    def test_processes(self):
        options = ["--log", self.log(), "--load-time", "1s", "--ttl", "10s"]
        alone, _, _ = self.lab(*options)
        each, text, _ = self.lab(*options, "--processes", 4)
        self.assertIn("processes 4, each with", text)
        self.assertGreater(each["runs"][3]["backend_loads"], alone["runs"][3]["backend_loads"])
        one, text, _ = self.lab(*options, "--processes", 4, "--fleet", "one")
        self.assertIn("which share one", text)
        self.assertEqual(one["runs"], alone["runs"])

    def test_load_times_of_a_database(self):
        results, text, _ = self.lab(
            "--log", self.write("log", "time,key\n0,1\n0.5,2\n"), "--db",
            f"sqlite:{self.database()}", "--query", "SELECT name FROM users WHERE id = :key")
        self.assertIn("loads of a short trial", text)
        self.assertIn("loads of a short trial", results["workload"]["load_time"])

    # Goal    A log of one request, and one whose requests share one moment, have results.
    def test_small_logs(self):
        for rows in ("0,a\n", "5.5,a\n" * 3):
            results, text, _ = self.lab("--log", self.write("log", "time,key\n" + rows))
            self.assertEqual(results["runs"][0]["backend_loads"], rows.count("\n"))
            self.assertIn("recommended", text)
        results, _, complaints = self.lab("--log", self.write("log", "time,key\n9.5,b\n1.25,a\n"))
        self.assertIn("have an earlier time", complaints)
        self.assertEqual(results["workload"]["duration_s"], 8.25)

    def test_names_that_are_markup(self):
        page = self.folder / "page.html"
        log = self.write("log", "time,key\n0,<script>alert(1)</script>\n0,é\n")
        _, text, _ = self.lab("--log", log, "--report", page)
        self.assertNotIn("<script>alert", page.read_text())
        self.assertIn("\né ", text)

    def test_bad_input(self):
        log = self.log(10)
        keys = self.write("keys", "a\n")
        for arguments, saying in (
            (["--log", log, "--load-time", "soon"], "--load-time 20ms"),
            (["--log", log, "--load-time", "lognormal:20ms"], "lognormal:20ms,p99=200ms"),
            (["--log", log, "--load-time", "lognormal:20ms,p99=1ms"], "not longer"),
            (["--log", log, "--load-time", "1s", "--backend", "delay:1s"], "omit one"),
            (["--log", log, "--processes", "0"], "--processes 4"),
            (["--log", log, "--fleet", "one"], "add --processes N"),
            (["--log", log, "--processes", "2", "--fleet", "two"], "'one'"),
            (["--log", log, "--deadline", "1s"], "add --replay"),
            (["--log", log, "--retry"], "add --replay"),
            (["--log", log, "--max-loads", "3"], "add --replay"),
            (["--log", log, "--replay", "--load-time", "1s"], "omit --load-time"),
            (["--log", log, "--callers", "3", "--processes", "2"], "omit --processes"),
            (["--log", keys, "--load-time", "1s"], "no time of the log could be read"),
            (["--log", self.write("unread", "time,key\nnoon,a\nnoon,b\n"), "--time-from",
              "column=time"], "no time was read"),
            (["--log", log, "--protect", "cache-alone", "--ttl", "9s", "--refresh-after", "3s"],
             "cache-alone has neither"),
            (["--log", log, "--connections", "5"], "--connections is for a replay"),
            (["--load-time", "1s"], "add --log FILE"),
            (["--log", log, "--protect", "none,flight", "--ttl", "1s"], "--protect none,cache"),
            (["--log", log, "--replay", "--ttl", "1s"], "--protect none,cache"),
        ):
            with self.subTest(arguments=arguments):
                self.refused(*arguments, saying=saying)


if __name__ == "__main__":
    unittest.main()
