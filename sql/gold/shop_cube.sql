-- What can be filtered across: additive measures only, by the hour of the Indian day.
CREATE MATERIALIZED VIEW gold.shop_cube
PARTITIONED BY (day)
COMMENT 'Additive measures by seller, hour (Indian time), city, category and product.'
WITH (target_lag = '5 seconds')
AS SELECT
  CAST(event_time_ist AS DATE)                            AS day,
  date_trunc('hour', event_time_ist)                      AS hour,
  seller_id,
  city,
  category,
  product_name                                            AS product,
  count(*) FILTER (WHERE event_type = 'view')             AS views,
  count(*) FILTER (WHERE event_type = 'add_to_cart')      AS carts,
  count(*) FILTER (WHERE event_type = 'remove_from_cart') AS removals,
  count(*) FILTER (WHERE event_type = 'purchase')         AS purchases,
  count(*) FILTER (WHERE event_type = 'review')           AS reviews,
  sum(quantity) FILTER (WHERE event_type = 'purchase')    AS pieces,
  sum(revenue)                                            AS revenue,
  sum(profit)                                             AS profit
FROM silver.events
GROUP BY CAST(event_time_ist AS DATE), date_trunc('hour', event_time_ist), seller_id, city, category, product_name;
