-- What every city sells, by Indian day.
CREATE MATERIALIZED VIEW gold.sales_by_day
COMMENT 'Orders, pieces and revenue by day and city.'
WITH (target_lag = '5 seconds')
AS SELECT
  CAST(ordered_at AS DATE) AS day,
  city,
  count(*)                 AS orders,
  sum(quantity)            AS pieces,
  sum(price * quantity)    AS revenue
FROM silver.orders
GROUP BY CAST(ordered_at AS DATE), city;
