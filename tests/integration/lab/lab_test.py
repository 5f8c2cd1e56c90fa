#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`singleflight lab`, run as users run it. SINGLEFLIGHT names the program."""

import gzip
import json
import os
import pty
import random
import signal
import subprocess
import time
import unittest

from program import PROGRAM, QUICK, LabCase, access_log, run


class defaults(LabCase):
    def test_no_arguments(self):
        began = time.monotonic()
        results, text, _ = self.lab()
        self.assertLess(time.monotonic() - began, 60)
        none, flight = results["runs"]
        self.assertEqual([none["protection"], flight["protection"]], ["none", "flight"])
        self.assertEqual(none["backend_loads"], none["requests"])
        self.assertEqual(none["errors"], {})
        self.assertEqual(flight["errors"], {})
        self.assertEqual(flight["saved"] + flight["backend_loads"], flight["requests"])
        self.assertLess(flight["backend_loads"], none["backend_loads"] / 4)
        self.assertLess(flight["latency_ms"]["p99"], none["latency_ms"]["p99"])
        self.assertLess(flight["peak_loads"], none["peak_loads"])
        self.assertIn("fewer backend loads than none", text)

    def test_help_and_version(self):
        for arguments in (["--help"], ["lab", "--help"], ["lab", "hit-ratio", "--help"],
                          ["--version"]):
            done = run(*arguments)
            self.assertEqual(done.returncode, 0)
            self.assertEqual(done.stderr, b"")
        self.assertIn(b"--protect", run("lab", "--help").stdout)
        self.assertIn(b"--capacity", run("lab", "hit-ratio", "--help").stdout)
        self.assertRegex(run("--version").stdout, rb"singleflight \d+\.\d+\.\d+")

    def test_no_progress_without_a_terminal(self):
        done = run("lab", *QUICK, "--requests", 50)
        self.assertEqual(done.stderr, b"")
        self.assertNotIn(b"\x1b", done.stdout)

    def test_progress_on_a_terminal(self):
        leader, follower = pty.openpty()
        with subprocess.Popen([PROGRAM, "lab", *QUICK, "--requests", "500"],
                              stdout=subprocess.PIPE, stderr=follower) as lab:
            os.close(follower)
            drawn = b""
            try:
                while chunk := os.read(leader, 4096):
                    drawn += chunk
            except OSError:  # the other end is closed
                pass
            text = lab.stdout.read()
        os.close(leader)
        self.assertEqual(lab.returncode, 0)
        self.assertIn(b"of 500", drawn)
        self.assertTrue(drawn.endswith(b"\r\x1b[K"), drawn[-80:])
        self.assertNotIn(b"\x1b", text)


