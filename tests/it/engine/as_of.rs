//! Tables as they were: by version, by moment, at every door; what is gone, and what was never published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch};
use flashcommerce::catalog::Principal;
use flashcommerce::clock::Clock;
use flashcommerce::engine::{Answer, Prefer};
use flashcommerce::epoch::PublishedRecord;
use flashcommerce::error::{Error, ErrorKind};
use flashcommerce::storage::{Commit, DeltaStorage, Storage as _, StorageOptions};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::harness::{Lake, lines};

/// 2025-11-20 00:53:20 UTC.
const BEGAN_US: i64 = 1_763_600_000_000_000;
const MINUTE_US: i64 = 60_000_000;
const RETENTION_MS: i64 = 75 * 60_000;

fn at(minute: i64) -> String {
    chrono::DateTime::from_timestamp_micros(BEGAN_US + minute * MINUTE_US).unwrap().to_rfc3339()
}

/// A table and views of it; the row (k, n) comes in minute n, of 1 to 6.
async fn lake() -> (Lake, Clock) {
    let clock = Clock::fixed(BEGAN_US);
    let lake = Lake::keeping(RETENTION_MS, clock.clone()).await;
    lake.query("CREATE TABLE s.t (k INT, n INT)").await;
    lake.query("CREATE MATERIALIZED VIEW s.v AS SELECT k, count(*) AS c, sum(n) AS s FROM s.t GROUP BY k").await;
    lake.query("CREATE MATERIALIZED VIEW s.total AS SELECT count(*) AS c FROM s.t").await;
    for n in 1..=6 {
        clock.set(BEGAN_US + n * MINUTE_US);
        lake.query(&format!("INSERT INTO s.t VALUES ({}, {n})", n % 2)).await;
    }
    (lake, clock)
}

