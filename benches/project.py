"""How long a project of 200 views takes: check, the first apply, plan, an apply without a change, one changed file.

    python3 benches/project.py --flash target/release/flash [--views 200]

    raw.events ─▶ bronze.events ─▶ silver.events ─┬▶ gold.v000 ─▶ gold.v001 ─▶ gold.v002      chains of three, as deep as
                                                  ├▶ gold.v003 ─▶ ...                        projects are as a rule
                                                  └▶ ...

Each line is the median of ROUNDS runs of the command, its start included.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time

ROUNDS = 5
EVENTS = 20_000
VIEWS = [
    "SELECT seller_id, city, category, count(*) AS events, sum(revenue) AS revenue FROM silver.events WHERE length(city) > {n} "
    "GROUP BY seller_id, city, category",
    "SELECT seller_id, category, sum(events) AS events, sum(revenue) AS revenue FROM gold.v{below:03} GROUP BY seller_id, category",
    "SELECT seller_id, category, revenue, rank() OVER (PARTITION BY seller_id ORDER BY revenue DESC) AS place FROM gold.v{below:03}",
]


def make(folder, views):
    for part in ("raw", "bronze", "silver"):
        shutil.copytree(f"sql/{part}", f"{folder}/{part}")
    os.makedirs(f"{folder}/gold")
    for number in range(views - 2):
        query = VIEWS[number % 3].format(n=number % 5, below=number - 1)
        with open(f"{folder}/gold/v{number:03}.sql", "w") as file:
            file.write(f"CREATE MATERIALIZED VIEW gold.v{number:03} WITH (target_lag = '5 seconds') AS\n{query};\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--flash", default="target/release/flash")
    parser.add_argument("--views", type=int, default=200)
    args = parser.parse_args()

    def run(*arguments, codes=(0,)):
        began = time.monotonic()
        done = subprocess.run([args.flash, *arguments], capture_output=True, text=True)
        assert done.returncode in codes, f"{arguments}: {done.returncode}\n{done.stderr}"
        return time.monotonic() - began

    def line(what, rounds, *arguments, **options):
        print(f"| {what} | {statistics.median(run(*arguments, **options) for _ in range(rounds)):.2f} |", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        project, events = f"{folder}/sql", f"{folder}/events.jsonl"
        make(project, args.views)
        at = ["--project", project, "--lake", f"{folder}/lake"]
        run("simulate", "--events", str(EVENTS), "--out", events)
        print(f"| {args.views} views | seconds |\n|---|--:|")
        line("check", ROUNDS, "check", "--project", project)
        line("apply to an empty lake", 1, "apply", *at, "--yes")
        run("run", *at, "--until-caught-up", "--source", f"raw.events=jsonl:{events}")
        line("plan, nothing changes", ROUNDS, "plan", *at)
        line("apply, nothing changes", ROUNDS, "apply", *at)
        changed = f"{project}/gold/v000.sql"
        with open(changed) as file:
            text = file.read()
        with open(changed, "w") as file:
            file.write(text.replace("count(*)", "2 * count(*)"))
        line("plan, one file and two views above it change", ROUNDS, "plan", *at, codes=(2,))
        line("apply of that", 1, "apply", *at, "--yes")
        with open(changed, "w") as file:
            file.write(text)
        line("apply of the file as it was: back to the old tables", 1, "apply", *at, "--yes")


main()
