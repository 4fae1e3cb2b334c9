-- How far shoppers come: views, carts, purchases, and what share of the views each step is.
CREATE MATERIALIZED VIEW gold.conversion_funnel
COMMENT 'Views, carts and purchases by seller, with rates in percent of the views.'
WITH (target_lag = '5 seconds')
AS SELECT
  seller_id,
  count(*) FILTER (WHERE event_type = 'view')             AS views,
  count(*) FILTER (WHERE event_type = 'add_to_cart')      AS carts,
  count(*) FILTER (WHERE event_type = 'remove_from_cart') AS removals,
  count(*) FILTER (WHERE event_type = 'purchase')         AS purchases,
  CAST(100.0 * count(*) FILTER (WHERE event_type = 'add_to_cart')
    / NULLIF(count(*) FILTER (WHERE event_type = 'view'), 0) AS DECIMAL(18, 2)) AS views_to_cart_pct,
  CAST(100.0 * count(*) FILTER (WHERE event_type = 'purchase')
    / NULLIF(count(*) FILTER (WHERE event_type = 'view'), 0) AS DECIMAL(18, 2)) AS views_to_purchase_pct
FROM silver.events
GROUP BY seller_id;