async fn refused(lake: &Lake, sql: &str) -> Error {
    lake.execute(sql).await.err().unwrap_or_else(|| panic!("{sql} was not refused"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_that_was_published_is_read_by_number_and_by_time() {
    let (lake, clock) = lake().await;
    clock.set(BEGAN_US + 7 * MINUTE_US);
    let grouped =
        |n: i64| format!("SELECT n % 2 AS k, count(*), sum(n) FROM generate_series(1, {n}) AS g(n) GROUP BY 1");
    for n in 1..=6 {
        let rows = lake.query(&format!("{} ORDER BY k", grouped(n))).await;
        for moment in [at(n), at(n).replace(":20+", ":59.999999+")] {
            for clause in ["TIMESTAMP AS OF", "FOR TIMESTAMP AS OF", "FOR SYSTEM_TIME AS OF"] {
                let then = lake.query(&format!("SELECT * FROM s.v {clause} '{moment}' ORDER BY k")).await;
                assert_eq!(then, rows, "{clause} {moment}");
            }
        }
        let version =
            format!("SELECT version FROM system.versions WHERE object_name = 's.v' AND published_at = '{}'", at(n));
        let version = lake.query(&version).await.join("");
        for clause in ["VERSION AS OF", "for version as of"] {
            let then = lake.query(&format!("SELECT v.k, s.v.c, s FROM s.v {clause} {version} ORDER BY s.v.k")).await;
            assert_eq!(then, rows, "{clause} {version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_as_of_one_moment_agree() {
    let (lake, _) = lake().await;
    for n in 1..=6 {
        let moment = at(n);
        let joined = format!(
            "WITH v AS (SELECT sum(c) AS c, sum(s) AS s FROM s.v TIMESTAMP AS OF '{moment}') \
             SELECT v.c, v.s, a.c, (SELECT count(*) FROM s.t FOR SYSTEM_TIME AS OF '{moment}') \
             FROM v CROSS JOIN s.total FOR TIMESTAMP AS OF '{moment}' AS a"
        );
        assert_eq!(lake.query(&joined).await, [format!("{n}|{}|{n}|{n}", n * (n + 1) / 2)]);
    }
    let moments = (1..=6).map(|n| format!("(SELECT c FROM s.total TIMESTAMP AS OF '{}') AS c{n}", at(n)));
    let all = format!("SELECT (SELECT c FROM s.total) AS now, {}", moments.collect::<Vec<_>>().join(", "));
    assert_eq!(lake.query(&all).await, ["6|1|2|3|4|5|6"], "texts that differ in nothing but the version");
    let unions = (1..=6).map(|n| format!("SELECT c FROM s.total TIMESTAMP AS OF '{}'", at(n)));
    let unions = unions.collect::<Vec<_>>().join(" UNION ") + " ORDER BY c";
    assert_eq!(lake.query(&unions).await, ["1", "2", "3", "4", "5", "6"]);
    let change = format!(
        "SELECT now.k, now.c - then.c FROM s.v AS now JOIN s.v TIMESTAMP AS OF '{}' AS then ON now.k = then.k ORDER BY 1",
        at(3)
    );
    assert_eq!(lake.query(&change).await, ["0|2", "1|1"]);
    let ago = "SELECT c FROM s.total TIMESTAMP AS OF now() - INTERVAL '2 minutes'";
    assert_eq!(lake.query(ago).await, ["4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_rows_reads_them_as_they_were() {
    let (lake, clock) = lake().await;
    let three = at(3);
    let explained = lake.query(&format!("EXPLAIN SELECT k FROM s.v TIMESTAMP AS OF '{three}' AS old")).await.join("\n");
    assert!(explained.contains("SubqueryAlias: old") && explained.contains("TableScan: s.v@"), "{explained}");
    lake.query(&format!("CREATE TABLE s.copied AS SELECT n FROM s.t TIMESTAMP AS OF '{three}'")).await;
    lake.query(&format!("INSERT INTO s.copied SELECT n * 10 FROM s.t FOR TIMESTAMP AS OF '{}'", at(1))).await;
    assert_eq!(lake.query("SELECT n FROM s.copied ORDER BY n").await, ["1", "2", "3", "10"]);

    clock.set(BEGAN_US + 7 * MINUTE_US);
    lake.query("DELETE FROM s.t WHERE n < 5").await;
    lake.query(&format!("UPDATE s.t SET n = n + 100 WHERE n NOT IN (SELECT n FROM s.t TIMESTAMP AS OF '{}')", at(5)))
        .await;
    assert_eq!(lake.query("SELECT n FROM s.t ORDER BY n").await, ["5", "106"]);
    lake.query(&format!(
        "DELETE FROM s.t WHERE EXISTS (SELECT 1 FROM s.v TIMESTAMP AS OF '{three}' AS v WHERE v.s = 2 AND t.n = 5)"
    ))
    .await;
    assert_eq!(lake.query("SELECT n FROM s.t ORDER BY n").await, ["106"]);
    // What was deleted by mistake comes back.
    lake.query(&format!(
        "MERGE INTO s.t USING s.t TIMESTAMP AS OF '{}' AS was ON t.n = was.n \
         WHEN NOT MATCHED THEN INSERT (k, n) VALUES (was.k, was.n)",
        at(6)
    ))
    .await;
    assert_eq!(lake.query("SELECT n FROM s.t ORDER BY n").await, ["1", "2", "3", "4", "5", "6", "106"]);
    assert_eq!(lake.query("SELECT c FROM s.total").await, ["7"]);
    for sql in ["DELETE FROM s.t VERSION AS OF 1", "UPDATE s.t VERSION AS OF 1 SET n = 1"] {
        let error = refused(&lake, sql).await;
        assert_eq!((error.kind(), error.location().unwrap().line), (ErrorKind::Definition, 1), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_statement_reads_an_old_version_and_takes_values() {
    let (lake, _) = lake().await;
    let sql = format!("SELECT n FROM s.t TIMESTAMP AS OF '{}' WHERE n > $1 ORDER BY n", at(4));
    let session = lake.engine.session(&Principal::system()).await.unwrap();
    let described = lake.engine.describe(&session, &sql).await.unwrap();
    assert_eq!((described.parameters.len(), described.schema.fields().len()), (1, 1));
    let values = RecordBatch::try_from_iter([("$1", Arc::new(Int32Array::from(vec![2])) as _)]).unwrap();
    let Answer::Rows { stream, .. } =
        lake.engine.execute_with(&session, &Principal::system(), &sql, &values).await.unwrap()
    else {
        panic!("no rows")
    };
    assert_eq!(lines(&stream.try_collect::<Vec<_>>().await.unwrap()), ["3", "4"]);
    for sql in ["SELECT * FROM s.t VERSION AS OF $1", "SELECT * FROM s.t TIMESTAMP AS OF $1"] {
        let error = lake.engine.describe(&session, sql).await.unwrap_err();
        assert_eq!(error.message(), "AS OF takes no parameter");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_refused_with_what_can() {
    let (lake, _) = lake().await;
    let storage = DeltaStorage::new(Arc::clone(&lake.store), "memory:///".parse().unwrap());
    let newest = storage.snapshot("s/t", None).await.unwrap().version;
    let add = storage.stage(&storage.snapshot("s/t", None).await.unwrap(), 0, &[]).await.unwrap();
    storage.commit("s/t", Commit { add, data_change: true, operation: "WRITE", ..Commit::default() }).await.unwrap();
    assert_eq!(storage.snapshot("s/t", None).await.unwrap().version, newest + 1, "committed, and not published");

    for (from, kind, message, detail) in [
        (
            format!("s.t VERSION AS OF {}", newest + 1),
            ErrorKind::NotFound,
            "s.t has no such version".to_string(),
            format!("the newest that is published is {newest}"),
        ),
        (
            format!("s.t TIMESTAMP AS OF '{}'", at(7)),
            ErrorKind::Query,
            "2025-11-20T01:00:20Z has not come yet".into(),
            "it is 2025-11-20T00:59:20Z".into(),
        ),
        (
            format!("s.t TIMESTAMP AS OF '{}'", at(-1)),
            ErrorKind::NotFound,
            "nothing was published at 2025-11-20T00:52:20Z".into(),
            "the first epoch was published at 2025-11-20T00:53:20Z (epoch 1)".into(),
        ),
        (
            "s.none VERSION AS OF 1".into(),
            ErrorKind::NotFound,
            "there is no table or view s.none".into(),
            String::new(),
        ),
        (
            format!("s.none TIMESTAMP AS OF '{}'", at(3)),
            ErrorKind::NotFound,
            "there is no table or view s.none".into(),
            String::new(),
        ),
        (
            "system.refreshes VERSION AS OF 1".into(),
            ErrorKind::Definition,
            "system.refreshes has no versions".into(),
            "the tables and views of the lake have some; sources and system tables have none".into(),
        ),
        (
            "information_schema.tables TIMESTAMP AS OF now()".into(),
            ErrorKind::Definition,
            "information_schema.tables has no versions".into(),
            "the tables and views of the lake have some; sources and system tables have none".into(),
        ),
        (
            "s.t AT (VERSION => 1), s.t VERSION AS OF 1".into(),
            ErrorKind::Definition,
            "this way to name a version is another database's".into(),
            String::new(),
        ),
    ] {
        let error = refused(&lake, &format!("SELECT 1\nFROM {from}")).await;
        assert_eq!((error.kind(), error.message()), (kind, message.as_str()), "{from}");
        assert_eq!(error.detail().unwrap_or_default(), detail, "{from}");
        let place = error.location().unwrap();
        assert_eq!((place.line, place.column), (2, 6), "{from}");
    }
    lake.query("CREATE TABLE s.late (k INT)").await;
    let error = refused(&lake, &format!("SELECT * FROM s.late TIMESTAMP AS OF '{}'", at(3))).await;
    assert_eq!(error.message(), "there was no s.late at 2025-11-20T00:56:20Z");
    assert!(
        lake.query("SELECT at.k, before.n, changes.k FROM s.t at, s.t before, s.t changes WHERE false")
            .await
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_defined_names_no_version() {
    let (lake, _) = lake().await;
    let mut errors = vec![];
    for (sql, column) in [
        ("CREATE MATERIALIZED VIEW s.w AS\nSELECT * FROM s.t VERSION AS OF 1", 15),
        ("CREATE MATERIALIZED VIEW s.w AS\nSELECT * FROM s.t JOIN s.v FOR SYSTEM_TIME AS OF now() AS v ON true", 24),
        (
            "EXPLAIN CREATE MATERIALIZED VIEW s.w AS\nWITH c AS (SELECT 1 FROM s.t FOR VERSION AS OF 1) SELECT * FROM c",
            26,
        ),
        (
            "CREATE MATERIALIZED VIEW s.w (CONSTRAINT c EXPECT (\n k IN (SELECT k FROM s.t VERSION AS OF 1))) AS SELECT k FROM s.t",
            22,
        ),
        ("CREATE POLICY p ON s.t USING (\nk IN (SELECT k FROM s.t TIMESTAMP AS OF now()))", 21),
        ("CREATE MASK m ON s.t (k) USING (\n(SELECT max(k) FROM s.t VERSION AS OF 1))", 21),
    ] {
        let error = refused(&lake, sql).await;
        let place = error.location().unwrap();
        assert_eq!((place.line, place.column), (2, column), "{sql}: {}", error.render());
        errors.push(error);
    }
    assert!(errors.iter().all(|error| error.message() == errors[0].message() && error.detail() == errors[0].detail()));
    assert_eq!(errors[0].message(), "a definition cannot name a version of a table");
    assert_eq!(errors[0].hint(), Some("a view follows its inputs as they change; AS OF is for queries"));
    // Below the parser, too, a version is not taken for none.
    let session = lake.engine.session(&Principal::system()).await.unwrap();
    for sql in ["SELECT * FROM s.t VERSION AS OF 1", "SELECT (SELECT max(n) FROM s.t FOR SYSTEM_TIME AS OF now())"] {
        let statement = flashcommerce::parser::parse_query(sql).unwrap();
        let error = Error::from(session.state().statement_to_plan(statement).await.unwrap_err());
        assert_eq!(error.message(), "a version of a table cannot be named here");
    }
}

/// Epochs of one row each, each followed by the upkeep that is due.
async fn insert(lake: &Lake, from: i64, epochs: i64) {
    for n in from..from + epochs {
        lake.query(&format!("INSERT INTO s.t VALUES ({}, {n})", n % 2)).await;
        lake.engine.finish_maintenance().await;
    }
}

async fn versions(lake: &Lake, table: &str) -> BTreeMap<i64, i64> {
    let sql = format!("SELECT version, rows FROM system.versions WHERE object_name = '{table}'");
    let rows = lake.query(&sql).await;
    rows.iter().filter_map(|row| row.split_once('|')).map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_before_a_compaction_stay_readable() {
    let (lake, _) = lake().await;
    insert(&lake, 7, 60).await;
    let done = "SELECT count(*) > 0 FROM system.maintenance WHERE operation = 'compact' AND table_name = 's.t'";
    assert_eq!(lake.query(done).await, ["true"]);
    let versions = versions(&lake, "s.t").await;
    assert!(versions.len() >= 66, "{versions:?}");
    for (version, rows) in &versions {
        let counted = format!("SELECT count(*) FROM (SELECT n FROM s.t VERSION AS OF {version} WHERE n > 0)");
        assert_eq!(lake.query(&counted).await, [rows.to_string()], "version {version}");
    }
    // Those that no epoch has published, too: the same rows in other files.
    let newest = *versions.keys().max().unwrap();
    let between = (0..newest).filter(|version| !versions.contains_key(version)).collect::<Vec<_>>();
    assert!(!between.is_empty());
    for version in between {
        let counted = lake.query(&format!("SELECT count(n) FROM s.t VERSION AS OF {version}")).await;
        let before = versions.range(..version).next_back().map_or(0, |(_, rows)| *rows);
        assert_eq!(counted, [before.to_string()], "version {version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_whose_files_went_is_refused() {
    let lake = Lake::keeping(0, Clock::System).await;
    lake.query("CREATE TABLE s.t (k INT, n INT)").await;
    insert(&lake, 0, 130).await;
    let versions = versions(&lake, "s.t").await;
    let newest = versions.keys().max().unwrap();
    assert_eq!(lake.query(&format!("SELECT count(*) FROM s.t VERSION AS OF {newest}")).await, ["130"]);
    let error = refused(&lake, "SELECT count(*) FROM s.t VERSION AS OF 20").await;
    assert_eq!((error.kind(), error.message()), (ErrorKind::NotFound, "version 20 of s.t cannot be read any more"));
    let (detail, hint) = (error.detail().unwrap(), error.hint().unwrap());
    assert!(hint.contains("kept for 0 minutes, and read for 0; FLASH_RETENTION_SECONDS"), "{hint}");
    let oldest = detail.split([' ', ',']).nth(1).unwrap();
    assert!(detail.ends_with("can be read") && versions.contains_key(&oldest.parse().unwrap()), "{detail}");
    let rows = versions[&oldest.parse().unwrap()];
    assert_eq!(lake.query(&format!("SELECT count(n) FROM s.t VERSION AS OF {oldest}")).await, [rows.to_string()]);
    // A process that has not seen the version: the log does not have it any more.
    let cleaned = "SELECT count(*) > 0 FROM system.maintenance WHERE operation = 'clean_log' AND table_name = 's.t'";
    assert_eq!(lake.query(cleaned).await, ["true"]);
    let options = StorageOptions { retention_ms: 0, ..StorageOptions::default() };
    let lake = Lake::open_at(lake.store, lake.source, Prefer::default(), options, Clock::System).await.unwrap();
    let error = refused(&lake, "SELECT count(*) FROM s.t VERSION AS OF 20").await;
    assert_eq!((error.kind(), error.message()), (ErrorKind::NotFound, "version 20 of s.t cannot be read any more"));
    assert_eq!(lake.query(&format!("SELECT count(n) FROM s.t VERSION AS OF {oldest}")).await, [rows.to_string()]);
}

async fn data_files(lake: &Lake) -> BTreeSet<String> {
    let listed = lake.store.list(Some(&Path::from("s/t"))).try_collect::<Vec<_>>().await.unwrap();
    let paths = listed.into_iter().map(|meta| meta.location.to_string());
    paths.filter(|path| path.ends_with(".parquet")).filter(|path| !path.contains("_delta_log")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_stay_until_a_query_of_them_has_ended() {
    let lake = Lake::keeping(0, Clock::System).await;
    lake.query("CREATE TABLE s.t (k INT, n INT)").await;
    insert(&lake, 1, 4).await;
    let version = *versions(&lake, "s.t").await.keys().max().unwrap();
    let session = lake.engine.session(&Principal::system()).await.unwrap();
    let files = data_files(&lake).await;
    let sql = format!("SELECT n FROM s.t VERSION AS OF {version}");
    let answer = lake.engine.execute(&session, &Principal::system(), &sql).await.unwrap();
    let Answer::Rows { stream: held, .. } = answer else { panic!("no rows") };
    lake.query("UPDATE s.t SET n = 0 WHERE n > 0").await;
    insert(&lake, 0, 32).await;
    let left = data_files(&lake).await;
    assert!(files.len() == 4 && files.is_subset(&left), "{files:?} of {left:?}");
    let mut rows = lines(&held.try_collect::<Vec<_>>().await.unwrap());
    rows.sort();
    assert_eq!(rows, ["1", "2", "3", "4"]);
    insert(&lake, 0, 32).await;
    let left = data_files(&lake).await;
    assert!(files.is_disjoint(&left), "{files:?} and {left:?}");
}

/// Published records on disk as if there had been an epoch each second.
async fn more_epochs(lake: &Lake, epochs: u64) {
    let newest = Arc::clone(&lake.engine.published().borrow());
    for n in 1..=epochs {
        let record = PublishedRecord {
            epoch: newest.epoch + n,
            published_us: newest.published_us + n as i64 * 1_000_000,
            ..newest.as_ref().clone()
        };
        let path = Path::from(format!("_flash/published/{:020}.json", record.epoch));
        lake.store.put(&path, serde_json::to_vec(&record).unwrap().into()).await.unwrap();
    }
}

async fn oldest_record(lake: &Lake) -> u64 {
    let folder = Path::from("_flash/published");
    let listed = lake.store.list(Some(&folder)).try_collect::<Vec<_>>().await.unwrap();
    listed.iter().map(|meta| meta.location.filename().unwrap()[..20].parse().unwrap()).min().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_the_retention_are_kept_and_found() {
    let (lake, clock) = lake().await;
    more_epochs(&lake, 1_500).await;
    let store = Arc::clone(&lake.store);
    drop(lake);
    clock.set(clock.now_us() + 1_500 * 1_000_000);
    let options = StorageOptions { retention_ms: RETENTION_MS, ..StorageOptions::default() };
    let lake = Lake::open_at(store, Arc::default(), Prefer::default(), options, clock.clone()).await.unwrap();
    let epoch = lake.engine.published().borrow().epoch;
    assert!(epoch > 1_500, "{epoch}");
    for n in 1..=6 {
        assert_eq!(lake.query(&format!("SELECT c FROM s.total TIMESTAMP AS OF '{}'", at(n))).await, [n.to_string()]);
    }
    assert_eq!(lake.query("SELECT count(DISTINCT epoch) FROM system.versions").await, ["1"], "memory knows less");
    insert(&lake, 10, 32).await;
    assert_eq!(oldest_record(&lake).await, 1, "more than a thousand, and younger than the retention");
    // The first ones are over; one of them was the newest when the retention began.
    clock.set(BEGAN_US + RETENTION_MS * 1_000 + 150_000_000);
    insert(&lake, 50, 32).await;
    let kept = oldest_record(&lake).await;
    assert!((3..=6).contains(&kept), "{kept}");
    let error = refused(&lake, &format!("SELECT * FROM s.total TIMESTAMP AS OF '{}'", at(1))).await;
    assert_eq!(error.message(), "nothing is known any more of 2025-11-20T00:54:20Z");
    let detail = "the oldest moment that is known is 2025-11-20T00:55:20Z (epoch ";
    assert!(error.detail().unwrap().starts_with(detail), "{error}");
    assert!(error.hint().unwrap().contains("FLASH_RETENTION_SECONDS"), "{error}");
    assert_eq!(lake.query(&format!("SELECT c FROM s.total TIMESTAMP AS OF '{}'", at(2))).await, ["2"]);
    assert_eq!(lake.query(&format!("SELECT c FROM s.total TIMESTAMP AS OF '{}'", at(3))).await, ["3"]);
    // Hours later a thousand of them are left.
    clock.set(clock.now_us() + 2 * RETENTION_MS * 1_000);
    insert(&lake, 90, 32).await;
    let newest = lake.engine.published().borrow().epoch;
    assert!((999..=1_016).contains(&(newest - oldest_record(&lake).await)), "{newest}");
}
