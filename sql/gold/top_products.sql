-- The five most profitable products of the store.
CREATE MATERIALIZED VIEW gold.top_products
COMMENT 'The five most profitable products of the store.'
WITH (target_lag = '5 seconds')
AS SELECT
  product_id,
  product_name,
  category,
  sum(purchases) AS purchases,
  sum(pieces)    AS pieces,
  sum(revenue)   AS revenue,
  sum(profit)    AS profit
FROM gold.profit_by_product
GROUP BY product_id, product_name, category
ORDER BY profit DESC, product_id
LIMIT 5;
