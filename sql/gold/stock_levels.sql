-- What is left: pieces received less pieces sold.
CREATE MATERIALIZED VIEW gold.stock_levels
COMMENT 'Pieces received, sold and left, by seller and product.'
WITH (target_lag = '5 seconds')
AS SELECT
  seller_id,
  product_id,
  product_name,
  category,
  coalesce(sum(quantity) FILTER (WHERE event_type = 'restock'), 0)  AS received,
  coalesce(sum(quantity) FILTER (WHERE event_type = 'purchase'), 0) AS sold,
  coalesce(sum(quantity) FILTER (WHERE event_type = 'restock'), 0)
    - coalesce(sum(quantity) FILTER (WHERE event_type = 'purchase'), 0) AS stock,
  min(event_time) FILTER (WHERE event_type = 'purchase')            AS first_sold_at,
  max(event_time) FILTER (WHERE event_type = 'purchase')            AS last_sold_at,
  max(event_time) FILTER (WHERE event_type = 'restock')             AS last_received_at
FROM silver.events
WHERE event_type IN ('purchase', 'restock')
GROUP BY seller_id, product_id, product_name, category;
