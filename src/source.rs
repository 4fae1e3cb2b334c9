//! Sources: where events come from. One trait, three implementors, one conformance suite.
//!
//! ```text
//!                      poll(from, limits)            one slice = whole records only
//!   kinesis  ─┐      ┌────────────────────▶  Slice { batches, to }
//!   embedded ─┼─ Source                          │ the epoch record is written with (from, to]
//!   files    ─┘      └────────────────────▶  read(range): the same rows again, after a crash
//! ```
//!
//! Every source yields the columns of [`schema`]; bronze does not care which one it reads.
//! Within a slice rows are ordered by shard, then sequence number, then sub-sequence.

pub mod embedded;
pub mod files;
pub mod kinesis;
pub mod producer;
mod rows;
mod spec;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;

use crate::epoch::{Loss, Positions, SourceRange};
use crate::error::{Error, ErrorKind, Result};
pub use spec::{FilesSpec, Format, KinesisSpec, OnDataLoss, SourceSpec, Start};

/// A source over what `spec` names. Cheap: it connects when it is first asked for records.
///
/// # Errors
/// `Config` for a location that cannot be one.
pub async fn open(spec: &SourceSpec) -> Result<Arc<dyn Source>> {
    Ok(match spec {
        SourceSpec::Kinesis(spec) => Arc::new(kinesis::KinesisSource::new(spec.clone())),
        SourceSpec::Files(spec) => Arc::new(files::FilesSource::open(spec).await?),
    })
}

/// The columns of every source, without `_epoch`, which the refresh adds:
/// `_stream, _shard_id, _sequence_number` (Utf8, not null), `_sub_sequence` (Int64, not null),
/// `_partition_key` (Utf8), `_arrived_at` (Timestamp µs UTC, not null), `_payload` (Binary),
/// `_error` (Utf8: why the record could not be decoded, else NULL).
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let utf8 = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        Arc::new(Schema::new(vec![
            utf8("_stream", false),
            utf8("_shard_id", false),
            utf8("_sequence_number", false),
            Field::new("_sub_sequence", DataType::Int64, false),
            utf8("_partition_key", true),
            Field::new("_arrived_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Field::new("_payload", DataType::Binary, true),
            utf8("_error", true),
        ]))
    });
    SCHEMA.clone()
}

/// The most that one slice may hold; whichever is reached first ends it.
#[derive(Debug, Clone, Copy)]
pub struct SliceLimits {
    /// Bytes of payload.
    pub payload_bytes_max: usize,
    /// Records.
    pub records_max: usize,
}

impl SliceLimits {
    /// No limits.
    pub const NONE: Self = Self { payload_bytes_max: usize::MAX, records_max: usize::MAX };
}

/// What one poll found.
#[derive(Debug, Clone, Default)]
pub struct Slice {
    /// Rows of [`schema`], in batches of at most 8,192 rows.
    pub batches: Vec<RecordBatch>,
    /// The position of every shard after these rows, those without rows too.
    pub to: Positions,
    /// Rows in all batches.
    pub records: usize,
    /// Bytes of payload in all batches.
    pub payload_bytes: usize,
    /// How far behind its shard's newest record each shard's last row is, in milliseconds, where the source can tell;
    /// shards that are not behind are left out.
    pub behind_ms: Option<BTreeMap<String, i64>>,
    /// The source had nothing more to give when the slice ended.
    pub caught_up: bool,
}

/// A stream of events with positions.
#[async_trait]
pub trait Source: Send + Sync + fmt::Debug {
    /// Where it reads from, for people: `kinesis://ap-south-1/E_com`.
    fn describe(&self) -> String;

    /// False for a stand-in that has nothing to give: while its source was never read, it takes no part.
    fn is_read(&self) -> bool {
        true
    }

    /// The positions of a first start: "latest" becomes an instant, once. They are the `from` of a source's first
    /// range, to be written down with it.
    ///
    /// # Errors
    /// `Source` when it cannot be reached or refuses.
    async fn start(&self) -> Result<Positions>;

    /// Where to read again from: before the first record of each shard that arrived at or after this instant, in
    /// milliseconds since 1970 UTC.
    ///
    /// # Errors
    /// `Config` from a source that keeps no time; as `start`.
    async fn since(&self, _instant_ms: i64) -> Result<Positions> {
        Err(Error::new(ErrorKind::Config, format!("{} cannot be read again from an instant on", self.describe())))
    }

    /// What is there after `from`, up to `limits`. `None` starts at [`Source::start`], which
    /// counts for the first start only. Returns at once, with an empty slice, where nothing new has come.
    ///
    /// # Errors
    /// `Transient` after its own retries are used up, `Source` when it cannot be reached or refuses,
    /// `DataLoss` when records after `from` are gone.
    async fn poll(&self, from: Option<&Positions>, limits: SliceLimits) -> Result<Slice>;

    /// Exactly the records in (from, to], as `poll` gave them.
    ///
    /// # Errors
    /// As `poll`; `DataLoss` when the range is not held any more.
    async fn read(&self, range: &SourceRange) -> Result<Slice>;

    /// Those records in (from, to] that are still there, up to `limits`, as `poll` gave them; the slice's positions tell how
    /// far it goes, and equal `to` in the end.
    ///
    /// # Errors
    /// As `poll`, but for what is gone.
    async fn reread(&self, range: &SourceRange, _limits: SliceLimits) -> Result<Slice> {
        self.read(range).await
    }

    /// What was found to be gone since this was asked last, whether reading went on or stopped.
    fn losses(&self) -> Vec<Loss> {
        Vec::new()
    }

    /// Everything up to `to` is committed and published; the source may let go of it.
    ///
    /// # Errors
    /// `Source`, which the caller logs and goes on.
    async fn landed(&self, to: &Positions) -> Result<()>;
}
