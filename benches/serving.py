#!/usr/bin/env python3
"""Many clients at once, and one large result beside a plain Arrow Flight stream of the same batches.

    benches/serving.py                                  about six minutes
    benches/serving.py --minutes 0.1 --events 50000 --rows 1000000     a quick look

    flash demo, with its live traffic ◀── 64 connections: queries of the gold views, one after the other
         │  one large result             how long each took, how many a second; memory and CPU of the server
         └──▶ its batches ──▶ a minimal Flight server ──▶ the same client: rows and MB a second of both, in turns

The tables are Markdown. The clients run on the same cores, in processes of their own.
"""

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from peers import setup

PACKAGES = ("pyarrow==26.0.1",)
QUERIES = {
    "key figures": "SELECT * FROM gold.kpis",
    "one seller": "SELECT * FROM gold.kpis WHERE seller_id = (SELECT min(seller_id) FROM gold.kpis)",
    "totals": "SELECT sum(revenue) AS revenue, sum(profit) AS profit, sum(views) AS views FROM gold.kpis",
    "top products": "SELECT * FROM gold.top_products",
    "best cities": "SELECT city, sum(revenue) AS revenue FROM gold.revenue_by_city GROUP BY city ORDER BY 2 DESC LIMIT 10",
    "funnel": "SELECT * FROM gold.conversion_funnel ORDER BY views DESC LIMIT 20",
    "the last day by minute": "SELECT minute, sum(revenue) AS revenue FROM gold.sales_by_minute "
    "WHERE day = (SELECT max(day) FROM gold.sales_by_minute) GROUP BY minute ORDER BY minute",
    "carts left by seller": "SELECT seller_id, count(*) AS carts, sum(cart_value) AS value FROM gold.abandoned_carts "
    "GROUP BY seller_id ORDER BY 3 DESC LIMIT 20",
}
# Connections in one process of clients.
THREADS = 8
ROUNDS = 3


def one_client(url, number, pause, end, took, errors):
    from flight_sql import Client

    client, names = Client(url), list(QUERIES)
    time.sleep(pause * (number * 0.618 % 1))  # people do not click at once
    while time.monotonic() < end:
        name = names[number % len(names)]
        number += 1
        started = time.monotonic()
        try:
            client.query(QUERIES[name])
            took.append((name, time.monotonic() - started))
        except Exception as error:  # every failure counts, whatever it is
            errors.append(f"{name}: {type(error).__name__}: {error}")
        if pause:
            time.sleep(pause)


def some_clients(url, numbers, pause, seconds, answers, begin):
    took, errors = [], []
    begin.wait()
    end = time.monotonic() + seconds
    arguments = [(url, number, pause, end, took, errors) for number in numbers]
    threads = [threading.Thread(target=one_client, args=each) for each in arguments]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    answers.put((took, errors))


def many_clients(server, clients, pause, seconds):
    context = multiprocessing.get_context("spawn")
    groups = [range(at, min(at + THREADS, clients)) for at in range(0, clients, THREADS)]
    answers, begin = context.Queue(), context.Barrier(len(groups) + 1)
    arguments = [(server.url, numbers, pause, seconds, answers, begin) for numbers in groups]
    processes = [context.Process(target=some_clients, args=each) for each in arguments]
    [process.start() for process in processes]
    begin.wait()
    started, cpu = time.monotonic(), cpu_seconds(server)
    forget_peak(server)
    found = [answers.get() for _ in groups]
    elapsed = time.monotonic() - started
    cpu = cpu_seconds(server) - cpu
    [process.join() for process in processes]
    took = [one for part, _ in found for one in part]
    errors = [error for _, part in found for error in part]
    return took, errors, elapsed, cpu


