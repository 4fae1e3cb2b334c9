//! A run: the keys that were kept in (from, to], sorted by hash, in chunks that are one object each.
//!
//! ```text
//!  chunk   hash FixedSizeBinary(16), arrived_us Int64             sorted by hash, which is big-endian
//!  index   first, last FixedSizeBinary(16), keys, newest_us Int64, filter Binary      a row for each chunk
//! ```
//!
//! In memory a run is its index. A run of one chunk has none: the chunk is read when the run is loaded.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, FixedSizeBinaryArray, Int64Array, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

use super::chain::{ObjectName, Part, Span};
use super::filter::Filter;

/// The arrival of a key that is not held.
pub(super) const NEVER_US: i64 = i64::MIN;

const HASH_BYTES: i32 = 16;

/// A kept key: its hash, and the arrival of the newest row that was kept for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) hash: u128,
    pub(super) arrived_us: i64,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) span: Span,
    pub(super) chunks: Vec<ChunkInfo>,
}

/// What is known of a chunk without reading it.
#[derive(Debug, Clone)]
pub(super) struct ChunkInfo {
    pub(super) path: String,
    pub(super) first: u128,
    pub(super) last: u128,
    pub(super) keys: usize,
    pub(super) newest_us: i64,
    /// `None`: dropped to save memory; the chunk is searched for every key between its bounds.
    pub(super) filter: Option<Arc<Filter>>,
}

impl ChunkInfo {
    /// `entries` are sorted and not empty.
    pub(super) fn new(path: String, entries: &[Entry]) -> Self {
        Self {
            path,
            first: entries.first().map_or(0, |entry| entry.hash),
            last: entries.last().map_or(0, |entry| entry.hash),
            keys: entries.len(),
            newest_us: entries.iter().map(|entry| entry.arrived_us).max().unwrap_or(NEVER_US),
            filter: Some(Arc::new(Filter::new(entries.iter().map(|entry| entry.hash)))),
        }
    }
}

impl Run {
    pub(super) fn keys(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.keys as u64).sum()
    }

    /// The newest arrival, [`NEVER_US`] in a run without keys.
    pub(super) fn newest_us(&self) -> i64 {
        self.chunks.iter().map(|chunk| chunk.newest_us).max().unwrap_or(NEVER_US)
    }

    pub(super) fn filter_bytes(&self) -> usize {
        self.chunks.iter().filter_map(|chunk| chunk.filter.as_ref()).map(|filter| filter.memory_bytes()).sum()
    }

    /// Read what `name`, the index or the only chunk of a run, tells.
    pub(super) async fn load(storage: &dyn Storage, folder: &str, name: ObjectName) -> Result<Self> {
        let path = format!("{folder}/{name}");
        let chunks = if name.part == Part::Index {
            let batches = storage.read_state(&path).await?;
            read_index(&batches, folder, name.span).ok_or_else(|| corrupt(&path))?
        } else {
            let entries: Vec<_> = Chunk::read(storage, &path).await?.entries().collect();
            if entries.is_empty() { Vec::new() } else { vec![ChunkInfo::new(path, &entries)] }
        };
        Ok(Self { span: name.span, chunks })
    }
}

fn corrupt(path: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{path} is not an object of a key index"))
        .with_hint("restore the file, or rebuild the view with REFRESH MATERIALIZED VIEW ... FULL")
}

/// The rows of a chunk.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The number of the first row of each batch, its hashes, its arrivals.
    batches: Vec<(usize, FixedSizeBinaryArray, Int64Array)>,
    rows: usize,
}

