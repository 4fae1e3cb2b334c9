//! Rows as bytes.
//!
//! ```text
//!   Accept: application/vnd.apache.arrow.stream    an Arrow IPC stream
//!           application/json                       {"columns": [{"name", "type"}], "rows": [{...}, ...]}
//!           application/x-ndjson                   {...}\n for each row
//!           text/csv                               names, then a line for each row
//! ```
//!
//! A stream that breaks off without its end (`]}`, the end of the Arrow stream, the last chunk of HTTP) is an error whose
//! reason is in the server's log.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{JsonArray, LineDelimited, WriterBuilder};
use serde_json::json;

use crate::error::{Error, ErrorKind, Result};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Arrow,
    Json,
    JsonLines,
    Csv,
}

const NAMES: [(&str, Format); 8] = [
    ("application/vnd.apache.arrow.stream", Format::Arrow),
    ("application/json", Format::Json),
    ("application/x-ndjson", Format::JsonLines),
    ("application/jsonl", Format::JsonLines),
    ("text/csv", Format::Csv),
    ("*/*", Format::Json),
    ("application/*", Format::Json),
    ("text/*", Format::Csv),
];

impl Format {
    /// The first that the client accepts and that there is; JSON for who does not say.
    pub(super) fn accepted(header: Option<&str>) -> Option<Self> {
        let Some(header) = header else { return Some(Self::Json) };
        let wanted = header.split(',').map(|one| one.split(';').next().unwrap_or_default().trim());
        wanted.flat_map(|name| NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))).map(|(_, f)| *f).next()
    }

    /// For the header `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Json => "application/json",
            Self::JsonLines => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// Writes the rows of one result.
pub(super) enum Encoder {
    Arrow(Box<StreamWriter<Vec<u8>>>),
    Json { rows: u64 },
    JsonLines,
    Csv { begun: bool },
}

impl Encoder {
    /// For rows of this schema; with the first bytes.
    ///
    /// # Errors
    /// `Definition` for JSON of which a key would stand there twice.
    pub(super) fn begin(format: Format, schema: &SchemaRef, message: Option<&str>) -> Result<(Self, Vec<u8>)> {
        Ok(match format {
            Format::Arrow => {
                let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
                let head = std::mem::take(writer.get_mut());
                (Self::Arrow(Box::new(writer)), head)
            }
            Format::Json => {
                unique(schema)?;
                (Self::Json { rows: 0 }, head(schema, message).into_bytes())
            }
            Format::JsonLines => {
                unique(schema)?;
                (Self::JsonLines, Vec::new())
            }
            Format::Csv => (Self::Csv { begun: false }, Vec::new()),
        })
    }

    /// The bytes of some rows.
    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        match self {
            Self::Arrow(writer) => {
                writer.write(batch)?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::JsonLines => {
                let mut bytes = Vec::new();
                let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
                writer.write(batch)?;
                writer.finish()?;
                Ok(bytes)
            }
            Self::Json { .. } if batch.num_rows() == 0 => Ok(Vec::new()),
            Self::Json { rows } => {
                let mut bytes = Vec::new();
                let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(&mut bytes);
                writer.write(batch)?;
                writer.finish()?;
                // The rows of all batches are one array: its brackets are written once.
                bytes.pop();
                bytes[0] = if *rows == 0 { b'\n' } else { b',' };
                *rows += batch.num_rows() as u64;
                Ok(bytes)
            }
            Self::Csv { begun } => {
                let mut bytes = Vec::new();
                let mut writer = csv::WriterBuilder::new().with_header(!*begun).build(&mut bytes);
                *begun = true;
                writer.write(batch)?;
                drop(writer);
                Ok(bytes)
            }
        }
    }

