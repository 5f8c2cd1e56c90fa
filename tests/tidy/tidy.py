#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what the house promises of itself: its layers, its tables, its labels, the size of its rooms.

    tidy.py [ROOT]        checks the project in ROOT; a line for each fault, exit status 1 if there is one
    tidy.py --self-test   shows that each check can fail, on small trees made for that
"""

import re
import sys
import tempfile
from pathlib import Path

HEADERS = "include/singleflight"

# What a floor may include: of the floors below it the public headers, `core/support/`, and the door. A floor's parts
# (`detail/`) and the bodies of its classes (`impl/`) are its own.
BELOW = {"core": [], "flight": ["core"], "sync": ["core", "flight"], "cache": ["core", "flight"]}
DOOR = "flight/detail/group_door.hpp"
OWN = ("detail", "impl")
NOT_PUBLIC = ("detail", "impl", "support")

MOST_LINES_OF_A_HEADER = 400
LONG_HEADERS = {
    "cache/detail/entry_table.hpp",
    "cache/live_value.hpp",
    "cache/loading_cache.hpp",
    "core/support/platform.hpp",
    "flight/detail/flight_core.hpp",
    "flight/impl/flight_core_end.hpp",
    "flight/key.hpp",
    "sync/detail/batch_line.hpp",
    "sync/detail/semaphore_core.hpp",
    "sync/detail/task_group.hpp",
}

MOST_LINES_OF_A_FUNCTION = 70
LONG_FUNCTIONS = {
    "cache/impl/loading_cache_changes.hpp: invalidate_if",
    "flight/impl/group_enter.hpp: enter",
}


class Project:
    """The files of a project, and the faults found in them."""

    def __init__(self, root):
        self.root = Path(root)
        self.headers = {
            str(path.relative_to(self.root / HEADERS)): path.read_text(encoding="utf-8").splitlines()
            for path in sorted((self.root / HEADERS).rglob("*.hpp"))
        }
        self.faults = []

    def fault(self, where, what):
        self.faults.append(f"{where}: {what}")

    def text(self, name):
        path = self.root / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def sources(self, *folders):
        for folder in folders:
            for path in sorted((self.root / folder).rglob("*.[ch]pp")):
                yield str(path.relative_to(self.root)), path.read_text(encoding="utf-8").splitlines()


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
            project.fault(where, f"'{own}' is no floor that tests/tidy/tidy.py knows: say what it may include")
            continue
        for number, target in included(lines):
            floor = floor_of(target)
            if floor == own:
                continue
            if floor not in BELOW[own]:
                project.fault(f"{where}:{number}", f"{own} is not above {floor}: '{target}'")
            elif folder_of(target) in OWN and target != DOOR:
                project.fault(f"{where}:{number}", f"a part of {floor}, and not its door: '{target}'")
    for path, lines in project.sources("apps", "bench", "examples"):
        for number, target in included(lines):
            if folder_of(target) in NOT_PUBLIC:
                project.fault(f"{path}:{number}", f"programs include public headers only: '{target}'")


def tables_of_parts(lines):
    """ARCHITECTURE's tables of files: the folder, and each name of its first column with its line number."""
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
        for prefix, first, last, name in re.findall(r"\b([A-Z]+)(\d+)(?:–[A-Z]+(\d+))? `(\w+\.hpp)`", line):
            for index in range(int(first), int(last or first) + 1):
                found[f"{prefix}{index}"] = (number, name)
    return found


def check_labels(project):
    """A label is defined in one header, ARCHITECTURE says in which, and no other label is cited."""
    told = labels_of_tables(project.text("ARCHITECTURE.md"))
    defined = {}
    for path, lines in project.headers.items():
        for number, line in enumerate(lines, 1):
            if match := re.match(r"// {1,2}([A-Z]{1,2}\d{1,2}) ", line):
                label, where = match[1], f"{HEADERS}/{path}:{number}"
                if label in defined:
                    project.fault(where, f"{label} is defined in {defined[label]} already")
                defined[label] = where
                if label not in told:
                    project.fault(where, f"ARCHITECTURE does not say that {label} is defined here")
                elif told[label][1] != Path(path).name:
                    project.fault(where, f"ARCHITECTURE says that {label} is defined in {told[label][1]}")
    for label, (number, name) in told.items():
        if label not in defined:
            project.fault(f"ARCHITECTURE.md:{number}", f"{label} is not defined in {name}")
    promises = set(re.findall(r"^- \*\*(P\d+)\*\* ", "\n".join(project.text("ARCHITECTURE.md")), re.MULTILINE))
    prefixes = "|".join(sorted({re.sub(r"\d", "", label) for label in told} | {"P"}, key=len, reverse=True))
    cited = re.compile(rf"(?<![\w$%'\"`{{<-])({prefixes})(\d{{1,2}})(?![\w-])")
    for path, lines in project.sources("include", "tests"):
        for number, line in enumerate(lines, 1):
            comment = line[line.index("//"):] if "//" in line else ""
            for prefix, index in cited.findall(comment):
                if prefix + index not in told and prefix + index not in promises:
                    project.fault(f"{path}:{number}", f"there is no {prefix}{index}")


