#!/usr/bin/env bash
# Negative controls: bugs put into the refresh engine on purpose. The fuzzer must find each of them.
#
#   repository ─▶ copy, negative_controls.patch ─▶ one build ─┬─▶ without a bug: passes
#                                                             └─▶ with each bug: fails        ─▶ a table
#
# benches/negative_controls.sh [number of a bug]...     without numbers: all; ends non-zero if one is not found
# FUZZ_FROM: the seed to begin with; FUZZ_CASES: comparisons after which a bug has survived.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}" CARGO_TERM_COLOR=never
export FUZZ_FROM="${FUZZ_FROM:-1}" FUZZ_CASES="${FUZZ_CASES:-6000}" FUZZ_FAILURES=1 FUZZ_SHRINK=0
patch="$PWD/benches/negative_controls.patch"
seconds_max=900
width=91

copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
git ls-files -z | tar --create --null --files-from=- | tar --extract --directory "$copy"
# A repository of its own: inside another one, git apply would pass over what it takes for somebody else's files.
git -C "$copy" init --quiet
git -C "$copy" apply "$patch" || { echo "the engine has changed: make $patch anew" >&2; exit 1; }

# Overflow checks are more than a check: with them, cargo never takes these artifacts for those of the program.
profile=profile.release.package.flashcommerce
built="$(cd "$copy" && cargo test --release --locked --test it --no-run --message-format=json-render-diagnostics \
    --config "$profile.opt-level=0" --config "$profile.overflow-checks=true")"
cp "$(sed -n 's|.*"name":"it".*"executable":"\([^"]*\)".*|\1|p' <<< "$built")" "$copy/it"

# Run the fuzzer with a bug (0: none); what it printed is in $copy/out.
fuzz() {
    cd "$copy" && FLASH_BUG="$1" timeout "$seconds_max" ./it --nocapture --exact \
        incremental::fuzz::random_views_equal_their_queries_after_every_commit > out 2>&1
}

line() { printf "%3s | %-${width}s | %-24s | %7s\n" "$@"; }

line bug what "found after" seconds
survivors=0
while IFS='|' read -r number what; do
    [[ $# -eq 0 || $number -eq 0 || " $* " == *" $number "* ]] || continue
    start=$SECONDS status=0
    (fuzz "$number") || status=$?
    # A run that was stopped has found the bug if it had said so.
    found="$(sed -n '/^FUZZ_SEED=/{s/.* after //p;q}' "$copy/out")"
    if [[ $number -eq 0 && $status -ne 0 ]]; then
        cat "$copy/out" >&2
        echo "the fuzzer fails without a bug" >&2
        exit 1
    elif [[ $number -eq 0 ]]; then
        found="nothing, as it must"
    elif [[ -z $found ]]; then
        found="SURVIVED (status $status)"
        survivors=$((survivors + 1))
    fi
    line "$number" "$what" "$found" $((SECONDS - start))
done < <(echo "0|none"; sed -n 's#^+/// *\([0-9]\+\)  \(.*\)#\1|\2#p' "$patch")

echo "$survivors survived"
[[ $survivors -eq 0 ]]
