"""The store's key figures from a file of events, by DuckDB: the other opinion that flash is compared with.

    python tests/clients/figures.py EVENTS.jsonl

Prints one JSON object. The rules are those of sql/silver/events.sql, written down a second time: what is not a JSON
object or lacks an id, a seller, a known type or a time is quarantined; impossible prices and quantities are dropped;
of several events with one id the first stays. Money is exact: DECIMAL from the text of the numbers.
"""

import json
import sys
from decimal import ROUND_HALF_UP, Decimal

import duckdb

TYPES = "('view', 'add_to_cart', 'remove_from_cart', 'purchase', 'restock', 'review')"

# One column with the whole line: a separator that does not occur, no quotes.
LINES = """
CREATE TABLE lines AS
SELECT row_number() OVER () AS number, line
FROM read_csv(?, columns = {'line': 'VARCHAR'}, delim = '\x01', quote = '', escape = '', header = false,
              auto_detect = false, parallel = false)
"""

TYPED = """
CREATE TABLE typed AS
SELECT
  number,
  e IS NOT NULL                                     AS readable,
  e ->> 'event_id'                                  AS event_id,
  e ->> 'event_type'                                AS event_type,
  TRY_CAST(e ->> 'event_time' AS TIMESTAMPTZ)       AS event_time,
  e ->> 'seller_id'                                 AS seller_id,
  e ->> 'product_name'                              AS product_name,
  e ->> 'category'                                  AS category,
  TRY_CAST(e ->> 'price' AS DECIMAL(12, 2))         AS price,
  TRY_CAST(e ->> 'cost' AS DECIMAL(12, 2))          AS cost,
  TRY_CAST(e ->> 'quantity' AS INTEGER)             AS quantity,
  e ->> 'city'                                      AS city
FROM (
  SELECT number, CASE WHEN json_valid(line) AND json_type(line) = 'OBJECT' THEN line::JSON END AS e FROM lines
)
"""

JUDGED = f"""
CREATE TABLE judged AS
SELECT
  *,
  CASE
    WHEN NOT readable THEN 'broken'
    WHEN coalesce(event_id, '') = '' OR coalesce(seller_id, '') = '' OR event_type IS NULL OR event_type NOT IN {TYPES} OR event_time IS NULL
      OR event_time < '2020-01-01T00:00:00Z' OR event_time >= '2100-01-01T00:00:00Z' THEN 'quarantined'
    WHEN price IS NULL OR price < 0 OR cost IS NULL OR cost < 0 OR quantity IS NULL OR quantity NOT BETWEEN 1 AND 10000
      THEN 'dropped'
    ELSE 'good'
  END AS verdict
FROM typed
"""

CLEAN = """
CREATE TABLE clean AS
SELECT *, price * quantity AS revenue, (price - cost) * quantity AS profit
FROM judged WHERE verdict = 'good'
QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY number) = 1
"""


def percent(part, whole):
    """Part of whole in percent with two decimals, half away from zero; None of nothing."""
    if not whole:
        return None
    return float((Decimal(part) * 100 / Decimal(whole)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def figures(path):
    """All figures of one file."""
    db = duckdb.connect()
    db.execute(LINES, [path])
    for statement in (TYPED, JUDGED, CLEAN):
        db.execute(statement)

    def one(query):
        return db.execute(query).fetchone()

    def names(column, measure):
        query = f"""SELECT {column} FROM clean WHERE event_type = 'purchase' AND {column} IS NOT NULL
                    GROUP BY {column} ORDER BY sum({measure}) DESC, {column} LIMIT 5"""
        return [name for (name,) in db.execute(query).fetchall()]

    revenue, profit = one("SELECT sum(revenue), sum(profit) FROM clean WHERE event_type = 'purchase'")
    views, carts, purchases = one(
        """SELECT count(*) FILTER (event_type = 'view'), count(*) FILTER (event_type = 'add_to_cart'),
                  count(*) FILTER (event_type = 'purchase') FROM clean"""
    )
    verdicts = dict(db.execute("SELECT verdict, count(*) FROM judged GROUP BY verdict").fetchall())
    (clean,) = one("SELECT count(*) FROM clean")
    (records,) = one("SELECT count(*) FROM lines")
    broken = verdicts.get("broken", 0)
    return {
        "revenue": float(revenue or 0),
        "profit": float(profit or 0),
        "margin_pct": percent(profit or 0, revenue),
        "views": views,
        "carts": carts,
        "purchases": purchases,
        "views_to_cart_pct": percent(carts, views),
        "views_to_purchase_pct": percent(purchases, views),
        "top_products": names("product_name", "profit"),
        "top_categories": names("category", "profit"),
        "top_cities": names("city", "revenue"),
        "records": records,
        "clean": clean,
        "duplicates": verdicts.get("good", 0) - clean,
        "broken": broken,
        "bad_fields": verdicts.get("quarantined", 0) + verdicts.get("dropped", 0),
        "quarantined": broken + verdicts.get("quarantined", 0),
        "dropped": verdicts.get("dropped", 0),
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/clients/figures.py EVENTS.jsonl")
    json.dump(figures(sys.argv[1]), sys.stdout, indent=2, ensure_ascii=False)
    print()
