#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the conventions that no compiler checks: layers, ARCHITECTURE's tables and labels, sizes,
the names of tests, the modules of the program, columns and words.

    tidy.py [ROOT]        checks the project in ROOT; prints a line for each fault and exits with 1
                          if there is one
    tidy.py --self-test   shows that each check can fail, on small trees made for that
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HEADERS = "include/singleflight"

# What a floor may include: of the floors below it the public headers, `core/support/`, and the
# door. A floor's parts (`detail/`) and the bodies of its classes (`impl/`) are its own.
BELOW = {"core": [], "flight": ["core"], "sync": ["core", "flight"], "cache": ["core", "flight"]}
DOOR = "flight/detail/group_door.hpp"
OWN = ("detail", "impl")
NOT_PUBLIC = ("detail", "impl", "support")

MOST_LINES_OF_A_HEADER = 400
MOST_LINES_OF_A_FUNCTION = 70

# Kinds of tests: the folder below tests/, and how the name of a test ends there.
TESTS = {"unit": "_test", "stress": "_stress_test", "model": "_model", "counts": "_test"}

# The program's folders, each with the folders that its files may include. A folder comes after the
# folders that it includes, so there is no cycle.
PROGRAM = "apps/singleflight"
MODULES = {
    "cli": [],
    "lab/workload": ["cli"],
    "lab/log": ["cli", "lab/workload"],
    "lab/backend": ["cli", "lab/workload"],
    "lab/protection": ["cli", "lab/backend"],
    "lab/replay": ["cli", "lab/workload", "lab/backend", "lab/protection"],
    "lab/page": ["cli"],
    "lab/report": ["cli", "lab/backend", "lab/protection", "lab/replay", "lab/page"],
    "lab/hit_ratio": ["cli", "lab/workload", "lab/page"],
    "lab/simulation": ["cli", "lab/workload", "lab/backend", "lab/protection", "lab/page"],
    "lab": [
        "cli", "lab/workload", "lab/log", "lab/backend", "lab/protection", "lab/replay",
        "lab/report", "lab/hit_ratio", "lab/simulation",
    ],
    ".": ["cli", "lab"],
}

# The text files of the project, by suffix or by name. Results (JSON) and the licence are left out.
TEXT = {
    ".cmake", ".cpp", ".css", ".go", ".hpp", ".html", ".in", ".java", ".js", ".md", ".py", ".sh",
    "CMakeLists.txt", "dev", "run",
}

MOST_COLUMNS = 100
MOST_COLUMNS_OF_PROSE = 120


class Project:
    """The files of a project, and the faults found in them."""

    def __init__(self, root):
        self.root = Path(root)
        self.paths = sorted(self.listed())
        self.texts = {
            path: (self.root / path).read_text(encoding="utf-8").splitlines()
            for path in self.paths
            if not TEXT.isdisjoint((Path(path).suffix, Path(path).name))
        }
        self.headers = {
            path.removeprefix(HEADERS + "/"): lines
            for path, lines in self.texts.items()
            if path.startswith(HEADERS + "/") and path.endswith(".hpp")
        }
        self.faults = []

    def listed(self):
        """The files that git tracks, or that are new and not ignored; without git all files."""
        if (self.root / ".git").exists():
            command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
            names = subprocess.run(
                command, cwd=self.root, check=True, capture_output=True, text=True
            ).stdout.splitlines()
        else:
            names = [str(path.relative_to(self.root)) for path in self.root.rglob("*")]
            names = [name for name in names if not name.startswith("build/")]
        return [name for name in names if (self.root / name).is_file()]

    def fault(self, where, what):
        self.faults.append(f"{where}: {what}")

    def text(self, name):
        return self.texts.get(name, [])

    def sources(self, *folders):
        for path, lines in self.texts.items():
            if path.split("/")[0] in folders and path.endswith((".cpp", ".hpp")):
                yield path, lines


