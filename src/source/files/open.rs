//! One open file: windows of whole lines, wherever the bytes come from.
//!
//! ```text
//!  plain       [8 MB chunk ........\n|part of a line]      the next chunk starts after the last newline and is
//!                                     └─ next chunk ...     fetched while the lines of this one are taken
//!  compressed  decoder ─▶ 64 KB steps ─▶ [buffer ....\n|part of a line]   always the same steps, from the file's
//!                                                                          start, so damage is met at the same byte
//! ```

use std::fmt;
use std::pin::Pin;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use bytes::Bytes;
use memchr::{memchr, memrchr};
use object_store::ObjectStoreExt;
use object_store::buffered::BufReader;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;

use super::{FileMeta, RECORD_BYTES_MAX, Store};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of one read of a plain file.
const CHUNK_BYTES_MAX: u64 = 8 << 20;
/// Bytes of one step of a decoder.
const STEP_BYTES: usize = 64 << 10;
/// Decompressed bytes that are gathered before lines are taken from them.
const DECODED_BYTES_MIN: usize = 1 << 20;
/// Compressed bytes that are read at once.
const COMPRESSED_READ_BYTES: usize = 1 << 20;

/// What there is from an offset on.
pub(super) enum Window<'a> {
    /// Whole lines: ends with a newline.
    Lines(&'a [u8]),
    /// The last line of a compressed file, without a newline. The file is finished after it.
    LastLine(&'a [u8]),
    /// A line longer than [`RECORD_BYTES_MAX`]: its beginning, and its length with the newline.
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
            Feed::Plain(Plain { store: store.clone(), chunk: Bytes::new(), chunk_at: 0, lines: 0, ahead: None })
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

struct Plain {
    store: Store,
    chunk: Bytes,
    chunk_at: u64,
    /// Bytes of the chunk up to and with its last newline.
    lines: usize,
    ahead: Option<(u64, JoinHandle<Result<Bytes>>)>,
}

impl Plain {
    async fn window(&mut self, at: u64, file: &FileMeta) -> Result<Window<'_>> {
        let held = self.chunk_at..self.chunk_at + self.lines as u64;
        if !held.contains(&at) && !self.fill(at, file).await? {
            if file.size - at <= RECORD_BYTES_MAX as u64 {
                return Ok(Window::Nothing);
            }
            return self.too_long(at, file).await;
        }
        Ok(Window::Lines(&self.chunk[(at - self.chunk_at) as usize..self.lines]))
    }

    /// Hold a chunk that starts at `at` and has a whole line; false when there is none within the longest line.
    async fn fill(&mut self, at: u64, file: &FileMeta) -> Result<bool> {
        let mut bytes = CHUNK_BYTES_MAX.min(file.size - at);
        let mut chunk = match self.ahead.take() {
            Some((ahead_at, ahead)) if ahead_at == at => {
                ahead.await.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))??
            }
            _ => fetch(&self.store, file, at, bytes).await?,
        };
        let longest = (RECORD_BYTES_MAX as u64 + 1).min(file.size - at);
        let mut newline = memrchr(b'\n', &chunk);
        while newline.is_none() && bytes < longest {
            bytes = (bytes * 2).min(longest);
            chunk = fetch(&self.store, file, at, bytes).await?;
            newline = memrchr(b'\n', &chunk);
        }
        let Some(newline) = newline else { return Ok(false) };
        (self.chunk, self.chunk_at, self.lines) = (chunk, at, newline + 1);
        let next = at + self.lines as u64;
        if next < file.size {
            let (store, file) = (self.store.clone(), file.clone());
            let bytes = CHUNK_BYTES_MAX.min(file.size - next);
            self.ahead = Some((next, tokio::spawn(async move { fetch(&store, &file, next, bytes).await })));
        }
        Ok(true)
    }

    async fn too_long(&mut self, at: u64, file: &FileMeta) -> Result<Window<'_>> {
        let prefix = fetch(&self.store, file, at, RECORD_BYTES_MAX as u64).await?;
        let mut next = at + prefix.len() as u64;
        while next < file.size {
            let chunk = fetch(&self.store, file, next, CHUNK_BYTES_MAX.min(file.size - next)).await?;
            if let Some(newline) = memchr(b'\n', &chunk) {
                return Ok(Window::TooLong { prefix: prefix.to_vec(), bytes: next + newline as u64 + 1 - at });
            }
            next += chunk.len() as u64;
        }
        Ok(Window::Nothing)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        if let Some((_, ahead)) = self.ahead.take() {
            ahead.abort();
        }
    }
}

