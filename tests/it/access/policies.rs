//! Row policies: what a seller gets is what the owner would get of the seller's rows alone.

use super::{APART, MIXED, SELLERS, ask, denied, open_store, principal, run, sorted, store};
use crate::engine::harness::Lake;
use flashcommerce::catalog::Principal;

/// Queries over what tells the rows apart. `$v`: each of those views.
pub(super) const QUERIES: [&str; 16] = [
    "SELECT * FROM s.$v",
    "SELECT count(*), count(shop), min(shop), max(shop) FROM s.$v",
    "SELECT shop, count(*) FROM s.$v GROUP BY shop HAVING count(*) > 1",
    "SELECT DISTINCT shop FROM s.$v WHERE shop IS NOT NULL AND shop <> 'S2'",
    "SELECT shop FROM s.$v ORDER BY shop LIMIT 3",
    "SELECT x.shop, y.product FROM s.$v x JOIN s.by_product y ON x.shop = y.shop",
    "SELECT x.shop FROM s.$v x LEFT JOIN s.clean y ON x.shop = y.shop AND y.amount > 15 WHERE y.shop IS NULL",
    "SELECT y.shop FROM s.$v x FULL JOIN s.shops y ON x.shop = y.shop",
    "SELECT shop FROM s.$v WHERE shop IN (SELECT shop FROM s.best) OR shop NOT IN (SELECT shop FROM s.best)",
    "SELECT (SELECT count(*) FROM s.$v), (SELECT max(amount) FROM s.clean), EXISTS (SELECT 1 FROM s.$v WHERE shop = 'S2')",
    "SELECT shop, row_number() OVER (ORDER BY shop), count(*) OVER () FROM s.$v",
    "WITH a AS (SELECT shop FROM s.$v UNION ALL SELECT shop FROM s.ranked) SELECT shop, count(*) FROM a GROUP BY ROLLUP (shop)",
    "SELECT shop FROM s.$v EXCEPT SELECT shop FROM s.returning",
    "SELECT shop FROM s.$v INTERSECT SELECT shop FROM s.clean",
    "SELECT count(*) FROM s.$v TABLESAMPLE SYSTEM (100)",
    "SELECT sum(1 / (length(shop) - 1)) FROM s.$v",
];

