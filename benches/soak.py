#!/usr/bin/env python3
"""A long day for the Kinesis consumer: faults, reshards and kill -9, and nothing lost or doubled.

    benches/soak.py                    20 minutes
    benches/soak.py --minutes 2        a quick look

    flash simulate ──PutRecords──▶ flash kinesis ◀── reshards at random
         │ ledger                        ▲
         │                               │ a proxy: throttles, expires iterators, fails, breaks off, answers late
         ▼                               │
    what was accepted                flash run ◀── kill -9 at random, started again; its memory is watched
         └───────────── the same? ───────┴▶ bronze.events: shard, sequence number and bytes of every record, each once

Ends non-zero when a record is lost or doubled, or when memory grows.
"""

import argparse
import http.client
import http.server
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
import urllib.parse
from collections import Counter

from peers import setup

sys.path.append(os.path.join(setup.REPOSITORY, "tests", "clients"))
import kinesis  # noqa: E402

STREAM = "events"
SHARDS = (2, 12)
# What is answered instead of records, and how often.
FAULTS = [
    (0.05, 400, "ProvisionedThroughputExceededException"),
    (0.02, 400, "ExpiredIteratorException"),
    (0.02, 500, "InternalFailure"),
]
BREAKS_OFF, LATE = 0.01, 0.01
LATE_S = 2
# Memory of the second half of the day may be this much more than that of the first.
MEMORY_GROWTH_MAX = 1.15
QUERY = "SELECT _shard_id, _sequence_number, _sub_sequence, md5(_payload) FROM bronze.events"


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint = ""
    faults = Counter()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        fault = self.fault() if operation in ("GetRecords", "GetShardIterator") else None
        if fault and not (fault[1] == "ExpiredIteratorException" and operation != "GetRecords"):
            self.faults[fault[1]] += 1
            return self.answer(fault[0], json.dumps({"__type": fault[1], "message": "a bad day"}).encode())
        status, answer = self.passed_on(body)
        if operation == "GetRecords" and random.random() < LATE:
            self.faults["late"] += 1
            time.sleep(LATE_S)
        if operation == "GetRecords" and random.random() < BREAKS_OFF:
            self.faults["breaks off"] += 1
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer[: len(answer) // 2])
            self.close_connection = True
            return None
        return self.answer(status, answer)

    def fault(self):
        roll = random.random()
        for share, status, code in FAULTS:
            if roll < share:
                return status, code
            roll -= share
        return None

    def passed_on(self, body):
        connection = http.client.HTTPConnection(urllib.parse.urlparse(self.endpoint).netloc, timeout=30)
        keep = ("X-Amz-Target", "Content-Type", "X-Amz-Date", "Authorization")
        connection.request("POST", "/", body, {name: self.headers[name] for name in keep if self.headers[name]})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Day:
    def __init__(self, chosen, folder):
        self.chosen, self.folder = chosen, folder
        self.env = {**os.environ, **kinesis.ENVIRONMENT}
        self.endpoint = kinesis.start(chosen.flash, STREAM, 4)
        Proxy.endpoint = self.endpoint
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.env["AWS_ENDPOINT_URL_KINESIS"] = f"http://127.0.0.1:{server.server_port}"
        self.end = time.monotonic() + chosen.minutes * 60
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
        return subprocess.Popen(command, env=self.env, cwd=setup.REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def read(self):
        while not self.over():
            process = self.flash()
            killed_at = time.monotonic() + random.uniform(10, 60)
            while time.monotonic() < killed_at and not self.over():
                if process.poll() is not None:
                    raise SystemExit(f"flash run ended with {process.returncode}: {process.stderr.read().decode()}")
                self.memory.append((time.monotonic(), resident_mb(process.pid)))
                time.sleep(0.5)
            process.kill()
            process.communicate()
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
        said = last.communicate()[1].decode()
        if last.returncode != 0:
            sys.exit(said)

    def judge(self):
        put = Counter()
        for name in os.listdir(self.folder):
            if name.startswith("ledger-"):
                for line in open(f"{self.folder}/{name}"):
                    record = json.loads(line)
                    put[(record["shard_id"], record["sequence_number"], record["md5"])] += 1
        command = [self.chosen.flash, "sql", "--lake", f"{self.folder}/lake", "--format", "csv", "-c", QUERY]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[1:]
        landed = Counter((shard, sequence, digest) for shard, sequence, _, digest in (line.split(",") for line in lines))
        lost, more = put - landed, landed - put
        half = (self.memory[0][0] + self.memory[-1][0]) / 2
        first = [mb for at, mb in self.memory if at < half]
        second = [mb for at, mb in self.memory if at >= half]
        growth = statistics.median(second) / statistics.median(first)
        print(json.dumps({
            "minutes": self.chosen.minutes, "records": put.total(), "landed": landed.total(), "lost": lost.total(),
            "too many": more.total(), "kills": self.kills, "reshards": self.reshards, "faults": dict(Proxy.faults),
            "memory_mb": {"median, first half": statistics.median(first), "second half": statistics.median(second),
                          "most": max(mb for _, mb in self.memory)},
        }, indent=2))  # fmt: skip
        if lost or more or growth > MEMORY_GROWTH_MAX or not self.kills or not self.reshards:
            sys.exit("records are lost or doubled, memory grows, or nothing has happened")


def resident_mb(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20


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
