"""Ask a running server what a tool would ask, through the ADBC driver for Flight SQL; the answers as one JSON object.

    python adbc.py grpc://127.0.0.1:50051 [--schema gold.kpis]... [--query SQL]... [--update SQL]... [--all] [--write]

--all also reads every table that is listed. --write makes tables: parameters of all types, many rows at once, bulk
ingestion. Needs the packages of requirements.txt.
"""

import argparse
import datetime
import decimal
import json

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow


def objects(connection):
    """catalog -> schema -> table -> type"""
    found = {}
    for catalog in connection.adbc_get_objects(depth="tables").read_all().to_pylist():
        schemas = found.setdefault(catalog["catalog_name"], {})
        for schema in catalog["catalog_db_schemas"] or []:
            tables = schemas.setdefault(schema["db_schema_name"], {})
            for table in schema["db_schema_tables"] or []:
                tables[table["table_name"]] = table["table_type"]
    return found


def columns(connection, schema, table):
    """name -> type, as two commands tell it: GetTableSchema and GetObjects"""
    told = connection.adbc_get_table_schema(table, db_schema_filter=schema)
    listed = connection.adbc_get_objects(
        depth="columns", db_schema_filter=schema, table_name_filter=table
    ).read_all().to_pylist()
    table = listed[0]["catalog_db_schemas"][0]["db_schema_tables"][0]
    assert [field.name for field in told] == [column["column_name"] for column in table["table_columns"]]
    return {field.name: str(field.type) for field in told}


