#!/usr/bin/env bash
# Runs the Python package lda itself on the text of the quickstart: the log-likelihood to compare with.
source "$(dirname "$0")/demonstration.sh"
scripts/require.sh python3

python3 scripts/corpora/reuters.py
python3 scripts/corpora/reference.py likelihood "$data/reuters.ldac" 20 1500
