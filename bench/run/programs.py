# SPDX-License-Identifier: Apache-2.0
"""Finds and runs the programs that the scenarios measure, and builds the Go and Java peers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import ROOT, Failure, Figures

# The collector with which Caffeine is fastest; with the default one a write costs more.
JAVA_OPTIONS = ("-XX:+UseParallelGC",)

TIMEOUT_S = 300


def completed(command: list[str], environment: dict[str, str] | None = None,
              given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, successful or not; `given` is its standard input."""
    name = Path(command[0]).name
    source = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
    try:
        return subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            **source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise Failure(f"{name} could not be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{name} did not end within {TIMEOUT_S} s") from error


def run_program(command: list[str], environment: dict[str, str] | None = None,
                given: str | None = None) -> str:
    """The standard output of a program that must succeed; `given` is its standard input."""
    done = completed(command, environment, given)
    if done.returncode != 0:
        how = (
            f"was killed by signal {-done.returncode}"
            if done.returncode < 0
            else f"failed with exit code {done.returncode}"
        )
        errors = done.stderr.strip().splitlines()
        raise Failure(f"{' '.join(command)} {how}" + (f": {errors[-1]}" if errors else ""))
    return done.stdout


def first_line(command: list[str]) -> str:
    """The first line that a program prints, empty when it prints none or cannot be run."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.splitlines()[0].strip() if done.stdout else ""


def figures_of(command: list[str], environment: dict[str, str] | None = None,
               given: str | None = None) -> Figures:
    """The JSON object of numbers that a program prints."""
    output = run_program(command, environment, given)
    try:
        return {name: float(value) for name, value in json.loads(output).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise Failure(f"{' '.join(command)} printed no JSON object of figures") from error


@dataclass
class Programs:
    """Where everything is that a scenario needs. CMake has built the C++ programs."""

    build: Path
    traces: Path | None = None  # the directory of row 20's traces
    other_headers: Path | None = None  # the include directory of --against's commit

    def ours(self, name: str) -> str:
        """The path of a C++ program."""
        path = self.build / "bench" / name
        if not path.is_file():
            raise Failure(f"there is no {path}; build it with: cmake --preset release && "
                          "cmake --build --preset release")
        return str(path)

    @staticmethod
    def go_compiler() -> str:
        """The path of the Go command."""
        candidates = [os.environ.get("GO", ""), "/usr/lib/go-1.19/bin/go", shutil.which("go") or ""]
        for candidate in candidates:
            if candidate and os.access(candidate, os.X_OK):
                return candidate
        raise Failure("missing peer: Go is not installed. On Debian: "
                      "apt-get install golang-1.19 golang-golang-x-sync-dev "
                      "golang-github-golang-groupcache-dev")

    def build_go(self) -> None:
        """Compiles bench/peers/go into the build directory."""
        out = self.build / "bench" / "peers" / "go"
        out.mkdir(parents=True, exist_ok=True)
        go_path = os.environ.get("SINGLEFLIGHT_GOPATH", "/usr/share/gocode")
        compiler = self.go_compiler()
        for package, debian in (
            ("golang.org/x/sync/singleflight", "golang-golang-x-sync-dev"),
            ("github.com/golang/groupcache", "golang-github-golang-groupcache-dev"),
        ):
            if not (Path(go_path) / "src" / package).is_dir():
                raise Failure(f"missing peer: {package} is not in {go_path}. On Debian: "
                              f"apt-get install {debian}")
        done = subprocess.run(
            [compiler, "build", "-o", str(out / "peer"), "."],
            cwd=ROOT / "bench" / "peers" / "go",
            env={**os.environ, "GO111MODULE": "off", "GOPATH": go_path, "GOFLAGS": "",
                 "GOCACHE": str(out / "cache")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Failure(f"the Go peer does not build:\n{done.stdout.strip()}")

    def go(self, scenario: str, **options: float) -> Figures:
        """What the Go peer measures in one scenario."""
        command = [str(self.build / "bench" / "peers" / "go" / "peer"), f"-scenario={scenario}"]
        command += [f"-{name}={value:g}" if isinstance(value, float) else f"-{name}={value}"
                    for name, value in options.items()]
        return figures_of(command, {"GOMAXPROCS": "2"})

    @staticmethod
    def java(tool: str) -> str:
        """The path of a tool of the JDK."""
        home = os.environ.get("JAVA_HOME", "")
        for candidate in (f"{home}/bin/{tool}" if home else "", shutil.which(tool) or ""):
            if candidate and os.access(candidate, os.X_OK):
                return candidate
        raise Failure(f"missing peer: {tool} is not installed. On Debian: "
                      "apt-get install default-jdk-headless libcaffeine-java")

    @staticmethod
    def caffeine_jar() -> str:
        """The path of Caffeine's classes."""
        jar = os.environ.get("SINGLEFLIGHT_CAFFEINE_JAR", "/usr/share/java/caffeine.jar")
        if not Path(jar).is_file():
            raise Failure(f"missing peer: there is no {jar}. On Debian: "
                          "apt-get install libcaffeine-java")
        return jar

    def build_java(self) -> None:
        """Compiles bench/peers/java into the build directory."""
        out = self.build / "bench" / "peers" / "java"
        out.mkdir(parents=True, exist_ok=True)
        self.java("java")
        done = subprocess.run(
            [self.java("javac"), "-d", str(out), "-cp", self.caffeine_jar(),
             str(ROOT / "bench" / "peers" / "java" / "Peer.java")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Failure(f"the Java peer does not build:\n{done.stdout.strip()}")

    def caffeine(self, case: str) -> Figures:
        """What the Java peer measures in one case, named <case>.<figure>."""
        classes = self.build / "bench" / "peers" / "java"
        found = figures_of([self.java("java"), *JAVA_OPTIONS, "-cp",
                            f"{classes}:{self.caffeine_jar()}", "Peer", case])
        return {f"{case}.{figure}": value for figure, value in found.items()}

    def google_benchmark(self, name: str) -> Figures:
        """The medians of a Google Benchmark program: <case>_ns and <case>_<counter>."""
        output = run_program([
            self.ours(name), "--benchmark_format=json", "--benchmark_min_time=0.05",
            "--benchmark_repetitions=5", "--benchmark_report_aggregates_only=true",
        ])
        try:
            cases = json.loads(output)["benchmarks"]
        except (ValueError, KeyError) as error:
            raise Failure(f"{name} printed no Google Benchmark report") from error
        found: Figures = {}
        for case in cases:
            if case.get("error_occurred"):
                raise Failure(f"{name}: {case['name']}: {case.get('error_message')}")
            if case.get("aggregate_name") != "median":
                continue
            label = case["run_name"].split("/")[0]
            assert case["time_unit"] == "ns"
            found[f"{label}_ns"] = case["real_time"]
            for counter in ("allocations", "loads"):
                if counter in case:
                    found[f"{label}_{counter}"] = case[counter]
        if not found:
            raise Failure(f"{name} measured nothing")
        return found
