"""kill -9 at many moments, restart, and the lake is as if nothing had happened.

  files:    flash run --source jsonl      ┐ killed at chosen system calls until every step of the epoch protocol
  Kinesis:  flash run --source kinesis    ┘ was met five times, then at random moments, then left to end
  S3:       flash run --source kinesis, its lake in a bucket: killed at random moments, then left to end
  embedded: flash demo --once, whose stream dies with it: likewise

Every table is compared, as a multiset of rows, to that of an undisturbed run. Needs the packages of requirements.txt;
chosen system calls need strace. FLASH_S3 is the URL of an S3 endpoint with a bucket "lakes".
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter

import deltalake
import kills
import kinesis
from pyarrow import fs

FLASH = os.environ["FLASH"]
KILLS = int(os.environ.get("KILLS", "20"))
KILLS_OF_A_STEP = 5
EVENTS = 25_000
SEED = ["--seed", "5"]
RATES = ["--duplicates", "1", "--broken", "1", "--bad-fields", "1", "--late", "1"]
COUNTS = "SELECT view_name, rows, duplicates, dropped, quarantined FROM system.materialized_views"
# Columns that say when a row was written, and not what it is.
WRITTEN = {"_epoch", "quarantined_at"}
# Each life of the embedded stream numbers its records anew.
EMBEDDED = WRITTEN | {"_shard_id", "_sequence_number", "_arrived_at", "arrival_date"}


def flash(*args, **options):
    done = subprocess.run([FLASH, *map(str, args)], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"flash {args}: {done.returncode}\n{done.stderr}"
    return done.stdout


def contents(lake, without, env):
    """Name of a table -> its rows in the order of their texts."""
    views = [view["name"] for view in json.loads(flash("status", "--lake", lake, "--json", env=env))]
    tables = [*views, "silver.events_quarantine", "ref.cities"]
    queries = {**{name: f"SELECT * FROM {name}" for name in tables}, "the books": COUNTS}
    found = {}
    for name, query in queries.items():
        rows = json.loads(flash("sql", "--lake", lake, "--format", "json", "-c", query, env=env), parse_float=str)
        kept = ({key: value for key, value in row.items() if key not in without} for row in rows)
        found[name] = sorted(json.dumps(row) for row in kept)
    return found


def compare(source, wanted, found):
    assert wanted.keys() == found.keys(), (wanted.keys(), found.keys())
    for name, rows in wanted.items():
        assert rows, f"{source}: {name} is empty, which compares nothing"
        if rows != found[name]:
            less, more = Counter(rows) - Counter(found[name]), Counter(found[name]) - Counter(rows)
            sys.exit(f"{source}: {name} differs after the kills\n"
                     f"{less.total()} rows are missing: {list(less)[:3]}\n"
                     f"{more.total()} rows are too many: {list(more)[:3]}")  # fmt: skip


def disturbed(source, command, folder, env, without, chosen, wild=None, slice_records=500):
    """An undisturbed run, and one that is killed again and again: the same tables."""
    began, calm, wild = time.monotonic(), f"{folder}/{source}-calm", wild or kills.Lake(f"{folder}/{source}-wild")
    flash(*command, "--lake", calm, env=env)
    small = {**env, "FLASH_SLICE_RECORDS_MAX": str(slice_records)}
    killed = [FLASH, *command, "--lake", wild.url]
    steps = {}
    if chosen:
        steps["at chosen calls"] = kills.at_calls(killed, wild, small, KILLS_OF_A_STEP)
    steps["at random moments"] = kills.at_random(killed, wild, small, KILLS)
    flash(*command, "--lake", wild.url, env=small)
    compare(source, contents(calm, without, env), contents(wild.url, without, env))
    total = sum(sum(of.values()) for of in steps.values())
    assert total >= KILLS, f"{source}: only {total} kills before it ended by itself"
    print(json.dumps({"source": source, "kills": total, **steps, "seconds": round(time.monotonic() - began)}), flush=True)


def bucket(endpoint, env):
    """A lake of its own in the bucket, and the environment to reach it; read by somebody else, too."""
    root = f"lakes/crash-{os.getpid()}"
    key, secret = env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]
    address, scheme = endpoint.removeprefix("http://"), "http"
    files = fs.S3FileSystem(access_key=key, secret_key=secret, endpoint_override=address, scheme=scheme, region="us-east-1")
    return kills.Lake(f"s3://{root}", files, root), {**env, "AWS_ENDPOINT_URL_S3": endpoint}


def read_by_deltalake(lake, env):
    """The tables in the bucket, as another reader finds them."""
    options = {"AWS_ENDPOINT_URL": env["AWS_ENDPOINT_URL_S3"], "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
               "AWS_ACCESS_KEY_ID": env["AWS_ACCESS_KEY_ID"], "AWS_SECRET_ACCESS_KEY": env["AWS_SECRET_ACCESS_KEY"]}  # fmt: skip
    for view in json.loads(flash("status", "--lake", lake.url, "--json", env=env)):
        table = deltalake.DeltaTable(view["location"], version=view["version"], storage_options=options)
        rows = table.to_pyarrow_table().num_rows
        assert rows == view["rows"], f"{view['name']}: deltalake reads {rows} rows, not {view['rows']}"


def main():
    random.seed(11)
    # Paths as the kernel sees them, since system calls are chosen by path.
    with tempfile.TemporaryDirectory(prefix="flash-crash-") as folder:
        folder = os.path.realpath(folder)
        skipped = kills.why_not(folder)
        if skipped:
            print(f"skipped: kills at chosen system calls; {skipped}")
        run = ["run", "--project", "sql", "--until-caught-up", "--source"]

        file = f"{folder}/events.jsonl"
        flash("simulate", "--events", EVENTS, *SEED, *RATES, "--out", file)
        disturbed("files", [*run, f"raw.events=jsonl:{file}"], folder, dict(os.environ), WRITTEN, not skipped)

        # Half of the events are in shards that have ended, half in their children.
        endpoint = kinesis.start(FLASH, "events", 6)
        env = {**os.environ, **kinesis.ENVIRONMENT, "AWS_ENDPOINT_URL_KINESIS": endpoint}
        put = ["simulate", "--events", EVENTS // 2, *RATES, "--stream", "events", "--endpoint-url", endpoint]
        flash(*put, *SEED, env=env)
        kinesis.reshard(endpoint, "events", 12)
        flash(*put, "--seed", "6", env=env)
        disturbed("Kinesis", [*run, "raw.events=kinesis:events"], folder, env, WRITTEN, not skipped)

        if endpoint := os.environ.get("FLASH_S3"):
            lake, env = bucket(endpoint, env)
            disturbed("S3", [*run, "raw.events=kinesis:events"], folder, env, WRITTEN, False, lake, 2_000)
            read_by_deltalake(lake, env)
        else:
            print("skipped: a lake on S3; FLASH_S3 names no endpoint")

        demo = ["demo", "--once", "--json", "--events", "30000", *SEED, *RATES]
        disturbed("embedded", demo, folder, dict(os.environ), EMBEDDED, False)


main()
