#!/usr/bin/env python3
"""A long day for the Kinesis consumer: faults, reshards and kill -9, and nothing lost or doubled.

    benches/soak.py                    20 minutes
    benches/soak.py --minutes 2        a quick look

    flash simulate ──PutRecords──▶ flash kinesis ◀── reshards at random
         │ ledger                        ▲
         │                               │ a proxy: throttles, expires iterators, fails, breaks off, answers late
         ▼                               │
    what was accepted                flash run ◀── kill -9 at random, started again; then left alone: memory is watched
         └───────────── the same? ───────┴▶ bronze.events: shard, sequence number and bytes of every record, each once

Ends non-zero when a record is lost or doubled, or when memory grows.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from peers import setup

sys.path.insert(0, os.path.join(setup.REPOSITORY, "tests", "clients"))
import kinesis  # noqa: E402
import ledger  # noqa: E402
import proxy  # noqa: E402

STREAM = "events"
SHARDS = (2, 12)
# The part of the day with kills; the process that comes after it is left alone, and its memory is watched.
KILLING = 0.4
# The share of that process's life in which its caches fill: hidden state (`state_cache_bytes_max`), the history of the
# tables (`history_commits_max`, `history_files_max`), footers (`FOOTERS_BYTES_MAX`). That takes some 150 epochs.
WARM_UP = 0.5
# What that process holds in the last third of the rest may be this much more than in the first.
MEMORY_GROWTH_MAX = 1.15


class Day:
    def __init__(self, chosen, folder):
        self.chosen, self.folder = chosen, folder
        self.env = {**os.environ, **kinesis.ENVIRONMENT}
        self.endpoint = kinesis.start(chosen.flash, STREAM, 4)
        self.proxy = proxy.disturbed_stream(self.endpoint)
        self.env["AWS_ENDPOINT_URL_KINESIS"] = self.proxy.url
        self.begin = time.monotonic()
        self.end = self.begin + chosen.minutes * 60
        self.calm = self.begin + chosen.minutes * 60 * KILLING
        self.reshards, self.kills, self.memory, self.failed = 0, 0, [], []

    def over(self):
        return time.monotonic() >= self.end or self.failed

    def watched(self, work):
        try:
            work()
        except BaseException as error:
            self.failed.append(error)
            raise

    def put(self):
        number = 0
        while not self.over():
            number += 1
            command = [self.chosen.flash, "simulate", "--events", str(self.chosen.batch), "--seed", str(number)]
            command += ["--profile", "faulty", "--stream", STREAM, "--endpoint-url", self.endpoint]
            command += ["--ledger", f"{self.folder}/ledger-{number}.jsonl"]
            subprocess.run(command, env=self.env, check=True, capture_output=True)
            # The endpoint keeps every record in memory.
            time.sleep(random.uniform(0, self.chosen.batch / 1500))

    def reshard(self):
        while not self.over():
            time.sleep(random.uniform(5, 25))
            summary = kinesis.call(self.endpoint, "DescribeStreamSummary", StreamName=STREAM)
            now = summary["StreamDescriptionSummary"]["OpenShardCount"]
            wanted = min(max(random.randint((now + 1) // 2, now * 2), SHARDS[0]), SHARDS[1])
            if wanted != now:
                kinesis.reshard(self.endpoint, STREAM, wanted)
                self.reshards += 1

    def flash(self, *more):
        command = [self.chosen.flash, "run", "--project", "sql", "--lake", f"{self.folder}/lake", *more]
        command += ["--source", f"raw.events=kinesis:{STREAM}", "--flight", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        with open(f"{self.folder}/said", "w") as said:
            return subprocess.Popen(command, env=self.env, cwd=setup.REPOSITORY, stdout=subprocess.DEVNULL, stderr=said)

    def said(self):
        with open(f"{self.folder}/said") as said:
            return said.read()

    def read(self):
        while not self.over():
            process, self.memory = self.flash(), []
            now = time.monotonic()
            killed_at = min(now + random.uniform(10, 60), self.calm) if now < self.calm else self.end
            warm_at = now + (self.end - now) * WARM_UP
            while time.monotonic() < killed_at and not self.over():
                if process.poll() is not None:
                    raise SystemExit(f"flash run ended with {process.returncode}: {self.said()}")
                if time.monotonic() > warm_at:
                    self.memory.append((time.monotonic(), resident_mb(process.pid)))
                time.sleep(0.5)
            process.kill()
            process.wait()
            self.kills += 1

    def run(self):
        work = [threading.Thread(target=self.watched, args=(part,)) for part in (self.put, self.reshard, self.read)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        if self.failed:
            sys.exit(f"the day ended early: {self.failed[0]}")
        last = self.flash("--until-caught-up")
        if last.wait() != 0:
            sys.exit(self.said())

    def judge(self):
        ledgers = [f"{self.folder}/{name}" for name in os.listdir(self.folder) if name.startswith("ledger-")]
        put, landed = ledger.accepted(*ledgers), ledger.landed(self.chosen.flash, f"{self.folder}/lake")
        lost, more = put - landed, landed - put
        begin, third = self.memory[0][0], (self.memory[-1][0] - self.memory[0][0]) / 3
        first = held_mb(mb for at, mb in self.memory if at < begin + third)
        last = held_mb(mb for at, mb in self.memory if at >= begin + 2 * third)
        print(json.dumps({
            "minutes": self.chosen.minutes, "records": put.total(), "landed": landed.total(), "lost": lost.total(),
            "too many": more.total(), "kills": self.kills, "reshards": self.reshards, "faults": dict(self.proxy.counts),
            "memory_mb": {"minutes": round(3 * third / 60, 1), "first third": first, "last third": last,
                          "most": max(mb for _, mb in self.memory)},
        }, indent=2))  # fmt: skip
        if lost or more or last > first * MEMORY_GROWTH_MAX or not self.kills or not self.reshards:
            sys.exit("records are lost or doubled, memory grows, or nothing has happened")


def resident_mb(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20


def held_mb(samples):
    """The lowest tenth: what stays between two epochs. How much comes on top follows the size of a slice, and that the load."""
    return statistics.quantiles(samples, n=10)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=20_000, help="records of one run of the simulator")
    parser.add_argument("--flash", default=setup.flash_binary())
    chosen = parser.parse_args()
    random.seed(7)
    folder = tempfile.mkdtemp(prefix="flash-soak-")
    try:
        day = Day(chosen, folder)
        day.run()
        day.judge()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
