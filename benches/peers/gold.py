"""The views of sql/gold as plain queries over `silver` and `cities`, in the SQL that all three peers understand."""

import os

SALES = "count(*) AS purchases, sum(quantity) AS pieces, sum(revenue) AS revenue, sum(profit) AS profit"
MARGIN = "round(100 * sum(profit) / nullif(sum(revenue), 0), 2) AS margin_pct"


def of_type(name, value="1"):
    return f"sum(CASE WHEN event_type = '{name}' THEN {value} ELSE 0 END)"


GOLD = {
    "kpis": f"""
SELECT seller_id, count(*) AS events, {of_type("view")} AS views, {of_type("add_to_cart")} AS carts,
       {of_type("purchase")} AS purchases, {of_type("purchase", "quantity")} AS pieces,
       sum(revenue) AS revenue, sum(profit) AS profit, {MARGIN}, max(event_time) AS last_event_time
FROM silver GROUP BY seller_id""",
    "conversion_funnel": f"""
SELECT seller_id, {of_type("view")} AS views, {of_type("add_to_cart")} AS carts,
       {of_type("remove_from_cart")} AS removals, {of_type("purchase")} AS purchases,
       round(100.0 * {of_type("add_to_cart")} / nullif({of_type("view")}, 0), 2) AS views_to_cart_pct,
       round(100.0 * {of_type("purchase")} / nullif({of_type("view")}, 0), 2) AS views_to_purchase_pct
FROM silver GROUP BY seller_id""",
    "profit_by_category": f"""
SELECT seller_id, category, {SALES}, {MARGIN}
FROM silver WHERE event_type = 'purchase' GROUP BY seller_id, category""",
    "profit_by_product": f"""
SELECT seller_id, product_id, product_name, category, {SALES}
FROM silver WHERE event_type = 'purchase' GROUP BY seller_id, product_id, product_name, category""",
    "revenue_by_city": f"""
SELECT e.seller_id, c.name AS city, c.state, c.latitude, c.longitude, {SALES}
FROM silver AS e INNER JOIN cities AS c ON c.name = e.city
WHERE e.event_type = 'purchase' GROUP BY e.seller_id, c.name, c.state, c.latitude, c.longitude""",
    "sales_by_minute": f"""
SELECT CAST(event_time_ist AS DATE) AS day, date_trunc('minute', event_time_ist) AS minute, seller_id, {SALES}
FROM silver WHERE event_type = 'purchase'
GROUP BY CAST(event_time_ist AS DATE), date_trunc('minute', event_time_ist), seller_id""",
    "shop_cube": f"""
SELECT CAST(event_time_ist AS DATE) AS day, date_trunc('hour', event_time_ist) AS hour, seller_id, city, category,
       product_name AS product, {of_type("view")} AS views, {of_type("add_to_cart")} AS carts,
       {of_type("remove_from_cart")} AS removals, {of_type("purchase")} AS purchases, {of_type("review")} AS reviews,
       {of_type("purchase", "quantity")} AS pieces, sum(revenue) AS revenue, sum(profit) AS profit
FROM silver
GROUP BY CAST(event_time_ist AS DATE), date_trunc('hour', event_time_ist), seller_id, city, category, product_name""",
    "sessions": f"""
SELECT CAST(event_time_ist AS DATE) AS day, seller_id, session_id, max(user_id) AS user_id,
       min(event_time_ist) AS started_at, max(event_time_ist) AS last_event_at,
       {of_type("view")} AS views, {of_type("add_to_cart")} AS carts, {of_type("remove_from_cart")} AS removals,
       {of_type("purchase")} AS purchases, {of_type("add_to_cart", "price * quantity")} AS put_in_cart,
       {of_type("remove_from_cart", "price * quantity")} AS taken_out, sum(revenue) AS revenue,
       CASE WHEN {of_type("purchase")} > 0 THEN 'purchase' WHEN {of_type("add_to_cart")} > 0 THEN 'cart'
            WHEN {of_type("view")} > 0 THEN 'view' ELSE 'other' END AS furthest_step
FROM silver WHERE session_id IS NOT NULL GROUP BY CAST(event_time_ist AS DATE), seller_id, session_id""",
    "visit_steps": f"""
SELECT CAST(event_time_ist AS DATE) AS day, seller_id, session_id, city, category, product_name AS product,
       max(event_time_ist) AS last_at, {of_type("view")} AS views, {of_type("add_to_cart")} AS carts,
       {of_type("remove_from_cart")} AS removals, {of_type("purchase")} AS purchases,
       {of_type("add_to_cart", "price * quantity")} AS put_in_cart,
       {of_type("remove_from_cart", "price * quantity")} AS taken_out
FROM silver WHERE session_id IS NOT NULL
GROUP BY CAST(event_time_ist AS DATE), seller_id, session_id, city, category, product_name""",
    "orders": """
SELECT CAST(event_time_ist AS DATE) AS day, event_time_ist AS ordered_at, event_id AS order_id, seller_id, city,
       category, product_name AS product, payment_method, device, quantity AS pieces, revenue, profit
FROM silver WHERE event_type = 'purchase'""",
    "places": """
SELECT name AS city, state, latitude, longitude FROM cities""",
    "abandoned_carts": """
SELECT day, seller_id, session_id, user_id, last_event_at, carts - removals AS items,
       put_in_cart - taken_out AS cart_value
FROM sessions WHERE purchases = 0 AND carts > removals""",
    "stock_levels": f"""
SELECT seller_id, product_id, product_name, category, {of_type("restock", "quantity")} AS received,
       {of_type("purchase", "quantity")} AS sold,
       {of_type("restock", "quantity")} - {of_type("purchase", "quantity")} AS stock,
       min(CASE WHEN event_type = 'purchase' THEN event_time END) AS first_sold_at,
       max(CASE WHEN event_type = 'purchase' THEN event_time END) AS last_sold_at,
       max(CASE WHEN event_type = 'restock' THEN event_time END) AS last_received_at
FROM silver WHERE event_type IN ('purchase', 'restock') GROUP BY seller_id, product_id, product_name, category""",
    "product_velocity": """
SELECT seller_id, product_id, product_name, category, sold, stock,
       rank() OVER (PARTITION BY seller_id ORDER BY sold DESC) AS place,
       ntile(4) OVER (PARTITION BY seller_id ORDER BY sold DESC, product_id) AS quarter
FROM stock_levels""",
    "top_products": """
SELECT product_id, product_name, category, sum(purchases) AS purchases, sum(pieces) AS pieces,
       sum(revenue) AS revenue, sum(profit) AS profit
FROM profit_by_product GROUP BY product_id, product_name, category
ORDER BY sum(profit_by_product.profit) DESC, product_id LIMIT 5""",
}


def check(repository):
    """Stop when a view of sql/gold is left out here, or the other way round."""
    files = os.listdir(os.path.join(repository, "sql", "gold"))
    views = {name.removesuffix(".sql") for name in files if name.endswith(".sql")}
    if views != set(GOLD):
        raise SystemExit(f"sql/gold and benches/peers/gold.py differ in {sorted(views ^ set(GOLD))}")
