"""A statement that computes for very long keeps nobody else waiting, and is cancelled at once.

    FLASH=target/release/flash python test_busy.py

Joins without an equality compute for seconds between two batches. As many of them run as the server has cores; meanwhile
others log in and are answered, and one of them cancels.

Needs the packages of requirements.txt.
"""

import os
import sys
import tempfile
import threading
import time

from pyarrow import flight

from flight_sql import Client
from served import serve

LONG = "SELECT sum(a.value * b.value) FROM range(0, 300000) AS a, range(0, 300000) AS b"
ANSWERED_S = 5


def computing(client, info, started, ended):
    started.set()
    try:
        for _ in client.fetch(info):
            pass
        ended.append("to its end")
    except flight.FlightCancelledError:
        ended.append("cancelled")


def main():
    with tempfile.TemporaryDirectory() as folder, serve(folder, {"public/t": "CREATE TABLE public.t (n BIGINT)"}) as server:
        infos, threads, ended = [], [], []
        for _ in range(os.cpu_count()):
            client, started = Client(server.url), threading.Event()
            infos.append(client.execute(LONG))
            threads.append(threading.Thread(target=computing, args=(client, infos[-1], started, ended), daemon=True))
            threads[-1].start()
            started.wait()
        before = time.monotonic()
        while time.monotonic() - before < 3:
            other = Client(server.url)
            assert other.fetch(other.execute("SELECT 1", timeout=ANSWERED_S), timeout=ANSWERED_S).read_all().num_rows == 1
        assert not ended, ended
        print("ok  others are answered", flush=True)
        before = time.monotonic()
        for info in infos:
            other.cancel(info)
        [thread.join(ANSWERED_S) for thread in threads]
        assert ended == ["cancelled"] * len(infos), ended
        print(f"ok  cancelled after {time.monotonic() - before:.1f} s")
    print("2 passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
