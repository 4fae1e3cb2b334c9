//! Retention: rows go from a view when their time is over, and what is built on it keeps what it made of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use flashcommerce::clock::Clock;
use flashcommerce::engine::{PassRequest, Prefer, ProjectObject};
use flashcommerce::error::ErrorKind;
use flashcommerce::storage::StorageOptions;
use object_store::ObjectStore;

use super::faults::Failing;
use super::harness::Lake;

const HOUR_US: i64 = 3_600_000_000;
/// A moment that is a whole number of hours.
const BEGIN_US: i64 = 1_763_600_400_000_000 / HOUR_US * HOUR_US;

const OBJECTS: [&str; 7] = [
    "CREATE TABLE s.t (id BIGINT, at TIMESTAMPTZ, n BIGINT, shop VARCHAR)",
    "CREATE MATERIALIZED VIEW s.recent WITH (retention = '24 hours', retention_by = 'at') AS SELECT id, at, n, shop FROM s.t",
    "CREATE MATERIALIZED VIEW s.all_time AS SELECT shop, count(*) AS c, sum(n) AS total FROM s.recent GROUP BY shop",
    "CREATE MATERIALIZED VIEW s.copied PARTITIONED BY (shop) AS SELECT id, n + 1 AS m, shop FROM s.recent WHERE n >= 0",
    "CREATE MATERIALIZED VIEW s.hourly WITH (retention = '24 hours', retention_by = 'hour') AS
     SELECT shop, date_trunc('hour', at) AS hour, count(*) AS c, sum(n) AS total FROM s.recent GROUP BY shop, 2",
    "CREATE MATERIALIZED VIEW s.spread WITH (retention = '24 hours', retention_by = 'hour') AS
     SELECT date_trunc('hour', at) AS hour, stddev(n) AS spread, max(n) AS most FROM s.t GROUP BY 1",
    "CREATE MATERIALIZED VIEW s.sum_of_hours AS SELECT sum(c) AS c, sum(total) AS total FROM s.hourly",
];

/// A lake with these objects at a time that stands still.
async fn open(store: Arc<dyn ObjectStore>, clock: &Clock, prefer: Prefer) -> Lake {
    let options = StorageOptions::default();
    let lake = Lake::open_at(store, Arc::default(), prefer, options, clock.clone()).await.unwrap();
    lake.engine.recover().await.unwrap();
    lake
}

async fn lake(clock: &Clock, prefer: Prefer) -> Lake {
    let lake = open(Arc::new(object_store::memory::InMemory::new()), clock, prefer).await;
    apply(&lake, &OBJECTS).await.unwrap();
    lake
}

async fn apply(lake: &Lake, objects: &[&str]) -> flashcommerce::error::Result<()> {
    let objects = objects.iter().map(|sql| ProjectObject { file: None, sql: (*sql).into(), data: None });
    lake.engine.apply(&objects.collect::<Vec<_>>()).await.map(drop)
}

/// A row: (id, hours after the beginning, n, shop).
type Row = (i64, i64, i64, i64);

async fn insert(lake: &Lake, rows: &[Row]) {
    let values = rows.iter().map(|(id, hour, n, shop)| {
        let us = BEGIN_US + hour * HOUR_US + id % 3_000 * 1_000_000;
        let at = chrono::DateTime::from_timestamp_micros(us).unwrap().to_rfc3339();
        format!("({id}, TIMESTAMPTZ '{at}', {n}, 's{shop}')")
    });
    lake.query(&format!("INSERT INTO s.t VALUES {}", values.collect::<Vec<_>>().join(", "))).await;
}

