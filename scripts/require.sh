#!/usr/bin/env bash
# Sees that the named tools are there. What is missing is installed where that can be done without asking (as root, with
# apt-get; parts of the Rust toolchain with rustup); else it is said what to type, and this fails.
#
#   scripts/require.sh cargo lint curl procps python3 …      `lint` are the compiler's formatter and linter
set -euo pipefail

packages=()
components=()
failed=0
say() {
  echo "$1" >&2
  failed=1
}
has() {
  command -v "$1" >/dev/null
}

for tool in "$@"; do
  case "$tool" in
    cargo)
      has cc || packages+=(gcc libc6-dev)
      if ! has cargo; then
        say "cargo is missing: install Rust 1.89 or newer (https://rustup.rs), then run this again"
        continue
      fi
      version=$(rustc --version)
      version=${version#rustc }
      version=${version%%[ -]*}
      oldest=$(printf '1.89.0\n%s\n' "$version" | sort -V)
      if [ "${oldest%%$'\n'*}" != 1.89.0 ]; then
        say "Rust $version is too old: Glint needs 1.89 or newer; run: rustup update stable"
      fi ;;
    lint)
      # Without them rustup's stand-ins are there, and fail.
      if has cargo; then
        cargo fmt --version >/dev/null 2>&1 || components+=(rustfmt)
        cargo clippy --version >/dev/null 2>&1 || components+=(clippy)
      fi ;;
    # What a package is for, where the two have different names.
    procps) has kill && has pgrep || packages+=(procps) ;;
    c++) has c++ || packages+=(g++) ;;
    *) has "$tool" || packages+=("$tool") ;;
  esac
done

if [ "${#components[@]}" -gt 0 ]; then
  if has rustup; then
    echo "adding to the Rust toolchain: ${components[*]}" >&2
    rustup component add "${components[@]}" >&2 ||
      say "run this where the network allows it, then this again: rustup component add ${components[*]}"
  else
    say "${components[*]} are missing: install them as you did Rust (rustup component add ${components[*]}), then run this again"
  fi
fi
if [ "${#packages[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && has apt-get; then
    echo "installing what is missing: ${packages[*]}" >&2
    { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; } >/dev/null ||
      say "it cannot be installed; run this where the network allows it, then this again: apt-get install ${packages[*]}"
  else
    say "missing here: ${packages[*]}. On Debian, as root: apt-get install ${packages[*]}; then run this again"
  fi
fi
exit $failed
