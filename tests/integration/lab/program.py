# SPDX-License-Identifier: Apache-2.0
"""The program under test, and what the tests of this folder feed it."""

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


def run(*arguments, stdin=None, timeout=120):
    """Runs `singleflight ARGUMENTS` with nothing on a terminal; text in, text out."""
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        input=stdin if stdin is not None else b"",
        capture_output=True,
        timeout=timeout,
        check=False,
    )


class LabCase(unittest.TestCase):
    """A test with a folder of its own."""

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
        """A run that must succeed; returns its JSON, its text and what it complained about."""
        out = self.folder / "figures.json"
        done = run("lab", *arguments, "--json", out, stdin=stdin)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return json.loads(out.read_text()), done.stdout.decode(), done.stderr.decode()

    def refused(self, *arguments, saying, stdin=None):
        """A run that must end with 2, one line on stderr that holds `saying`, and leave no file."""
        before = sorted(path.name for path in self.folder.iterdir())
        done = run("lab", *arguments, stdin=stdin)
        complaint = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, 2, complaint)
        self.assertEqual(complaint.count("\n"), 1, complaint)
        self.assertTrue(complaint.startswith("singleflight: "), complaint)
        self.assertIn(saying, complaint)
        self.assertEqual(done.stdout, b"")
        self.assertEqual(before, sorted(path.name for path in self.folder.iterdir()))


def access_log(lines, seed=1):
    """An access log in Combined format: some requests a second, a few products far more popular
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
