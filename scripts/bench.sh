#!/usr/bin/env bash
# Builds in release and measures speed: `make bench`, `make bench ARGS="--only dense --rounds 7"`, or this script with the
# same flags. Runs in a network namespace of its own with TCP congestion control reno; the namespace is gone with the
# last process in it.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/require.sh cargo

# The cost of exactly-once is counted in instructions, which takes the processor's counters or valgrind.
if ! perf stat -e instructions:u true 2>&1 | grep -Eq '[0-9] +instructions' && ! command -v valgrind >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing valgrind, which counts instructions where the processor's counters are not to be had" >&2
    { apt-get update && apt-get install -y --no-install-recommends valgrind; } >/dev/null
  else
    echo "instructions cannot be counted here: install valgrind (apt-get install valgrind)" >&2
  fi
fi

cargo build --release -p glint-server --bin glint -p glint-tests --bin bench
release="${CARGO_TARGET_DIR:-target}/release"
read -r -a flags <<<"${ARGS:-}"
run=("$release/bench" --glint "$release/glint" "${flags[@]}" "$@")

enter=(unshare --net)
[ "$(id -u)" = 0 ] || enter=(unshare --map-root-user --net)
prepare='ip link set lo up && echo reno >/proc/sys/net/ipv4/tcp_congestion_control'
if ! command -v ip >/dev/null; then
  echo "the program 'ip' is missing, so this runs without a network namespace of its own: apt-get install iproute2" >&2
elif ! reason=$("${enter[@]}" sh -c "$prepare" 2>&1); then
  echo "no network namespace of its own can be made here ($reason); running without" >&2
else
  exec "${enter[@]}" sh -c "$prepare && exec \"\$@\"" sh "${run[@]}"
fi
exec "${run[@]}"
