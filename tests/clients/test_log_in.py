"""Every client logs in: by a name and a password, by a personal token, and not otherwise.

    FLASH=target/release/flash [FLASH_JDBC_DRIVER=flight-sql-jdbc-driver-18.3.0.jar] python test_log_in.py

`flash sql`, ADBC, and JDBC where its driver is there. Needs the packages of requirements.txt.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
from adbc_driver_flightsql import DatabaseOptions

from flight_sql import Client
from served import FLASH, serve

# Base64 of "name:password" ends with "==", "=" and nothing: some drivers leave that out.
USERS = {"ann": "a long password", "bob": "a long password!", "cat": "a long password!!"}


def make_users(url):
    client = Client(url)
    client.update("CREATE USER root PASSWORD 'the very first one' ROLE admin")
    client.log_in("root", "the very first one")
    tokens = {}
    for name, password in USERS.items():
        client.update(f"CREATE USER {name} PASSWORD '{password}'")
        told = str(client.rows(f"CREATE TOKEN t FOR {name}"))
        tokens[name] = re.search(r"flash_[0-9a-f]+", told)[0]
    return tokens


def adbc(url, **options):
    try:
        with flight_sql.connect(url, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
            return cursor.execute("SELECT current_user").fetchone()[0]
    except flight_sql.Error as error:
        return error.status_code.name


def by_adbc(url, tokens):
    header = lambda token: {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token}"}
    for name, password in USERS.items():
        assert adbc(url, username=name, password=password) == name, name
        assert adbc(url, **header(tokens[name])) == name, name
    for wrong in ({}, {"username": "ann", "password": "not it"}, header("flash_0"), header("0" * 64)):
        assert adbc(url, **wrong) == "UNAUTHENTICATED", wrong


def by_flash(url, tokens):
    command = [FLASH, "sql", "--server", url, "-c", "SELECT current_user AS me"]

    def told(*more, **environment):
        done = subprocess.run([*command, *more], env={**os.environ, **environment}, capture_output=True, text=True)
        return done.stdout.split() if done.returncode == 0 else done.stderr

    for name, password in USERS.items():
        assert told("--user", name, FLASH_PASSWORD=password)[-1] == name, name
        assert told(FLASH_TOKEN=tokens[name])[-1] == name, name
    assert "say who you are" in told()
    assert "is wrong" in told("--user", "ann", FLASH_PASSWORD="not it")


def by_jdbc(url, tokens, driver):
    program = Path(__file__).parent / "jdbc" / "LogIn.java"
    where = f"jdbc:arrow-flight-sql://{url.removeprefix('grpc://')}/?useEncryption=false"
    command = ["java", "--add-opens=java.base/java.nio=ALL-UNNAMED", "-cp", driver, program, where]
    done = subprocess.run([*command, "bob", USERS["bob"], tokens["bob"]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ways = dict(line.split(" | ", 1) for line in done.stdout.splitlines())
    refused = {way: ways.pop(way) for way in ("nothing", "wrong password", "wrong token")}
    assert all(text.startswith("refused: ") for text in refused.values()), refused
    assert len(ways) == 4 and set(ways.values()) == {"bob"}, ways


def main():
    passed = 0
    with tempfile.TemporaryDirectory() as folder, serve(folder, {"public/t": "CREATE TABLE public.t (n BIGINT)"}) as server:
        tokens = make_users(server.url)
        clients = {"flash sql": by_flash, "ADBC": by_adbc}
        if driver := os.environ.get("FLASH_JDBC_DRIVER"):
            clients["JDBC"] = lambda url, tokens: by_jdbc(url, tokens, driver)
        else:
            print("skipped: JDBC needs FLASH_JDBC_DRIVER")
        for client, logs_in in clients.items():
            logs_in(server.url, tokens)
            passed += 1
            print(f"ok  {client} logs in by password and by token", flush=True)
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
