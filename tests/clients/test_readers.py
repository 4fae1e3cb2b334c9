"""Readers that we did not write, and our own: all the time while the lake is written to and kept in order, and of every type.

    FLASH=target/release/flash python test_readers.py [--seconds 25]

1. deltalake, polars and duckdb read the tables in a loop, `flash sql` opens the lake anew and a connection asks the server,
   while rows come, are changed and go, views follow, files are merged, vacuumed, the log is cut. Files that a commit removed
   stay for some seconds only (FLASH_RETENTION_SECONDS). No read fails, none sees half a commit, none goes back.
2. Each type with NULLs, decimals, an instant and a wall clock in India: the same rows, sums and NULLs for deltalake, polars,
   duckdb, Spark with Delta's own package, and `flash sql`.

Needs the packages of requirements.txt; FLASH_SPARK says which Python has those of spark.txt, FLASH_DELTA_JARS where Delta is.
"""

import argparse
import decimal
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

import deltalake
import polars
import pyarrow as pa

from delta_readers import by_duckdb, facts
from flight_sql import Client
from served import FLASH, serve

RETENTION_S = 6
ROWS = 10

PROJECT = {
    "s/t": "CREATE TABLE s.t (k INT, n BIGINT)",
    "s/by_k": "CREATE MATERIALIZED VIEW s.by_k AS SELECT k, count(*) AS c, sum(n) AS total FROM s.t GROUP BY k",
    "s/all_rows": "CREATE MATERIALIZED VIEW s.all_rows AS SELECT k, n FROM s.t WHERE n IS NOT NULL",
}


def sql(lake, text):
    command = [FLASH, "sql", "--lake", lake, "--format", "json", "-c", text]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{text[:500]}\n{done.stderr[-2000:]}"
    return json.loads(done.stdout, parse_float=decimal.Decimal) if done.stdout.strip().startswith("[") else None


class Oracle:
    """Every state that is or may be committed: (rows, sum) -> its number. Sums never come twice."""

    def __init__(self):
        self.states, self.rows, self.total, self.inserts = {(0, 0): 0}, 0, 0, 0

    def next(self, rows, total):
        """Noted before the statement is sent: a reader may see it before the writer hears that it is done."""
        self.rows, self.total = self.rows + rows, self.total + total
        assert self.states.setdefault((self.rows, self.total), len(self.states)) == len(self.states) - 1


