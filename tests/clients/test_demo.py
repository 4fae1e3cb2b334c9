"""The demo, judged by readers that we did not write.

    FLASH=target/release/flash python test_demo.py [--events 20000] [--seeds 1,2,3]

1. For each seed: `flash demo --once --json` shows what DuckDB computes from `flash simulate` of the same seed.
2. While the demo runs live, an ADBC client reads every gold view over Flight SQL.
3. deltalake, polars and duckdb read every table of the lake: the same rows and sums, and the rows that we count.
4. A second start on the same lake doubles nothing.

Needs the packages of requirements.txt.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import deltalake
import duckdb
import polars
import pyarrow as pa

from delta_readers import by_duckdb, facts

FLASH = os.environ.get("FLASH", "target/release/flash")
FAULTS = "--duplicates 1 --broken 1 --bad-fields 1 --late 1".split()

# The rules of sql/silver/events.sql, in DuckDB's words.
SILVER = """
CREATE TABLE lines AS
SELECT CASE WHEN json_valid(line) THEN line END AS line
FROM read_csv(?, columns = {'line': 'VARCHAR'}, delim = '\x01', quote = '', escape = '', header = false,
              strict_mode = false);

CREATE TABLE typed AS
SELECT
  line ->> '$.event_id' AS event_id, line ->> '$.event_type' AS event_type,
  TRY_CAST(line ->> '$.event_time' AS TIMESTAMPTZ) AS event_time, line ->> '$.seller_id' AS seller_id,
  line ->> '$.product_name' AS product_name, line ->> '$.product_id' AS product_id,
  line ->> '$.category' AS category, line ->> '$.city' AS city,
  TRY_CAST(line ->> '$.price' AS DECIMAL(12, 2)) AS price, TRY_CAST(line ->> '$.cost' AS DECIMAL(12, 2)) AS cost,
  TRY_CAST(line ->> '$.quantity' AS INTEGER) AS quantity
FROM lines;

CREATE TABLE judged AS
SELECT *, CASE
    WHEN event_id IS NULL OR seller_id IS NULL OR event_time IS NULL OR event_type IS NULL
      OR event_type NOT IN ('view', 'add_to_cart', 'remove_from_cart', 'purchase', 'restock', 'review')
      OR event_time < TIMESTAMPTZ '2020-01-01 00:00:00Z' OR event_time >= TIMESTAMPTZ '2100-01-01 00:00:00Z'
      THEN 'quarantined'
    WHEN price IS NULL OR cost IS NULL OR quantity IS NULL OR price < 0 OR cost < 0
      OR quantity NOT BETWEEN 1 AND 10000 THEN 'dropped'
    ELSE 'kept' END AS verdict
FROM typed;

CREATE TABLE silver AS
SELECT *, CASE WHEN event_type = 'purchase' THEN price * quantity ELSE 0 END AS revenue,
  CASE WHEN event_type = 'purchase' THEN (price - cost) * quantity ELSE 0 END AS profit
FROM (SELECT DISTINCT ON (event_id) * FROM judged WHERE verdict = 'kept');
"""

TOTALS = """
SELECT sum(revenue), sum(profit), count(*) FILTER (event_type = 'view'), count(*) FILTER (event_type = 'add_to_cart'),
  count(*) FILTER (event_type = 'purchase'), count(*) FROM silver