    /// The last bytes.
    pub(super) fn end(self, schema: &SchemaRef) -> Result<Vec<u8>, ArrowError> {
        match self {
            Self::Arrow(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
            Self::Json { rows } => Ok(format!("],\"row_count\":{rows}}}\n").into_bytes()),
            Self::JsonLines => Ok(Vec::new()),
            // No row has come: the names are all there is.
            mut csv @ Self::Csv { begun: false } => csv.batch(&RecordBatch::new_empty(SchemaRef::clone(schema))),
            Self::Csv { begun: true } => Ok(Vec::new()),
        }
    }
}

fn head(schema: &Schema, message: Option<&str>) -> String {
    let columns = schema.fields().iter();
    let columns = columns.map(|field| json!({ "name": field.name(), "type": field.data_type().to_string() }));
    let columns = serde_json::Value::from(columns.collect::<Vec<_>>());
    let message = message.map(|text| format!("\"message\":{},", json!(text))).unwrap_or_default();
    format!("{{{message}\"columns\":{columns},\"rows\":[")
}

fn unique(schema: &Schema) -> Result<()> {
    let mut names = BTreeSet::new();
    match schema.fields().iter().find(|field| !names.insert(field.name())) {
        None => Ok(()),
        Some(twice) => Err(Error::new(ErrorKind::Definition, format!("two columns are called {}", twice.name()))
            .with_hint("give one of them another name with AS, or ask for text/csv")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn rows() -> RecordBatch {
        let price = Decimal128Array::from(vec![Some(1250), None]).with_precision_and_scale(10, 2).unwrap();
        RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int64Array::from(vec![1, 2])) as _, true),
            ("name", Arc::new(StringArray::from(vec![Some("a\"b,c"), None])) as _, true),
            ("price", Arc::new(price) as _, true),
        ])
        .unwrap()
    }

    fn written(format: Format, batches: &[RecordBatch]) -> Vec<u8> {
        let schema = rows().schema();
        let (mut encoder, mut bytes) = Encoder::begin(format, &schema, None).unwrap();
        batches.iter().for_each(|batch| bytes.extend(encoder.batch(batch).unwrap()));
        bytes.extend(encoder.end(&schema).unwrap());
        bytes
    }

    #[test]
    fn json_is_one_object_however_many_batches_come() {
        for batches in [vec![], vec![rows()], vec![rows(), rows().slice(0, 0), rows()]] {
            let text = String::from_utf8(written(Format::Json, &batches)).unwrap();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
            assert_eq!(value["row_count"], count);
            assert_eq!(value["rows"].as_array().unwrap().len(), count);
            assert_eq!(value["columns"][2], json!({ "name": "price", "type": "Decimal128(10, 2)" }));
            if count > 0 {
                assert_eq!(value["rows"][0], json!({ "n": 1, "name": "a\"b,c", "price": 12.50 }));
                assert!(text.contains("\"price\":12.50"), "all its digits: {text}");
                assert_eq!(value["rows"][1], json!({ "n": 2, "name": null, "price": null }));
            }
        }
    }

    #[test]
    fn lines_and_csv_have_each_row_once() {
        let lines = String::from_utf8(written(Format::JsonLines, &[rows(), rows()])).unwrap();
        assert_eq!(lines.lines().count(), 4);
        let csv = String::from_utf8(written(Format::Csv, &[rows(), rows()])).unwrap();
        assert_eq!(csv.lines().next(), Some("n,name,price"));
        assert_eq!(csv.lines().nth(1), Some("1,\"a\"\"b,c\",12.50"));
        assert_eq!(csv.lines().count(), 5);
        assert_eq!(written(Format::Csv, &[]), b"n,name,price\n");
    }

    #[test]
    fn an_arrow_stream_is_read_back() {
        let bytes = written(Format::Arrow, &[rows(), rows()]);
        let reader = arrow::ipc::reader::StreamReader::try_new(&*bytes, None).unwrap();
        assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), [rows(), rows()]);
    }

    #[test]
    fn the_client_says_what_it_reads() {
        assert_eq!(Format::accepted(None), Some(Format::Json));
        assert_eq!(Format::accepted(Some("*/*")), Some(Format::Json));
        assert_eq!(Format::accepted(Some("text/csv;q=0.9, application/json")), Some(Format::Csv));
        assert_eq!(Format::accepted(Some("image/png, application/vnd.apache.arrow.stream")), Some(Format::Arrow));
        assert_eq!(Format::accepted(Some("image/png")), None);
    }

    #[test]
    fn json_has_no_key_twice() {
        let field = Field::new("x", DataType::Int64, true);
        let schema = Arc::new(Schema::new(vec![field.clone(), field]));
        assert!(Encoder::begin(Format::Json, &schema, None).is_err());
        assert!(Encoder::begin(Format::Csv, &schema, None).is_ok());
    }
}
