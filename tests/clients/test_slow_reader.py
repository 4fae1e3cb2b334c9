"""Ten million rows and clients that read slowly, or not at all: what that costs the server, and what is left behind.

    FLASH=target/release/flash python test_slow_reader.py [--rows 10000000]

1. A reader takes one batch now and then: the server's memory stays within ONE_MB of what it was, others are answered
   meanwhile, and one of them reads the whole result.
2. Readers that stopped reading hold every turn that there is: within ALL_MB. The next statement waits; when a reader is
   killed it is answered at once, and the result is gone.
3. When the others are killed too, all turns are free, and memory is what it was, within LEFT_MB.

Needs the packages of requirements.txt.
"""

import argparse
import concurrent.futures
import contextlib
import subprocess
import sys
import tempfile
import time

import pyarrow
from pyarrow import flight

from flight_sql import Client
from served import serve

# As `Limits::statements_max` has it.
TURNS = 64
# The result has some 50 bytes a row: 500 MB, much more than the buffers of a client and its connection take.
RESULT = "SELECT * FROM public.big"
SMALL = "SELECT value FROM range(0, 100000)"
# Three scans at a time, with what each reads ahead, and batches on their way: 140 to 160 MB.
ONE_MB = 200
# A scan that waits holds some 33 MB: what it has read ahead of its files.
ALL_MB = 48 * TURNS
LEFT_MB = 250
# A statement waits for its turn for ten seconds; one that is let in is answered much sooner.
AT_ONCE_S = 3
# Freed memory goes back to the system soon, so that what is resident is what is held.
ENVIRONMENT = {"_RJEM_MALLOC_CONF": "background_thread:true,dirty_decay_ms:500,muzzy_decay_ms:0"}


def make_table(folder, rows):
    """With a server of its own, whose memory does not count."""
    columns = "value AS id, value % 1000 AS k, CAST(value AS DECIMAL(12, 2)) AS amount, 'text of row ' || value AS text"
    with serve(folder, {"public/none": "CREATE TABLE public.none (n BIGINT)"}) as server:
        Client(server.url).update(f"CREATE TABLE public.big AS SELECT {columns} FROM generate_series(1, {rows})")


def count(reader):
    return sum(chunk.data.num_rows for chunk in reader)


def one_slow_reader(server, rows):
    client, other = Client(server.url), Client(server.url)
    assert client.rows("SELECT count(*) FROM public.big") == [(rows,)]
    before = server.memory()
    slow = client.fetch(client.execute(RESULT))
    read, answered, most = 0, 0, 0
    with concurrent.futures.ThreadPoolExecutor() as pool:
        whole = pool.submit(lambda: count(other.fetch(other.execute(RESULT))))
        while not whole.done():
            read += slow.read_chunk().data.num_rows
            assert client.rows(f"SELECT count(*) FROM public.big WHERE id <= {answered}") == [(answered,)]
            answered, most = answered + 1, max(most, server.memory())
        assert whole.result() == rows
    assert answered > 3 and read < rows / 2, (answered, read)
    assert most - before < ONE_MB, f"{before:.0f} MB became {most:.0f}"
    assert read + count(slow) == rows
    return f"{before:.0f} MB became at most {most:.0f}; {answered} statements meanwhile, {read} rows read"


@contextlib.contextmanager
def readers(url, infos):
    """A process that fetches these results, reads one batch of each, and no more."""
    process = subprocess.Popen([sys.executable, __file__, "--hold", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdin.write(b"".join(info.serialize().hex().encode() + b"\n" for info in infos) + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def hold(url):
    held = []
    for line in iter(sys.stdin.readline, "\n"):
        client = Client(url)
        reader = client.fetch(flight.FlightInfo.deserialize(bytes.fromhex(line)))
        reader.read_chunk()
        held.append((client, reader))
    print("held", flush=True)
    sys.stdin.read()


def gone(client, info):
    try:
        client.cancel(info)
    except pyarrow.lib.ArrowKeyError:
        return True
    return False


def every_turn(server):
    client = Client(server.url)
    before = server.memory()
    infos = [client.execute(RESULT) for _ in range(TURNS)]
    with concurrent.futures.ThreadPoolExecutor() as pool, readers(server.url, infos[1:]):
        with readers(server.url, infos[:1]) as one:
            held = server.memory() - before
            assert held < ALL_MB, f"{held:.0f} MB for {TURNS} readers"
            waiting = pool.submit(lambda: client.rows("SELECT 1"))
            assert not concurrent.futures.wait([waiting], timeout=1).done, "there was a turn left"
            one.kill()
            killed = time.monotonic()
            assert waiting.result() == [(1,)]
            took = time.monotonic() - killed
        assert took < AT_ONCE_S, f"a turn came free after {took:.1f} s"
        assert gone(client, infos[0]), "the result of a reader that was killed"
    # They are all let in when all that were killed are out.
    with readers(server.url, [client.execute(SMALL) for _ in range(TURNS)]):
        pass
    assert all(gone(client, info) for info in infos)
    end = time.monotonic() + AT_ONCE_S
    while (left := server.memory() - before) > LEFT_MB and time.monotonic() < end:
        client.rows("SELECT 1")
    assert left < LEFT_MB, f"{left:.0f} MB are left of {held:.0f}"
    return f"{TURNS} readers held {held:.0f} MB; the waiting one was let in after {took * 1000:.0f} ms; {left:.0f} MB left"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--hold", metavar="URL")
    chosen = parser.parse_args()
    if chosen.hold:
        return hold(chosen.hold)
    with tempfile.TemporaryDirectory() as folder:
        make_table(folder, chosen.rows)
        with serve(folder, {}, **ENVIRONMENT) as server:
            print(f"ok  one slow reader: {one_slow_reader(server, chosen.rows)}", flush=True)
            print(f"ok  no turn left: {every_turn(server)}", flush=True)
    print("2 passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
