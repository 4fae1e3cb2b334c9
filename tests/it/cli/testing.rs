//! `flash new` and `flash test`: a first project, its tests, and what a failing one says.

use std::fs;

use tempfile::TempDir;

use super::{Ended, flash};

/// The folder that `flash new shop` makes, one above it.
fn shop() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    flash(folder.path(), "new shop").ok();
    folder
}

fn in_shop(folder: &TempDir, line: &str) -> Ended {
    flash(&folder.path().join("shop"), line)
}

fn write(folder: &TempDir, path: &str, text: &str) {
    let path = folder.path().join("shop").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn change(folder: &TempDir, path: &str, from: &str, to: &str) {
    let text = fs::read_to_string(folder.path().join("shop").join(path)).unwrap();
    assert!(text.contains(from), "{path} has no {from}");
    write(folder, path, &text.replace(from, to));
}

fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no \"{part}\" in:\n{text}");
    }
}

#[test]
fn a_new_project_is_checked_tested_run_and_asked() {
    let folder = tempfile::tempdir().unwrap();
    let made = flash(folder.path(), "new shop").ok();
    holds(&made.stderr, &["cd shop", "flash check", "flash test", "flash run --until-caught-up"]);
    let checked = in_shop(&folder, "check").ok();
    holds(&checked.stdout, &["bronze.events", "silver.orders", "gold.sales_by_day"]);
    assert!(!checked.stderr.contains("unused"), "{}", checked.stderr);
    let tested = in_shop(&folder, "test").ok();
    holds(
        &tested.stdout,
        &["ok      sql/tests/orders.slt  3 statements, 3 queries", "each in two runs: 6 passed, 0 failed in "],
    );
    in_shop(&folder, "run --until-caught-up").ok();
    let sales = super::sql(&folder.path().join("shop"), "lake", "SELECT * FROM gold.sales_by_day ORDER BY day, city")
        .ok()
        .json();
    assert_eq!((sales[0]["revenue"].as_f64(), sales[1]["day"].as_str()), (Some(998.0), Some("2026-11-21")), "{sales}");
    assert_eq!(sales.as_array().unwrap().len(), 3, "{sales}");

    flash(folder.path(), "new shop").fails(1, &["shop is not empty", "hint:"]);
    fs::create_dir(folder.path().join("there")).unwrap();
    let json = flash(folder.path(), "new there --json").ok().json();
    assert_eq!((&json["folder"], &json["files"][1]), (&"there".into(), &".gitignore".into()));
    fs::write(folder.path().join("file"), "mine").unwrap();
    flash(folder.path(), "new file").fails(1, &["file is a file"]);
    assert_eq!(fs::read_to_string(folder.path().join("file")).unwrap(), "mine");
}

#[test]
fn a_view_that_is_changed_fails_its_test_until_both_agree() {
    let folder = shop();
    change(&folder, "sql/gold/sales_by_day.sql", "sum(price * quantity)", "sum(price)");
    let failed = in_shop(&folder, "test");
    assert_eq!(failed.code, 1, "{}{}", failed.stdout, failed.stderr);
    holds(
        &failed.stdout,
        &[
            "FAILED  sql/tests/orders.slt",
            "sql/tests/orders.slt:13: the rows differ (in both runs)",
            "    SELECT * FROM gold.sales_by_day\n    ---- (- expected, + found)\n",
            "      2026-11-20  Mumbai  1  1  99.50\n    - 2026-11-20  Pune    1  2  998.00\n    + 2026-11-20  Pune    1  2  499.00\n",
            "1 file, 3 statements, 3 queries, each in two runs: 4 passed, 2 failed in ",
        ],
    );
    let json = in_shop(&folder, "test --json");
    assert_eq!(json.code, 1);
    let json = json.json();
    let failure = &json["files"][0]["failures"][0];
    assert_eq!((&json["passed"], &json["failed"], &failure["line"]), (&4.into(), &2.into(), &13.into()));
    assert_eq!(failure["found"][1], "2026-11-20 Pune 1 2 499.00");
    assert_eq!(failure["runs"], serde_json::json!(["as written", "row by row"]));
    change(&folder, "sql/gold/sales_by_day.sql", "sum(price)", "sum(quantity * price)");
    in_shop(&folder, "test").ok();
}

#[test]
fn a_difference_between_the_runs_and_a_refused_statement_are_explained() {
    let folder = shop();
    let insert = "statement ok\nINSERT INTO raw.events (order_id, city) VALUES ('a', 'Pune'), ('b', 'Pune')\n\n";
    let epochs = "query I\nSELECT count(DISTINCT _epoch) FROM bronze.events\n----\n1\n";
    write(&folder, "sql/gold/epochs.slt", &format!("{insert}{epochs}"));
    let order = "query T\nSELECT city FROM gold.sales_by_day ORDER BY city\n----\nPune\n";
    write(&folder, "checks/order.slt", &format!("statement ok\nINSERT INTO raw.nothing VALUES (1)\n\n{order}"));
    let failed = in_shop(&folder, "test checks sql/gold/epochs.slt");
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    holds(
        &failed.stdout,
        &[
            "sql/gold/epochs.slt:4: the rows differ (in the run with a refresh after every row)",
            "    - 1\n    + 2\n",
            "hint: the run as written does not fail in this way: either the incremental refresh is at fault",
            "an order that it does not fix",
            "checks/order.slt:1: it was refused (in both runs)",
            "1 statement, 1 query; 1 not run",
            "2 files, 2 statements, 2 queries, each in two runs: 1 passed, 2 failed, 1 not run in ",
        ],
    );
    assert!(!failed.stdout.contains("orders.slt"), "only the named files: {}", failed.stdout);
}

#[test]
fn what_cannot_be_tested_is_no_success() {
    let folder = shop();
    write(&folder, "sql/tests/wrong.slt", "statement ok\nSELECT 1\n\nqurey I\nSELECT 1\n----\n1\n");
    in_shop(&folder, "test")
        .fails(2, &["\"qurey\" begins no record", "sql/tests/wrong.slt:4:1", "did you mean query?"]);
    in_shop(&folder, "test none.slt").fails(3, &["none.slt cannot be read"]);
    fs::remove_dir_all(folder.path().join("shop/sql/tests")).unwrap();
    in_shop(&folder, "test").fails(2, &["no tests in sql", "hint: write one", "INSERT INTO raw.events"]);
    change(&folder, "sql/gold/sales_by_day.sql", "silver.orders", "silver.order");
    write(&folder, "sql/tests/one.slt", "query I\nSELECT 1\n----\n1\n");
    in_shop(&folder, "test").fails(2, &["sql/gold/sales_by_day.sql"]);
}
