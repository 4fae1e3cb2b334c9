//! Column masks: what is hidden stays hidden in what is built on it.

use super::{ask, lines_of, open_store};

#[tokio::test]
async fn a_masked_column_is_masked_in_the_views_above() {
    let lake = open_store().await;
    lake.query("CREATE MASK no_names ON s.sales (buyer) TO analyst USING (left(buyer, 1) || '**')").await;
    assert_eq!(lines_of(ask(&lake, "ann", "SELECT DISTINCT buyer FROM s.sales").await), ["b**"]);
    assert_eq!(lines_of(ask(&lake, "ann", "SELECT DISTINCT buyer FROM s.clean").await), ["b**"], "a copy");
    assert_eq!(
        lines_of(ask(&lake, "ann", "SELECT DISTINCT first_buyer FROM s.by_product").await),
        ["NULL"],
        "a value of one"
    );
    let buyers = "SELECT sum(buyers) FROM s.by_product";
    assert_eq!(
        lines_of(ask(&lake, "ann", buyers).await),
        lake.query(buyers).await,
        "a count of them is nobody's value"
    );
    assert_eq!(
        lines_of(ask(&lake, "ann", "SELECT count(*) FROM s.clean WHERE buyer = 'b3'").await),
        ["0"],
        "nor by a condition"
    );
    assert_eq!(lines_of(ask(&lake, "ann", "SELECT count(*) FROM s.clean WHERE buyer LIKE 'b3%'").await), ["0"]);
    // Sellers are not analysts.
    assert!(lines_of(ask(&lake, "s1", "SELECT DISTINCT buyer FROM s.sales").await).len() > 1);
    lake.query("DROP MASK no_names ON s.sales").await;
    assert!(lines_of(ask(&lake, "ann", "SELECT DISTINCT buyer FROM s.clean").await).len() > 1);
}

#[tokio::test]
async fn masks_and_policies_hold_together() {
    let lake = open_store().await;
    lake.query("CREATE MASK amounts ON s.sales (amount) TO seller USING (amount / 10 * 10)").await;
    let amounts = lines_of(
        ask(&lake, "s1", "SELECT DISTINCT amount % 10 FROM s.sales WHERE seller_id = 'S1' AND amount IS NOT NULL")
            .await,
    );
    assert_eq!(amounts, ["0"]);
    assert_eq!(lines_of(ask(&lake, "s1", "SELECT DISTINCT seller_id FROM s.sales WHERE amount >= 0").await), ["S1"]);
    // Sums of what is hidden are values of it.
    assert_eq!(lines_of(ask(&lake, "s1", "SELECT DISTINCT revenue FROM s.by_product").await), ["NULL"]);
}

#[tokio::test]
async fn what_tells_a_masked_value_is_masked() {
    let lake = open_store().await;
    for sql in [
        "CREATE TABLE s.buyers (name VARCHAR)",
        "INSERT INTO s.buyers VALUES ('b1'), ('b2'), ('b3')",
        "CREATE MATERIALIZED VIEW s.named AS SELECT s.product, b.name FROM s.sales s JOIN s.buyers b ON b.name = s.buyer",
        "CREATE MATERIALIZED VIEW s.guessed AS SELECT product, count(*) FILTER (WHERE buyer = 'b3') AS threes, \
         count(CASE WHEN buyer = 'b3' THEN 1 END) AS too, count(buyer) AS all_of_them FROM s.sales GROUP BY product",
        "CREATE MATERIALIZED VIEW s.asked AS SELECT product, nullif(buyer, 'b3') IS NULL AS is_b3 FROM s.sales",
        "CREATE MASK a ON s.sales (buyer) TO analyst USING ('?')",
    ] {
        lake.query(sql).await;
    }
    for (sql, shown) in [
        ("SELECT DISTINCT name FROM s.named", "NULL"),
        ("SELECT DISTINCT threes, too, all_of_them IS NULL FROM s.guessed", "NULL|NULL|false"),
        ("SELECT DISTINCT is_b3 FROM s.asked", "NULL"),
    ] {
        assert_eq!(lines_of(ask(&lake, "ann", sql).await), [shown], "{sql}");
    }
    lake.query("CREATE MASK z ON s.sales (buyer) TO analyst USING (buyer)").await;
    assert_eq!(lines_of(ask(&lake, "ann", "SELECT DISTINCT buyer FROM s.sales").await), ["NULL"], "two masks");
}
