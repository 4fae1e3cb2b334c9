//! Who sees what, as the files of a project say it.

use std::sync::Arc;

use flashcommerce::engine::ProjectObject;
use flashcommerce::engine::plan::PlannedChange as Change;
use flashcommerce::error::ErrorKind;

use super::ask;
use crate::engine::faults::Failing;
use crate::engine::harness::Lake;

const SALES: &str = "CREATE TABLE s.sales (shop VARCHAR, buyer VARCHAR, amount INT)";
const CLEAN: &str = "CREATE MATERIALIZED VIEW s.clean AS SELECT shop, buyer, amount FROM s.sales WHERE amount > 0;
    CREATE POLICY own ON s.clean TO seller USING (shop = current_seller());
    CREATE MASK name ON s.clean (buyer) TO seller USING ('***');
    GRANT SELECT ON s.clean TO seller";
const SHOPS: &str = "CREATE MATERIALIZED VIEW s.shops AS SELECT shop, sum(amount) AS total FROM s.clean GROUP BY shop;
    GRANT SELECT ON s.shops TO seller";
const TOTAL: &str = "CREATE MATERIALIZED VIEW s.total AS SELECT sum(amount) AS total FROM s.clean";

/// Files by the names of their objects.
fn project(files: &[&str]) -> Vec<ProjectObject> {
    let object = |sql: &&str| {
        let name = sql.split_whitespace().find(|word| word.starts_with("s.")).unwrap();
        ProjectObject { file: Some(format!("sql/{}.sql", name.replace('.', "/"))), sql: (*sql).into(), data: None }
    };
    files.iter().map(object).collect()
}

/// A lake that holds these, with a seller who is `asha`.
async fn deployed(files: &[&str]) -> Lake {
    let lake = Lake::new(&[]).await;
    lake.engine.deploy(&project(files), None).await.unwrap();
    people(&lake).await;
    lake
}

async fn people(lake: &Lake) {
    for sql in [
        "CREATE USER root ROLE admin",
        "CREATE USER asha ROLE seller ATTRIBUTES (seller_id = 'S1')",
        "INSERT INTO s.sales VALUES ('S1', 'b1', 1), ('S2', 'b2', 10), ('S1', 'b3', 2)",
    ] {
        lake.query(sql).await;
    }
}

async fn planned(lake: &Lake, files: &[&str]) -> Vec<(String, Change)> {
    let planned = lake.engine.plan(&project(files)).await.unwrap();
    let changed = planned.into_iter().filter(|object| object.change != Change::Unchanged);
    changed.map(|object| (object.name.to_string(), object.change)).collect()
}

#[tokio::test]
async fn a_file_says_who_sees_what_of_its_object() {
    let files = [SALES, CLEAN, SHOPS];
    let lake = deployed(&files).await;
    assert_eq!(ask(&lake, "asha", "SELECT * FROM s.clean ORDER BY amount").await.unwrap(), ["S1|***|1", "S1|***|2"]);
    assert_eq!(ask(&lake, "asha", "SELECT * FROM s.shops").await.unwrap(), ["S1|3"], "its policy goes up");
    assert_eq!(planned(&lake, &files).await, [], "again is nothing");

    // The file says it otherwise: nothing is built, and it holds from then on.
    let wider = CLEAN
        .replace("shop = current_seller()", "true")
        .replace("CREATE MASK name ON s.clean (buyer) TO seller USING ('***');", "");
    let files = [SALES, &wider, SHOPS];
    assert_eq!(planned(&lake, &files).await, [("s.clean".to_string(), Change::Altered)]);
    assert!(lake.engine.deploy(&project(&files), None).await.unwrap().built.is_empty());
    assert_eq!(ask(&lake, "asha", "SELECT count(*), max(buyer) FROM s.clean").await.unwrap(), ["3|b3"]);

    // What is taken out of the file does not hold any more; without its grant nobody reads it.
    let alone = CLEAN.split(';').next().unwrap();
    lake.engine.deploy(&project(&[SALES, alone, SHOPS]), None).await.unwrap();
    let refused = ask(&lake, "asha", "SELECT * FROM s.clean").await.unwrap_err();
    assert!(refused.message().contains("not found"), "{refused}");
    assert_eq!(lake.query("SELECT count(*) FROM system.policies").await, ["0"]);
    assert_eq!(ask(&lake, "asha", "SELECT count(*) FROM s.shops").await.unwrap(), ["2"]);
}

