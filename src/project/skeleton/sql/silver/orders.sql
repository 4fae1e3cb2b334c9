-- One row an order: typed, in Indian time, judged, without repetitions.
CREATE MATERIALIZED VIEW silver.orders (
  CONSTRAINT readable   EXPECT (order_id IS NOT NULL)        ON VIOLATION QUARANTINE ROW,
  CONSTRAINT has_time   EXPECT (ordered_at IS NOT NULL)      ON VIOLATION QUARANTINE ROW,
  CONSTRAINT sane_price EXPECT (price >= 0 AND quantity > 0) ON VIOLATION DROP ROW,
  CONSTRAINT known_city EXPECT (city IS NOT NULL)            -- counted, kept
)
COMMENT 'One row an order, typed and judged.'
WITH (target_lag = '5 seconds', unique_key = 'order_id')
AS SELECT
  e['order_id']           AS order_id,
  to_ist(e['ordered_at']) AS ordered_at,
  e['city']               AS city,
  e['price']              AS price,
  e['quantity']           AS quantity
FROM (
  SELECT from_json(_payload, 'order_id VARCHAR, ordered_at TIMESTAMP, city VARCHAR, price DECIMAL(12, 2), quantity INT') AS e
  FROM bronze.events
) AS decoded;
