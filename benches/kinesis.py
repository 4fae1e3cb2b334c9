#!/usr/bin/env python3
"""What the Kinesis consumer costs: many shards full of records, and many shards with nothing new.

    benches/kinesis.py                                 500,000 records in 64 shards
    benches/kinesis.py --records 50000 --shards 8      a quick look

    flash simulate ─▶ flash kinesis (a process of its own) ◀─┬─ flash run, one view that keeps nothing: the consumer alone
                                                             ├─ flash run, all of sql/: with the whole way to gold
                                                             └─ flash run, nothing new: calls and CPU while idle

CPU is that of `flash run`; the endpoint's own is told beside it, since both share the cores.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

from peers import setup

sys.path.insert(0, os.path.join(setup.REPOSITORY, "tests", "clients"))
import kinesis  # noqa: E402
import proxy  # noqa: E402

STREAM = "events"
# Every record is read and made a row of, and none is kept.
NOTHING = "CREATE MATERIALIZED VIEW s.nothing AS SELECT _shard_id FROM raw.events WHERE _sub_sequence < 0"
IDLE_S = 20


def endpoint_of(flash, shards):
    before = set(os.listdir("/proc"))
    endpoint = kinesis.start(flash, STREAM, shards)
    new = [pid for pid in set(os.listdir("/proc")) - before if pid.isdigit()]
    server = next(pid for pid in new if b"kinesis" in open(f"/proc/{pid}/cmdline", "rb").read())
    return endpoint, server


def cpu_of(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def projects(folder):
    os.makedirs(f"{folder}/alone/raw")
    os.makedirs(f"{folder}/alone/s")
    shutil.copy(os.path.join(setup.REPOSITORY, "sql", "raw", "events.sql"), f"{folder}/alone/raw/events.sql")
    with open(f"{folder}/alone/s/nothing.sql", "w") as file:
        file.write(NOTHING)
    return {"the consumer alone": f"{folder}/alone", "the whole way to gold": os.path.join(setup.REPOSITORY, "sql")}


def run(chosen, folder, project, lake, endpoint, *more):
    env = {**os.environ, **kinesis.ENVIRONMENT, "AWS_ENDPOINT_URL_KINESIS": endpoint}
    command = [chosen.flash, "run", "--project", project, "--lake", f"{folder}/{lake}", *more]
    command += ["--source", f"raw.events=kinesis:{STREAM}"]
    with open(f"{folder}/said", "w") as said:
        return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=said)


def full(chosen, folder, endpoint, server, size):
    print(f"{'':<24} {'seconds':>8} {'records/s':>10} {'MB/s':>7} {'us CPU a record':>16} {'endpoint, us':>13}")
    for nth, (what, project) in enumerate(projects(folder).items()):
        before, served, began = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_of(server), time.monotonic()
        if run(chosen, folder, project, f"lake{nth}", endpoint, "--until-caught-up").wait() != 0:
            with open(f"{folder}/said") as said:
                sys.exit(f"{what}: {said.read()}")
        seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        served = cpu_of(server) - served
        n = chosen.records
        print(f"{what:<24} {seconds:8.2f} {n / seconds:10,.0f} {size / seconds / 1e6:7.1f} {cpu / n * 1e6:16.2f} {served / n * 1e6:13.2f}")


def idle(chosen, folder, endpoint):
    counting = proxy.Proxy(endpoint)
    process = run(chosen, folder, f"{folder}/alone", "lake0", counting.url, "--http", "127.0.0.1:0", "--flight", "127.0.0.1:0")
    time.sleep(5)
    calls, cpu = counting.calls.copy(), cpu_of(process.pid)
    time.sleep(IDLE_S)
    calls, cpu = counting.calls - calls, cpu_of(process.pid) - cpu
    process.kill()
    process.wait()
    each = ", ".join(f"{operation} {count / IDLE_S:.1f}" for operation, count in calls.items())
    print(f"\n{chosen.shards} idle shards: {cpu / IDLE_S * 100:.1f} % of a core; calls a second: {each}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--flash", default=setup.flash_binary())
    chosen = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="flash-kinesis-")
    try:
        endpoint, server = endpoint_of(chosen.flash, chosen.shards)
        put = [chosen.flash, "simulate", "--events", str(chosen.records), "--stream", STREAM, "--endpoint-url", endpoint]
        env = {**os.environ, **kinesis.ENVIRONMENT}
        began = time.monotonic()
        subprocess.run(put, env=env, check=True, capture_output=True)
        print(f"put: {chosen.records / (time.monotonic() - began):,.0f} records/s into {chosen.shards} shards\n")
        sizes = setup.events(chosen.flash, chosen.records, 1, folder)
        full(chosen, folder, endpoint, server, os.path.getsize(sizes))
        idle(chosen, folder, endpoint)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