#[tokio::test]
async fn what_was_said_at_a_prompt_stays_and_what_was_taken_from_a_file_comes_back() {
    let files = [SALES, CLEAN];
    let lake = deployed(&files).await;
    lake.query("CREATE POLICY small ON s.clean AS RESTRICTIVE TO seller USING (amount < 2)").await;
    assert_eq!(ask(&lake, "asha", "SELECT amount FROM s.clean").await.unwrap(), ["1"]);
    assert_eq!(planned(&lake, &files).await, []);

    lake.query("DROP POLICY own ON s.clean").await;
    lake.query("CREATE POLICY own ON s.clean TO seller USING (true)").await;
    assert_eq!(planned(&lake, &files).await, [("s.clean".to_string(), Change::Altered)]);
    lake.engine.deploy(&project(&files), None).await.unwrap();
    assert_eq!(ask(&lake, "asha", "SELECT amount FROM s.clean").await.unwrap(), ["1"]);
    assert_eq!(
        lake.query("SELECT policy_name, condition FROM system.policies WHERE kind <> 'mask' ORDER BY 1").await,
        ["own|shop = current_seller()", "small|amount < 2"]
    );

    // The object goes, and what its file said with it.
    lake.engine.deploy(&project(&[SALES]), None).await.unwrap();
    assert_eq!(lake.query("SELECT policy_name FROM system.policies").await, ["small"]);
}

#[tokio::test]
async fn a_view_that_is_declassified_by_its_file_stays_so_when_it_changes() {
    let open = format!("{TOTAL}; GRANT SELECT ON s.total TO seller; ALTER MATERIALIZED VIEW s.total DECLASSIFY");
    let lake = deployed(&[SALES, CLEAN, &open]).await;
    assert_eq!(ask(&lake, "asha", "SELECT * FROM s.total").await.unwrap(), ["13"]);
    let other = open.replace("sum(amount)", "2 * sum(amount)");
    lake.engine.deploy(&project(&[SALES, CLEAN, &other]), None).await.unwrap();
    assert_eq!(ask(&lake, "asha", "SELECT * FROM s.total").await.unwrap(), ["26"]);
    let closed = other.replace("; ALTER MATERIALIZED VIEW s.total DECLASSIFY", "");
    lake.engine.deploy(&project(&[SALES, CLEAN, &closed]), None).await.unwrap();
    let refused = ask(&lake, "asha", "SELECT * FROM s.total").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
}

/// Old rows by old rules, or new rows by new rules, or nothing: wherever a change of both is cut off, there and after a
/// restart; and the next attempt ends it.
#[tokio::test]
async fn a_change_that_is_cut_off_anywhere_shows_nobody_too_much() {
    // Before: S1 only, without names. Then: everything, but no column of names.
    let after = "CREATE MATERIALIZED VIEW s.clean AS SELECT shop, 'x' AS buyer, 2 * amount AS amount FROM s.sales WHERE amount > 0;
        CREATE POLICY own ON s.clean TO seller USING (true);
        GRANT SELECT ON s.clean TO seller";
    let query = "SELECT shop, buyer, amount FROM s.clean ORDER BY shop, amount";
    let old = vec!["S1|***|1".to_string(), "S1|***|2".into()];
    let new = vec!["S1|x|2".to_string(), "S1|x|4".into(), "S2|x|20".into()];
    let (mut refused, mut ended) = (0, false);
    for write in 0..100 {
        let store = Failing::calm();
        let lake = Lake::open(Arc::clone(&store) as _, Arc::default()).await.unwrap();
        lake.engine.deploy(&project(&[SALES, CLEAN, SHOPS]), None).await.unwrap();
        people(&lake).await;
        assert_eq!(ask(&lake, "asha", query).await.unwrap(), old);
        store.fail_at(write);
        let deployed = lake.engine.deploy(&project(&[SALES, after, SHOPS]), None).await;
        ended = deployed.is_ok() && !store.has_failed();
        store.fail_at(i64::MAX);
        let seen = async |lake: &Lake| match ask(lake, "asha", query).await {
            Ok(rows) => {
                assert!(rows == old || rows == new, "write {write}: {rows:?}");
                false
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Denied, "write {write}: {error}");
                true
            }
        };
        refused += usize::from(seen(&lake).await);
        let lake = lake.restart().await;
        refused += usize::from(seen(&lake).await);
        lake.engine.deploy(&project(&[SALES, after, SHOPS]), None).await.unwrap();
        assert_eq!(ask(&lake, "asha", query).await.unwrap(), new, "write {write}");
        assert_eq!(ask(&lake, "asha", "SELECT * FROM s.shops ORDER BY 1").await.unwrap(), ["S1|6", "S2|20"]);
        assert_eq!(planned(&lake, &[SALES, after, SHOPS]).await, []);
        if ended {
            break;
        }
    }
    assert!(ended && refused > 1, "ended: {ended}, refused: {refused}");
}

