//! What is written down of those who call.
//!
//! ```text
//!   statement ─▶ a place in the queue (PLACES_MAX) ─▶ runs ─▶ Recording: how it ended ─▶ the place
//!                   └ none for PLACE_WAIT_MAX: refused                                      │
//!   writer: every FLUSH_INTERVAL, or BATCH_MAX, or when somebody waits for it ◀─────────────┘
//!      └─▶ Backend::log_audit, again and again until it is in the lake
//! ```
//!
//! Whoever has no place does nothing: what cannot be written down does not happen. A change of users, views or rights is
//! answered once its line is in the lake; lines of queries follow within seconds, and are lost when the process is killed
//! before. In a lake without users there is nobody to tell apart, and nothing is written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlparser::tokenizer::Token;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::oneshot;
use tonic::{Code, Status};

use super::Backend;
use super::service::Caller;
use crate::engine::audit_log::AuditEntry;
use crate::parser;

/// Lines that are not written yet, of statements under way, too.
const PLACES_MAX: usize = 10_000;

/// How long a statement waits for its place.
const PLACE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long lines wait for others.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

/// Lines that are written at once.
const BATCH_MAX: usize = 1_000;

/// How long the writer rests after it has failed.
const RETRY_REST: Duration = Duration::from_secs(1);

/// Bytes that are kept of a statement's text.
const SQL_BYTES_MAX: usize = 4 << 10;

enum Message {
    Line(Box<AuditEntry>),
    /// Tell when all before it is written.
    Flush(oneshot::Sender<()>),
}

/// Takes lines.
pub(crate) struct AuditLog(mpsc::Sender<Message>);

impl AuditLog {
    /// With a writer that ends when nobody can add a line any more.
    pub(crate) fn start(backend: Arc<dyn Backend>) -> Self {
        let (sender, receiver) = mpsc::channel(PLACES_MAX);
        tokio::spawn(write(receiver, backend));
        Self(sender)
    }

    /// A line for something that begins now; `None` where nothing is written down.
    pub(crate) async fn begin(
        &self,
        caller: &Caller,
        event: &'static str,
        sql: Option<&str>,
    ) -> Result<Option<Recording>, Status> {
        if caller.is_anybody() {
            return Ok(None);
        }
        let (user, peer) = (caller.principal.subject.clone(), caller.peer.ip.to_string());
        let (door, sql) = (caller.door, sql.map(readable));
        let entry = AuditEntry { user, peer, door, event, sql, ..AuditEntry::default() };
        self.place(entry).await.map(Some)
    }

    /// As [`AuditLog::begin`], for what is not known to be anybody's.
    pub(crate) async fn place(&self, entry: AuditEntry) -> Result<Recording, Status> {
        let place = tokio::time::timeout(PLACE_WAIT_MAX, self.0.clone().reserve_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(Status::unavailable("the audit log cannot be written (hint: the server's log tells why)"));
        };
        let at_us = chrono::Utc::now().timestamp_micros();
        let entry = AuditEntry { at_us, outcome: "cancelled", ..entry };
        Ok(Recording { place: Some(place), entry, begun: Instant::now() })
    }

    /// Until all that is recorded is in the lake.
    pub(crate) async fn written(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.0.send(Message::Flush(sender)).await.is_ok() {
            // The writer tells, or has ended with the server.
            let _ = receiver.await;
        }
    }
}

async fn write(mut receiver: mpsc::Receiver<Message>, backend: Arc<dyn Backend>) {
    let (mut lines, mut waiting) = (Vec::new(), Vec::new());
    while let Some(first) = receiver.recv().await {
        let flush_at = tokio::time::Instant::now() + FLUSH_INTERVAL;
        let mut message = Some(first);
        while let Some(taken) = message {
            match taken {
                Message::Line(line) => lines.push(*line),
                Message::Flush(waits) => waiting.push(waits),
            }
            message = match waiting.is_empty() && lines.len() < BATCH_MAX {
                true => tokio::time::timeout_at(flush_at, receiver.recv()).await.unwrap_or(None),
                false => None,
            };
        }
        while !lines.is_empty() {
            match backend.log_audit(&lines).await {
                Ok(()) => lines.clear(),
                Err(error) => {
                    tracing::error!(%error, lines = lines.len(), "the audit log cannot be written; trying again");
                    tokio::time::sleep(RETRY_REST).await;
                }
            }
        }
        waiting.drain(..).for_each(|waits: oneshot::Sender<()>| waits.send(()).unwrap_or_default());
    }
}

