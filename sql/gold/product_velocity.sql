-- Fast and slow movers: every product of a seller by how many pieces it has sold.
CREATE MATERIALIZED VIEW gold.product_velocity
COMMENT 'Products by seller, ranked by pieces sold; the first quarter is fast, the last one slow.'
WITH (target_lag = '5 seconds')
AS SELECT
  seller_id,
  product_id,
  product_name,
  category,
  sold,
  stock,
  place,
  CASE WHEN quarter = 1 THEN 'fast' WHEN quarter = 4 THEN 'slow' ELSE 'steady' END AS mover
FROM (
  SELECT
    *,
    rank() OVER (PARTITION BY seller_id ORDER BY sold DESC)              AS place,
    ntile(4) OVER (PARTITION BY seller_id ORDER BY sold DESC, product_id) AS quarter
  FROM gold.stock_levels
) AS ranked;
