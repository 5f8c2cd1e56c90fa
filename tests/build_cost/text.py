#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bounds the machine code that one more loader costs.

    text.py WHAT MOST FEW MANY MORE   fails when object file MANY, with MORE loaders more than FEW,
                                      has over MOST bytes of .text for each of them
"""

import subprocess
import sys


def text_of(file):
    """The bytes of all sections of machine code."""
    out = subprocess.run(["size", "-A", file], check=True, capture_output=True, text=True).stdout
    sections = [line.split() for line in out.splitlines() if line.startswith(".text")]
    if not sections:
        sys.exit(f"{file}: `size -A` shows no section of machine code")
    return sum(int(section[1]) for section in sections)


def main(what, most, few, many, more):
    each = (text_of(many) - text_of(few)) / int(more)
    print(f"{each:.0f} bytes per additional {what} (at most {most})")
    if each <= 0:
        sys.exit(f"{what}: the objects do not differ in machine code: were they compiled?")
    if each > int(most):
        sys.exit(f"{what}: something that does not depend on the loader is compiled again for "
                 "each: let it see lent_loader or given_loader")


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
