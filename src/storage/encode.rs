//! Rows to the bytes of one Parquet file, with its statistics.
//!
//! ```text
//!   pieces ─gather, drop partition columns─▶ columns as stored ─ArrowWriter─▶ bytes + footer ─▶ ColumnStats
//!                                            (wall clock: same digits, UTC)
//! ```
//!
//! A dictionary is worth its hashing only where values repeat: a sample of the first rows says for which columns it is
//! left out (identifiers, positions, payloads).
//!
//! A column of floating point that holds a NaN is written without statistics: a reader that prunes by bounds would
//! otherwise lose the NaN, which bounds leave out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::partition::Piece;
use crate::storage::schema::{file_schema, is_wall_clock};
use crate::storage::{ColumnStats, stats};

/// Rows of one row group.
const ROW_GROUP_ROWS_MAX: usize = 1_000_000;

/// Encoded bytes of one row group.
const ROW_GROUP_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Rows that the writer looks at together.
const WRITE_BATCH_ROWS: usize = 8 * 1024;

/// Values of a column that are looked at to see whether they repeat.
const SAMPLE_VALUES: usize = 256;

/// Fewer values than these tell nothing.
const SAMPLE_VALUES_MIN: usize = 64;

/// A column without a dictionary has at least so many different values among a hundred.
const DISTINCT_PERCENT_MIN: usize = 90;

/// Who wrote the file, for other tools.
pub(crate) const CREATED_BY: &str = concat!("flashcommerce ", env!("CARGO_PKG_VERSION"));

/// The columns of a table as its files hold them; made once per `stage`.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The table's schema.
    pub(crate) lake: SchemaRef,
    /// Its partition columns.
    pub(crate) partitioned_by: Vec<String>,
    /// Positions in `lake` of the columns that are stored.
    stored: Vec<usize>,
    /// Those columns with lake types.
    stored_lake: SchemaRef,
    /// Those columns with the types of the file.
    file: SchemaRef,
}

/// One encoded file.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// The file.
    pub(crate) bytes: Vec<u8>,
    /// Its rows.
    pub(crate) rows: u64,
    /// Its statistics.
    pub(crate) stats: BTreeMap<String, ColumnStats>,
}

impl Layout {
    /// For a table of this schema.
    ///
    /// # Errors
    /// `Internal`.
    pub(crate) fn new(lake: &SchemaRef, partitioned_by: &[String]) -> Result<Self> {
        let fields = lake.fields().iter().enumerate();
        let stored: Vec<usize> =
            fields.filter(|(_, field)| !partitioned_by.contains(field.name())).map(|(at, _)| at).collect();
        Ok(Self {
            stored_lake: Arc::new(lake.project(&stored)?),
            stored,
            file: file_schema(lake, partitioned_by),
            lake: Arc::clone(lake),
            partitioned_by: partitioned_by.to_vec(),
        })
    }

