-- What every tile of the dashboard means, and the only place where it is said.
--
--   gold ──relations, once a request──▶ places, cube, visits (in memory) ──tiles──▶ rows of the answer
--
-- A relation reads gold, bounded by the period and the seller; the caller's policies hold below it. A tile reads the
-- relations, or gold where it needs few rows. Each text also runs over Flight SQL, with values for its parameters:
--
--   $from, $to      the days of the period, from the first to before the last       $shift   how long it is
--   $before         the first day of the period before it, of the same length       $cut     up to where that one counts,
--   $grain          'hour' or 'day', for the trend                                             so that equal times compare
--   $now            the minute that it is, in India                                 $seller  one seller, or NULL
--   $cities, $categories, $products    lists; NULL stands for what has none         $any_...  TRUE where nothing is chosen
--
-- A tile whose values can be tapped leaves their own filter out, so that the choice can move.

-- name: places
SELECT city, state, latitude, longitude FROM gold.places;

-- name: cube
-- Rows that are drawn are whole hours, and those that are counted end at $cut, in the middle of an hour.
SELECT
  before, drawn, counted, at, city, category, product, orders, pieces, revenue, profit,
  $any_place    OR array_has($cities, coalesce(city, ''))         AS in_place,
  $any_category OR array_has($categories, coalesce(category, '')) AS in_category,
  $any_product  OR array_has($products, coalesce(product, ''))    AS in_product
FROM (
  SELECT
    day < $from                                                                               AS before,
    TRUE                                                                                      AS drawn,
    day >= $from OR hour < date_trunc('hour', $cut)                                           AS counted,
    date_trunc($grain, CASE WHEN day < $from THEN hour + $shift ELSE hour END)                AS at,
    city, category, product,
    sum(purchases) AS orders, sum(pieces) AS pieces, sum(revenue) AS revenue, sum(profit) AS profit
  FROM gold.shop_cube
  WHERE day >= $before AND day < $to AND ($seller IS NULL OR seller_id = $seller) AND purchases > 0
  GROUP BY 1, 2, 3, 4, city, category, product
  UNION ALL
  SELECT TRUE, FALSE, TRUE, $cut, city, category, product, count(*), sum(pieces), sum(revenue), sum(profit)
  FROM gold.orders
  WHERE day >= $before AND day < $from AND ordered_at >= date_trunc('hour', $cut) AND ordered_at < $cut
    AND ($seller IS NULL OR seller_id = $seller)
  GROUP BY city, category, product
) AS hours;

-- name: visits
-- A visit is what one session did in one shop on one Indian day. What is bought is asked of all of it.
SELECT
  max(CASE WHEN purchases > 0 THEN 3 WHEN carts > 0 THEN 2 WHEN views > 0 THEN 1 ELSE 0 END) FILTER (WHERE chosen) AS step,
  max(last_at) FILTER (WHERE chosen)                                            AS last_at,
  max(city) FILTER (WHERE chosen)                                               AS city,
  sum(purchases)                                                                AS bought,
  sum(carts - removals) FILTER (WHERE chosen)                                   AS items,
  sum(coalesce(put_in_cart, 0) - coalesce(taken_out, 0)) FILTER (WHERE chosen)  AS cart_value
FROM (
  SELECT
    *,
    ($any_place OR array_has($cities, coalesce(city, '')))
      AND ($any_category OR array_has($categories, coalesce(category, '')))
      AND ($any_product OR array_has($products, coalesce(product, '')))         AS chosen
  FROM gold.visit_steps
  WHERE day >= $from AND day < $to AND ($seller IS NULL OR seller_id = $seller)
) AS steps
GROUP BY day, seller_id, session_id
HAVING count(*) FILTER (WHERE chosen) > 0;

-- name: kpis
SELECT
  coalesce(sum(orders)  FILTER (WHERE NOT before), 0) AS orders,
  coalesce(sum(pieces)  FILTER (WHERE NOT before), 0) AS pieces,
  coalesce(sum(revenue) FILTER (WHERE NOT before), 0) AS revenue,
  coalesce(sum(profit)  FILTER (WHERE NOT before), 0) AS profit,
  coalesce(sum(orders)  FILTER (WHERE before), 0)     AS orders_before,
  coalesce(sum(revenue) FILTER (WHERE before), 0)     AS revenue_before,
  coalesce(sum(profit)  FILTER (WHERE before), 0)     AS profit_before
FROM cube
WHERE counted AND in_place AND in_category AND in_product;

-- name: visitors
SELECT count(*) AS visitors
FROM (
  SELECT DISTINCT seller_id, session_id
  FROM gold.visit_steps
  WHERE day >= CAST($now - INTERVAL '5 minutes' AS DATE) AND last_at > $now - INTERVAL '5 minutes'
    AND ($seller IS NULL OR seller_id = $seller)
    AND ($any_place OR array_has($cities, coalesce(city, '')))
    AND ($any_category OR array_has($categories, coalesce(category, '')))
    AND ($any_product OR array_has($products, coalesce(product, '')))
) AS active;

-- name: trend
SELECT
  at,
  sum(orders)  FILTER (WHERE NOT before) AS orders,
  sum(revenue) FILTER (WHERE NOT before) AS revenue,
  sum(profit)  FILTER (WHERE NOT before) AS profit,
  sum(orders)  FILTER (WHERE before)     AS orders_before,
  sum(revenue) FILTER (WHERE before)     AS revenue_before,
  sum(profit)  FILTER (WHERE before)     AS profit_before
