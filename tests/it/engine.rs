//! The engine over a lake in memory: views against a recompute of their own query, restarts, faults at every step.

mod apply;
mod as_of;
pub mod faults;
mod forget;
pub mod harness;
mod plan;
mod retention;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;

use flashcommerce::epoch::{Loss, Position, SequenceNumber};
use flashcommerce::storage::{DeltaStorage, Storage as _};
use futures::TryStreamExt;
use harness::{Lake, events};
use object_store::ObjectStoreExt;

/// Views that between them use every plan.
const VIEWS: [&str; 7] = [
    "CREATE EXTERNAL TABLE raw.events STORED AS JSONL LOCATION '/nowhere'",
    "CREATE MATERIALIZED VIEW bronze.events AS SELECT *, CAST(_arrived_at AS DATE) AS day FROM raw.events",
    "CREATE MATERIALIZED VIEW silver.events (
       CONSTRAINT readable EXPECT (id IS NOT NULL) ON VIOLATION QUARANTINE ROW,
       CONSTRAINT positive EXPECT (amount >= 0) ON VIOLATION DROP ROW,
       CONSTRAINT small EXPECT (amount < 90)
     ) PARTITIONED BY (shop) WITH (unique_key = 'id', dedupe_within = '1 day')
     AS SELECT e['id'] AS id, e['shop'] AS shop, e['amount'] AS amount, e['at'] AS at FROM (
       SELECT from_json(_payload, 'id VARCHAR, shop VARCHAR, amount DECIMAL(10,2), at TIMESTAMP') AS e FROM bronze.events
     ) AS d",
    "CREATE MATERIALIZED VIEW gold.by_shop PARTITIONED BY (shop) AS
     SELECT shop, count(*) AS n, sum(amount) AS total, avg(amount) AS mean, min(amount) AS least, max(at) AS last,
            stddev(CAST(amount AS DOUBLE)) AS spread
     FROM silver.events GROUP BY shop",
    "CREATE MATERIALIZED VIEW gold.totals AS SELECT count(*) AS n, sum(amount) AS total FROM silver.events",
    "CREATE MATERIALIZED VIEW gold.busy AS
     SELECT shop, count(*) AS n FROM silver.events GROUP BY shop HAVING count(*) > 30",
    "CREATE MATERIALIZED VIEW gold.extremes PARTITIONED BY (shop) AS
     SELECT max(at) AS last, shop, min(id) AS first, count(amount) AS n, sum(amount) AS total, date_trunc('day', at) AS day,
            bool_and(amount > 10) AS large, bool_or(amount > 80) AS some_large,
            bit_or(CAST(amount AS BIGINT)) AS bits, bit_and(CAST(amount AS BIGINT)) AS common, max(id) AS latest
     FROM silver.events GROUP BY shop, date_trunc('day', at)",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_equal_a_recompute_after_every_epoch() {
    let lake = Lake::new(&VIEWS).await;
    for round in 0..6 {
        lake.source.push(events(round * 40, 40));
        lake.pass_until_idle().await;
        lake.check_all().await;
    }
    let modes = lake.modes().await;
    for (view, mode) in [("bronze.events", "append"), ("silver.events", "append"), ("gold.by_shop", "merge_state")] {
        assert!(modes.iter().filter(|(name, m)| name == view && m == mode).count() >= 5, "{view} {mode}: {modes:?}");
    }
    let books = lake
        .query(
            "SELECT (SELECT count(*) FROM bronze.events) AS b, (SELECT count(*) FROM silver.events) AS s, \
        (SELECT count(*) FROM silver.events_quarantine) AS q, dropped, duplicates FROM system.materialized_views \
        WHERE view_name = 'silver.events'",
        )
        .await;
    let n = books[0].split('|').map(|cell| cell.parse::<i64>().unwrap()).collect::<Vec<_>>();
    assert_eq!(n[0], 240);
    assert_eq!(n[0], n[1] + n[2] + n[3] + n[4], "{books:?}");
    assert!(n[2] > 0 && n[3] > 0 && n[4] > 0, "{books:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_where_it_was() {
    let mut lake = Lake::new(&VIEWS).await;
    for round in 0..4 {
        lake.source.push(events(round * 25, 25));
        lake.pass_until_idle().await;
        lake = lake.restart().await;
    }
    lake.check_all().await;
    assert_eq!(lake.query("SELECT count(*) FROM bronze.events").await, ["100"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_show_the_state_are_the_state() {
    let lake = Lake::new(&VIEWS).await;
    lake.source.push(events(0, 50));
    lake.pass_until_idle().await;
    for (view, own) in [("gold.extremes", false), ("gold.totals", false), ("gold.by_shop", true), ("gold.busy", true)] {
        let folder = format!("_state/{view}").into();
        let objects = lake.store.list(Some(&folder)).try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(!objects.is_empty(), own, "{view}: {objects:?}");
    }
}

/// Rows of the view's files by path.
async fn files(lake: &Lake, location: &str) -> BTreeMap<String, u64> {
    let storage = DeltaStorage::new(Arc::clone(&lake.store), "memory:///".parse().unwrap());
    let snapshot = storage.snapshot(location, None).await.unwrap();
    snapshot.files.iter().map(|file| (file.path.clone(), file.rows)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_rewrites_the_files_that_hold_its_groups_and_no_others() {
    // Hashed keys, so that bounds tell nothing; avg keeps its state beside the rows, count in them.
    for (aggregate, beside) in [("count(*) AS n", false), ("avg(a) AS mean", true)] {
        let mut lake = Lake::new(&[]).await;
        lake.execute("CREATE TABLE s.t (k VARCHAR, a INT)").await.unwrap();
        let query = format!("SELECT k, {aggregate} FROM s.t GROUP BY k");
        lake.execute(&format!("CREATE MATERIALIZED VIEW s.v AS {query}")).await.unwrap();
        let insert = async |lake: &Lake, from: usize, to: usize| {
            let rows = format!("SELECT md5(CAST(n AS VARCHAR)), n FROM generate_series({from}, {to}) AS g(n)");
            lake.execute(&format!("INSERT INTO s.t {rows}")).await.unwrap();
            lake.pass_until_idle().await;
            files(lake, "s/v").await
        };
        insert(&lake, 1, 20_000).await;
        insert(&lake, 20_001, 40_000).await;
        let three = insert(&lake, 40_001, 60_000).await;
        assert_eq!(three.values().collect::<Vec<_>>(), [&20_000; 3], "new groups come into a file of their own");

        let both =
            |a: &BTreeMap<String, u64>, b: &BTreeMap<String, u64>| a.keys().filter(|k| b.contains_key(*k)).count();
        let hot = insert(&lake, 60_000, 60_001).await;
        assert_eq!((both(&three, &hot), hot.values().min(), hot.values().sum()), (2, Some(&2), 60_001));
        let again = insert(&lake, 60_000, 60_002).await;
        assert_eq!((both(&hot, &again), again.values().min()), (3, Some(&3)), "what changes lies together by now");

        lake = lake.restart().await;
        let other = insert(&lake, 7, 7).await;
        assert_eq!((both(&again, &other), other.values().filter(|rows| **rows == 1).count()), (3, 1));
        // Few rows more each time: small files are made one before they are many.
        for n in 0..12 {
            let now = insert(&lake, 100_000 + n, 100_000 + n).await;
            assert!(now.len() <= 3 + 9, "{now:?}");
        }
        let mut stored = lake.query("SELECT * FROM s.v").await;
        let mut computed = lake.query(&query).await;
        stored.sort();
        computed.sort();
        assert!(stored == computed, "{query}");
        let states = lake.store.list(Some(&"_state/s.v".into())).try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(!states.is_empty(), beside);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_tells_what_the_next_refresh_reads_and_replaces() {
    let anew = "reads    2 of 4 files of s.t, for rows with the same keys: at most 3 of 5 rows";
    for (query, mode, replaced, read) in [
        ("SELECT k, sum(a) AS total FROM s.t GROUP BY k", "merge_state", "1 of its 3 files: at most 1 of 3", None),
        (
            "SELECT k, sum(a) AS t FROM s.t GROUP BY k HAVING sum(a) > 0",
            "merge_state",
            "3 of its 3 files: at most 3 of 3",
            None,
        ),
        (
            "SELECT k, a, row_number() OVER (PARTITION BY k ORDER BY a) AS place FROM s.t",
            "replace_keys",
            "1 of its 3 files: at most 1 of 3",
            Some(anew),
        ),
        (
            "SELECT k, count(DISTINCT a) AS n FROM s.t GROUP BY k",
            "replace_keys",
            "1 of its 3 files: at most 1 of 3",
            Some(anew),
        ),
    ] {
        let lake = Lake::new(&[]).await;
        let explain = async || lake.execute("EXPLAIN MATERIALIZED VIEW s.v").await.unwrap();
        for sql in [
            "CREATE TABLE s.t (k INT, a INT)",
            "INSERT INTO s.t VALUES (1, 1)",
            "INSERT INTO s.t VALUES (2, 2)",
            "INSERT INTO s.t VALUES (3, 3)",
            &format!("CREATE MATERIALIZED VIEW s.v PARTITIONED BY (k) AS {query}"),
        ] {
            lake.execute(sql).await.unwrap();
        }
        let idle = explain().await;
        assert!(idle.contains("s.t  version 3: 3 rows in 3 files"), "{idle}");
        assert!(idle.contains("next       nothing: its inputs have not changed"), "{idle}");
        lake.execute("ALTER MATERIALIZED VIEW s.v SUSPEND").await.unwrap();
        lake.execute("INSERT INTO s.t VALUES (2, 1), (2, 5)").await.unwrap();
        let behind = explain().await;
        for line in [
            &format!("next       {mode}: "),
            "takes    what came to s.t since version 3: 2 rows in 1 file",
            &format!("replaces 1 key, in {replaced} rows are read and written"),
        ] {
            assert!(behind.contains(line), "{line}\n{behind}");
        }
        assert_eq!(behind.contains("    reads "), read.is_some(), "{behind}");
        assert!(read.is_none_or(|read| behind.contains(read)), "{behind}");
        lake.execute("ALTER MATERIALIZED VIEW s.v RESUME").await.unwrap();
        lake.pass_until_idle().await;
        assert!(explain().await.contains("next       nothing"), "{}", explain().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_is_made_and_cannot_be_filled_says_so() {
    let lake = Lake::new(&[]).await;
    lake.execute("CREATE TABLE s.t (a INT)").await.unwrap();
    lake.execute("INSERT INTO s.t VALUES (1), (0)").await.unwrap();
    let create = "CREATE MATERIALIZED VIEW s.v AS SELECT 10 / a AS b FROM s.t";
    let said = lake.execute(create).await.unwrap();
    assert!(said.starts_with("s.v: created; its first refresh failed") && said.contains("zero"), "{said}");
    let again = lake.execute(create).await.unwrap();
    assert_eq!(again, "s.v: unchanged");
    lake.execute("DELETE FROM s.t WHERE a = 0").await.unwrap();
    assert_eq!(lake.query("SELECT b FROM s.v").await, ["10"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_refresh_over_many_slices_equals_many_refreshes() {
    let once = Lake::new(&VIEWS).await;
    let many = Lake::new(&VIEWS).await;
    once.source.push(events(0, 200));
    once.pass_until_idle().await;
    for round in 0..20 {
        many.source.push(events(round * 10, 10));
        many.pass_until_idle().await;
    }
    for view in ["gold.by_shop", "gold.totals", "gold.busy"] {
        let query = format!("SELECT * FROM {view} ORDER BY 1");
        assert_eq!(once.query(&query).await, many.query(&query).await, "{view}");
    }
    let query = "SELECT id, shop, amount FROM silver.events ORDER BY id";
    assert_eq!(once.query(query).await, many.query(query).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_made_later_is_built_from_what_is_there() {
    let lake = Lake::new(&VIEWS[..3]).await;
    lake.source.push(events(0, 120));
    lake.pass_until_idle().await;
    for sql in &VIEWS[3..] {
        lake.execute(sql).await.unwrap();
    }
    lake.check_all().await;
    lake.source.push(events(120, 30));
    lake.pass_until_idle().await;
    lake.check_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordinary_tables_joins_and_redefinition() {
    let lake = Lake::new(&VIEWS).await;
    lake.execute("CREATE TABLE ref.shops (name VARCHAR, city VARCHAR)").await.unwrap();
    lake.execute("INSERT INTO ref.shops VALUES ('S0', 'Pune'), ('S1', 'Delhi')").await.unwrap();
    lake.execute(
        "CREATE MATERIALIZED VIEW gold.by_city AS SELECT r.city, sum(e.amount) AS total FROM silver.events AS e \
         INNER JOIN ref.shops AS r ON r.name = e.shop GROUP BY r.city",
    )
    .await
    .unwrap();
    lake.source.push(events(0, 50));
    lake.pass_until_idle().await;
    lake.check_all().await;
    // A row of the small side joins with all that came before.
    lake.execute("INSERT INTO ref.shops VALUES ('S2', 'Pune')").await.unwrap();
    lake.check_all().await;
    lake.source.push(events(50, 50));
    lake.execute("INSERT INTO ref.shops VALUES ('S3', 'Goa')").await.unwrap();
    lake.check_all().await;
    lake.apply("CREATE MATERIALIZED VIEW gold.totals AS SELECT count(*) AS n, max(amount) AS most FROM silver.events")
        .await;
    lake.pass_until_idle().await;
    lake.check_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_name_the_operator() {
    let lake = Lake::new(&VIEWS[..3]).await;
    for (query, wanted) in [
        ("SELECT id, random() AS r FROM silver.events", "random()"),
        ("SELECT id FROM silver.events LIMIT 3", "LIMIT without ORDER BY"),
        ("SELECT id FROM silver.events WHERE shop NOT IN (SELECT shop FROM silver.events WHERE amount > 50)", "NOT IN"),
    ] {
        let error = lake.execute(&format!("CREATE MATERIALIZED VIEW gold.x AS {query}")).await.unwrap_err();
        assert_eq!(error.kind(), flashcommerce::error::ErrorKind::NotIncremental, "{query}: {error}");
        assert!(error.detail().unwrap_or_default().contains(wanted), "{query}: {error}");
        assert!(error.location().is_some(), "{query}");
        let full = format!("CREATE MATERIALIZED VIEW gold.x WITH (refresh_mode = 'full') AS {query}");
        lake.execute(&full).await.unwrap();
        lake.execute("DROP MATERIALIZED VIEW gold.x").await.unwrap();
    }
    let error = lake.execute("CREATE MATERIALIZED VIEW gold.y AS SELECT shopp FROM silver.events").await.unwrap_err();
    let at = error.location().unwrap();
    assert_eq!((at.line, at.column), (1, 43), "{}", error.render());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_violated_fail_update_keeps_the_version_and_the_rest_goes_on() {
    let lake = Lake::new(&VIEWS).await;
    lake.execute(
        "CREATE MATERIALIZED VIEW gold.strict (CONSTRAINT fine EXPECT (amount < 97) ON VIOLATION FAIL UPDATE) \
         AS SELECT id, amount FROM silver.events",
    )
    .await
    .unwrap();
    lake.source.push(events(0, 10));
    lake.pass_until_idle().await;
    let before = lake.query("SELECT count(*) FROM gold.strict").await;
    lake.source.push(events(10, 100));
    lake.pass_until_idle().await;
    assert_eq!(lake.query("SELECT count(*) FROM gold.strict").await, before);
    let failed =
        lake.query("SELECT count(*) FROM system.refreshes WHERE view_name = 'gold.strict' AND state = 'failed'").await;
    assert_eq!(failed, ["1"]);
    assert_eq!(lake.query("SELECT count(*) FROM bronze.events").await, ["110"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_refresh_gives_what_is_there_once() {
    let lake = Lake::new(&[]).await;
    for sql in [
        "CREATE TABLE s.a (k INT, x INT)",
        "CREATE TABLE s.b (k INT, y INT)",
        "INSERT INTO s.a VALUES (1, 10), (1, 11), (2, 20)",
        "INSERT INTO s.b VALUES (1, 100), (2, 200), (2, 201)",
        "CREATE MATERIALIZED VIEW gold.joined AS SELECT a.k, x, y FROM s.a AS a JOIN s.b AS b ON a.k = b.k",
        "CREATE MATERIALIZED VIEW gold.summed AS SELECT k, sum(x) AS x FROM s.a GROUP BY k",
        "CREATE MATERIALIZED VIEW gold.outer_joined AS SELECT a.k, y FROM s.a AS a LEFT JOIN s.b AS b ON a.k = b.k",
        "INSERT INTO s.b VALUES (1, 101)",
    ] {
        lake.execute(sql).await.unwrap();
    }
    for view in ["joined", "summed", "outer_joined"] {
        lake.execute(&format!("REFRESH MATERIALIZED VIEW gold.{view} FULL")).await.unwrap();
        let audit = lake.query(&format!("AUDIT MATERIALIZED VIEW gold.{view}")).await;
        assert!(audit[0].ends_with("|0|0"), "{audit:?}");
    }
    lake.check_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_another_version_has_compiled_otherwise_is_built_anew() {
    let lake = Lake::new(&VIEWS).await;
    lake.source.push(events(0, 50));
    lake.pass_until_idle().await;
    // As an older version would have written it down: its partial states were laid out otherwise.
    let folder = "_flash/definitions".into();
    let records = lake.store.list(Some(&folder)).try_collect::<Vec<_>>().await.unwrap();
    let newest = records.into_iter().map(|record| record.location).max().unwrap();
    let text = lake.store.get(&newest).await.unwrap().bytes().await.unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let before = record["objects"]["gold.by_shop"]["location"].clone();
    record["objects"]["gold.by_shop"]["fingerprint"] = "0123456789abcdef".into();
    lake.store.put(&newest, serde_json::to_vec(&record).unwrap().into()).await.unwrap();
    let (store, source) = (Arc::clone(&lake.store), Arc::clone(&lake.source));
    let expected = lake.query("SELECT shop, n, total FROM gold.by_shop ORDER BY shop").await;
    drop(lake);

    let lake = Lake::open(store, source).await.unwrap();
    assert_eq!(lake.query("SELECT shop, n, total FROM gold.by_shop ORDER BY shop").await, expected, "it still answers");
    let plan = lake.execute("EXPLAIN MATERIALIZED VIEW gold.by_shop").await.unwrap();
    assert!(plan.contains("built anew beside the table that is there"), "{plan}");
    lake.source.push(events(50, 25));
    lake.pass_until_idle().await;
    lake.check_all().await;
    let status = lake.engine.status().await.unwrap();
    let location = |name: &str| status.iter().find(|view| view.name.to_string() == name).unwrap().location.clone();
    assert!(!location("gold.by_shop").ends_with(before.as_str().unwrap()), "{}", location("gold.by_shop"));
    assert!(location("gold.totals").ends_with("gold/totals"), "a view that does not read it stays where it is");
    let plan = lake.execute("EXPLAIN MATERIALIZED VIEW gold.by_shop").await.unwrap();
    assert!(plan.contains("next       nothing"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_quiet_shards_stand_and_what_was_lost_is_written_down() {
    let mut lake = Lake::new(&VIEWS).await;
    lake.source.push(events(0, 10));
    lake.pass_until_idle().await;
    let epoch = lake.engine.published().borrow().epoch;
    lake.source.quiet.lock().insert("shard-1".into(), Position::AtTimestamp(7));
    lake.pass_until_idle().await;
    assert_eq!(lake.engine.published().borrow().epoch, epoch + 1, "no record, and yet something to remember");
    lake.pass_until_idle().await;
    assert_eq!(lake.engine.published().borrow().epoch, epoch + 1, "once");

    let after = Position::After(SequenceNumber("3".into()));
    let loss = |shard: &str| Loss {
        shard: shard.into(),
        after: after.clone(),
        next: Some(SequenceNumber("9".into())),
        reason: "it expired".into(),
    };
    for _ in 0..2 {
        lake.source.lost.lock().push(loss("shard-1"));
        lake.pass_until_idle().await;
    }
    lake = lake.restart().await;
    lake.source.lost.lock().push(loss("shard-0"));
    lake.pass_until_idle().await;
    let shards = "SELECT shard_id, position FROM system.shards ORDER BY shard_id";
    assert_eq!(lake.query(shards).await, ["shard-0|0000000010", "shard-1|at_timestamp 7"]);
    let losses = "SELECT source_name, shard_id, after_position, next_position, reason FROM system.data_loss ORDER BY 2";
    assert_eq!(
        lake.query(losses).await,
        ["raw.events|shard-0|3|9|it expired", "raw.events|shard-1|3|9|it expired"],
        "each once, also after a restart"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_recomputes_where_the_keys_of_a_small_change_may_be_anywhere() {
    let lake = Lake::new(&[]).await;
    for sql in [
        "CREATE TABLE s.t (k INT, a INT)",
        "CREATE MATERIALIZED VIEW s.v WITH (refresh_mode = 'auto') AS SELECT k, count(DISTINCT a) AS n FROM s.t GROUP BY k",
        "INSERT INTO s.t SELECT value % 5, value FROM generate_series(1, 10)",
        // Key 3 may be in the file of the others, key 9 is in no other.
        "INSERT INTO s.t VALUES (3, 99)",
        "INSERT INTO s.t VALUES (9, 1)",
    ] {
        lake.execute(sql).await.unwrap();
    }
    let refreshes =
        "SELECT mode, reason FROM system.refreshes WHERE view_name = 's.v' AND mode <> 'nothing' ORDER BY epoch";
    let refreshes = lake.query(refreshes).await;
    assert_eq!(
        refreshes[refreshes.len() - 2..],
        [
            "full|auto: the change's keys may be in 11 of 11 rows: recomputing costs less",
            "replace_keys|rows with the change's k are computed anew",
        ]
    );
    assert_eq!(lake.query("SELECT n FROM s.v ORDER BY k").await, ["2", "2", "2", "3", "2", "1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_over_a_quarantine_follows_it_in_the_same_epoch() {
    let mut views = VIEWS.to_vec();
    views.push("CREATE MATERIALIZED VIEW gold.broken AS SELECT expectation, count(*) AS n FROM silver.events_quarantine GROUP BY expectation");
    let lake = Lake::new(&views).await;
    for round in 0..4 {
        lake.source.push(events(round * 40, 40));
        lake.pass_until_idle().await;
        lake.check_all().await;
        let frontiers = lake.query("SELECT count(DISTINCT frontier) FROM system.materialized_views").await;
        assert_eq!(frontiers, ["1"]);
    }
    let found = lake.query("SELECT sum(n) FROM gold.broken").await;
    assert_eq!(found, lake.query("SELECT count(*) FROM silver.events_quarantine").await);
    assert_ne!(found, ["0"]);
}
