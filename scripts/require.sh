#!/usr/bin/env bash
# Checks that the named tools are there, and says how to get one that is not.
set -euo pipefail

missing=0
for tool in "$@"; do
  case "$tool" in
    cargo)
      command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.89 or newer (rustup), then run this again" >&2; missing=1; continue; }
      command -v cc >/dev/null || { echo "a C linker is missing: apt-get install gcc libc6-dev, then run this again" >&2; missing=1; }
      version=$(rustc --version | awk '{print $2}')
      if [ "$(printf '1.89.0\n%s\n' "$version" | sort -V | head -1)" != 1.89.0 ]; then
        echo "Rust $version is too old: Glint needs 1.89 or newer; run: rustup update stable" >&2; missing=1
      fi ;;
    *)
      command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install $tool, then run this again" >&2; missing=1; } ;;
  esac
done
exit $missing
