//! Windows over a plain file: large chunks, the next one fetched while this one is used.

use bytes::Bytes;
use memchr::{memchr, memrchr};
use tokio::task::JoinHandle;

use super::super::{FileMeta, RECORD_BYTES_MAX, Store};
use super::{Window, fetch};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of one read.
const CHUNK_BYTES_MAX: u64 = 8 << 20;

pub(super) struct Plain {
    store: Store,
    chunk: Bytes,
    chunk_at: u64,
    /// Bytes of the chunk up to and with its last newline.
    lines: usize,
    ahead: Option<(u64, JoinHandle<Result<Bytes>>)>,
}

impl Plain {
    pub(super) fn new(store: Store) -> Self {
        Self { store, chunk: Bytes::new(), chunk_at: 0, lines: 0, ahead: None }
    }

    pub(super) async fn window(&mut self, at: u64, file: &FileMeta) -> Result<Window<'_>> {
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
