//! One commit of a Delta log: JSON lines to and from what they mean.
//!
//! ```text
//!   {"commitInfo":{…,"operation":"WRITE","flash.commit":"<id>"}}   who and why; the id tells our own commit
//!   {"txn":{"appId":"flash","version":E}}                          the epoch
//!   {"remove":{"path":…}} …
//!   {"add":{"path":…,"partitionValues":…,"stats":"…"}} …
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use deltalake_core::kernel::{Action, Add, CommitInfo, IsolationLevel, Remove, Transaction};
use serde::Deserialize;
use serde_json::json;

use crate::epoch::{Epoch, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::encode::CREATED_BY;
use crate::storage::schema::delta_schema;
use crate::storage::{DataFile, Snapshot, stats};

/// The application of our transactions, whose version is the epoch.
pub(crate) const APP_ID: &str = "flash";

/// The application of commits that move rows to other files without changing them.
pub(crate) const REWRITE_APP_ID: &str = "flash-rewrite";

/// The key in `commitInfo` that tells one try to commit from every other.
const COMMIT_ID: &str = "flash.commit";

/// The key in `commitInfo` with the number of lines, so that an entry that was cut between two lines is noticed.
const LINES: &str = "flash.lines";

/// The key in `commitInfo` of a commit by which rows expire.
const EXPIRY: &str = "flash.expiry";

/// What one commit did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogEntry {
    /// The version that it made.
    pub(crate) version: Version,
    /// Milliseconds since 1970 UTC, by the writer's clock.
    pub(crate) timestamp_ms: i64,
    /// The id of the try that made it, where we made it.
    pub(crate) commit_id: Option<String>,
    /// The epoch that it carried.
    pub(crate) epoch: Option<Epoch>,
    /// Files that came.
    pub(crate) added: Vec<Arc<DataFile>>,
    /// Files that went.
    pub(crate) removed: Vec<Arc<DataFile>>,
    /// Rows changed, and not only the files that hold them.
    pub(crate) data_change: bool,
    /// Rows went because their time is over, which is no change to what is built on them.
    pub(crate) expiry: bool,
}

/// A commit as its JSON tells; removed files are known by path only.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) timestamp_ms: i64,
    pub(crate) commit_id: Option<String>,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) added: Vec<Arc<DataFile>>,
    pub(crate) removed: Vec<String>,
    pub(crate) data_change: bool,
    pub(crate) expiry: bool,
    /// The schema, the properties or the protocol changed.
    pub(crate) redefined: bool,
}

/// The JSON lines of version 0.
///
/// # Errors
/// `Internal`.
pub(crate) fn render_create(
    snapshot: &Snapshot,
    comment: Option<&str>,
    now_ms: i64,
    retention_ms: i64,
) -> Result<Vec<u8>> {
    use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel as _;
    let delta: deltalake_core::kernel::StructType = (&delta_schema(&snapshot.schema))
        .try_into_kernel()
        .map_err(|error| Error::new(ErrorKind::Internal, format!("schema of {}: {error}", snapshot.location)))?;
    // Tombstones leave the checkpoints after this; what is not deleted by then is swept.
    let retention = format!("interval {} seconds", retention_ms.max(1_000) / 1_000);
    let lines = [
        json!({"commitInfo": {
            "timestamp": now_ms,
            "operation": "CREATE TABLE",
            "operationParameters": {"mode": "ErrorIfExists", "location": snapshot.location},
            "isBlindAppend": true,
            "engineInfo": CREATED_BY,
        }}),
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        json!({"metaData": {
            "id": uuid::Uuid::new_v4().to_string(),
            "name": null,
            "description": comment,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": serde_json::to_string(&delta)?,
            "partitionColumns": snapshot.partitioned_by,
            "createdTime": now_ms,
            "configuration": {
                "delta.checkpointInterval": "100",
                "delta.enableExpiredLogCleanup": "false",
                "delta.logRetentionDuration": retention,
                "delta.deletedFileRetentionDuration": retention,
            },
        }}),
    ];
    let lines: Result<Vec<String>, _> = lines.iter().map(serde_json::to_string).collect();
    Ok(lines?.join("\n").into_bytes())
}

/// The JSON lines of `entry`, on top of the version before it.
///
/// # Errors
/// `Internal`.
pub(crate) fn render(entry: &LogEntry, operation: &str, partitioned_by: &[String]) -> Result<Vec<u8>> {
    let blind = entry.removed.is_empty() && operation == "WRITE";
    let mode = if entry.removed.is_empty() { "Append" } else { "Overwrite" };
    let mut parameters = HashMap::from([("mode".to_string(), json!(mode))]);
    if !partitioned_by.is_empty() {
        parameters.insert("partitionBy".into(), json!(serde_json::to_string(partitioned_by)?));
    }
    let lines = 1
        + usize::from(entry.epoch.is_some())
        + usize::from(!entry.data_change)
        + entry.removed.len()
        + entry.added.len();
    let mut info = HashMap::from([(LINES.to_string(), json!(lines))]);
    info.extend(entry.commit_id.iter().map(|id| (COMMIT_ID.to_string(), json!(id))));
    info.extend(entry.expiry.then(|| (EXPIRY.to_string(), json!(true))));
    let mut actions = vec![Action::CommitInfo(CommitInfo {
        timestamp: Some(entry.timestamp_ms),
        operation: Some(operation.to_string()),
        operation_parameters: Some(parameters),
        read_version: entry.version.checked_sub(1),
        isolation_level: Some(IsolationLevel::WriteSerializable),
        is_blind_append: Some(blind),
        engine_info: Some(CREATED_BY.into()),
        info,
        ..CommitInfo::default()
    })];
    if let Some(epoch) = entry.epoch {
        actions.push(transaction(APP_ID, epoch)?);
    }
    if !entry.data_change {
        actions.push(transaction(REWRITE_APP_ID, entry.version)?);
    }
    let removed = entry.removed.iter().map(|file| remove(file, entry, partitioned_by));
    actions.extend(removed.map(Action::Remove));
    for file in &entry.added {
        actions.push(Action::Add(add(file, entry.data_change, partitioned_by)?));
    }
    let mut text = Vec::new();
    for action in actions {
        serde_json::to_writer(&mut text, &action)?;
        text.push(b'\n');
    }
    Ok(text)
}