def write(client, oracle, seconds):
    """INSERT, and now and then UPDATE and DELETE: each is one state."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        oracle.inserts += 1
        values = [oracle.inserts * ROWS + n for n in range(ROWS)]
        oracle.next(ROWS, sum(values))
        client.update("INSERT INTO s.t VALUES " + ", ".join(f"({n % 7}, {n})" for n in values))
        if oracle.inserts % 40 == 0:
            oracle.next(0, -2 * sum(values))
            client.update(f"UPDATE s.t SET n = -n WHERE n BETWEEN {values[0]} AND {values[-1]}")
            half = values[: ROWS // 2]
            oracle.next(-len(half), sum(half))
            client.update(f"DELETE FROM s.t WHERE n BETWEEN {-half[-1]} AND {-half[0]}")


def total(table, count, column):
    """(rows, sum) of an Arrow table."""
    sums = facts(table)["sums"]
    return (int(sums[count]) if count else table.num_rows, int(sums[column]))


TABLES = {"t": (None, "n"), "all_rows": (None, "n"), "by_k": ("c", "total")}


def by_deltalake(lake, name):
    return pa.table(deltalake.DeltaTable(f"{lake}/s/{name}").to_pyarrow_table())


def by_polars(lake, name):
    return polars.scan_delta(f"{lake}/s/{name}").collect().to_arrow()


def by_duck(lake, name):
    read = by_duckdb(deltalake.DeltaTable(f"{lake}/s/{name}"))
    return read if read is not None else pa.table({column: pa.array([], pa.int64()) for column in ("k", "n", "c", "total")})


def outside(read):
    """One read of each table by itself: other readers have no epochs."""
    return lambda lake: {name: total(read(lake, name), *columns) for name, columns in TABLES.items()}


OURS = """SELECT (SELECT count(*) FROM s.t) AS a, (SELECT coalesce(sum(n), 0) FROM s.t) AS b,
  (SELECT count(*) FROM s.all_rows) AS c, (SELECT coalesce(sum(n), 0) FROM s.all_rows) AS d,
  (SELECT coalesce(sum(c), 0) FROM s.by_k) AS e, (SELECT coalesce(sum(total), 0) FROM s.by_k) AS f"""


def of_one_epoch(row):
    """Our own readers see all tables of one epoch: the same state."""
    a, b, c, d, e, f = (int(value) for value in row.values())
    assert (a, b) == (c, d) == (e, f), f"three tables, more than one state: {row}"
    return {"t": (a, b)}


class Reader(threading.Thread):
    def __init__(self, name, read, oracle, lake, over):
        super().__init__(daemon=True)
        self.what, self.read, self.oracle, self.lake, self.over = name, read, oracle, lake, over
        self.reads, self.last, self.failed, self.seen = 0, {}, None, set()

    def run(self):
        try:
            while not self.over.is_set():
                for table, state in self.read(self.lake).items():
                    number = self.oracle.states.get(state)
                    assert number is not None, f"{table}: {state} was never committed"
                    assert number >= self.last.get(table, 0), f"{table}: {state} was before {self.last[table]}"
                    self.last[table] = number
                    self.seen.add(number)
                self.reads += 1
        except BaseException as error:
            self.failed = error
            self.over.set()


def all_the_time(folder, seconds):
    with serve(folder, PROJECT, FLASH_RETENTION_SECONDS=str(RETENTION_S)) as server:
        lake, oracle, over = f"{folder}/lake", Oracle(), threading.Event()
        asked = Client(server.url)
        readers = {
            "deltalake": outside(by_deltalake),
            "polars": outside(by_polars),
            "duckdb": outside(by_duck),
            "flash sql": lambda lake: of_one_epoch(sql(lake, OURS)[0]),
            "a connection": lambda _: of_one_epoch(asked.query(OURS).to_pylist()[0]),
        }
        readers = [Reader(name, read, oracle, lake, over) for name, read in readers.items()]
        [reader.start() for reader in readers]
        begin = time.monotonic()
        while time.monotonic() - begin < seconds and not over.is_set():
            write(Client(server.url), oracle, 1)
        over.set()
        [reader.join(60) for reader in readers]
        for reader in readers:
            if reader.failed:
                raise AssertionError(f"{reader.what}, after {reader.reads} reads") from reader.failed
        for reader in readers:
            assert reader.reads > 2 and len(reader.seen) > 2, f"{reader.what} has read {reader.reads} times only"
            print(f"ok  {reader.what}: {reader.reads} reads, {len(reader.seen)} states, of {len(oracle.states)}", flush=True)
        done = asked.rows("SELECT operation, sum(files_removed), count(error) FROM system.maintenance GROUP BY operation")
        done = {operation: (files, errors) for operation, files, errors in done}
        # Otherwise nothing was shown.
        assert {"checkpoint", "clean_log", "compact", "vacuum"} <= set(done), done
        assert all(errors == 0 for _, errors in done.values()), done
        print(f"ok  meanwhile: {', '.join(f'{name} of {files} files' for name, (files, _) in sorted(done.items()))}")
        return len(readers) + 1


TYPES = """CREATE TABLE s.types (id BIGINT, flag BOOLEAN, small SMALLINT, whole INT, amount DECIMAL(12, 2), large DECIMAL(38, 10),
  ratio DOUBLE, name VARCHAR, day DATE, at TIMESTAMPTZ, at_ist TIMESTAMP, data BYTEA, kind VARCHAR) PARTITIONED BY (kind)"""
# NULL in every column but the key, in another row for each.
FILLED = """INSERT INTO s.types SELECT id, CASE WHEN id % 2 = 1 THEN id % 3 = 0 END, CASE WHEN id % 3 > 0 THEN id % 100 END,
  CASE WHEN id % 5 > 0 THEN id * 7 END, CASE WHEN id % 7 > 0 THEN CAST(id AS DECIMAL(12, 2)) * -1.37 END,
  CASE WHEN id % 11 > 0 THEN CAST('1234567890123456789.0123456789' AS DECIMAL(38, 10)) + id END,
  CASE WHEN id % 13 > 0 THEN id / 8.0 END, CASE WHEN id % 4 > 0 THEN 'नमस्ते ' || id END,
  CASE WHEN id % 6 > 0 THEN arrow_cast(CAST(20454 + id AS INT), 'Date32') END, CASE WHEN id % 8 > 0 THEN at END,
  CASE WHEN id % 9 > 0 THEN to_ist(at) END, CASE WHEN id % 10 > 0 THEN CAST('b' || id AS BYTEA) END,
  CASE WHEN id % 12 > 0 THEN 'k' || (id % 3) END