FROM cube
WHERE drawn AND in_place AND in_category AND in_product
GROUP BY at
ORDER BY at;

-- name: trend_by_minute
-- The last hour, and the same hour of the day before.
SELECT
  at,
  count(*)     FILTER (WHERE NOT before) AS orders,
  sum(revenue) FILTER (WHERE NOT before) AS revenue,
  sum(profit)  FILTER (WHERE NOT before) AS profit,
  count(*)     FILTER (WHERE before)     AS orders_before,
  sum(revenue) FILTER (WHERE before)     AS revenue_before,
  sum(profit)  FILTER (WHERE before)     AS profit_before
FROM (
  SELECT
    ordered_at < $now - INTERVAL '2 hours' AS before,
    date_trunc('minute', CASE WHEN ordered_at < $now - INTERVAL '2 hours' THEN ordered_at + INTERVAL '1 day'
                              ELSE ordered_at END) AS at,
    revenue, profit
  FROM gold.orders
  WHERE day >= CAST($now - INTERVAL '25 hours' AS DATE)
    AND (ordered_at > $now - INTERVAL '1 hour'
         OR ordered_at > $now - INTERVAL '25 hours' AND ordered_at <= $now - INTERVAL '24 hours')
    AND ($seller IS NULL OR seller_id = $seller)
    AND ($any_place OR array_has($cities, coalesce(city, '')))
    AND ($any_category OR array_has($categories, coalesce(category, '')))
    AND ($any_product OR array_has($products, coalesce(product, '')))
) AS minutes
GROUP BY at
ORDER BY at;

-- name: funnel
SELECT
  count(*)                          AS visited,
  count(*) FILTER (WHERE step >= 1) AS viewed,
  count(*) FILTER (WHERE step >= 2) AS added,
  count(*) FILTER (WHERE step >= 3) AS bought
FROM visits;

-- name: cities
SELECT
  c.city, p.state, p.latitude, p.longitude,
  sum(c.orders) AS orders, sum(c.revenue) AS revenue, sum(c.profit) AS profit
FROM cube AS c LEFT JOIN places AS p ON p.city = c.city
WHERE NOT c.before AND c.in_category AND c.in_product
GROUP BY c.city, p.state, p.latitude, p.longitude
ORDER BY revenue DESC, c.city;

-- name: products
-- The first fifty, and the rest as one row without a name, so that the rows add up to the figures above.
SELECT
  CASE WHEN place <= 50 THEN product END AS product, CASE WHEN place <= 50 THEN category END AS category,
  sum(orders) AS orders, sum(pieces) AS pieces, sum(revenue) AS revenue, sum(profit) AS profit, min(place) AS place
FROM (
  SELECT *, row_number() OVER (ORDER BY profit DESC, product, category) AS place
  FROM (
    SELECT product, category, sum(orders) AS orders, sum(pieces) AS pieces, sum(revenue) AS revenue, sum(profit) AS profit
    FROM cube
    WHERE NOT before AND in_place AND in_category
    GROUP BY product, category
  ) AS each
) AS ranked
GROUP BY 1, 2
ORDER BY place;

-- name: categories
SELECT category, sum(orders) AS orders, sum(revenue) AS revenue, sum(profit) AS profit
FROM cube
WHERE NOT before AND in_place AND in_product
GROUP BY category
ORDER BY profit DESC, category;

-- name: carts
SELECT count(*) AS carts, coalesce(sum(items), 0) AS items, coalesce(sum(cart_value), 0) AS cart_value
FROM visits
WHERE bought = 0 AND items > 0;

-- name: largest_carts
SELECT last_at, city, items, cart_value
FROM visits
WHERE bought = 0 AND items > 0
ORDER BY cart_value DESC, last_at DESC
LIMIT 8;

-- name: stock
-- Stock has no place and no period. The fast movers that run out first, and the slow ones that most is left of.
SELECT seller_id, product, category, mover, sold, stock
FROM (
  SELECT
    seller_id, product_name AS product, category, mover, sold, stock,
    row_number() OVER (
      PARTITION BY mover
      ORDER BY CASE WHEN mover = 'fast' THEN CAST(stock AS DOUBLE) / sold ELSE -CAST(stock AS DOUBLE) END, product_id, seller_id
    ) AS place
  FROM gold.product_velocity
  WHERE mover IN ('fast', 'slow') AND (mover = 'slow' OR sold > 0)
    AND ($seller IS NULL OR seller_id = $seller)
    AND ($any_category OR array_has($categories, coalesce(category, '')))
    AND ($any_product OR array_has($products, coalesce(product_name, '')))
) AS ranked
WHERE place <= 5
ORDER BY mover, place;

-- name: orders
SELECT order_id, ordered_at, city, product, category, pieces, revenue
FROM gold.orders
WHERE day >= $from AND day < $to AND ($seller IS NULL OR seller_id = $seller)
  AND ($any_place OR array_has($cities, coalesce(city, '')))
  AND ($any_category OR array_has($categories, coalesce(category, '')))
  AND ($any_product OR array_has($products, coalesce(product, '')))
ORDER BY ordered_at DESC, order_id
LIMIT 10;

-- name: last_order
SELECT to_ist(max(last_sold_at)) AS ordered_at FROM gold.stock_levels WHERE ($seller IS NULL OR seller_id = $seller);

-- name: sellers
SELECT DISTINCT seller_id FROM gold.kpis ORDER BY seller_id;