def included(lines):
    """(line number, path below include/singleflight) of what a file includes of the project."""
    for number, line in enumerate(lines, 1):
        if match := re.match(r'\s*#\s*include\s*["<]singleflight/([^">]+)[">]', line):
            yield number, match[1]


def floor_of(path):
    return path.split("/")[0].removesuffix(".hpp")


def folder_of(path):
    """The folder of a header within its floor: "" of a public one."""
    parts = path.split("/")
    return parts[1] if len(parts) == 3 else ""


def check_layers(project):
    """A floor includes the public headers of the floors below it, core/support/, and the door."""
    for path, lines in project.headers.items():
        own = floor_of(path)
        where = f"{HEADERS}/{path}"
        if own not in BELOW:
            what = f"'{own}' is no floor that tests/tidy/tidy.py knows: say what it may include"
            project.fault(where, what)
            continue
        for number, target in included(lines):
            floor = floor_of(target)
            if floor == own:
                continue
            if floor not in BELOW[own]:
                project.fault(f"{where}:{number}", f"{own} is not above {floor}: '{target}'")
            elif folder_of(target) in OWN and target != DOOR:
                what = f"a part of {floor}, and not its door: '{target}'"
                project.fault(f"{where}:{number}", what)
    for path, lines in project.sources("apps", "bench", "examples"):
        for number, target in included(lines):
            if folder_of(target) in NOT_PUBLIC:
                what = f"programs include public headers only: '{target}'"
                project.fault(f"{path}:{number}", what)


def tables_of_parts(lines):
    """ARCHITECTURE's tables of files: the folder, and each name of its first column with its line
    number."""
    folder = None
    for number, line in enumerate(lines, 1):
        if match := re.match(r"\| file in `([a-z]+/[a-z]+)/` \|", line):
            folder = match[1]
        elif not line.startswith("|"):
            folder = None
        elif folder is not None:
            for name in re.findall(r"`(\w+\.hpp)`", line.split("|")[1]):
                yield number, f"{folder}/{name}"


def check_tables(project):
    """ARCHITECTURE names every part once, and no other."""
    named = {}
    for number, path in tables_of_parts(project.text("ARCHITECTURE.md")):
        where = f"ARCHITECTURE.md:{number}"
        if path not in project.headers:
            project.fault(where, f"there is no {path}")
        elif path in named:
            project.fault(where, f"{path} is named in line {named[path]} already")
        named[path] = number
    for path in project.headers:
        if folder_of(path) in NOT_PUBLIC and path not in named:
            project.fault(f"{HEADERS}/{path}", "ARCHITECTURE names it in no table")


def labels_of_tables(lines):
    """ARCHITECTURE's labels of invariants: label -> (line number, file name)."""
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.startswith("|"):
            continue
        if match := re.match(r"\| ([A-Z]+\d+) \|.*\| `(\w+\.hpp)` \|$", line):
            found[match[1]] = (number, match[2])
        spans = re.findall(r"\b([A-Z]+)(\d+)(?:–[A-Z]+(\d+))? `(\w+\.hpp)`", line)
        for prefix, first, last, name in spans:
            for index in range(int(first), int(last or first) + 1):
                found[f"{prefix}{index}"] = (number, name)
    return found


