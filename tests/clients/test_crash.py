"""kill -9 at many moments, restart, and the lake is as if nothing had happened.

  files:   flash run --source jsonl --until-caught-up in small epochs, killed again and again, then left to end
  Kinesis: flash demo --once on the embedded stream, killed again and again, then left to end

After each kill the lake tells in which step of the epoch protocol it came; the counts are printed.
"""

import glob
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

FLASH = os.environ["FLASH"]
KILLS = int(os.environ.get("KILLS", "24"))
EVENTS = 120_000
QUERIES = {
    "bronze": "SELECT _sequence_number AS n, md5(CAST(_payload AS VARCHAR)) AS p FROM bronze.events ORDER BY 1",
    "bronze payloads": "SELECT md5(CAST(_payload AS VARCHAR)) AS p, count(*) AS n FROM bronze.events GROUP BY 1 ORDER BY 1",
    "silver": "SELECT event_id, seller_id, revenue, profit, event_time FROM silver.events ORDER BY 1",
    "quarantine": "SELECT expectation, count(*) AS n FROM silver.events_quarantine GROUP BY 1 ORDER BY 1",
    "kpis": "SELECT * FROM gold.kpis ORDER BY 1",
    "cube": "SELECT day, hour, seller_id, city, product, views, carts, purchases, revenue FROM gold.shop_cube "
    "ORDER BY 1, 2, 3, 4, 5",
    "cities": "SELECT * FROM gold.revenue_by_city ORDER BY 1, 2",
    "top": "SELECT * FROM gold.top_products ORDER BY profit DESC, product_id",
    "counts": "SELECT dropped, duplicates, quarantined FROM system.materialized_views WHERE view_name = 'silver.events'",
}


def sql(lake, query):
    done = subprocess.run([FLASH, "sql", "--lake", lake, "--format", "json", "-c", query], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(lake, names):
    return {name: sql(lake, QUERIES[name]) for name in names}


def newest(lake, folder):
    names = glob.glob(f"{lake}/_flash/{folder}/*.json")
    return max((int(re.sub(r"\D", "", os.path.basename(name))) for name in names), default=0)


def step(lake):
    """In which step of the protocol the process died."""
    epoch = newest(lake, "epochs")
    if epoch == newest(lake, "published"):
        return "between epochs"
    committed = views = 0
    for log in glob.glob(f"{lake}/bronze/*/_delta_log") + glob.glob(f"{lake}/silver/events/_delta_log") + glob.glob(
        f"{lake}/gold/*/_delta_log"
    ):
        views += 1
        entries = sorted(glob.glob(f"{log}/*.json"))[-3:]
        committed += any(f'"version":{epoch}' in line for e in entries for line in open(e) if '"txn"' in line)
    return "1 written down" if committed == 0 else "3 committed" if committed == views else "2 committing"


def disturbed(command, lake, env, longest):
    """Start, kill after a random while, again and again; then let it end."""
    steps, kills = {}, 0
    while kills < KILLS:
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0.05, longest))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        if os.path.isdir(f"{lake}/_flash"):
            where = step(lake)
            steps[where] = steps.get(where, 0) + 1
    last = subprocess.run(command, env=env, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    return kills, steps


def compare(what, wanted, found):
    for name in wanted:
        if wanted[name] != found[name]:
            sys.exit(f"{what}: {name} differs after the kills:\n{wanted[name][:400]}\n{found[name][:400]}")


def main():
    random.seed(11)
    folder = tempfile.mkdtemp(prefix="flash-crash-")
    try:
        file, rates = f"{folder}/events.jsonl", ["--duplicates", "1", "--broken", "1", "--bad-fields", "1", "--late", "1"]
        simulate = [FLASH, "simulate", "--events", str(EVENTS), "--seed", "5", *rates, "--out", file]
        subprocess.run(simulate, check=True, capture_output=True)
        run = lambda lake: [FLASH, "run", "--project", "sql", "--lake", lake, "--source", f"raw.events=jsonl:{file}",
                            "--until-caught-up"]
        small = {**os.environ, "FLASH_SLICE_RECORDS_MAX": "500"}
        calm, wild = f"{folder}/calm", f"{folder}/wild"
        subprocess.run(run(calm), check=True, capture_output=True)
        kills, steps = disturbed(run(wild), wild, small, 0.5)
        names = [name for name in QUERIES if name != "bronze payloads"]
        compare("files", contents(calm, names), contents(wild, names))
        print(json.dumps({"source": "files", "kills": kills, "steps": steps}))
        assert kills >= 20, f"only {kills} kills before the run ended"

        demo = lambda lake: [FLASH, "demo", "--once", "--json", "--lake", lake, "--events", "40000", "--seed", "5"]
        calm, wild = f"{folder}/demo-calm", f"{folder}/demo-wild"
        subprocess.run(demo(calm), check=True, capture_output=True)
        kills, steps = disturbed(demo(wild), wild, small, 0.5)
        names = [name for name in QUERIES if name != "bronze"]
        compare("demo", contents(calm, names), contents(wild, names))
        print(json.dumps({"source": "embedded Kinesis", "kills": kills, "steps": steps}))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
