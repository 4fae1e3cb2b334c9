//! The contract of [`Source`], checked on every implementor: the embedded stream, files, and Kinesis (`conformance`, in
//! two places).
//!
//! ```text
//!  Stage: put(records)  ·  open() a new instance over the same data
//!  each check takes a stage and knows nothing of what is behind it
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may, their helpers too")]

mod conformance;
mod faults;
mod files;
mod kinesis;
mod packed;
mod place;

pub(crate) use kinesis::eventually;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use async_trait::async_trait;
use flashcommerce::epoch::{Position, Positions, SequenceNumber, SourceRange};
use flashcommerce::source::{self, Slice, SliceLimits, Source};

/// Rounds after which a drain that doesn't end has failed.
const ROUNDS_MAX: usize = 100_000;
/// Shards (or files) of every stage.
const SHARDS: usize = 4;

const TINY: SliceLimits = SliceLimits { records_max: 7, payload_bytes_max: 2_000 };
const LARGE: SliceLimits = SliceLimits { records_max: 100_000, payload_bytes_max: 64 << 20 };

/// A place that records can be put into and read from.
#[async_trait]
trait Stage: Send + Sync {
    /// Put records: (key, payload), in order for each key.
    async fn put(&self, records: &[(String, String)]);
    /// A new instance over the same place.
    async fn open(&self) -> Arc<dyn Source>;
    /// How long it may take until a record that was put is there for an open instance.
    fn sent_within(&self) -> Duration {
        Duration::ZERO
    }
}

/// One row, without its batch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    stream: String,
    shard: String,
    sequence: String,
    sub_sequence: i64,
    key: Option<String>,
    arrived_us: i64,
    payload: Vec<u8>,
    error: Option<String>,
}

fn rows(slice: &Slice) -> Vec<Row> {
    let mut out = Vec::new();
    for batch in &slice.batches {
        assert_eq!(batch.schema(), source::schema());
        assert!(batch.num_rows() <= 8192 && batch.num_rows() > 0);
        let text = |column: usize, row: usize| {
            let column = batch.column(column).as_string::<i32>();
            column.is_valid(row).then(|| column.value(row).to_string())
        };
        for row in 0..batch.num_rows() {
            out.push(Row {
                stream: text(0, row).unwrap(),
                shard: text(1, row).unwrap(),
                sequence: text(2, row).unwrap(),
                sub_sequence: batch.column(3).as_primitive::<Int64Type>().value(row),
                key: text(4, row),
                arrived_us: batch.column(5).as_primitive::<TimestampMicrosecondType>().value(row),
                payload: batch.column(6).as_binary::<i32>().value(row).to_vec(),
                error: text(7, row),
            });
        }
    }
    assert_eq!(out.len(), slice.records);
    assert_eq!(out.iter().map(|row| row.payload.len()).sum::<usize>(), slice.payload_bytes);
    out
}

/// What a drain gave: its slices' rows, and the range of each slice.
struct Drained {
    slices: Vec<(SourceRange, Vec<Row>)>,
    to: Positions,
}

impl Drained {
    fn rows(&self) -> Vec<Row> {
        self.slices.iter().flat_map(|(_, rows)| rows.clone()).collect()
    }
}

/// Poll until nothing is left, checking each slice.
async fn drain(source: &dyn Source, from: Option<&Positions>, limits: SliceLimits) -> Drained {
    let mut at = match from {
        Some(from) => from.clone(),
        None => source.start().await.unwrap(),
    };
    let mut slices = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let slice = match source.poll(Some(&at), limits).await {
            Ok(slice) => slice,
            // What passes is asked for again, as the scheduler does.
            Err(error) if error.kind() == flashcommerce::error::ErrorKind::Transient => continue,
            Err(error) => panic!("{}", error.render()),
        };
        assert!(slice.records <= limits.records_max);
        for (shard, position) in &at.shards {
            assert!(*position == Position::End || slice.to.shards.contains_key(shard), "{shard} was forgotten");
        }
        let rows = rows(&slice);
        let order = |row: &Row| (row.shard.clone(), SequenceNumber(row.sequence.clone()), row.sub_sequence);
        assert!(rows.is_sorted_by(|a, b| order(a) < order(b)), "by shard, sequence number and sub-sequence");
        let range = SourceRange { from: at, to: slice.to.clone() };
        at = slice.to;
        if slice.records > 0 {
            slices.push((range, rows));
        } else if slice.caught_up {
            return Drained { slices, to: at };
        }
    }
    panic!("not caught up after {ROUNDS_MAX} polls");
}

/// Records `from..to`: keys in turn, lengths from a few bytes to a few hundred.
fn records(from: usize, to: usize) -> Vec<(String, String)> {
    let record =
        |n: usize| (format!("key-{}", n % 17), format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(n * 31 % 400)));
    (from..to).map(record).collect()
}

