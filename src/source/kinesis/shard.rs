//! Reading one shard: the loop around the decisions of `decide`.
//!
//! ```text
//!  Cursor (kept between polls: reader, pace, mood) ─▶ run ─▶ Outcome { rows, cursor at the new position }
//!
//!   wait for the shard's turn ─▶ reserve from the budget ─▶ a page ─▶ rows ─▶ next? ─┐
//!        ▲                                                                           │
//!        └───────────────────────────────────────────────────────────────────────────┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::aggregate::HashRange;
use super::budget::{Budget, READ_RECORDS_MAX};
use super::client::{Connection, Fault};
use super::decide::{Answer, Mood, Next, moved_on, next};
use super::lineage::Shard;
use super::reader::Reader;
use super::{LOSS_HINT, Pace, now_ms};
use crate::epoch::{Loss, Position, SequenceNumber};
use crate::error::{Error, ErrorKind, Result};
use crate::source::OnDataLoss;
use crate::source::rows::{RowBuilder, Rows};

/// How long one poll waits for the pace or after faults.
const POLL_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long one range may take to be read again, waits included.
const READ_WAIT_MAX: Duration = Duration::from_secs(120);
/// How long a shard that had nothing new is left alone, on AWS.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// Where one shard stands; what isn't a position can be made again.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) position: Position,
    pub(super) reader: Option<Reader>,
    /// Where a subscription goes on after another, which may be beyond the last record.
    pub(super) continuation: Option<SequenceNumber>,
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
            reader: None,
            continuation: None,
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
#[derive(Debug, Clone, Default)]
pub(super) struct Goal {
    /// Until the slice is full.
    pub(super) budget: Option<Arc<Budget>>,
    /// Exactly to this position; without one, until the shard is caught up.
    pub(super) until: Option<Position>,
    /// Everything up to there was there before: what isn't is lost.
    pub(super) owed: bool,
}

/// What the jobs of a stream have in common.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) connection: Connection,
    /// The stream's name, for the rows.
    pub(super) name: String,
    pub(super) prove: bool,
    /// How long the stream keeps a record, in milliseconds; 0: not known.
    pub(super) retention_ms: i64,
    pub(super) on_data_loss: OnDataLoss,
    /// What was found to be gone.
    pub(super) losses: Arc<Mutex<Vec<Loss>>>,
    pub(super) pace: Pace,
}

/// What is to be done with one shard.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) stream: Arc<Stream>,
    pub(super) shard: String,
    pub(super) cursor: Cursor,
    pub(super) closed: bool,
    /// The hash keys that the shard owns, where keys decide on shards.
    pub(super) owned: Option<HashRange>,
    /// The ARN of the enhanced fan-out consumer to read through.
    pub(super) consumer: Option<String>,
    /// That consumer is not there any more.
    pub(super) consumer_gone: bool,
    pub(super) goal: Goal,
    /// The goal's position is reached, or nothing is there any more before it.
    pub(super) done: bool,
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
    pub(super) consumer_gone: bool,
    /// See `Job`.
    pub(super) done: bool,
}

impl Job {
    /// For the shard of this name.
    pub(super) fn new(stream: &Arc<Stream>, id: &str, shard: &Shard, cursor: Cursor, goal: Goal) -> Self {
        let wait = if goal.until.is_some() { READ_WAIT_MAX } else { POLL_WAIT_MAX };
        Self {
            stream: Arc::clone(stream),
            shard: id.to_string(),
            cursor,
            closed: shard.closed,
            owned: shard.owned,
            consumer: None,
            consumer_gone: false,
            goal,
            done: false,
            deadline: Instant::now() + wait,
        }
    }

