//! Rows as text: a table for people, JSON and CSV for programs.
//!
//! ```text
//!  stream of batches ──┬─▶ json    written batch by batch: [ {row}, \n {row} ]      memory: one batch
//!                      ├─▶ csv     written batch by batch, with a header            memory: one batch
//!                      └─▶ table   at most TABLE_ROWS_MAX rows, widths need all     the rest is not computed
//! ```
//!
//! JSON: whole and decimal numbers stay exact. They are JSON numbers as long as every common reader keeps them
//! exactly (53 bits, 15 digits), strings beyond; instants are RFC 3339; NULL is `null`, never left out.

use std::io::{BufWriter, Stdout, Write};
use std::pin::pin;
use std::sync::Arc;

use arrow::array::Array;
use arrow::csv;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, JsonFormat, NullableEncoder};
use arrow::json::{Writer as JsonWriter, WriterBuilder as JsonBuilder};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use futures::{Stream, StreamExt};

use super::terminal::{closed, grouped};
use crate::error::{Error, Result};

/// The most rows that a table for people shows.
pub const TABLE_ROWS_MAX: usize = 1_000;

/// The largest whole number up to which every JSON reader is exact.
const JSON_INTEGER_MAX: i128 = 1 << 53;

/// The most digits of a decimal that every JSON reader keeps.
const JSON_DIGITS_MAX: usize = 15;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// An array of row objects.
    Json,
    /// Comma-separated values with a header.
    Csv,
}

/// Write all rows of `stream` to stdout; how many there were (for a table: how many are shown).
///
/// # Errors
/// What the stream gives; `Cancelled` when the reader of stdout has gone.
pub async fn to_stdout(
    schema: &SchemaRef,
    stream: impl Stream<Item = Result<RecordBatch>>,
    format: Format,
) -> Result<u64> {
    let out = BufWriter::new(std::io::stdout());
    match format {
        Format::Table => table(schema, stream, out).await,
        Format::Json => json(stream, out).await,
        Format::Csv => comma_separated(schema, stream, out).await,
    }
}

async fn table(
    schema: &SchemaRef,
    stream: impl Stream<Item = Result<RecordBatch>>,
    mut out: BufWriter<Stdout>,
) -> Result<u64> {
    let mut stream = pin!(stream);
    let (mut batches, mut rows, mut more) = (Vec::new(), 0, false);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let left = TABLE_ROWS_MAX - rows;
        more = batch.num_rows() > left;
        let batch = if more { batch.slice(0, left) } else { batch };
        rows += batch.num_rows();
        batches.push(batch);
        if more {
            break;
        }
    }
    let text = table_text(schema, &batches)?;
    let end = match (rows, more) {
        (_, true) => format!("(the first {} rows; --format csv gives all)", grouped(rows as u64)),
        (1, _) => "(1 row)".to_string(),
        _ => format!("({} rows)", grouped(rows as u64)),
    };
    writeln!(out, "{text}\n{end}").and_then(|()| out.flush()).map_err(closed)?;
    Ok(rows as u64)
}

/// `batches` as a framed table, numbers to the right.
///
/// # Errors
/// `Query` for a type that cannot be shown.
pub fn table_text(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String> {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(schema.fields().iter().map(|field| Cell::new(field.name())));
    let options = FormatOptions::new().with_null("NULL").with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"));
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            table.add_row(columns.iter().map(|column| Cell::new(column.value(row))));
        }
    }
    for (at, field) in schema.fields().iter().enumerate() {
        if let Some(column) = table.column_mut(at).filter(|_| field.data_type().is_numeric()) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    Ok(table.to_string())
}

async fn json(stream: impl Stream<Item = Result<RecordBatch>>, out: impl Write) -> Result<u64> {
    let mut stream = pin!(stream);
    let mut writer = json_writer(out);
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        writer.write(&batch).map_err(written)?;
    }
    writer.finish().map_err(written)?;
    let mut out = writer.into_inner();
    out.flush().map_err(closed)?;
    Ok(rows)
}

/// `batches` as the JSON text that `--format json` gives, for one value inside another.
///
/// # Errors
/// `Query` for a type that has no JSON form.
pub fn json_rows(batches: &[RecordBatch]) -> Result<serde_json::Value> {
    let mut writer = json_writer(Vec::new());
    for batch in batches {
        writer.write(batch).map_err(written)?;
    }
    writer.finish().map_err(written)?;
    Ok(serde_json::from_slice(&writer.into_inner())?)
}

fn json_writer<W: Write>(out: W) -> JsonWriter<W, RowPerLine> {
    JsonBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(ExactNumbers)).build(out)
}

