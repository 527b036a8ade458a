#!/usr/bin/env python3
"""Writes src/unicode_tables.inc: the code point ranges of Unicode letters, numbers and white space.

Usage: make_unicode_tables.py > ../src/unicode_tables.inc
The ranges are those of the Python that runs it (unicodedata.unidata_version).
"""

import sys
import unicodedata


def ranges(belongs):
    found = []
    for code in range(sys.maxunicode + 1):
        if not belongs(chr(code)):
            continue
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return found


# White_Space, which the standard library does not expose: PropList.txt, unchanged since Unicode 6.3.
WHITE_SPACE = set("\t\n\v\f\r \u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000") | {
    chr(code) for code in range(0x2000, 0x200B)
}

TABLES = {
    "kLetterRanges": lambda c: unicodedata.category(c).startswith("L"),
    "kNumberRanges": lambda c: unicodedata.category(c).startswith("N"),
    "kSpaceRanges": lambda c: c in WHITE_SPACE,
}

print(f"// Unicode {unicodedata.unidata_version}. Written by tools/make_unicode_tables.py.")
print("// clang-format off")
for name, belongs in TABLES.items():
    table = ranges(belongs)
    print(f"constexpr CodePointRange {name}[{len(table)}] = {{")
    cells = [f"{{0x{first:x}, 0x{last:x}}}" for first, last in table]
    for i in range(0, len(cells), 6):
        print("    " + ", ".join(cells[i : i + 6]) + ",")
    print("};")
print("// clang-format on")
