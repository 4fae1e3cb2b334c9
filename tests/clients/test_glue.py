"""The lake's tables in Glue, and read back by where Glue says they are, with the columns that it names.

    FLASH=target/release/flash FLASH_S3=http://127.0.0.1:4566 python test_glue.py

    flash run --glue ──▶ S3 and Glue (ministack) ◀── botocore: location, columns ──▶ deltalake, polars, duckdb
          │ a view changes, one is dropped; somebody meddles; Glue is away          = what flash sql says
          └─ flash status --glue, flash catalog sync, flash catalog ddl

FLASH_S3 is the URL of an endpoint that speaks S3, with a bucket "lakes", and Glue.
Needs the packages of requirements.txt (botocore comes with ministack).
"""

import contextlib
import decimal
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid

import botocore.config
import botocore.session
import deltalake
import polars
import pyarrow as pa
from pyarrow import fs

import proxy
from delta_readers import by_duckdb, facts

FLASH = os.environ.get("FLASH", "target/release/flash")
ENDPOINT = os.environ.get("FLASH_S3")
EVENTS = 12_000
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
# The longest that anything here is waited for, in seconds.
WAIT_MAX = 60
OWNER = "flashcommerce.lake"


class Lake:
    """A lake in the bucket, its databases, and a project that it is made by."""

    def __init__(self, folder):
        name = f"glue{uuid.uuid4().hex[:12]}"
        self.folder, self.url, self.prefix = folder, f"s3://lakes/{name}/shop", f"{name}_"
        self.project, self.events = f"{folder}/sql", f"{folder}/events.jsonl"
        shutil.copytree("sql", self.project)
        # One endpoint for both, as AWS's own tools take it.
        self.env = {**os.environ, **KEYS, "AWS_ENDPOINT_URL": ENDPOINT, "FLASH_GLUE": self.prefix}
        session = botocore.session.get_session()
        session.set_credentials("test", "test")
        quick = botocore.config.Config(retries={"max_attempts": 1})
        self.glue = session.create_client("glue", region_name="us-east-1", endpoint_url=ENDPOINT, config=quick)
        address = ENDPOINT.removeprefix("http://")
        self.files = fs.S3FileSystem(access_key="test", secret_key="test", endpoint_override=address, scheme="http",
                                     region="us-east-1")  # fmt: skip

    def flash(self, *arguments, code=0, env=None):
        command = [FLASH, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env={**self.env, **(env or {})}, timeout=600)
        assert done.returncode == code, f"flash {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def run_command(self):
        return ["run", "--project", self.project, "--lake", self.url, "--source", f"raw.events=jsonl:{self.events}"]

    def catch_up(self):
        return self.flash(*self.run_command(), "--until-caught-up").stderr

    def ask(self, query):
        return json.loads(self.flash("sql", "--lake", self.url, "--format", "json", "-c", query).stdout, parse_float=str)

    def status(self):
        return {view["name"]: view for view in json.loads(self.flash("status", "--lake", self.url, "--json").stdout)}

    def sync(self, *more, code=0):
        return json.loads(self.flash("catalog", "sync", "--lake", self.url, "--json", *more, code=code).stdout)

    def registered(self):
        """Name in the lake -> what Glue says of the table."""
        found = {}
        for database in self.glue.get_databases()["DatabaseList"]:
            if database["Name"].startswith(self.prefix):
                schema = database["Name"].removeprefix(self.prefix)
                tables = self.glue.get_tables(DatabaseName=database["Name"])["TableList"]
                found |= {f"{schema}.{table['Name']}": table for table in tables}
        return found

    def write(self, path, old, new):
        with open(f"{self.project}/{path}") as file:
            text = file.read()
        assert old in text, f"{path} has no {old!r}"
        with open(f"{self.project}/{path}", "w") as file:
            file.write(text.replace(old, new, 1))


def hive(kind):
    """An Arrow type in the words that Athena shows."""
    words = {pa.bool_(): "boolean", pa.int8(): "tinyint", pa.int16(): "smallint", pa.int32(): "int", pa.int64(): "bigint",
             pa.float32(): "float", pa.float64(): "double", pa.date32(): "date", pa.timestamp("us", "UTC"): "timestamp"}  # fmt: skip
    if kind in words:
        return words[kind]
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return "binary"
    raise AssertionError(f"what does Athena call {kind}?")


