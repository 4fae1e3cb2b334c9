//! Checkpoints, compaction, vacuum, hidden state, records.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use flashcommerce::error::ErrorKind;
use flashcommerce::storage::{Commit, MaintainOptions, Operation, Storage, StorageOptions};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::lake::{Store, append, open, open_with, paths, query, rows, schema, stage, value, write};

const KEEP: MaintainOptions = MaintainOptions {
    compact: false,
    retention_ms: 3_600_000,
    state_folder: None,
    needed_since_ms: None,
    checkpoint_from: None,
    swept_ms: 0,
};

async fn objects(store: &Store, folder: &str) -> HashSet<String> {
    let listed: Vec<_> = store.list(Some(&Path::from(folder))).try_collect().await.unwrap();
    listed.into_iter().map(|meta| meta.location.to_string()).collect()
}

pub(super) async fn a_checkpointed_table_opens_the_same(store: Store) {
    let lake = open(&store);
    lake.create("t", &schema(), &["k".into()], None).await.unwrap();
    for epoch in 1..=120_u64 {
        let name = ["a", "b"][(epoch % 2) as usize];
        let from = epoch as i64 * 10;
        if epoch % 10 == 0 {
            let snapshot = lake.snapshot("t", None).await.unwrap();
            let remove = vec![snapshot.files[0].path.clone()];
            let add = stage(&lake, "t", epoch, &[rows(None, from..from + 2)]).await;
            lake.commit("t", Commit { epoch: Some(epoch), add, remove, ..write() }).await.unwrap();
        } else {
            append(&lake, "t", Some(epoch), &[rows(Some(name), from..from + 3)]).await;
        }
        lake.maintain("t", &KEEP).await;
    }
    let log = objects(&store, "t/_delta_log").await;
    let checkpoints = log.iter().filter(|path| path.contains(".checkpoint")).count();
    assert_eq!(checkpoints, 2, "{log:?}");
    assert!(log.contains("t/_delta_log/_last_checkpoint"));
    let live = lake.snapshot("t", None).await.unwrap();
    assert_eq!((live.version, live.epoch, live.files.len()), (120, 120, 108));
    // The entries behind the last checkpoint are not needed to open the table, and neither is the hint.
    for version in 0..60 {
        store.delete(&Path::from(format!("t/_delta_log/{version:020}.json"))).await.unwrap();
    }
    store.put(&Path::from("t/_delta_log/_last_checkpoint"), "{".into()).await.unwrap();
    assert_eq!(paths(&open(&store).snapshot("t", None).await.unwrap()), paths(&live));
    store.delete(&Path::from("t/_delta_log/_last_checkpoint")).await.unwrap();
    let lake = open(&store);
    let opened = lake.snapshot("t", None).await.unwrap();
    assert_eq!((opened.version, opened.epoch, &opened.schema), (120, 120, &live.schema));
    assert_eq!(opened.partitioned_by, live.partitioned_by);
    assert_eq!(paths(&opened), paths(&live));
    let facts = |snapshot: &flashcommerce::storage::Snapshot| {
        let mut files: Vec<_> = snapshot.files.iter().map(|file| file.as_ref().clone()).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    };
    assert_eq!(facts(&opened), facts(&live));
    let sql = "SELECT k, count(*), sum(n) FROM t GROUP BY k ORDER BY k";
    assert_eq!(query(&lake, &opened, sql).await, query(&lake, &live, sql).await);
    assert_eq!(
        lake.commit("t", Commit { epoch: Some(119), ..write() }).await.unwrap(),
        flashcommerce::storage::Committed::Already(119)
    );
    let error = lake.changes("t", 10, 20).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

pub(super) async fn compaction_changes_no_row(store: Store) {
    let lake = open(&store);
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]));
    lake.create("t", &schema, &["k".into()], None).await.unwrap();
    let with_time = |batch: RecordBatch| {
        let at = arrow::compute::cast(batch.column(1), schema.field(2).data_type()).unwrap();
        RecordBatch::try_new(Arc::clone(&schema), vec![batch.column(0).clone(), batch.column(1).clone(), at]).unwrap()
    };
    for epoch in 1..=17_u64 {
        let n = epoch as i64;
        let batches = [rows(Some("a/b"), n..n + 2), rows(None, n..n + 1)].map(with_time);
        append(&lake, "t", Some(epoch), &batches).await;
    }
    append(&lake, "t", Some(18), &[with_time(rows(Some("few"), 0..1))]).await;
    let before = lake.snapshot("t", None).await.unwrap();
    let sql = "SELECT k, n, at FROM t ORDER BY k, n, at";
    let rows_before = query(&lake, &before, sql).await;
    lake.maintain("t", &KEEP).await;
    assert_eq!(lake.snapshot("t", None).await.unwrap().version, 18);
    lake.maintain("t", &MaintainOptions { compact: true, ..KEEP }).await;
    for lake in [lake, open(&store)] {
        let after = lake.snapshot("t", None).await.unwrap();
        assert_eq!((after.version, after.epoch, after.files.len()), (19, 18, 3));
        assert_eq!(query(&lake, &after, sql).await, rows_before);
        assert_eq!(query(&lake, &before, sql).await, rows_before);
        let filter = "SELECT count(*) FROM t WHERE at = TIMESTAMP '1970-01-01 00:00:00.000003' AND k = 'a/b'";
        assert_eq!(query(&lake, &after, filter).await, ["2"]);
        let changes = lake.changes("t", 18, 19).await.unwrap();
        assert!(changes.added.is_empty() && changes.removed.is_empty());
    }
    let log = store.get(&"t/_delta_log/00000000000000000019.json".into()).await.unwrap().bytes().await.unwrap();
    let log = String::from_utf8(log.to_vec()).unwrap();
    assert!(log.contains(r#""appId":"flash-rewrite""#) && !log.contains(r#""dataChange":true"#), "{log}");
}

pub(super) async fn compaction_keeps_what_bounds_leave_out(store: Store) {
    let lake = open(&store);
    let schema = Arc::new(Schema::new(vec![Field::new("f", DataType::Float64, true)]));
    lake.create("t", &schema, &[], None).await.unwrap();
    for epoch in 1..=17 {
        let value = if epoch == 9 { f64::NAN } else { 1.0 };
        let column: ArrayRef = Arc::new(Float64Array::from(vec![Some(value), None]));
        append(&lake, "t", Some(epoch), &[RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap()]).await;
    }
    lake.maintain("t", &MaintainOptions { compact: true, ..KEEP }).await;
    assert_eq!(lake.snapshot("t", None).await.unwrap().files.len(), 1);
    assert_eq!(value(&lake, "t", "SELECT count(*) FROM t WHERE f > 5").await, "1");
    assert_eq!(value(&lake, "t", "SELECT count(f), count(*) FROM t").await, "17,34");
}

pub(super) async fn vacuum_takes_only_what_is_due(store: Store) {
    let lake = open(&store);
    lake.create("t", &schema(), &["k".into()], None).await.unwrap();
    append(&lake, "t", Some(1), &[rows(Some("a"), 0..3)]).await;
    let old = paths(&lake.snapshot("t", None).await.unwrap());
    let add = stage(&lake, "t", 2, &[rows(Some("a"), 3..5)]).await;
    let new = add[0].path.clone();
    let name = |path: &str| path.rsplit('/').next().unwrap().to_string();
    for path in [&old[0], &new] {
        lake.write_state(&format!("_state/t/1/{}", name(path)), &[rows(None, 0..1)]).await.unwrap();
    }
    lake.commit("t", Commit { epoch: Some(2), add, remove: old.clone(), ..write() }).await.unwrap();
    let unused = stage(&lake, "t", 3, &[rows(Some("a"), 5..6)]).await[0].path.clone();
    let options = MaintainOptions { state_folder: Some("_state/t/1".into()), ..KEEP };
    lake.maintain("t", &options).await;
    let data = objects(&store, "t/k=a").await;
    assert_eq!(data.len(), 3, "{data:?}");
    // What was removed is known from the log after a restart.
    let lake = open(&store);
    lake.maintain("t", &MaintainOptions { retention_ms: -1, ..options }).await;
    let data = objects(&store, "t/k=a").await;
    assert_eq!(data, HashSet::from([format!("t/{new}"), format!("t/{unused}")]));
    assert_eq!(objects(&store, "_state").await, HashSet::from([format!("_state/t/1/{}", name(&new))]));
    assert_eq!(value(&lake, "t", "SELECT sum(n) FROM t").await, "7");
}

pub(super) async fn the_log_is_cleaned_behind_what_a_reader_needs(store: Store) {
    let lake = open(&store);
    lake.create("t", &schema(), &[], None).await.unwrap();
    let entries = async || objects(&store, "t/_delta_log").await.iter().filter(|path| path.ends_with(".json")).count();
    for epoch in 1..=120_u64 {
        append(&lake, "t", Some(epoch), &[rows(None, 0..1)]).await;
        lake.maintain("t", &KEEP).await;
    }
    assert_eq!(entries().await, 121, "all of it is younger than an hour");
    let begin = store.head(&"t/_delta_log/00000000000000000000.json".into()).await.unwrap().last_modified;
    let now = MaintainOptions { retention_ms: -1, ..KEEP };
    let needed = MaintainOptions { needed_since_ms: Some(begin.timestamp_millis() - 1), ..now.clone() };
    lake.maintain("t", &needed).await;
    assert_eq!(entries().await, 121, "a view has not followed it");
    let done = lake.maintain("t", &now).await;
    assert_eq!(entries().await, 21);
    let cleaned: Vec<_> = done.iter().filter(|work| work.operation == Operation::CleanLog).collect();
    // 100 entries and the first checkpoint.
    assert_eq!((cleaned.len(), cleaned[0].removed.files), (1, 101), "{done:?}");
    for version in [100, 110, 120] {
        assert_eq!(open(&store).snapshot("t", Some(version)).await.unwrap().rows(), version);
    }
    assert_eq!(value(&lake, "t", "SELECT count(*) FROM t").await, "120");
}

pub(super) async fn what_is_removed_in_great_numbers_is_vacuumed(store: Store) {
    let lake = open(&store);
    lake.create("t", &schema(), &["k".into()], None).await.unwrap();
    let names: Vec<String> = (0..60).map(|n| format!("k{n:02}")).collect();
    for epoch in 1..=40_u64 {
        let batches: Vec<_> = names.iter().map(|name| rows(Some(name), 0..1)).collect();
        let remove = paths(&lake.snapshot("t", None).await.unwrap());
        let add = stage(&lake, "t", epoch, &batches).await;
        lake.commit("t", Commit { epoch: Some(epoch), add, remove, ..write() }).await.unwrap();
    }
    let done = lake.maintain("t", &MaintainOptions { retention_ms: -1, ..KEEP }).await;
    let vacuum = done.iter().find(|work| work.operation == Operation::Vacuum).unwrap();
    assert_eq!(vacuum.removed.files, 39 * 60, "more than are deleted at a time");
    assert!(vacuum.removed.bytes > vacuum.removed.files * 100);
    let data = objects(&store, "t").await.iter().filter(|path| path.ends_with(".parquet")).count();
    assert_eq!(data, 60);
}

#[tokio::test]
async fn what_was_made_and_never_recorded_goes_after_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let store: Store = Arc::new(object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap());
    let lake = open(&store);
    for table in ["s/known", "s/used", "s/young", "s/left"] {
        lake.create(table, &schema(), &[], None).await.unwrap();
    }
    append(&lake, "s/used", Some(1), &[rows(None, 0..1)]).await;
    store.put(&"s/other/_delta_log/00000000000000000000.json".into(), "{}".into()).await.unwrap();
    store.put(&"_state/s.v/1".into(), "x".into()).await.unwrap();
    let old = std::time::SystemTime::from(chrono::Utc::now() - chrono::Duration::hours(25));
    for path in objects(&store, "").await.iter().filter(|path| !path.starts_with("s/young")) {
        std::fs::File::options().append(true).open(folder.path().join(path)).unwrap().set_modified(old).unwrap();
    }
    let before = objects(&store, "").await;
    let removed = lake.sweep_unrecorded(&["s/known".to_string()].into()).await.unwrap();
    let after = objects(&store, "").await;
    let gone: Vec<_> = before.difference(&after).collect();
    assert_eq!(gone, ["s/left/_delta_log/00000000000000000000.json"]);
    assert!(removed.files == 1 && removed.bytes > 100);
    // A file that a crash left between staging and commit, and one that was only just staged.
    let left = stage(&lake, "s/used", 2, &[rows(None, 0..1)]).await[0].path.clone();
    stage(&lake, "s/used", 2, &[rows(None, 0..1)]).await;
    let file = std::fs::File::options().append(true).open(folder.path().join("s/used").join(&left)).unwrap();
    file.set_modified(old).unwrap();
    let behind = MaintainOptions { needed_since_ms: Some(0), ..KEEP };
    let count = async || objects(&store, "s/used").await.iter().filter(|path| path.ends_with(".parquet")).count();
    lake.maintain("s/used", &behind).await;
    assert_eq!(count().await, 3, "while a view is behind, nothing is taken for left over");
    let done = lake.maintain("s/used", &KEEP).await;
    assert_eq!((count().await, done[0].operation, done[0].removed.files), (2, Operation::Sweep, 1));
    assert!(lake.maintain("s/used", &KEEP).await.is_empty(), "once a day");
    let swept_ms = MaintainOptions { swept_ms: done[0].began_ms, ..KEEP };
    assert!(open(&store).maintain("s/used", &swept_ms).await.is_empty(), "by whichever process");
}

