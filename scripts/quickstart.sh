#!/usr/bin/env bash
# Trains LDA on the Reuters corpus through a cluster of two servers, and compares with the Python package lda.
source "$(dirname "$0")/demonstration.sh"
scripts/require.sh cargo python3

python3 scripts/corpora/reuters.py
build lda
# The reference is what `make quickstart-reference` prints.
scripts/cluster.sh 2 "$target/release/examples/lda" \
  --corpus "$data/reuters.ldac" --topics 20 --reference=-655858 "$@"
