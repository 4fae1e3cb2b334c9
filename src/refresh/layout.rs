//! How the rows of a table that is rewritten file by file lie in its files. Pure.
//!
//! ```text
//!   touched and large ──▶ the rows that stay: a file of their own again             seldom touched once more
//!   touched and small ──┐
//!   small, and too many ┼▶ one file, cut where it grows too large                   touched by most changes
//!   changed and new ────┘
//! ```
//!
//! What changes now is likely to change again soon, so it comes to lie together: a visit that goes on, an hour that is
//! not over. A change costs the files that it is in, however many others there are. (Rows are rewritten as by a
//! size-tiered merge of sorted runs.)

use std::collections::HashMap;
use std::sync::Arc;

use crate::storage::DataFile;

/// Rows of one file: a refresh rewrites whole files.
pub const KEYED_FILE_ROWS_MAX: usize = 131_072;

/// A file with fewer rows is always small.
const SMALL_FILE_ROWS_MIN: u64 = 16_384;

/// A file is small with less than this part of its partition, so that large partitions have no more files than small ones.
const SMALL_FILE_PART: u64 = 64;

/// Small files that a partition may have.
const SMALL_FILES_MAX: usize = 8;

/// The files of a table by partition.
#[derive(Debug)]
pub struct Layout<'a> {
    partitions: HashMap<&'a [Option<String>], Vec<&'a Arc<DataFile>>>,
}

impl<'a> Layout<'a> {
    /// The layout of a table of these files.
    pub fn new(files: &'a [Arc<DataFile>]) -> Self {
        let mut partitions: HashMap<_, Vec<_>> = HashMap::new();
        for file in files {
            partitions.entry(file.partition.as_slice()).or_default().push(file);
        }
        Self { partitions }
    }

    /// The rows that stay in this file lie with those that come.
    pub fn is_small(&self, file: &DataFile) -> bool {
        let files = self.partitions.get(file.partition.as_slice()).map_or(&[][..], Vec::as_slice);
        file.rows < small_rows(files)
    }

    /// Small files that have become too many: to be made one, even if nothing in them changes.
    pub fn crowded(&self) -> Vec<Arc<DataFile>> {
        let mut crowded = Vec::new();
        for files in self.partitions.values().filter(|files| files.len() > SMALL_FILES_MAX) {
            let limit = small_rows(files);
            let small = files.iter().filter(|file| file.rows < limit).collect::<Vec<_>>();
            if small.len() > SMALL_FILES_MAX {
                crowded.extend(small.into_iter().map(|file| Arc::clone(file)));
            }
        }
        crowded
    }
}

fn small_rows(files: &[&Arc<DataFile>]) -> u64 {
    let rows = files.iter().map(|file| file.rows).sum::<u64>();
    (rows / SMALL_FILE_PART).clamp(SMALL_FILE_ROWS_MIN, KEYED_FILE_ROWS_MAX as u64)
}

/// Where to cut rows that belong together: (start, length), pieces of about one size, none larger than a file.
pub fn pieces(start: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let length = rows.div_ceil(rows.div_ceil(KEYED_FILE_ROWS_MAX).max(1)).max(1);
    (0..rows).step_by(length).map(move |at| (start + at, length.min(rows - at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, partition: &str, rows: u64) -> Arc<DataFile> {
        let partition = vec![Some(partition.to_string())];
        Arc::new(DataFile { path: path.into(), size: rows, rows, partition, stats: [].into(), modified_ms: 0 })
    }

    #[test]
    fn what_is_small_follows_the_partition() {
        let mut files = vec![file("a", "1", 16_383), file("b", "1", 16_384), file("c", "2", 16_384)];
        assert_eq!(
            files.iter().map(|file| Layout::new(&files).is_small(file)).collect::<Vec<_>>(),
            [true, false, false]
        );
        files.extend((0..16).map(|n| file(&n.to_string(), "2", 131_072)));
        assert_eq!(
            files.iter().filter(|file| Layout::new(&files).is_small(file)).count(),
            2,
            "a 64th of 2 million is 32,768"
        );
        files.extend((0..160).map(|n| file(&n.to_string(), "2", 131_072)));
        assert!(!Layout::new(&files).is_small(&files[5]), "a full file is never small");
    }

    #[test]
    fn small_files_of_one_partition_become_one_when_they_are_too_many() {
        let mut files = (0..8).map(|n| file(&n.to_string(), "1", n)).collect::<Vec<_>>();
        files.extend((0..8).map(|n| file(&n.to_string(), "2", n)));
        files.push(file("large", "1", 100_000));
        assert!(Layout::new(&files).crowded().is_empty());
        files.push(file("ninth", "1", 1));
        let crowded = Layout::new(&files).crowded();
        assert_eq!(crowded.len(), 9);
        assert!(crowded.iter().all(|file| file.partition[0].as_deref() == Some("1") && file.path != "large"));
    }

    #[test]
    fn pieces_are_even_and_cover_all_rows() {
        assert_eq!(pieces(5, 0).count(), 0);
        assert_eq!(pieces(5, 10).collect::<Vec<_>>(), [(5, 10)]);
        let max = KEYED_FILE_ROWS_MAX;
        assert_eq!(pieces(0, max + 1).collect::<Vec<_>>(), [(0, max / 2 + 1), (max / 2 + 1, max / 2)]);
    }
}