async fn comma_separated(
    schema: &SchemaRef,
    stream: impl Stream<Item = Result<RecordBatch>>,
    out: BufWriter<Stdout>,
) -> Result<u64> {
    let mut stream = pin!(stream);
    let mut writer = csv::WriterBuilder::new().with_header(true).build(out);
    let mut rows = 0;
    // The header is there for an empty answer too.
    writer.write(&RecordBatch::new_empty(schema.clone())).map_err(written)?;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        writer.write(&batch).map_err(written)?;
    }
    writer.into_inner().flush().map_err(closed)?;
    Ok(rows)
}

/// An error from a writer: of the output, or of a value that has no text.
fn written(error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, io) => closed(io),
        ArrowError::CsvError(text) if text.contains("Broken pipe") => closed(std::io::ErrorKind::BrokenPipe.into()),
        other => other.into(),
    }
}

/// A JSON array with one row a line.
#[derive(Debug, Default)]
struct RowPerLine;

impl JsonFormat for RowPerLine {
    fn start_stream<W: Write>(&self, writer: &mut W) -> Result<(), ArrowError> {
        Ok(writer.write_all(b"[")?)
    }
    fn start_row<W: Write>(&self, writer: &mut W, is_first_row: bool) -> Result<(), ArrowError> {
        Ok(writer.write_all(if is_first_row { b"\n" } else { b",\n" })?)
    }
    fn end_stream<W: Write>(&self, writer: &mut W) -> Result<(), ArrowError> {
        Ok(writer.write_all(b"\n]\n")?)
    }
}

/// Makes encoders for the numbers that some JSON readers would round.
#[derive(Debug)]
struct ExactNumbers;

impl EncoderFactory for ExactNumbers {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let exact = match array.data_type() {
            DataType::Int64 | DataType::UInt64 => is_safe_integer as fn(&str) -> bool,
            decimal if decimal.is_decimal() => is_safe_decimal,
            _ => return Ok(None),
        };
        let text = ArrayFormatter::try_new(array, &OPTIONS)?;
        Ok(Some(NullableEncoder::new(Box::new(ExactNumber { text, exact }), array.nulls().cloned())))
    }
}

static OPTIONS: FormatOptions<'static> = FormatOptions::new();

struct ExactNumber<'a> {
    text: ArrayFormatter<'a>,
    exact: fn(&str) -> bool,
}

impl Encoder for ExactNumber<'_> {
    fn encode(&mut self, idx: usize, out: &mut Vec<u8>) {
        let text = self.text.value(idx).to_string();
        let quote = if (self.exact)(&text) { "" } else { "\"" };
        out.extend_from_slice(format!("{quote}{text}{quote}").as_bytes());
    }
}

fn is_safe_integer(text: &str) -> bool {
    text.parse::<i128>().is_ok_and(|number| number.abs() <= JSON_INTEGER_MAX)
}

fn is_safe_decimal(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0').count();
    digits <= JSON_DIGITS_MAX
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Decimal128Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn batch() -> RecordBatch {
        let decimal = Decimal128Array::from(vec![Some(123_456), None, Some(12_345_678_901_234_567_890)]);
        RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![1, -(1 << 53), (1 << 53) + 1])) as ArrayRef),
            ("d", Arc::new(decimal.with_precision_and_scale(22, 2).unwrap()) as ArrayRef),
            ("s", Arc::new(StringArray::from(vec![Some("a\"b"), None, Some("₹")])) as ArrayRef),
            ("t", Arc::new(TimestampMicrosecondArray::from(vec![0, 1_500_000, 2]).with_timezone("UTC")) as ArrayRef),
        ])
        .unwrap()
    }

    #[test]
    fn json_keeps_numbers_exact_and_nulls_present() {
        let mut writer = json_writer(Vec::new());
        writer.write(&batch()).unwrap();
        writer.finish().unwrap();
        let text = String::from_utf8(writer.into_inner()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], r#"{"n":1,"d":1234.56,"s":"a\"b","t":"1970-01-01T00:00:00Z"},"#);
        assert_eq!(lines[2], r#"{"n":-9007199254740992,"d":null,"s":null,"t":"1970-01-01T00:00:01.500Z"},"#);
        assert_eq!(
            lines[3],
            r#"{"n":"9007199254740993","d":"123456789012345678.90","s":"₹","t":"1970-01-01T00:00:00.000002Z"}"#
        );
        assert_eq!(json_rows(&[batch()]).unwrap().as_array().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn an_empty_answer_is_an_empty_array() {
        let mut out = Vec::new();
        assert_eq!(json(futures::stream::empty(), &mut out).await.unwrap(), 0);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), serde_json::json!([]));
    }

    #[test]
    fn a_table_shows_null_and_aligns_numbers() {
        let text = table_text(&batch().schema(), &[batch()]).unwrap();
        assert!(text.contains("NULL"), "{text}");
        assert!(text.contains("│                 1 ┆"), "{text}");
    }
}