class logs(LabCase):
    def replay(self, path, *arguments, stdin=None):
        results, text, complaints = self.lab("--log", path, *QUICK, *arguments, stdin=stdin)
        return results["workload"], text, complaints, results["runs"]

    def test_every_format_plain_and_packed(self):
        keys = "".join(f"{i * 7 % 13}\n" for i in range(200))
        csv = "time,key\n" + "".join(f'{i / 10},"k,{i % 9}"\n' for i in range(200))
        combined = access_log(200)
        for packed in (False, True):
            workload, _, complaints, runs = self.replay(self.write("keys", keys, packed))
            self.assertEqual((workload["requests"], workload["distinct_keys"]), (200, 13))
            self.assertIn("one key per line", workload["source"])
            self.assertEqual(complaints.count("\n"), 1, complaints)
            self.assertIn("is read as: one key per line; its first request: 0", complaints)
            self.assertEqual([each["requests"] for each in runs], [200, 200])
            workload, _, _, _ = self.replay(self.write("csv", csv, packed))
            self.assertEqual((workload["requests"], workload["distinct_keys"]), (200, 9))
            self.assertIn("CSV", workload["source"])
            workload, _, _, _ = self.replay(self.write("access", combined, packed))
            self.assertEqual(workload["requests"], 200)
            self.assertIn("access log", workload["source"])

    def test_standard_input(self):
        text = b"a\nb\na\n"
        self.assertEqual(self.replay("-", stdin=text)[0]["distinct_keys"], 2)
        self.assertEqual(self.replay("-", stdin=gzip.compress(text))[0]["requests"], 3)

    def test_keys(self):
        log = self.write("access", access_log(300))
        by = {part: self.replay(log, "--key-from", part)[0]["distinct_keys"]
              for part in ("path", "url", "query", "field=1")}
        self.assertEqual(by["query"], 3)
        self.assertEqual(by["field=1"], 3)
        self.assertGreater(by["url"], by["path"])
        csv = self.write("csv", "time,user,page\n1,u,/a\n2,v,/a\n3,w,/a\n")
        self.assertEqual(self.replay(csv, "--key-from", "column=user")[0]["distinct_keys"], 3)
        self.assertEqual(self.replay(csv, "--key-from", "column=page")[0]["distinct_keys"], 1)

    def test_malformed_lines_are_named(self):
        lines = access_log(20).splitlines()
        for number in (3, 5, 6, 8, 9, 11, 13):
            lines[number - 1] = "garbage"
        workload, _, complaints, _ = self.replay(self.write("access", "\n".join(lines)))
        self.assertEqual(workload["requests"], 13)
        self.assertEqual(workload["skipped_lines"], 7)
        self.assertEqual(
            [line.split(":")[0] for line in complaints.splitlines()[1:6]],
            [f"line {n}" for n in (3, 5, 6, 8, 9)],
        )
        self.assertIn("7 of 20 lines are malformed", complaints)

    def test_unusual_but_valid(self):
        marked = b"\xef\xbb\xbf" + access_log(30).replace("\n", "\r\n").encode()
        self.assertEqual(self.replay(self.write("marked", marked))[0]["requests"], 30)
        whole = gzip.compress("".join(f"{i * 7919 % 104729}\n" for i in range(30000)).encode())
        _, _, complaints, _ = self.replay(self.write("cut.gz", whole[: len(whole) // 2]),
                                          "--requests", 100)
        self.assertNotIn("incomplete", complaints)  # the broken part was not read
        workload, _, complaints, _ = self.replay(self.write("cut.gz", whole[:200]))
        self.assertIn("incomplete", complaints)
        self.assertGreater(workload["requests"], 5)
        long_line = self.write("long", "a\n" + "x" * 17_000_000 + "\nb\n")
        workload, _, complaints, _ = self.replay(long_line)
        self.assertEqual(workload["requests"], 2)
        self.assertIn("line 2: the line is longer than", complaints)
        unsorted = self.write("unsorted", "time,key\n5,a\n3,b\n4,c\n")
        _, _, complaints, _ = self.lab_by_time(unsorted)
        self.assertIn("have an earlier time", complaints)

    def lab_by_time(self, path):
        results, text, complaints = self.lab("--log", path, "--speed", "1000",
                                             "--backend", "delay:1ms")
        return results["workload"], text, complaints, results["runs"]

    def test_a_long_log_is_cut_to_half_a_minute_and_says_so(self):
        log = self.write("long", "".join(f"{i}\n" for i in range(300_000)))
        done = run("lab", "--log", log, "--backend", "delay:100ms", "--callers", "10",
                   "--protect", "flight", timeout=120)
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stderr,
                         rb"the log has 300,000 requests; the first [12],?\d00 are replayed")
        self.assertIn(b"--requests all", done.stderr)


class backends(LabCase):
    def test_the_users_own_database(self):
        path = self.database()
        before = path.read_bytes()
        results, text, _ = self.lab(
            "--db", f"sqlite:{path}", "--query", "SELECT name FROM users WHERE id = :key",
            "--connections", "3", "--generate", "zipf:keys=100,skew=1", "--requests", "500",
        )
        self.assertEqual(results["workload"]["connections"], 3)
        self.assertEqual(results["runs"][0]["backend_loads"], 500)
        self.assertEqual(results["runs"][0]["empty_answers"], 0)
        self.assertIn("users.db", text)
        self.assertEqual(path.read_bytes(), before)
        self.assertEqual(sorted(each.name for each in self.folder.iterdir()),
                         ["results.json", "users.db"])

    def test_failures_are_counted_and_the_run_continues(self):
        path = self.database()
        query = "SELECT abs(CASE WHEN :key = '7' THEN -9223372036854775807 - 1 ELSE 1 END)"
        results, text, _ = self.lab(
            "--db", f"sqlite:{path}", "--query", query, "--generate", "uniform:keys=10",
            "--requests", "400",
        )
        for each in results["runs"]:
            self.assertEqual(each["requests"], 400)
            self.assertGreater(each["errors"]["sqlite_error"], 10)
            self.assertLess(each["errors"]["sqlite_error"], 100)
            self.assertIn("integer overflow", each["error_examples"]["sqlite_error"])
        self.assertIn("failed with sqlite_error: integer overflow", text)

    def test_keys_that_no_row_has(self):
        log = self.write("log", "a\nb\nc\n")
        _, text, _ = self.lab(
            "--log", log, "--db", f"sqlite:{self.database()}",
            "--query", "SELECT 1 FROM users WHERE name = :key"
        )
        self.assertIn("every answer was empty", text)

    def test_injected_failures(self):
        log = self.write("log", "".join(f"{i % 50}\n" for i in range(1000)))
        replays = []
        for _ in range(2):
            results, text, _ = self.lab("--log", log, *QUICK, "--fail", "10%", "--seed", "3",
                                        "--protect", "none,flight")
            self.assertIn("that fails 10 % of the loads", text)
            self.assertIn("failed with injected", text)
            self.assertEqual(results["workload"]["fail_share"], 0.1)
            self.assertEqual(results["workload"]["seed"], 3)
            self.assertNotIn("slow_share", results["workload"])
            none, flight = results["runs"]
            self.assertEqual((none["requests"], none["backend_loads"]), (1000, 1000))
            self.assertEqual(flight["saved"] + flight["backend_loads"], flight["requests"])
            replays.append(none["errors"])
        self.assertEqual(replays[0], replays[1])
        self.assertTrue(50 < replays[0]["injected"] < 150, replays)
        results, _, _ = self.lab("--log", log, *QUICK, "--fail", "100%", "--protect", "none,flight")
        for each in results["runs"]:
            self.assertEqual(each["errors"], {"injected": 1000})
        results, text, _ = self.lab("--log", log, *QUICK, "--fail", "0%", "--slow", "0%:1h")
        for each in results["runs"]:
            self.assertEqual(each["errors"], {})
        self.assertNotIn("that fails", text)

    def test_injected_delays(self):
        page = self.folder / "page.html"
        results, text, _ = self.lab(
            *QUICK, "--generate", "uniform:keys=20", "--requests", "200", "--slow", "5%:50ms",
            "--report", page,
        )
        self.assertIn("that delays 5 % of the loads by 50.0 ms", text)
        self.assertIn("that delays 5 % of the loads by 50.0 ms", page.read_text())
        self.assertEqual((results["workload"]["slow_share"], results["workload"]["slow_ms"]),
                         (0.05, 50))
        none = results["runs"][0]
        self.assertEqual(none["errors"], {})
        self.assertLess(none["latency_ms"]["p50"], 50)
        self.assertGreaterEqual(none["latency_ms"]["max"], 51)

    # Each attempt, each load that passed the guards and each load that they held back is counted.
    def assert_adds_up(self, each):
        guards = each["guards"]
        ended = each["backend_loads"] + guards.get("rejected", 0) + guards.get("gave_up", 0)
        self.assertEqual(guards["asked"] + guards.get("retries", 0), ended)

    def test_retries(self):
        arguments = [*QUICK, "--generate", "uniform:keys=500", "--requests", "1000",
                     "--fail", "30%"]
        results, text, _ = self.lab(*arguments)
        plain = results["runs"]
        self.assertNotIn("guards", plain[0])
        self.assertNotIn("guards", text)
        results, text, _ = self.lab(*arguments, "--retry", "5")
        self.assertIn("at most 5 attempts per load", text)
        self.assertRegex(text, r"\nguards +asked +retries\n")
        self.assertEqual(results["workload"]["retry_attempts"], 5)
        for without, each in zip(plain, results["runs"]):
            self.assertGreater(without["errors"]["injected"], 200)
            self.assertLess(each["errors"].get("injected", 0), 30)
            self.assertEqual(list(each["guards"]), ["asked", "retries"])
            self.assertEqual(each["guards"]["asked"] + each["saved"], 1000)
            self.assertGreater(each["guards"]["retries"], 200)
            self.assert_adds_up(each)
        # Without a number there are three attempts, whatever argument follows.
        for more in (["--retry"], ["--retry", "--callers", "9"]):
            results, _, _ = self.lab("--backend", "delay:1ms", "--requests", "30",
                                     "--fail", "100%", "--protect", "none", *more)
            only = results["runs"][0]
            self.assertEqual((only["backend_loads"], only["errors"]["injected"]), (90, 30))

    def test_no_retry_outlasts_the_deadline(self):
        results, _, _ = self.lab(
            *QUICK, "--requests", "50", "--fail", "100%", "--retry", "100", "--deadline", "60ms",
            "--protect", "none",
        )
        only = results["runs"][0]
        self.assertGreater(only["guards"]["retries"], 50)
        self.assertLess(only["guards"]["retries"], 50 * 20)
        self.assertLess(only["latency_ms"]["p50"], 70)

    def test_a_breaker(self):
        arguments = [*QUICK, "--generate", "uniform:keys=500", "--requests", "1000"]
        results, text, _ = self.lab(*arguments, "--fail", "100%", "--breaker")
        self.assertIn("a breaker that opens at 50 % failures", text)
        self.assertIn("failed with rejected", text)
        for each in results["runs"]:
            self.assertLess(each["backend_loads"], 100)
            self.assertGreater(each["errors"]["rejected"], 900)
            self.assertEqual(sum(each["errors"].values()), 1000)
            self.assertGreaterEqual(each["guards"]["opened"], 1)
            self.assert_adds_up(each)
        self.assertEqual(results["runs"][0]["errors"]["rejected"],
                         results["runs"][0]["guards"]["rejected"])
        for share, opened in (("60%", 0), ("5%", 1)):
            results, _, _ = self.lab(*arguments, "--fail", "15%", "--breaker", share,
                                     "--protect", "none")
            only = results["runs"][0]
            self.assertEqual(min(only["guards"]["opened"], 1), opened, share)
            self.assertEqual("rejected" in only["errors"], opened == 1, share)

    def test_a_bound(self):
        page = self.folder / "page.html"
        results, text, _ = self.lab(
            *QUICK, "--generate", "uniform:keys=500", "--requests", "200", "--max-loads", "1",
            "--report", page,
        )
        self.assertIn("at most 1 load at a time", text)
        self.assertIn("at most 1 load at a time", page.read_text())
        for each in results["runs"]:
            self.assertEqual(each["peak_loads"], 1)
            self.assertEqual(max(each["series"]["most"]), 1)
            self.assertEqual(each["errors"], {})
            self.assertGreater(each["guards"]["queued"], 100)
            self.assertGreater(each["guards"]["wait_ms"]["max"], 1)
            self.assertGreaterEqual(each["wall_s"], each["backend_loads"] * 0.001)
            self.assert_adds_up(each)

    # A load whose callers have all left leaves the queue and does not run.
    def test_a_bound_and_a_deadline(self):
        results, _, _ = self.lab(
            "--backend", "delay:20ms", "--callers", "10", "--generate", "uniform:keys=500",
            "--requests", "60", "--max-loads", "1", "--deadline", "50ms",
        )
        for each in results["runs"]:
            self.assertGreater(each["errors"]["timed_out"], 20)
            self.assertGreater(each["guards"]["gave_up"], 20)
            self.assertLess(each["backend_loads"], 40)
            self.assert_adds_up(each)

    def test_all_guards_together(self):
        results, text, _ = self.lab(
            *QUICK, "--requests", "500", "--fail", "20%", "--retry", "4", "--breaker", "60%",
            "--max-loads", "3", "--seed", "2",
        )
        self.assertRegex(text,
                         r"\nguards +asked +retries +rejected +opened +queued +gave up"
                         r" +mean wait +longest\n")
        for each in results["runs"]:
            self.assertLessEqual(each["peak_loads"], 3)
            self.assertLess(sum(each["errors"].values()), 40)
            self.assert_adds_up(each)

    def test_a_deadline(self):
        results, _, _ = self.lab(
            "--generate", "hot:keys=1", "--callers", "20", "--requests", "100",
            "--connections", "1", "--deadline", "20ms",
        )
        none, flight = results["runs"]
        self.assertGreater(none["errors"]["timed_out"], 20)
        self.assertLess(flight["errors"].get("timed_out", 0), none["errors"]["timed_out"])
        self.assertEqual(none["saved"], 0)


class cache(LabCase):
    def run_of(self, *arguments):
        results, text, _ = self.lab("--protect", "none,cache", *arguments)
        none, cached = results["runs"]
        self.assertNotIn("cache", none)
        counts = cached["cache"]
        self.assertEqual(counts["hits"] + counts["stale"] + counts["misses"], cached["requests"])
        return results["workload"], none, cached, text

    def test_answers_are_stored(self):
        keys = self.write("keys", "".join(f"{i * 7 % 40}\n" for i in range(800)))
        workload, none, cached, text = self.run_of("--log", keys, *QUICK)
        self.assertEqual(none["backend_loads"], 800)
        self.assertEqual(cached["backend_loads"], 40)
        self.assertEqual(cached["saved"], 760)
        self.assertEqual(cached["errors"], {})
        self.assertLess(cached["latency_ms"]["p50"], none["latency_ms"]["p50"])
        self.assertEqual(workload["cache_capacity"], 10000)
        self.assertNotIn("cache_ttl_ms", workload)
        self.assertIn("at most 10,000 entries; fresh forever", text)
        self.assertIn("refreshes", text)

    def test_a_small_cache(self):
        _, _, cached, _ = self.run_of("--generate", "uniform:keys=100", "--requests", "1000",
                                      *QUICK, "--capacity", "10")
        self.assertGreater(cached["cache"]["evicted"], 500)
        self.assertGreater(cached["backend_loads"], 500)

    def test_its_times(self):
        workload, none, cached, text = self.run_of(
            "--generate", "uniform:keys=5", "--rate", "400", "--requests", "600",
            "--backend", "delay:2ms",
            "--ttl", "400ms", "--refresh-after", "100ms", "--stale-if-error", "10s",
        )  # fmt: skip
        self.assertEqual(
            [workload[name] for name in ("cache_ttl_ms", "cache_refresh_after_ms",
                                         "cache_stale_if_error_ms")],
            [400, 100, 10000],
        )
        self.assertGreater(cached["cache"]["refreshes"], 20)
        self.assertLess(cached["cache"]["misses"], 50)
        self.assertLess(cached["backend_loads"], none["backend_loads"] / 3)
        self.assertIn("fresh for 400 ms", text)

    def test_stale_answers_when_the_backend_is_down(self):
        arguments = ("--generate", "uniform:keys=5", "--rate", "400", "--requests", "600",
                     "--backend", "delay:1ms",
                     "--fail", "50%", "--ttl", "50ms")  # fmt: skip
        _, none, without, _ = self.run_of(*arguments)
        _, _, cached, _ = self.run_of(*arguments, "--stale-if-error", "10s")
        self.assertGreater(none["errors"]["injected"], 200)
        self.assertGreater(without["errors"]["injected"], 10)
        self.assertGreater(cached["cache"]["stale"], 20)
        self.assertLess(sum(cached["errors"].values()), sum(without["errors"].values()) / 2)

    def test_in_front_of_all_guards(self):
        results, _, _ = self.lab("--protect", "none,flight,cache", *QUICK, "--requests", "500",
                                 "--fail", "20%", "--retry", "--breaker",
                                 "--max-loads", "2")  # fmt: skip
        none, flight, cached = results["runs"]
        self.assertLess(cached["guards"]["asked"], flight["guards"]["asked"])
        self.assertLessEqual(cached["peak_loads"], 2)
        self.assertEqual(none["guards"]["asked"], 500)

    def test_a_page(self):
        page = self.folder / "page.html"
        self.lab("--protect", "flight,cache", *QUICK, "--requests", "100", "--report", page)
        self.assertIn("Cache hits", page.read_text())

    def test_bad_input(self):
        for arguments, saying in (
            (["--ttl", "10s"], "--protect none,cache"),
            (["--capacity", "10", "--protect", "none,flight"], "is for the protection cache"),
            (["--refresh-after", "10s"], "is for the protection cache"),
            (["--stale-if-error", "10s"], "is for the protection cache"),
            (["--protect", "cache", "--capacity", "0"], "--capacity 1000"),
            (["--protect", "cache", "--capacity", "5%"], "--capacity 1000"),
            (["--protect", "cache", "--ttl", "10"], "--ttl 10s"),
            (["--protect", "cache", "--ttl", "-1s"], "--ttl 10s"),
            (["--protect", "cache", "--ttl", ""], "--ttl"),
            (["--protect", "cache", "--ttl", "5s", "--refresh-after", "5s"],
             "not shorter than --ttl"),
            (["--protect", "cache", "--refresh-after", "soon"], "--refresh-after 5s"),
            (["--protect", "cache", "--stale-if-error", "5s"], "add --ttl 10s"),
            (["--protect", "cache", "--ttl", "5s", "--stale-if-error", "no"],
             "--stale-if-error 60s"),
        ):
            with self.subTest(arguments=arguments):
                self.refused(*arguments, saying=saying)


class pacing(LabCase):
    def test_a_rate(self):
        results, _, _ = self.lab(
            "--rate", "200", "--requests", "200", "--backend", "delay:30ms",
            "--generate", "uniform:keys=1000",
        )
        for each in results["runs"]:
            self.assertGreaterEqual(each["wall_s"], 1.0)
            # On a busy machine; a closed loop of one would take 6.
            self.assertLess(each["wall_s"], 5)
            self.assertGreaterEqual(each["latency_ms"]["p50"], 29.9)
            self.assertGreaterEqual(each["peak_loads"], 5)

    # Goal    No coordinated omission: a request that a slow backend delays counts from when it was
    #         due.
    # Method  100 requests in 0.1 s, one connection, about 10 ms each: the last one waits for all
    #         others.
    def test_latency_counts_from_when_a_request_was_due(self):
        results, _, _ = self.lab(
            "--rate", "1000", "--requests", "100", "--connections", "1",
            "--generate", "uniform:keys=500", "--protect", "none",
        )
        only = results["runs"][0]
        self.assertGreater(only["latency_ms"]["max"], 600 * only["wall_s"])
        self.assertGreater(only["peak_loads"], 50)

    def test_the_logs_own_times(self):
        lines = "".join(f"{1_700_000_000 + i // 50},{i}\n" for i in range(200))
        log = self.write("log", "time,key\n" + lines)
        results, _, _ = self.lab("--log", log, "--speed", "4", "--backend", "delay:1ms",
                                 "--protect", "flight")
        # 4 s of the log at 4 times its speed; the last of 50 requests is due 0.02 s before its
        # second ends.
        self.assertGreaterEqual(results["runs"][0]["wall_s"], 0.99)
        self.assertLess(results["runs"][0]["wall_s"], 5)
        self.assertLess(results["runs"][0]["peak_loads"], 50)  # they were not made all at once


class outputs(LabCase):
    def test_json_and_page(self):
        page = self.folder / "page.html"
        results, text, _ = self.lab(*QUICK, "--requests", "200", "--report", page)
        self.assertEqual(
            list(results["runs"][0])[:9],
            ["protection", "requests", "backend_loads", "saved", "peak_loads", "errors",
             "latency_ms", "requests_per_s", "wall_s"],
        )
        self.assertEqual(list(results["runs"][0]["latency_ms"]), ["p50", "p99", "p999", "max"])
        for column in ("requests", "loads", "saved", "peak", "errors", "p50", "p99", "p99.9", "max",
                       "req/s", "wall"):
            self.assertIn(column, text)
        content = page.read_text()
        self.assertTrue(content.startswith("<!DOCTYPE html>"))
        self.assertTrue(content.endswith("</html>\n"))
        self.assertEqual(sorted(each.name for each in self.folder.iterdir()),
                         ["page.html", "results.json"])

    def test_names_that_are_markup(self):
        log = self.write("<script>alert(1)<script>.log", "<b>\n</script>\n")
        page = self.folder / "page.html"
        self.lab("--log", log, *QUICK, "--report", page)
        self.assertNotIn("<script>alert", page.read_text())

    def test_a_full_disk(self):
        done = run("lab", *QUICK, "--requests", "20", "--json", "/dev/full")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count(b"\n"), 1)
        self.assertIn(b"No space left", done.stderr)
        # Standard output, whose last part is written at the very end.
        log = self.write("log", "a\nb\na\n")
        for command in (["read", log], ["hit-ratio", "--log", log], [*QUICK, "--requests", "20"]):
            with self.subTest(command=command), open("/dev/full", "wb") as full:
                # pylint: disable-next=consider-using-with
                lab = subprocess.Popen([PROGRAM, "lab", *map(str, command)], stdout=full,
                                       stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
                _, complaints = lab.communicate(timeout=60)
                self.assertEqual(lab.returncode, 1)
                self.assertIn(b"No space left", complaints)


    # Goal    A limit for the size of files ends in a sentence, and leaves no part of a file.
    def test_a_limit_for_files(self):
        results = self.folder / "results.json"
        done = subprocess.run(
            ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", PROGRAM, "lab", *QUICK, "--requests",
             "20", "--json", str(results)],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count(b"\n"), 1)
        self.assertIn(b"File too large", done.stderr)
        self.assertEqual(list(self.folder.iterdir()), [])


