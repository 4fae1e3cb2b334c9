//! The epoch: one set of input positions, written down first, reflected by every view that takes part,
//! published together. Pure values; `storage` keeps them, `refresh` carries them out.
//!
//! ```text
//! _flash/epochs/E.json      EpochRecord      put-if-absent, before anything is written for E
//! <every table>             one Delta commit with txn(flash, E)
//! _flash/published/E.json   PublishedRecord  put-if-absent, after all tables; what readers pin
//! ```

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::TableName;

/// Folder of the published records.
pub const PUBLISHED: &str = "_flash/published";

/// The number of an epoch; the first one is 1.
pub type Epoch = u64;

/// A Delta version. Opaque outside `storage`.
pub type Version = u64;

/// A Kinesis sequence number: decimal digits of any length, ordered by length and then bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SequenceNumber(pub String);

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0.len(), self.0.as_bytes()).cmp(&(other.0.len(), other.0.as_bytes()))
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How far one shard (or file) has been read. Reading resumes strictly after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// From the oldest record that is still held.
    TrimHorizon,
    /// From the first record that arrived at or after this instant, in milliseconds since 1970 UTC.
    AtTimestamp(i64),
    /// After the record with this sequence number, whole (an aggregate is never split).
    After(SequenceNumber),
    /// After this many decompressed bytes of a file that was last modified at this instant.
    Offset {
        /// Decompressed bytes that have been read: the end of a complete line.
        bytes: u64,
        /// The file's modification time when they were read, in milliseconds since 1970 UTC.
        modified_ms: i64,
    },
    /// The shard is closed and all its records have been read.
    End,
}

/// How far one source has been read: a position for every shard, idle and ended ones too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// Tells one life of a stream from another of the same name (its creation time); `None` for files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<String>,
    /// By shard id, or by path for files.
    pub shards: BTreeMap<String, Position>,
}

impl Positions {
    /// These say something that is worth being written down, beside `before`, also where no record has come: a shard was
    /// found or has ended, a quiet one has moved on in time, or the stream is another one. A file counts by its bytes.
    pub fn go_beyond(&self, before: &Self) -> bool {
        let bytes = |position: Option<&Position>| match position {
            Some(Position::Offset { bytes, .. }) => *bytes,
            _ => 0,
        };
        self.incarnation != before.incarnation
            || self.shards.iter().any(|(shard, at)| match (at, before.shards.get(shard)) {
                (Position::Offset { .. }, then) => bytes(Some(at)) != bytes(then),
                (at, then) => then != Some(at),
            })
    }
}

/// Records of a source that were gone before they were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The shard.
    pub shard: String,
    /// How far it had been read.
    pub after: Position,
    /// The oldest record that was still held, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<SequenceNumber>,
    /// How that was noticed.
    pub reason: String,
}

/// A loss, as the lake keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataLoss {
    /// The source.
    pub source: TableName,
    /// What was lost.
    #[serde(flatten)]
    pub loss: Loss,
    /// When it was noticed, in microseconds since 1970 UTC.
    pub found_us: i64,
}

/// What an epoch reads of one source: for each shard (from, to].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRange {
    /// Exclusive.
    pub from: Positions,
    /// Inclusive.
    pub to: Positions,
}

/// What an epoch reads. Written before anything else, so that running it again gives the same rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Its number.
    pub epoch: Epoch,
    /// What `now()` means in it, in microseconds since 1970 UTC.
    pub now_us: i64,
    /// Hash of the definitions that it was planned with.
    pub definitions: String,
    /// The ranges of the sources that take part.
    pub sources: BTreeMap<TableName, SourceRange>,
    /// The versions of ordinary tables.
    pub tables: BTreeMap<TableName, Version>,
    /// The views that take part.
    pub views: Vec<TableName>,
    /// A range of a source that is read once more, for what the view above it does not hold yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Again>,
    /// Rows that go from all views.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget: Option<Forget>,
    /// The views among them that a user asked to be recomputed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub full: Vec<TableName>,
}

/// Rows that are to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// Those where this column
    pub column: String,
    /// has this value, as a text.
    pub value: String,
}

/// A range of a source to be read once more; its positions stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// The source.
    pub source: TableName,
    /// The view that reads it.
    pub view: TableName,
    /// What is read.
    pub range: SourceRange,
}

