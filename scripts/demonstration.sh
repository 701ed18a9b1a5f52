# What the demonstrations share; to be sourced. Goes to the root of the project and offers `build`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
data=$target/data

# build EXAMPLE: the cluster's binary and one example, optimised.
build() {
  if ! "${CARGO:-cargo}" build --release -p glint-server --bin glint -p glint-client --example "$1"; then
    echo "error: the build failed (cargo's own words are above); the first build needs the network for its crates" >&2
    exit 1
  fi
}
