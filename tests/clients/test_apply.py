"""`flash apply` is killed again and again while others read: every answer is that of one project, never of a mixture.

    FLASH=target/release/flash python test_apply.py

    project A, applied ──▶ apply B ─kill─▶ apply A ─kill─▶ ... ──▶ apply B, whole  =  a lake that never had A
                             └── a reader, all the time: two views, both of A or both of B

Needs no package.
"""

import collections
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

FLASH = os.environ.get("FLASH", "target/release/flash")
EVENTS = 30_000
KILLS = 15
TURNS_MAX = 100
# Of the time to the next kill: how it starts, in seconds, and how it follows what an apply takes on this machine.
UNTIL_KILLED_MAX, SHRINK, GROW = 1.2, 0.9, 1.1
# Silver, and so every gold view above it, sees fewer events in project B.
SILVER = "silver/events.sql"
CHANGES = {
    SILVER: ("FROM bronze.events", "FROM bronze.events WHERE right(_sequence_number, 1) <> '7'"),
    "gold/top_products.sql": ("LIMIT 5", "LIMIT 7"),
    "gold/kpis.sql": ("count(*)                                                 AS events", "2 * count(*) AS events"),
}
BOTH = "SELECT (SELECT sum(events) FROM gold.kpis) AS events, (SELECT sum(views) FROM gold.conversion_funnel) AS views"


def flash(*arguments, **options):
    done = subprocess.run([FLASH, *map(str, arguments)], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"flash {arguments}: {done.returncode}\n{done.stderr}"
    return done.stdout


def ask(lake, query):
    return rows(query, "--lake", lake)


def rows(query, *place):
    return json.loads(flash("sql", *place, "--format", "json", "-c", query), parse_float=str)


def both(*place):
    return tuple(rows(BOTH, *place)[0].values())


def contents(lake):
    """Name of a view -> its rows in the order of their texts, without what only tells when they were written."""
    found = {}
    for view in json.loads(flash("status", "--lake", lake, "--json")):
        rows = ask(lake, f"SELECT * FROM {view['name']}")
        rows = ({key: value for key, value in row.items() if not key.startswith("_")} for row in rows)
        found[view["name"]] = sorted(json.dumps(row) for row in rows)
    return found


def project_b(folder, project):
    shutil.copytree(project, folder)
    for file, (old, new) in CHANGES.items():
        with open(f"{folder}/{file}") as opened:
            text = opened.read()
        assert old in text, f"{file} has no {old!r}"
        with open(f"{folder}/{file}", "w") as opened:
            opened.write(text.replace(old, new))
    os.remove(f"{folder}/gold/places.sql")
    return folder


class Reader(threading.Thread):
    """Asks, one question after the other, until it is told to stop."""

    def __init__(self, *place):
        super().__init__(daemon=True)
        self.place, self.answers, self.failed, self.stopped = place, collections.Counter(), None, threading.Event()

    def run(self):
        try:
            while not self.stopped.is_set():
                self.answers[both(*self.place)] += 1
        except Exception as error:
            self.failed = error

    def end(self):
        self.stopped.set()
        self.join()
        assert self.failed is None, self.failed
        return self.answers


def kill_applies(lake, projects):
    """Until enough were killed. An apply that goes back is far quicker than one that builds, and both are to be hit."""
    ended, until_killed = collections.Counter(), UNTIL_KILLED_MAX
    for turn in range(TURNS_MAX):
        if ended["killed"] == KILLS:
            break
        command = [FLASH, "apply", "--project", projects[turn % 2], "--lake", lake, "--yes"]
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            code = process.wait(random.uniform(0.02, until_killed))
            assert code == 0, process.stderr.read()
            ended["by itself"] += 1
            until_killed = SHRINK * (time.monotonic() - started)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            ended["killed"] += 1
            until_killed *= GROW
    return ended


def main():
    random.seed(5)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flash-apply-") as folder:
        a, events, lake = f"{folder}/a", f"{folder}/events.jsonl", f"{folder}/lake"
        shutil.copytree("sql", a)
        b = project_b(f"{folder}/b", a)
        flash("simulate", "--events", EVENTS, "--seed", "5", "--out", events)
        run = ["--until-caught-up", "--source", f"raw.events=jsonl:{events}"]
        flash("run", "--project", a, "--lake", lake, *run)
        flash("run", "--project", b, "--lake", f"{folder}/fresh", *run)
        of = {name: both("--lake", where) for name, where in (("A", lake), ("B", f"{folder}/fresh"))}
        assert of["A"][0] != of["B"][0] and of["A"][1] != of["B"][1], of

        reader = Reader("--lake", lake)
        reader.start()
        ended = kill_applies(lake, [b, a])
        flash("apply", "--project", b, "--lake", lake, "--yes")
        answers = reader.end()
        assert ended["killed"] == KILLS, f"not enough were killed: {ended}"
        assert set(answers) == set(of.values()), f"a mixture, or one of the two was never seen: {answers}; {of}"
        wanted, found = contents(f"{folder}/fresh"), contents(lake)
        assert wanted.keys() == found.keys(), (wanted.keys(), found.keys())
        for view, rows in wanted.items():
            assert rows and rows == found[view], f"{view} is not what a fresh lake holds"

        told = json.loads(flash("apply", "--project", b, "--lake", lake, "--yes", "--json"))
        assert told["changes"] == [] and told["built"] == [], told
        print(json.dumps({**ended, "answers": sum(answers.values()), "seconds": round(time.monotonic() - began)}))
    print("1 passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