    /// `batch` with the table's types.
    ///
    /// # Errors
    /// `Internal` when the columns are not the table's, `Query` when a value does not fit.
    pub(crate) fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let names = |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        if names(&batch.schema()) != names(&self.lake) {
            return Err(Error::new(ErrorKind::Internal, "rows to store have other columns than the table")
                .with_detail(format!("the rows: {:?}; the table: {:?}", names(&batch.schema()), names(&self.lake))));
        }
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let columns = batch.columns().iter().zip(self.lake.fields());
        let columns: Result<Vec<ArrayRef>, _> = columns
            .map(|(column, field)| match column.data_type() == field.data_type() {
                true => Ok(Arc::clone(column)),
                false => cast_with_options(column, field.data_type(), &strict),
            })
            .collect();
        Ok(RecordBatch::try_new(Arc::clone(&self.lake), columns?)?)
    }

    /// The bytes of a file with these rows.
    ///
    /// # Errors
    /// `Internal`.
    pub(crate) fn encode(&self, pieces: &[Piece]) -> Result<Encoded> {
        let mut batches = Vec::with_capacity(pieces.len());
        for piece in pieces {
            batches.push(piece.batch(&self.stored)?);
        }
        let boundless = self.boundless(&batches);
        self.write(batches.into_iter().map(Ok), &boundless)
    }

    /// The bytes of a file with these rows of stored columns, one batch in memory at a time. `boundless` are the
    /// columns to be written without statistics, with how many of their values are NULL.
    ///
    /// # Errors
    /// Those of `batches`; `Internal`.
    pub(crate) fn write(
        &self,
        batches: impl Iterator<Item = Result<RecordBatch>>,
        boundless: &BTreeMap<String, u64>,
    ) -> Result<Encoded> {
        let mut batches = batches.peekable();
        let plain = match batches.peek() {
            Some(Ok(first)) => first.columns().iter().map(hardly_repeats).collect::<Result<Vec<_>>>()?,
            _ => vec![],
        };
        let properties = properties(&self.file, &boundless.keys().map(String::as_str).collect(), &plain);
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&self.file), Some(properties)).map_err(failed)?;
        let mut rows = 0;
        for batch in batches {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            let columns = batch.columns().iter().map(instant).collect();
            writer.write(&RecordBatch::try_new(Arc::clone(&self.file), columns)?).map_err(failed)?;
        }
        let metadata = writer.close().map_err(failed)?;
        let stats = stats::from_parquet(&self.stored_lake, &metadata, boundless)?;
        Ok(Encoded { bytes, rows, stats })
    }

    /// A batch that was read from a file of the table as stored columns with lake types; a column that the file does
    /// not have is NULL.
    ///
    /// # Errors
    /// `Corrupt` when the file does not fit the table.
    pub(crate) fn adopt(&self, read: &RecordBatch) -> Result<RecordBatch> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let columns = self.stored_lake.fields().iter().map(|field| match read.column_by_name(field.name()) {
            None => Ok(new_null_array(field.data_type(), read.num_rows())),
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast_with_options(column, field.data_type(), &strict),
        });
        let columns: Result<Vec<ArrayRef>, _> = columns.collect();
        let batch = columns.and_then(|columns| RecordBatch::try_new(Arc::clone(&self.stored_lake), columns));
        batch.map_err(|error| Error::new(ErrorKind::Corrupt, error.to_string()))
    }

    /// Which of the stored columns are floating point.
    pub(crate) fn floating(&self) -> impl Iterator<Item = &str> {
        let fields = self.stored_lake.fields().iter();
        fields.filter(|field| field.data_type().is_floating()).map(|field| field.name().as_str())
    }

    /// Columns with a NaN, and how many of their values are NULL.
    fn boundless(&self, batches: &[RecordBatch]) -> BTreeMap<String, u64> {
        let fields = self.stored_lake.fields().iter().enumerate();
        let with_nan = fields.filter(|(at, field)| {
            field.data_type().is_floating() && batches.iter().any(|batch| stats::has_nan(batch.column(*at)))
        });
        with_nan
            .map(|(at, field)| {
                let nulls: usize = batches.iter().map(|batch| batch.column(at).null_count()).sum();
                (field.name().clone(), nulls as u64)
            })
            .collect()
    }
}

/// A wall clock as the instant with the same digits; no copy.
fn instant(column: &ArrayRef) -> ArrayRef {
    if !is_wall_clock(column.data_type()) {
        return Arc::clone(column);
    }
    Arc::new(column.as_primitive::<TimestampMicrosecondType>().clone().with_timezone("UTC"))
}

fn failed(error: parquet::errors::ParquetError) -> Error {
    Error::new(ErrorKind::Internal, format!("encoding a data file: {error}"))
}

/// Whether nearly every value of a column is another one, judged by values taken evenly from all of it.
fn hardly_repeats(column: &ArrayRef) -> Result<bool> {
    let step = column.len().div_ceil(SAMPLE_VALUES).max(1);
    let rows = UInt32Array::from_iter_values((0..column.len()).step_by(step).filter_map(|row| u32::try_from(row).ok()));
    let sample = take(column, &rows, None)?;
    let values = sample.len() - sample.null_count();
    if values < SAMPLE_VALUES_MIN || *column.data_type() == DataType::Boolean {
        return Ok(false);
    }
    let mut hashes = vec![0; sample.len()];
    create_hashes([&sample], &RandomState::default(), &mut hashes)?;
    let distinct = (0..).zip(&hashes).filter(|(row, _)| sample.is_valid(*row)).map(|(_, hash)| hash);
    Ok(distinct.collect::<BTreeSet<_>>().len() * 100 >= values * DISTINCT_PERCENT_MIN)
}

/// `plain`: for each column, whether a dictionary would be in vain.
fn properties(file: &Schema, boundless: &BTreeSet<&str>, plain: &[bool]) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by(CREATED_BY.into())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::SNAPPY)
        .set_coerce_types(true)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
        .set_write_batch_size(WRITE_BATCH_ROWS);
    for (index, field) in file.fields().iter().enumerate() {
        let path = ColumnPath::from(field.name().as_str());
        let binary = *field.data_type() == DataType::Binary;
        if binary || plain.get(index) == Some(&true) {
            builder = builder.set_column_dictionary_enabled(path.clone(), false);
        }
        if binary {
            // Nobody asks for the bounds of payloads.
            builder = builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
        }
        if boundless.contains(field.name().as_str()) {
            builder = builder.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    builder.build()
}
