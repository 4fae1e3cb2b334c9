"""kill -9 of a `flash` at work: at a random moment, or just before a chosen system call.

    object P of the lake:   write P#1 ──▶ linkat P#1 P ──▶ unlink P#1         records, Delta commits
                            write P#1 ──▶ rename P#1 P                        data and state files
                                        ▲ before         ▲ after, P is there

strace stops the process as it enters the call and sends SIGKILL, so that the call is never carried out. Which step of
the epoch protocol that was is read from the lake, not from what was aimed at:

    between epochs ─epochs/E─▶ 1 written down ─first commit─▶ 2 committing ─last─▶ 3 all committed ─published/E─▶
"""

import collections
import os
import random
import re
import shutil
import signal
import subprocess
import time

from pyarrow import fs

STEPS = ["between epochs", "1 written down", "2 committing", "3 all committed"]
EPOCHS, PUBLISHED = "_flash/epochs", "_flash/published"
BRONZE, SILVER = "bronze/events/_delta_log", "silver/events/_delta_log"
GOLD = ["kpis", "shop_cube", "profit_by_product", "revenue_by_city", "sales_by_minute"]
# What no event changes, so that epochs make no commit to it.
STILL = ["gold/places"]
# What is killed at in a round, in this order: the next object of a folder, or (None) some data or state file.
# Where an epoch was left unfinished, the next object is that of its recovery.
POINTS = [
    (EPOCHS, "before"), (EPOCHS, "after"), (BRONZE, "before"), (BRONZE, "after"), (SILVER, "after"), ("gold", "before"),
    (PUBLISHED, "before"), (PUBLISHED, "before"), (PUBLISHED, "after"), (None, "before"),
]  # fmt: skip
# A call that an architecture does not have is passed over.
CALLS = {"before": "linkat", "after": "?unlink,unlinkat", "data": "?rename,?renameat,renameat2"}
# Where an earlier kill left P#1 behind, P#2 is written.
STAGED = ["#1", "#2", "#3", "#4"]
ROUNDS_MAX = 12
# Of a start that is to be killed at a chosen call, in seconds.
START_MAX = 60


class Lake:
    """A lake as flash names it, and its files as we see them."""

    def __init__(self, url, files=None, root=None):
        self.url, self.files, self.root = url, files or fs.LocalFileSystem(), root or url

    def names(self, folder):
        found = self.files.get_file_info(fs.FileSelector(f"{self.root}/{folder}", allow_not_found=True))
        return sorted(info.base_name for info in found)

    def lines(self, path):
        with self.files.open_input_stream(f"{self.root}/{path}") as file:
            return file.read().decode().splitlines()


def strace(calls, when, paths, command):
    """Run the command up to a call. Not with --seccomp-bpf, which stops where no signal is taken."""
    aim = [flag for path in paths for flag in ("-P", path)]
    inject = f"inject={calls}:signal=KILL:when={when}"
    return ["strace", "-f", "-qq", "-o", "/dev/null", *aim, "-e", f"trace={calls}", "-e", inject, *command]


def why_not(folder):
    """Why no system call can be chosen here, or None."""
    if not shutil.which("strace"):
        return "strace is not installed"
    old, new = f"{folder}/old", f"{folder}/new"
    open(old, "w").close()
    done = subprocess.run(strace("linkat", "1", [new], ["ln", old, new]), capture_output=True, text=True)
    if done.returncode == -signal.SIGKILL and not os.path.exists(new):
        return None
    said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
    return f"strace cannot kill: {said[0]}"


def newest(lake, folder):
    names = (name for name in lake.names(folder) if name.endswith(".json"))
    return max((int(re.sub(r"\D", "", name)) for name in names), default=0)


def step(lake):
    """In which step of the protocol the process died."""
    epoch = newest(lake, EPOCHS)
    if epoch == newest(lake, PUBLISHED):
        return STEPS[0]
    layers = ("bronze", "silver", "gold")
    tables = [f"{layer}/{table}" for layer in layers for table in lake.names(layer) if not table.endswith("_quarantine")]
    logs = [f"{table}/_delta_log" for table in tables if table not in STILL]
    committed = 0
    for log in logs:
        entries = [name for name in lake.names(log) if name.endswith(".json")][-3:]
        lines = (line for name in entries for line in lake.lines(f"{log}/{name}"))
        committed += any(f'"version":{epoch}' in line for line in lines if '"txn"' in line)
    return STEPS[1] if committed == 0 else STEPS[3] if committed == len(logs) else STEPS[2]


def at_random(command, lake, env, kills):
    """Start and kill after a random while, so many times or until it ends by itself; what was met, by step.

    The while begins with the process (which kills starts and recoveries) and with its first epoch in turn.
    """
    steps = collections.Counter()
    for turn in range(kills):
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = newest(lake, EPOCHS)
        while turn % 2 and newest(lake, EPOCHS) == before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(random.uniform(0.01, 0.3))
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        steps[step(lake)] += 1
    return steps


def at_calls(command, lake, env, at_least):
    """Start and kill at chosen calls, until every step was met so often; what was met, by step."""
    steps = collections.Counter()
    for _ in range(ROUNDS_MAX):
        for folder, when in POINTS:
            done = subprocess.run(
                aimed(lake, folder, when, command), env=env, capture_output=True, text=True, timeout=START_MAX
            )
            assert done.returncode != 0, f"it ended before {folder} came: too few events"
            assert done.returncode == -signal.SIGKILL, done.stderr
            steps[step(lake)] += 1
        if all(steps[name] >= at_least for name in STEPS):
            return steps
    raise AssertionError(f"{ROUNDS_MAX} rounds have not met every step {at_least} times: {dict(steps)}")


def aimed(lake, folder, when, command):
    """The command, to be killed before or after the next object of the folder is in place."""
    if folder is None:
        # Counted in each thread by itself.
        return strace(CALLS["data"], random.randint(1, 6), [], command)
    if folder == "gold":
        folder = f"gold/{random.choice(GOLD)}/_delta_log"
    path = f"{lake.root}/{folder}/{newest(lake, folder) + 1:020}.json"
    paths = [path] if when == "before" else [path + staged for staged in STAGED]
    return strace(CALLS[when], "1", paths, command)