/// What everything must hold at this hour, when these rows have come.
async fn check(lake: &Lake, rows: &[Row], hour: i64, what: &str) {
    let living = |row: &&Row| row.1 >= hour - 24;
    let ids = rows.iter().filter(living).map(|row| row.0.to_string()).collect::<Vec<_>>();
    assert_eq!(lake.query("SELECT id FROM s.recent ORDER BY id").await, ids, "{what}: recent");
    let mut shops: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let mut hours: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for (_, _, n, shop) in rows {
        let of = shops.entry(*shop).or_default();
        *of = (of.0 + 1, of.1 + n);
    }
    for (_, at, n, shop) in rows.iter().filter(living) {
        let of = hours.entry((*shop, *at)).or_default();
        *of = (of.0 + 1, of.1 + n);
    }
    let wanted = shops.iter().map(|(shop, (c, total))| format!("s{shop}|{c}|{total}")).collect::<Vec<_>>();
    assert_eq!(lake.query("SELECT * FROM s.all_time ORDER BY shop").await, wanted, "{what}: all_time");
    let copied = lake.query("SELECT count(*), sum(m) FROM s.copied").await;
    let made = rows.iter().filter(|row| row.2 >= 0).map(|row| row.2 + 1).collect::<Vec<_>>();
    assert_eq!(copied, [format!("{}|{}", made.len(), made.iter().sum::<i64>())], "{what}: copied");
    let hourly = lake.query("SELECT shop, hour, c, total FROM s.hourly ORDER BY shop, hour").await;
    let found = hourly.iter().map(|line| {
        let cells = line.split('|').collect::<Vec<_>>();
        (cells[0].to_string(), cells[2].to_string(), cells[3].to_string())
    });
    let wanted = hours.iter().map(|((shop, _), (c, total))| (format!("s{shop}"), c.to_string(), total.to_string()));
    assert_eq!(found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "{what}: hourly");
    let spread = lake.query("SELECT count(*) FROM s.spread").await;
    let alive = hours.keys().map(|(_, at)| at).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(spread, [alive.len().to_string()], "{what}: spread");
    let sums = lake.query("SELECT coalesce(c, 0), coalesce(total, 0) FROM s.sum_of_hours").await;
    let total = (rows.len() as i64, rows.iter().map(|row| row.2).sum::<i64>());
    assert_eq!(sums, [format!("{}|{}", total.0, total.1)], "{what}: sum_of_hours");
}