pub(super) async fn state_comes_back(store: Store) {
    let lake = open_with(&store, StorageOptions { state_cache_bytes_max: 100_000, ..StorageOptions::default() });
    let batches = vec![rows(Some("a"), 0..10), rows(None, 10..20)];
    let size = lake.write_state("_state/v/1/a", &batches).await.unwrap();
    assert_eq!(size, store.head(&"_state/v/1/a".into()).await.unwrap().size);
    for lake in [lake, open(&store)] {
        for _ in 0..2 {
            let back = lake.read_state("_state/v/1/a").await.unwrap();
            let back = arrow::compute::concat_batches(&schema(), back.iter()).unwrap();
            assert_eq!(back, arrow::compute::concat_batches(&schema(), &batches).unwrap());
        }
    }
    // A second write replaces the first, in the cache too.
    let lake = open(&store);
    lake.write_state("_state/v/1/a", &batches).await.unwrap();
    lake.write_state("_state/v/1/a", &batches[..1]).await.unwrap();
    assert_eq!(lake.read_state("_state/v/1/a").await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 10);
    lake.delete(&["_state/v/1/a".into(), "_state/v/1/never".into()]).await.unwrap();
    assert_eq!(lake.read_state("_state/v/1/a").await.unwrap_err().kind(), ErrorKind::NotFound);
}

pub(super) async fn records_are_listed_newest_first(store: Store) {
    let lake = open(&store);
    assert!(lake.list_newest("_flash/epochs", 3).await.unwrap().is_empty());
    for epoch in [9_u64, 10, 2, 11] {
        let path = format!("_flash/epochs/{epoch:020}.json");
        assert!(lake.put_if_absent(&path, epoch.to_string().into_bytes()).await.unwrap());
    }
    let names = lake.list_newest("_flash/epochs", 3).await.unwrap();
    assert_eq!(names, [11, 10, 9].map(|epoch: u64| format!("{epoch:020}.json")));
    assert_eq!(lake.get(&format!("_flash/epochs/{}", names[0])).await.unwrap(), b"11");
    assert_eq!(lake.get("_flash/epochs/none").await.unwrap_err().kind(), ErrorKind::NotFound);
}