def rows(connection, sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table().to_pylist()


def update(connection, sql):
    with connection.cursor() as cursor:
        return cursor.adbc_statement.set_sql_query(sql) or cursor.adbc_statement.execute_update()


DAY = datetime.date(2026, 11, 23)
MOMENT = datetime.datetime(2026, 11, 23, 12, 30, 15, 123456)
MONEY = decimal.Decimal("12.50")
VALUES = {
    "BOOLEAN": True,
    "SMALLINT": 12,
    "INT": -7,
    "BIGINT": 1 << 40,
    "REAL": 0.5,
    "DOUBLE": 0.1,
    "DECIMAL(12, 2)": MONEY,
    "VARCHAR": "a ? and a 'quote', नमस्ते",
    "BYTEA": b"\x00\xff",
    "DATE": DAY,
    "TIMESTAMP": MOMENT,
}


def code(action):
    """The name of the error that a call must end with"""
    try:
        action()
    except flight_sql.Error as error:
        return error.status_code.name
    raise AssertionError("it was taken")


def parameters(connection):
    """Every type, there and back: in a table, in a condition, as NULL, one row and many"""
    with connection.cursor() as cursor:
        columns = ", ".join(f"c{at} {type}" for at, type in enumerate(VALUES))
        cursor.execute(f"CREATE TABLE public.typed (id BIGINT, {columns})")
        marks = ", ".join("?" for _ in range(len(VALUES) + 1))
        row = list(VALUES.values())
        cursor.executemany(f"INSERT INTO public.typed VALUES ({marks})", [[at, *row] for at in range(1, 4)])
        assert cursor.rowcount == 3, cursor.rowcount
        for at, (type, value) in enumerate(VALUES.items()):
            cursor.execute(f"SELECT c{at} FROM public.typed WHERE c{at} = ? AND id = ?", (value, 2))
            assert cursor.fetchall() == [(value,)], type
            cursor.execute(f"SELECT id FROM public.typed WHERE c{at} = ?", (None,))
            assert cursor.fetchall() == [], type
            cursor.execute(f"SELECT CAST(? AS {type}) AS it", (value,))
            assert cursor.fetchall() == [(value,)], type
        cursor.executemany("UPDATE public.typed SET c7 = ? WHERE id = ?", [("one", 1), (None, 2)])
        cursor.execute("SELECT c7 FROM public.typed ORDER BY id")
        assert [text for (text,) in cursor.fetchall()] == ["one", None, VALUES["VARCHAR"]]
        cursor.executemany("DELETE FROM public.typed WHERE id = ?", [(1,), (2,)])
        cursor.execute("SELECT $2 AS b, $1 AS a", ("x", "y"))
        assert cursor.fetchall() == [("y", "x")]
        return {
            "one of two": code(lambda: cursor.execute("SELECT ?, ?", ("x",))),
            "text for a number": code(lambda: cursor.execute("SELECT id FROM public.typed WHERE id = ?", ("x",))),
            "half for a number": code(lambda: cursor.execute("SELECT id FROM public.typed WHERE id = ?", (1.5,))),
        }


def ingest(connection):
    """Each mode; what is left after them"""
    table = pyarrow.table({"id": [1, 2], "name": ["a", None]})
    with connection.cursor() as cursor:
        put = lambda mode, data=table, **more: cursor.adbc_ingest("put", data, mode=mode, db_schema_name="public", **more)
        codes = {"append to nothing": code(lambda: put("append"))}
        assert put("create") == 2
        codes["create again"] = code(lambda: put("create"))
        assert put("append") == 2 and put("create_append") == 2
        cursor.execute("SELECT count(*), count(name), sum(id) FROM public.put")
        assert cursor.fetchall() == [(6, 3, 9)]
        many = pyarrow.table({"name": [str(n) for n in range(100_000)], "id": range(100_000)})
        assert put("replace", many.to_reader(max_chunksize=7_000)) == 100_000
        cursor.execute("SELECT count(*), max(id), count(DISTINCT name) FROM public.put")
        assert cursor.fetchall() == [(100_000, 99_999, 100_000)]
        codes["unknown column"] = code(lambda: put("append", pyarrow.table({"other": [1]})))
        codes["temporary"] = code(lambda: cursor.adbc_ingest("put", table, mode="create", temporary=True))
        cursor.execute("SELECT count(*) FROM public.put")
        assert cursor.fetchall() == [(100_000,)]
        return codes


def depths(connection):
    """GetObjects goes as deep as it is asked"""
    for depth, inner in [
        ("catalogs", ["catalog_db_schemas"]),
        ("db_schemas", ["catalog_db_schemas", "db_schema_tables"]),
        ("tables", ["catalog_db_schemas", "db_schema_tables", "table_columns"]),
    ]:
        found = connection.adbc_get_objects(depth=depth).read_all().to_pylist()
        for name in inner[:-1]:
            found = [item for parent in found for item in parent[name]]
        assert found and all(not item[inner[-1]] for item in found), depth


def cancel(connection):
    """A result that is not wanted any more; the connection goes on"""
    with connection.cursor() as cursor:
        cursor.execute("SELECT a.value, b.value FROM range(1, 100000) AS a, range(1, 100000) AS b")
        cursor.fetchone()
        cursor.adbc_cancel()
    return rows(connection, "SELECT 1 AS one")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("--schema", action="append", default=[])
    parser.add_argument("--query", action="append", default=[])
    parser.add_argument("--update", action="append", default=[])
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    credentials = {"username": "anybody", "password": "anything"}
    with flight_sql.connect(arguments.uri, db_kwargs=credentials, autocommit=True) as connection:
        info = connection.adbc_get_info()
        answer = {
            "vendor": info["vendor_name"],
            "version": info["vendor_version"],
            "table_types": connection.adbc_get_table_types(),
            "objects": objects(connection),
            "schemas": {name: columns(connection, *name.split(".", 1)) for name in arguments.schema},
            "updates": [update(connection, sql) for sql in arguments.update],
            "queries": [rows(connection, sql) for sql in arguments.query],
        }
        if arguments.all:
            answer["counts"] = {
                f"{schema}.{table}": len(rows(connection, f'SELECT * FROM "{schema}"."{table}"'))
                for schema, tables in answer["objects"].get("flash", {}).items()
                for table in tables
            }
        if arguments.write:
            depths(connection)
            answer["parameters"] = parameters(connection)
            answer["ingest"] = ingest(connection)
            answer["cancel"] = cancel(connection)
        connection.adbc_current_db_schema = "gold"
        assert connection.adbc_current_db_schema == "gold"
        assert connection.adbc_current_catalog == "flash"
        try:
            rows(connection, "SELECT nothing FROM nowhere")
        except flight_sql.Error as error:
            answer["error"] = str(error)
    print(json.dumps(answer, indent=2, default=str))


if __name__ == "__main__":
    main()