fn transaction(app: &str, version: u64) -> Result<Action> {
    let version = i64::try_from(version)
        .map_err(|_| Error::new(ErrorKind::Internal, format!("transaction {version} of {app} is too large")))?;
    Ok(Action::Txn(Transaction::new(app, version)))
}

fn partition_values(file: &DataFile, partitioned_by: &[String]) -> HashMap<String, Option<String>> {
    partitioned_by.iter().cloned().zip(file.partition.iter().cloned()).collect()
}

fn add(file: &DataFile, data_change: bool, partitioned_by: &[String]) -> Result<Add> {
    Ok(Add {
        path: file.path.clone(),
        partition_values: partition_values(file, partitioned_by),
        size: file.size.cast_signed(),
        modification_time: file.modified_ms,
        data_change,
        stats: Some(stats::to_json(file.rows, &file.stats)?),
        ..Add::default()
    })
}

fn remove(file: &DataFile, entry: &LogEntry, partitioned_by: &[String]) -> Remove {
    Remove {
        path: file.path.clone(),
        data_change: entry.data_change,
        deletion_timestamp: Some(entry.timestamp_ms),
        extended_file_metadata: Some(true),
        partition_values: Some(partition_values(file, partitioned_by)),
        size: Some(file.size.cast_signed()),
        ..Remove::default()
    }
}

/// What the JSON lines of one commit say. `path` is where they stand, for errors.
///
/// # Errors
/// `Corrupt` when a line is not an action, `Storage` when it needs more than reader 1.
pub(crate) fn parse(bytes: &[u8], path: &str, of: &Snapshot) -> Result<Parsed> {
    let mut parsed = Parsed::default();
    let (mut lines, mut lines_written) = (0, None);
    for action in serde_json::Deserializer::from_slice(bytes).into_iter::<Line>() {
        let corrupt = |error: serde_json::Error| {
            Error::new(ErrorKind::Corrupt, format!("the Delta log entry \"{path}\" cannot be read"))
                .with_detail(error.to_string())
                .with_hint("restore this file from a copy; nothing after it can be read without it")
        };
        let line = action.map_err(corrupt)?;
        lines += 1;
        if let Some(info) = line.commit_info {
            parsed.timestamp_ms = info.timestamp.unwrap_or_default();
            parsed.commit_id = info.commit_id;
            lines_written = info.lines;
            parsed.expiry = info.expiry;
        }
        if let Some(txn) = line.txn.filter(|txn| txn.app_id == APP_ID) {
            parsed.epoch = u64::try_from(txn.version).ok();
        }
        if let Some(add) = line.add {
            parsed.data_change |= add.data_change;
            parsed.added.push(Arc::new(data_file(&add, of)?));
        }
        if let Some(remove) = line.remove {
            parsed.data_change |= remove.data_change;
            parsed.removed.push(remove.path);
        }
        parsed.redefined |= line.meta_data.is_some() || line.protocol.is_some();
    }
    if lines == 0 || lines_written.is_some_and(|written| written != lines) {
        return Err(Error::new(ErrorKind::Corrupt, format!("the Delta log entry \"{path}\" is cut short"))
            .with_detail(format!("it has {lines} lines"))
            .with_hint("restore this file from a copy; nothing after it can be read without it"));
    }
    Ok(parsed)
}

/// One line of a commit; the actions that we don't act on are left out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    commit_info: Option<Info>,
    txn: Option<Transaction>,
    add: Option<Add>,
    remove: Option<Remove>,
    meta_data: Option<serde::de::IgnoredAny>,
    protocol: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Info {
    timestamp: Option<i64>,
    #[serde(rename = "flash.commit")]
    commit_id: Option<String>,
    #[serde(rename = "flash.lines")]
    lines: Option<usize>,
    #[serde(rename = "flash.expiry", default)]
    expiry: bool,
}

/// An `Add` as we keep it.
///
/// # Errors
/// `Storage` for a file with a deletion vector or without a row count.
pub(crate) fn data_file(add: &Add, of: &Snapshot) -> Result<DataFile> {
    let at = || format!("\"{}/{}\"", of.location, add.path);
    if add.deletion_vector.is_some() {
        return Err(Error::new(ErrorKind::Storage, format!("{} has a deletion vector, which is not supported", at()))
            .with_hint("another writer changed this table; switch deletion vectors off there and rewrite it"));
    }
    let (rows, stats) = match &add.stats {
        Some(text) => stats::from_json(text, &of.schema).map_err(|error| error.context(at()))?,
        None => (None, Default::default()),
    };
    let Some(rows) = rows else {
        return Err(Error::new(ErrorKind::Storage, format!("{} has no row count in the Delta log", at()))
            .with_hint("another writer changed this table; let it collect statistics"));
    };
    let partition = of.partitioned_by.iter().map(|name| add.partition_values.get(name).cloned().flatten());
    Ok(DataFile {
        path: add.path.clone(),
        size: add.size.cast_unsigned(),
        rows,
        partition: partition.collect(),
        stats,
        modified_ms: add.modification_time,
    })
}