/// What each side gives; errors only need to be errors on both.
async fn compare(whole: &Lake, seller: &Principal, alone: &Lake, sql: &str) {
    let got = run(whole, seller, sql).await.map(sorted);
    let wanted = run(alone, &Principal::system(), sql).await.map(sorted);
    match (got, wanted) {
        (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{}: {sql}", seller.subject),
        (Err(_), Err(_)) => {}
        (got, wanted) => panic!("{}: {sql}\ngot {got:?}\nwanted {wanted:?}", seller.subject),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seller_gets_what_the_owner_would_get_of_their_rows_alone() {
    let whole = open_store().await;
    let mut rows = 0;
    for seller in SELLERS {
        let alone = store(Some(seller)).await;
        let principal = principal(&whole, &seller.to_lowercase()).await;
        for sql in APART.iter().flat_map(|view| QUERIES.map(|sql| sql.replace("$v", view))) {
            compare(&whole, &principal, &alone, &sql).await;
        }
        compare(&whole, &principal, &alone, "SELECT * FROM s.sales").await;
        compare(
            &whole,
            &principal,
            &alone,
            "SELECT c.state, count(s.amount) FROM s.cities c LEFT JOIN s.sales s USING (city) GROUP BY 1",
        )
        .await;
        rows += run(&whole, &principal, "SELECT * FROM s.clean").await.unwrap().len();
    }
    assert!(rows > 30, "{rows}: the policies hide everything");
}

#[tokio::test]
async fn a_change_is_seen_by_those_whose_it_is() {
    let lake = open_store().await;
    let before = ask(&lake, "s1", "SELECT sum(sales) FROM s.by_product").await.unwrap();
    lake.query("INSERT INTO s.sales VALUES ('S2', 'p1', 'pune', 'b1', 9, DATE '2026-11-21')").await;
    assert_eq!(ask(&lake, "s1", "SELECT sum(sales) FROM s.by_product").await.unwrap(), before);
    lake.query("INSERT INTO s.sales VALUES ('S1', 'p1', 'pune', 'b1', 9, DATE '2026-11-21')").await;
    assert_ne!(ask(&lake, "s1", "SELECT sum(sales) FROM s.by_product").await.unwrap(), before);
    // Who somebody is can change, too.
    lake.query("ALTER USER s1 ATTRIBUTES (seller_id = 'S2')").await;
    assert_eq!(ask(&lake, "s1", "SELECT DISTINCT shop FROM s.clean").await.unwrap(), ["S2"]);
    lake.query("ALTER USER s1 ATTRIBUTES ()").await;
    assert!(
        ask(&lake, "s1", "SELECT shop FROM s.clean").await.unwrap().is_empty(),
        "without a seller there are no rows"
    );
}

#[tokio::test]
async fn a_view_that_mixes_sellers_is_closed_until_it_is_declassified() {
    let lake = open_store().await;
    for view in MIXED {
        let error = denied(&lake, "s1", &format!("SELECT * FROM s.{view}")).await;
        assert!(
            error.message().contains("own_rows")
                || error.message().contains("s.sales")
                || error.message().contains("s."),
            "{error}"
        );
        assert!(error.hint().unwrap().contains(&format!("ALTER MATERIALIZED VIEW s.{view} DECLASSIFY")), "{error}");
        assert!(
            !ask(&lake, "ann", &format!("SELECT * FROM s.{view}")).await.unwrap().is_empty(),
            "ann may see all rows"
        );
    }
    denied(&lake, "s1", "ALTER MATERIALIZED VIEW s.total DECLASSIFY").await;
    lake.query("ALTER MATERIALIZED VIEW s.total DECLASSIFY").await;
    assert_eq!(ask(&lake, "s1", "SELECT * FROM s.total").await.unwrap(), lake.query("SELECT * FROM s.total").await);
    lake.query("ALTER MATERIALIZED VIEW s.total CLASSIFY").await;
    denied(&lake, "s1", "SELECT * FROM s.total").await;
}

#[tokio::test]
async fn policies_add_up_and_restrictive_ones_narrow() {
    let lake = open_store().await;
    let shops = async |user| sorted(ask(&lake, user, "SELECT DISTINCT shop FROM s.clean").await.unwrap());
    lake.query("CREATE POLICY partner ON s.sales TO seller USING (seller_id = user_attribute('partner'))").await;
    assert_eq!(shops("s1").await, ["S1"], "who has no partner sees what they saw");
    lake.query("ALTER USER s1 ATTRIBUTES (seller_id = 'S1', partner = 'S3')").await;
    assert_eq!(shops("s1").await, ["S1", "S3"]);
    lake.query("CREATE POLICY late ON s.sales AS RESTRICTIVE TO seller USING (day > DATE '2026-11-10')").await;
    assert_eq!(ask(&lake, "s1", "SELECT count(*) FROM s.sales WHERE day <= DATE '2026-11-10'").await.unwrap(), ["0"]);
    // by_product has no day any more: the new policy does not reach it.
    denied(&lake, "s1", "SELECT * FROM s.by_product").await;
    lake.query("DROP POLICY late ON s.sales").await;
    assert!(!ask(&lake, "s1", "SELECT * FROM s.by_product").await.unwrap().is_empty());
    // A policy on a view holds besides those of its inputs.
    lake.query("CREATE POLICY few ON s.ranked TO seller, analyst USING (place = 1)").await;
    assert_eq!(sorted(ask(&lake, "s1", "SELECT DISTINCT shop, place FROM s.ranked").await.unwrap()), ["S1|1", "S3|1"]);
    let firsts = lake.query("SELECT count(*) FROM s.ranked WHERE place = 1").await;
    assert_eq!(ask(&lake, "ann", "SELECT count(*) FROM s.ranked").await.unwrap(), firsts);
}

#[tokio::test]
async fn a_table_with_policies_shows_nothing_by_default_and_says_so() {
    let lake = open_store().await;
    lake.query("GRANT SELECT ON s.clean TO nobody").await;
    let error = denied(&lake, "nobody", "SELECT count(*) FROM s.clean").await;
    assert!(error.message().contains("no policy of s.sales shows you rows"), "{error}");
    assert!(error.hint().unwrap().contains("USING (true)"), "{error}");
    lake.query("GRANT SELECT ON s.cities TO nobody").await;
    assert_eq!(ask(&lake, "nobody", "SELECT count(*) FROM s.cities").await.unwrap(), ["3"]);
}

#[tokio::test]
async fn a_policy_must_fit_its_table() {
    let lake = open_store().await;
    for (sql, says) in [
        ("CREATE POLICY p ON s.sales USING (shop = 'S1')", "shop"),
        ("CREATE POLICY p ON s.sales USING (amount)", "not a condition"),
        ("CREATE POLICY p ON s.sales USING (amount > (SELECT 1))", "subquery"),
        ("CREATE POLICY p ON s.sales USING (random() < 0.5)", "another value"),
        ("CREATE POLICY p ON s.nowhere USING (true)", "s.nowhere"),
        ("CREATE POLICY p ON s.sales TO ghosts USING (true)", "ghosts"),
        ("CREATE POLICY own_rows ON s.sales USING (true)", "already"),
        ("CREATE MASK m ON s.sales (name) USING ('x')", "name"),
        (
            "CREATE MATERIALIZED VIEW s.mine AS SELECT * FROM s.sales WHERE seller_id = current_seller()",
            "current_seller",
        ),
    ] {
        let error = lake.execute(sql).await.unwrap_err().to_string();
        assert!(error.contains(says), "{sql}: {error}");
    }
}

#[tokio::test]
async fn old_rows_are_not_shown_by_the_rules_of_a_new_definition() {
    let lake = open_store().await;
    assert!(!ask(&lake, "s1", "SELECT * FROM s.shops").await.unwrap().is_empty());
    // The cities are for everybody; what lies at this name until the next refresh is not.
    lake.apply("CREATE MATERIALIZED VIEW s.shops AS SELECT city AS shop FROM s.cities").await;
    let error = denied(&lake, "s1", "SELECT * FROM s.shops").await;
    assert!(error.message().contains("is being rebuilt"), "{error}");
    lake.pass_until_idle().await;
    assert_eq!(ask(&lake, "s1", "SELECT count(*) FROM s.shops").await.unwrap(), ["3"]);
}

#[tokio::test]
async fn what_was_said_of_an_object_goes_with_it() {
    let lake = open_store().await;
    lake.query("ALTER MATERIALIZED VIEW s.total DECLASSIFY").await;
    lake.query("GRANT SELECT ON s.total TO nobody").await;
    lake.apply("CREATE MATERIALIZED VIEW s.total AS SELECT buyer, count(*) AS sales FROM s.clean GROUP BY buyer").await;
    lake.pass_until_idle().await;
    denied(&lake, "s1", "SELECT * FROM s.total").await;
    lake.query("DROP MATERIALIZED VIEW s.total").await;
    assert!(!lake.engine.access().await.unwrap().declassified.contains_key(&"s.total".parse().unwrap()));
    lake.query("CREATE MATERIALIZED VIEW s.total AS SELECT count(*) AS cities FROM s.cities").await;
    assert!(ask(&lake, "nobody", "SELECT * FROM s.total").await.unwrap_err().message().contains("not found"));
}
