"""Running one system in a process of its own: wall clock, peak resident memory, CPU time, bytes written.

Start-up of a peer's interpreter or JVM is not counted against it: a peer's script times its own work. Flash is
timed as a whole process, from exec to exit. Peak memory is that of the largest process.
"""

import json
import os
import shutil
import statistics
import subprocess
import time

from . import figures, setup

PEERS = os.path.dirname(os.path.abspath(__file__))
SECONDS_MAX = 3600


def warm(path):
    """Have the input in the page cache; the number of its lines."""
    lines = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            lines += block.count(b"\n")
    return lines


def flash(binary, path, out):
    command = [binary, "run", "--project", os.path.join(setup.REPOSITORY, "sql"), "--lake", out]
    command += ["--source", f"raw.events=jsonl:{path}", "--until-caught-up"]
    result, _ = run(command, out)
    result["figures"] = figures.of_lake(binary, out)
    return result


def peer(python, name, path, out, bronze):
    command = [python, os.path.join(PEERS, f"{name}_peer.py"), path, out, "bronze" if bronze else "no-bronze"]
    result, stdout = run(command, out)
    said = json.loads(stdout.splitlines()[-1])
    return {**result, "seconds": said["seconds"], "process_seconds": result["seconds"], "figures": said["figures"]}


def run(command, out):
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    log_path = out + ".log"
    with open(log_path, "w") as log:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        stdout = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = "".join(open(log_path).readlines()[-20:])
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}\n{tail}")
    result = {
        "seconds": seconds,
        "rss_bytes": usage.ru_maxrss * 1024,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "written_bytes": size(out),
    }
    return result, stdout


def size(folder):
    paths = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sum(os.path.getsize(path) for path in paths)


def median(runs):
    keys = ("seconds", "rss_bytes", "cpu_seconds", "written_bytes")
    return {**{key: statistics.median(run[key] for run in runs) for key in keys}, "figures": runs[0]["figures"]}
