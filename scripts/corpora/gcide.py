#!/usr/bin/env python3
"""The entries of an English dictionary as a larger text for topic models.

Takes the Debian package `dict-gcide` (unpacked into the cache, not installed), and writes

    gcide.ldac     a line a document: how many distinct words, then word:count
    gcide.tokens   a line a word, in the order of their ids
    gcide.titles   a line a document: the head-word

An entry of the dictionary is a document. Words are runs of at least three ASCII letters, in lower
case. Dropped are stop words, words seen fewer than 5 times in the whole text, and documents of
fewer than 10 words.
"""

import gzip
import re
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import cache

PACKAGE = "dict-gcide"
VERSION = "0.48.5+nmu2"
SHA256 = "7b0af5cfde3cbdef5e9d6e78f92ec335ced7c2790f37a40f49bebc6f7347ac0f"

RAREST_WORD = 5
SHORTEST_DOCUMENT = 10
STOP_WORDS = frozenset(
    """
    all also and any are but being been both can for from had has have her him his how into its
    may more most not now obs off one only other our out own see she some such than that the their
    them then there these they this those thou thy under upon used was were what when where which
    who whom will with would you your
    """.split()
)

# The digits of dictd's base-64 numbers, which are written without padding.
DIGITS = {
    digit: value
    for value, digit in enumerate(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    )
}
# Not prose: how a head-word is said (between backslashes), and its descent and sources (in brackets).
NOT_PROSE = re.compile(r"\\[^\\\n]{1,80}\\|\[[^\[\]]*\]")
WORD = re.compile(r"[a-z]{3,}")


def number(text):
    """A number as the dictionary's index writes it."""
    value = 0
    for digit in text:
        value = value * 64 + DIGITS[digit]
    return value


def entries(index, text):
    """(head-word, text) of each entry, in the order of the text, no byte twice.

    Several head-words may name one entry, and a long entry may hold a shorter one.
    """
    starts = {}
    for line in index.splitlines():
        head, start, _length = line.split("\t")[:3]
        if not head.startswith("00-"):
            starts.setdefault(number(start), head)
    places = sorted(starts)
    for start, end in zip(places, places[1:] + [len(text)]):
        yield starts[start], text[start:end].decode("utf-8", "replace")


def words(entry):
    """The words of an entry that count."""
    prose = NOT_PROSE.sub(" ", NOT_PROSE.sub(" ", entry)).lower()
    return [word for word in WORD.findall(prose) if word not in STOP_WORDS]


def write(folder, index, text):
    """Writes the three files; the `.ldac` last, as its presence says that all is there."""
    documents = [(head, words(entry)) for head, entry in entries(index, text)]
    seen = Counter(word for _head, said in documents for word in said)
    kept = []
    for head, said in documents:
        said = [word for word in said if seen[word] >= RAREST_WORD]
        if len(said) >= SHORTEST_DOCUMENT:
            kept.append((head, said))
    vocabulary = [word for word, _times in Counter(w for _head, said in kept for w in said).most_common()]
    ids = {word: place for place, word in enumerate(vocabulary)}
    kept = [(head, sorted(Counter(ids[word] for word in said).items())) for head, said in kept]
    cache.write_lines(folder / "gcide.tokens", vocabulary)
    cache.write_lines(folder / "gcide.titles", (head for head, _known in kept))
    cache.write_lines(
        folder / "gcide.ldac",
        (
            f"{len(known)} " + " ".join(f"{word}:{times}" for word, times in known)
            for _head, known in kept
        ),
    )
    tokens = sum(times for _head, known in kept for _word, times in known)
    print(f"gcide: {len(kept)} documents, {len(vocabulary)} words, {tokens} tokens")


def main():
    folder = cache.folder()
    if (folder / "gcide.ldac").exists():
        return
    unpacked = cache.debian_package(PACKAGE, VERSION, SHA256)
    dictionary = unpacked / "usr/share/dictd"
    index = (dictionary / "gcide.index").read_text(encoding="utf-8")
    with gzip.open(dictionary / "gcide.dict.dz") as file:
        text = file.read()
    write(folder, index, text)


if __name__ == "__main__":
    main()
