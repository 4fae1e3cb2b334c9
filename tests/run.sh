#!/usr/bin/env bash
# All tests, from a fresh clone: formatting, lints, documentation, Rust tests, and clients that we did not write.
#
#   tools ─▶ format ─▶ build ─▶ tests ─▶ clippy ─▶ documentation ─▶ the demo, by ADBC, deltalake, polars, duckdb
#
# Ends with the first failure. One profile (release) for all of it, so that dependencies are compiled once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TERM_COLOR=never
target="${CARGO_TARGET_DIR:-$PWD/target}"

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

# Ask the system's package manager for what is missing, where that is ours to do.
ensure() {
    local missing=() pair
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y "${missing[@]}"
    else
        echo "install these first: ${missing[*]}" >&2
        exit 1
    fi
}

step "tools"
ensure cc:build-essential make:build-essential cmake:cmake python3:python3 strace:strace
command -v cargo >/dev/null || { echo "install Rust 1.95 or newer first (rustup.rs)" >&2; exit 1; }
cargo --version

step "clients for the tests"
venv="$target/clients-$(cksum < tests/clients/requirements.txt | tr -d ' ')"
if [ ! -e "$venv/ready" ]; then
    rm -rf "$venv"
    if ! python3 -m venv "$venv"; then
        rm -rf "$venv"
        ensure no-such-command:python3-venv
        python3 -m venv "$venv"
    fi
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
    touch "$venv/ready"
fi
export FLASH_PYTHON="$venv/bin/python"
if command -v mvn >/dev/null && command -v java >/dev/null; then
    driver=18.3.0
    export FLASH_JDBC_DRIVER="$target/flight-sql-jdbc-driver-$driver.jar"
    [ -e "$FLASH_JDBC_DRIVER" ] || mvn --quiet --batch-mode dependency:copy \
        -Dartifact="org.apache.arrow:flight-sql-jdbc-driver:$driver" -DoutputDirectory="$target" \
        || unset FLASH_JDBC_DRIVER
fi
[ -n "${FLASH_JDBC_DRIVER:-}" ] || echo "skipped: JDBC, which needs java and mvn"

step "format"
cargo fmt --all --check

step "build"
cargo build --release --locked --bins

step "tests"
cargo test --release --locked --workspace

step "clippy"
cargo clippy --release --locked --workspace --all-targets -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps

step "the demo, judged by others"
for script in tests/clients/test_*.py; do
    echo "-- $script"
    FLASH="$target/release/flash" timeout 900 "$FLASH_PYTHON" "$script"
done

step "done"
echo "all passed in $SECONDS s"