def check_labels(project):
    """A label is defined in one header, ARCHITECTURE says in which, and no other label is cited."""
    listed = labels_of_tables(project.text("ARCHITECTURE.md"))
    defined = {}
    for path, lines in project.headers.items():
        for number, line in enumerate(lines, 1):
            if match := re.match(r"// {1,2}([A-Z]{1,2}\d{1,2}) ", line):
                label, where = match[1], f"{HEADERS}/{path}:{number}"
                if label in defined:
                    project.fault(where, f"{label} is defined in {defined[label]} already")
                defined[label] = where
                if label not in listed:
                    project.fault(where, f"ARCHITECTURE does not say that {label} is defined here")
                elif listed[label][1] != Path(path).name:
                    header = listed[label][1]
                    project.fault(where, f"ARCHITECTURE says that {label} is defined in {header}")
    for label, (number, name) in listed.items():
        if label not in defined:
            project.fault(f"ARCHITECTURE.md:{number}", f"{label} is not defined in {name}")
    promises = {
        match[1]
        for line in project.text("ARCHITECTURE.md")
        if (match := re.match(r"- \*\*(P\d+)\*\* ", line))
    }
    prefixes = {re.sub(r"\d", "", label) for label in listed} | {"P"}
    prefixes = "|".join(sorted(prefixes, key=len, reverse=True))
    cited = re.compile(rf"(?<![\w$%'\"`{{<-])({prefixes})(\d{{1,2}})(?![\w-])")
    for path, lines in project.sources("include", "tests"):
        for number, line in enumerate(lines, 1):
            comment = line[line.index("//"):] if "//" in line else ""
            for prefix, index in cited.findall(comment):
                if prefix + index not in listed and prefix + index not in promises:
                    project.fault(f"{path}:{number}", f"there is no {prefix}{index}")


def functions(lines):
    """(first line, number of lines, name) of the functions of a file in the project's format: from
    a line that opens a body to the first one that closes a brace at the same depth."""
    no_function = re.compile(
        r"\s*(if|for|while|switch|do|else|try|catch|return|struct|class|union|enum|namespace)\b"
        r"|.*\[.*\]"
    )
    start = None
    for number, line in enumerate(lines, 1):
        text = line.split("//")[0].rstrip()
        if not text or text.startswith(("#", "template", "  template")):
            continue
        indent = len(text) - len(text.lstrip())
        if start is None or indent <= start[1]:
            start = (number, indent, text)
        if text.endswith("{") and start is not None:
            first, depth, head = start
            named = re.search(r"([\w~]+)\s*\(", head)
            start = None
            if named is None or no_function.match(head) or depth > 4:
                continue
            close = " " * depth + "}"
            for end in range(number, len(lines)):
                if lines[end].startswith(close) and not lines[end].startswith(close + " catch"):
                    yield first, end + 2 - first, named[1]
                    break
        elif text.endswith((";", "}", ":")):
            start = None


def check_lengths(project):
    """Headers and functions have a size that one can read."""
    for path, lines in project.headers.items():
        where = f"{HEADERS}/{path}"
        if len(lines) > MOST_LINES_OF_A_HEADER:
            what = f"{len(lines)} lines, over {MOST_LINES_OF_A_HEADER}: make two of it"
            project.fault(where, what)
        for first, count, name in functions(lines):
            if count > MOST_LINES_OF_A_FUNCTION:
                what = f"{name} has {count} lines, over {MOST_LINES_OF_A_FUNCTION}"
                project.fault(f"{where}:{first}", what)


def rows_of(lines, *titles):
    """(line number, cells) of the rows of the tables whose header begins with these titles."""
    head = "| " + " | ".join(titles) + " |"
    inside = False
    for number, line in enumerate(lines, 1):
        if line.startswith(head):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("|--"):
            yield number, [cell.strip() for cell in line.strip("|").split("|")]


def tests_of(project):
    """(path, kind, floor, name) of each test; those of costs lie in no folder of a floor."""
    for path in project.paths:
        parts = path.split("/")
        name = parts[-1].removesuffix(".cpp")
        if parts[0] == "tests" and parts[1] in TESTS and name != parts[-1]:
            if name.endswith(("_test", "_model")):
                yield path, parts[1], parts[2] if len(parts) > 3 else None, name


def stems_of(project):
    """floor -> stems of its headers; a floor is one of the library or a part of the program."""
    stems = {}
    for path in project.paths:
        if match := re.match(rf"(?:{HEADERS}|{PROGRAM})/(\w+)/(?:.*/)?(\w+)\.hpp$", path):
            stems.setdefault(match[1], set()).add(match[2])
    return stems


