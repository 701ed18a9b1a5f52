#!/usr/bin/env bash
# Fuzzes every decoder that reads the network or a disk, each for so many seconds: `make fuzz SECONDS=60`, or
# `make fuzz SECONDS=60 TARGETS="push segment"`. Needs cargo-fuzz, which is installed below target/, and a nightly compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/require.sh cargo c++

per_target="${1:-60}"
[ "$#" -eq 0 ] || shift
version=0.13.2
tools="$PWD/target/tools"
if [ "$("$tools/bin/cargo-fuzz" --version 2>/dev/null)" != "cargo-fuzz $version" ]; then
  cargo install cargo-fuzz --version "$version" --locked --root "$tools"
fi
export PATH="$tools/bin:$PATH"

# What instruments the code is no part of the stable compiler.
toolchain=()
if command -v rustup >/dev/null; then
  if ! rustup toolchain list | grep -q '^nightly'; then
    rustup toolchain install nightly --profile minimal || {
      echo "no nightly compiler can be had: run 'rustup toolchain install nightly' where the network allows it, then this again" >&2
      exit 1
    }
  fi
  toolchain=(+nightly)
elif ! rustc --version | grep -q nightly; then
  export RUSTC_BOOTSTRAP=1
fi

cd fuzz
# All memory is safe here (the workspace forbids unsafe code): what is looked for are panics, hangs and allocations above the
# cap (cap.rs), for which no sanitizer is needed.
cargo "${toolchain[@]}" fuzz build --fuzz-dir . --sanitizer none
if [ "$#" -gt 0 ]; then targets=("$@"); else mapfile -t targets < <(cargo "${toolchain[@]}" fuzz list --fuzz-dir .); fi
for target in "${targets[@]}"; do
  log=$(mktemp)
  if ! cargo "${toolchain[@]}" fuzz run --fuzz-dir . --sanitizer none "$target" -- \
    -max_total_time="$per_target" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1; then
    tail -40 "$log" >&2
    echo "fuzz: $target failed; the input is in fuzz/artifacts/$target, and runs again with: make fuzz TARGETS=$target" >&2
    exit 1
  fi
  runs=$(awk '/number_of_executed_units/ {print $2}' "$log")
  printf 'fuzz: %-10s %10s inputs, 0 failed\n' "$target" "$runs"
  rm -f "$log"
done