/// Where a table stands after an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    /// Folder below the lake's root.
    pub location: String,
    /// The version that readers see.
    pub version: Version,
    /// The newest epoch that the table reflects (for an ordinary table: in which it was last seen).
    pub frontier: Epoch,
    /// Rows at that version.
    pub rows: u64,
    /// Rows that its refreshes have left out so far.
    #[serde(default)]
    pub totals: Totals,
}

/// Rows that came to a view and are not in it (any more), counted since it was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Duplicates of its unique key.
    pub duplicates: u64,
    /// Dropped by an expectation.
    pub dropped: u64,
    /// Quarantined by an expectation.
    pub quarantined: u64,
    /// Removed because their time was over.
    #[serde(default)]
    pub expired: u64,
    /// Rows from before this have expired, in microseconds since 1970 UTC, by the column of the view's `retention_by`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired_us: Option<i64>,
}

/// What one refresh of one view did; a row of `system.refreshes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshFacts {
    /// `nothing`, `append`, `merge_state` or `full`.
    pub mode: String,
    /// Why this mode.
    pub reason: String,
    /// Milliseconds that it took.
    pub took_ms: u64,
    /// Rows of the inputs' changes.
    pub rows_in: u64,
    /// Rows written to the view.
    pub rows_out: u64,
    /// Bytes of Parquet written.
    pub bytes_written: u64,
    /// Rows left out as duplicates of a `unique_key`.
    pub duplicates: u64,
    /// Rows that went because their time was over.
    #[serde(default)]
    pub expired: u64,
    /// Violations by expectation, in declaration order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expectations: Vec<ExpectationFacts>,
    /// Why it failed; the view keeps its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The count of one expectation in one refresh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectationFacts {
    /// The constraint's name.
    pub name: String,
    /// `warn`, `drop_row`, `quarantine_row` or `fail_update`.
    pub action: String,
    /// Rows that did not satisfy it.
    pub violations: u64,
    /// Rows that were dropped or quarantined because of it (each row is counted for one expectation only).
    pub removed: u64,
}

/// The end of an epoch: which version of every table belongs together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedRecord {
    /// The epoch.
    pub epoch: Epoch,
    /// What `now()` meant in it, in microseconds since 1970 UTC.
    pub now_us: i64,
    /// When it was published, in microseconds since 1970 UTC.
    pub published_us: i64,
    /// Every table and view, also those that took no part.
    pub tables: BTreeMap<TableName, TableState>,
    /// What the refreshes of this epoch did.
    pub refreshes: BTreeMap<TableName, RefreshFacts>,
    /// How far each source has been read.
    pub sources: BTreeMap<TableName, Positions>,
    /// How far the last of these records was behind the newest one of its shard, in milliseconds: by source, where it can
    /// tell, and by shard, where that is not 0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub behind_ms: BTreeMap<TableName, BTreeMap<String, i64>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_that_are_worth_an_epoch() {
        let at = |shards: &[(&str, Position)]| Positions {
            incarnation: Some("1".into()),
            shards: shards.iter().map(|(shard, at)| (shard.to_string(), at.clone())).collect(),
        };
        let file = |bytes, modified_ms| at(&[("a.jsonl", Position::Offset { bytes, modified_ms })]);
        let after = |n: &str| Position::After(SequenceNumber(n.into()));
        let one = at(&[("0", after("7"))]);
        assert!(one.go_beyond(&Positions::default()), "a first start");
        assert!(!one.go_beyond(&one));
        assert!(at(&[("0", Position::End)]).go_beyond(&one), "an end");
        assert!(at(&[("0", after("7")), ("1", Position::TrimHorizon)]).go_beyond(&one), "a new shard");
        assert!(at(&[("0", Position::AtTimestamp(9))]).go_beyond(&one), "time");
        assert!(!at(&[]).go_beyond(&one), "an ended shard that is forgotten can wait");
        assert!(Positions { incarnation: Some("2".into()), ..one.clone() }.go_beyond(&one));
        assert!(
            !file(0, 5).go_beyond(&at(&[])) && !file(9, 5).go_beyond(&file(9, 1)) && file(9, 5).go_beyond(&file(8, 5))
        );
    }

    #[test]
    fn sequence_numbers_order_by_length_then_bytes() {
        let order = |a: &str, b: &str| SequenceNumber(a.into()).cmp(&SequenceNumber(b.into()));
        assert_eq!(order("9", "10"), Ordering::Less);
        assert_eq!(order("49590338271490256608559692538361571095921575989136588898", "9"), Ordering::Greater);
        assert_eq!(order("11", "11"), Ordering::Equal);
    }
}
