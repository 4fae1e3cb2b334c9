-- What every product earns.
CREATE MATERIALIZED VIEW gold.profit_by_product
COMMENT 'Sales by seller and product.'
WITH (target_lag = '5 seconds')
AS SELECT
  seller_id,
  product_id,
  product_name,
  category,
  count(*)      AS purchases,
  sum(quantity) AS pieces,
  sum(revenue)  AS revenue,
  sum(profit)   AS profit
FROM silver.events
WHERE event_type = 'purchase'
GROUP BY seller_id, product_id, product_name, category;
