-- Sales on the map.
CREATE MATERIALIZED VIEW gold.revenue_by_city
COMMENT 'Sales by seller and city, with coordinates in degrees.'
WITH (target_lag = '5 seconds')
AS SELECT
  e.seller_id,
  c.name          AS city,
  c.state,
  c.latitude,
  c.longitude,
  count(*)        AS purchases,
  sum(e.quantity) AS pieces,
  sum(e.revenue)  AS revenue,
  sum(e.profit)   AS profit
FROM silver.events AS e
INNER JOIN ref.cities AS c ON c.name = e.city
WHERE e.event_type = 'purchase'
GROUP BY e.seller_id, c.name, c.state, c.latitude, c.longitude;