impl Chunk {
    pub(super) async fn read(storage: &dyn Storage, path: &str) -> Result<Self> {
        let mut chunk = Self { batches: Vec::new(), rows: 0 };
        for batch in storage.read_state(path).await?.iter() {
            let columns = batch.columns();
            let hashes = columns.first().and_then(|column| column.as_fixed_size_binary_opt());
            let arrivals = columns.get(1).and_then(|column| column.as_primitive_opt::<Int64Type>());
            let (Some(hashes), Some(arrivals)) = (hashes, arrivals) else { return Err(corrupt(path)) };
            if hashes.value_length() != HASH_BYTES || hashes.null_count() + arrivals.null_count() > 0 {
                return Err(corrupt(path));
            }
            chunk.batches.push((chunk.rows, hashes.clone(), arrivals.clone()));
            chunk.rows += batch.num_rows();
        }
        Ok(chunk)
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// The entry in row `row`, which must be below `len`.
    pub(super) fn get(&self, row: usize) -> Entry {
        let batch = self.batches.partition_point(|(first, ..)| *first <= row) - 1;
        let (first, hashes, arrivals) = &self.batches[batch];
        entry(hashes, arrivals, row - first)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.batches.iter().flat_map(|(_, hashes, arrivals)| (0..hashes.len()).map(|row| entry(hashes, arrivals, row)))
    }
}

fn entry(hashes: &FixedSizeBinaryArray, arrivals: &Int64Array, row: usize) -> Entry {
    let bytes = hashes.value(row).first_chunk().copied().unwrap_or_default();
    Entry { hash: u128::from_be_bytes(bytes), arrived_us: arrivals.value(row) }
}

fn hash_array(hashes: impl Iterator<Item = u128>) -> Result<ArrayRef> {
    let bytes: Vec<u8> = hashes.flat_map(u128::to_be_bytes).collect();
    Ok(Arc::new(FixedSizeBinaryArray::try_new(HASH_BYTES, Buffer::from_vec(bytes), None)?))
}

fn integers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// The rows of a chunk's object.
pub(super) fn chunk_batch(entries: &[Entry]) -> Result<RecordBatch> {
    let schema = Schema::new(vec![
        Field::new("hash", DataType::FixedSizeBinary(HASH_BYTES), false),
        Field::new("arrived_us", DataType::Int64, false),
    ]);
    let hashes = hash_array(entries.iter().map(|entry| entry.hash))?;
    let arrivals = integers(entries.iter().map(|entry| entry.arrived_us));
    Ok(RecordBatch::try_new(Arc::new(schema), vec![hashes, arrivals])?)
}

/// The rows of an index.
pub(super) fn index_batch(chunks: &[ChunkInfo]) -> Result<RecordBatch> {
    let schema = Schema::new(vec![
        Field::new("first", DataType::FixedSizeBinary(HASH_BYTES), false),
        Field::new("last", DataType::FixedSizeBinary(HASH_BYTES), false),
        Field::new("keys", DataType::Int64, false),
        Field::new("newest_us", DataType::Int64, false),
        Field::new("filter", DataType::Binary, true),
    ]);
    let mut filters = BinaryBuilder::new();
    for chunk in chunks {
        filters.append_option(chunk.filter.as_ref().map(|filter| filter.to_bytes()));
    }
    let columns = vec![
        hash_array(chunks.iter().map(|chunk| chunk.first))?,
        hash_array(chunks.iter().map(|chunk| chunk.last))?,
        integers(chunks.iter().map(|chunk| chunk.keys as i64)),
        integers(chunks.iter().map(|chunk| chunk.newest_us)),
        Arc::new(filters.finish()) as ArrayRef,
    ];
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}

fn read_index(batches: &[RecordBatch], folder: &str, span: Span) -> Option<Vec<ChunkInfo>> {
    let mut chunks = Vec::new();
    for batch in batches {
        let [first, last, keys, newest, filters] = batch.columns() else { return None };
        let (keys, newest) = (keys.as_primitive_opt::<Int64Type>()?, newest.as_primitive_opt::<Int64Type>()?);
        let (first, last) = (first.as_fixed_size_binary_opt()?, last.as_fixed_size_binary_opt()?);
        let filters = filters.as_binary_opt::<i32>()?;
        for row in 0..batch.num_rows() {
            let bound = |array: &FixedSizeBinaryArray| Some(u128::from_be_bytes(*array.value(row).first_chunk()?));
            let (first, last) = (bound(first)?, bound(last)?);
            let keys = usize::try_from(keys.value(row)).ok()?;
            let filter = match filters.is_valid(row) {
                true => Some(Arc::new(Filter::from_bytes(filters.value(row), first, last, keys)?)),
                false => None,
            };
            let part = Part::Chunk(u32::try_from(chunks.len()).ok()?);
            let path = format!("{folder}/{}", ObjectName { span, part });
            chunks.push(ChunkInfo { path, first, last, keys, newest_us: newest.value(row), filter });
        }
    }
    Some(chunks)
}
