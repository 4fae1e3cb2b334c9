#!/usr/bin/env python3
"""The same events through flash, DuckDB, ClickHouse (chDB) and PySpark: JSON lines to bronze, silver and gold Parquet.

    benches/peers.py                          2,000,000 events, three rounds, medians
    benches/peers.py --events 20000 --runs 1  a quick look
    benches/peers.py --no-bronze              the peers do not write bronze
    benches/peers.py --memory                 peak memory of flash at N and 4 N events

    round 1   flash  duckdb  clickhouse  spark      each a process of its own, on a synced disk, with the
    round 2   duckdb  clickhouse  spark  flash      input in the page cache; the order moves on every round
      ...
"""

import argparse
import json
import os
import statistics
import sys

from peers import figures, gold, measure, setup

SYSTEMS = ("flash", "duckdb", "clickhouse", "spark")
MEGABYTE = 1 << 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2_000_000, help="events to simulate (default 2000000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", help="take these JSON lines and simulate none")
    parser.add_argument("--runs", type=int, default=3, help="rounds; the median counts (default 3)")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="which of flash,duckdb,clickhouse,spark")
    parser.add_argument("--no-bronze", action="store_true", help="the peers write silver and gold only")
    parser.add_argument("--memory", action="store_true", help="flash alone, at N and 4 N events")
    parser.add_argument("--flash", default=setup.flash_binary(), help="the release binary")
    parser.add_argument("--work", default=setup.cache("work"), help="folder for input and output")
    parser.add_argument("--json", action="store_true", help="every measurement as JSON on stdout")
    chosen = parser.parse_args()
    unknown = set(chosen.systems.split(",")) - set(SYSTEMS)
    if unknown or chosen.runs < 1 or chosen.events < 1:
        parser.error(f"unknown system {sorted(unknown)}" if unknown else "--runs and --events are at least 1")
    return chosen


def say(text):
    print(text, file=sys.stderr, flush=True)


def compare(chosen):
    systems = chosen.systems.split(",")
    gold.check(setup.REPOSITORY)
    path = chosen.file or setup.events(chosen.flash, chosen.events, chosen.seed, chosen.work)
    events = measure.warm(path)
    say(f"{events:,} events, {os.path.getsize(path) / MEGABYTE:,.0f} MB, {os.cpu_count()} cores")
    python = setup.environment() if set(systems) - {"flash"} else None
    results = {name: [] for name in systems}
    for number in range(chosen.runs):
        turn = number % len(systems)
        for name in systems[turn:] + systems[:turn]:
            out = os.path.join(chosen.work, f"out-{name}")
            if name == "flash":
                result = measure.flash(chosen.flash, path, out)
            else:
                result = measure.peer(python, name, path, out, not chosen.no_bronze)
            results[name].append(result)
            say(f"round {number + 1}: {name:<10} {result['seconds']:8.2f} s  {result['rss_bytes'] / MEGABYTE:8,.0f} MB")
    disagreements = figures.disagreements({name: runs[0]["figures"] for name, runs in results.items()})
    if chosen.json:
        print(json.dumps({"events": events, "bronze": not chosen.no_bronze, "results": results}, indent=1))
    table({name: measure.median(runs) for name, runs in results.items()}, events)
    for text in disagreements:
        say(f"DISAGREE: {text}")
    return 1 if disagreements else 0


def table(medians, events):
    say(f"\n{'':<11}{'seconds':>9}{'events/s':>12}{'peak MB':>10}{'CPU s':>9}{'written MB':>12}{'flash is':>12}")
    ours = medians.get("flash")
    for name, median in medians.items():
        ratio = f"{median['seconds'] / ours['seconds']:.2f} x" if ours and name != "flash" else ""
        say(
            f"{name:<11}{median['seconds']:9.2f}{events / median['seconds']:12,.0f}"
            f"{median['rss_bytes'] / MEGABYTE:10,.0f}{median['cpu_seconds']:9.1f}"
            f"{median['written_bytes'] / MEGABYTE:12,.0f}{ratio:>12}"
        )
    for key in figures.KEYS:
        values = {name: median["figures"].get(key) for name, median in medians.items()}
        say(f"{key:<12}" + "  ".join(f"{name} {value}" for name, value in values.items()))


def memory(chosen):
    peaks = []
    for events in (chosen.events, 4 * chosen.events):
        path = setup.events(chosen.flash, events, chosen.seed, chosen.work)
        runs = [measure.flash(chosen.flash, path, os.path.join(chosen.work, "out-flash")) for _ in range(chosen.runs)]
        peaks.append(statistics.median(run["rss_bytes"] for run in runs))
        say(f"{events:>12,} events: peak {peaks[-1] / MEGABYTE:,.0f} MB")
    say(f"ratio {peaks[1] / peaks[0]:.3f}")
    return 0


if __name__ == "__main__":
    options = arguments()
    os.makedirs(options.work, exist_ok=True)
    sys.exit(memory(options) if options.memory else compare(options))