/// Every record once, and those of a shard in the order of their sequence numbers.
fn assert_complete(rows: &[Row], put: &[(String, String)]) {
    let mut got: Vec<&[u8]> = rows.iter().map(|row| row.payload.as_slice()).collect();
    let mut expected: Vec<&[u8]> = put.iter().map(|(_, payload)| payload.as_bytes()).collect();
    got.sort_unstable();
    expected.sort_unstable();
    assert_eq!(got.len(), expected.len());
    assert!(got == expected, "the same records");
    let mut last: BTreeMap<&str, SequenceNumber> = BTreeMap::new();
    for row in rows {
        assert_eq!((row.sub_sequence, &row.error), (0, &None));
        assert!(row.arrived_us > 0);
        let sequence = SequenceNumber(row.sequence.clone());
        if let Some(before) = last.insert(&row.shard, sequence.clone()) {
            assert!(before < sequence, "{} goes back", row.shard);
        }
    }
    assert_eq!(last.len(), SHARDS, "every shard has records");
    // Payloads begin with their number: a key's records come in the order they were put in.
    let number = |payload: &[u8]| -> usize {
        let digits = std::str::from_utf8(payload).unwrap()[5..].split(',').next().unwrap();
        digits.parse().unwrap()
    };
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    for row in rows {
        let n = number(&row.payload);
        assert!(last.insert(n % 17, n).is_none_or(|before| before < n), "key-{} goes back at {n}", n % 17);
    }
}

async fn nothing_is_lost_or_doubled(stage: &dyn Stage) {
    let source = stage.open().await;
    let (mut all, mut at) = (Vec::new(), None);
    for part in [0..3, 3..400, 400..400, 400..1000] {
        stage.put(&records(part.start, part.end)).await;
        let drained = drain(source.as_ref(), at.as_ref(), TINY).await;
        all.extend(drained.rows());
        source.landed(&drained.to).await.unwrap();
        at = Some(drained.to);
    }
    assert_complete(&all, &records(0, 1000));
}

async fn a_range_gives_what_poll_gave(stage: &dyn Stage) {
    stage.put(&records(0, 300)).await;
    let polled = drain(stage.open().await.as_ref(), None, TINY).await;
    assert!(polled.slices.len() > 30);
    // More has come since, and another process reads.
    stage.put(&records(300, 400)).await;
    let later = drain(stage.open().await.as_ref(), Some(&polled.to), LARGE).await;
    let source = stage.open().await;
    for (range, rows_then) in polled.slices.iter().chain(&later.slices) {
        let range: SourceRange = serde_json::from_str(&serde_json::to_string(range).unwrap()).unwrap();
        let slice = source.read(&range).await.unwrap();
        assert_eq!(slice.to, range.to);
        assert!(rows(&slice) == *rows_then, "the same rows in the same order");
    }
    let mut expected = [polled.rows(), later.rows()].concat();
    let whole = SourceRange { from: polled.slices[0].0.from.clone(), to: later.to };
    let mut got = rows(&source.read(&whole).await.unwrap());
    // The arrival time of a line is that of its slice.
    got.iter_mut().chain(&mut expected).for_each(|row| row.arrived_us = 0);
    expected.sort_by(|a, b| a.shard.cmp(&b.shard));
    assert!(got == expected, "slices put together");
}

async fn nothing_new_is_told_at_once(stage: &dyn Stage) {
    let source = stage.open().await;
    stage.put(&records(0, 100)).await;
    let drained = drain(source.as_ref(), None, LARGE).await;
    assert_eq!(drained.to.shards.len(), SHARDS);
    let begun = Instant::now();
    for _ in 0..10 {
        let slice = source.poll(Some(&drained.to), LARGE).await.unwrap();
        assert_eq!((slice.records, slice.batches.len(), slice.caught_up), (0, 0, true));
        assert_eq!(slice.to, drained.to);
    }
    assert!(
        begun.elapsed() < Duration::from_secs(3) + stage.sent_within() * 10,
        "ten empty polls took {:?}",
        begun.elapsed()
    );
    stage.put(&records(100, 101)).await;
    let one = drain(source.as_ref(), Some(&drained.to), LARGE).await;
    assert_eq!(one.rows().len(), 1);
    assert_eq!(one.to.shards.len(), SHARDS, "positions of idle shards too");
}

async fn reading_resumes_in_another_process(stage: &dyn Stage) {
    stage.put(&records(0, 200)).await;
    let (mut all, mut at) = (Vec::new(), None::<String>);
    for round in 0.. {
        let source = stage.open().await;
        let from = at.as_ref().map(|text| serde_json::from_str::<Positions>(text).unwrap());
        let slice = source.poll(from.as_ref(), TINY).await.unwrap();
        if slice.records == 0 && slice.caught_up {
            break;
        }
        all.extend(rows(&slice));
        at = Some(serde_json::to_string(&slice.to).unwrap());
        assert!(round < 1000);
    }
    assert_complete(&all, &records(0, 200));
}

macro_rules! conformance {
    ($stage:ident: $($check:ident),* $(,)?) => {
        mod $stage {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::$check(&super::stage::$stage().await).await;
            })*
        }
    };
}

macro_rules! conformance_of_all {
    ($($stage:ident),*) => {
        $(conformance!($stage: nothing_is_lost_or_doubled, a_range_gives_what_poll_gave, nothing_new_is_told_at_once,
            reading_resumes_in_another_process);)*
    };
}

/// Implementors beside Kinesis.
mod stage {
    pub(super) use super::files::lines_in_a_folder;
    pub(super) use super::kinesis::embedded_stream;
}

conformance_of_all!(lines_in_a_folder, embedded_stream);
