-- One row per event: typed, in Indian time, with revenue and profit, without repetitions.
--
-- A field that does not fit its type is NULL, and the constraints judge it; a record that is not a JSON object
-- has all its fields NULL. revenue and profit are 0 for everything but purchases, so that they add up over any rows.
CREATE MATERIALIZED VIEW silver.events (
  CONSTRAINT readable_json  EXPECT (event_id IS NOT NULL OR event_type IS NOT NULL OR event_time IS NOT NULL)
                            ON VIOLATION QUARANTINE ROW,
  CONSTRAINT has_event_id   EXPECT (event_id <> '')                                   ON VIOLATION QUARANTINE ROW,
  CONSTRAINT has_seller     EXPECT (seller_id <> '')                                  ON VIOLATION QUARANTINE ROW,
  CONSTRAINT known_type     EXPECT (event_type IN ('view', 'add_to_cart', 'remove_from_cart', 'purchase', 'restock',
                                                   'review'))
                            ON VIOLATION QUARANTINE ROW,
  CONSTRAINT sane_time      EXPECT (event_time >= CAST('2020-01-01' AS TIMESTAMP(6))
                                    AND event_time < CAST('2100-01-01' AS TIMESTAMP(6)))
                            ON VIOLATION QUARANTINE ROW,
  CONSTRAINT sane_price     EXPECT (price >= 0 AND cost >= 0)                         ON VIOLATION DROP ROW,
  CONSTRAINT sane_quantity  EXPECT (quantity >= 1 AND quantity <= 10000)              ON VIOLATION DROP ROW,
  CONSTRAINT known_city     EXPECT (city IS NOT NULL)
)
PARTITIONED BY (seller_id)
COMMENT 'One row per event, cleaned.'
WITH (target_lag = '5 seconds', unique_key = 'event_id', dedupe_within = '1 day')
AS SELECT
  event_id,
  event_type,
  event_time,
  to_ist(event_time) AS event_time_ist,
  user_id,
  session_id,
  seller_id,
  product_id,
  product_name,
  category,
  price,
  cost,
  quantity,
  city,
  state,
  payment_method,
  device,
  rating,
  review_text,
  revenue,
  profit,
  margin_pct(profit, revenue) AS margin
FROM (
  SELECT
    *,
    CASE WHEN event_type = 'purchase' THEN TRY_CAST(price * quantity AS DECIMAL(18, 2)) ELSE CAST(0 AS DECIMAL(18, 2))
    END AS revenue,
    CASE WHEN event_type = 'purchase' THEN TRY_CAST(margin(price, cost, quantity) AS DECIMAL(18, 2))
      ELSE CAST(0 AS DECIMAL(18, 2))
    END AS profit
  FROM (
    SELECT
      e['event_id']       AS event_id,
      e['event_type']     AS event_type,
      e['event_time']     AS event_time,
      e['user_id']        AS user_id,
      e['session_id']     AS session_id,
      e['seller_id']      AS seller_id,
      e['product_id']     AS product_id,
      e['product_name']   AS product_name,
      e['category']       AS category,
      e['price']          AS price,
      e['cost']           AS cost,
      e['quantity']       AS quantity,
      e['city']           AS city,
      e['state']          AS state,
      e['payment_method'] AS payment_method,
      e['device']         AS device,
      e['rating']         AS rating,
      e['review_text']    AS review_text
    FROM (
      SELECT
        from_json(
          _payload,
          'event_id VARCHAR, event_type VARCHAR, event_time TIMESTAMP, user_id VARCHAR, session_id VARCHAR,
           seller_id VARCHAR, product_id VARCHAR, product_name VARCHAR, category VARCHAR, price DECIMAL(12, 2),
           cost DECIMAL(12, 2), quantity INT, city VARCHAR, state VARCHAR, payment_method VARCHAR, device VARCHAR,
           rating SMALLINT, review_text VARCHAR'
        ) AS e
      FROM bronze.events
    ) AS decoded
  ) AS typed
) AS priced;
