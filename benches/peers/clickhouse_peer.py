"""The store's views in ClickHouse (chDB): JSON lines in, bronze, silver and gold Parquet out.

Tuned for speed: all cores, a typed tuple decoded in one pass by its simdjson parser, silver kept in memory for gold,
and duplicates looked for by their ids alone.
"""

import json
import os
import sys
import time
from decimal import Decimal

from chdb import session

from figures import plain
from gold import GOLD

TEXTS = "event_id event_type event_time user_id session_id seller_id product_id product_name category city state"
TEXTS += " payment_method device review_text"
FIELDS = ", ".join(f"{name} Nullable(String)" for name in TEXTS.split())
FIELDS += ", price Nullable(Decimal(12, 2)), cost Nullable(Decimal(12, 2)), quantity Nullable(Int32), rating Nullable(Int16)"

BRONZE = """
INSERT INTO FUNCTION file('{out}/bronze/part.parquet', Parquet, 'payload String')
SELECT line FROM file('{events}', LineAsString)
"""

CLEAN = """
CREATE TABLE clean ENGINE = Memory AS
SELECT assumeNotNull(e.event_id) AS event_id, assumeNotNull(e.event_type) AS event_type,
       assumeNotNull(at) AS event_time, event_time + INTERVAL 330 MINUTE AS event_time_ist, e.user_id AS user_id,
       e.session_id AS session_id, assumeNotNull(e.seller_id) AS seller_id, e.product_id AS product_id,
       e.product_name AS product_name, e.category AS category, assumeNotNull(e.price) AS price,
       assumeNotNull(e.cost) AS cost, assumeNotNull(e.quantity) AS quantity, e.city AS city, e.state AS state,
       e.payment_method AS payment_method, e.device AS device, e.rating AS rating, e.review_text AS review_text,
       if(event_type = 'purchase', price * quantity, toDecimal64(0, 2)) AS revenue,
       if(event_type = 'purchase', (price - cost) * quantity, toDecimal64(0, 2)) AS profit
FROM (SELECT JSONExtract(line, 'Tuple({fields})') AS e, parseDateTime64BestEffortOrNull(e.event_time, 3, 'UTC') AS at
      FROM file('{events}', LineAsString))
WHERE e.event_id IS NOT NULL AND e.seller_id IS NOT NULL
  AND e.event_type IN ('view', 'add_to_cart', 'remove_from_cart', 'purchase', 'restock', 'review')
  AND at >= toDateTime64('2020-01-01', 3, 'UTC') AND at < toDateTime64('2100-01-01', 3, 'UTC')
  AND e.price >= 0 AND e.cost >= 0 AND e.quantity BETWEEN 1 AND 10000
"""

REPEATED = "CREATE TABLE repeated ENGINE = Set AS SELECT event_id FROM clean GROUP BY event_id HAVING count() > 1"

SILVER = """
CREATE TABLE silver ENGINE = Memory AS
SELECT *, round(100 * profit / nullif(revenue, 0), 2) AS margin FROM (
  SELECT * FROM clean WHERE event_id NOT IN repeated
  UNION ALL
  SELECT * FROM clean WHERE event_id IN repeated LIMIT 1 BY event_id)
"""

WRITE_SILVER = """
INSERT INTO FUNCTION file('{out}/silver/seller_id={{_partition_id}}/part.parquet', Parquet)
PARTITION BY seller_id SELECT * FROM silver
"""


def main(events, out, bronze):
    for folder in ("bronze", "silver", "gold"):
        os.makedirs(f"{out}/{folder}")
    started = time.monotonic()
    base = session.Session()
    threads = os.cpu_count()
    base.query(f"SET max_threads = {threads}, max_insert_threads = {threads}, prefer_column_name_to_alias = 1")
    if bronze:
        base.query(BRONZE.format(events=events, out=out))
    base.query(CLEAN.format(events=events, fields=FIELDS))
    base.query(REPEATED)
    base.query(SILVER)
    base.query("DROP TABLE clean")
    base.query(WRITE_SILVER.format(out=out))
    cities = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "sql", "ref", "cities.csv"))
    base.query(f"CREATE TABLE cities ENGINE = Memory AS SELECT * FROM file('{cities}', CSVWithNames)")
    for name, query in GOLD.items():
        base.query(f"CREATE TABLE {name} ENGINE = Memory AS {query}")
        base.query(f"INSERT INTO FUNCTION file('{out}/gold/{name}.parquet', Parquet) SELECT * FROM {name}")
    seconds = time.monotonic() - started
    answer = base.query(
        "SELECT (SELECT count() FROM silver), sum(purchases), toString(sum(revenue)), toString(sum(profit)) FROM kpis", "TSV"
    )
    rows, purchases, revenue, profit = str(answer).strip().split("\t")
    print(json.dumps({"seconds": seconds, "figures": plain([rows, purchases, Decimal(revenue), Decimal(profit)])}))


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3] == "bronze")