def functions(lines):
    """(first line, number of lines, name) of the functions of a file in the project's format: from a line that opens a
    body to the first one that closes a brace at the same depth."""
    no_function = re.compile(r"\s*(if|for|while|switch|do|else|try|catch|return|struct|class|union|enum|namespace)\b|.*\[.*\]")
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
    """Headers and functions have a size that one can read; those that have not are named, and no others."""
    long_headers, long_functions = set(), set()
    for path, lines in project.headers.items():
        where = f"{HEADERS}/{path}"
        if len(lines) > MOST_LINES_OF_A_HEADER:
            long_headers.add(path)
            if path not in LONG_HEADERS:
                project.fault(where, f"{len(lines)} lines, over {MOST_LINES_OF_A_HEADER}: make two of it")
        for first, count, name in functions(lines):
            if count > MOST_LINES_OF_A_FUNCTION:
                long_functions.add(f"{path}: {name}")
                if f"{path}: {name}" not in LONG_FUNCTIONS:
                    project.fault(f"{where}:{first}", f"{name} has {count} lines, over {MOST_LINES_OF_A_FUNCTION}")
    for name in sorted((LONG_HEADERS - long_headers) | (LONG_FUNCTIONS - long_functions)):
        project.fault("tests/tidy/tidy.py", f"'{name}' is long no more: take it off the list")


CHECKS = [check_layers, check_tables, check_labels, check_lengths]


def faults_of(root):
    project = Project(root)
    if not project.headers:
        project.fault(HEADERS, "there is no header")
    for check in CHECKS:
        check(project)
    return project.faults


# ---- each check can fail ----------------------------------------------------------------------------------------------

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
GOOD = {
    "ARCHITECTURE.md": ARCHITECTURE,
    "core/detail/wheel.hpp": WHEEL,
    "sync/batch.hpp": f'#include "singleflight/{DOOR}"\n#include "singleflight/core/support/lock.hpp"\n',
    "core/support/lock.hpp": "\n",
}
FAULTY = {
    "a floor includes one above it": (
        {"core/up.hpp": '#include "singleflight/flight/group.hpp"\n'},
        "core is not above flight",
    ),
    "a floor includes one beside it": (
        {"sync/beside.hpp": '#include "singleflight/cache.hpp"\n'},
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
        {"ARCHITECTURE.md": ARCHITECTURE.replace("`wheel.hpp` | armed", "`wheel.hpp`, `cog.hpp` | armed")},
        "there is no core/detail/cog.hpp",
    ),
    "a part named twice": (
        {"ARCHITECTURE.md": ARCHITECTURE.replace("`wheel.hpp` | armed", "`wheel.hpp`, `wheel.hpp` | armed")},
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
    "a label that is defined nowhere": ({"core/detail/wheel.hpp": "// K1  Alone.\n"}, "K2 is not defined in wheel.hpp"),
    "a citation of no label": ({"core/cites.hpp": "int n;  // as K7 says\n"}, "there is no K7"),
    "a citation of no promise": ({"/tests/cites.cpp": "// Goal  P9 holds.\n"}, "there is no P9"),
    "a header that is too long": ({"core/long.hpp": "\n" * 401}, "401 lines, over 400"),
    "a function that is too long": (
        {"core/body.hpp": "class c {\n  int body(int n) noexcept {\n" + "    ++n;\n" * 69 + "  }\n};\n"},
        "body has 71 lines, over 70",
    ),
}


def tree_faults(files):
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            at = "" if name == "ARCHITECTURE.md" or name.startswith("/") else HEADERS
            path = Path(root) / at / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        lists = (LONG_HEADERS, LONG_FUNCTIONS)
        kept = [set(names) for names in lists]
        for names in lists:
            names.clear()  # they speak of the project's own files
        try:
            return faults_of(root)
        finally:
            for names, before in zip(lists, kept):
                names.update(before)


def self_test():
    failed = [f"a good tree is faulty: {fault}" for fault in tree_faults(GOOD)]
    for what, (files, expected) in FAULTY.items():
        found = tree_faults(GOOD | files)
        if not any(expected in fault for fault in found):
            failed.append(f"{what}: expected '{expected}', found {found}")
    LONG_HEADERS.add("core/short.hpp")
    if not any("'core/short.hpp' is long no more" in fault for fault in faults_of(Path(__file__).parents[2])):
        failed.append("a header that is not long stays on the list")
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