"""


def flash(*args):
    done = subprocess.run([FLASH, *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, f"flash {args}: {done.returncode}\n{done.stderr}"
    return done.stdout


def computed(path):
    """The object of `flash demo --json`, from the JSON lines alone."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    create, *rest = [text for text in SILVER.split(";") if text.strip()]
    connection.execute(create, [str(path)])
    for text in rest:
        connection.execute(text)
    verdicts = dict(connection.sql("SELECT verdict, count(*) FROM judged GROUP BY 1").fetchall())
    revenue, profit, views, carts, purchases, rows = connection.execute(TOTALS).fetchall()[0]

    def top(column, measure):
        name = "any_value(product_name)" if column == "product_id" else column
        sql = f"SELECT {name} FROM silver WHERE event_type = 'purchase' GROUP BY {column} ORDER BY sum({measure}) DESC LIMIT 5"
        return [name for (name,) in connection.sql(sql).fetchall()]

    return {
        "revenue": round(float(revenue), 2),
        "profit": round(float(profit), 2),
        "margin_pct": round(100 * float(profit) / float(revenue), 2),
        "views_to_cart_pct": round(100 * carts / views, 2),
        "views_to_purchase_pct": round(100 * purchases / views, 2),
        "top_products": top("product_id", "profit"),
        "top_categories": top("category", "profit"),
        "top_cities": top("city", "revenue"),
        "records_put": sum(verdicts.values()),
        "bronze_rows": sum(verdicts.values()),
        "silver_rows": rows,
        "quarantined": verdicts.get("quarantined", 0),
        "dropped": verdicts.get("dropped", 0),
        "duplicates": verdicts["kept"] - rows,
    }


def figures_equal_duckdb(folder, events, seed):
    path = folder / f"events-{seed}.jsonl"
    flash("simulate", "--events", events, "--seed", seed, *FAULTS, "--out", path)
    lake = folder / f"lake-{seed}"
    shown = json.loads(flash("demo", "--once", "--json", "--events", events, "--seed", seed, *FAULTS, "--lake", lake))
    wanted = computed(path)
    assert shown == wanted, f"seed {seed}\nshown    {shown}\ncomputed {wanted}"
    return lake, shown


def clients_read_while_it_runs(lake):
    """Start the live demo, read every gold view over Flight SQL, stop it."""
    command = [FLASH, "demo", "--lake", lake, "--flight", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as demo:
        try:
            url = next(found[0] for line in demo.stderr if (found := re.search(r"grpc://[\d.]+:\d+", line)))
            with flight_sql.connect(url) as connection, connection.cursor() as cursor:
                cursor.execute(
                    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'gold' ORDER BY 1"
                )
                views = [name for (name,) in cursor.fetchall()]
                assert len(views) >= 8, views
                for view in views:
                    cursor.execute(f"SELECT * FROM gold.{view}")
                    assert cursor.fetch_arrow_table().num_rows > 0, view
        finally:
            demo.send_signal(signal.SIGTERM)
            demo.stderr.read()
        assert demo.wait(60) == 0, demo.returncode


def readers_agree(lake):
    for view in json.loads(flash("status", "--lake", lake, "--json")):
        location = view["location"].removeprefix("file://")
        table = deltalake.DeltaTable(location)
        found = {
            "deltalake": facts(pa.table(table.to_pyarrow_table())),
            "polars": facts(polars.scan_delta(location).collect().to_arrow()),
            "duckdb": facts(by_duckdb(table)),
        }
        for reader, what in found.items():
            assert what["rows"] == view["rows"], f"{reader} finds {what['rows']} rows in {view}"
            assert what["sums"] == found["deltalake"]["sums"], f"{reader} in {view['name']}"
    sql = "SELECT sum(revenue) AS revenue, sum(profit) AS profit FROM silver.events"
    ours = json.loads(flash("sql", "--lake", lake, "--format", "json", "-c", sql), parse_float=str)[0]
    silver = facts(deltalake.DeltaTable(str(lake / "silver" / "events")).to_pyarrow_table())["sums"]
    for column, value in ours.items():
        assert float(silver[column]) == float(value), (column, silver[column], value)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--seeds", default="1,2,3")
    args = parser.parse_args()
    passed = 0

    def done(what):
        nonlocal passed
        passed += 1
        print(f"ok  {what}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds.split(","):
            lake, shown = figures_equal_duckdb(Path(folder), args.events, seed)
            done(f"seed {seed}: figures and books equal DuckDB's")
        again = json.loads(flash("demo", "--once", "--json", "--lake", lake))
        assert again == shown, f"a second start changed\n{shown}\nto\n{again}"
        done("a second start doubles nothing")
        clients_read_while_it_runs(lake)
        done("ADBC reads every gold view while the demo runs")
        readers_agree(lake)
        done("deltalake, polars and duckdb read the same rows and sums")
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
