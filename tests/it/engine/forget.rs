//! FORGET: one user's rows go out of every layer, in front of every reader, and out of storage.

use std::sync::Arc;

use flashcommerce::clock::Clock;
use flashcommerce::engine::{Prefer, ProjectObject};
use flashcommerce::error::ErrorKind;
use flashcommerce::storage::StorageOptions;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::faults::Failing;
use super::harness::{Lake, Scripted};

/// Bronze with the records as they came, silver without repetitions and with a quarantine, gold of several shapes, and an
/// ordinary table beside them.
const OBJECTS: [&str; 11] = [
    "CREATE EXTERNAL TABLE raw.events STORED AS JSONL LOCATION '/nowhere'",
    "CREATE TABLE ref.users (user_id VARCHAR, city VARCHAR)",
    "CREATE MATERIALIZED VIEW bronze.events AS SELECT * FROM raw.events",
    "CREATE MATERIALIZED VIEW silver.events (CONSTRAINT known EXPECT (id IS NOT NULL) ON VIOLATION QUARANTINE ROW)
     PARTITIONED BY (shop) WITH (unique_key = 'id') AS
     SELECT e['id'] AS id, e['user'] AS user_id, e['shop'] AS shop, e['n'] AS n FROM (
       SELECT from_json(_payload, 'id VARCHAR, user VARCHAR, shop VARCHAR, n BIGINT') AS e FROM bronze.events) AS d",
    "CREATE MATERIALIZED VIEW gold.by_shop AS SELECT shop, count(*) AS c, sum(n) AS total FROM silver.events GROUP BY shop",
    "CREATE MATERIALIZED VIEW gold.by_user AS SELECT user_id, count(*) AS c, max(n) AS most FROM silver.events GROUP BY user_id",
    "CREATE MATERIALIZED VIEW gold.people AS SELECT shop, count(DISTINCT user_id) AS people FROM silver.events GROUP BY shop",
    "CREATE MATERIALIZED VIEW gold.cities AS
     SELECT u.city, sum(e.n) AS total FROM silver.events AS e INNER JOIN ref.users AS u ON e.user_id = u.user_id GROUP BY u.city",
    "CREATE MATERIALIZED VIEW gold.busy AS SELECT user_id, count(*) AS c FROM silver.events GROUP BY user_id HAVING count(*) > 3",
    "CREATE MATERIALIZED VIEW gold.broken AS SELECT count(*) AS c FROM silver.events_quarantine",
    "CREATE MATERIALIZED VIEW gold.copied AS SELECT id, n FROM silver.events WHERE n > 0",
];

/// Those whose hidden state is not kept for a day.
fn without_having() -> Vec<&'static str> {
    OBJECTS.into_iter().filter(|sql| !sql.contains("HAVING")).collect()
}

const USERS: usize = 5;

