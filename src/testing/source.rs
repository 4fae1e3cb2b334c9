//! The source of a test: records that were inserted, in memory.
//!
//! ```text
//!   INSERT INTO raw.events (event_id, price) VALUES ('e1', 499.00)      a field of the JSON object each
//!     ─▶ {"event_id":"e1","price":499.0}
//!   INSERT INTO raw.events (_payload, _partition_key) VALUES ('not JSON', 'k')      the record as it came
//!     ─▶ not JSON
//!                       └─▶ Record ─▶ Inserted: one shard, in the order of the INSERTs ─▶ slices, as of any source
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;

use crate::epoch::{Position, Positions, SequenceNumber, SourceRange};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{self, Slice, SliceLimits, Source};

/// The only shard, named as Kinesis names it.
const SHARD: &str = "shardId-000000000000";

/// Columns of the source that an INSERT can give; the rest follows from the place of the record.
const GIVEN: [&str; 4] = ["_payload", "_partition_key", "_arrived_at", "_error"];

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    payload: Vec<u8>,
    key: Option<String>,
    arrived_us: i64,
    error: Option<String>,
}

/// The records that rows of an INSERT stand for, `columns` being those that it names. What does not say when it arrived
/// arrives now.
///
/// # Errors
/// `Definition` for columns that are not there, are not given a value, or contradict each other.
pub(super) fn records(columns: &[String], rows: &RecordBatch, now_us: i64) -> Result<Vec<Record>> {
    if columns.len() != rows.num_columns() {
        let (names, values) = (columns.len(), rows.num_columns());
        return Err(Error::new(ErrorKind::Definition, format!("{names} columns are named, and {values} values given")));
    }
    if let Some(name) = columns.iter().find(|name| name.starts_with('_') && !GIVEN.contains(&name.as_str())) {
        return Err(Error::new(ErrorKind::Definition, format!("a test cannot give a record its \"{name}\""))
            .with_detail(format!("of a source's own columns it can give {}", GIVEN.join(", ")))
            .with_hint("any other name is a field of the record's JSON object; one that begins with _ goes into the text of _payload"));
    }
    let own = |name: &str| columns.iter().position(|column| column == name).map(|index| rows.column(index));
    let texts = |name: &str| own(name).map(|column| cast(column, &DataType::Utf8)).transpose();
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let arrived = own("_arrived_at").map(|column| cast(column, &instant)).transpose()?;
    let (keys, errors) = (texts("_partition_key")?, texts("_error")?);
    let payloads = payloads(columns, rows, own("_payload"))?;
    let text = |column: &Option<ArrayRef>, row: usize| {
        let column = column.as_ref().filter(|column| column.is_valid(row))?;
        Some(column.as_string::<i32>().value(row).to_string())
    };
    let record = |(row, payload): (usize, Vec<u8>)| {
        let arrived = arrived.as_ref().filter(|column| column.is_valid(row));
        let arrived = arrived.map(|column| column.as_primitive::<TimestampMicrosecondType>().value(row));
        Record { payload, key: text(&keys, row), arrived_us: arrived.unwrap_or(now_us), error: text(&errors, row) }
    };
    Ok(payloads.into_iter().enumerate().map(record).collect())
}

/// The bytes of each record: as they are given, or the JSON object of the fields.
fn payloads(columns: &[String], rows: &RecordBatch, given: Option<&ArrayRef>) -> Result<Vec<Vec<u8>>> {
    let fields = (0..columns.len()).filter(|index| !GIVEN.contains(&columns[*index].as_str())).collect::<Vec<_>>();
    match (given, fields.is_empty()) {
        (Some(column), true) => {
            let bytes = cast(column, &DataType::Binary)?;
            Ok(bytes.as_binary::<i32>().iter().map(|bytes| bytes.unwrap_or_default().to_vec()).collect())
        }
        (None, false) => {
            let named = |index: &usize| Field::new(&columns[*index], rows.column(*index).data_type().clone(), true);
            let schema = Schema::new(fields.iter().map(named).collect::<Vec<_>>());
            let cells = fields.iter().map(|index| Arc::clone(rows.column(*index))).collect();
            let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
            writer.write(&RecordBatch::try_new(Arc::new(schema), cells)?)?;
            writer.finish()?;
            // A line end within a text is escaped.
            let text = writer.into_inner();
            Ok(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
        }
        (given, _) => Err(Error::new(
            ErrorKind::Definition,
            match given {
                Some(_) => "a record is given both as _payload and by its fields",
                None => "a record is given neither as _payload nor by its fields",
            },
        )
        .with_hint("name the fields of its JSON object, or give all of its text as _payload")),
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Inserted {
    name: String,
    records: Mutex<Vec<Record>>,
}

impl Inserted {
    /// Without records.
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), records: Mutex::default() }
    }

    /// Records that come after those that are there.
    pub(super) fn push(&self, records: Vec<Record>) {
        self.records.lock().extend(records);
    }

    /// The records `from..to`, counted from 0.
    fn slice(&self, from: usize, to: usize) -> Result<Slice> {
        let records = self.records.lock();
        let to = to.min(records.len());
        let there = records.get(from..to).unwrap_or_default();
        let repeated = |text: &str| Arc::new(StringArray::from(vec![text; there.len()])) as ArrayRef;
        let of =
            |text: fn(&Record) -> Option<&str>| Arc::new(there.iter().map(text).collect::<StringArray>()) as ArrayRef;
        let sequences = (from + 1..=to).map(|place| Some(sequence(place))).collect::<StringArray>();
        let arrived = there.iter().map(|record| record.arrived_us).collect::<Vec<_>>();
        let batch = RecordBatch::try_new(
            source::schema(),
            vec![
                repeated(&self.name),
                repeated(SHARD),
                Arc::new(sequences),
                Arc::new(Int64Array::from(vec![0; there.len()])),
                of(|record| record.key.as_deref()),
                Arc::new(TimestampMicrosecondArray::from(arrived).with_timezone("UTC")),
                Arc::new(BinaryArray::from_iter_values(there.iter().map(|record| &record.payload))),
                of(|record| record.error.as_deref()),
            ],
        )?;
        Ok(Slice {
            records: there.len(),
            payload_bytes: there.iter().map(|record| record.payload.len()).sum(),
            batches: if there.is_empty() { vec![] } else { vec![batch] },
            to: after(to),
            behind_ms: None,
            caught_up: to == records.len(),
        })
    }
}

