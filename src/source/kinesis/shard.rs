//! Reading one shard: the loop around the decisions of `decide`.
//!
//! ```text
//!  Cursor (kept between polls: iterator, pace, mood) ─▶ run ─▶ Outcome { rows, cursor at the new position }
//!
//!   wait for the shard's turn ─▶ reserve from the budget ─▶ GetRecords ─▶ rows ─▶ next? ─┐
//!        ▲                                                                               │
//!        └───────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::budget::{Budget, READ_RECORDS_MAX};
use super::client::{Connection, Fault};
use super::decide::{Answer, Mood, Next, moved_on, next};
use super::{Pace, now_ms};
use crate::epoch::{Position, SequenceNumber};
use crate::error::{Error, ErrorKind, Result};
use crate::source::rows::{RowBuilder, Rows};

/// Where one shard stands; what isn't a position can be made again.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) position: Position,
    pub(super) iterator: Option<String>,
    /// The record that must come first, to prove that none was trimmed before it.
    pub(super) expect: Option<SequenceNumber>,
    /// Records that come first and arrived before this instant are passed over, in microseconds: where a shard has
    /// nothing newer, emulators give its oldest records.
    pub(super) not_before_us: Option<i64>,
    pub(super) next_call: Instant,
    quiet_since_ms: Option<i64>,
    caught_up: bool,
    mood: Mood,
}

impl Cursor {
    pub(super) fn new(position: Position) -> Self {
        Self {
            position,
            iterator: None,
            expect: None,
            not_before_us: None,
            next_call: Instant::now(),
            quiet_since_ms: None,
            caught_up: false,
            mood: Mood::default(),
        }
    }
}

/// How far to read.
#[derive(Debug, Clone)]
pub(super) enum Goal {
    /// Until the slice is full or the shard is caught up.
    Budget(Arc<Budget>),
    /// Exactly to this position.
    Until(Position),
}

/// What is to be done with one shard.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) connection: Connection,
    pub(super) stream: String,
    pub(super) shard: String,
    pub(super) cursor: Cursor,
    pub(super) closed: bool,
    pub(super) prove: bool,
    pub(super) pace: Pace,
    pub(super) goal: Goal,
    /// No waiting beyond it.
    pub(super) deadline: Instant,
}

/// What was done.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) shard: String,
    pub(super) cursor: Cursor,
    pub(super) rows: Rows,
    pub(super) behind_ms: i64,
    pub(super) caught_up: bool,
}

impl Job {
    /// See the module.
    pub(super) async fn run(mut self) -> Result<Outcome> {
        let mut rows = RowBuilder::new(&self.stream, &self.shard);
        let mut behind_ms = 0;
        self.cursor.mood = Mood { closed: self.closed, empty_reads: 0, ..self.cursor.mood };
        let was_caught_up = std::mem::take(&mut self.cursor.caught_up);
        if was_caught_up && self.cursor.next_call > Instant::now() && !self.closed {
            self.cursor.caught_up = true;
            return self.finish(rows, 0);
        }
        while self.wait_for_turn().await? {
            let reserved = match &self.goal {
                Goal::Until(_) => None,
                Goal::Budget(budget) => match budget.take().await {
                    Some(reserved) => Some(reserved),
                    None => break,
                },
            };
            let before = rows.records();
            let read = self.read(reserved.map_or(READ_RECORDS_MAX, |reserved| reserved.records), &mut rows).await?;
            if let (Goal::Budget(budget), Some(reserved)) = (&self.goal, reserved) {
                budget.settle(reserved, rows.records() - before, read.bytes);
            }
            if let Answer::Page { behind_ms: behind, .. } = read.answer {
                behind_ms = behind;
            }
            if read.reached || !self.go_on(&read.answer)? {
                break;
            }
        }
        self.finish(rows, behind_ms)
    }

