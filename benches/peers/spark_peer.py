"""The store's views in PySpark: JSON lines in, bronze, silver and gold Parquet out. Prints seconds and key figures.

Tuned for speed: local[*], explicit schema, adaptive execution, as many shuffle partitions as cores, clean rows cached
for gold, duplicates looked for by their ids alone, the built-in functions only. Filters are not pushed below
from_json, which would decode each record once for every condition. The start of the JVM is not counted.
"""

import json
import os
import sys
import time

from pyspark.sql import SparkSession
from pyspark.sql.functions import broadcast

from figures import plain
from gold import GOLD

TEXTS = "event_id event_type event_time user_id session_id seller_id product_id product_name category price cost"
TEXTS += " quantity city state payment_method device rating review_text"
FIELDS = ", ".join(f"{name} STRING" for name in TEXTS.split())

# Its parser takes what stands behind the object for nothing, so a doubled brace is looked for.
TYPED = f"""
SELECT e.*, try_cast(e.event_time AS TIMESTAMP) AS at, try_cast(e.price AS DECIMAL(12, 2)) AS price_,
       try_cast(e.cost AS DECIMAL(12, 2)) AS cost_, try_cast(e.quantity AS INT) AS quantity_,
       try_cast(e.rating AS SMALLINT) AS rating_
FROM (SELECT from_json(value, '{FIELDS}') AS e FROM lines WHERE NOT endswith(value, '}}}}'))
"""

CLEAN = """
SELECT event_id, event_type, at AS event_time, at + INTERVAL 330 MINUTES AS event_time_ist, user_id, session_id,
       seller_id, product_id, product_name, category, price_ AS price, cost_ AS cost, quantity_ AS quantity, city,
       state, payment_method, device, rating_ AS rating, review_text,
       CASE WHEN event_type = 'purchase' THEN CAST(price_ * quantity_ AS DECIMAL(18, 2)) ELSE 0.00 END AS revenue,
       CASE WHEN event_type = 'purchase' THEN CAST((price_ - cost_) * quantity_ AS DECIMAL(18, 2)) ELSE 0.00 END
         AS profit
FROM typed
WHERE event_id IS NOT NULL AND seller_id IS NOT NULL
  AND event_type IN ('view', 'add_to_cart', 'remove_from_cart', 'purchase', 'restock', 'review')
  AND at >= TIMESTAMP '2020-01-01' AND at < TIMESTAMP '2100-01-01'
  AND price_ >= 0 AND cost_ >= 0 AND quantity_ BETWEEN 1 AND 10000
"""

REPEATED = "SELECT event_id FROM clean GROUP BY event_id HAVING count(*) > 1"


def build():
    cores = os.cpu_count()
    builder = SparkSession.builder.master(f"local[{cores}]").config("spark.sql.shuffle.partitions", cores)
    settings = {
        "spark.driver.memory": "8g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.adaptive.enabled": "true",
        "spark.sql.optimizer.excludedRules": "org.apache.spark.sql.catalyst.optimizer.PushDownPredicates",
        "spark.serializer": "org.apache.spark.serializer.KryoSerializer",
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def main(events, out, bronze):
    spark = build()
    started = time.monotonic()
    lines = spark.read.text(events)
    if bronze:
        lines.withColumnRenamed("value", "payload").write.parquet(f"{out}/bronze")
    lines.createOrReplaceTempView("lines")
    spark.sql(TYPED).createOrReplaceTempView("typed")
    clean = spark.sql(CLEAN).cache()
    clean.createOrReplaceTempView("clean")
    repeated = broadcast(spark.sql(REPEATED).cache())
    once = clean.join(repeated, "event_id", "left_anti")
    first = clean.join(repeated, "event_id", "left_semi").dropDuplicates(["event_id"])
    silver = once.union(first).selectExpr("*", "round(100 * profit / nullif(revenue, 0), 2) AS margin")
    silver.createOrReplaceTempView("silver")
    silver.write.partitionBy("seller_id").parquet(f"{out}/silver")
    cities = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "sql", "ref", "cities.csv"))
    schema = "name STRING, state STRING, latitude DOUBLE, longitude DOUBLE"
    spark.read.csv(cities, header=True, schema=schema).createOrReplaceTempView("cities")
    for name, query in GOLD.items():
        table = spark.sql(query)
        if name in ("kpis", "profit_by_product"):
            table = table.cache()
        table.createOrReplaceTempView(name)
        table.coalesce(1).write.parquet(f"{out}/gold/{name}")
    seconds = time.monotonic() - started
    figures = "SELECT (SELECT count(*) FROM silver), sum(purchases), sum(revenue), sum(profit) FROM kpis"
    print(json.dumps({"seconds": seconds, "figures": plain(spark.sql(figures).first())}), flush=True)
    stop(spark)


def stop(spark):
    """End the JVM and wait for it, so that its CPU time and memory are counted."""
    gateway = spark.sparkContext._gateway
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3] == "bronze")