def read_back(lake, name, table):
    """The table where Glue says that it is, by three readers; rows."""
    storage = table["StorageDescriptor"]
    location, parameters = storage["Location"], table["Parameters"]
    assert location.endswith("/") and storage["SerdeInfo"]["Parameters"]["path"] == location, table
    assert table["TableType"] == "EXTERNAL_TABLE" and table["PartitionKeys"] == [], table
    assert parameters["EXTERNAL"] == "TRUE" and parameters["spark.sql.sources.provider"] == "delta", table
    assert parameters[OWNER] == lake.url and "table_type" not in parameters, table
    options = {**KEYS, "AWS_ENDPOINT_URL": ENDPOINT, "AWS_ALLOW_HTTP": "true"}
    delta = deltalake.DeltaTable(location, storage_options=options)
    rows = pa.table(delta.to_pyarrow_table())
    columns = {column["Name"]: column["Type"] for column in storage["Columns"]}
    assert list(columns.items()) == [(field.name, hive(field.type)) for field in rows.schema], f"{name}: {columns}"
    comments = {column["Name"]: column.get("Comment", "") for column in storage["Columns"]}
    keys = set(delta.metadata().partition_columns)
    assert keys == {column for column, comment in comments.items() if "partitions" in comment}, f"{name}: {comments}"

    wanted = facts(rows)
    found = {"polars": facts(polars.scan_delta(location, storage_options=options).collect().to_arrow())}
    copy = f"{lake.folder}/copy/{name}"
    fs.copy_files(location.removeprefix("s3://").rstrip("/"), copy, source_filesystem=lake.files)
    if (read := by_duckdb(deltalake.DeltaTable(copy))) is not None:
        found["duckdb"] = facts(read)
    shutil.rmtree(copy)
    for reader, theirs in found.items():
        assert theirs == wanted, f"{name} by {reader}: {theirs}, not {wanted}"

    exact = [column for column, kind in columns.items() if kind.startswith(("decimal", "int", "bigint", "smallint", "tinyint"))]
    sums = ", ".join(["count(*) AS __rows", *(f'sum("{column}") AS "{column}"' for column in exact)])
    (ours,) = lake.ask(f"SELECT {sums} FROM {name}")
    assert ours.pop("__rows") == wanted["rows"], f"{name}: flash has {ours} rows, not {wanted['rows']}"
    for column, value in ours.items():
        assert decimal.Decimal(value or 0) == decimal.Decimal(wanted["sums"][column]), f"{name}.{column}: {value}"
    return wanted["rows"]


def read_all(lake):
    """Every table that is in Glue is what the lake has, and the other way round."""
    tables = lake.registered()
    views = lake.status()
    assert all(view["glue"] == "in step" for view in views.values()), views
    assert set(views) | {"silver.events_quarantine", "ref.cities"} == set(tables), (set(views), set(tables))
    for name, view in views.items():
        assert tables[name]["StorageDescriptor"]["Location"] == view["location"] + "/", (name, view, tables[name])
    rows = {name: read_back(lake, name, table) for name, table in tables.items()}
    assert all(rows.values()), f"an empty table compares nothing: {rows}"
    return tables, sum(rows.values())


def followed(lake):
    """Created, changed and swapped, dropped."""
    lake.flash("simulate", "--events", EVENTS, "--seed", 5, "--broken", 1, "--bad-fields", 1, "--out", lake.events)
    said = lake.catch_up()
    assert "warning" not in said, said
    before, rows = read_all(lake)
    assert before["gold.kpis"]["Description"] and "raw.events" not in before, before["gold.kpis"]
    assert {table["VersionId"] for table in before.values()} == {"1"}, "epochs have updated tables"

    lake.write("gold/top_products.sql", "LIMIT 5", "LIMIT 7")
    lake.write("gold/kpis.sql", "CREATE MATERIALIZED VIEW gold.kpis", "CREATE MATERIALIZED VIEW gold.kpis -- kept\n")
    lake.catch_up()
    after, _ = read_all(lake)
    place = lambda tables, name: tables[name]["StorageDescriptor"]["Location"]
    moved = {name for name in after if place(before, name) != place(after, name)}
    assert moved == {"gold.top_products"}, moved
    assert {name for name, table in after.items() if table["VersionId"] != "1"} == moved, after

    lake.flash("sql", "--lake", lake.url, "-c", "DROP MATERIALIZED VIEW gold.places")
    os.remove(f"{lake.project}/gold/places.sql")
    dry = lake.sync("--dry-run")
    assert dry["left"] == [f"delete table {lake.prefix}gold.places"] and dry["done"] == [], dry
    assert lake.sync()["done"] == dry["left"] and "gold.places" not in lake.registered()
    return rows


