"""Read a Delta table with readers that we did not write; what each of them finds as one JSON object.

    python delta_readers.py TABLE [--version N]

    {"deltalake": {"rows": 3, "sums": {"n": "6"}, "nulls": {"n": 0}}, "polars": …, "duckdb": …}

deltalake and polars read the log; duckdb reads the Parquet files that the log names, with their partition values.
Sums are exact: of decimals and whole numbers as text, of floating point rounded to nine digits; of timestamps in
microseconds since 1970 UTC, of texts their lengths. Needs the packages of requirements.txt.
"""

import argparse
import decimal
import json

import deltalake
import duckdb
import polars
import pyarrow as pa
import pyarrow.compute as pc

NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)


def total(column):
    """The sum of a column as text, or None for a type that has none."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
    elif pa.types.is_date(kind):
        column = column.cast(pa.date32()).cast(pa.int32())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        column = pc.utf8_length(column.cast(pa.large_string()))
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        column = pc.binary_length(column.cast(pa.large_binary()))
    elif not any(is_kind(kind) for is_kind in NUMBERS):
        return None
    if pa.types.is_floating(column.type):
        return f"{pc.sum(column).as_py() or 0.0:.9e}"
    with decimal.localcontext(prec=80):
        exact = sum((value for value in column.to_pylist() if value is not None), start=decimal.Decimal(0))
        return format(exact.normalize(), "f")


def facts(table):
    sums = {name: total(table[name]) for name in sorted(table.column_names)}
    return {
        "rows": table.num_rows,
        "sums": {name: value for name, value in sums.items() if value is not None},
        "nulls": {name: table[name].null_count for name in sorted(table.column_names)},
    }


def by_duckdb(table):
    """The files of the log through DuckDB's Parquet reader; partition values come from the folders."""
    files = [uri.removeprefix("file://") for uri in table.file_uris()]
    if not files:
        return None
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    keys = table.metadata().partition_columns
    types = {field.name: field.type.type for field in table.schema().fields}
    sql_types = {"string": "VARCHAR", "long": "BIGINT", "integer": "INTEGER", "date": "DATE"}
    hive_types = ", ".join(f"'{key}': {sql_types.get(types[key], 'VARCHAR')}" for key in keys)
    options = f", hive_partitioning = true, hive_types = {{{hive_types}}}" if keys else ", hive_partitioning = false"
    return connection.sql(f"SELECT * FROM read_parquet(?{options})", params=[files]).to_arrow_table()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table")
    parser.add_argument("--version", type=int)
    args = parser.parse_args()
    table = deltalake.DeltaTable(args.table, version=args.version)
    found = {
        "deltalake": facts(pa.table(table.to_pyarrow_table())),
        "polars": facts(polars.scan_delta(args.table, version=args.version).collect().to_arrow()),
    }
    if (read := by_duckdb(table)) is not None:
        found["duckdb"] = facts(read)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
