//! Short words for the cases: open, write, query.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use flashcommerce::storage::{Commit, Committed, DataFile, DeltaStorage, Snapshot, Storage, StorageOptions};
use object_store::ObjectStore;

pub(super) type Store = Arc<dyn ObjectStore>;

/// A lake over `store`, as a process would open it. It always looks for other writers.
pub(super) fn open(store: &Store) -> Arc<DeltaStorage> {
    open_with(store, StorageOptions { handle_fresh_ms_max: 0, ..StorageOptions::default() })
}

/// The same with other limits.
pub(super) fn open_with(store: &Store, options: StorageOptions) -> Arc<DeltaStorage> {
    DeltaStorage::with_options(Arc::clone(store), "test:///".parse().unwrap(), options)
}

/// `(k, n)`: a name and a number.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]))
}

/// Rows `(name, from..to)`.
pub(super) fn rows(name: Option<&str>, numbers: std::ops::Range<i64>) -> RecordBatch {
    let names: ArrayRef = Arc::new(StringArray::from_iter(numbers.clone().map(|_| name)));
    RecordBatch::try_new(schema(), vec![names, Arc::new(Int64Array::from_iter_values(numbers))]).unwrap()
}

/// Stage rows and append them.
pub(super) async fn append(lake: &DeltaStorage, at: &str, epoch: Option<u64>, batches: &[RecordBatch]) -> Committed {
    let add = stage(lake, at, epoch.unwrap_or(0), batches).await;
    lake.commit(at, Commit { epoch, add, ..write() }).await.unwrap()
}

/// Stage rows on the newest version.
pub(super) async fn stage(lake: &DeltaStorage, at: &str, epoch: u64, batches: &[RecordBatch]) -> Vec<DataFile> {
    let snapshot = lake.snapshot(at, None).await.unwrap();
    lake.stage(&snapshot, epoch, batches).await.unwrap()
}

/// A commit that changes rows.
pub(super) fn write() -> Commit {
    Commit { data_change: true, operation: "WRITE", ..Commit::default() }
}

/// The paths of all files.
pub(super) fn paths(snapshot: &Snapshot) -> Vec<String> {
    let mut paths: Vec<String> = snapshot.files.iter().map(|file| file.path.clone()).collect();
    paths.sort();
    paths
}

/// A session with the snapshot as table `t`.
pub(super) fn session(lake: &DeltaStorage, snapshot: &Snapshot) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(2);
    let state = SessionStateBuilder::new().with_config(config).with_default_features().build();
    let session = SessionContext::new_with_state(state);
    lake.register(&session.runtime_env());
    session.register_table("t", lake.provider(snapshot, None)).unwrap();
    session
}

/// The answer as text lines, without the frame.
pub(super) async fn query(lake: &DeltaStorage, snapshot: &Snapshot, sql: &str) -> Vec<String> {
    let frame = session(lake, snapshot).sql(sql).await.unwrap();
    let batches = frame.collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let lines = text.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(",");
    lines.map(cells).collect()
}

/// One value of the newest version.
pub(super) async fn value(lake: &DeltaStorage, at: &str, sql: &str) -> String {
    let snapshot = lake.snapshot(at, None).await.unwrap();
    query(lake, &snapshot, sql).await.join(";")
}
