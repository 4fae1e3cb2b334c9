"""`flash plan` and `flash apply` against a running server, which goes on serving and refreshing meanwhile.

    FLASH=target/release/flash python test_apply_server.py

    flash run --no-project ──serves──▶ a reader, all the time: one project or the other, never a mixture
         ▲                  ▲
         │ ApplyProject     └ kill -9 in the middle, started again
    flash apply --server, A and B in turn, now and then killed itself    =  a lake that never had A

Needs pyarrow.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

import pyarrow.flight as flight
from served import start
from test_apply import FLASH, Reader, both, contents, flash, project_b

EVENTS = 20_000
ROUNDS = 12
PASSWORD = "correct horse battery"


def ends(code, *arguments, **environment):
    """What it said, and that it ended so."""
    command = [FLASH, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == code, f"flash {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def plans(url, lake, b):
    """A plan is the same from both sides, and nothing but it is done."""
    here = json.loads(ends(2, "plan", "--project", b, "--lake", lake, "--json"))
    there = json.loads(ends(2, "plan", "--project", b, "--server", url, "--json"))
    assert here == there, (here, there)
    assert "plan 00000000" in ends(4, "apply", "--project", b, "--server", url, "--yes", "--plan", "00000000")
    assert "nobody is there to be asked" in ends(2, "apply", "--project", b, "--server", url)
    broken = f"{b}-broken"
    shutil.copytree(b, broken)
    with open(f"{broken}/gold/kpis.sql", "a") as file:
        file.write(";\nCREATE POLICY p ON gold.kpis USING (shop = 1)")
    told = ends(2, "apply", "--project", broken, "--server", url, "--yes")
    assert "gold/kpis.sql:" in told and "shop" in told, told
    return there["id"]


def in_turn(url, projects):
    """Apply one after the other; some clients are killed, which changes nothing: the server finishes what it began."""
    killed, whole_s = 0, None
    for turn in range(ROUNDS):
        command = [FLASH, "apply", "--project", projects[turn % 2], "--server", url, "--yes"]
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            code = process.wait(random.uniform(0.2, 0.9) * whole_s if turn % 2 else None)
            assert code == 0, process.stderr.read()
            whole_s = time.monotonic() - started
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
    return killed


def killed_servers(run, b, a):
    """The server is killed in the middle of an apply; the next one goes on with what was begun."""
    killed = 0
    for project in (b, a, b, a):
        with start(run) as server:
            command = [FLASH, "apply", "--project", project, "--server", server.url, "--yes"]
            client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            time.sleep(random.uniform(0.02, 0.25))  # not waiting for anything: the moment of the kill is the test
            server.kill()
            told = client.communicate()[1]
            killed += client.returncode != 0 and "no server answers" not in told
    return killed


def administered(url, project):
    """With users, only administrators plan and apply, and the audit log tells who did."""
    flash("sql", "--server", url, "-c", f"CREATE USER root PASSWORD '{PASSWORD}' ROLE admin")
    root = {"FLASH_USER": "root", "FLASH_PASSWORD": PASSWORD}
    ends(0, "sql", "--server", url, "-c", f"CREATE ROLE seller; CREATE USER asha PASSWORD '{PASSWORD}' ROLE seller", **root)
    asha = {"FLASH_USER": "asha", "FLASH_PASSWORD": PASSWORD}
    assert "asha may not" in ends(2, "plan", "--project", project, "--server", url, **asha)
    assert "asha may not" in ends(2, "apply", "--project", project, "--server", url, "--yes", **asha)
    # Not by way of a plan: no files at all would be the end of everything.
    client = flight.FlightClient(url)
    options = flight.FlightCallOptions(headers=[client.authenticate_basic_token("asha", PASSWORD)])
    try:
        list(client.do_action(flight.Action("ApplyProject", b""), options))
        raise AssertionError("asha has applied a project")
    except flight.FlightUnauthorizedError as error:
        assert "asha may not" in str(error), error
    client.close()
    assert "say who you are" in ends(2, "plan", "--project", project, "--server", url)
    ends(0, "apply", "--project", project, "--server", url, "--yes", **root)
    query = "SELECT user_name, outcome FROM system.audit_log WHERE statement LIKE '(%a project%' ORDER BY at"
    told = json.loads(ends(0, "sql", "--server", url, "--format", "json", "-c", query, **root))
    assert [tuple(row.values()) for row in told] == [("asha", "denied")] * 3 + [("root", "done")], told


def main():
    random.seed(7)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flash-apply-") as folder:
        a, events, lake = f"{folder}/a", f"{folder}/events.jsonl", f"{folder}/lake"
        shutil.copytree("sql", a)
        b = project_b(f"{folder}/b", a)
        flash("simulate", "--events", EVENTS, "--seed", "5", "--out", events)
        source = ["--source", f"raw.events=jsonl:{events}"]
        for project, where in ((a, lake), (b, f"{folder}/fresh")):
            flash("run", "--project", project, "--lake", where, "--until-caught-up", *source)
        of = {both("--lake", where) for where in (lake, f"{folder}/fresh")}
        assert len(of) == 2, of
        run = [FLASH, "run", "--no-project", "--lake", lake, *source]

        with start(run) as server:
            plan = plans(server.url, lake, b)
            reader = Reader("--server", server.url)
            reader.start()
            told = json.loads(flash("apply", "--project", b, "--server", server.url, "--yes", "--plan", plan, "--json"))
            assert told["id"] == plan and told["built"] and all(view["error"] is None for view in told["built"]), told
            clients = in_turn(server.url, [a, b])
            flash("apply", "--project", a, "--server", server.url, "--yes")
            answers = reader.end()
            assert set(answers) == of, f"a mixture, or one of the two was never seen: {answers}; {of}"
        servers = killed_servers(run, b, a)
        assert clients and servers, (clients, servers)

        with start(run) as server:
            flash("apply", "--project", b, "--server", server.url, "--yes")
            assert json.loads(flash("apply", "--project", b, "--server", server.url, "--yes", "--json"))["changes"] == []
            wanted, found = contents(f"{folder}/fresh"), contents(lake)
            assert wanted == found, [view for view in wanted if wanted[view] != found.get(view)]
            administered(server.url, a)
        print(json.dumps({"clients killed": clients, "servers killed": servers, "seconds": round(time.monotonic() - began)}))
    print("1 passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