struct Compressed {
    decoder: Pin<Box<dyn AsyncRead + Send>>,
    /// Decompressed bytes from offset `at` on.
    buffer: Vec<u8>,
    at: u64,
    end: Option<Ended>,
}

enum Ended {
    Whole,
    Corrupt(String),
    /// The bytes could not be had; the file may be whole.
    Unreadable(String),
}

impl Compressed {
    fn new(decoder: Pin<Box<dyn AsyncRead + Send>>) -> Self {
        Self { decoder, buffer: Vec::new(), at: 0, end: None }
    }

    async fn window(&mut self, at: u64, file: &FileMeta) -> Result<Window<'_>> {
        self.skip_to(at, file).await?;
        let mut searched = 0;
        while self.end.is_none() {
            let newline = memchr(b'\n', &self.buffer[searched..]).is_some();
            if newline && self.buffer.len() >= DECODED_BYTES_MIN {
                break;
            }
            if !newline {
                searched = self.buffer.len();
                if searched > RECORD_BYTES_MAX {
                    return self.too_long().await;
                }
            }
            self.step().await;
        }
        if let Some(newline) = memrchr(b'\n', &self.buffer) {
            return Ok(Window::Lines(&self.buffer[..=newline]));
        }
        Ok(match &self.end {
            Some(Ended::Corrupt(why)) => {
                let rest = self.buffer[..self.buffer.len().min(RECORD_BYTES_MAX)].to_vec();
                Window::Corrupt { rest, why: why.clone() }
            }
            Some(Ended::Unreadable(why)) => return Err(unreadable(file, why)),
            Some(Ended::Whole) if !self.buffer.is_empty() => Window::LastLine(&self.buffer),
            Some(Ended::Whole) => Window::Finished,
            None => Window::Nothing,
        })
    }

    /// Drop what comes before `at`.
    async fn skip_to(&mut self, at: u64, file: &FileMeta) -> Result<()> {
        loop {
            let drop = (at - self.at).min(self.buffer.len() as u64) as usize;
            self.buffer.drain(..drop);
            self.at += drop as u64;
            match &self.end {
                _ if self.at == at => return Ok(()),
                None => self.step().await,
                Some(Ended::Unreadable(why)) => return Err(unreadable(file, why)),
                Some(_) => {
                    let message = format!("{} has {} bytes decompressed, but {at} were read", file.name, self.at);
                    return Err(Error::new(ErrorKind::DataLoss, message).with_hint(
                        "the file was replaced: put it back, or write new records to a file of another name",
                    ));
                }
            }
        }
    }

    /// Decode exactly one step, or to the end.
    async fn step(&mut self) {
        let start = self.buffer.len();
        self.buffer.resize(start + STEP_BYTES, 0);
        let mut filled = start;
        while filled < self.buffer.len() && self.end.is_none() {
            match self.decoder.read(&mut self.buffer[filled..]).await {
                Ok(0) => self.end = Some(Ended::Whole),
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.get_ref().is_some_and(|inner| inner.is::<object_store::Error>()) => {
                    self.end = Some(Ended::Unreadable(error.to_string()));
                }
                Err(error) => self.end = Some(Ended::Corrupt(error.to_string())),
            }
        }
        self.buffer.truncate(filled);
    }

    /// Keep the beginning of the line, pass over the rest.
    async fn too_long(&mut self) -> Result<Window<'_>> {
        let prefix = self.buffer[..RECORD_BYTES_MAX].to_vec();
        let start = self.at;
        loop {
            if let Some(newline) = memchr(b'\n', &self.buffer) {
                self.buffer.drain(..=newline);
                self.at += newline as u64 + 1;
                return Ok(Window::TooLong { prefix, bytes: self.at - start });
            }
            self.at += self.buffer.len() as u64;
            self.buffer.clear();
            if self.end.is_some() {
                return Ok(Window::TooLong { prefix, bytes: self.at - start });
            }
            self.step().await;
        }
    }
}
