//! One open file: windows of whole lines, wherever the bytes come from.
//!
//! ```text
//!  plain       [8 MB chunk ........\n|part of a line]      the next chunk starts after the last newline and is
//!                                     └─ next chunk ...     fetched while the lines of this one are taken
//!  compressed  decoder ─▶ 64 KB steps ─▶ [buffer ....\n|part of a line]   always the same steps, from the file's
//!                                                                          start, so damage is met at the same byte
//! ```

mod compressed;
mod plain;

use std::fmt;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::buffered::BufReader;

use super::{FileMeta, Store};
use crate::error::{Error, ErrorKind, Result};
use compressed::Compressed;
use plain::Plain;

/// Compressed bytes that are read at once.
const COMPRESSED_READ_BYTES: usize = 1 << 20;

/// What there is from an offset on.
pub(super) enum Window<'a> {
    /// Whole lines: ends with a newline.
    Lines(&'a [u8]),
    /// The last line of a compressed file, without a newline. The file is finished after it.
    LastLine(&'a [u8]),
    /// A line longer than [`super::RECORD_BYTES_MAX`]: its beginning, and its length with the newline.
    TooLong { prefix: Vec<u8>, bytes: u64 },
    /// The decoder gave up: what it left of a line, and why.
    Corrupt { rest: Vec<u8>, why: String },
    /// No whole line yet.
    Nothing,
    /// A compressed file was read to its end.
    Finished,
}

/// See the module.
pub(super) struct OpenFile {
    name: String,
    /// Of a compressed file: another size or time means other contents.
    stored: (u64, i64),
    feed: Feed,
}

enum Feed {
    Plain(Plain),
    Compressed(Compressed),
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenFile({})", self.name)
    }
}

impl OpenFile {
    /// Look at the first bytes to tell how the file is stored.
    pub(super) async fn new(store: &Store, file: &FileMeta) -> Result<Self> {
        let magic = fetch(store, file, 0, file.size.min(4)).await?;
        let name = file.name.to_ascii_lowercase();
        let reader = || BufReader::with_capacity(store.clone(), &file.object, COMPRESSED_READ_BYTES);
        let feed = if magic.starts_with(&[0x1f, 0x8b]) || name.ends_with(".gz") {
            let mut decoder = GzipDecoder::new(reader());
            decoder.multiple_members(true);
            Feed::Compressed(Compressed::new(Box::pin(decoder)))
        } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || name.ends_with(".zst") {
            let mut decoder = ZstdDecoder::new(reader());
            decoder.multiple_members(true);
            Feed::Compressed(Compressed::new(Box::pin(decoder)))
        } else {
            Feed::Plain(Plain::new(store.clone()))
        };
        Ok(Self { name: file.name.clone(), stored: (file.size, file.modified_ms), feed })
    }

    pub(super) fn is_compressed(&self) -> bool {
        matches!(self.feed, Feed::Compressed(_))
    }

    /// Can this go on at `at` of the file, as it is now?
    pub(super) fn reads(&self, file: &FileMeta, at: u64) -> bool {
        let fits = match &self.feed {
            Feed::Plain(_) => true,
            Feed::Compressed(compressed) => compressed.at <= at && self.stored == (file.size, file.modified_ms),
        };
        fits && self.name == file.name
    }

    /// What there is from decompressed offset `at` on.
    pub(super) async fn window(&mut self, at: u64, file: &FileMeta) -> Result<Window<'_>> {
        match &mut self.feed {
            Feed::Plain(plain) => plain.window(at, file).await,
            Feed::Compressed(compressed) => {
                if at < compressed.at {
                    let message = format!("{} was read beyond offset {at} already", file.name);
                    return Err(Error::new(ErrorKind::Internal, message));
                }
                compressed.window(at, file).await
            }
        }
    }
}

async fn fetch(store: &Store, file: &FileMeta, at: u64, bytes: u64) -> Result<Bytes> {
    if bytes == 0 {
        return Ok(Bytes::new());
    }
    let read = store.get_range(&file.object.location, at..at + bytes).await;
    read.map_err(|error| unreadable(file, &Error::from(error).message()))
}

fn unreadable(file: &FileMeta, why: &dyn fmt::Display) -> Error {
    Error::new(ErrorKind::Source, format!("cannot read {}: {why}", file.object.location))
}
