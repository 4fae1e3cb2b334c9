"""Plain pyarrow.flight against a running server.

    FLASH=target/release/flash python test_flight.py

1. What GetFlightInfo, GetSchema and Prepare announce is what DoGet gives, with rows and without.
2. Results come batch by batch, once; they are cancelled by their reader and by somebody else.
3. Statements, updates, parameters and ingestion, with the messages of Flight SQL made by hand; every error by its type.
4. Log-in: by handshake, by a name and a password with every call, by a personal token.

Needs the packages of requirements.txt.
"""

import base64
import datetime
import decimal
import sys
import tempfile

import pyarrow
import pyarrow.compute
from pyarrow import flight

from flight_sql import Client, any_of, message, parse
from served import serve

QUERIES = """
SELECT 1 AS one
SELECT 'a' AS text, NULL AS nothing, true AS flag, 0.5 AS half, CAST(1.5 AS DECIMAL(12, 2)) AS money
SELECT current_date AS day, CAST('2026-11-23T12:30:15.123456Z' AS TIMESTAMPTZ) AS moment, now() AS at
SELECT make_array(1, 2) AS list, named_struct('a', 1, 'b', 'x') AS struct, X'00FF' AS bytes
SELECT min(n) AS low, max(n) AS high, avg(n) AS mean, count(*) AS rows FROM public.typed
SELECT * FROM public.typed
SELECT t.n, u.word FROM public.typed AS t LEFT JOIN public.typed AS u ON t.n = u.n + 1
SELECT word, count(*) AS rows FROM public.typed GROUP BY ROLLUP (word)
SELECT n, row_number() OVER (ORDER BY n) AS place, lag(word) OVER (ORDER BY n) AS before FROM public.typed
SELECT * FROM information_schema.columns
EXPLAIN SELECT * FROM public.typed
"""

METADATA = {
    "CommandGetCatalogs": {},
    "CommandGetDbSchemas": {},
    "CommandGetTables": {5: True},
    "CommandGetTableTypes": {},
    "CommandGetSqlInfo": {},
    "CommandGetXdbcTypeInfo": {},
    "CommandGetPrimaryKeys": {3: "typed"},
}


# What pyarrow makes of gRPC's codes where it has no class of Flight's own.
NOT_FOUND, INVALID = pyarrow.lib.ArrowKeyError, pyarrow.ArrowInvalid


def raises(kind, words, action):
    """The action fails as it should."""
    try:
        answer = action()
    except Exception as error:
        assert type(error) is kind, f"{type(error).__name__} instead of {kind.__name__}: {error}"
        assert words in str(error), f"{words!r} is not in: {error}"
        return
    raise AssertionError(f"{kind.__name__} ({words}) was expected, and this came: {answer}")


TABLES = {
    "public/typed": "CREATE TABLE public.typed (n BIGINT, word VARCHAR, money DECIMAL(12, 2), at TIMESTAMP, day DATE)",
    "shop/orders": "CREATE TABLE shop.orders (n BIGINT)",
}


def prepare_tables(client):
    rows = "(1, 'one', 1.25, '2026-11-23T12:30:15.123456', '2026-11-23'), (2, NULL, NULL, NULL, NULL), (3, '', 0, NULL, NULL)"
    assert client.update(f"INSERT INTO public.typed VALUES {rows}") == 3


def announced(client):
    for sql in QUERIES.strip().splitlines():
        empty = f"SELECT * FROM ({sql}) WHERE false"
        for text in [sql] if sql.startswith("EXPLAIN") else [sql, empty]:
            info = client.execute(text)
            (endpoint,) = info.endpoints
            assert not endpoint.locations, "a location sends clients elsewhere"
            reader = client.fetch(info)
            prepared = client.prepare(text)
            schema = client.flight.get_schema(info.descriptor, client.options()).schema
            for told in (reader.schema, prepared.columns, schema, prepared.query().schema):
                assert info.schema.equals(told, check_metadata=True), f"{text}\n{info.schema}\nis not\n{told}"
            rows = reader.read_all()
            assert rows.schema.equals(info.schema) and (text != empty or rows.num_rows == 0), text
            rows.validate(full=True)
            prepared.close()
    for name, fields in METADATA.items():
        info = client.info(name, fields)
        reader = client.fetch(info)
        assert info.schema.equals(reader.schema), name
        assert reader.read_all().num_rows > 0 or name == "CommandGetPrimaryKeys", name
    assert client.rows("SELECT * FROM public.typed ORDER BY n") == [
        (1, "one", decimal.Decimal("1.25"), datetime.datetime(2026, 11, 23, 12, 30, 15, 123456), datetime.date(2026, 11, 23)),
        (2, None, None, None, None),
        (3, "", decimal.Decimal("0.00"), None, None),
    ]


