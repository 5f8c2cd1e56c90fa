#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles every C++ block of a Markdown file.

    doc_blocks.py FILE.md LIBRARY.hpp -- COMPILER [OPTION...]

How a block is read, by the words after the backticks:

    ```cpp                with `int main` in it: a program, compiled and linked unchanged. When
                          the next block of the file is ```output, the program is run and must
                          print just that.
    ```cpp                without: statements, put into a function of their own after
                          docs_prelude.hpp; a coroutine when they say co_await or co_return.
    ```cpp declarations   without: declarations, put into a namespace of their own after
                          docs_prelude.hpp.

LIBRARY.hpp is a header that has been precompiled, which the blocks that are not programs use.

Lines that begin with #include are lifted out to the top. Errors carry the line of the Markdown
file.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})(.*)$")


def blocks_of(document):
    """Yields (info string, number of the first line, lines) of each fenced block."""
    fence = None
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        match = FENCE.match(line)
        if fence is None:
            if match:
                indent, fence, info = len(match[1]), match[2], match[3].strip()
                first, lines = number + 1, []
        elif match and match[2].startswith(fence) and not match[3].strip():
            yield info, first, lines
            fence = None
        else:
            lines.append(line[indent:] if line[:indent].isspace() else line)
    if fence is not None:
        sys.exit(f"{document}:{first - 1}: a block that is not closed")


def fragment(document, info, first, lines):
    """A block that is no program, as (its includes, its text ready for namespace scope)."""
    includes = [line for line in lines if line.startswith("#include")]
    body = ["" if line.startswith("#include") else line for line in lines]
    if "declarations" in info.split():
        head, tail = f"namespace block_{first} {{", "}"
    elif any("co_await" in line or "co_return" in line for line in lines):
        head, tail = f"docs::coroutine block_{first}() {{", "co_return;\n}"
    else:
        head, tail = f"[[maybe_unused]] static void block_{first}() {{", "}"
    text = "\n".join([head, f'#line {first} "{document}"', *body, "", tail])
    return includes, text


def run(command, what, **more):
    result = subprocess.run(command, capture_output=True, text=True, **more)
    if result.returncode != 0:
        sys.exit(f"{what} failed ({result.returncode}):\n{result.stdout}{result.stderr}")
    return result.stdout


def main():
    if len(sys.argv) < 5 or sys.argv[3] != "--":
        sys.exit(__doc__)
    document, library, compiler = Path(sys.argv[1]), sys.argv[2], sys.argv[4:]
    found = list(blocks_of(document))
    includes, fragments, programs = [], [], 0

    with tempfile.TemporaryDirectory() as folder:
        for index, (info, first, lines) in enumerate(found):
            if info.split()[:1] != ["cpp"]:
                continue
            if not any(re.search(r"\bint main\b", line) for line in lines):
                its_includes, text = fragment(document, info, first, lines)
                includes += its_includes
                fragments.append(text)
                continue
            programs += 1
            source, program = Path(folder, f"program_{first}.cpp"), Path(folder, f"program_{first}")
            text = "\n".join([f'#line {first} "{document}"', *lines, ""])
            source.write_text(text, encoding="utf-8")
            run([*compiler, str(source), "-o", str(program)],
                f"{document}:{first}: compiling the program")
            if index + 1 < len(found) and found[index + 1][0] == "output":
                expected = "\n".join(found[index + 1][2]).strip()
                running = f"{document}:{first}: the program"
                printed = run([str(program)], running, timeout=60).strip()
                if printed != expected:
                    sys.exit(f"{running} printed\n{printed}\nand not\n{expected}")

        if fragments:
            source = Path(folder, "fragments.cpp")
            includes = sorted(set(includes))
            text = ["#include <docs_prelude.hpp>", *includes, *fragments, ""]
            source.write_text("\n".join(text), encoding="utf-8")
            quiet = ["-Wno-unused-variable", "-Wno-unused-value", "-Wno-unused-but-set-variable",
                     "-Wno-shadow"]
            # With -flto a compiler gives all its warnings, and does not generate machine code,
            # which would take more than half of the time.
            quick = ["-Winvalid-pch", "-include", library, "-flto"]
            run([*compiler, *quiet, *quick, "-c", str(source), "-o", "/dev/null"],
                f"{document}: compiling the blocks")

    print(f"{document}: {programs} programs and {len(fragments)} other blocks compile")


if __name__ == "__main__":
    main()
