#!/usr/bin/env bash
# cluster.sh SERVERS COMMAND...: runs a command with a cluster of its own, which ends with it.
#
# The cluster is the built binary `glint local`, another process on free ports; the command finds it by GLINT_URL.
set -euo pipefail

servers=$1
shift
binary=${CARGO_TARGET_DIR:-target}/release/glint
if [ ! -x "$binary" ]; then
  echo "error: $binary is not built; type: make build" >&2
  exit 1
fi

place=$(mktemp -d)
cluster=
stop() {
  if [ -n "$cluster" ] && kill -TERM "$cluster" 2>/dev/null; then
    for _ in $(seq 100); do
      kill -0 "$cluster" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$cluster" 2>/dev/null || true
  fi
  rm -rf "$place"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$binary" local --servers "$servers" --listen 127.0.0.1:0 --url-file "$place/url" >"$place/log" 2>&1 &
cluster=$!
for _ in $(seq 300); do
  [ -s "$place/url" ] && break
  if ! kill -0 "$cluster" 2>/dev/null; then
    break
  fi
  sleep 0.1
done
if [ ! -s "$place/url" ]; then
  tail -n 20 "$place/log" >&2
  echo "error: the cluster did not start; to see why, type: $binary local --servers $servers" >&2
  exit 1
fi

GLINT_URL=$(cat "$place/url")
export GLINT_URL
status=0
# In the background, so that a signal to this script alone stops the command too.
"$@" <&0 &
command=$!
trap 'kill -TERM "$command" 2>/dev/null; exit 130' INT
trap 'kill -TERM "$command" 2>/dev/null; exit 143' TERM
wait "$command" || status=$?
if ! kill -0 "$cluster" 2>/dev/null; then
  echo "the cluster ended before its command did; its last words:" >&2
  tail -n 20 "$place/log" >&2
fi
exit "$status"