MANY = "SELECT value AS n, 'number ' || value AS text FROM range(0, 1000000)"
LONG = "SELECT value AS n FROM range(0, 300000000)"


def batches(client):
    info = client.execute(MANY)
    reader, rows, total, parts = client.fetch(info), 0, 0, 0
    for chunk in reader:
        parts += 1
        rows += chunk.data.num_rows
        total += pyarrow.compute.sum(chunk.data["n"]).as_py()
        assert chunk.data.nbytes < 4 << 20, chunk.data.nbytes
    assert (rows, total) == (1_000_000, 1_000_000 * 999_999 // 2), (rows, total)
    assert parts > 10, parts
    raises(NOT_FOUND, "no result under this handle", lambda: client.fetch(info).read_all())


def drain(reader):
    """Chunk by chunk: what was cancelled, read_all() takes for Ctrl-C, and raises KeyboardInterrupt."""
    return sum(chunk.data.num_rows for chunk in reader)


def cancel(client, other):
    reader = client.fetch(client.execute(LONG))
    reader.read_chunk()
    reader.cancel()
    raises(flight.FlightCancelledError, "", lambda: drain(reader))
    info = client.execute(LONG)
    reader = client.fetch(info)
    reader.read_chunk()
    assert other.cancel(info) == {1: 1}
    raises(flight.FlightCancelledError, "the query was cancelled", lambda: drain(reader))
    raises(NOT_FOUND, "no such query is running", lambda: other.cancel(info))
    info = client.execute(LONG)
    assert other.cancel(info) == {1: 1}, "one that waits to be fetched"
    raises(NOT_FOUND, "no result under this handle", lambda: drain(client.fetch(info)))
    info = client.execute(LONG)
    raises(flight.FlightTimedOutError, "", lambda: drain(client.fetch(info, timeout=0.2)))
    assert client.rows("SELECT 1") == [(1,)]


def changes(client):
    prepared = client.prepare("SELECT n, word FROM public.typed WHERE n = ? AND word = ?")
    assert [str(field.type) for field in prepared.parameters] == ["int64", "string"] and not prepared.is_update
    for n, word, found in [(1, "one", [(1, "one")]), (1, "two", []), (2, None, [])]:
        values = pyarrow.table({"$1": [n], "$2": pyarrow.array([word], pyarrow.string())})
        rows = client.fetch(prepared.query(values)).read_all().to_pylist()
        assert [tuple(row.values()) for row in rows] == found
    prepared.close()
    raises(NOT_FOUND, "no prepared statement", prepared.query)
    prepared = client.prepare("INSERT INTO public.typed (n, word) VALUES ($1, $2)")
    assert prepared.is_update and len(prepared.columns) == 0
    assert prepared.update(pyarrow.table({"$1": range(10, 20), "$2": [f"w{n}" for n in range(10)]})) == 10
    assert client.update("DELETE FROM public.typed WHERE n >= 15") == 5
    assert client.rows("SELECT count(*), max(word) FROM public.typed") == [(8, "w4")]
    create = message({1: 1, 2: 1})
    put = lambda table: client.put("CommandStatementIngest", {1: create, 2: "put", 3: "public"}, table)
    many = pyarrow.table({"id": range(50_000), "name": [str(n) for n in range(50_000)]})
    assert put(many) == {1: 50_000}
    assert client.rows("SELECT count(*), sum(id), count(DISTINCT name) FROM public.put") == [(50_000, 1_249_975_000, 50_000)]
    raises(pyarrow.ArrowException, "public.put", lambda: put(many))


def errors(client):
    wrong = lambda sql: lambda: client.query(sql)
    raises(INVALID, "SELEC", wrong("SELEC 1"))
    raises(INVALID, "nothing", wrong("SELECT nothing FROM public.typed"))
    raises(NOT_FOUND, "nowhere", wrong("SELECT * FROM nowhere"))
    raises(INVALID, "zero", wrong("SELECT 1 / (n - n) FROM public.typed"))
    raises(pyarrow.ArrowNotImplementedError, "settings", wrong("SET a = 1"))
    raises(pyarrow.ArrowNotImplementedError, "transactions", lambda: client.action("BeginTransaction"))
    raises(INVALID, "no transactions", lambda: client.info("CommandStatementQuery", {1: "SELECT 1", 2: "t"}))
    raises(INVALID, "not a message", lambda: client.flight.get_flight_info(flight.FlightDescriptor.for_command(b"SELECT 1")))
    raises(INVALID, "not a message", lambda: client.flight.do_get(flight.Ticket(b"\xff")).read_all())
    raises(pyarrow.ArrowNotImplementedError, "", lambda: client.action("NoSuchAction"))
    raises(flight.FlightUnavailableError, "", lambda: Client("grpc://127.0.0.1:1").query("SELECT 1"))


def option(name, value):
    """One of a map<string, SessionOptionValue>."""
    return message({1: message({1: name, 2: message({1: value})})})


def token_of(told):
    return next(word.strip("\"',.") for (text,) in told for word in text.split() if word.startswith("flash_"))


def log_in(url, local):
    local.update("CREATE USER root PASSWORD 'a long password' ROLE admin")
    raises(flight.FlightUnauthenticatedError, "say who you are", lambda: local.query("SELECT 1"))
    raises(flight.FlightUnauthenticatedError, "wrong", lambda: Client(url).log_in("root", "a wrong password"))
    root = Client(url)
    root.log_in("root", "a long password")
    assert root.rows("SELECT current_user") == [("root",)]
    root.update("CREATE ROLE reader")
    root.update("GRANT SELECT ON public.typed TO reader")
    root.update("GRANT SELECT ON SCHEMA shop TO reader")
    root.update("CREATE USER ann PASSWORD 'also a long one' ROLE reader")
    ann = Client(url, [(b"authorization", b"Basic " + base64.b64encode(b"ann:also a long one"))])
    assert ann.rows("SELECT current_user, count(*) FROM public.typed") == [("ann", 8)]
    raises(NOT_FOUND, "put", lambda: ann.query("SELECT * FROM public.put"))
    raises(flight.FlightUnauthorizedError, "", lambda: ann.update("CREATE USER bob PASSWORD 'one more password' ROLE reader"))
    mine = root.execute("SELECT 1")
    raises(NOT_FOUND, "no result under this handle", lambda: ann.fetch(mine).read_all())
    assert root.fetch(mine).read_all().num_rows == 1

    token = token_of(ann.rows("CREATE TOKEN plain"))
    bearer = lambda text: Client(url, [(b"authorization", f"Bearer {text}".encode())])
    assert bearer(token).rows("SELECT current_user") == [("ann",)]
    raises(flight.FlightUnauthenticatedError, "", lambda: bearer(token[:-1]).query("SELECT 1"))
    raises(flight.FlightUnauthenticatedError, "", lambda: bearer("0" * 64).query("SELECT 1"))

    session = Client(url)
    session.log_in("ann", "also a long one")
    same = Client(url, session.headers)
    assert parse(session.action("SetSessionOptions", option("schema", "shop"))[0]) == {}
    assert same.rows("SELECT count(*) FROM orders") == [(0,)]
    assert parse(session.action("SetSessionOptions", option("schema", "nowhere"))[0]) != {}
    session.action("CloseSession")
    raises(flight.FlightUnauthenticatedError, "the session has ended", lambda: same.query("SELECT 1"))
    session.log_in("ann", "also a long one")
    root.update("ALTER USER ann DISABLE")
    for gone in (session, ann, bearer(token)):
        raises(flight.FlightUnauthenticatedError, "", lambda gone=gone: gone.query("SELECT 1"))


def main():
    with tempfile.TemporaryDirectory() as folder, serve(folder, TABLES) as server:
        client, other = Client(server.url), Client(server.url)
        parts = [
            ("tables made by updates", lambda: prepare_tables(client)),
            ("announced schemas are those of the rows", lambda: announced(client)),
            ("a million rows, batch by batch, once", lambda: batches(client)),
            ("cancelled by the reader, by another, by time", lambda: cancel(client, other)),
            ("parameters, updates and ingestion by hand", lambda: changes(client)),
            ("errors have their types", lambda: errors(client)),
            ("log-in by handshake, password and token", lambda: log_in(server.url, client)),
        ]
        for what, part in parts:
            part()
            print(f"ok  {what}", flush=True)
    print(f"{len(parts)} passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
