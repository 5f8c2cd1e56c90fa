# SPDX-License-Identifier: Apache-2.0
"""The program under test, and inputs that the tests of this folder share."""

import gzip
import json
import os
import pathlib
import random
import sqlite3
import subprocess
import tempfile
import unittest

PROGRAM = os.environ["SINGLEFLIGHT"]
QUICK = ["--backend", "delay:1ms", "--callers", "8"]


def run(*arguments, stdin=None, timeout=120, env=None):
    """Runs `singleflight ARGUMENTS`; neither input nor output is a terminal. `env` is added to the
    environment."""
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        input=stdin if stdin is not None else b"",
        capture_output=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        check=False,
    )


class LabCase(unittest.TestCase):
    """A test with its own temporary folder."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, content, packed=False):
        path = self.folder / name
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if packed else data)
        return path

    def database(self):
        path = self.folder / "users.db"
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
            database.executemany("INSERT INTO users VALUES (?, ?)",
                                 [(i, f"user {i}") for i in range(1, 101)])
        database.close()
        return path

    def lab(self, *arguments, stdin=None):
        """Runs the lab, which must succeed; returns its JSON, its standard output and its standard
        error."""
        out = self.folder / "results.json"
        done = run("lab", *arguments, "--json", out, stdin=stdin)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return json.loads(out.read_text()), done.stdout.decode(), done.stderr.decode()

    def refused(self, *arguments, saying, stdin=None):
        """Runs the lab, which must exit with 2, leave no file, and print one line with `saying` to
        stderr; before that at most what it took the log for."""
        before = sorted(path.name for path in self.folder.iterdir())
        done = run("lab", *arguments, stdin=stdin)
        complaint = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, 2, complaint)
        *recognized, refusal = complaint.splitlines()
        self.assertTrue(len(recognized) <= 1 and all(" is read as: " in it for it in recognized),
                        complaint)
        self.assertTrue(refusal.startswith("singleflight: "), complaint)
        self.assertIn(saying, refusal)
        self.assertEqual(done.stdout, b"")
        self.assertEqual(before, sorted(path.name for path in self.folder.iterdir()))


def access_log(lines, seed=1):
    """An access log in Combined format: 7 requests per second; a few products are far more popular
    than others."""
    dice = random.Random(seed)
    text = []
    for number in range(lines):
        product = min(int(dice.paretovariate(0.9)), 400)
        second = number // 7
        stamp = f"12/Mar/2024:10:{second // 60 % 60:02}:{second % 60:02} +0100"
        host = dice.choice(["192.0.2.7", "2001:db8::17", "shop.example.org"])
        agent = dice.choice(["Mozilla/5.0 (X11; Linux)", 'He said \\"hi\\"', "-"])
        text.append(
            f'{host} - - [{stamp}] '
            f'"GET /products/{product}?ref={dice.randrange(3)} HTTP/1.1" 200 512 '
            f'"https://example.org/" "{agent}"'
        )
    return "\n".join(text) + "\n"
