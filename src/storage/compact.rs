//! Compaction: many small files of a partition become one, without changing a row.
//!
//! ```text
//!   files of one partition, by size:   < 4 KiB │ < 64 KiB │ < 1 MiB │ < 16 MiB │ large: left alone
//!                                      a class with more than 16 files is merged ─▶ one file, some class higher
//! ```
//!
//! By classes, a row is rewritten a few times in its life, and not once for every 16 commits. Rows keep their order:
//! files are read by name, and names hold the epoch. A commit gives way to any other writer that touched one of its files.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::delta::DeltaStorage;
use crate::storage::encode::Layout;
use crate::storage::log::path_of;
use crate::storage::maintain::Moved;
use crate::storage::{Commit, DataFile, Objects, Snapshot, Storage as _, partition, stage};

/// Bits of a file's size that make one class: each class is 16 times the one below it.
const CLASS_BITS: u32 = 4;

/// Merges of one commit.
const MERGES_MAX: usize = 64;

/// Commits of one call, so that it ends.
const COMMITS_MAX: usize = 8;

/// Rows that are decoded at a time.
const READ_BATCH_ROWS: usize = 8 * 1024;

/// Files to become one.
#[derive(Debug, PartialEq)]
pub(crate) struct Merge {
    partition: Vec<Option<String>>,
    files: Vec<Arc<DataFile>>,
}

/// Merge what is due, a commit for each lot of merges.
///
/// # Errors
/// `Storage`, `Corrupt`. The table is as it was, or as after some of the merges.
pub(crate) async fn compact(storage: &DeltaStorage, location: &str) -> Result<Moved> {
    let options = &storage.options;
    let (mut removed, mut added) = (Objects::default(), Objects::default());
    for _ in 0..COMMITS_MAX {
        let snapshot = storage.newest(location).await?;
        let merges = due(
            &snapshot.files,
            options.compact_files_max,
            options.compact_small_bytes_max,
            options.compact_output_bytes_max,
        );
        if merges.is_empty() {
            break;
        }
        let layout = Arc::new(Layout::new(&snapshot.schema, &snapshot.partitioned_by)?);
        let mut commit = Commit { data_change: false, operation: "OPTIMIZE", ..Commit::default() };
        let (mut before, mut after) = (removed, added);
        for merge in merges {
            merge.files.iter().for_each(|file| before.add(file.size));
            commit.remove.extend(merge.files.iter().map(|file| file.path.clone()));
            let merged = run(storage, &snapshot, &layout, merge).await?;
            after.add(merged.size);
            commit.add.push(merged);
        }
        match storage.commit(location, commit).await {
            Ok(_) => (removed, added) = (before, after),
            // Overtaken: the merged files are never referred to, and swept later.
            Err(error) if error.kind() == ErrorKind::Conflict => break,
            Err(error) => return Err(error),
        }
    }
    Ok((removed.files > 0).then_some((removed, added)))
}

/// What to merge. Pure.
pub(crate) fn due(files: &[Arc<DataFile>], files_max: usize, small_max: u64, output_max: u64) -> Vec<Merge> {
    /// Files of one partition and one class of size.
    type Classes<'a> = BTreeMap<(&'a [Option<String>], u32), Vec<&'a Arc<DataFile>>>;
    let mut classes = Classes::new();
    for file in files.iter().filter(|file| file.size < small_max) {
        let class = file.size.max(1).ilog2() / CLASS_BITS;
        classes.entry((&file.partition, class)).or_default().push(file);
    }
    let mut merges = Vec::new();
    for ((partition, _), mut files) in classes {
        if files.len() <= files_max {
            continue;
        }
        files.sort_by(|a, b| name(a).cmp(name(b)));
        let mut bytes = 0;
        let runs = files.chunk_by(|_, next| {
            bytes += next.size;
            let together = bytes <= output_max;
            bytes = if together { bytes } else { 0 };
            together
        });
        merges.extend(runs.filter(|run| run.len() > 1).map(|run| Merge {
            partition: partition.to_vec(),
            files: run.iter().map(|file| Arc::clone(file)).collect(),
        }));
    }
    // Those with the most files: no partition waits for ever behind others.
    merges.sort_by_key(|merge| std::cmp::Reverse(merge.files.len()));
    merges.truncate(MERGES_MAX);
    merges
}

fn name(file: &DataFile) -> &str {
    file.path.rsplit('/').next().unwrap_or(&file.path)
}

