-- What every visit came to: one row a session and Indian day, with the furthest step that it reached.
CREATE MATERIALIZED VIEW gold.sessions
PARTITIONED BY (day)
COMMENT 'Visits by seller: how long, how far, how much.'
WITH (target_lag = '5 seconds')
AS SELECT
  CAST(event_time_ist AS DATE)                                         AS day,
  seller_id,
  session_id,
  max(user_id)                                                         AS user_id,
  min(event_time_ist)                                                  AS started_at,
  max(event_time_ist)                                                  AS last_event_at,
  count(*) FILTER (WHERE event_type = 'view')                          AS views,
  count(*) FILTER (WHERE event_type = 'add_to_cart')                   AS carts,
  count(*) FILTER (WHERE event_type = 'remove_from_cart')              AS removals,
  count(*) FILTER (WHERE event_type = 'purchase')                      AS purchases,
  sum(price * quantity) FILTER (WHERE event_type = 'add_to_cart')      AS put_in_cart,
  sum(price * quantity) FILTER (WHERE event_type = 'remove_from_cart') AS taken_out,
  sum(revenue)                                                         AS revenue,
  CASE
    WHEN count(*) FILTER (WHERE event_type = 'purchase') > 0    THEN 'purchase'
    WHEN count(*) FILTER (WHERE event_type = 'add_to_cart') > 0 THEN 'cart'
    WHEN count(*) FILTER (WHERE event_type = 'view') > 0        THEN 'view'
    ELSE 'other'
  END                                                                  AS furthest_step
FROM silver.events
WHERE session_id IS NOT NULL
GROUP BY CAST(event_time_ist AS DATE), seller_id, session_id;
