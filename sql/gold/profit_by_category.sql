-- What every category earns.
CREATE MATERIALIZED VIEW gold.profit_by_category
COMMENT 'Sales by seller and category.'
WITH (target_lag = '5 seconds')
AS SELECT
  seller_id,
  category,
  count(*)                              AS purchases,
  sum(quantity)                         AS pieces,
  sum(revenue)                          AS revenue,
  sum(profit)                           AS profit,
  margin_pct(sum(profit), sum(revenue)) AS margin_pct
FROM silver.events
WHERE event_type = 'purchase'
GROUP BY seller_id, category;