def check_test_names(project):
    """A test is named <stem>_test or <stem>_<topic>_test after a header of its floor, or is listed
    in CONTRIBUTING as one that tests no single header."""
    contributing = project.text("CONTRIBUTING.md")
    listed = {}
    for number, cells in rows_of(contributing, "tests that cut across", "floors"):
        for name in re.findall(r"`(\w+)`", cells[0]):
            for floor in cells[1].split(", "):
                listed[name, floor] = number
    stems = stems_of(project)
    every_stem = set().union(*(stems.get(floor, set()) for floor in BELOW))
    for path, kind, floor, name in tests_of(project):
        if not name.endswith(TESTS[kind]):
            project.fault(path, f"the name of a test in tests/{kind}/ ends with '{TESTS[kind]}'")
            continue
        words = name.removesuffix(TESTS[kind]).split("_")
        begins = {"_".join(words[:count]) for count in range(1, len(words) + 1)}
        known = begins & (every_stem if floor is None else stems.get(floor, set()))
        number = listed.pop((name, floor or kind), None)
        if not known and number is None:
            what = f"begins with the stem of no header of {floor or 'the library'}"
            project.fault(path, f"{what}: rename it, or list it in CONTRIBUTING.md")
        elif known and number is not None:
            header = max(known, key=len) + ".hpp"
            project.fault(f"CONTRIBUTING.md:{number}", f"{path} tests {header}: no need to list it")
    for (name, floor), number in listed.items():
        project.fault(f"CONTRIBUTING.md:{number}", f"there is no {name} in {floor}")


def check_cited_tests(project):
    """A test that a document cites is there."""
    tests = {"/" + path.removesuffix(".cpp") for path, _, _, _ in tests_of(project)}
    ends = {"/".join(path.split("/")[-count:]) for path in tests for count in range(1, 6)}
    for path, lines in project.texts.items():
        if path.endswith(".md"):
            for number, line in enumerate(lines, 1):
                for name in re.findall(r"`([\w/]+_(?:test|model))(?:\.cpp)?`", line):
                    if name not in ends:
                        project.fault(f"{path}:{number}", f"there is no test '{name}'")


def check_modules(project):
    """A file of the program includes files of its own folder and of those that MODULES names."""
    below = PROGRAM + "/"
    files = {path.removeprefix(below) for path in project.paths if path.startswith(below)}
    seen = set()
    for module, below in MODULES.items():
        for folder in below:
            if folder not in seen:
                what = f"{module} may not include {folder}, which comes after it"
                project.fault("tests/tidy/tidy.py", what)
        seen.add(module)
    used = set()
    for path in sorted(files):
        if not path.endswith((".hpp", ".cpp", ".cpp.in")):
            continue
        where, module = f"{PROGRAM}/{path}", str(Path(path).parent)
        if module not in MODULES:
            what = f"tests/tidy/tidy.py does not know '{module}': add what it may include"
            project.fault(where, what)
            continue
        used.add((module, module))
        for number, line in enumerate(project.texts[where], 1):
            match = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
            if match and match[1] in files:
                target = str(Path(match[1]).parent)
                used.add((module, target))
                if target != module and target not in MODULES[module]:
                    what = f"{module} may not include {target}: '{match[1]}'"
                    project.fault(f"{where}:{number}", what)
    for module, below in MODULES.items():
        for folder in [module, *below]:
            if (module, folder) not in used:
                what = f"no file of {module} includes {folder}"
                if folder == module:
                    what = f"there is no {module}"
                project.fault("tests/tidy/tidy.py", f"{what}: take it off MODULES")


def check_columns(project):
    """No line is longer than one can read. In documents, rows of tables, lines that are a link, and
    quoted output have the length that they have."""
    link = re.compile(r"\s*([-*] )?(\[[^\]]*\](: |\())?<?\w+:\S+|\s*([-*] )?\[[^\]]*\]\(\S+")
    for path, lines in project.texts.items():
        prose = path.endswith(".md")
        most = MOST_COLUMNS_OF_PROSE if prose else MOST_COLUMNS
        block = None
        for number, line in enumerate(lines, 1):
            if prose:
                if match := re.match(r"\s*```\s*(\w*)", line):
                    block = match[1] if block is None else None
                if line.startswith("|") or block not in (None, "cpp") or link.fullmatch(line):
                    continue
            if len(line) > most:
                project.fault(f"{path}:{number}", f"{len(line)} columns, over {most}")