/// Records of several users; every tenth is broken, every seventh comes twice.
fn records(from: usize, count: usize) -> Vec<String> {
    let record = |n: usize| {
        let user = format!("user-{}", n * 7 % USERS);
        match n % 10 {
            3 => format!(r#"{{"user":"{user}","shop":"#),
            _ => format!(
                r#"{{"id":"e{}","user":"{user}","shop":"S{}","n":{n}}}"#,
                if n.is_multiple_of(7) { n.saturating_sub(5) } else { n },
                n % 3
            ),
        }
    };
    (from..from + count).map(record).collect()
}

async fn open(
    store: Arc<dyn object_store::ObjectStore>,
    source: Arc<Scripted>,
    clock: &Clock,
    retention_ms: i64,
) -> Lake {
    let options = StorageOptions { retention_ms, ..StorageOptions::default() };
    let lake = Lake::open_at(store, source, Prefer::default(), options, clock.clone()).await.unwrap();
    lake.engine.recover().await.unwrap();
    lake
}

/// A lake with three epochs of records.
async fn filled(lake: &Lake, records: &[String]) {
    filled_with(lake, records, &OBJECTS).await;
}

async fn apply(lake: &Lake, objects: &[&str]) {
    let objects = objects.iter().map(|sql| ProjectObject { file: None, sql: (*sql).into(), data: None });
    lake.engine.apply(&objects.collect::<Vec<_>>()).await.unwrap();
}

async fn filled_with(lake: &Lake, records: &[String], objects: &[&str]) {
    apply(lake, objects).await;
    for part in records.chunks(records.len().div_ceil(3).max(1)) {
        lake.source.push(part.to_vec());
        lake.pass_until_idle().await;
    }
    let users = (0..USERS).map(|user| format!("('user-{user}', 'city-{}')", user % 2)).collect::<Vec<_>>();
    lake.query(&format!("INSERT INTO ref.users VALUES {}", users.join(", "))).await;
}

/// Everything that readers see, without what tells epochs.
async fn contents(lake: &Lake) -> Vec<String> {
    let mut all = Vec::new();
    for query in [
        "SELECT CAST(_payload AS VARCHAR) FROM bronze.events ORDER BY 1",
        "SELECT * FROM silver.events ORDER BY 1, 2, 3",
        "SELECT expectation, count(*) FROM silver.events_quarantine GROUP BY expectation",
        "SELECT * FROM gold.by_shop ORDER BY 1",
        "SELECT * FROM gold.by_user ORDER BY 1",
        "SELECT * FROM gold.people ORDER BY 1",
        "SELECT * FROM gold.cities ORDER BY 1",
        "SELECT * FROM gold.busy ORDER BY 1",
        "SELECT * FROM gold.broken",
        "SELECT * FROM gold.copied ORDER BY 1",
        "SELECT * FROM ref.users ORDER BY 1",
    ] {
        all.push(query.to_string());
        all.extend(lake.query(query).await);
    }
    all
}

/// What a lake holds to which the user never came.
async fn without(user: &str, all: &[String]) -> Vec<String> {
    let lake = open(Arc::new(object_store::memory::InMemory::new()), Arc::default(), &Clock::System, 3_600_000).await;
    let others = all.iter().filter(|record| !record.contains(&format!("\"{user}\""))).cloned().collect::<Vec<_>>();
    filled(&lake, &others).await;
    lake.query(&format!("DELETE FROM ref.users WHERE user_id = '{user}'")).await;
    contents(&lake).await
}

/// Objects of the lake that hold this text: as it is, or in the rows of a Parquet file.
async fn holding(lake: &Lake, text: &str) -> Vec<String> {
    let listed: Vec<_> = lake.store.list(Some(&Path::from(""))).try_collect().await.unwrap();
    let mut found = Vec::new();
    for meta in listed {
        let bytes = lake.store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        let plain = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let path = meta.location.to_string();
        if plain || path.ends_with(".parquet") && in_rows(bytes, text) {
            found.push(path);
        }
    }
    found
}

fn in_rows(bytes: bytes::Bytes, text: &str) -> bool {
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let hex = text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    super::harness::lines(&reader.map(|batch| batch.unwrap()).collect::<Vec<_>>())
        .iter()
        .any(|line| line.contains(text) || line.contains(&hex))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_as_if_they_had_never_come() {
    let all = records(0, 90);
    let lake = open(Arc::new(object_store::memory::InMemory::new()), Arc::default(), &Clock::System, 3_600_000).await;
    filled(&lake, &all).await;
    let message = lake.execute("FORGET WHERE user_id = 'user-2' COMMENT 'ticket 7'").await.unwrap();
    assert!(
        message.starts_with("FORGET ") && message.contains("silver.events ") && message.contains("bronze.events "),
        "{message}"
    );
    assert_eq!(contents(&lake).await, without("user-2", &all).await);
    let modes = lake.query("SELECT DISTINCT mode FROM system.refreshes WHERE epoch > 4 ORDER BY 1").await;
    assert!(!modes.contains(&"full".to_string()), "{modes:?}");
    // Nor as it was.
    let version = lake.query("SELECT version FROM system.materialized_views WHERE view_name = 'silver.events'").await;
    let before = format!("SELECT count(*) FROM silver.events VERSION AS OF {}", version[0].parse::<u64>().unwrap() - 1);
    let error = lake.execute(&before).await.unwrap_err();
    assert!(error.detail().unwrap_or_default().contains("forgotten"), "{error}");
    let now = lake.query(&format!("SELECT count(*) FROM silver.events VERSION AS OF {}", version[0])).await;
    assert_eq!(now, lake.query("SELECT count(*) FROM silver.events").await);
    let told = "SELECT id, state, column_name, comment, asked_by, rows > 40, forgotten_at IS NOT NULL, gone_at FROM system.forgotten";
    assert_eq!(lake.query(told).await, ["1|forgotten|user_id|ticket 7|system|true|true|NULL"]);
    // What comes later counts, also of that user.
    let later = records(90, 30);
    lake.source.push(later.clone());
    lake.pass_until_idle().await;
    let by_user = lake.query("SELECT c FROM gold.by_user WHERE user_id = 'user-2'").await;
    assert_eq!(by_user.len(), 1);
    for view in ["gold.by_shop", "gold.by_user", "gold.people", "gold.cities", "gold.busy", "gold.copied"] {
        let audit = lake.query(&format!("AUDIT MATERIALIZED VIEW {view}")).await;
        assert!(audit[0].ends_with("|0|0"), "{audit:?}");
    }
    // No record of the lake names who it was; that request is in none.
    let names = holding(&lake, "\"value\":\"user-2\"").await;
    assert!(names.is_empty(), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_write_forgets_the_same_rows() {
    let all = records(0, 40);
    let wanted = without("user-2", &all).await;
    let mut cut = 0;
    for write in 0.. {
        let store = Failing::calm();
        let source: Arc<Scripted> = Arc::default();
        let lake = open(Arc::clone(&store) as _, Arc::clone(&source), &Clock::System, 3_600_000).await;
        filled(&lake, &all).await;
        store.fail_at(write);
        let done = lake.execute("FORGET WHERE user_id = 'user-2'").await;
        if !store.has_failed() {
            done.unwrap();
            break;
        }
        cut += 1;
        drop(lake);
        let lake = open(Arc::clone(&store) as _, source, &Clock::System, 3_600_000).await;
        lake.pass_until_idle().await;
        // What was begun is finished by the next start as far as it was written down; asking again does the rest.
        lake.query("FORGET WHERE user_id = 'user-2'").await;
        assert_eq!(contents(&lake).await, wanted, "write {write}");
        let left = holding(&lake, "\"value\":\"user-2\"").await;
        assert!(left.is_empty(), "write {write}: {left:?}");
    }
    assert!(cut > 20, "{cut} writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_go_and_it_is_told_when() {
    let lake = open(Arc::new(object_store::memory::InMemory::new()), Arc::default(), &Clock::System, 0).await;
    filled_with(&lake, &records(0, 60), &without_having()).await;
    // A view that is defined otherwise leaves its old table behind, which has the rows.
    let other = OBJECTS[5].replace("max(n) AS most", "min(n) AS least");
    lake.engine.apply(&[ProjectObject { file: None, sql: other, data: None }]).await.unwrap();
    lake.pass_until_idle().await;
    lake.query("FORGET WHERE user_id = 'user-2'").await;
    assert!(!holding(&lake, "user-2").await.is_empty(), "their files are there still");
    let state = "SELECT state, gone_at IS NOT NULL FROM system.forgotten";
    assert_eq!(lake.query(state).await, ["forgotten|false"]);
    // Without another epoch: an idle lake keeps itself in order, too.
    for _ in 0..3 {
        lake.pass_until_idle().await;
        lake.engine.finish_maintenance().await;
    }
    let left = holding(&lake, "user-2").await;
    let state = "SELECT state, waits_for FROM system.forgotten";
    assert_eq!(lake.query(state).await, ["forgotten|gold/by_user"], "the replaced table has an hour: {left:?}");
    assert!(left.iter().all(|path| path.starts_with("gold/by_user/")) && !left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_last_byte_is_gone_the_request_says_so() {
    let clock = Clock::fixed(chrono::Utc::now().timestamp_micros());
    let lake = open(Arc::new(object_store::memory::InMemory::new()), Arc::default(), &clock, 0).await;
    filled_with(&lake, &records(0, 60), &without_having()).await;
    lake.query("FORGET WHERE user_id = 'user-2'").await;
    for _ in 0..3 {
        clock.set(clock.now_us() + 61_000_000);
        lake.pass_until_idle().await;
        lake.engine.finish_maintenance().await;
    }
    assert_eq!(lake.query("SELECT state, gone_at IS NOT NULL FROM system.forgotten").await, ["gone|true"]);
    let left = holding(&lake, "user-2").await;
    assert!(left.is_empty(), "{left:?}");
    let restarted = open(Arc::clone(&lake.store), Arc::clone(&lake.source), &clock, 0).await;
    assert_eq!(restarted.query("SELECT state FROM system.forgotten").await, ["gone"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_forgotten_is_refused_and_nothing_is_done() {
    let lake = open(Arc::new(object_store::memory::InMemory::new()), Arc::default(), &Clock::System, 3_600_000).await;
    filled(&lake, &records(0, 30)).await;
    let before = contents(&lake).await;
    for (sql, text) in [
        ("FORGET WHERE usr_id = 'user-2'", "no table and no view shows a column usr_id"),
        ("FORGET WHERE city = 'city-1'", "silver.events cannot forget by city"),
        ("FORGET WHERE user_id = ''", "names nobody"),
        ("FORGET user_id = 'user-2'", "WHERE"),
        ("FORGET WHERE user_id IN ('user-2')", "="),
    ] {
        let error = lake.execute(sql).await.unwrap_err();
        assert!(error.message().contains(text), "{sql}: {error}");
    }
    lake.query("ALTER MATERIALIZED VIEW gold.by_shop SUSPEND").await;
    let error = lake.execute("FORGET WHERE user_id = 'user-2'").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Definition);
    assert!(error.message().contains("gold.by_shop does not follow"), "{error}");
    assert_eq!(contents(&lake).await, before);
    assert_eq!(lake.query("SELECT count(*) FROM system.forgotten").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_a_user_go_also_where_what_they_were_made_of_has_expired() {
    let clock = Clock::fixed(1_763_600_400_000_000);
    let lake = open(Arc::new(object_store::memory::InMemory::new()), Arc::default(), &clock, 3_600_000).await;
    for sql in [
        "CREATE TABLE s.t (user_id VARCHAR, at TIMESTAMPTZ, n BIGINT)",
        "CREATE MATERIALIZED VIEW s.recent WITH (retention = '1 hour', retention_by = 'at') AS SELECT * FROM s.t",
        "CREATE MATERIALIZED VIEW s.by_user AS SELECT user_id, count(*) AS c, sum(n) AS n FROM s.recent GROUP BY user_id",
        "CREATE MATERIALIZED VIEW s.users AS SELECT count(*) AS users, sum(c) AS c FROM s.by_user",
        "CREATE MATERIALIZED VIEW s.total AS SELECT sum(n) AS n FROM s.recent",
        "INSERT INTO s.t VALUES ('a', '2025-11-20T01:00:00Z', 1), ('b', '2025-11-20T01:00:00Z', 2)",
    ] {
        lake.query(sql).await;
    }
    clock.set(clock.now_us() + 7_200_000_000);
    lake.query("INSERT INTO s.t VALUES ('a', '2025-11-20T02:59:00Z', 10), ('b', '2025-11-20T02:59:00Z', 20)").await;
    assert_eq!(lake.query("SELECT count(*) FROM s.recent").await, ["2"]);
    assert_eq!(lake.query("SELECT * FROM s.users").await, ["2|4"]);
    lake.query("FORGET WHERE user_id = 'a'").await;
    assert_eq!(lake.query("SELECT * FROM s.by_user").await, ["b|2|22"]);
    assert_eq!(lake.query("SELECT * FROM s.users").await, ["1|2"]);
    // A sum that does not show the user keeps what has expired, and nothing else of them.
    assert_eq!(lake.query("SELECT * FROM s.total").await, ["23"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_follow_what_goes_beside_them() {
    let lake = open(Arc::new(object_store::memory::InMemory::new()), Arc::default(), &Clock::System, 3_600_000).await;
    let objects = [
        "CREATE EXTERNAL TABLE raw.events STORED AS JSONL LOCATION '/nowhere'",
        "CREATE MATERIALIZED VIEW bronze.events AS SELECT * FROM raw.events",
        "CREATE MATERIALIZED VIEW silver.events AS SELECT e['user'] AS user_id, e['shop'] AS shop, e['friend'] AS friend FROM (
           SELECT from_json(_payload, 'user VARCHAR, shop VARCHAR, friend VARCHAR') AS e FROM bronze.events) AS d",
        "CREATE MATERIALIZED VIEW gold.by_shop AS SELECT shop, count(*) AS n FROM silver.events GROUP BY shop",
        "CREATE MATERIALIZED VIEW gold.o AS
         SELECT o.user_id, b.n FROM silver.events AS o INNER JOIN gold.by_shop AS b ON o.shop = b.shop",
        "CREATE MATERIALIZED VIEW gold.r AS
         SELECT a.user_id, b.shop AS seen FROM silver.events AS a INNER JOIN silver.events AS b ON a.friend = b.user_id",
    ];
    apply(&lake, &objects).await;
    let record =
        |user: &str, shop: &str, friend: &str| format!(r#"{{"user":"{user}","shop":"{shop}","friend":"{friend}"}}"#);
    lake.source.push(vec![record("u17", "x", "u18"), record("u18", "x", "u17"), record("u19", "y", "u18")]);
    lake.pass_until_idle().await;
    assert_eq!(lake.query("SELECT * FROM gold.o ORDER BY 1").await, ["u17|2", "u18|2", "u19|1"]);
    lake.query("FORGET WHERE user_id = 'u17'").await;
    assert_eq!(lake.query("SELECT * FROM gold.o ORDER BY 1").await, ["u18|1", "u19|1"]);
    assert_eq!(lake.query("SELECT * FROM gold.r ORDER BY 1").await, ["u19|x"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_told_by_what_silver_makes_of_it() {
    let lake = open(Arc::new(object_store::memory::InMemory::new()), Arc::default(), &Clock::System, 3_600_000).await;
    let objects = [
        "CREATE EXTERNAL TABLE raw.events STORED AS JSONL LOCATION '/nowhere'",
        "CREATE TABLE ref.shops (shop VARCHAR, city VARCHAR)",
        "CREATE MATERIALIZED VIEW bronze.events AS SELECT _payload AS body FROM raw.events",
        "CREATE MATERIALIZED VIEW silver.events AS SELECT lower(e['user_id']) AS user_id, s.city FROM (
           SELECT from_json(body, 'user_id VARCHAR, shop VARCHAR') AS e FROM bronze.events) AS d
         INNER JOIN ref.shops AS s ON e['shop'] = s.shop",
    ];
    apply(&lake, &objects).await;
    lake.query("INSERT INTO ref.shops VALUES ('x', 'Pune')").await;
    lake.source.push(vec![
        r#"{"user_id":"U17","shop":"x"}"#.into(),
        r#"{"user_id":"u17","shop":"nowhere"}"#.into(),
        r#"{"user_id":"u18","shop":"x"}"#.into(),
    ]);
    lake.pass_until_idle().await;
    lake.query("FORGET WHERE user_id = 'u17'").await;
    assert_eq!(lake.query("SELECT user_id FROM silver.events").await, ["u18"]);
    assert_eq!(lake.query("SELECT count(*) FROM bronze.events").await, ["1"]);
    // Where it cannot be told, nothing is done.
    let union = "CREATE MATERIALIZED VIEW silver.both AS
        SELECT from_json(body, 'who VARCHAR')['who'] AS who FROM bronze.events UNION ALL SELECT shop FROM ref.shops";
    lake.apply(union).await;
    lake.pass_until_idle().await;
    let error = lake.execute("FORGET WHERE who = 'u18'").await.unwrap_err();
    assert!(error.message().contains("records of bronze.events cannot be told by who"), "{error}");
}
