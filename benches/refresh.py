#!/usr/bin/env python3
"""What a refresh costs: a small change over a large table, each way of keeping a view against recomputing it.

    benches/refresh.py                       10,000,000 rows in the base, changes of 5,000 rows
    benches/refresh.py --rows 1000000        a quick look

    base ─▶ a view, one way after the other ─▶ insert, update, delete 5,000 rows  ─▶ took_ms of each refresh
            (some with 'auto')                 insert 5,000 rows among all keys
                                            └▶ REFRESH ... FULL                   ─▶ took_ms of a recompute
    15 views, nothing new       ─▶ the time of one pass
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time

from peers import setup

VIEWS = {
    "filtered": "SELECT id, k, amount FROM s.base WHERE amount > 50",
    "joined": "SELECT b.id, b.amount, d.label FROM s.base AS b INNER JOIN s.names AS d ON b.k = d.k",
    "summed": "SELECT k, count(*) AS n, sum(amount) AS total, max(amount) AS most FROM s.base GROUP BY k",
    "by_day": "SELECT day, sum(amount) AS total FROM s.base GROUP BY day",
    "outer_joined": "SELECT d.k, d.label, b.id, b.amount FROM s.names AS d LEFT JOIN s.base AS b ON d.k = b.k AND b.amount > 99",
    "latest": "SELECT k, id, amount FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY id DESC) AS r "
    "FROM s.base) AS x WHERE r <= 3",
    "counted": "SELECT k, count(DISTINCT amount) AS amounts FROM s.base GROUP BY k",
    "top": "SELECT k, total FROM g.summed ORDER BY total DESC, k LIMIT 10",
}
# The same with refresh_mode = 'auto'.
AUTO = ["outer_joined", "latest", "counted", "summed"]
CHANGES = {
    "insert": "INSERT INTO s.base SELECT {n} + value, value % {keys}, DATE '2026-11-22', (value % 100) + 0.25 "
    "FROM generate_series(1, {changed})",
    "update": "UPDATE s.base SET amount = amount + 1 WHERE id > {n} AND id <= {n} + {changed}",
    "delete": "DELETE FROM s.base WHERE id > {n} AND id <= {n} + {changed}",
    "insert among all": "INSERT INTO s.base SELECT {n} + value, value % {all_keys}, DATE '2026-11-22', (value % 100) + 0.25 "
    "FROM generate_series(1, {changed})",
}


class Lake:
    def __init__(self, flash, folder):
        self.flash, self.folder = flash, folder

    def sql(self, text):
        command = [self.flash, "sql", "--lake", self.folder, "--format", "json", "-c", text]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{text}\n{done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip().startswith("[") else None

    def refreshes(self, after):
        return self.sql(f"SELECT view_name, epoch, mode, took_ms, error FROM system.refreshes WHERE epoch > {after}")

    def epoch(self):
        return self.sql("SELECT coalesce(max(epoch), 0) AS epoch FROM system.refreshes")[0]["epoch"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--changed", type=int, default=5_000)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--flash", default=setup.flash_binary())
    chosen = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="flash-refresh-")
    try:
        measure(chosen, Lake(chosen.flash, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(chosen, lake):
    n = chosen.rows
    # Events of one key come together, as those of one day do: files can tell which keys they hold.
    lake.sql(
        f"CREATE TABLE s.base AS SELECT value AS id, CAST(value * {chosen.keys} / {n + 1} AS BIGINT) AS k, "
        f"CAST('2026-10-01' AS DATE) + CAST(value * 50 / {n + 1} AS INT) AS day, "
        f"CAST((value % 100) + 0.25 AS DECIMAL(12, 2)) AS amount FROM generate_series(1, {n})"
    )
    lake.sql(f"CREATE TABLE s.names AS SELECT value AS k, 'key ' || value AS label FROM generate_series(0, {chosen.keys - 1})")
    views = VIEWS | {f"auto_{name}": VIEWS[name] for name in AUTO}
    took = {}
    for name, query in views.items():
        auto = "WITH (refresh_mode = 'auto') " if name not in VIEWS else ""
        # "top" is over "summed", whose own refresh is not counted.
        lake.sql(f"CREATE MATERIALIZED VIEW g.{name} {auto}AS {query}")
        took[name] = one(chosen, lake, name)
        if name != "summed":
            lake.sql(f"DROP MATERIALIZED VIEW g.{name}")
    table(took)
    idle(lake)


def one(chosen, lake, name):
    """(mode, ms) by kind of change, and of a recompute, with no other view but those that it reads."""
    took = {}
    changed = {"n": chosen.rows, "changed": chosen.changed, "keys": 5, "all_keys": chosen.keys}
    for kind, text in [*CHANGES.items(), ("", CHANGES["delete"])]:
        before = lake.epoch()
        lake.sql(text.format(**changed))
        for line in lake.refreshes(before):
            if line["error"]:
                raise SystemExit(line)
            if line["view_name"] == f"g.{name}" and line["mode"] != "nothing":
                took[kind] = (line["mode"], line["took_ms"])
    before = lake.epoch()
    lake.sql(f"REFRESH MATERIALIZED VIEW g.{name} FULL")
    full = [line["took_ms"] for line in lake.refreshes(before) if line["view_name"] == f"g.{name}"]
    audit = lake.sql(f"AUDIT MATERIALIZED VIEW g.{name}")[0]
    if audit["missing"] or audit["unexpected"]:
        raise SystemExit(audit)
    return took | {"full": ("full", full[0])}


def table(took):
    print(f"| {'view':<18} |" + "".join(f" {kind:>20} |" for kind in [*CHANGES, "full"]))
    print(f"|{'-' * 20}|" + f"{'-' * 21}:|" * (len(CHANGES) + 1))
    for name, kinds in took.items():
        cells = [kinds.get(kind, ("-", 0)) for kind in [*CHANGES, "full"]]
        print(f"| {name:<18} |" + "".join(f" {mode:>13} {ms:>6} |" for mode, ms in cells))


def idle(lake):
    for extra in range(14):
        lake.sql(f"CREATE MATERIALIZED VIEW g.idle{extra} AS SELECT k FROM s.names WHERE k > {extra}")
    passes = 200
    seconds = []
    for times in (1, passes + 1):
        started = time.monotonic()
        lake.sql("; ".join(["REFRESH MATERIALIZED VIEW g.summed"] * times))
        seconds.append(time.monotonic() - started)
    print(f"\n15 views, nothing new: {(seconds[1] - seconds[0]) / passes * 1000:.2f} ms a pass")


if __name__ == "__main__":
    main()