def meddled(lake):
    """Somebody else's hands in Glue: seen, repaired, and what is theirs left alone."""
    gold, tables = f"{lake.prefix}gold", lake.registered()
    mine = {key: tables["gold.kpis"][key] for key in ("Name", "StorageDescriptor", "PartitionKeys", "TableType", "Parameters")}
    elsewhere = {**mine["StorageDescriptor"], "Location": "s3://lakes/elsewhere/"}
    lake.glue.update_table(DatabaseName=gold, TableInput={**mine, "StorageDescriptor": elsewhere})
    lake.glue.delete_table(DatabaseName=gold, Name="sessions")
    theirs = {**mine, "Name": "stock_levels", "Parameters": {"table_type": "DELTA"}}
    lake.glue.delete_table(DatabaseName=gold, Name="stock_levels")
    lake.glue.create_table(DatabaseName=gold, TableInput=theirs)

    glue = {name: view["glue"] for name, view in lake.status().items() if view["glue"] != "in step"}
    assert set(glue) == {"gold.kpis", "gold.sessions", "gold.stock_levels"}, glue
    assert "location" in glue["gold.kpis"] and "not registered" in glue["gold.sessions"], glue
    assert "somebody else" in glue["gold.stock_levels"], glue
    shown = lake.flash("status", "--lake", lake.url)
    assert f"{gold}.kpis" in shown.stdout and "2 out of step (flash catalog sync" in shown.stderr, shown

    failed = lake.flash("catalog", "sync", "--lake", lake.url, code=1)
    assert f"{gold}.stock_levels is in the way" in failed.stderr, failed.stderr
    now = lake.registered()
    assert now["gold.stock_levels"]["Parameters"] == theirs["Parameters"], "it was not ours to touch"
    for name in ("gold.kpis", "gold.sessions"):
        assert now[name]["StorageDescriptor"] == tables[name]["StorageDescriptor"], name
    lake.glue.delete_table(DatabaseName=gold, Name="stock_levels")
    assert lake.sync()["done"][0].startswith(f"create table {gold}.stock_levels at ")
    read_all_but_rows(lake)


def read_all_but_rows(lake):
    out = {name: view["glue"] for name, view in lake.status().items() if view["glue"] != "in step"}
    assert not out, out


@contextlib.contextmanager
def serving(lake, **environment):
    """`flash run` until the end of the block; the URL of its metrics."""
    command = [FLASH, *lake.run_command(), "--flight", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    env = {**lake.env, **environment}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
    try:
        said, url = [], None
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"http://[\d.]+:\d+/", line):
                url = found[0] + "metrics"
                break
        assert url, "".join(said)
        rest = threading.Thread(target=lambda: said.extend(process.stderr), daemon=True)
        rest.start()
        yield url, said
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_MAX) == 0, "".join(said)
    finally:
        process.kill()


def metrics(url):
    text = urllib.request.urlopen(url, timeout=WAIT_MAX).read().decode()
    return {name: float(value) for name, value in re.findall(r"^(flash_\S+) (\S+)$", text, re.M)}


def until(url, what, holds):
    """Wait until the metrics are so, asking ten times a second."""
    end = time.monotonic() + WAIT_MAX
    while not holds(found := metrics(url)):
        assert time.monotonic() < end, f"{what}: not within {WAIT_MAX} s: {found}"
        time.sleep(0.1)
    return found