/// Rows of an hour, some of them late by up to two days.
fn rows_of(hour: i64, from: i64) -> Vec<Row> {
    (from..from + 12)
        .map(|id| (id, if id % 4 == 0 { hour - id * 7 % 48 } else { hour }, id * 31 % 17 - 4, id % 3))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_go_with_their_time_and_what_was_made_of_them_stays() {
    for prefer in [Prefer::Cheapest, Prefer::General] {
        let clock = Clock::fixed(BEGIN_US);
        let lake = lake(&clock, prefer).await;
        let mut rows = Vec::new();
        let mut hour = 0;
        for step in 0..30_i64 {
            hour += 1 + step % 5;
            clock.set(BEGIN_US + hour * HOUR_US);
            let new = rows_of(hour, step * 12);
            insert(&lake, &new).await;
            rows.extend(new);
            check(&lake, &rows, hour, &format!("{prefer:?} step {step}")).await;
            lake.engine.finish_maintenance().await;
        }
        // Nothing new: time alone.
        clock.set(BEGIN_US + (hour + 30) * HOUR_US);
        lake.pass_until_idle().await;
        check(&lake, &rows, hour + 30, "rest").await;
        assert_eq!(lake.query("SELECT count(*) FROM s.recent").await, ["0"]);
        let request = PassRequest { all: true, full: vec![] };
        assert!(matches!(lake.engine.pass(request).await.unwrap(), flashcommerce::engine::Pass::Idle(_)));
        let expired = "SELECT rows, expired, expired_before IS NOT NULL FROM system.materialized_views WHERE view_name = 's.recent'";
        assert_eq!(lake.query(expired).await, [format!("0|{}|true", rows.len())]);
        let by_refresh = "SELECT sum(expired) FROM system.refreshes WHERE view_name = 's.recent'";
        assert_eq!(lake.query(by_refresh).await, [rows.len().to_string()]);
        let full = lake.modes().await.into_iter().filter(|(_, mode)| mode == "full").collect::<Vec<_>>();
        assert!(full.is_empty(), "{full:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_was_away_counts_what_expired_meanwhile() {
    let clock = Clock::fixed(BEGIN_US);
    let lake = lake(&clock, Prefer::Cheapest).await;
    let mut rows = rows_of(0, 0);
    insert(&lake, &rows).await;
    for view in ["s.all_time", "s.copied"] {
        lake.query(&format!("ALTER MATERIALIZED VIEW {view} SUSPEND")).await;
    }
    for step in 1..8 {
        clock.set(BEGIN_US + step * 6 * HOUR_US);
        let new = rows_of(step * 6, step * 12);
        insert(&lake, &new).await;
        rows.extend(new);
    }
    for view in ["s.all_time", "s.copied"] {
        lake.query(&format!("ALTER MATERIALIZED VIEW {view} RESUME")).await;
    }
    lake.pass_until_idle().await;
    check(&lake, &rows, 42, "resumed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_deleted_below_go_once() {
    for prefer in [Prefer::Cheapest, Prefer::General] {
        let clock = Clock::fixed(BEGIN_US);
        let lake = lake(&clock, prefer).await;
        let old: Vec<Row> = (0..6).map(|id| (id, 0, id, 0)).collect();
        let new: Vec<Row> = (6..12).map(|id| (id, 20, id, 0)).collect();
        insert(&lake, &old).await;
        clock.set(BEGIN_US + 30 * HOUR_US);
        insert(&lake, &new).await;
        assert_eq!(lake.query("SELECT count(*) FROM s.recent").await, ["6"]);
        // Of those that have expired and of those that have not.
        lake.query("DELETE FROM s.t WHERE id IN (1, 2, 7)").await;
        lake.query("UPDATE s.t SET n = n + 100 WHERE id IN (3, 8)").await;
        let left: Vec<Row> = [6, 8, 9, 10, 11].map(|id| (id, 20, if id == 8 { 108 } else { id }, 0)).to_vec();
        let counted: Vec<Row> = old.into_iter().chain(left).collect();
        check(&lake, &counted, 30, &format!("{prefer:?}")).await;
        // Nothing that is left is touched.
        lake.query("DELETE FROM s.t WHERE id IN (4, 5)").await;
        check(&lake, &counted, 30, &format!("{prefer:?}, all of it expired")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_write_lets_the_same_rows_expire() {
    let mut cut = 0;
    for write in 0.. {
        let store = Failing::calm();
        let clock = Clock::fixed(BEGIN_US);
        let lake = open(Arc::clone(&store) as Arc<dyn ObjectStore>, &clock, Prefer::Cheapest).await;
        apply(&lake, &OBJECTS).await.unwrap();
        let mut rows = rows_of(0, 0);
        insert(&lake, &rows).await;
        clock.set(BEGIN_US + 30 * HOUR_US);
        let new = rows_of(30, 12);
        store.fail_at(write);
        let values = new.iter().map(|(id, hour, n, shop)| {
            let at = chrono::DateTime::from_timestamp_micros(BEGIN_US + hour * HOUR_US + id * 1_000_000).unwrap();
            format!("({id}, TIMESTAMPTZ '{}', {n}, 's{shop}')", at.to_rfc3339())
        });
        let insert = format!("INSERT INTO s.t VALUES {}", values.collect::<Vec<_>>().join(", "));
        let done = lake.execute(&insert).await;
        if !store.has_failed() {
            assert!(done.is_ok());
            break;
        }
        cut += 1;
        drop(lake);
        let lake = open(Arc::clone(&store) as Arc<dyn ObjectStore>, &clock, Prefer::Cheapest).await;
        lake.pass_until_idle().await;
        if lake.query("SELECT count(*) FROM s.t").await == ["24"] {
            rows.extend(new);
        }
        check(&lake, &rows, 30, &format!("write {write}")).await;
        let counted = "SELECT expired + rows FROM system.materialized_views WHERE view_name = 's.recent'";
        assert_eq!(lake.query(counted).await, [rows.len().to_string()], "write {write}");
    }
    assert!(cut > 15, "{cut} writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_lose_expired_rows_is_refused_unless_it_is_forced() {
    let clock = Clock::fixed(BEGIN_US);
    let lake = lake(&clock, Prefer::Cheapest).await;
    insert(&lake, &rows_of(0, 0)).await;
    clock.set(BEGIN_US + 30 * HOUR_US);
    insert(&lake, &[(100, 30, 5, 0)]).await;
    let before = lake.query("SELECT * FROM s.all_time ORDER BY 1").await;
    let error = lake.execute("REFRESH MATERIALIZED VIEW s.all_time FULL").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Definition);
    assert!(error.message().contains("rows of s.recent have expired"), "{error}");
    assert!(error.hint().unwrap_or_default().contains("FULL FORCE"), "{error:?}");
    // Another definition would be filled from what is left.
    let other = "CREATE MATERIALIZED VIEW s.all_time AS SELECT shop, count(*) AS c, sum(n) AS total, count(n) AS given FROM s.recent GROUP BY shop";
    let error = apply(&lake, &[other]).await.unwrap_err();
    assert!(error.message().contains("rows of s.recent have expired"), "{error}");
    assert_eq!(lake.query("SELECT * FROM s.all_time ORDER BY 1").await, before);
    // The view below holds nothing that the table has not: all of them again.
    lake.query("REFRESH MATERIALIZED VIEW s.recent FULL").await;
    assert_eq!(lake.query("SELECT * FROM s.all_time ORDER BY 1").await, before);
    assert_eq!(lake.query("SELECT count(*) FROM s.recent").await, ["1"]);
    lake.query("REFRESH MATERIALIZED VIEW s.all_time FULL FORCE").await;
    assert_eq!(lake.query("SELECT * FROM s.all_time").await, ["s0|1|5"]);
    // Without rows that have expired there is nothing to lose.
    let accepted = other.replace(" AS SELECT", " WITH (expired_inputs = 'ignore') AS SELECT");
    apply(&lake, &[&accepted]).await.unwrap();
    lake.pass_until_idle().await;
    assert_eq!(lake.query("SELECT * FROM s.all_time").await, ["s0|1|5|1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_that_read_again_are_refused_over_rows_that_expire() {
    let clock = Clock::fixed(BEGIN_US);
    let lake = lake(&clock, Prefer::Cheapest).await;
    for (sql, refused) in [
        ("CREATE MATERIALIZED VIEW s.d AS SELECT shop, count(DISTINCT id) AS c FROM s.recent GROUP BY shop", true),
        (
            "CREATE MATERIALIZED VIEW s.d WITH (expired_inputs = 'ignore') AS SELECT shop, count(DISTINCT id) AS c FROM s.recent GROUP BY shop",
            false,
        ),
        ("CREATE MATERIALIZED VIEW s.e WITH (refresh_mode = 'full') AS SELECT max(n) AS m FROM s.recent", true),
        // Groups whose rows may change, and a state that rows cannot be taken off.
        ("CREATE MATERIALIZED VIEW s.f AS SELECT shop, max(c) AS m FROM s.hourly GROUP BY shop", true),
        ("CREATE MATERIALIZED VIEW s.g AS SELECT shop, sum(c) AS m FROM s.hourly GROUP BY shop", false),
    ] {
        match (apply(&lake, &[sql]).await, refused) {
            (Ok(()), false) => {}
            (Err(error), true) => {
                assert_eq!(error.kind(), ErrorKind::NotIncremental, "{error}");
                assert!(error.message().contains("whose rows expire") && error.location().is_some(), "{error}");
            }
            (ended, _) => panic!("{sql}: {ended:?}"),
        }
    }
    for (sql, text) in [
        (
            "CREATE MATERIALIZED VIEW s.h WITH (retention = '1 day', retention_by = 'n') AS SELECT * FROM s.t",
            "is Int64",
        ),
        (
            "CREATE MATERIALIZED VIEW s.h WITH (retention = '1 day', retention_by = 'x') AS SELECT * FROM s.t",
            "no column",
        ),
        (
            "CREATE MATERIALIZED VIEW s.h WITH (retention = '1 day', retention_by = 'at') AS SELECT max(at) AS at, shop FROM s.t GROUP BY shop",
            "group",
        ),
        (
            "CREATE MATERIALIZED VIEW s.h WITH (retention = '1 day', retention_by = 'at') AS SELECT at, count(*) AS c FROM s.t GROUP BY at HAVING count(*) > 1",
            "cannot have a retention",
        ),
        ("CREATE MATERIALIZED VIEW s.h WITH (retention = '1 day') AS SELECT * FROM s.t", "needs retention_by"),
    ] {
        let error = apply(&lake, &[sql]).await.unwrap_err();
        assert!(error.message().contains(text) && error.location().is_some(), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_leaves_expired_rows_out() {
    let clock = Clock::fixed(BEGIN_US);
    let lake = lake(&clock, Prefer::Cheapest).await;
    apply(&lake, &["CREATE MATERIALIZED VIEW s.by_hour AS SELECT date_trunc('hour', at) AS hour, sum(n) AS total FROM s.recent GROUP BY 1"]).await.unwrap();
    for hour in [0, 10, 20, 30, 40] {
        clock.set(BEGIN_US + hour * HOUR_US);
        insert(&lake, &rows_of(hour, hour * 12)).await;
    }
    let audit = async |view: &str| lake.query(&format!("AUDIT MATERIALIZED VIEW {view}")).await;
    for view in ["s.recent", "s.hourly", "s.spread", "s.by_hour"] {
        let found = audit(view).await;
        assert!(found[0].ends_with("|0|0"), "{view}: {found:?}");
    }
    assert!(
        lake.query("SELECT count(*) FROM s.by_hour WHERE hour < TIMESTAMPTZ '2025-11-20T05:00:00Z'").await != ["0"]
    );
    let error = lake.execute("AUDIT MATERIALIZED VIEW s.all_time").await.unwrap_err();
    assert!(error.message().contains("rows of s.recent have expired"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retention_is_changed_in_place() {
    let clock = Clock::fixed(BEGIN_US);
    let lake = lake(&clock, Prefer::Cheapest).await;
    let rows = rows_of(0, 0);
    insert(&lake, &rows).await;
    let location = "SELECT location FROM system.materialized_views WHERE view_name = 's.recent'";
    let before = lake.query(location).await;
    clock.set(BEGIN_US + 12 * HOUR_US);
    apply(&lake, &[&OBJECTS[1].replace("24 hours", "6 hours")]).await.unwrap();
    lake.pass_until_idle().await;
    assert_eq!(lake.query("SELECT count(*) FROM s.recent").await, ["0"]);
    assert_eq!(lake.query(location).await, before);
    assert_eq!(lake.query("SELECT sum(c) FROM s.all_time").await, [rows.len().to_string()]);
    // Longer again: what has expired does not come back in parts, and another column is none.
    apply(&lake, &[&OBJECTS[1].replace("24 hours", "48 hours")]).await.unwrap();
    insert(&lake, &[(500, 5, 1, 0), (501, 11, 1, 0)]).await;
    assert_eq!(lake.query("SELECT id FROM s.recent").await, ["501"]);
    assert_eq!(lake.query("SELECT sum(c) FROM s.all_time").await, [(rows.len() + 2).to_string()]);
    let other = "CREATE MATERIALIZED VIEW s.recent WITH (retention = '24 hours', retention_by = 'then') AS SELECT id, at, n, shop FROM s.t";
    let error = apply(&lake, &[other]).await.unwrap_err();
    assert!(error.message().contains("no column"), "{error}");
}
