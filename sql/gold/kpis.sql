-- The key figures of every seller; add them up for those of the store (rates from their own totals).
CREATE MATERIALIZED VIEW gold.kpis
COMMENT 'Key figures by seller: one row each.'
WITH (target_lag = '5 seconds')
AS SELECT
  seller_id,
  count(*)                                                 AS events,
  count(*) FILTER (WHERE event_type = 'view')              AS views,
  count(*) FILTER (WHERE event_type = 'add_to_cart')       AS carts,
  count(*) FILTER (WHERE event_type = 'purchase')          AS purchases,
  sum(quantity) FILTER (WHERE event_type = 'purchase')     AS pieces,
  sum(revenue)                                             AS revenue,
  sum(profit)                                              AS profit,
  margin_pct(sum(profit), sum(revenue))                    AS margin_pct,
  max(event_time)                                          AS last_event_time
FROM silver.events
GROUP BY seller_id;
