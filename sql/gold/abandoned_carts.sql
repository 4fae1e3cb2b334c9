-- Visits that filled a cart and bought nothing: whom to write to, and what it would be worth.
-- A row goes away when the visit ends in a purchase after all.
CREATE MATERIALIZED VIEW gold.abandoned_carts
PARTITIONED BY (day)
COMMENT 'Sessions with something left in the cart and no purchase.'
WITH (target_lag = '5 seconds')
AS SELECT
  day,
  seller_id,
  session_id,
  user_id,
  last_event_at,
  carts - removals                           AS items,
  put_in_cart - coalesce(taken_out, 0)       AS cart_value
FROM gold.sessions
WHERE purchases = 0 AND carts > removals;
