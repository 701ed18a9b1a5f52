#!/usr/bin/env python3
"""Runs the Python package `lda` itself, in an environment of its own under the cache.

    reference.py likelihood FILE.ldac TOPICS ITERATIONS   prints the log-likelihood it reaches
    reference.py speed FILE.ldac TOPICS ITERATIONS        prints how many tokens it draws a second

α is 0.1, η is 0.01, `random_state` is 1, as in the example `lda`.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import cache
import reuters

NUMPY = "numpy==2.2.6"
INSIDE = "--inside"


def environment():
    """A Python that has the package."""
    python = cache.environment()
    there = subprocess.run([python, "-c", "import lda, numpy"], capture_output=True)
    if there.returncode != 0:
        install = [python, "-m", "pip", "install", "--quiet"]
        # The pinned wheel where it fits this Python, else the same version built for it.
        fits = subprocess.run(
            install + ["--no-deps", str(reuters.wheel())], capture_output=True
        ).returncode == 0
        cache.run(
            install + [NUMPY] + ([] if fits else ["lda==3.0.2"]),
            "the Python package lda could not be installed",
            "see that the network is up (pip's own words are above), then try again",
        )
    return python


def likelihood(path, topics, iterations):
    """Trains as the package's own users do."""
    import lda
    import lda.utils

    with open(path, encoding="utf-8") as file:
        counts = lda.utils.ldac2dtm(file, offset=0)
    model = lda.LDA(n_topics=topics, n_iter=iterations, alpha=0.1, eta=0.01, random_state=1, refresh=100)
    model.fit(counts)
    print(f"reference lda {model.loglikelihood():.0f}")


def speed(path, topics, iterations):
    """Times the package's sampler alone: its dense matrix of a large text would not fit into memory."""
    import time

    import lda._lda
    import numpy

    words, documents = [], []
    with open(path, encoding="utf-8") as file:
        for document, line in enumerate(file):
            for pair in line.split()[1:]:
                word, times = map(int, pair.split(":"))
                words += [word] * times
                documents += [document] * times
    words, documents = (numpy.array(column, dtype=numpy.intc) for column in (words, documents))
    vocabulary = words.max() + 1
    assigned = (numpy.arange(len(words)) % topics).astype(numpy.intc)
    by_word = numpy.zeros((topics, vocabulary), dtype=numpy.intc, order="F")
    by_document = numpy.zeros((documents.max() + 1, topics), dtype=numpy.intc)
    totals = numpy.zeros(topics, dtype=numpy.intc)
    numpy.add.at(by_word, (assigned, words), 1)
    numpy.add.at(by_document, (documents, assigned), 1)
    numpy.add.at(totals, assigned, 1)
    alpha, eta = numpy.repeat(0.1, topics), numpy.repeat(0.01, vocabulary)
    random = numpy.random.RandomState(1)
    variates = random.rand(1024**2 // 8)
    spent = 0.0
    for _iteration in range(iterations):
        random.shuffle(variates)
        started = time.perf_counter()
        lda._lda._sample_topics(
            words, documents, assigned, by_word, by_document, totals, alpha, eta, variates
        )
        spent += time.perf_counter() - started
    print(round(len(words) * iterations / spent))


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == [INSIDE]:
        what, path, topics, iterations = arguments[1:]
        {"likelihood": likelihood, "speed": speed}[what](path, int(topics), int(iterations))
        return
    if len(arguments) != 4 or arguments[0] not in ("likelihood", "speed"):
        sys.exit(__doc__)
    sys.exit(subprocess.run([environment(), __file__, INSIDE, *arguments]).returncode)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
