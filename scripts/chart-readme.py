#!/usr/bin/env python3
"""Writes the table of values in charts/glint/README.md from the comments in values.yaml (`# -- what it is`).

With --check it only says whether the table is what it would write.
"""

import re
import sys
from pathlib import Path

CHART = Path(__file__).resolve().parent.parent / "charts" / "glint"
BEGIN, END = "<!-- values: made by scripts/chart-readme.py -->", "<!-- end of values -->"


def values(text):
    """Path, default and meaning of each documented value, in order."""
    path, meaning, rows = [], None, []
    for line in text.splitlines():
        comment = re.match(r" *# -- (.*)", line)
        if comment:
            meaning = comment[1]
            continue
        field = re.match(r"( *)(\w+):(.*)", line)
        if not field:
            continue
        depth = len(field[1]) // 2
        path = path[:depth] + [field[2]]
        if meaning:
            default = field[3].strip()
            rows.append((".".join(path), default or "see values.yaml", meaning))
            meaning = None
    return rows


def table():
    rows = values((CHART / "values.yaml").read_text())
    lines = ["| value | unless said | |", "|---|---|---|"]
    lines += [f"| `{name}` | {default if default == 'see values.yaml' else f'`{default}`'} | {meaning} |" for name, default, meaning in rows]
    return "\n".join(lines)


def main():
    readme = CHART / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    new = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if "--check" not in sys.argv[1:]:
        readme.write_text(new)
    elif new != text:
        sys.exit("error: charts/glint/README.md is not what values.yaml says; run: scripts/chart-readme.py")


if __name__ == "__main__":
    main()
