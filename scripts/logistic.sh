#!/usr/bin/env bash
# Trains sparse logistic regression on e-mails through a cluster of two servers; prints the held-out accuracy.
source "$(dirname "$0")/demonstration.sh"
scripts/require.sh cargo python3

python3 scripts/corpora/spam.py
build logistic
scripts/cluster.sh 2 "$target/release/examples/logistic"
