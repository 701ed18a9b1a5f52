#!/usr/bin/env bash
# Trains LDA on the Reuters corpus while servers join, are killed, hang and are drained; compares with undisturbed training.
source "$(dirname "$0")/demonstration.sh"
scripts/require.sh cargo python3

python3 scripts/corpora/reuters.py
build lda
build elastic
exec "$target/release/examples/elastic" --glint "$target/release/glint" --lda "$target/release/examples/lda" \
  --corpus "$data/reuters.ldac" "$@"