    /// Apply the decision. False: the shard's part is done.
    fn go_on(&mut self, answer: &Answer) -> Result<bool> {
        let cursor = &mut self.cursor;
        let decision = next(answer, cursor.mood);
        match answer {
            Answer::Page { records, .. } => {
                cursor.mood.faults = 0;
                cursor.mood.empty_reads = if *records > 0 { 0 } else { cursor.mood.empty_reads + 1 };
            }
            Answer::Fault(_) => cursor.mood.faults += 1,
        }
        match decision {
            Next::ReadOn => Ok(true),
            Next::Renew => {
                cursor.iterator = None;
                Ok(true)
            }
            Next::BackOff(most) => {
                cursor.next_call = cursor.next_call.max(Instant::now() + most.mul_f64(fastrand::f64()));
                Ok(true)
            }
            // A range is read to its end, whatever the answers look like.
            Next::Yield => Ok(matches!(self.goal, Goal::Until(_))),
            Next::CaughtUp if cursor.expect.is_some() => Err(self.lost("the record that was read last is gone")),
            Next::CaughtUp => {
                cursor.caught_up = true;
                match &self.goal {
                    Goal::Until(Position::AtTimestamp(_)) | Goal::Budget(_) => Ok(false),
                    Goal::Until(_) => Err(self.lost("the records of an unfinished pass are gone")),
                }
            }
            Next::Ended if cursor.expect.is_some() => Err(self.lost("the record that was read last is gone")),
            Next::Ended => {
                cursor.position = Position::End;
                cursor.iterator = None;
                match &self.goal {
                    Goal::Until(Position::After(_)) => Err(self.lost("the records of an unfinished pass are gone")),
                    _ => Ok(false),
                }
            }
            Next::Gone(why) => Err(self.lost(&why)),
            Next::Fail(fault) => {
                let error = self.connection.error("read", &fault);
                let passing = matches!(fault, Fault::Passing(_));
                Err(if passing { Error::new(ErrorKind::Transient, error.message().to_string()) } else { error })
            }
        }
    }

    fn finish(mut self, rows: RowBuilder, behind_ms: i64) -> Result<Outcome> {
        let rows = rows.finish()?;
        let cursor = &mut self.cursor;
        let quiet = cursor.caught_up && rows.records == 0;
        cursor.quiet_since_ms = if quiet { cursor.quiet_since_ms.or(Some(now_ms())) } else { None };
        if let Some(since) = cursor.quiet_since_ms
            && let Some(position) = moved_on(&cursor.position, since, now_ms())
        {
            cursor.position = position;
        }
        let caught_up = cursor.caught_up;
        Ok(Outcome { shard: self.shard, cursor: self.cursor, rows, behind_ms, caught_up })
    }

    /// Wait until the shard may be called. False: not within this poll.
    async fn wait_for_turn(&self) -> Result<bool> {
        if self.cursor.next_call > self.deadline {
            return match &self.goal {
                Goal::Budget(_) => Ok(false),
                Goal::Until(_) => {
                    let fault = Fault::Passing("the records of an unfinished pass did not come in time".into());
                    Err(Error::new(ErrorKind::Transient, self.connection.error("read", &fault).message().to_string()))
                }
            };
        }
        if self.cursor.next_call > Instant::now() {
            tokio::time::sleep_until(self.cursor.next_call).await;
        }
        Ok(true)
    }

    pub(super) fn lost(&self, why: &str) -> Error {
        let message = format!("records of shard {} of Kinesis {} are gone", self.shard, self.connection.place());
        Error::new(ErrorKind::DataLoss, message)
            .with_detail(format!("reading was to go on from {:?}: {why}", self.cursor.position))
            .with_hint("they expired before they were read: lengthen the stream's retention; what is landed is whole")
    }
}

impl Pace {
    /// Time from one call to the next after a read of so many bytes.
    pub(super) fn wait_after(&self, bytes: usize) -> Duration {
        match self {
            Self::Off => Duration::ZERO,
            Self::PerShard { calls_per_s_max, bytes_per_s_max } => {
                let calls = Duration::from_secs(1) / (*calls_per_s_max).max(1);
                calls.max(Duration::from_secs_f64(bytes as f64 / (*bytes_per_s_max).max(1) as f64))
            }
        }
    }
}
