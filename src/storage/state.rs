//! Hidden state: plain Parquet objects that only we read, with a cache bounded in bytes.
//!
//! ```text
//!   write_state ─encode─▶ put ─┐
//!                              ├─▶ cache: newest use last; the least recently used go when the bytes are too many
//!   read_state ─ hit ──────────┤
//!              └ miss ─▶ get ──┘
//! ```
//!
//! The Arrow schema stands in the file, so that what comes back has the types that were written.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::{Error, ErrorKind, Result};
use crate::storage::log::path_of;
use crate::storage::stage::blocking;

/// Rows of one batch that is read back.
const READ_BATCH_ROWS: usize = 8 * 1024;

/// Recently used objects.
#[derive(Debug)]
pub(crate) struct StateCache {
    bytes_max: usize,
    inner: parking_lot::Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    bytes: usize,
    /// Counts uses; an entry's number is when it was last used.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    batches: Arc<Vec<RecordBatch>>,
    bytes: usize,
    used: u64,
}

impl StateCache {
    /// An empty cache of at most this many bytes of Arrow data.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: parking_lot::Mutex::default() }
    }

    /// What is held under this path.
    pub(crate) fn get(&self, path: &str) -> Option<Arc<Vec<RecordBatch>>> {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let now = inner.clock;
        let entry = inner.entries.get_mut(path)?;
        entry.used = now;
        Some(Arc::clone(&entry.batches))
    }

    /// Hold this, as far as there is room.
    pub(crate) fn put(&self, path: &str, batches: Arc<Vec<RecordBatch>>) {
        let bytes = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        let mut inner = self.inner.lock();
        inner.remove(path);
        if bytes > self.bytes_max {
            return;
        }
        while inner.bytes + bytes > self.bytes_max {
            let oldest = inner.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(path, _)| path.clone());
            let Some(oldest) = oldest else { break };
            inner.remove(&oldest);
        }
        inner.clock += 1;
        let used = inner.clock;
        inner.bytes += bytes;
        inner.entries.insert(path.to_string(), Entry { batches, bytes, used });
    }

    /// Forget an object.
    pub(crate) fn forget(&self, path: &str) {
        self.inner.lock().remove(path);
    }
}

impl Inner {
    fn remove(&mut self, path: &str) {
        if let Some(entry) = self.entries.remove(path) {
            self.bytes -= entry.bytes;
        }
    }
}

/// See [`crate::storage::Storage::write_state`].
pub(crate) async fn write(
    store: &Arc<dyn ObjectStore>,
    cache: &StateCache,
    path: &str,
    batches: &[RecordBatch],
) -> Result<u64> {
    let object = path_of(path)?;
    let batches = Arc::new(batches.to_vec());
    let encoding = Arc::clone(&batches);
    let bytes = blocking(move || encode(&encoding)).await?;
    let size = bytes.len() as u64;
    cache.forget(path);
    let put = store.put(&object, bytes.into()).await;
    put.map_err(|error| Error::from(error).context(format!("writing \"{object}\"")))?;
    cache.put(path, batches);
    Ok(size)
}

fn encode(batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let failed = |error: ParquetError| Error::new(ErrorKind::Internal, format!("encoding state: {error}"));
    let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).map_err(failed)?;
    for batch in batches {
        writer.write(batch).map_err(failed)?;
    }
    writer.into_inner().map_err(failed)
}

/// See [`crate::storage::Storage::read_state`].
pub(crate) async fn read(
    store: &Arc<dyn ObjectStore>,
    cache: &StateCache,
    path: &str,
) -> Result<Arc<Vec<RecordBatch>>> {
    if let Some(batches) = cache.get(path) {
        return Ok(batches);
    }
    let object = path_of(path)?;
    let failed = |error: object_store::Error| Error::from(error).context(format!("reading \"{object}\""));
    let bytes = store.get(&object).await.map_err(failed)?.bytes().await.map_err(failed)?;
    let decoded = blocking(move || decode(bytes)).await;
    let batches = Arc::new(decoded.map_err(|error| error.context(format!("state \"{object}\"")))?);
    cache.put(path, Arc::clone(&batches));
    Ok(batches)
}

fn decode(bytes: bytes::Bytes) -> Result<Vec<RecordBatch>> {
    let corrupt = |error: String| Error::new(ErrorKind::Corrupt, error);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| corrupt(error.to_string()))?;
    let schema = Arc::clone(reader.schema());
    let reader = reader.with_batch_size(READ_BATCH_ROWS).build().map_err(|error| corrupt(error.to_string()))?;
    let batches: Result<Vec<RecordBatch>, _> = reader.collect();
    let mut batches = batches.map_err(|error| corrupt(error.to_string()))?;
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(schema));
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};

    fn batch(rows: i64) -> Arc<Vec<RecordBatch>> {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        Arc::new(vec![RecordBatch::try_from_iter([("n", column)]).unwrap()])
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let bytes = batch(1000)[0].get_array_memory_size();
        let cache = StateCache::new(2 * bytes);
        cache.put("a", batch(1000));
        cache.put("b", batch(1000));
        assert!(cache.get("a").is_some());
        cache.put("c", batch(1000));
        assert!(cache.get("b").is_none() && cache.get("a").is_some() && cache.get("c").is_some());
        assert_eq!(cache.inner.lock().bytes, 2 * bytes);
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let cache = StateCache::new(10);
        cache.put("a", batch(1000));
        assert!(cache.get("a").is_none());
        assert_eq!(cache.inner.lock().bytes, 0);
    }

    #[test]
    fn empty_state_keeps_its_schema() {
        let none = vec![batch(3)[0].slice(0, 0)];
        let back = decode(encode(&none).unwrap().into()).unwrap();
        assert_eq!(back, none);
        assert_eq!(decode(bytes::Bytes::from_static(b"no parquet")).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
