-- What every tile of the dashboard means, and the only place where it is said.
--
--   gold ──relations──▶ places, sold, steps, shelf, last_orders, sellers      in memory, kept from question to question
--             │
--             └──of a question──▶ cube, visits ──tiles──▶ rows of the answer
--
-- A relation reads gold, bounded by its days and the seller; the caller's policies hold below it. What else is asked for
-- (places, categories, products, the times that compare) is asked of what is in memory. Each text also runs over Flight
-- SQL, with values for its parameters:
--
--   $from, $to      the days of the period, from the first to before the last       $shift   how long it is
--   $before         the first day of the period before it, of the same length       $cut     up to where that one counts,
--   $grain          'hour' or 'day', for the trend                                             so that equal times compare
--   $now            the minute that it is, in India                                 $seller  one seller, or NULL
--   $cities, $categories, $products    lists; '' stands for what has none           $any_...  TRUE where nothing is chosen
--   $first, $end, $days                what a relation is read of: days from the first to before the end, of this list
--
-- A tile whose values can be tapped leaves their own filter out, so that the choice can move.

-- name: places
SELECT city, state, latitude, longitude FROM gold.places;

-- name: sold
SELECT day, seller_id, ordered_at, order_id, city, category, product, pieces, revenue, profit
FROM gold.orders
WHERE day >= $first AND day < $end AND ($any_day OR day IN ($days)) AND ($seller IS NULL OR seller_id = $seller);

-- name: steps
-- What one session did in one shop on one Indian day is a visit; rows of one have one number, `visit`, in memory.
SELECT
  day, seller_id, session_id, last_at, city, category, product,
  CAST(CASE WHEN purchases > 0 THEN 3 WHEN carts > 0 THEN 2 WHEN views > 0 THEN 1 ELSE 0 END AS TINYINT) AS step,
  purchases, carts - removals AS items, coalesce(put_in_cart, 0) - coalesce(taken_out, 0) AS cart_value
FROM gold.visit_steps
WHERE day >= $first AND day < $end AND ($any_day OR day IN ($days)) AND ($seller IS NULL OR seller_id = $seller);

-- name: shelf
SELECT seller_id, product_id, product_name AS product, category, mover, sold, stock
FROM gold.product_velocity
WHERE ($seller IS NULL OR seller_id = $seller);

-- name: last_orders
SELECT seller_id, to_ist(max(last_sold_at)) AS ordered_at
FROM gold.stock_levels
WHERE ($seller IS NULL OR seller_id = $seller)
GROUP BY seller_id;

-- name: sellers
SELECT DISTINCT seller_id FROM gold.kpis ORDER BY seller_id;

-- name: cube
SELECT
  day < $from                                                                                AS before,
  day >= $from OR ordered_at < $cut                                                          AS counted,
  date_trunc($grain, CASE WHEN day < $from THEN ordered_at + $shift ELSE ordered_at END)     AS at,
  CAST(city AS VARCHAR) AS city, CAST(category AS VARCHAR) AS category, CAST(product AS VARCHAR) AS product,
  CAST(1 AS BIGINT) AS orders, pieces, revenue, profit,
  $any_place    OR city IN ($cities)         OR city IS NULL     AND '' IN ($cities)         AS in_place,
  $any_category OR category IN ($categories) OR category IS NULL AND '' IN ($categories)     AS in_category,
  $any_product  OR product IN ($products)    OR product IS NULL  AND '' IN ($products)       AS in_product
FROM sold
WHERE day >= $before AND day < $to AND ($seller IS NULL OR seller_id = $seller);

-- name: visits
-- What is bought is asked of all of a visit.
SELECT
  visit,
  max(step) FILTER (WHERE chosen)        AS step,
  max(last_at) FILTER (WHERE chosen)     AS last_at,
  sum(purchases)                         AS bought,
  sum(items) FILTER (WHERE chosen)       AS items,
  sum(cart_value) FILTER (WHERE chosen)  AS cart_value