def glossary(project):
    """CONTRIBUTING's words that are not to be used: word -> (what to write, the folder meant)."""
    words = {}
    for _, cells in rows_of(project.text("CONTRIBUTING.md"), "word", "write"):
        named = re.findall(r"`([^`]+)`", cells[0])
        folder = "".join(name for name in named if name.endswith("/"))
        for name in named:
            if not name.endswith("/"):
                words[name] = (cells[1], folder)
    return words


def check_words(project):
    """Comments, prose and names use none of the glossary's words, whole or between underscores."""
    words = glossary(project)
    if not words:
        project.fault("CONTRIBUTING.md", "there is no glossary: a table 'word | write'")
        return
    forms = "|".join(word.replace(" ", r"[\W_]+") for word in sorted(words, key=len, reverse=True))
    used = re.compile(rf"(?<![a-z])(?:{forms})(?![a-z])", re.IGNORECASE)
    for path, lines in project.texts.items():
        if path == "CONTRIBUTING.md":
            lines = ["" if line.startswith("|") else line for line in lines]
        text = "\n".join(lines)
        for match in used.finditer(text):
            word = re.sub(r"[\W_]+", " ", match[0].lower())
            write, folder = words[word]
            if path.startswith(folder):
                number = text.count("\n", 0, match.start()) + 1
                project.fault(f"{path}:{number}", f"'{word}': write {write}")


CHECKS = [
    check_layers,
    check_tables,
    check_labels,
    check_lengths,
    check_test_names,
    check_cited_tests,
    check_modules,
    check_columns,
    check_words,
]


def faults_of(root):
    project = Project(root)
    if not project.headers:
        project.fault(HEADERS, "there is no header")
    for check in CHECKS:
        check(project)
    return project.faults


# ---- each check can fail -------------------------------------------------------------------------

