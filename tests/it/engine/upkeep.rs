//! Upkeep of a whole lake: what it keeps bounded, and what it leaves for those who need it.

use std::collections::BTreeMap;
use std::sync::Arc;

use flashcommerce::clock::Clock;
use flashcommerce::engine::audit_log::AuditEntry;
use flashcommerce::engine::{Prefer, ProjectObject};
use flashcommerce::error::ErrorKind;
use flashcommerce::storage::StorageOptions;
use futures::TryStreamExt;
use object_store::path::Path;

use super::harness::Lake;

const DAY_US: i64 = 24 * 3_600 * 1_000_000;

/// Objects below a folder.
async fn objects(lake: &Lake, folder: &str) -> Vec<String> {
    let listed: Vec<_> = lake.store.list(Some(&Path::from(folder))).try_collect().await.unwrap();
    listed.into_iter().map(|meta| meta.location.to_string()).collect()
}

async fn count(lake: &Lake, folder: &str, ends: &str) -> usize {
    objects(lake, folder).await.iter().filter(|path| path.ends_with(ends)).count()
}

/// Epochs, each with one row, each followed by the upkeep that is due.
async fn insert(lake: &Lake, from: usize, epochs: usize) {
    for n in from..from + epochs {
        lake.execute(&format!("INSERT INTO s.t VALUES ({}, {n})", n % 3)).await.unwrap();
        lake.engine.finish_maintenance().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordinary_tables_and_the_audit_log_are_kept_in_order() {
    let lake = Lake::keeping(0, Clock::System).await;
    lake.query("CREATE TABLE s.t (k INT, n INT)").await;
    lake.query("CREATE MATERIALIZED VIEW s.v AS SELECT k, count(*) AS c, sum(n) AS s FROM s.t GROUP BY k").await;
    lake.query("CREATE MATERIALIZED VIEW s.large AS SELECT k, n FROM s.t WHERE n >= 0").await;
    for n in 0..120 {
        lake.query(&format!("INSERT INTO s.t VALUES ({}, {n})", n % 3)).await;
        // Upkeep is under way beside these: it gives way, or they do it again.
        if n % 4 == 3 {
            lake.query(&format!("UPDATE s.t SET n = n + 1 WHERE n = {}", n - 2)).await;
            lake.query(&format!("DELETE FROM s.t WHERE n = {}", n - 3)).await;
        }
        let entry = AuditEntry { user: format!("u{n}"), event: "statement", outcome: "done", ..AuditEntry::default() };
        lake.engine.log_audit(&[entry]).await.unwrap();
    }
    insert(&lake, 1_000, 32).await;
    for (table, files) in [("s/t", 40), ("s/v", 40), ("s/large", 40), ("_flash/audit_log", 40)] {
        assert!(count(&lake, table, ".parquet").await <= files, "{table}: {:#?}", objects(&lake, table).await);
        let log = count(&lake, &format!("{table}/_delta_log"), ".json").await;
        assert!(log <= 130, "{table}: {log} entries");
    }
    let rows = "SELECT k, count(*), sum(n) FROM s.t GROUP BY k ORDER BY k";
    assert_eq!(lake.query("SELECT * FROM s.v ORDER BY k").await, lake.query(rows).await);
    let rows = "SELECT count(*), sum(n) FROM s.";
    assert_eq!(lake.query(&format!("{rows}large")).await, lake.query(&format!("{rows}t")).await);
    assert_eq!(lake.query("SELECT count(*), count(DISTINCT n) FROM s.t").await, ["122|92"]);
    assert_eq!(lake.query("SELECT count(*), count(DISTINCT user_name) FROM system.audit_log").await, ["120|120"]);
    let done = "SELECT operation, sum(files_removed) > 0, sum(files_added) > 0, count(error) FROM system.maintenance \
                WHERE table_name = 's.t' GROUP BY operation ORDER BY operation";
    let expected = ["checkpoint|false|true|0", "clean_log|true|false|0", "compact|true|true|0", "vacuum|true|false|0"];
    assert_eq!(lake.query(done).await, expected);
    // Another process sees what was done, too.
    let lines = lake.query("SELECT count(*) FROM system.maintenance").await;
    assert_eq!(lake.restart().await.query("SELECT count(*) FROM system.maintenance").await, lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_is_waited_for_at_the_end() {
    let lake = Lake::keeping(0, Clock::System).await;
    lake.query("CREATE TABLE s.t (k INT, n INT)").await;
    // Epochs after the one that begins the round, so that they could forget it.
    for n in 0..70 {
        lake.query(&format!("INSERT INTO s.t VALUES (1, {n})")).await;
    }
    lake.engine.finish_maintenance().await;
    let done = "SELECT count(*) > 0 FROM system.maintenance WHERE operation = 'checkpoint'";
    assert_eq!(lake.query(done).await, ["true"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_rests_finds_what_it_has_not_followed() {
    let lake = Lake::keeping(0, Clock::System).await;
    lake.query("CREATE TABLE s.t (k INT, n INT)").await;
    lake.query("CREATE MATERIALIZED VIEW s.v AS SELECT k, count(*) AS c FROM s.t GROUP BY k").await;
    lake.query("CREATE MATERIALIZED VIEW s.w AS SELECT k, max(c) AS m, count(*) AS c FROM s.v GROUP BY k").await;
    lake.query("CREATE MATERIALIZED VIEW s.other AS SELECT k, sum(n) AS s FROM s.t GROUP BY k").await;
    insert(&lake, 0, 20).await;
    lake.query("ALTER MATERIALIZED VIEW s.v SUSPEND").await;
    lake.query("ALTER MATERIALIZED VIEW s.w SUSPEND").await;
    insert(&lake, 20, 150).await;
    lake.query("UPDATE s.t SET n = -1 WHERE n < 10").await;
    insert(&lake, 200, 48).await;
    // A restart forgets what it held in memory; the log has it.
    let options = StorageOptions { retention_ms: 0, ..StorageOptions::default() };
    let lake = Lake::open_at(lake.store, lake.source, Prefer::default(), options, Clock::System).await.unwrap();
    insert(&lake, 300, 32).await;
    assert_eq!(lake.query("SELECT sum(c) FROM s.v").await, ["20"]);
    lake.query("ALTER MATERIALIZED VIEW s.v RESUME").await;
    lake.query("ALTER MATERIALIZED VIEW s.w RESUME").await;
    insert(&lake, 400, 1).await;
    let rows = lake.query("SELECT k, count(*) FROM s.t GROUP BY k ORDER BY k").await;
    assert_eq!(lake.query("SELECT * FROM s.v ORDER BY k").await, rows);
    assert_eq!(lake.query("SELECT k, m FROM s.w ORDER BY k").await, rows);
    let modes = "SELECT DISTINCT mode FROM system.refreshes WHERE view_name = 's.v' AND mode <> 'nothing'";
    assert_eq!(lake.query(modes).await, ["merge_state"], "it was not computed anew");
    // What is kept for it goes when it has followed.
    let before = count(&lake, "s/t", ".parquet").await;
    lake.query("ALTER MATERIALIZED VIEW s.v SUSPEND").await;
    insert(&lake, 500, 100).await;
    let meanwhile = count(&lake, "s/t", ".parquet").await;
    lake.query("ALTER MATERIALIZED VIEW s.v RESUME").await;
    insert(&lake, 600, 33).await;
    let after = count(&lake, "s/t", ".parquet").await;
    assert!(meanwhile >= 100 && after + 60 <= meanwhile && after < before, "{before}, {meanwhile}, {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_is_too_far_behind_says_so_and_holds_nobody_up() {
    let clock = Clock::fixed(1_763_600_000_000_000);
    let lake = Lake::keeping(0, clock.clone()).await;
    lake.query("CREATE TABLE s.t (k INT, n INT)").await;
    lake.query("CREATE MATERIALIZED VIEW s.v AS SELECT k, count(*) AS c FROM s.t GROUP BY k").await;
    lake.query("CREATE MATERIALIZED VIEW s.other AS SELECT k, count(*) AS c FROM s.t GROUP BY k").await;
    insert(&lake, 0, 3).await;
    lake.query("ALTER MATERIALIZED VIEW s.v SUSPEND").await;
    clock.set(clock.now_us() + 6 * DAY_US);
    insert(&lake, 3, 1).await;
    lake.query("ALTER MATERIALIZED VIEW s.v RESUME").await;
    insert(&lake, 4, 1).await;
    assert_eq!(lake.query("SELECT sum(c) FROM s.v").await, ["5"], "six days are not too many");
    lake.query("ALTER MATERIALIZED VIEW s.v SUSPEND").await;
    clock.set(clock.now_us() + 8 * DAY_US);
    insert(&lake, 5, 1).await;
    lake.query("ALTER MATERIALIZED VIEW s.v RESUME").await;
    insert(&lake, 6, 1).await;
    assert_eq!(lake.query("SELECT sum(c) FROM s.v").await, ["5"]);
    assert_eq!(lake.query("SELECT sum(c) FROM s.other").await, ["7"]);
    let error =
        "SELECT error FROM system.refreshes WHERE view_name = 's.v' AND state = 'failed' ORDER BY epoch DESC LIMIT 1";
    let error = lake.query(error).await.join("");
    assert!(error.contains("more than 7 days") && error.contains("REFRESH MATERIALIZED VIEW s.v FULL"), "{error}");
    lake.query("REFRESH MATERIALIZED VIEW s.v FULL").await;
    assert_eq!(lake.query("SELECT sum(c) FROM s.v").await, ["7"]);
    insert(&lake, 7, 1).await;
    assert_eq!(lake.query("SELECT sum(c) FROM s.v").await, ["8"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_stay_few_also_when_a_view_rests_or_was_dropped() {
    let lake = Lake::keeping(0, Clock::System).await;
    lake.query("CREATE TABLE s.t (k INT, n INT)").await;
    let view = "AS SELECT k, count(*) AS c FROM s.t GROUP BY k";
    lake.query(&format!("CREATE MATERIALIZED VIEW s.rests {view}")).await;
    lake.query(&format!("CREATE MATERIALIZED VIEW s.dropped {view}")).await;
    lake.query(
        "CREATE MATERIALIZED VIEW s.counted (CONSTRAINT c EXPECT (n > 0) ON VIOLATION DROP ROW) \
         AS SELECT k, CAST(NULL AS INT) AS n FROM s.t",
    )
    .await;
    insert(&lake, 0, 3).await;
    lake.query("ALTER MATERIALIZED VIEW s.rests SUSPEND").await;
    lake.query("DROP MATERIALIZED VIEW s.dropped").await;
    insert(&lake, 3, 1_060).await;
    let most = 1_000 + 16 + 4;
    for folder in ["_flash/epochs", "_flash/published"] {
        let records = count(&lake, folder, ".json").await;
        assert!((1_000..=most).contains(&records), "{folder}: {records}");
    }
    assert!(count(&lake, "_flash/facts", ".json").await <= 17, "{:?}", objects(&lake, "_flash/facts").await);
    assert!(count(&lake, "_flash/maintenance", ".json").await <= 32);
    let newest = lake.query("SELECT max(epoch) FROM system.refreshes").await;
    let kept = objects(&lake, "_flash/published").await.into_iter().min().unwrap();
    assert!(newest[0].parse::<u64>().unwrap() > 1_060 && !kept.ends_with(&format!("{:020}.json", 1)), "{kept}");
    let tables = lake.engine.published().borrow().tables.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(tables, ["s.counted", "s.rests", "s.t"], "what was dropped is not carried along");
    lake.query("ALTER MATERIALIZED VIEW s.rests RESUME").await;
    insert(&lake, 2_000, 33).await;
    assert_eq!(lake.query("SELECT sum(c) FROM s.rests").await, ["1096"]);
    let oldest = objects(&lake, "_flash/published").await.into_iter().min().unwrap();
    assert!(oldest > kept, "the record that it stood at goes, too: {oldest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_dropped_goes_after_a_week() {
    let clock = Clock::fixed(1_763_600_000_000_000);
    let lake = Lake::keeping(0, clock.clone()).await;
    lake.query("CREATE TABLE s.t (k INT, n INT)").await;
    lake.query("CREATE TABLE s.gone (k INT)").await;
    lake.query("CREATE MATERIALIZED VIEW s.v AS SELECT k, avg(n) AS a FROM s.t GROUP BY k HAVING count(*) > 1").await;
    lake.query("INSERT INTO s.gone VALUES (1)").await;
    insert(&lake, 0, 6).await;
    assert!(count(&lake, "_state", ".parquet").await > 0);
    for sql in ["DROP TABLE s.gone", "DROP MATERIALIZED VIEW s.v"] {
        assert!(lake.query(sql).await[0].ends_with("dropped; its files stay in the lake for 7 days"));
    }
    // A table of the same name is another one.
    lake.query("CREATE TABLE s.gone (k INT)").await;
    lake.query("INSERT INTO s.gone VALUES (2)").await;
    clock.set(clock.now_us() + 7 * DAY_US - 1);
    insert(&lake, 10, 16).await;
    assert_eq!((count(&lake, "s/gone", "").await > 0, count(&lake, "s/v", "").await > 0), (true, true));
    clock.set(clock.now_us() + 1);
    insert(&lake, 30, 32).await;
    for folder in ["s/gone", "s/v", "_state"] {
        assert_eq!(objects(&lake, folder).await, Vec::<String>::new());
    }
    assert_eq!(lake.query("SELECT * FROM s.gone").await, ["2"]);
    let swept = "SELECT table_name, files_removed > 0, bytes_removed > 0 FROM system.maintenance \
                 WHERE operation = 'sweep' AND table_name LIKE 's/%' ORDER BY table_name";
    assert_eq!(lake.query(swept).await, ["s/gone|true|true", "s/v|true|true"], "once each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_stay_few_and_nobody_writes_in_the_place_of_old_ones() {
    let lake = Lake::new(&[]).await;
    let late = Lake::open(Arc::clone(&lake.store), Arc::default()).await.unwrap();
    for n in 0..40 {
        lake.apply(&format!("CREATE TABLE s.t{n} (k INT)")).await;
    }
    assert_eq!(count(&lake, "_flash/definitions", ".json").await, 32);
    let object = ProjectObject { file: None, sql: "CREATE TABLE s.late (k INT)".into(), data: None };
    let error = late.engine.apply(&[object]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let tables: BTreeMap<_, _> = (0..40).map(|n| (n, format!("CREATE TABLE s.t{n} (k INT)"))).collect();
    let lake = lake.restart().await;
    for sql in tables.values() {
        assert!(lake.execute(sql).await.is_err(), "{sql} is there");
    }
}
