"""The store's views in DuckDB: JSON lines in, bronze, silver and gold Parquet out. Prints seconds and key figures.

Tuned for speed: all cores, explicit column types, no order to preserve, silver kept in memory for gold, and
duplicates looked for by their ids alone.
"""

import json
import os
import sys
import time

import duckdb

from figures import plain
from gold import GOLD

FIELDS = (
    "{event_id: 'VARCHAR', event_type: 'VARCHAR', event_time: 'VARCHAR', user_id: 'VARCHAR', session_id: 'VARCHAR', "
    "seller_id: 'VARCHAR', product_id: 'VARCHAR', product_name: 'VARCHAR', category: 'VARCHAR', price: 'VARCHAR', "
    "cost: 'VARCHAR', quantity: 'VARCHAR', city: 'VARCHAR', state: 'VARCHAR', payment_method: 'VARCHAR', "
    "device: 'VARCHAR', rating: 'VARCHAR', review_text: 'VARCHAR'}"
)

BRONZE = """
COPY (SELECT payload FROM read_csv('{events}', columns = {{payload: 'VARCHAR'}}, header = false, auto_detect = false,
        delim = '\x01', quote = '', escape = '', max_line_size = 1048576))
TO '{out}/bronze' (FORMAT parquet, PER_THREAD_OUTPUT)
"""

CLEAN = """
CREATE TEMP TABLE clean AS
SELECT event_id, event_type, event_time, event_time + INTERVAL 330 MINUTE AS event_time_ist, user_id, session_id,
       seller_id, product_id, product_name, category, price, cost, quantity, city, state, payment_method, device,
       rating, review_text,
       CASE WHEN event_type = 'purchase' THEN CAST(price * quantity AS DECIMAL(18, 2)) ELSE 0 END AS revenue,
       CASE WHEN event_type = 'purchase' THEN CAST((price - cost) * quantity AS DECIMAL(18, 2)) ELSE 0 END AS profit
FROM (SELECT * REPLACE (TRY_CAST(event_time AS TIMESTAMP) AS event_time, TRY_CAST(price AS DECIMAL(12, 2)) AS price,
                        TRY_CAST(cost AS DECIMAL(12, 2)) AS cost, TRY_CAST(quantity AS INTEGER) AS quantity,
                        TRY_CAST(rating AS SMALLINT) AS rating)
      FROM read_json('{events}', format = 'newline_delimited', columns = {fields}, ignore_errors = true))
WHERE event_id IS NOT NULL AND seller_id IS NOT NULL
  AND event_type IN ('view', 'add_to_cart', 'remove_from_cart', 'purchase', 'restock', 'review')
  AND event_time >= TIMESTAMP '2020-01-01' AND event_time < TIMESTAMP '2100-01-01'
  AND price >= 0 AND cost >= 0 AND quantity BETWEEN 1 AND 10000
"""

SILVER = """
CREATE TEMP TABLE silver AS
WITH repeated AS (SELECT event_id FROM clean GROUP BY event_id HAVING count(*) > 1)
SELECT *, round(100 * profit / nullif(revenue, 0), 2) AS margin FROM (
  SELECT * FROM clean ANTI JOIN repeated USING (event_id)
  UNION ALL
  SELECT DISTINCT ON (event_id) * FROM clean SEMI JOIN repeated USING (event_id))
"""

WRITE_SILVER = "COPY silver TO '{out}/silver' (FORMAT parquet, PARTITION_BY (seller_id))"


def main(events, out, bronze):
    os.makedirs(f"{out}/gold")
    started = time.monotonic()
    base = duckdb.connect(config={"threads": os.cpu_count(), "preserve_insertion_order": "false"})
    if bronze:
        base.execute(BRONZE.format(events=events, out=out))
    base.execute(CLEAN.format(events=events, fields=FIELDS))
    base.execute(SILVER)
    base.execute("DROP TABLE clean")
    base.execute(WRITE_SILVER.format(out=out))
    cities = os.path.join(os.path.dirname(__file__), "..", "..", "sql", "ref", "cities.csv")
    base.execute(f"CREATE TEMP TABLE cities AS FROM read_csv('{cities}')")
    for name, query in GOLD.items():
        base.execute(f"CREATE TEMP TABLE {name} AS {query}")
        base.execute(f"COPY {name} TO '{out}/gold/{name}.parquet' (FORMAT parquet)")
    seconds = time.monotonic() - started
    figures = base.execute(
        "SELECT (SELECT count(*) FROM silver), sum(purchases), sum(revenue), sum(profit) FROM kpis"
    ).fetchone()
    print(json.dumps({"seconds": seconds, "figures": plain(figures)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "bronze")
