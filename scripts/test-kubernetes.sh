#!/usr/bin/env bash
# Runs the tests of tests/kubernetes on a real Kubernetes that it starts on this machine, and takes down again:
#   test-kubernetes.sh [NAME…]       only the tests whose names contain one of NAME
# Where the machine cannot run it, it says so in one line and goes on, or fails when GLINT_REQUIRE_KUBERNETES=1.
# KEEP=1 leaves the cluster running. PROFILE=release tests the programs as they are shipped.
set -euo pipefail
cd "$(dirname "$0")/.."
cluster=tests/kubernetes/cluster/cluster
# A cluster of their own: what `make kubernetes-up` or the quickstart has started goes on.
export CLUSTER_STATE=$PWD/target/kubernetes/tests

obstacle=$($cluster obstacle)
if [ -n "$obstacle" ]; then
  if [ "${GLINT_REQUIRE_KUBERNETES:-}" = 1 ]; then
    echo "error: the tests on Kubernetes are asked for, and cannot run here: $obstacle" >&2
    exit 1
  fi
  echo "skipped: the tests on Kubernetes cannot run here: $obstacle"
  exit 0
fi

$cluster build
PROFILE=${PROFILE:-dev} scripts/images.sh
# Built before the cluster is up: compilers and a cluster at once make everything slow.
"${CARGO:-cargo}" test --package glint-tests-kubernetes --test kubernetes --no-run

$cluster down
end() {
  status=$?
  if [ $status != 0 ]; then
    rm -rf target/kubernetes/failed/cluster
    mkdir -p target/kubernetes/failed
    cp -r "$CLUSTER_STATE/log" target/kubernetes/failed/cluster 2>/dev/null || true
    echo "failed; what tests and components said is kept in target/kubernetes/failed" >&2
  fi
  if [ "${KEEP:-}" = 1 ]; then
    echo "the cluster goes on: export CLUSTER_STATE=$CLUSTER_STATE; make kubernetes-run COMMAND='kubectl get pods -A'; make kubernetes-down ends it"
  else
    $cluster down
  fi
  exit $status
}
trap end EXIT
rm -rf target/kubernetes/failed
NODES=${NODES:-2} $cluster up
$cluster load target/images/glint.tar target/images/examples.tar

# Side by side, as far as they leave each other alone (tests/kubernetes/turns.rs).
check() {
  "${CARGO:-cargo}" test --quiet --package glint-tests-kubernetes --test kubernetes -- \
    --ignored --test-threads="${THREADS:-3}" --nocapture "$@"
}
if [ $# != 0 ]; then
  check --skip whole_run "$@"
  exit
fi
# Those first that mostly run side by side, then those that mostly have the cluster for themselves.
parallel=(changes:: deaths:: deletion:: examples:: quotas:: rendering:: rolls:: scaling:: spec::)
failed=
check "${parallel[@]}" || failed=1
check --skip whole_run "${parallel[@]/#/--skip=}" || failed=1
if [ -n "$failed" ]; then exit 1; fi
# What the whole run has asked of the API server.
check whole_run