def cpu_seconds(server):
    with open(f"/proc/{server.process.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def forget_peak(server):
    with open(f"/proc/{server.process.pid}/clear_refs", "w") as file:
        file.write("5")


def percentiles(seconds):
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    return [1000 * value for value in (cuts[49], cuts[94], cuts[98], max(seconds))]


def latencies(server, chosen):
    seconds = chosen.minutes * 60
    runs = [(1, 0, seconds / 6), (chosen.clients, 1, seconds / 3), (chosen.clients, 0, seconds)]
    print("| clients | between queries | queries | queries/s | p50 ms | p95 ms | p99 ms | max ms | errors "
          "| server: cores | peak MB |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for clients, pause, length in runs:
        took, errors, elapsed, cpu = many_clients(server, clients, pause, length)
        times = " | ".join(f"{ms:,.1f}" for ms in percentiles([one for _, one in took]))
        line = f"| {clients} | {pause} s | {len(took):,} | {len(took) / elapsed:,.0f} | {times} | {len(errors)} |"
        print(f"{line} {cpu / elapsed:.2f} | {server.memory('VmHWM'):,.0f} |", flush=True)
        for error in errors[:3]:
            print(f"    {error}", file=sys.stderr)
    print(f"\n| of the last line | p50 ms | p95 ms | p99 ms | max ms |\n|---|--:|--:|--:|--:|")
    for name in QUERIES:
        times = " | ".join(f"{ms:,.1f}" for ms in percentiles([one for which, one in took if which == name]))
        print(f"| {name} | {times} |")


def plain_server(path, ready):
    """Arrow Flight and nothing else: the batches of a file, which are in memory."""
    import pyarrow
    from pyarrow import flight

    with pyarrow.OSFile(path, "rb") as file, pyarrow.ipc.open_file(file) as reader:
        batches = [reader.get_batch(at) for at in range(reader.num_record_batches)]
    table = pyarrow.Table.from_batches(batches)

    class Plain(flight.FlightServerBase):
        def do_get(self, context, ticket):
            return flight.RecordBatchStream(table)

    server = Plain("grpc://127.0.0.1:0")
    ready.send(server.port)
    server.serve()


def read(reader):
    rows = size = 0
    for chunk in reader:
        rows, size = rows + chunk.data.num_rows, size + chunk.data.nbytes
    return rows, size


def timed(action):
    started = time.monotonic()
    rows, size = action()
    return time.monotonic() - started, rows, size


def large_result(server, name, sql, folder):
    """The median of some rounds, of both."""
    import pyarrow
    from pyarrow import flight

    from flight_sql import Client

    client = Client(server.url)
    path = f"{folder}/batches.arrow"
    reader = client.fetch(client.execute(sql))
    with pyarrow.OSFile(path, "wb") as file, pyarrow.ipc.new_file(file, reader.schema) as writer:
        for chunk in reader:
            writer.write_batch(chunk.data)
    receive, ready = multiprocessing.Pipe(duplex=False)
    plain = multiprocessing.get_context("spawn").Process(target=plain_server, args=(path, ready))
    plain.start()
    try:
        other = flight.FlightClient(f"grpc://127.0.0.1:{receive.recv()}")
        took = {"flash": [], "plain Flight": []}
        forget_peak(server)
        before = server.memory()
        for _ in range(ROUNDS):
            took["flash"].append(timed(lambda: read(client.fetch(client.execute(sql)))))
            took["plain Flight"].append(timed(lambda: read(other.do_get(flight.Ticket(b"")))))
    finally:
        plain.kill()
        plain.join()
        os.remove(path)
    for which, rounds in took.items():
        seconds, (_, rows, size) = statistics.median(one for one, _, _ in rounds), rounds[0]
        speed = f"{seconds:.2f} | {rows / seconds:,.0f} | {size / 1e6 / seconds:,.0f}"
        line = f"| {name} | {which} | {rows:,} | {size / 1e6:,.0f} | {speed} |"
        print(line + (f" {before:,.0f} to {server.memory('VmHWM'):,.0f} |" if which == "flash" else " |"), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--flash", default=setup.flash_binary())
    chosen = parser.parse_args()
    import served

    load = os.getloadavg()[0]
    shared = "" if load < 0.5 else ": machine shared"
    print(f"{os.cpu_count()} cores, load average {load:.2f} before the start{shared}\n")
    folder = tempfile.mkdtemp(prefix="flash-serving-")
    try:
        lake = f"{folder}/lake"
        demo = [chosen.flash, "demo", "--lake", lake, "--events", str(chosen.events)]
        subprocess.run([*demo, "--once"], check=True, capture_output=True)
        with served.start(demo) as server:
            latencies(server, chosen)
            print("\n| result | from | rows | MB | seconds | rows/s | MB/s | server: MB |\n|---|---|--:|--:|--:|--:|--:|--:|")
            large_result(server, "silver.events, from Parquet", "SELECT * FROM silver.events", folder)
            generated = f"SELECT value AS id, value * 3 AS amount, value % 7 AS day FROM range(0, {chosen.rows})"
            large_result(server, "numbers, computed", generated, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# (The processes of clients import this file, too.)
sys.path.insert(0, os.path.join(setup.REPOSITORY, "tests", "clients"))

if __name__ == "__main__":
    python = setup.environment(PACKAGES, "serving")
    if os.path.realpath(sys.prefix) != os.path.realpath(os.path.dirname(os.path.dirname(python))):
        os.execv(python, [python, *sys.argv])
    main()
