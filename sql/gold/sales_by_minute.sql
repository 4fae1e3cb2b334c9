-- The pulse of the store.
CREATE MATERIALIZED VIEW gold.sales_by_minute
PARTITIONED BY (day)
COMMENT 'Sales by seller and minute of the Indian day.'
WITH (target_lag = '5 seconds')
AS SELECT
  CAST(event_time_ist AS DATE)         AS day,
  date_trunc('minute', event_time_ist) AS minute,
  seller_id,
  count(*)                             AS purchases,
  sum(quantity)                        AS pieces,
  sum(revenue)                         AS revenue,
  sum(profit)                          AS profit
FROM silver.events
WHERE event_type = 'purchase'
GROUP BY CAST(event_time_ist AS DATE), date_trunc('minute', event_time_ist), seller_id;
