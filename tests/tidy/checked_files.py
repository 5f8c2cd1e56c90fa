#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the files that clang-tidy checks, and writes the database of commands that it reads.

    checked_files.py BUILD CHECKED

BUILD is the folder of a configured build, CHECKED a folder for the database and for what is
generated. The files are those of the project, in the batches of the build. A file that the build
compiles several times is checked once. Most of the time of a check goes into the library's headers,
so the programs of a folder (examples, benchmarks) are checked as one file as well: it includes what
they include, then each of them in a namespace of its own.
"""

import json
import os
import sys
from pathlib import Path

TOGETHER = ("examples", "bench/cache", "bench/flight", "bench/sync")


def together(name, files):
    """The text of one file that stands for these programs."""
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    includes = sorted({line for line in lines if line.startswith("#include")})
    text = ["// SPDX-License-Identifier: Apache-2.0", *includes]
    for file in files:
        text.append(f'namespace {name}_{file.stem} {{\n#include "{file}"\n}}')
    return "\n".join([*text, ""])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    build, checked, root = Path(sys.argv[1]), Path(sys.argv[2]), Path.cwd()
    checked.mkdir(parents=True, exist_ok=True)
    commands, programs = {}, {folder: [] for folder in TOGETHER}
    for command in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        file = Path(command["file"])
        if not file.is_relative_to(root):
            continue
        name = file.relative_to(root)
        if str(name.parent) in programs:
            programs[str(name.parent)].append(command)
        elif name.parts[0] != "build" or file.parent.name == "Unity":
            commands.setdefault(str(name), command)

    for folder, of_folder in programs.items():
        files = sorted(Path(command["file"]) for command in of_folder)
        if not files:
            continue
        name = folder.replace("/", "_")
        file = checked / f"{name}.cpp"
        file.write_text(together(name, files), encoding="utf-8")
        # The program that links the most libraries has the most folders of headers.
        longest = max((command["command"] for command in of_folder), key=len)
        before, compiled = longest.rsplit(" -c ", 1)
        assert " " not in compiled, compiled
        commands[os.path.relpath(file, root)] = {
            "directory": of_folder[0]["directory"],
            "command": f"{before} -c {file.resolve()}",
            "file": str(file.resolve()),
        }
    database = json.dumps(list(commands.values()), indent=1)
    (checked / "compile_commands.json").write_text(database, encoding="utf-8")
    print("\n".join(sorted(commands)))


if __name__ == "__main__":
    main()