#[tokio::test]
async fn a_file_after_a_prompt_takes_away_what_the_file_before_has_given() {
    let lake = deployed(&[SALES, CLEAN]).await;
    let alone = CLEAN.split(';').next().unwrap();
    // The definition goes and comes back without its file.
    lake.query("DROP MATERIALIZED VIEW s.clean").await;
    lake.query(alone).await;
    let other = format!(
        "{alone}; CREATE POLICY others ON s.clean TO seller USING (shop = 'S2'); GRANT SELECT ON s.clean TO seller"
    );
    lake.engine.deploy(&project(&[SALES, &other]), None).await.unwrap();
    assert_eq!(ask(&lake, "asha", "SELECT amount FROM s.clean").await.unwrap(), ["10"]);
    assert_eq!(lake.query("SELECT policy_name FROM system.policies").await, ["others"]);
}

#[tokio::test]
async fn a_rule_that_does_not_fit_is_found_before_anything_changes() {
    let lake = Lake::new(&[]).await;
    for (rule, expected) in [
        ("CREATE POLICY p ON s.sales USING (shopp = 'a')", "shopp"),
        ("CREATE POLICY p ON s.sales USING (shop)", "is not a condition"),
        ("CREATE MASK m ON s.sales (buyers) USING (NULL)", "there is no column \"buyers\""),
        ("CREATE POLICY p ON s.clean USING (true)", "is of s.sales, and this is of s.clean"),
    ] {
        let wrong = format!("{SALES};\n{rule}");
        let error = lake.engine.deploy(&project(&[&wrong]), None).await.unwrap_err();
        assert!(error.message().contains(expected), "{rule}: {error}");
        assert_eq!(error.location().map(|at| at.line), Some(2), "{rule}");
        let checked = lake.engine.check(&project(&[&wrong])).await;
        assert_eq!(checked.errors.len(), 1, "{rule}: {:?}", checked.errors);
    }
    assert_eq!(lake.query("SELECT count(*) FROM system.policies").await, ["0"]);
}

#[tokio::test]
async fn check_tells_of_views_that_no_policy_reaches() {
    let lake = Lake::new(&[]).await;
    let warned = async |files: &[&str]| {
        let checked = lake.engine.check(&project(files)).await;
        assert!(checked.errors.is_empty(), "{:?}", checked.errors);
        checked.warnings.iter().map(|warning| warning.message().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(warned(&[SALES, CLEAN, SHOPS]).await, [""; 0]);
    assert_eq!(warned(&[SALES, CLEAN, TOTAL]).await, ["a policy of s.clean does not reach s.total"]);
    let granted = format!("{TOTAL}; GRANT SELECT ON s.total TO seller");
    assert_eq!(warned(&[SALES, CLEAN, &granted]).await.len(), 1, "it is refused, not shown");
    let open = format!("{TOTAL}; ALTER MATERIALIZED VIEW s.total DECLASSIFY");
    assert_eq!(warned(&[SALES, CLEAN, &open]).await, [""; 0]);
    let granted = format!("{SALES}; GRANT SELECT ON s.sales TO analyst");
    assert_eq!(warned(&[&granted, CLEAN]).await, ["s.sales is granted to analyst, and has no policy"]);
    let meant = format!("{granted}; CREATE POLICY everybody ON s.sales TO analyst USING (true)");
    assert_eq!(warned(&[&meant, CLEAN]).await, [""; 0]);
    assert_eq!(warned(&[&granted]).await, [""; 0], "a project without policies");
}