class bad_input(LabCase):
    def test_options(self):
        for arguments, saying in (
            (["--protect", "umbrella"], "none, flight, cache"),
            (["--protect", ""], "--protect"),
            (["--callers", "0"], "--callers 50"),
            (["--callers", "-3"], "--callers"),
            (["--rate", "-5"], "--rate 200"),
            (["--rate", "nan"], "--rate"),
            (["--rate", "1e400"], "--rate"),
            (["--deadline", "-1s"], "--deadline 500ms"),
            (["--deadline", "500"], "--deadline 500ms"),
            (["--connections", "99999999999999999999"], "--connections"),
            (["--generate", "zipf:keys=0"], "keys"),
            (["--generate", "zipf:skew=nan"], "skew"),
            (["--speed", "2"], "--log"),
            (["--backend", "delay:soon"], "delay:20ms"),
            (["--fail", "150%"], "--fail 5%"),
            (["--fail", "abc"], "--fail 5%"),
            (["--fail", "0.05"], "with the % sign"),
            (["--slow", "1%"], "--slow 1%:2s"),
            (["--slow", "1%:-2s"], "--slow 1%:2s"),
            (["--slow", ":2s"], "--slow 1%:2s"),
            (["--slow", ""], "--slow"),
            (["--retry", "0"], "--retry 3"),
            (["--retry", "often"], "--retry 3"),
            (["--breaker", "150%"], "--breaker 50%"),
            (["--breaker", "0%"], "--breaker 50%"),
            (["--breaker", "0.5"], "with the % sign"),
            (["--max-loads", "0"], "--max-loads 8"),
            (["--max-loads", "x"], "--max-loads 8"),
            (["--max-loads"], "--max-loads"),
            (["--json", "-"], "results.json"),
            (["--report", "-"], "lab.html"),
            (["--unheard-of"], "--help"),
            (["--callers"], "--callers"),
            (["surplus"], "surplus"),
            (["--callers", "5", "--callers", "6"], "--callers"),
        ):
            with self.subTest(arguments=arguments):
                self.refused(*arguments, saying=saying)
        done = run()
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (2, 1))
        done = run("loab")
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (2, 1))

    def test_logs(self):
        half = access_log(10).splitlines()
        half[:6] = ["junk"] * 6
        damaged = bytearray(gzip.compress(os.urandom(30_000).hex().encode()))
        damaged[5000:5100] = b"\x55" * 100
        for content, saying in (
            ("", "contains no requests"),
            ("\n \n", "contains no requests"),
            ("time,key\n", "contains no requests"),
            (gzip.compress(b""), "contains no requests"),
            (gzip.compress(b"a\nb\n")[:12], "contains no requests"),
            (bytes(damaged), "damaged"),
            (os.urandom(100_000), "malformed"),
            ("\n".join(half), "6 of the 10 lines"),
            ("x" * 500_000, "malformed"),
        ):
            with self.subTest(saying=saying):
                self.refused("--log", self.write("log", content), saying=saying)
                self.refused("--log", "-", saying=saying,
                             stdin=content.encode() if isinstance(content, str) else content)
        self.refused("--log", self.folder / "missing", saying="No such file")
        self.refused("--log", self.folder, saying="directory")
        self.refused("--log", self.write("log", "a\n"), "--key-from", "path",
                     saying="not an access log")
        self.refused("--log", self.write("log", "a\n"), "--speed", "1", saying="has no times")

    def test_databases(self):
        path = f"sqlite:{self.database()}"
        for query, saying in (
            ("SELEKT :key", "syntax error"),
            ("SELECT * FROM users", "no parameter :key"),
            ("SELECT * FROM nobody WHERE id = :key", "no such table"),
            ("DELETE FROM users WHERE id = :key", "not a query that reads"),
            ("SELECT :key; SELECT 1", "more than one"),
            ("SELECT\n*\nFROM nobody\nWHERE id = :key", "no such table"),
        ):
            with self.subTest(query=query):
                self.refused("--db", path, "--query", query, saying=saying)
        self.refused("--db", f"sqlite:{self.folder}/missing.db",
                     "--query", "SELECT :key", saying="no file")
        self.refused("--db", f"sqlite:{self.write('text', 'x' * 9999)}",
                     "--query", "SELECT :key", saying="not a database")
        self.refused("--db", path, saying="--query")
        self.refused("--db", "oracle:x", "--query", "SELECT :key", saying="sqlite:FILE")

    def test_outputs(self):
        log = self.write("log", "a\n")
        for option in ("--json", "--report"):
            self.refused(option, self.folder, saying="is a directory")
            self.refused(option, self.folder / "no" / "where", saying="No such file")
            self.refused("--log", log, option, log, saying="overwrite")
        self.refused("--json", self.folder / "x", "--report", self.folder / "x", saying="same file")
        # No file is left behind if another option is wrong.
        self.refused("--json", self.folder / "x", "--log", self.folder / "missing",
                     saying="No such file")


