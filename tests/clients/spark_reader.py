"""Read Delta tables with Spark and Delta's own package; what it finds as one JSON object, table -> facts.

    FLASH_DELTA_JARS=a.jar,b.jar python spark_reader.py TABLE...

    {"/lake/s/t": {"rows": 3, "sums": {"n": "6"}, "nulls": {"n": 0}, "types": {"n": "bigint"}, "texts": [...]}}

Facts are those of delta_readers.py, computed by Spark; "texts" are the first rows by the first column, as Spark prints them
when its session is in UTC. Needs the packages of spark.txt, and Java.
"""

import decimal
import json
import os
import sys

from pyspark.sql import SparkSession

SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.session.timeZone": "UTC",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
# What is summed of a column, by its type.
SUMMED = {
    "timestamp": "unix_micros({0})",
    "date": "unix_date({0})",
    "string": "char_length({0})",
    "binary": "octet_length({0})",
    "double": "{0}",
    "float": "{0}",
}


def session():
    builder = SparkSession.builder.master("local[2]").config("spark.jars", os.environ["FLASH_DELTA_JARS"])
    for key, value in SETTINGS.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def summed(name, kind):
    """The sum as SQL, or None for a type that has none."""
    quoted = f"`{name}`"
    if kind in ("float", "double"):
        return f"sum({quoted})"
    if kind in SUMMED:
        return f"sum(CAST({SUMMED[kind].format(quoted)} AS DECIMAL(38, 0)))"
    if kind in ("tinyint", "smallint", "int", "bigint"):
        return f"sum(CAST({quoted} AS DECIMAL(38, 0)))"
    return f"sum({quoted})" if kind.startswith("decimal") else None


def shown(value, kind):
    if kind in ("float", "double"):
        return f"{value or 0.0:.9e}"
    with decimal.localcontext(prec=80):
        return format(decimal.Decimal(value or 0).normalize(), "f")


def facts(frame):
    types = dict(frame.dtypes)
    sums = {name: text for name, kind in types.items() if (text := summed(name, kind))}
    asked = [f"{text} AS `sum {name}`" for name, text in sums.items()]
    asked += [f"count_if(`{name}` IS NULL) AS `nulls {name}`" for name in types]
    found = frame.selectExpr("count(*) AS rows", *asked).first().asDict()
    texts = frame.orderBy(frame.columns[0]).limit(5).selectExpr(*(f"CAST(`{name}` AS STRING)" for name in types))
    return {
        "rows": found["rows"],
        "sums": {name: shown(found[f"sum {name}"], types[name]) for name in sorted(sums)},
        "nulls": {name: found[f"nulls {name}"] for name in sorted(types)},
        "types": types,
        "texts": [list(row) for row in texts.collect()],
    }


def main():
    spark = session()
    print(json.dumps({table: facts(spark.read.format("delta").load(table)) for table in sys.argv[1:]}))


if __name__ == "__main__":
    main()