    /// See the module.
    pub(super) async fn run(mut self) -> Result<Outcome> {
        let mut rows = RowBuilder::new(&self.stream.name, &self.shard);
        let mut behind_ms = 0;
        self.cursor.mood =
            Mood { closed: self.closed, empty_reads: 0, retention_ms: self.stream.retention_ms, ..self.cursor.mood };
        let was_caught_up = std::mem::take(&mut self.cursor.caught_up);
        if was_caught_up && self.cursor.next_call > Instant::now() && !self.closed {
            self.cursor.caught_up = true;
            return self.finish(rows, 0);
        }
        while self.wait_for_turn().await? {
            let reserved = match &self.goal.budget {
                None => None,
                Some(budget) => match budget.take().await {
                    Some(reserved) => Some(reserved),
                    None => break,
                },
            };
            let read = self.read(reserved.map_or(READ_RECORDS_MAX, |reserved| reserved.records), &mut rows).await?;
            if let (Some(budget), Some(reserved)) = (&self.goal.budget, reserved) {
                budget.settle(reserved, read.records, read.payload_bytes);
            }
            if let Answer::Page { behind_ms: behind, .. } = read.answer {
                behind_ms = behind;
            }
            self.done |= read.reached;
            if self.done || !self.go_on(&read.answer)? {
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
            Answer::Silence { .. } => {}
            Answer::Fault(_) => cursor.mood.faults += 1,
        }
        match decision {
            Next::ReadOn => Ok(true),
            Next::Renew => {
                cursor.reader = None;
                Ok(true)
            }
            Next::BackOff(most) => {
                cursor.next_call = cursor.next_call.max(Instant::now() + most.mul_f64(fastrand::f64()));
                Ok(true)
            }
            // A range is read to its end, whatever the answers look like.
            Next::Yield => Ok(self.goal.until.is_some()),
            Next::CaughtUp => {
                cursor.caught_up = true;
                // An event comes by itself; a page is asked for.
                if let (Answer::Page { records: 0, .. }, Some(Reader::Iterator(_))) = (answer, &cursor.reader) {
                    cursor.next_call = cursor.next_call.max(Instant::now() + self.stream.pace.idle_wait());
                }
                self.done = true;
                if self.goal.owed && !matches!(self.goal.until, None | Some(Position::AtTimestamp(_))) {
                    self.lose("the records of an unfinished pass are gone", None)?;
                }
                Ok(false)
            }
            Next::Ended => {
                if let (true, Some(Position::After(_))) = (self.goal.owed, &self.goal.until) {
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
                    self.at(Position::TrimHorizon);
                }
                Ok(false)
            }
            Next::Gone(why) => {
                self.lose(&why, None)?;
                self.end();
                Ok(false)
            }
            Next::Fail(fault) => {
                let error = self.stream.connection.error("read", &fault);
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
        let (consumer_gone, done) = (self.consumer_gone, self.done);
        Ok(Outcome { shard: self.shard, cursor: self.cursor, rows, behind_ms, caught_up, consumer_gone, done })
    }

    /// Wait until the shard may be called. False: not within this poll.
    async fn wait_for_turn(&self) -> Result<bool> {
        if self.cursor.next_call > self.deadline {
            return match &self.goal.until {
                None => Ok(false),
                Some(_) => {
                    let fault = Fault::Passing("the records of an unfinished pass did not come in time".into());
                    Err(Error::new(
                        ErrorKind::Transient,
                        self.stream.connection.error("read", &fault).message().to_string(),
                    ))
                }
            };
        }
        if self.cursor.next_call > Instant::now() {
            tokio::time::sleep_until(self.cursor.next_call).await;
        }
        Ok(true)
    }

    fn end(&mut self) {
        self.done = true;
        self.at(Position::End);
    }

    /// Go on from another position.
    fn at(&mut self, position: Position) {
        (self.cursor.position, self.cursor.reader, self.cursor.continuation) = (position, None, None);
    }

    /// Records after the position are gone: that is noted, and an error unless reading is to go on.
    pub(super) fn lose(&mut self, why: &str, next: Option<&str>) -> Result<()> {
        self.cursor.expect = None;
        if self.goal.until.is_some() && !self.goal.owed {
            return Ok(());
        }
        let after = self.cursor.position.clone();
        let next = next.map(|next| SequenceNumber(next.into()));
        self.stream.losses.lock().push(Loss { shard: self.shard.clone(), after, next, reason: why.into() });
        if self.stream.on_data_loss == OnDataLoss::Fail {
            return Err(self.lost(why));
        }
        Ok(())
    }

    fn lost(&self, why: &str) -> Error {
        let message = format!("records of shard {} of Kinesis {} are gone", self.shard, self.stream.connection.place());
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