class hit_ratio(LabCase):
    def test_figures(self):
        # 100 rounds over 20 keys: an LRU cache with 10 entries never has the next key.
        loop = self.write("loop", "".join(f"{i % 20}\n" for i in range(2000)), packed=True)
        results, text, complaints = self.lab("hit-ratio", "--log", loop, "--capacity", "50%,1000,1")
        self.assertEqual(complaints.count("\n"), 1, complaints)
        self.assertEqual((results["workload"]["requests"], results["workload"]["distinct_keys"]),
                         (2000, 20))
        self.assertEqual(results["ceiling"], 0.99)
        one, half, all_keys = results["capacities"]
        self.assertEqual([each["capacity"] for each in (one, half, all_keys)], ["1", "50%", "1000"])
        self.assertEqual([each["entries"] for each in (one, half, all_keys)], [1, 10, 1000])
        self.assertEqual(half["lru"], {"hits": 0, "ratio": 0})
        self.assertGreater(half["optimum"]["ratio"], 0.4)
        for each in results["capacities"]:
            self.assertLessEqual(each["loading_cache"]["hits"], each["optimum"]["hits"])
        for cache in ("lru", "loading_cache", "optimum"):
            self.assertEqual(all_keys[cache]["hits"], 1980)
        self.assertEqual(all_keys["of_optimum"], 1)
        for words in ("2,000 requests, 20 distinct keys", "99.0 %", "loading_cache", "LRU",
                      "of the optimum"):
            self.assertIn(words, text)

    def test_every_format(self):
        log = self.write("access", access_log(300))
        by = {}
        for part in ("path", "query"):
            results, _, _ = self.lab("hit-ratio", "--log", log, "--key-from", part,
                                     "--capacity", "2")
            by[part] = results["workload"]["distinct_keys"]
        self.assertEqual(by["query"], 3)
        self.assertGreater(by["path"], 3)
        csv = "time,key\n" + "".join(f"{i},k{i % 9}\n" for i in range(90))
        results, _, _ = self.lab("hit-ratio", "--log", self.write("csv", csv), "--capacity", "100%")
        self.assertEqual(results["capacities"][0]["optimum"]["hits"], 81)
        results, _, complaints = self.lab("hit-ratio", "--log", "-", "--capacity", "1",
                                          "--requests", "3", stdin=b"a\na\na\nb\n")
        self.assertEqual(results["capacities"][0]["loading_cache"]["hits"], 2)
        self.assertIn("more than 3 requests", complaints)
        # What follows is no request.
        _, _, complaints = self.lab("hit-ratio", "--log", "-", "--capacity", "1",
                                    "--requests", "3", stdin=b"a\na\na\n\n")
        self.assertNotIn("more than", complaints)

    def test_bytes(self):
        # Every second request is for a small file that is never evicted, the others for large ones.
        lines = [f"GET /{'small' if i % 2 else 'large' + str(i % 40)} {10 if i % 2 else 1000}"
                 for i in range(400)]
        log = self.write("access", "".join(
            '192.0.2.1 - - [01/Mar/2026:10:00:00 +0000] "{0} {1} HTTP/1.1" 200 {2} "-" "-"\n'
            .format(*line.split()) for line in lines))
        results, text, _ = self.lab("hit-ratio", "--log", log, "--capacity", "2,100")
        two, all_keys = results["capacities"]
        self.assertEqual(results["workload"]["bytes"], 200 * 1010)
        self.assertEqual(two["lru"], {"hits": 199, "ratio": 0.4975, "bytes": 1990,
                                      "byte_ratio": 0.0098515})
        self.assertEqual(all_keys["optimum"]["bytes"], 199 * 10 + 180 * 1000)
        self.assertIn("of the bytes", text)
        self.assertIn("21 distinct keys, 202,000 bytes", text)
        without, text, _ = self.lab("hit-ratio", "--log", "-", "--capacity", "1", stdin=b"a\na\n")
        self.assertNotIn("bytes", without["workload"])
        self.assertNotIn("bytes", text)

    def test_runs_repeat(self):
        random.seed(1)
        requests = "".join(f"{int(random.paretovariate(0.6))}\n" for _ in range(50_000)).encode()
        first, _, _ = self.lab("hit-ratio", "--log", "-", stdin=requests)
        for _ in range(3):
            self.assertEqual(self.lab("hit-ratio", "--log", "-", stdin=requests)[0], first)

    def test_more_requests_than_stay_in_memory(self):
        # 1,000 keys in turn; most of the requests are in a temporary file.
        rounds = 1100
        requests = b"".join(b"%d\n" % i for i in range(1000)) * rounds
        arguments = ["hit-ratio", "--log", "-", "--capacity", "1"]
        results, _, _ = self.lab(*arguments, stdin=requests)
        self.assertEqual(results["workload"]["requests"], 1000 * rounds)
        self.assertEqual(results["workload"]["distinct_keys"], 1000)
        self.assertEqual(results["capacities"][0]["lru"]["hits"], 0)
        self.assertEqual(results["capacities"][0]["optimum"]["hits"], rounds - 1,
                         "one key is held for ever")
        done = run("lab", *arguments, stdin=requests, env={"TMPDIR": self.folder / "missing"})
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"TMPDIR=FOLDER", done.stderr)

    def test_lines_that_are_no_requests(self):
        lines = access_log(20).splitlines()
        lines[2] = "garbage"
        log = self.write("access", "\n".join(lines))
        results, _, complaints = self.lab("hit-ratio", "--log", log, "--capacity", "5")
        self.assertEqual(results["workload"]["skipped_lines"], 1)
        self.assertIn("line 3:", complaints)

    def test_capacities_with_the_same_size(self):
        results, text, complaints = self.lab("hit-ratio", "--log", "-", stdin=b"a\nb\na\n")
        self.assertEqual([each["entries"] for each in results["capacities"]], [1])
        self.assertEqual(complaints.count("are the same"), 2)
        self.assertIn("1% ", text)

    def test_bad_input(self):
        log = self.write("log", "a\nb\na\n")
        for arguments, saying in (
            ([], "add --log FILE"),
            (["--log", self.folder / "missing"], "No such file"),
            (["--log", self.write("empty", "")], "contains no requests"),
            (["--log", log, "--capacity", "0%"], "no entry"),
            (["--log", log, "--capacity", "0"], "from 1"),
            (["--log", log, "--capacity", "120%"], "from 0% to 100%"),
            (["--log", log, "--capacity", "-5"], "neither a share"),
            (["--log", log, "--capacity", "lots"], "neither a share"),
            (["--log", log, "--capacity", "5%,,10%"], "is empty"),
            (["--log", log, "--capacity", ","], "is empty"),
            (["--log", log, "--capacity", ""], "value is empty"),
            (["--log", log, "--capacity", "5%,5.0%"], "listed twice"),
            (["--log", log, "--callers", "5"], "lab hit-ratio --help"),
            (["--log", log, "--json", log], "overwrite"),
            (["--log", log, "--report", self.folder], "is a directory"),
        ):
            with self.subTest(arguments=arguments):
                self.refused("hit-ratio", *arguments, saying=saying)
        done = run("lab", "--callers", "5", "hit-ratio", "--log", log)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"--callers precedes hit-ratio", done.stderr)

    def test_page(self):
        log = self.write("<b>.log", "a\n<i>\na\n")
        page = self.folder / "page.html"
        _, text, _ = self.lab("hit-ratio", "--log", log, "--capacity", "1,2", "--report", page)
        self.assertIn("report", text)
        content = page.read_text()
        self.assertTrue(content.startswith("<!DOCTYPE html>"))
        self.assertTrue(content.endswith("</html>\n"))
        self.assertNotIn("<b>.log", content)


