//! Windows over a compressed file: always decoded in the same steps from its start, so that damage is met at the same
//! byte however often and from wherever it is read.

use std::pin::Pin;

use memchr::{memchr, memrchr};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::super::{FileMeta, RECORD_BYTES_MAX};
use super::{Window, unreadable};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of one step of a decoder.
const STEP_BYTES: usize = 64 << 10;
/// Decompressed bytes that are gathered before lines are taken from them.
const DECODED_BYTES_MIN: usize = 1 << 20;

pub(super) struct Compressed {
    decoder: Pin<Box<dyn AsyncRead + Send>>,
    /// Decompressed bytes from offset `at` on.
    buffer: Vec<u8>,
    pub(super) at: u64,
    end: Option<Ended>,
}

enum Ended {
    Whole,
    Corrupt(String),
    /// The bytes could not be had; the file may be whole.
    Unreadable(String),
}

impl Compressed {
    pub(super) fn new(decoder: Pin<Box<dyn AsyncRead + Send>>) -> Self {
        Self { decoder, buffer: Vec::new(), at: 0, end: None }
    }

    pub(super) async fn window(&mut self, at: u64, file: &FileMeta) -> Result<Window<'_>> {
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