FROM (
  SELECT
    visit, step, last_at, purchases, items, cart_value,
    ($any_place OR city IN ($cities) OR city IS NULL AND '' IN ($cities))
      AND ($any_category OR category IN ($categories) OR category IS NULL AND '' IN ($categories))
      AND ($any_product OR product IN ($products) OR product IS NULL AND '' IN ($products)) AS chosen
  FROM steps
  WHERE day >= $from AND day < $to AND ($seller IS NULL OR seller_id = $seller)
) AS each
GROUP BY visit
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
  FROM steps
  WHERE day >= CAST($now - INTERVAL '5 minutes' AS DATE) AND last_at > $now - INTERVAL '5 minutes'
    AND ($seller IS NULL OR seller_id = $seller)
    AND ($any_place OR city IN ($cities) OR city IS NULL AND '' IN ($cities))
    AND ($any_category OR category IN ($categories) OR category IS NULL AND '' IN ($categories))
    AND ($any_product OR product IN ($products) OR product IS NULL AND '' IN ($products))
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
WHERE in_place AND in_category AND in_product
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
  FROM sold
  WHERE day >= CAST($now - INTERVAL '25 hours' AS DATE)
    AND (ordered_at > $now - INTERVAL '1 hour'
         OR ordered_at > $now - INTERVAL '25 hours' AND ordered_at <= $now - INTERVAL '24 hours')
    AND ($seller IS NULL OR seller_id = $seller)
    AND ($any_place OR city IN ($cities) OR city IS NULL AND '' IN ($cities))
    AND ($any_category OR category IN ($categories) OR category IS NULL AND '' IN ($categories))
    AND ($any_product OR product IN ($products) OR product IS NULL AND '' IN ($products))
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
  c.city, p.state, p.latitude, p.longitude, c.orders, c.revenue, c.profit
FROM (
  SELECT city, sum(orders) AS orders, sum(revenue) AS revenue, sum(profit) AS profit
  FROM cube
  WHERE NOT before AND in_category AND in_product
  GROUP BY city
) AS c LEFT JOIN places AS p ON p.city = c.city
ORDER BY c.revenue DESC, c.city;

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
SELECT c.last_at, max(CAST(s.city AS VARCHAR)) AS city, c.items, c.cart_value
FROM (
  SELECT visit, last_at, items, cart_value
  FROM visits
  WHERE bought = 0 AND items > 0
  ORDER BY cart_value DESC, last_at DESC
  LIMIT 8
) AS c JOIN (
  SELECT visit, city
  FROM steps
  WHERE day >= $from AND day < $to AND ($seller IS NULL OR seller_id = $seller)
    AND ($any_place OR city IN ($cities) OR city IS NULL AND '' IN ($cities))
    AND ($any_category OR category IN ($categories) OR category IS NULL AND '' IN ($categories))
    AND ($any_product OR product IN ($products) OR product IS NULL AND '' IN ($products))
) AS s ON s.visit = c.visit
GROUP BY c.visit, c.last_at, c.items, c.cart_value
ORDER BY c.cart_value DESC, c.last_at DESC;

-- name: stock
-- Stock has no place and no period. The fast movers that run out first, and the slow ones that most is left of.
SELECT seller_id, product, category, mover, sold, stock
FROM (
  SELECT
    seller_id, product, category, mover, sold, stock,
    row_number() OVER (
      PARTITION BY mover
      ORDER BY CASE WHEN mover = 'fast' THEN CAST(stock AS DOUBLE) / sold ELSE -CAST(stock AS DOUBLE) END, product_id, seller_id
    ) AS place
  FROM shelf
  WHERE mover IN ('fast', 'slow') AND (mover = 'slow' OR sold > 0)
    AND ($seller IS NULL OR seller_id = $seller)
    AND ($any_category OR category IN ($categories) OR category IS NULL AND '' IN ($categories))
    AND ($any_product OR product IN ($products) OR product IS NULL AND '' IN ($products))
) AS ranked
WHERE place <= 5
ORDER BY mover, place;

-- name: orders
SELECT order_id, ordered_at, city, product, category, pieces, revenue
FROM sold
WHERE day >= $from AND day < $to AND ($seller IS NULL OR seller_id = $seller)
  AND ($any_place OR city IN ($cities) OR city IS NULL AND '' IN ($cities))
  AND ($any_category OR category IN ($categories) OR category IS NULL AND '' IN ($categories))
  AND ($any_product OR product IN ($products) OR product IS NULL AND '' IN ($products))
ORDER BY ordered_at DESC, order_id
LIMIT 10;

-- name: last_order
SELECT max(ordered_at) AS ordered_at FROM last_orders WHERE ($seller IS NULL OR seller_id = $seller);
