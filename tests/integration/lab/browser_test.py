#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The report page in a real browser, in light and dark, wide and on a phone.

SINGLEFLIGHT names the program.
"""

import html
import json
import re
import shutil
import subprocess
import tempfile
import unittest

from program import LabCase, access_log, run

# Runs inside the page, after its own script, and reports to the enclosing frame what a reader sees.
PROBE = """
<script>
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const ground = (element) => {
  for (; element; element = element.parentElement) {
    const colour = rgb(getComputedStyle(element).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const inks = (selector, property) => [...document.querySelectorAll(selector)].map((element) => ({
  selector, ink: rgb(getComputedStyle(element)[property]), ground: ground(element),
}));
setTimeout(() => parent.postMessage(JSON.stringify({
  errors: window.complaints,
  charts: document.documentElement.dataset.charts,
  series: document.querySelectorAll("path.series").length,
  legends: [...document.querySelectorAll(".legend")].map((legend) => legend.innerText.trim()),
  labels: [...document.querySelectorAll("svg text")].map((text) => text.textContent),
  text: document.body.innerText,
  ground: ground(document.body),
  texts: [...inks("h1, .lead, .hint, td, tbody th, thead th, .card b, .card span, dt, dd, pre, " +
                  ".legend > span, footer", "color"),
          ...inks("svg text", "fill")],
  lines: [...inks("path.series", "stroke")],
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  width: document.documentElement.clientWidth,
}), "*"), 300);
</script>
"""
CATCH = """<script>
window.complaints = [];
addEventListener('error', (e) => window.complaints.push(e.message));
addEventListener('securitypolicyviolation', (e) => window.complaints.push(e.blockedURI));
</script>"""


def contrast(one, other):
    """WCAG 2.1 contrast ratio of two sRGB colours."""

    def luminance(colour):
        parts = [c / 255 for c in colour[:3]]
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@unittest.skipUnless(shutil.which("chromium"), "needs chromium")
class browser(LabCase):
    def page(self, *arguments):
        path = self.folder / "page.html"
        done = run("lab", *arguments, "--report", path)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return path.read_text()

    def seen(self, page, dark=False, width=1100):
        """What a browser shows of the page, in a frame of that width."""
        probed = page.replace("<head>", "<head>" + CATCH, 1)
        probed = probed.replace("</body>", PROBE + "</body>", 1)
        self.write("probed.html", probed)
        frame = self.write(
            "frame.html",
            f'<iframe src="probed.html" width="{width}" height="6000" style="border:0"></iframe>'
            '<pre id="seen"></pre>'
            "<script>addEventListener('message', (e) => {"
            " document.getElementById('seen').textContent = e.data; });</script>",
        )
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            done = subprocess.run(
                ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                 "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 "--disable-dev-shm-usage", f"--user-data-dir={profile}",
                 "--virtual-time-budget=5000",
                 "--window-size=1400,6200",
                 f"--blink-settings=preferredColorScheme={0 if dark else 1}",
                 "--dump-dom", frame.as_uri()],
                capture_output=True, timeout=120, check=False,
            )
        found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout.decode(), re.DOTALL)
        self.assertTrue(found and found.group(1),
                        done.stdout.decode()[-2000:] + done.stderr.decode()[-2000:])
        return json.loads(html.unescape(found.group(1)))

    def check_readable(self, seen):
        self.assertEqual(seen["errors"], [])
        for each in seen["texts"]:
            self.assertGreaterEqual(contrast(each["ink"], each["ground"]), 4.5, each)
        for each in seen["lines"]:
            self.assertGreaterEqual(contrast(each["ink"], each["ground"]), 3, each)
        self.assertLessEqual(seen["overflow"], 0)

    def check(self, seen):
        self.check_readable(seen)
        self.assertEqual(seen["charts"], "2")
        self.assertEqual(seen["series"], 4)
        self.assertEqual([" ".join(legend.split()) for legend in seen["legends"]],
                         ["none flight"] * 2)
        for label in ("loads in flight", "time since the run began (s)", "share of requests (%)",
                      "latency (logarithmic)"):
            self.assertIn(label, seen["labels"])
        self.assertTrue([label for label in seen["labels"] if label.endswith(" ms")])
        for words in ("fewer", "Backend loads", "Latency, p99.9", "How it was measured", "Machine"):
            self.assertIn(words, seen["text"])

    def test_light_and_dark_wide_and_narrow(self):
        page = self.page("--requests", "200", "--callers", "20")
        for dark in (False, True):
            for width in (1100, 360):
                with self.subTest(dark=dark, width=width):
                    seen = self.seen(page, dark, width)
                    self.assertEqual(seen["width"], width)
                    self.assertEqual(sum(seen["ground"][:3]) < 200, dark)
                    self.check(seen)

    def test_hit_ratio(self):
        log = self.write("keys", "".join(f"{i * i % 97}\n" for i in range(3000)))
        for capacities, sizes in (("1%,5%,20%,30", ["1", "2", "10", "30"]), ("5", ["5"])):
            page = self.page("hit-ratio", "--log", log, "--capacity", capacities)
            for dark in (False, True):
                for width in (1100, 360):
                    with self.subTest(capacities=capacities, dark=dark, width=width):
                        seen = self.seen(page, dark, width)
                        self.check_readable(seen)
                        self.assertEqual((seen["charts"], seen["series"]), ("1", 3))
                        self.assertEqual([" ".join(each.split()) for each in seen["legends"]],
                                         ["LRU loading_cache optimum"])
                        for label in (*sizes, "hit ratio (%)", "capacity in entries (logarithmic)"):
                            self.assertIn(label, seen["labels"])
                        self.assertIn("Of the optimum", seen["text"])

    # Goal    The page has no error, whatever was measured.
    def test_simulation(self):
        small = self.write("small", "time,key\n0,<b>a</b>\n")
        for log, lines in ((self.write("access", access_log(60_000)), 8), (small, 5)):
            page = self.page("--log", log, "--load-time", "2s")
            for dark in (False, True):
                for width in (1100, 360):
                    with self.subTest(log=log, dark=dark, width=width):
                        seen = self.seen(page, dark, width)
                        self.check_readable(seen)
                        self.assertEqual((seen["charts"], seen["series"]), ("2", lines))
                        hours, capacities = (each.split("\n") for each in seen["legends"])
                        self.assertEqual(" ".join(hours), "none flight cache-alone cache")
                        self.assertIn("entries", capacities[-1])
                        for label in ("ttl", "loads saved (%)", "hour of the log", "loads"):
                            self.assertIn(label, seen["labels"])
                        self.assertIn("Recommendation", seen["text"])
                        self.assertIn("hottest keys", seen["text"])

    def test_odd_runs(self):
        for arguments in (
            ["--backend", "delay:0ms", "--requests", "1"],
            ["--backend", "delay:20ms", "--requests", "50", "--protect", "flight"],
            ["--backend", "delay:50ms", "--requests", "50", "--deadline", "10ms"],
        ):
            with self.subTest(arguments=arguments):
                seen = self.seen(self.page(*arguments))
                self.assertEqual(seen["errors"], [])
                self.assertEqual(seen["charts"], "2")

    def test_markup_from_outside_stays_text(self):
        log = self.write("<img src=x onerror=complaints.push('run')>.log",
                         "<b>\n</script><script>complaints.push('run')\n")
        seen = self.seen(self.page("--log", log, "--backend", "delay:1ms"))
        self.assertEqual(seen["errors"], [])
        self.assertIn("<img src=x", seen["text"])


if __name__ == "__main__":
    unittest.main()
