# SPDX-License-Identifier: Apache-2.0
"""`singleflight lab read` on the small logs in logs/, each of a kind that a producer writes.

FILE.expect holds the --key-from ("auto": none) and what the program prints, or "refused".

    read_test.py [-v]
"""

import bz2
import gzip
import lzma
import pathlib
import struct
import unittest

from program import LabCase, run

LOGS = pathlib.Path(__file__).parent / "logs"


def read(path, *arguments, stdin=None):
    return run("lab", "read", path, *arguments, stdin=stdin)


def zstd_of(data):
    """A frame of zstd with one block that is not compressed."""
    assert len(data) < 256
    block = (len(data) << 3 | 1).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(data)]) + block + data


class reading(LabCase):
    def test_logs(self):
        expectations = sorted(LOGS.glob("*.expect"))
        self.assertGreater(len(expectations), 50)
        for expectation in expectations:
            log = expectation.with_name(expectation.name.removesuffix(".expect"))
            with self.subTest(log=log.name):
                key, *expected = expectation.read_text().splitlines()
                key = key.removeprefix("key-from ")
                done = read(log, *([] if key == "auto" else ["--key-from", key]))
                if expected == ["refused"]:
                    self.assertEqual(done.returncode, 2)
                    self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
                    continue
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(done.stdout.decode().splitlines(), expected)
                notice = done.stderr.decode().splitlines()[0]
                self.assertIn(f"{log.name} is read as: ", notice)
                self.assertIn("its first request: ", notice)

    def test_only_the_counts(self):
        done = read(LOGS / "combined.log", "--quiet")
        self.assertEqual(done.stdout, b"requests 3\nask for nothing 0\nmalformed 0\n")

    def test_packed(self):
        plain = (LOGS / "combined.log").read_bytes().splitlines(keepends=True)[0]
        for packed in (gzip.compress(plain), bz2.compress(plain), lzma.compress(plain),
                       zstd_of(plain)):
            done = read(self.write("log", packed))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(b'0.000 "/list?page=2"\n', done.stdout)
            cut = read(self.write("log", packed[:-6]))
            self.assertIn(cut.returncode, (0, 2))
            self.assertIn(b"incomplete", cut.stderr)
        for foreign, saying in ((b"PK\x03\x04", b"unzip -p"), (b"\xff\xfe1\x009\x00", b"iconv")):
            done = read(self.write("log", foreign + plain))
            self.assertEqual(done.returncode, 2)
            self.assertIn(saying, done.stderr)

    def test_packed_in_several_parts(self):
        """Goal  xz streams with padding between them, and frames of zstd that have no data."""
        one, two = lzma.compress(b"one\n"), lzma.compress(b"two\n")
        skipped = b"\x53\x2a\x4d\x18\x04\x00\x00\x00abcd"
        for packed in (one + bytes(8) + two, one + two + bytes(4),
                       skipped + zstd_of(b"one\n") + skipped + zstd_of(b"two\n")):
            done = read(self.write("log", packed))
            self.assertEqual(done.stdout.splitlines()[3:], [b'- "one"', b'- "two"'], done.stderr)

    def test_binary_traces(self):
        records = [(0, 17, 4096, 2), (0, 42, 512, -1), (3, 17, 4096, -1)]
        trace = b"".join(struct.pack("<IQIq", *record) for record in records)
        done = read(self.write("trace.oracleGeneral", trace))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.splitlines()[3:],
                         [b'0.000 "17"', b'0.500 "42"', b'3.000 "17"'])
        self.assertIn(b"malformed 1\n", read(self.write("cut", trace[:-3])).stdout)

    def test_choices(self):
        columns = self.write("columns", "1500,a,x\n2500,b,x\n")
        done = read(columns, "--no-header", "--key-from", "field=2", "--time-from", "field=1:ms")
        self.assertIn(b'0.000 "a"\n1.000 "b"\n', done.stdout)
        bars = self.write("bars", "who!when\nu1!3\n")
        done = read(bars, "--separator", "!", "--key-from", "column=who", "--time-from",
                    "column=when:s")
        self.assertIn(b'0.000 "u1"\n', done.stdout)
        posts = LOGS / "only_posts.log"
        self.assertIn(b'"/x"', read(posts, "--methods", "POST").stdout)
        tracked = self.write("tracked", '{"uri":"/a?utm_source=x&id=3"}\n')
        self.assertIn(b'"/a?id=3"', read(tracked, "--ignore-query", "utm_*").stdout)

    def test_chosen_times(self):
        """Goal  --time-from works in access logs and in words."""
        line = '192.0.2.7 {} "GET /a HTTP/1.1" 200 5 {}\n'
        log = self.write("log", line.format("1709294400", "7.5") + line.format("1709294409", "8"))
        self.assertIn(b'0.000 "/a"\n9.000 "/a"\n', read(log).stdout)
        for time, second in (("field=2", b"9.000"), ("field=6:s", b"0.500")):
            done = read(log, "--time-from", time)
            self.assertIn(b'0.000 "/a"\n' + second + b' "/a"\n', done.stdout, done.stderr)
        words = self.write("words", "1709294400 get u1\n1709294405 get u2 x\n")
        done = read(words, "--key-from", "field=3", "--time-from", "field=1")
        self.assertIn(b'0.000 "u1"\n5.000 "u2"\n', done.stdout, done.stderr)

    def test_choices_that_a_log_does_not_have(self):
        """Goal  An option that would have no effect is refused, and says what the log is."""
        for log, arguments, saying in (
            ("combined.log", ["--time-from", "column=ts"], b"access log; that has no part named"),
            ("combined.log", ["--time-from", "field=1"], b"an access log, has a time there"),
            ("combined.log", ["--separator", ","], b"--separator belongs to columns"),
            ("nginx.json", ["--no-header"], b"--no-header belongs to columns"),
            ("redis.log", ["--separator", "space"], b"read as: Redis MONITOR"),
            ("redis.log", ["--time-from", "field=1"], b"its time cannot be chosen"),
            ("spc.trc", ["--time-from", "column=ts"], b"SPC trace; that has no part named"),
            ("keys.txt", ["--time-from", "field=1"], b"name the key too"),
            ("keys.txt", ["--separator", ","], b"the same number of columns"),
        ):
            with self.subTest(log=log, arguments=arguments):
                done = read(LOGS / log, *arguments)
                self.assertEqual(done.returncode, 2, done.stdout)
                self.assertIn(saying, done.stderr)

    # Goal    A few lines need no temporary file.
    def test_no_folder_for_temporary_files(self):
        done = run("lab", "read", self.write("log", "a\nb\n"), env={"TMPDIR": "/nowhere"})
        self.assertEqual((done.returncode, done.stdout.count(b"\n")), (0, 5))

    def test_what_is_left_out(self):
        notice = read(LOGS / "nginx.json").stderr.decode()
        self.assertIn("1 of 2 requests (1 POST)", notice)
        notice = read(LOGS / "nginx.json", "--methods", "post").stderr.decode()
        self.assertIn("left out, because they are not post: 1 of 2 requests (1 GET)", notice)
        done = read(LOGS / "nginx.json", "--methods", "PUT,PATCH")
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"has no PUT or PATCH; 2 requests have other methods", done.stderr)
        notice = read(LOGS / "combined.log").stderr.decode()
        self.assertIn("1 of 3 requests were answered with a 5xx", notice)
        self.assertIn("1 of 3 requests were answered with a 304", notice)

    def test_bad_input(self):
        for content in (
            "{" * 100_000, '{"key":"' + "x" * 10_000_000 + '"}\n{"key":"a"}\n',
            '"' * 100_000, '"\n' * 50_000, "time,key\n" + '1,"a\n' * 20_000,
            "#Fields:\n1 2\n", "\x00" * 1000, "[" * 100_000, "GET " * 50_000,
            '{"key":"a","op_count":' + "9" * 400 + "}\n",
        ):
            with self.subTest(content=content[:20]):
                done = read(self.write("log", content))
                self.assertIn(done.returncode, (0, 2), done.stderr)
                self.assertEqual(done.stderr.count(b"\n") > 0, True)
        done = run("lab", "read")
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (2, 1))
        done = run("lab", "--callers", "5", "read", LOGS / "combined.log")
        self.assertIn(b"--callers precedes read", done.stderr)

    def test_two_formats_in_one_file(self):
        both = (LOGS / "combined.log").read_text() + (LOGS / "nginx.json").read_text()
        done = read(self.write("log", both))
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"requests 3\n", done.stdout)
        self.assertIn(b"ask for nothing 2\n", done.stdout)
        self.assertIn(b"2 of 5 lines have no request", done.stderr)

    def test_times_that_go_backwards(self):
        log = self.write("log", "time,key\n2024-03-01T12:00:05Z,a\n2024-03-01T12:00:03Z,b\n")
        self.assertIn(b'0.000 "a"\n-2.000 "b"\n', read(log).stdout)


if __name__ == "__main__":
    unittest.main()