FROM (SELECT value AS id, arrow_cast(1767293112345678 + value * 3600000000, 'Timestamp(Microsecond, Some("UTC"))') AS at
  FROM generate_series({0}, {0} + 9)) AS x"""
SPARK_TYPES = {
    "id": "bigint", "flag": "boolean", "small": "smallint", "whole": "int", "amount": "decimal(12,2)",
    "large": "decimal(38,10)", "ratio": "double", "name": "string", "day": "date", "at": "timestamp",
    "at_ist": "timestamp", "data": "binary", "kind": "string",
}  # fmt: skip
# The row 1 as everybody prints it: quarter past midnight in India is quarter to seven the evening before.
FIRST = {"id": "1", "amount": "-1.37", "large": "1234567890123456790.0123456789", "at": "2026-01-01 19:45:12.345678",
         "at_ist": "2026-01-02 01:15:12.345678", "day": "2026-01-02", "name": "नमस्ते 1"}  # fmt: skip
VIEW = """CREATE MATERIALIZED VIEW s.by_kind AS SELECT kind, count(*) AS rows, sum(amount) AS amount, sum(large) AS large,
  max(at) AS at, max(at_ist) AS at_ist, min(day) AS day FROM s.types GROUP BY kind"""


def by_us(lake, name):
    """Rows, sums and NULLs as `flash sql` computes them, of the columns that have sums there."""
    sums = {"id": "id", "small": "small", "whole": "whole", "amount": "amount", "large": "large", "rows": "rows"}
    sums |= {"name": "character_length(name)", "data": "character_length(encode(data, 'hex')) / 2"}
    sums |= {column: f"CAST({column} AS BIGINT)" for column in ("at", "at_ist")}
    there = sql(lake, f"SELECT column_name AS c FROM information_schema.columns WHERE table_schema = 's' AND table_name = '{name}'")
    there = [row["c"] for row in there]
    asked = [f"CAST(sum(CAST({sums[c]} AS DECIMAL(38, 10))) AS VARCHAR) AS \"sum {c}\"" for c in there if c in sums]
    asked += [f'count(*) - count("{c}") AS "nulls {c}"' for c in there]
    row = sql(lake, f"SELECT count(*) AS r, {', '.join(asked)} FROM s.{name}")[0]
    with decimal.localcontext(prec=80):
        found = {c: format(decimal.Decimal(row[f"sum {c}"]).normalize(), "f") for c in there if f"sum {c}" in row}
    return {"rows": row["r"], "sums": found, "nulls": {c: row[f"nulls {c}"] for c in there}}


def spark(tables):
    """What Spark finds, or None where it is not installed."""
    python = os.environ.get("FLASH_SPARK")
    if not python or not os.environ.get("FLASH_DELTA_JARS"):
        return None
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "spark_reader.py")
    done = subprocess.run([python, script, *tables], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def of_every_type(folder):
    lake = f"{folder}/types"
    sql(lake, f"{TYPES}; {VIEW}")
    # Enough commits for a checkpoint, merged files, and entries after both.
    sql(lake, ";".join(FILLED.format(n * 10 + 1) for n in range(70)))
    sql(lake, "UPDATE s.types SET amount = NULL WHERE id % 50 = 3; DELETE FROM s.types WHERE id % 50 = 4")
    places = {name: f"{lake}/s/{name}" for name in ("types", "by_kind")}
    log = os.listdir(f"{places['types']}/_delta_log")
    assert any("checkpoint.parquet" in name for name in log), "no reader had to read a checkpoint"
    by_spark = spark(places.values())
    passed = 0
    for name, place in places.items():
        table = deltalake.DeltaTable(place)
        assert (table.protocol().min_reader_version, table.protocol().min_writer_version) == (1, 2)
        found = {
            "deltalake": facts(pa.table(table.to_pyarrow_table())),
            "polars": facts(polars.scan_delta(place).collect().to_arrow()),
            "duckdb": facts(by_duckdb(table)),
            **({"spark": by_spark[place]} if by_spark else {}),
        }
        ours = by_us(lake, name)
        assert ours["rows"] == (700 - 14 if name == "types" else 4), ours["rows"]
        for reader, what in found.items():
            for fact in ("rows", "nulls"):
                assert what[fact] == ours[fact], f"{reader}, {fact} of {name}: {what[fact]} and ours {ours[fact]}"
            for column, value in ours["sums"].items():
                assert what["sums"][column] == value, f"{reader}, {column}: {what['sums'][column]} and ours {value}"
            assert what["sums"] == found["deltalake"]["sums"], f"{reader}: {what['sums']}"
            passed += 1
            print(f"ok  {reader} reads {name}: {what['rows']} rows, {len(what['sums'])} sums, {sum(what['nulls'].values())} NULLs")
    if by_spark is None:
        print("skipped: Spark as a reader, which needs FLASH_SPARK and FLASH_DELTA_JARS")
        return passed
    types = by_spark[places["types"]]
    assert types["types"] == SPARK_TYPES, types["types"]
    first = dict(zip(types["types"], types["texts"][0], strict=True))
    assert {column: first[column] for column in FIRST} == FIRST, first
    ours = sql(lake, f"SELECT {', '.join(f'CAST({c} AS VARCHAR) AS {c}' for c in FIRST if not c.startswith('at'))} FROM s.types WHERE id = 1")[0]
    assert ours == {column: value for column, value in FIRST.items() if not column.startswith("at")}, ours
    print("ok  Spark has the types, the instant, and the wall clock of India")
    return passed + 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=25)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        passed = of_every_type(folder) + all_the_time(folder, args.seconds)
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