/// A line that is not complete yet; without an outcome, what it tells of was cancelled.
pub(crate) struct Recording {
    place: Option<OwnedPermit<Message>>,
    entry: AuditEntry,
    begun: Instant,
}

impl Recording {
    /// Rows that were fetched so far.
    pub(crate) fn fetched(&mut self, rows: u64, bytes: u64) {
        (self.entry.rows, self.entry.bytes) = (rows, bytes);
    }

    /// It has ended.
    pub(crate) fn done(&mut self) {
        self.entry.outcome = "done";
    }

    /// It was nothing that is written down.
    pub(crate) fn forget(mut self) {
        self.place = None;
    }

    /// It has ended, with an error.
    pub(crate) fn failed(&mut self, status: &Status) {
        self.entry.outcome = match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => "denied",
            Code::Cancelled => "cancelled",
            _ => "failed",
        };
        self.entry.error = Some(cut(status.message().to_string()));
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.entry.took_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(place) = self.place.take() {
            place.send(Message::Line(Box::new(std::mem::take(&mut self.entry))));
        }
    }
}

/// The text without passwords: in a statement on a user, what follows that word. Who was forgotten is not written down, either.
fn readable(sql: &str) -> String {
    let Some(tokens) = parser::tokens(sql) else { return "(not readable)".into() };
    let is_word = |token: &Token, words: &[&str]| matches!(token, Token::Word(word) if words.iter().any(|known| word.value.eq_ignore_ascii_case(known)));
    let tokens = tokens.into_iter().filter(|(token, _)| !matches!(token, Token::Whitespace(_))).collect::<Vec<_>>();
    let of_user = matches!(&*tokens, [(verb, _), (what, _), ..]
        if is_word(verb, &["CREATE", "ALTER"]) && is_word(what, &["USER"]));
    let forgets = tokens.iter().any(|(word, _)| is_word(word, &["FORGET"]));
    let names =
        |token: &Token| !matches!(token, Token::Word(_) | Token::Comma | Token::Eq | Token::LParen | Token::RParen);
    let mut out = sql.to_string();
    for pair in tokens.windows(2).rev().filter(|_| forgets) {
        if names(&pair[1].0) && !is_word(&pair[0].0, &["COMMENT"]) {
            out.replace_range(pair[1].1.clone(), "'***'");
        }
    }
    for pair in tokens.windows(2).rev().filter(|_| of_user) {
        if is_word(&pair[0].0, &["PASSWORD"]) {
            out.replace_range(pair[1].1.clone(), "'***'");
        }
    }
    cut(out)
}

fn cut(mut text: String) -> String {
    if text.len() > SQL_BYTES_MAX {
        text.truncate(text.floor_char_boundary(SQL_BYTES_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_left_out_of_the_text() {
        for (sql, expected) in [
            ("CREATE USER a PASSWORD 'se''cret' ROLE b", "CREATE USER a PASSWORD '***' ROLE b"),
            ("alter user a password /* x */ $$secret$$", "alter user a password /* x */ '***'"),
            ("ALTER USER a PASSWORD", "ALTER USER a PASSWORD"),
            ("CREATE USER a PASSWORD secret ROLE b", "CREATE USER a PASSWORD '***' ROLE b"),
            ("forget where user_id = 'u17' comment 'a ticket'", "forget where user_id = '***' comment 'a ticket'"),
            ("FORGET WHERE user_id == 'u17'", "FORGET WHERE user_id '***' '***'"),
            ("SELECT 'password', password FROM t", "SELECT 'password', password FROM t"),
            ("CREATE USER a PASSWORD 'secret", "(not readable)"),
        ] {
            assert_eq!(readable(sql), expected);
        }
        assert!(readable(&format!("SELECT '{}'", "é".repeat(5_000))).len() < SQL_BYTES_MAX + 10);
    }
}