def away(lake):
    """Glue fails for a while: epochs go on, and afterwards the tables are in step."""
    bad = proxy.Proxy(ENDPOINT, [(1, proxy.kinesis_error(500, "InternalServiceException"))])
    out, step = 'flash_glue_tables{state="out_of_step"}', 'flash_glue_tables{state="in_step"}'
    lake.write("gold/top_products.sql", "LIMIT 7", "LIMIT 6")
    tables = lake.registered()
    with serving(lake, AWS_ENDPOINT_URL_GLUE=bad.url) as (url, said):
        found = until(url, "Glue is away", lambda it: it.get("flash_glue_failures_total", 0) > 0)
        assert found[out] == len(tables) and found["flash_glue_up"] == 0, found
        lake.flash("simulate", "--events", 2_000, "--seed", 6, "--out", f"{lake.folder}/more.jsonl")
        with open(f"{lake.folder}/more.jsonl") as more, open(lake.events, "a") as events:
            events.write(more.read())
        epoch = found["flash_published_epoch"]
        until(url, "epochs without Glue", lambda it: it["flash_published_epoch"] > epoch)
        assert lake.registered() == tables, "nobody could write"
        bad.faults.clear()
        found = until(url, "Glue is back", lambda it: it["flash_glue_up"] == 1)
        assert (found[out], found[step]) == (0, len(tables)), found
        assert found["flash_glue_in_step_timestamp_seconds"] > time.time() - WAIT_MAX, found
    assert any("Glue is not in step with the lake: cannot read the tables" in line for line in said), said
    assert bad.counts["InternalServiceException"] > 0 and bad.calls["UpdateTable"] == 1, bad.calls
    read_all(lake)


def ddl(lake):
    """The statements name the tables that Glue has, at the places that it has."""
    text = lake.flash("catalog", "ddl", "--lake", lake.url).stdout
    statements = [statement.strip() for statement in text.split(";") if statement.strip()]
    form = r"CREATE EXTERNAL TABLE `(\w+)`\.`(\w+)`\s+LOCATION '([^']+)'\s+TBLPROPERTIES \('table_type' = 'DELTA'\)"
    tables = [match.groups() for statement in statements if (match := re.fullmatch(form, statement))]
    wanted = {(table["DatabaseName"], table["Name"], table["StorageDescriptor"]["Location"])
              for table in lake.registered().values()}  # fmt: skip
    assert set(tables) == wanted and len(tables) == len(wanted), (tables, wanted)
    databases = {match[1] for statement in statements if (match := re.match("CREATE DATABASE IF NOT EXISTS `([^`]+)`", statement))}
    assert databases == {database for database, _, _ in wanted} and len(statements) == len(tables) + len(databases), statements


def refused(lake):
    """What cannot be registered says so before anything is done."""
    local = f"{lake.folder}/local"
    for arguments in (["run", "--project", lake.project, "--lake", local], ["status", "--lake", local],
                      ["catalog", "sync", "--lake", local], ["catalog", "ddl", "--lake", local]):  # fmt: skip
        said = lake.flash(*arguments, code=2).stderr
        assert "Athena reads tables in Amazon S3 only" in said and "hint: " in said, said
    assert not os.path.exists(local)
    said = lake.flash("catalog", "ddl", "--lake", lake.url, code=2, env={"FLASH_GLUE": ""}).stderr
    assert "FLASH_GLUE" in said, said
    said = lake.flash("catalog", "sync", "--lake", lake.url, code=1, env={"AWS_ENDPOINT_URL_GLUE": "http://127.0.0.1:9"}).stderr
    assert "cannot read the tables of" in said and "AWS_ENDPOINT_URL_GLUE" in said, said


def main():
    if not ENDPOINT:
        return print("skipped: tables in Glue; FLASH_S3 names no endpoint")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flash-glue-") as folder:
        lake = Lake(folder)
        rows = followed(lake)
        for part in (meddled, away, ddl, refused):
            since = time.monotonic()
            part(lake)
            print(f"{part.__name__}: {time.monotonic() - since:.1f} s", flush=True)
        print(json.dumps({"tables": len(lake.registered()), "rows": rows, "seconds": round(time.monotonic() - began)}))


if __name__ == "__main__":
    sys.exit(main())
