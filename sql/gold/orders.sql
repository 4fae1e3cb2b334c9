-- Every order, for what is newest and for spans that end between two hours: no shopper in it.
CREATE MATERIALIZED VIEW gold.orders
PARTITIONED BY (day)
COMMENT 'One row a purchase: when (Indian time), where, what, how much.'
WITH (target_lag = '5 seconds')
AS SELECT
  CAST(event_time_ist AS DATE) AS day,
  event_time_ist               AS ordered_at,
  event_id                     AS order_id,
  seller_id,
  city,
  category,
  product_name                 AS product,
  payment_method,
  device,
  quantity                     AS pieces,
  revenue,
  profit
FROM silver.events
WHERE event_type = 'purchase';