fn sequence(place: usize) -> String {
    format!("{place:021}")
}

fn after(place: usize) -> Positions {
    let position = match place {
        0 => Position::TrimHorizon,
        place => Position::After(SequenceNumber(sequence(place))),
    };
    Positions { incarnation: None, shards: BTreeMap::from([(SHARD.to_string(), position)]) }
}

fn place(positions: &Positions) -> usize {
    match positions.shards.get(SHARD) {
        Some(Position::After(sequence)) => sequence.0.parse().unwrap_or(0),
        _ => 0,
    }
}

#[async_trait]
impl Source for Inserted {
    fn describe(&self) -> String {
        format!("{}, as a test fills it", self.name)
    }

    async fn start(&self) -> Result<Positions> {
        Ok(after(0))
    }

    async fn poll(&self, from: Option<&Positions>, limits: SliceLimits) -> Result<Slice> {
        let from = from.map_or(0, place);
        self.slice(from, from.saturating_add(limits.records_max))
    }

    async fn read(&self, range: &SourceRange) -> Result<Slice> {
        self.slice(place(&range.from), place(&range.to))
    }

    async fn landed(&self, _to: &Positions) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, NullArray};

    use super::*;

    fn batch(cells: Vec<ArrayRef>) -> RecordBatch {
        let fields = cells.iter().enumerate();
        let fields = fields.map(|(index, cell)| Field::new(format!("c{index}"), cell.data_type().clone(), true));
        RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), cells).unwrap()
    }

    fn text(value: &str) -> ArrayRef {
        Arc::new(StringArray::from(vec![value]))
    }

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn fields_become_a_json_object_and_a_payload_stays_what_it_is() {
        let cells =
            vec![text("e\n\"1\""), Arc::new(Float64Array::from(vec![129.99])) as _, Arc::new(NullArray::new(1)) as _];
        let made = records(&named(&["event_id", "price", "city"]), &batch(cells), 7).unwrap();
        let payload = br#"{"event_id":"e\n\"1\"","price":129.99,"city":null}"#.to_vec();
        assert_eq!(made, [Record { payload, key: None, arrived_us: 7, error: None }]);
        let cells = vec![text("not JSON"), text("k"), text("2026-01-01T00:00:01Z")];
        let made = records(&named(&["_payload", "_partition_key", "_arrived_at"]), &batch(cells), 7).unwrap();
        let arrived_us = 1_767_225_601_000_000;
        assert_eq!(made, [Record { payload: b"not JSON".to_vec(), key: Some("k".into()), arrived_us, error: None }]);
    }

    #[test]
    fn columns_that_mean_nothing_are_refused() {
        let refused = |names: &[&str]| {
            let cells = names.iter().map(|_| text("x")).collect();
            records(&named(names), &batch(cells), 0).unwrap_err().message().to_string()
        };
        assert!(refused(&["_shard_id", "a"]).contains("cannot give a record its \"_shard_id\""));
        assert!(refused(&["_payload", "a"]).contains("both as _payload and by its fields"));
        assert!(refused(&["_partition_key"]).contains("neither"));
        let fewer = records(&named(&["a", "b"]), &batch(vec![text("x")]), 0).unwrap_err();
        assert_eq!(fewer.message(), "2 columns are named, and 1 values given");
    }

    #[tokio::test]
    async fn slices_hold_each_record_once() {
        let source = Inserted::new("raw.e");
        let record = |n: u8| Record { payload: vec![n], key: None, arrived_us: 0, error: None };
        source.push((0..5).map(record).collect());
        let limits = SliceLimits { payload_bytes_max: 1, records_max: 3 };
        let first = source.poll(Some(&source.start().await.unwrap()), limits).await.unwrap();
        let second = source.poll(Some(&first.to), limits).await.unwrap();
        assert_eq!((first.records, first.caught_up, second.records, second.caught_up), (3, false, 2, true));
        assert!(source.poll(Some(&second.to), limits).await.unwrap().batches.is_empty());
        let again = source.read(&SourceRange { from: first.to, to: second.to }).await.unwrap();
        assert_eq!(again.batches, second.batches);
        assert_eq!(second.batches[0].column(6).as_binary::<i32>().value(1), [4]);
    }
}