ARCHITECTURE = """\
| file in `core/detail/` | what it knows |
|---|---|
| `wheel.hpp` | armed nodes |

| file in `core/support/` | what it knows |
|---|---|
| `lock.hpp` | a lock |

| floor | labels |
|---|---|
| core | K1–K2 `wheel.hpp` |

- **P1** One flight.
"""
WHEEL = """\
// K1  A node is in one slot.
// K2  A slot is a list (P1).
inline void turn() {
}
"""
CONTRIBUTING = """\
| tests that cut across | floors | what they test |
|---|---|---|
| `fork_test` | core, sync | a child of fork() |

| word | write |
|---|---|
| `zork`, `who zorks` | turn |
| `blip` (in `docs/`) | signal |
"""
LONG = "a" * 121
NOTES = f"""\
`unit/core/wheel_test`, `wheel_model.cpp`
| {LONG} |
- [a link](https://{LONG})
```output
{LONG}
```
"""
BATCH = f"""\
#include "singleflight/{DOOR}"
#include "singleflight/core/support/lock.hpp"
"""
GOOD = {
    "ARCHITECTURE.md": ARCHITECTURE,
    "CONTRIBUTING.md": CONTRIBUTING,
    "/tests/unit/core/wheel_test.cpp": "",
    "/tests/unit/core/wheel_turns_test.cpp": "int blip;\n",
    "/tests/unit/core/fork_test.cpp": "",
    "/tests/unit/sync/fork_test.cpp": "",
    "/tests/unit/lab/replay_test.cpp": "",
    "/tests/stress/sync/batch_stress_test.cpp": "",
    "/tests/model/core/wheel_model.cpp": "",
    "/tests/counts/batch_sizes_test.cpp": "",
    "/docs/notes.md": NOTES,
    "/apps/singleflight/cli/units.hpp": "",
    "/apps/singleflight/lab/log/reader.hpp": '#include "cli/units.hpp"\n',
    "/apps/singleflight/lab/log/lines.cpp": '#include "lab/log/reader.hpp"\n',
    "/apps/singleflight/lab/replay.hpp": "",
    "core/detail/wheel.hpp": WHEEL,
    "sync/batch.hpp": BATCH,
    "core/support/lock.hpp": "\n",
}
FAULTY = {
    "a floor includes one above it": (
        {"core/up.hpp": '#include "singleflight/flight/group.hpp"\n'},
        "core is not above flight",
    ),
    "a floor includes one next to it": (
        {"sync/next.hpp": '#include "singleflight/cache.hpp"\n'},
        "sync is not above cache",
    ),
    "a floor includes another's parts": (
        {"sync/parts.hpp": '#include "singleflight/flight/detail/flight_core.hpp"\n'},
        "and not its door",
    ),
    "a floor includes another's bodies": (
        {"sync/bodies.hpp": '#include "singleflight/flight/impl/group_run.hpp"\n'},
        "and not its door",
    ),
    "a program includes support": (
        {"/bench/main.cpp": "#include <singleflight/core/support/platform.hpp>\n"},
        "programs include public headers only",
    ),
    "a program includes parts": (
        {"/apps/main.cpp": '#include <singleflight/core/detail/wheel.hpp>\n'},
        "programs include public headers only",
    ),
    "a floor that nobody knows": ({"attic/box.hpp": "\n"}, "'attic' is no floor"),
    "a part in no table": ({"core/detail/new.hpp": "\n"}, "ARCHITECTURE names it in no table"),
    "a part that is not there": (
        {"ARCHITECTURE.md": ARCHITECTURE.replace("`wheel.hpp` |", "`wheel.hpp`, `cog.hpp` |", 1)},
        "there is no core/detail/cog.hpp",
    ),
    "a part named twice": (
        {"ARCHITECTURE.md": ARCHITECTURE.replace("`wheel.hpp` |", "`wheel.hpp`, `wheel.hpp` |", 1)},
        "is named in line 3 already",
    ),
    "a label defined twice": ({"core/again.hpp": "// K1  Once more.\n"}, "K1 is defined in"),
    "a label that ARCHITECTURE does not name": (
        {"core/detail/wheel.hpp": WHEEL + "// K3  And more.\n"},
        "does not say that K3 is defined here",
    ),
    "a label that has moved": (
        {"core/detail/wheel.hpp": "// K1  Here.\n", "core/there.hpp": "// K2  There.\n"},
        "says that K2 is defined in wheel.hpp",
    ),
    "a label that is defined nowhere": (
        {"core/detail/wheel.hpp": "// K1  Alone.\n"},
        "K2 is not defined in wheel.hpp",
    ),
    "a citation of no label": ({"core/cites.hpp": "int n;  // as K7 says\n"}, "there is no K7"),
    "a citation of no promise": ({"/tests/cites.cpp": "// Goal  P9 holds.\n"}, "there is no P9"),
    "a header that is too long": ({"core/long.hpp": "\n" * 401}, "401 lines, over 400"),
    "a function that is too long": (
        {"core/body.hpp": "class c {\n  int body(int n) {\n" + "    ++n;\n" * 69 + "  }\n};\n"},
        "body has 71 lines, over 70",
    ),
    "a test named after no header": (
        {"/tests/unit/core/mood_test.cpp": ""},
        "mood_test.cpp: begins with the stem of no header of core",
    ),
    "a test named after a header of another floor": (
        {"/tests/unit/sync/wheel_test.cpp": ""},
        "begins with the stem of no header of sync",
    ),
    "a stem that is followed by no topic": (
        {"/tests/unit/core/wheels_test.cpp": ""},
        "begins with the stem of no header of core",
    ),
    "a test of the program named after no header": (
        {"/tests/unit/lab/mood_test.cpp": ""},
        "begins with the stem of no header of lab",
    ),
    "a test of costs named after no header": (
        {"/tests/counts/mood_test.cpp": ""},
        "begins with the stem of no header of the library",
    ),
    "a test whose name does not end as its kind's": (
        {"/tests/stress/sync/batch_test.cpp": ""},
        "ends with '_stress_test'",
    ),
    "a listed test that is not there": (
        {"CONTRIBUTING.md": CONTRIBUTING.replace("core, sync", "core, sync, flight")},
        "CONTRIBUTING.md:3: there is no fork_test in flight",
    ),
    "a listed test that is named after a header": (
        {"core/fork.hpp": ""},
        "tests fork.hpp: no need to list it",
    ),
    "a cited test that is not there": ({"/docs/cites.md": "`cog_test`\n"}, "no test 'cog_test'"),
    "a module that includes one above it": (
        {"/apps/singleflight/cli/up.cpp": '#include "lab/log/reader.hpp"\n'},
        "cli may not include lab/log: 'lab/log/reader.hpp'",
    ),
    "a module that nobody knows": (
        {"/apps/singleflight/attic/box.cpp": ""},
        "does not know 'attic'",
    ),
    "a module that is not there": (
        {"/apps/singleflight/lab/replay.hpp": None},
        "there is no lab: ",
    ),
    "an arrow between modules that is not used": (
        {"/apps/singleflight/lab/log/reader.hpp": ""},
        "no file of lab/log includes cli",
    ),
    "a line of code that is too long": (
        {"/bench/run.py": "#" * 101 + "\n"},
        "101 columns, over 100",
    ),
    "a line of prose that is too long": ({"/docs/long.md": LONG + "\n"}, "121 columns, over 120"),
    "a line of code in a document that is too long": (
        {"/docs/long.md": f"```cpp\n{LONG}\n```\n"},
        "121 columns, over 120",
    ),
    "no glossary": ({"CONTRIBUTING.md": ""}, "there is no glossary"),
    "a banned word in prose": (
        {"/docs/word.md": "A Zork.\n"},
        "docs/word.md:1: 'zork': write turn",
    ),
    "a banned word in a name": ({"core/word.hpp": "int was_zork_;\n"}, "'zork': write turn"),
    "banned words over the end of a line": (
        {"core/word.hpp": "int n;\n// One who\n// zorks.\n"},
        "core/word.hpp:2: 'who zorks': write turn",
    ),
    "a word that is banned in one folder": ({"/docs/word.md": "blip\n"}, "'blip': write signal"),
}
# What the lists say of the project's own files does not hold for the trees.
LISTS = {
    "MODULES": {"cli": [], "lab/log": ["cli"], "lab": []},
}
STALE = {
    "a module includes one that comes after it": (
        {"MODULES": {"lab/log": ["cli"], "cli": [], "lab": []}},
        "lab/log may not include cli, which comes after it",
    ),
}
def tree_faults(files, lists=None):
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            if text is None:
                continue
            at = "" if name.endswith(".md") or name.startswith("/") else HEADERS
            path = Path(root) / at / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        before = {name: globals()[name] for name in LISTS}
        globals().update(LISTS | (lists or {}))
        try:
            return faults_of(root)
        finally:
            globals().update(before)


def self_test():
    failed = [f"a good tree is faulty: {fault}" for fault in tree_faults(GOOD)]
    for what, (files, expected) in FAULTY.items():
        found = tree_faults(GOOD | files)
        if not any(expected in fault for fault in found):
            failed.append(f"{what}: expected '{expected}', found {found}")
    for what, (lists, expected) in STALE.items():
        found = tree_faults(GOOD, lists)
        if not any(expected in fault for fault in found):
            failed.append(f"{what}: expected '{expected}', found {found}")
    return failed


def main():
    if sys.argv[1:] == ["--self-test"]:
        faults = self_test()
    elif len(sys.argv) <= 2:
        faults = faults_of(sys.argv[1] if len(sys.argv) == 2 else Path(__file__).parents[2])
    else:
        sys.exit(__doc__)
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
