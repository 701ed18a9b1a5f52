#!/usr/bin/env bash
# Trains LDA with 100 topics on the entries of a dictionary, and compares tokens a second with the Python package lda.
source "$(dirname "$0")/demonstration.sh"
scripts/require.sh cargo python3

python3 scripts/corpora/gcide.py
build lda
echo "measuring the Python package lda on the same text"
theirs=$(python3 scripts/corpora/reference.py speed "$data/gcide.ldac" 100 3)
scripts/cluster.sh 2 "$target/release/examples/lda" \
  --corpus "$data/gcide.ldac" --topics 100 --rounds 2 --sweeps 100 --reference-speed "$theirs" "$@"
