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

use parking_lot::Mutex;
use tokio::time::Instant;

use super::aggregate::HashRange;
use super::budget::{Budget, READ_RECORDS_MAX};
use super::client::{Connection, Fault};
use super::decide::{Answer, Mood, Next, moved_on, next};
use super::{LOSS_HINT, Pace, now_ms};
use crate::epoch::{Loss, Position, SequenceNumber};
use crate::error::{Error, ErrorKind, Result};
use crate::source::OnDataLoss;
use crate::source::rows::{RowBuilder, Rows};

/// How long a shard that had nothing new is left alone, on AWS.
const IDLE_WAIT: Duration = Duration::from_secs(1);

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
    /// The hash keys that the shard owns, where keys decide on shards.
    pub(super) owned: Option<HashRange>,
    pub(super) prove: bool,
    /// How long the stream keeps a record, in milliseconds; 0: not known.
    pub(super) retention_ms: i64,
    pub(super) on_data_loss: OnDataLoss,
    /// What was found to be gone.
    pub(super) losses: Arc<Mutex<Vec<Loss>>>,
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
        self.cursor.mood =
            Mood { closed: self.closed, empty_reads: 0, retention_ms: self.retention_ms, ..self.cursor.mood };
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
            let read = self.read(reserved.map_or(READ_RECORDS_MAX, |reserved| reserved.records), &mut rows).await?;
            if let (Goal::Budget(budget), Some(reserved)) = (&self.goal, reserved) {
                budget.settle(reserved, read.records, read.payload_bytes);
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
        cursor.mood.expects = cursor.expect.is_some();
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
            Next::CaughtUp => {
                cursor.caught_up = true;
                if let Answer::Page { records: 0, .. } = answer {
                    cursor.next_call = cursor.next_call.max(Instant::now() + self.pace.idle_wait());
                }
                match &self.goal {
                    Goal::Until(Position::AtTimestamp(_)) | Goal::Budget(_) => {}
                    Goal::Until(_) => self.lose("the records of an unfinished pass are gone", None)?,
                }
                Ok(false)
            }
            Next::Ended => {
                if let Goal::Until(Position::After(_)) = &self.goal {
                    self.lose("the records of an unfinished pass are gone", None)?;
                }
                self.end();
                Ok(false)
            }
            Next::Lost { ended } => {
                self.lose("the record that was read last is gone", None)?;
                if ended {
                    self.end();
                } else {
                    (self.cursor.position, self.cursor.iterator) = (Position::TrimHorizon, None);
                }
                Ok(false)
            }
            Next::Gone(why) => {
                self.lose(&why, None)?;
                self.end();
                Ok(false)
            }
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

    fn end(&mut self) {
        (self.cursor.position, self.cursor.iterator) = (Position::End, None);
    }

    /// Records after the position are gone: that is noted, and an error unless reading is to go on.
    pub(super) fn lose(&mut self, why: &str, next: Option<&str>) -> Result<()> {
        let after = self.cursor.position.clone();
        let next = next.map(|next| SequenceNumber(next.into()));
        self.losses.lock().push(Loss { shard: self.shard.clone(), after, next, reason: why.into() });
        if self.on_data_loss == OnDataLoss::Fail {
            return Err(self.lost(why));
        }
        tracing::warn!(shard = %self.shard, after = ?self.cursor.position, why, "records are gone; going on behind them");
        self.cursor.expect = None;
        Ok(())
    }

    fn lost(&self, why: &str) -> Error {
        let message = format!("records of shard {} of Kinesis {} are gone", self.shard, self.connection.place());
        Error::new(ErrorKind::DataLoss, message)
            .with_detail(format!("reading was to go on from {:?}: {why}", self.cursor.position))
            .with_hint(LOSS_HINT)
    }
}

impl Pace {
    /// This part of it, in percent.
    pub(super) fn share(self, percent: u32) -> Self {
        match self {
            Self::Off => Self::Off,
            Self::PerShard { calls_per_s_max, bytes_per_s_max } => Self::PerShard {
                calls_per_s_max: (calls_per_s_max * percent / 100).max(1),
                bytes_per_s_max: bytes_per_s_max * percent as usize / 100,
            },
        }
    }

    /// How long a shard that had nothing new is left alone.
    fn idle_wait(&self) -> Duration {
        match self {
            Self::Off => Duration::ZERO,
            Self::PerShard { .. } => IDLE_WAIT,
        }
    }

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
