"""Ask a running server what a tool would ask, through the ADBC driver for Flight SQL; the answers as one JSON object.

    python adbc.py grpc://127.0.0.1:50051 [--schema gold.kpis]... [--query SQL]... [--update SQL]... [--all]

--all also reads every table that is listed. Needs the packages of requirements.txt.
"""

import argparse
import json

import adbc_driver_flightsql.dbapi as flight_sql


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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("--schema", action="append", default=[])
    parser.add_argument("--query", action="append", default=[])
    parser.add_argument("--update", action="append", default=[])
    parser.add_argument("--all", action="store_true")
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
