#!/usr/bin/env python3
"""A lake that is written to for very long: does anything grow with the number of commits?

    benches/commits.py                       100,000 commits of one table, half an hour
    benches/commits.py --commits 10000       a quick look

    one connection ──INSERT──▶ flash run ──▶ s.t ──▶ s.by_k (merged), s.filtered (appended)   an epoch each
          every 1,000 commits: p50 and p95 of the INSERT, views included; the time of a new process that opens the lake
                               and reads a view; memory of the server; data files, log files and records in the lake

Time is short here: an hour's commits, at one a second, come in a minute. So files that a commit has removed, and the log,
are kept for half a minute (FLASH_RETENTION_SECONDS) and not for an hour and a quarter. The rest is as in production.

Writes a CSV (one line per 1,000 commits) and draws it. Ends non-zero when something has grown; a lake that is there is
gone on with, so that a run can be taken up again.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time

from peers import setup

sys.path.insert(0, os.path.join(setup.REPOSITORY, "tests", "clients"))
import served  # noqa: E402
from flight_sql import Client  # noqa: E402

PROJECT = {
    "s/t": "CREATE TABLE s.t (k INT, n BIGINT)",
    "s/by_k": "CREATE MATERIALIZED VIEW s.by_k AS SELECT k, count(*) AS c, sum(n) AS s FROM s.t GROUP BY k",
    "s/filtered": "CREATE MATERIALIZED VIEW s.filtered AS SELECT k, n FROM s.t WHERE n >= 0",
}
# Newest published records are held in memory up to this number of epochs: until then the server fills.
WARM_UP = 1_000
# The last third of the run beside the first one after the warm-up. Counts of files go up and down between rounds of
# upkeep; times are those of a machine that others may use.
GROWTH_MAX = {"p50_ms": 2.0, "startup_ms": 2.0, "rss_mb": 1.3, "data_files": 1.5, "log_files": 1.5, "records": 1.1}
COLUMNS = ["commits", "p50_ms", "p95_ms", "startup_ms", "rss_mb", "data_files", "log_files", "records", "lake_mb"]


def counted(lake):
    """Objects of the lake by kind, and their bytes."""
    found = {"data_files": 0, "log_files": 0, "records": 0}
    size = 0
    for folder, _, files in os.walk(lake):
        below = os.path.relpath(folder, lake).split(os.sep)
        kind = "log_files" if "_delta_log" in below else "records" if below[0] == "_flash" else "data_files"
        for name in files:
            found[kind] += 1
            try:
                size += os.path.getsize(os.path.join(folder, name))
            except FileNotFoundError:
                pass
    return {**found, "lake_mb": round(size / 1e6, 1)}


def startup(lake):
    """Milliseconds of a process that opens the lake and reads a view, the median of three; and the rows it counts."""
    took = []
    for _ in range(3):
        begin = time.monotonic()
        command = [served.FLASH, "sql", "--lake", lake, "--format", "csv", "-c", "SELECT sum(c) AS c FROM s.by_k"]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        took.append((time.monotonic() - begin) * 1000)
    return statistics.median(took), int(out.split()[-1] or 0)


def measure(folder, commits, every, retention, said=lambda line: None):
    """Lines of the CSV."""
    lake = os.path.join(folder, "lake")
    lines = []
    with served.serve(folder, PROJECT, FLASH_RETENTION_SECONDS=str(retention)) as server:
        client = Client(server.url)
        done = client.query("SELECT count(*) FROM s.t").column(0)[0].as_py()
        while done < commits:
            took = []
            for n in range(done, min(done + every, commits)):
                begin = time.perf_counter()
                client.update(f"INSERT INTO s.t VALUES ({n % 10}, {n})")
                took.append((time.perf_counter() - begin) * 1000)
            done += len(took)
            opened, seen = startup(lake)
            assert seen == done, f"{seen} rows are seen after {done} commits"
            took.sort()
            line = {
                "commits": done,
                "p50_ms": round(took[len(took) // 2], 2),
                "p95_ms": round(took[len(took) * 95 // 100], 2),
                "startup_ms": round(opened, 1),
                "rss_mb": round(server.memory(), 1),
                **counted(lake),
            }
            lines.append(line)
            said(line)
        total = client.query("SELECT count(*), sum(n) FROM s.t").to_pylist()[0]
        assert list(total.values()) == [done, done * (done - 1) // 2], total
    return lines


def grown(lines):
    """What has grown, in words; empty when nothing has."""
    rest = [line for line in lines if line["commits"] > WARM_UP]
    third = max(1, len(rest) // 3)
    wrong = []
    for column, most in GROWTH_MAX.items():
        first, last = (statistics.median(line[column] for line in part) for part in (rest[:third], rest[-third:]))
        if last > first * most:
            wrong.append(f"{column} grew from {first} to {last}")
    return wrong


def drawn(lines, title):
    """The curves as SVG, one panel for each kind of figure."""
    panels = [
        ("INSERT with its views, ms", [("p95", "p95_ms", "#c2410c"), ("p50", "p50_ms", "#1d4ed8")]),
        ("a new process opens the lake and reads, ms", [("", "startup_ms", "#1d4ed8")]),
        ("memory of the server, MB", [("", "rss_mb", "#1d4ed8")]),
        ("objects in the lake", [("log files", "log_files", "#c2410c"), ("records", "records", "#15803d"),
                                 ("data files", "data_files", "#1d4ed8")]),
    ]  # fmt: skip
    width, height, left = 420, 200, 48
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width} {2 * height + 40}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="20" font-size="14">{title}</text>',
    ]
    newest = lines[-1]["commits"]
    for number, (name, curves) in enumerate(panels):
        x0, y0 = number % 2 * width + left, number // 2 * height + 64
        w, h = width - left - 24, height - 56
        top = max(line[column] for line in lines for _, column, _ in curves) * 1.15 or 1
        out.append(f'<text x="{x0}" y="{y0 - 10}">{name}</text>')
        for part in (0, 0.5, 1):
            y = y0 + h - part * h
            out.append(f'<line x1="{x0}" x2="{x0 + w}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
            out.append(f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{part * top:,.0f}</text>')
            out.append(f'<text x="{x0 + part * w:.1f}" y="{y0 + h + 16}" text-anchor="middle" fill="#555">{part * newest:,.0f}</text>')
        for label, column, color in curves:
            points = [(x0 + line["commits"] / newest * w, y0 + h - line[column] / top * h) for line in lines]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
            if label:
                out.append(f'<text x="{x0 + w}" y="{points[-1][1] - 5:.1f}" text-anchor="end" fill="{color}">{label}</text>')
    return "\n".join([*out, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commits", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=1_000, help="commits between two lines")
    parser.add_argument("--retention", type=int, default=30, help="seconds that removed files and the log stay")
    parser.add_argument("--folder", help="keep the lake here; one that is there is gone on with")
    parser.add_argument("--csv", default="commits.csv")
    parser.add_argument("--svg", help="draw it here")
    parser.add_argument("--flash", default=setup.flash_binary())
    chosen = parser.parse_args()
    served.FLASH = os.path.abspath(chosen.flash)
    with tempfile.TemporaryDirectory() as folder:
        old = []
        if chosen.folder and os.path.exists(chosen.csv):
            with open(chosen.csv) as file:
                old = [{key: float(value) for key, value in line.items()} for line in csv.DictReader(file)]
        with open(chosen.csv, "a" if old else "w") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if not old:
                writer.writeheader()

            def said(line):
                writer.writerow(line)
                file.flush()
                print("  ".join(f"{key} {value}" for key, value in line.items()), flush=True)

            folder = chosen.folder or folder
            lines = old + measure(folder, chosen.commits, chosen.every, chosen.retention, said)
    if chosen.svg:
        with open(chosen.svg, "w") as file:
            file.write(drawn(lines, f"{lines[-1]['commits']:,.0f} commits of one table, two views over it"))
    wrong = grown(lines)
    print("; ".join(wrong) or "nothing has grown")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
