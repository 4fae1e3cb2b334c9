"""Nothing lost, nothing doubled, whatever fails: bronze holds what the producer's ledger holds, record by record.

  a lake in a bucket that throttles, fails and loses answers, read through a stream that does so too, while shards split
  a lake on a disk that is full in mid-epoch, and has room again
  a lake with two writers at once, each started again as often as the other one drives it out

FLASH_S3 is the URL of an S3 endpoint with a bucket "lakes". A disk of its own needs the right to mount one.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time

import kinesis
import ledger
import proxy

FLASH = os.environ["FLASH"]
STREAM = "events"
EVENTS = 9_000
# Of anything that is waited for, in seconds.
WAIT_MAX = 180
# What `flash` ends with: the lake needs mending, another writer owns the lake.
MEND, OWNED = 3, 4
# The two writers drive each other out at least so often.
DRIVEN_OUT_MIN = 5
DISK = "6m"


class Stream:
    """A stream of two shards, and what was put into it."""

    def __init__(self, folder):
        self.folder, self.ledgers = folder, []
        self.endpoint = kinesis.start(FLASH, STREAM, 2)
        self.env = {**os.environ, **kinesis.ENVIRONMENT, "AWS_ENDPOINT_URL_KINESIS": self.endpoint}

    def put(self, events, *more):
        name = f"{self.folder}/ledger-{len(self.ledgers)}.jsonl"
        self.ledgers.append(name)
        command = [FLASH, "simulate", "--events", str(events), "--seed", str(len(self.ledgers)), "--profile", "faulty"]
        command += ["--stream", STREAM, "--endpoint-url", self.endpoint, "--ledger", name, *more]
        subprocess.run(command, env=self.env, check=True, capture_output=True)

    def run(self, lake, *more, **env):
        command = [FLASH, "run", "--project", "sql", "--lake", lake, "--source", f"raw.events=kinesis:{STREAM}", *more]
        command += ["--flight", "127.0.0.1:0", "--http", "127.0.0.1:0"] if "--until-caught-up" not in more else []
        env = {**self.env, "FLASH_SLICE_RECORDS_MAX": "1000", **env}
        return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def finish(self, lake, **env):
        last = self.run(lake, "--until-caught-up", **env)
        said = last.communicate(timeout=WAIT_MAX)[1]
        assert last.returncode == 0, f"{last.returncode}\n{said}"

    def judge(self, what, lake, began, **facts):
        put, found = ledger.accepted(*self.ledgers), ledger.landed(FLASH, lake, self.env)
        lost, more = put - found, found - put
        if lost or more or not put:
            sys.exit(f"{what}: {lost.total()} of {put.total()} records are lost, {more.total()} are too many\n"
                     f"lost {list(lost)[:3]}\ntoo many {list(more)[:3]}")  # fmt: skip
        print(json.dumps({"what": what, "records": put.total(), **facts, "seconds": round(time.monotonic() - began)}), flush=True)


def until(what, condition):
    deadline = time.monotonic() + WAIT_MAX
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_MAX} s: {what}"
        time.sleep(0.05)


def bad_bucket(folder):
    endpoint = os.environ.get("FLASH_S3")
    if not endpoint:
        return print("skipped: a bucket on a bad day; FLASH_S3 names no endpoint")
    began, stream = time.monotonic(), Stream(folder)
    reads, bucket = proxy.disturbed_stream(stream.endpoint), proxy.disturbed_bucket(endpoint)
    lake = f"s3://lakes/ledger-{os.getpid()}"
    # Every epoch is hundreds of calls, of which every twelfth goes wrong.
    env = {"AWS_ENDPOINT_URL_KINESIS": reads.url, "AWS_ENDPOINT_URL_S3": bucket.url, "FLASH_SLICE_RECORDS_MAX": "6000"}
    stream.put(EVENTS)
    running = stream.run(lake, **env)
    until("it commits", lambda: bucket.calls["PUT"] > 200 or running.poll() is not None)
    kinesis.reshard(stream.endpoint, STREAM, 4)
    stream.put(EVENTS)
    kinesis.reshard(stream.endpoint, STREAM, 2)
    stream.put(EVENTS)
    running.terminate()
    said = running.communicate(timeout=WAIT_MAX)[1]
    assert running.returncode == 0, f"{running.returncode}\n{said}"
    stream.finish(lake, **env)
    stream.env["AWS_ENDPOINT_URL_S3"] = endpoint
    faults = reads.counts + bucket.counts
    assert faults["answer lost"] >= 5 and faults["SlowDown"] >= 5, faults
    stream.judge("a bucket and a stream on a bad day", lake, began, faults=dict(faults))


def full_disk(folder):
    disk = f"{folder}/disk"
    os.mkdir(disk)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "flash", disk], capture_output=True, text=True)
    if mounted.returncode != 0:
        return print(f"skipped: a full disk; {mounted.stderr.strip()}")
    try:
        began, stream = time.monotonic(), Stream(folder)
        stream.put(3 * EVENTS)
        full = 0
        for size in ("7m", "9m", "200m"):
            running = stream.run(f"{disk}/lake", "--until-caught-up")
            said = running.communicate(timeout=WAIT_MAX)[1]
            assert running.returncode == MEND, f"{running.returncode}\n{said}"
            assert "space" in said, said
            full += 1
            subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
        stream.finish(f"{disk}/lake")
        stream.judge("a full disk", f"{disk}/lake", began, times=full)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def two_writers(folder):
    began, stream, lake = time.monotonic(), Stream(folder), f"{folder}/shared"
    stream.put(1_000)
    stream.finish(lake)
    over, failed, driven_out = threading.Event(), [], [0, 0]

    def write(which):
        while not over.is_set():
            running = stream.run(lake)
            while running.poll() is None and not over.wait(0.05):
                pass
            if over.is_set():
                running.kill()
            said = running.communicate(timeout=WAIT_MAX)[1]
            if not over.is_set() and running.returncode != OWNED:
                failed.append(f"{running.returncode}\n{said}")
                return
            driven_out[which] += not over.is_set()

    writers = [threading.Thread(target=write, args=(which,)) for which in (0, 1)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + WAIT_MAX
    while sum(driven_out) < DRIVEN_OUT_MIN and not failed and time.monotonic() < deadline:
        stream.put(500)
    over.set()
    for writer in writers:
        writer.join()
    assert not failed, failed[0]
    assert sum(driven_out) >= DRIVEN_OUT_MIN, f"the writers were hardly in each other's way: {driven_out}"
    stream.finish(lake)
    stream.judge("two writers", lake, began, driven_out=driven_out)


def main():
    for scenario in (bad_bucket, full_disk, two_writers):
        with tempfile.TemporaryDirectory(prefix="flash-ledger-") as folder:
            scenario(folder)


main()
