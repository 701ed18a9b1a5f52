#!/usr/bin/env bash
# Takes one safety step out of a copy of the sources at a time (tests/mutants/*.patch), and shows that the simulation finds
# each within so many schedules. Fails when one is not found, or when a patch does not apply any more.
#
#   scripts/faults-mutants.sh [NAME...]      SCHEDULES=1000 by default
set -euo pipefail
cd "$(dirname "$0")/.."
schedules=${SCHEDULES:-1000}
root=$PWD
work=$root/target/mutants
copy=$work/sources
mkdir -p "$copy"
export CARGO_TARGET_DIR=$work/target

refresh() {
    # Whatever a mutant left behind; the time of a file that is put back is now, so that it is built again.
    local file
    while IFS= read -r -d '' file; do
        if ! cmp -s "$file" "$copy/$file"; then
            mkdir -p "$copy/$(dirname "$file")"
            cp "$file" "$copy/$file"
        fi
    done < <(find client server operator tests docs crds Cargo.toml Cargo.lock -type f -print0)
    while IFS= read -r -d '' file; do
        [ -e "$file" ] || rm "$copy/$file"
    done < <(cd "$copy" && find . -type f -print0)
}

build() {
    (cd "$copy" && "${CARGO:-cargo}" build --quiet --package glint-tests --bin faults) >"$work/build.log" 2>&1
}

if [ "$#" -gt 0 ]; then
    names=("$@")
else
    names=()
    for patch in tests/mutants/*.patch; do
        names+=("$(basename "$patch" .patch)")
    done
fi

bad=0
report() {
    printf '%-36s %s\n' "$1" "$2"
}

refresh
build || { cat "$work/build.log" >&2; exit 1; }
report "mutant" "found"
# On as many seeds as the mutants: one on which the simulation fails by itself would count as a find for each of them.
if ! found=$("$work/target/debug/faults" --schedules "$schedules" --stop 2>&1); then
    report "(none)" "the simulation fails by itself"
    echo "$found" >&2
    exit 1
fi
for name in "${names[@]}"; do
    refresh
    if ! GIT_CEILING_DIRECTORIES=$work git -C "$copy" apply -C1 "$root/tests/mutants/$name.patch" 2>"$work/apply.log"; then
        report "$name" "THE PATCH DOES NOT APPLY"
        cat "$work/apply.log" >&2
        bad=1
        continue
    fi
    if ! build; then
        report "$name" "DOES NOT COMPILE"
        tail -20 "$work/build.log" >&2
        bad=1
        continue
    fi
    ended=0
    found=$(timeout 600 "$work/target/debug/faults" --schedules "$schedules" --stop 2>&1) || ended=$?
    first=$(grep -m1 '^seed ' <<<"$found" | cut -c1-100 || true)
    if [ -n "$first" ]; then
        count=$(sed -n 's/^\([0-9]*\) schedules, .*/\1/p' <<<"$found" | tail -1)
        report "$name" "after ${count:-?} schedules: $first"
        continue
    fi
    bad=1
    if [ "$ended" -eq 0 ]; then
        report "$name" "NOT within $schedules schedules"
    elif [ "$ended" -eq 124 ]; then
        # A schedule that does not end says nothing of what the checker sees.
        report "$name" "NOT FOUND: a schedule does not end"
    else
        report "$name" "NOT FOUND: the simulation itself fails"
        tail -20 <<<"$found" >&2
    fi
done
refresh
exit "$bad"