/// Read, write, upload; one file's bytes and the encoder's are in memory.
async fn run(storage: &DeltaStorage, of: &Snapshot, layout: &Arc<Layout>, merge: Merge) -> Result<DataFile> {
    let Merge { partition, files } = merge;
    let (store, location) = (Arc::clone(&storage.store), of.location.clone());
    let (runtime, encoder) = (tokio::runtime::Handle::current(), Arc::clone(layout));
    let encoded = stage::encoding(storage, move || {
        let boundless = boundless(&encoder, &files);
        let batches = files.iter().flat_map(|file| {
            let read = runtime.block_on(fetch(&store, &location, file));
            match read.and_then(|bytes| decode(&encoder, &location, file, bytes)) {
                Ok(batches) => batches.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }
        });
        encoder.write(batches, &boundless)
    })
    .await?;
    let folder = partition::folder(&of.partitioned_by, &partition);
    let path = format!("{folder}{}", stage::file_name(storage, &of.location, of.epoch));
    stage::put(storage, &of.location, path, partition, encoded).await
}

/// Columns that one of the files has no bounds for although it has values: they may hold a NaN.
fn boundless(layout: &Layout, files: &[Arc<DataFile>]) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for column in layout.floating() {
        let stats = files.iter().map(|file| (file.rows, file.stats.get(column)));
        let unbounded = |(rows, stats): (u64, Option<&crate::storage::ColumnStats>)| {
            stats.is_none_or(|stats| stats.nulls < rows && (stats.min.is_none() || stats.max.is_none()))
        };
        if stats.clone().any(unbounded) {
            let nulls = stats.map(|(_, stats)| stats.map_or(0, |stats| stats.nulls)).sum();
            found.insert(column.to_string(), nulls);
        }
    }
    found
}

async fn fetch(store: &Arc<dyn ObjectStore>, location: &str, file: &DataFile) -> Result<bytes::Bytes> {
    let path = path_of(&format!("{location}/{}", file.path))?;
    let failed = |error: object_store::Error| Error::from(error).context(format!("reading \"{path}\""));
    store.get(&path).await.map_err(failed)?.bytes().await.map_err(failed)
}

fn decode(
    layout: &Layout,
    location: &str,
    file: &DataFile,
    bytes: bytes::Bytes,
) -> Result<Vec<arrow::record_batch::RecordBatch>> {
    let corrupt = |text: String| Error::new(ErrorKind::Corrupt, format!("\"{location}/{}\": {text}", file.path));
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| corrupt(error.to_string()))?;
    let reader = reader.with_batch_size(READ_BATCH_ROWS).build().map_err(|error| corrupt(error.to_string()))?;
    let batches = reader.map(|batch| match batch {
        Ok(batch) => layout.adopt(&batch).map_err(|error| corrupt(error.to_string())),
        Err(error) => Err(corrupt(error.to_string())),
    });
    batches.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(partition: &str, size: u64, count: usize, from: usize) -> Vec<Arc<DataFile>> {
        let file = |n| DataFile {
            path: format!("p={partition}/{n:05}.parquet"),
            size,
            rows: 1,
            partition: vec![Some(partition.to_string())],
            stats: BTreeMap::new(),
            modified_ms: 0,
        };
        (from..from + count).rev().map(|n| Arc::new(file(n))).collect()
    }

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    #[test]
    fn a_partition_with_too_many_small_files_is_merged() {
        let mut all = files("a", 10 * KIB, 17, 0);
        all.extend(files("b", 10 * KIB, 16, 100));
        all.extend(files("a", 20 * MIB, 30, 200));
        let merges = due(&all, 16, 16 * MIB, 128 * MIB);
        assert_eq!(merges.len(), 1);
        let names: Vec<&str> = merges[0].files.iter().map(|file| name(file)).collect();
        assert_eq!((names.len(), names[0], names[16]), (17, "00000.parquet", "00016.parquet"));
    }

    #[test]
    fn a_merged_file_waits_for_others_of_its_size() {
        let mut all = files("a", 10 * KIB, 16, 0);
        all.extend(files("a", 200 * KIB, 10, 100));
        assert!(due(&all, 16, 16 * MIB, 128 * MIB).is_empty());
    }

    #[test]
    fn no_partition_waits_for_ever() {
        let crowded = files("zz", 10 * KIB, 40, 0);
        let mut all: Vec<_> = (0..100).flat_map(|n| files(&format!("{n:02}"), 10 * KIB, 17, 0)).collect();
        all.extend(crowded);
        let merges = due(&all, 16, 16 * MIB, 128 * MIB);
        assert_eq!((merges.len(), merges[0].files.len()), (MERGES_MAX, 40));
    }

    #[test]
    fn one_merge_is_bounded() {
        let merges = due(&files("a", 10 * MIB, 30, 0), 16, 16 * MIB, 128 * MIB);
        let lengths: Vec<usize> = merges.iter().map(|merge| merge.files.len()).collect();
        assert_eq!(lengths.iter().sum::<usize>(), 30);
        assert!(lengths.iter().all(|&length| length as u64 * 10 * MIB <= 140 * MIB), "{lengths:?}");
    }
}
