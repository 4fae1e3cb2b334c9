//! Attempts to see what is not one's own. Each fails closed.

use super::{ask, denied, open_store, refused};
use flashcommerce::error::ErrorKind;

#[tokio::test]
async fn conditions_that_fail_tell_nothing_of_hidden_rows() {
    let lake = open_store().await;
    // S2 sold for 9, S1 did not: a division that only S2's rows would make fail, and a cast.
    lake.query("INSERT INTO s.sales VALUES ('S2', 'secret', 'pune', 'b9', 77, DATE '2026-11-21')").await;
    for probe in [
        "SELECT shop FROM s.clean WHERE 1 / (amount - 77) >= 0 OR shop IS NULL",
        "SELECT count(*) FROM s.clean WHERE CAST(replace(product, 'p', '') AS INT) >= 0 OR product IS NULL",
        "SELECT shop FROM s.clean WHERE CASE WHEN product = 'secret' THEN 1 / (amount - amount) ELSE 1 END = 1",
        "SELECT max(1 / (amount - 77)) FROM s.clean WHERE 1 / (amount - 77) < 5",
        "SELECT c.shop FROM s.clean c JOIN s.cities t ON upper(t.city) = c.city AND 1 / (c.amount - 77) < 5",
        "SELECT shop FROM s.clean ORDER BY 1 / (amount - 77) LIMIT 1",
    ] {
        let rows = ask(&lake, "s1", probe).await;
        assert!(rows.is_ok(), "{probe}: {}", rows.unwrap_err());
        let error = refused(&lake, "s2", probe).await;
        assert!(matches!(error.kind(), ErrorKind::Query), "the probe works on one's own rows: {probe}: {error}");
    }
}

/// Not by luck: whatever order the engine puts conditions in, one that can fail is not below the barrier.
#[tokio::test]
async fn a_condition_that_can_fail_stays_above_the_barrier() {
    let lake = open_store().await;
    let plan = async |condition: &str| {
        let sql = format!("EXPLAIN SELECT shop FROM s.clean WHERE {condition}");
        ask(&lake, "s1", &sql).await.unwrap().join("\n")
    };
    let harmless = plan("amount > 5 AND shop IN ('S1', 'S2')").await;
    assert!(harmless.contains("partial_filters"), "{harmless}");
    for telling in
        ["1 / (amount - 77) >= 0", "CAST(product AS INT) > 0", "product LIKE 'p%'", "amount + 1 > amount * 2"]
    {
        let above = plan(telling).await;
        assert!(!above.contains("partial_filters") && above.contains("FilterExec"), "{telling}: {above}");
    }
}

#[tokio::test]
async fn explanations_and_statistics_tell_nothing() {
    let lake = open_store().await;
    let own = ask(&lake, "s1", "SELECT count(*) FROM s.clean").await.unwrap().remove(0);
    let all = lake.query("SELECT count(*) FROM s.clean").await.remove(0);
    assert_ne!(own, all);
    for sql in [
        "EXPLAIN SELECT * FROM s.clean",
        "EXPLAIN ANALYZE SELECT * FROM s.clean",
        "EXPLAIN VERBOSE SELECT min(shop) FROM s.clean",
    ] {
        let text = ask(&lake, "s1", sql).await.unwrap().join("\n");
        assert!(text.contains("Guarded: s.clean"), "{text}");
        for hidden in ["parquet", "seller_id =", "shop@0 =", &format!("output_rows={all}")] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }
    // Not from the files' statistics, which know the rows of all.
    assert_eq!(
        ask(&lake, "s1", "SELECT min(shop), max(shop), count(*) FROM s.clean").await.unwrap(),
        [format!("S1|S1|{own}")]
    );
}

#[tokio::test]
async fn system_tables_and_other_tables_are_not_there() {
    let lake = open_store().await;
    lake.query("CREATE TABLE other.secrets (a INT)").await;
    for sql in [
        "SELECT * FROM system.refreshes",
        "SELECT * FROM system.materialized_views",
        "SELECT * FROM system.users",
        "SELECT * FROM system.policies",
        "SELECT * FROM other.secrets",
        "SHOW MATERIALIZED VIEWS",
    ] {
        let error = refused(&lake, "s1", sql).await;
        assert!(error.message().contains("not found"), "{sql}: {error}");
    }
    let listed =
        "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_schema <> 'information_schema'";
    assert_eq!(ask(&lake, "s1", listed).await.unwrap(), ["s"]);
    assert!(ask(&lake, "nobody", listed).await.unwrap().is_empty());
    assert!(refused(&lake, "nobody", "SELECT * FROM s.cities").await.message().contains("not found"));
    lake.query("GRANT SELECT ON system.materialized_views TO ann").await;
    assert!(!ask(&lake, "ann", "SHOW MATERIALIZED VIEWS").await.unwrap().is_empty());
}

#[tokio::test]
async fn nobody_helps_themselves() {
    let lake = open_store().await;
    for sql in [
        "GRANT admin TO s1",
        "CREATE USER eve ROLE admin",
        "ALTER USER s1 ATTRIBUTES (seller_id = 'S2')",
        "ALTER USER s2 PASSWORD 'mine, from now on'",
        "CREATE TOKEN t FOR s2",
        "DROP POLICY own_rows ON s.sales",
        "CREATE POLICY more ON s.sales TO seller USING (true)",
        "CREATE MATERIALIZED VIEW s.copy AS SELECT * FROM s.sales",
        "CREATE TABLE s.copy AS SELECT * FROM s.sales",
        "DROP MATERIALIZED VIEW s.total",
        "REFRESH MATERIALIZED VIEW s.total FULL",
        "AUDIT MATERIALIZED VIEW s.total",
        "EXPLAIN MATERIALIZED VIEW s.total",
        "EXPLAIN CREATE MATERIALIZED VIEW s.x AS SELECT * FROM s.sales",
        "INSERT INTO s.sales VALUES ('S1', 'p', 'x', 'b', 1, DATE '2026-11-01')",
        "UPDATE s.sales SET amount = 0 WHERE seller_id = 'S2' AND 1 / amount = 0",
        "DELETE FROM s.sales WHERE seller_id = 'S2'",
        "TRUNCATE TABLE s.sales",
    ] {
        denied(&lake, "s1", sql).await;
    }
    for sql in [
        "COPY s.clean TO '/tmp/out.csv'",
        "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/tmp/x'",
        "CREATE VIEW s.v AS SELECT 1",
    ] {
        refused(&lake, "s1", sql).await;
    }
    assert!(
        ask(&lake, "s1", "SELECT current_user, current_seller(), user_attribute('partner')").await.unwrap()[0]
            .starts_with("s1|S1|")
    );
}
