-- What a visit did with each product, and from where: distinct visits cannot be added up, so that the dashboard
-- counts them here, exactly, whatever it filters by.
CREATE MATERIALIZED VIEW gold.visit_steps
PARTITIONED BY (day)
COMMENT 'Visits by seller, city, category and product: how far they came, and when last.'
WITH (target_lag = '5 seconds')
AS SELECT
  CAST(event_time_ist AS DATE)                                         AS day,
  seller_id,
  session_id,
  city,
  category,
  product_name                                                         AS product,
  max(event_time_ist)                                                  AS last_at,
  count(*) FILTER (WHERE event_type = 'view')                          AS views,
  count(*) FILTER (WHERE event_type = 'add_to_cart')                   AS carts,
  count(*) FILTER (WHERE event_type = 'remove_from_cart')              AS removals,
  count(*) FILTER (WHERE event_type = 'purchase')                      AS purchases,
  sum(price * quantity) FILTER (WHERE event_type = 'add_to_cart')      AS put_in_cart,
  sum(price * quantity) FILTER (WHERE event_type = 'remove_from_cart') AS taken_out
FROM silver.events
WHERE session_id IS NOT NULL
GROUP BY CAST(event_time_ist AS DATE), seller_id, session_id, city, category, product_name;