class interrupts(LabCase):
    def start(self, *arguments):
        # pylint: disable=consider-using-with
        lab = subprocess.Popen([PROGRAM, "lab", *map(str, arguments)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(lab.stderr.close)
        self.addCleanup(lab.stdout.close)
        self.addCleanup(lab.stdin.close)
        self.addCleanup(lab.wait)
        self.addCleanup(lab.kill)
        return lab

    def measuring(self, lab):
        """Waits until the head is printed, which means that the first run begins, and then half a
        second more."""
        seen = b""
        while b"machine" not in seen:
            seen += lab.stdout.readline()
        time.sleep(0.5)

    def wait_until_busy(self, lab):
        """Waits until the process has computed for half a second."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with open(f"/proc/{lab.pid}/stat", encoding="ascii") as file:
                ticks = int(file.read().rpartition(")")[2].split()[11])
            if ticks >= os.sysconf("SC_CLK_TCK") / 2:
                return
            time.sleep(0.05)
        self.fail("the process does not compute")

    def test_ctrl_c_prints_what_was_measured(self):
        results = self.folder / "results.json"
        page = self.folder / "page.html"
        for pace in (["--callers", "4"], ["--rate", "100"]):
            lab = self.start("--backend", "delay:20ms", "--requests", "100000", *pace,
                             "--json", results, "--report", page)
            self.measuring(lab)
            lab.send_signal(signal.SIGINT)
            began = time.monotonic()
            text = lab.stdout.read().decode()
            self.assertEqual(lab.wait(10), 130)
            self.assertLess(time.monotonic() - began, 5)
            self.assertIn("none", text)
            self.assertIn("stopped early", text)
            self.assertIn(b"interrupted", lab.stderr.read())
            written = json.loads(results.read_text())
            self.assertTrue(written["interrupted"])
            self.assertEqual(len(written["runs"]), 1)
            self.assertGreater(written["runs"][0]["requests"], 10)
            self.assertEqual(written["runs"][0]["errors"], {})
            self.assertFalse(written["runs"][0]["complete"])
            self.assertIn("stopped early", page.read_text())

    # Goal    A simulation that is stopped in its sweep shows the hottest keys of the log.
    # Method  Only the head of the output can be waited for, so a signal that comes too early or too
    #         late is tried again.
    def test_in_the_sweep_of_a_simulation(self):
        log = self.write("log.csv", "time,key\n" + "".join(
            f"{i / 1000},key{i * i % 99991 if i % 3 else 0}\n" for i in range(300_000)))
        results = self.folder / "results.json"
        for delay in (0.1, 0.2, 0.4, 0.05, 0.8, 1.6):
            lab = self.start("--log", log, "--json", results)
            seen = b""
            while not seen.startswith(b"loads"):
                seen = lab.stdout.readline()
            time.sleep(delay)
            lab.send_signal(signal.SIGINT)
            text = lab.stdout.read()
            code = lab.wait(10)
            if code == 130 and b"hottest keys" in text and b"protection" not in text:
                break
        else:
            self.fail("no signal came in the sweep")
        self.assertRegex(text.decode(), r"(?s)hottest keys +requests\nkey0 +100,002\n.*"
                                        r"largest stampedes")
        self.assertIn(b"up to that point", lab.stderr.read())
        written = json.loads(results.read_text())
        self.assertTrue(written["interrupted"])
        self.assertEqual(written["runs"], [])
        self.assertEqual(written["hot_keys"][0]["requests"], 100_002)

    def test_slow_loads_do_not_delay_it(self):
        endless = ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
                   " SELECT max(i), :key FROM n")
        for arguments in (
            ["--backend", "delay:1h"],
            ["--backend", "delay:1h", "--max-loads", "1"],
            ["--backend", "delay:1ms", "--fail", "100%", "--retry", "100"],
            ["--slow", "100%:1h"],
            ["--db", f"sqlite:{self.database()}", "--query", endless],
        ):
            lab = self.start(*arguments, "--requests", "100")
            time.sleep(1)
            lab.send_signal(signal.SIGINT)
            self.assertEqual(lab.wait(10), 130)

    def test_while_reading_standard_input(self):
        lab = self.start("--log", "-", *QUICK)
        time.sleep(0.5)
        lab.send_signal(signal.SIGINT)
        self.assertEqual(lab.wait(10), 130)
        self.assertIn(b"before anything was measured", lab.stderr.read())

    # Goal    Reading ends soon, also where records are several lines, a line has no end, or a line
    #         stands for very many requests, and says what it has counted.
    # Method  More statements than the pipe holds, so that some are read when all are written.
    def test_while_reading(self):
        statement = b"2024-03-01 12:00:00.100 UTC [1] LOG:  statement: select 1\n\tfrom t\n"
        many = b"query,op_count\n" + b"select 1,1000000000\n"
        for text, command, counted in (
            (statement * 50_000, ["read", "--quiet", "-"], True),
            (b"a" * (1 << 20), ["read", "-"], False),
            (many, ["read", "-"], True),
            (many, ["hit-ratio", "--log", "-"], False),
        ):
            with self.subTest(command=command, text=text[:20]):
                lab = self.start(*command)
                lab.stdin.write(text)
                lab.stdin.flush()
                if text == many:
                    lab.stdin.close()
                    self.wait_until_busy(lab)
                else:
                    time.sleep(0.5)
                lab.send_signal(signal.SIGINT)
                self.assertEqual(lab.wait(10), 130)
                complaints = lab.stderr.read()
                self.assertEqual(b"these are the counts" in complaints, counted, complaints)

    # Goal    A second Ctrl-C ends the program, whatever it still has to do.
    # Method  The JSON goes to a pipe without a reader, so the program cannot end after the first
    #         Ctrl-C.
    def test_a_second_ctrl_c_kills_at_once(self):
        results = self.folder / "results"
        os.mkfifo(results)
        lab = self.start("--backend", "delay:20ms", "--requests", "100000", "--json", results)
        self.measuring(lab)
        lab.send_signal(signal.SIGINT)
        with self.assertRaises(subprocess.TimeoutExpired):
            lab.wait(1)
        lab.send_signal(signal.SIGINT)
        self.assertEqual(lab.wait(10), -signal.SIGINT)


if __name__ == "__main__":
    unittest.main()
