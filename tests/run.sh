#!/usr/bin/env bash
# All tests, from a fresh clone: formatting, lints, documentation, Rust tests, and clients that we did not write.
#
#   tools ─▶ format ─▶ build ─▶ tests ─▶ clippy ─▶ documentation ─▶ the demo, by ADBC, deltalake, polars, duckdb
#                                                              └─▶ the dashboard, in Chromium
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

# Servers beside the tests are stopped at the end, however that comes.
servers=()
trap 'kill "${servers[@]}" 2>/dev/null || true' EXIT

free_ports() {
    python3 -c 'import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(socket.getsockname()[1] for socket in sockets))' "$1"
}

# Wait until somebody listens there, for half a minute.
answers() {
    for _ in $(seq 300); do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.1
    done
    return 1
}

# The npm package kinesis-local, on free ports; FLASH_KINESIS_LOCAL says where.
start_kinesis_local() {
    local version=0.6.2 folder port tls
    (ensure node:nodejs npm:npm) && command -v node >/dev/null && command -v npm >/dev/null || return 1
    folder="$target/kinesis-local-$version"
    [ -e "$folder/ready" ] || { npm install --silent --no-audit --no-fund --prefix "$folder" "kinesis-local@$version" \
        && touch "$folder/ready"; } || return 1
    folder="$folder/node_modules/kinesis-local"
    read -r port tls < <(free_ports 2)
    KINESIS_MOCK_CERT_PATH="$folder/server.json" KINESIS_MOCK_PLAIN_PORT="$port" KINESIS_MOCK_TLS_PORT="$tls" \
        SHARD_LIMIT=2000 CREATE_STREAM_DURATION=50ms DELETE_STREAM_DURATION=50ms SPLIT_SHARD_DURATION=50ms \
        MERGE_SHARDS_DURATION=50ms LOG_LEVEL=ERROR node "$folder/main.js" >/dev/null 2>&1 &
    servers+=($!)
    answers "$port" && export FLASH_KINESIS_LOCAL="http://127.0.0.1:$port"
}

# The PyPI package ministack as an S3 with the bucket "lakes", and as Glue; FLASH_S3 says where.
start_s3() {
    local port
    read -r port < <(free_ports 1)
    BIND_HOST=127.0.0.1 GATEWAY_PORT="$port" SERVICES=s3,glue LOG_LEVEL=ERROR "$venv/bin/ministack" >/dev/null 2>&1 &
    servers+=($!)
    answers "$port" && "$FLASH_PYTHON" - "http://127.0.0.1:$port/lakes" <<'PYTHON' && export FLASH_S3="http://127.0.0.1:$port"
import sys, urllib.request
urllib.request.urlopen(urllib.request.Request(sys.argv[1], method="PUT"), timeout=10).close()
PYTHON
}

# Linters for what is deployed; FLASH_LINTERS says where.
find_linters() {
    local folder
    folder="$target/linters-$(cksum < tests/clients/linters.txt | tr -d ' ')"
    [ -e "$folder/ready" ] || { python3 -m venv --clear "$folder" \
        && "$folder/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/linters.txt \
        && touch "$folder/ready"; } || return 1
    export FLASH_LINTERS="$folder/bin"
}

# Chromium and what drives it; CHROMIUM and `browser` say where.
find_browser() {
    (ensure node:nodejs npm:npm chromium:chromium) && command -v node >/dev/null && command -v npm >/dev/null || return 1
    CHROMIUM="$(command -v chromium)" || return 1
    browser="$target/browser-$(cksum < tests/browser/package-lock.json | tr -d ' ')"
    mkdir -p "$browser" && cp tests/browser/*.mjs tests/browser/*.json tests/browser/.npmrc "$browser" || return 1
    [ -e "$browser/ready" ] || { (cd "$browser" && npm ci --silent --no-audit --no-fund) && touch "$browser/ready"; } || return 1
    export CHROMIUM
}

step "tools"
ensure cc:build-essential make:build-essential cmake:cmake python3:python3 strace:strace openssl:openssl
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
    for driver in 18.2.0 18.3.0; do
        jar="$target/flight-sql-jdbc-driver-$driver.jar"
        [ -e "$jar" ] || mvn --quiet --batch-mode dependency:copy \
            -Dartifact="org.apache.arrow:flight-sql-jdbc-driver:$driver" -DoutputDirectory="$target" \
            || { echo "skipped: JDBC driver $driver"; continue; }
        export FLASH_JDBC_DRIVER="${FLASH_JDBC_DRIVER:+$FLASH_JDBC_DRIVER:}$jar"
    done
fi
[ -n "${FLASH_JDBC_DRIVER:-}" ] || echo "skipped: JDBC, which needs java and mvn"

# Spark in an environment of its own, and Delta's package for it; FLASH_SPARK and FLASH_DELTA_JARS say where.
find_spark() {
    local folder jars artifact jar
    command -v java >/dev/null && command -v mvn >/dev/null || return 1
    folder="$target/spark-$(cksum < tests/clients/spark.txt | tr -d ' ')"
    [ -e "$folder/ready" ] || { python3 -m venv --clear "$folder" \
        && "$folder/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/spark.txt \
        && touch "$folder/ready"; } || return 1
    for artifact in io.delta:delta-spark_4.1_2.13:4.1.0 io.delta:delta-storage:4.1.0; do
        jar="$target/$(cut -d: -f2- <<< "$artifact" | tr : -).jar"
        [ -e "$jar" ] || mvn --quiet --batch-mode dependency:copy -Dartifact="$artifact" -DoutputDirectory="$target" || return 1
        jars="${jars:+$jars,}$jar"
    done
    export FLASH_SPARK="$folder/bin/python" FLASH_DELTA_JARS="$jars"
}

find_spark || echo "skipped: Spark as a reader, which needs java, mvn and pyspark"
find_linters || echo "skipped: the linters for docker/, which cannot be installed"

step "format"
cargo fmt --all --check

step "build"
cargo build --release --locked --bins

step "servers for the tests"
start_kinesis_local || echo "skipped: what is checked on kinesis-local, which needs node and npm"
start_s3 || echo "skipped: what is checked on S3 and Glue"

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

step "the dashboard, in a browser"
if find_browser; then
    FLASH="$target/release/flash" timeout 600 node "$browser/dashboard.mjs"
else
    echo "skipped: the dashboard in a browser, which needs node, npm and chromium"
fi

step "done"
echo "all passed in $SECONDS s"
