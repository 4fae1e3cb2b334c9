"""Every client logs in: by a name and a password, by a personal token, and not otherwise.

    FLASH=target/release/flash [FLASH_JDBC_DRIVER=jar:jar] python test_log_in.py

`flash sql`, ADBC, and JDBC where its driver is there; in the clear, and over TLS with an authority of one's own, without
which each of them refuses the server. Needs the packages of requirements.txt, and openssl for TLS.
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
from served import FLASH, certificates, serve

PROJECT = {"public/t": "CREATE TABLE public.t (n BIGINT)"}
# Base64 of "name:password" ends with "==", "=" and nothing: some drivers leave that out.
USERS = {"ann": "a long password", "bob": "a long password!", "cat": "a long password!!"}


def make_users(url, ca=None):
    client = Client(url, **({"tls_root_certs": Path(ca).read_bytes()} if ca else {}))
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


def by_adbc(url, tokens, ca):
    header = lambda token: {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token}"}
    trust = {DatabaseOptions.TLS_ROOT_CERTS.value: Path(ca).read_text()} if ca else {}
    for name, password in USERS.items():
        assert adbc(url, username=name, password=password, **trust) == name, name
        assert adbc(url, **header(tokens[name]), **trust) == name, name
    for wrong in ({}, {"username": "ann", "password": "not it"}, header("flash_0"), header("0" * 64)):
        assert adbc(url, **wrong, **trust) == "UNAUTHENTICATED", wrong
    if ca:
        assert adbc(url, username="ann", password=USERS["ann"]) == "IO", "a server that nobody vouches for"


def by_flash(url, tokens, ca):
    trust = ["--tls-ca", ca] if ca else []
    ask = [FLASH, "sql", "--server", url, "-c", "SELECT current_user AS me"]
    command = [*ask, *trust]

    def told(*more, **environment):
        done = subprocess.run([*command, *more], env={**os.environ, **environment}, capture_output=True, text=True)
        return done.stdout.split() if done.returncode == 0 else done.stderr

    for name, password in USERS.items():
        assert told("--user", name, FLASH_PASSWORD=password)[-1] == name, name
        assert told(FLASH_TOKEN=tokens[name])[-1] == name, name
    assert "say who you are" in told()
    assert "is wrong" in told("--user", "ann", FLASH_PASSWORD="not it")
    if ca:
        environment = {**os.environ, "FLASH_PASSWORD": USERS["ann"]}
        done = subprocess.run([*ask, "--user", "ann"], env=environment, capture_output=True, text=True)
        assert done.returncode != 0 and "--tls-ca" in done.stderr, done.stderr


def by_jdbc(url, tokens, ca, driver):
    program = Path(__file__).parent / "jdbc" / "LogIn.java"
    address = f"jdbc:arrow-flight-sql://{url.split('://')[1]}/"
    command = ["java", "--add-opens=java.base/java.nio=ALL-UNNAMED", "-cp", driver, program]

    def told(options):
        arguments = [address + options, "bob", USERS["bob"], tokens["bob"]]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return dict(line.split(" | ", 1) for line in done.stdout.splitlines())

    ways = told(f"?useEncryption=true&tlsRootCerts={ca}" if ca else "?useEncryption=false")
    refused = {way: ways.pop(way) for way in ("nothing", "wrong password", "wrong token")}
    assert all(text.startswith("refused: ") for text in refused.values()), refused
    assert len(ways) == 4 and set(ways.values()) == {"bob"}, ways
    for options in ("?useEncryption=true", "?useEncryption=false") if ca else ():
        assert all(text.startswith("refused: ") for text in told(options).values()), options


def log_in(clients, ca=None, **environment):
    with tempfile.TemporaryDirectory() as folder, serve(folder, PROJECT, **environment) as server:
        assert server.url.startswith("grpc+tls://") == bool(ca), server.url
        tokens = make_users(server.url, ca)
        for client, logs_in in clients.items():
            logs_in(server.url, tokens, ca)
            print(f"ok  {client} logs in by password and by token{', over TLS' if ca else ''}", flush=True)


def main():
    clients = {"flash sql": by_flash, "ADBC": by_adbc}
    drivers = [Path(jar) for jar in os.environ.get("FLASH_JDBC_DRIVER", "").split(":") if jar]
    for driver in drivers:
        version = driver.stem.removeprefix("flight-sql-jdbc-driver-")
        clients[f"JDBC {version}"] = lambda *server, driver=driver: by_jdbc(*server, driver)
    if not drivers:
        print("skipped: JDBC needs FLASH_JDBC_DRIVER")
    passed = len(clients)
    log_in(clients)
    with tempfile.TemporaryDirectory() as folder:
        if made := certificates(folder):
            ca, cert, key = made
            log_in(clients, ca, FLASH_TLS_CERT=cert, FLASH_TLS_KEY=key)
            passed += len(clients)
        else:
            print("skipped: log-in over TLS, which needs openssl")
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
