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

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Record, ShardIteratorType};
use tokio::time::Instant;

use super::budget::{Budget, READ_RECORDS_MAX};
use super::client::{Connection, Fault, fault};
use super::decide::{Answer, Mood, Next, Want, iterator_for, moved_on, next};
use super::{Pace, decode, now_ms};
use crate::epoch::{Position, SequenceNumber};
use crate::error::{Error, ErrorKind, Result};
use crate::source::rows::{Row, RowBuilder, Rows};

/// Clocks of client and service differ by less than this, in milliseconds; requests would be refused otherwise.
const CLOCKS_DIFFER_MS_MAX: i64 = 15 * 60 * 1000;

/// Where one shard stands; what isn't a position can be made again.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) position: Position,
    iterator: Option<String>,
    /// The record that must come first, to prove that none was trimmed before it.
    expect: Option<SequenceNumber>,
    /// Records that come first and arrived before this instant are passed over, in microseconds: where a shard has
    /// nothing newer, emulators give its oldest records.
    not_before_us: Option<i64>,
    next_call: Instant,
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

/// A read of one page.
struct Read {
    answer: Answer,
    bytes: usize,
    /// The goal's position is reached.
    reached: bool,
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

    /// One GetRecords, with a GetShardIterator before it where there is no iterator.
    async fn read(&mut self, limit: usize, rows: &mut RowBuilder) -> Result<Read> {
        let empty = Answer::Page { records: 0, full: false, behind_ms: 0, ended: false };
        let nothing = |answer| Ok(Read { answer, bytes: 0, reached: false });
        if self.cursor.iterator.is_none() {
            let Some(want) = iterator_for(&self.cursor.position, self.prove) else {
                let message = format!("{:?} is not a position of shard {}", self.cursor.position, self.shard);
                return Err(Error::new(ErrorKind::Corrupt, message));
            };
            if matches!(want, Want::AtTimestamp(at) if at > now_ms()) {
                return nothing(empty);
            }
            match self.iterator(&want).await {
                Ok(iterator) => self.cursor.iterator = iterator,
                // Our clock is ahead of the service's.
                Err(Fault::Invalid(_)) if matches!(want, Want::AtTimestamp(at) if at > now_ms() - CLOCKS_DIFFER_MS_MAX) =>
                {
                    return nothing(empty);
                }
                Err(fault) => return nothing(Answer::Fault(fault)),
            }
            self.cursor.not_before_us = if let Want::AtTimestamp(ms) = want { Some(ms * 1000) } else { None };
            self.cursor.expect = if let Want::At(sequence) = want { Some(sequence) } else { None };
        }
        let asked = (limit + usize::from(self.cursor.expect.is_some())).min(READ_RECORDS_MAX);
        let called = Instant::now();
        let call = self.connection.plain.get_records().set_shard_iterator(self.cursor.iterator.clone());
        let call = call.set_stream_arn(self.connection.arn.clone()).limit(asked as i32);
        match call.send().await {
            Ok(page) => {
                let read = self.take_page(page, asked, rows)?;
                self.cursor.next_call = called + self.pace.wait_after(read.bytes);
                Ok(read)
            }
            Err(error) => {
                self.cursor.next_call = called + self.pace.wait_after(0);
                nothing(Answer::Fault(fault(&error)))
            }
        }
    }

    async fn iterator(&self, want: &Want) -> Result<Option<String>, Fault> {
        let connection = &self.connection;
        let call = connection.plain.get_shard_iterator().stream_name(&connection.stream);
        let call = call.set_stream_arn(connection.arn.clone()).shard_id(&self.shard);
        let call = match want {
            Want::TrimHorizon => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Want::AtTimestamp(ms) => {
                call.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(*ms))
            }
            Want::At(sequence) => {
                call.shard_iterator_type(ShardIteratorType::AtSequenceNumber).starting_sequence_number(&sequence.0)
            }
            Want::After(sequence) => {
                call.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(&sequence.0)
            }
        };
        let answer = call.send().await.map_err(|error| fault(&error))?;
        answer.shard_iterator.map(Some).ok_or_else(|| Fault::Passing("an answer without an iterator".into()))
    }

    /// Rows of a page. The position moves to the last of them.
    fn take_page(&mut self, page: GetRecordsOutput, asked: usize, rows: &mut RowBuilder) -> Result<Read> {
        let full = page.records.len() >= asked;
        let mut records = &page.records[..];
        if let (Some(expect), Some((first, rest))) = (&self.cursor.expect, records.split_first()) {
            if first.sequence_number != expect.0 {
                return Err(self.lost(&format!("the oldest record that is held is {}", first.sequence_number)));
            }
            self.cursor.expect = None;
            records = rest;
        }
        if let Some(not_before_us) = self.cursor.not_before_us {
            let early = records.iter().take_while(|record| arrived_us(record) < not_before_us).count();
            records = &records[early..];
            if !records.is_empty() {
                self.cursor.not_before_us = None;
            }
        }
        let (mut bytes, mut reached) = (0, false);
        for record in records {
            match &self.goal {
                Goal::Until(Position::After(last)) if is_later(&record.sequence_number, &last.0) => reached = true,
                Goal::Until(Position::AtTimestamp(ms)) if arrived_us(record) >= ms * 1000 => reached = true,
                _ => {}
            }
            if reached {
                break;
            }
            bytes += push(record, rows)?;
        }
        // The range ends with this record: the next page would only tell that it does.
        if let (Goal::Until(Position::After(last)), Some(record)) = (&self.goal, records.last()) {
            reached |= record.sequence_number == last.0;
        }
        if let Some(last) = records.last() {
            self.cursor.position = Position::After(SequenceNumber(last.sequence_number.clone()));
        }
        self.cursor.iterator = page.next_shard_iterator;
        let answer = Answer::Page {
            records: page.records.len(),
            full,
            behind_ms: page.millis_behind_latest.unwrap_or(0),
            ended: self.cursor.iterator.is_none(),
        };
        Ok(Read { answer, bytes, reached })
    }

    fn lost(&self, why: &str) -> Error {
        let message = format!("records of shard {} of Kinesis {} are gone", self.shard, self.connection.place());
        Error::new(ErrorKind::DataLoss, message)
            .with_detail(format!("reading was to go on from {:?}: {why}", self.cursor.position))
            .with_hint("they expired before they were read: lengthen the stream's retention; what is landed is whole")
    }
}

fn push(record: &Record, rows: &mut RowBuilder) -> Result<usize> {
    let (payload, error) = decode::payload(record.data.as_ref());
    rows.push(&Row {
        sequence: &record.sequence_number,
        key: record.partition_key.as_deref(),
        arrived_us: arrived_us(record),
        payload: &payload,
        error: error.as_deref(),
    })?;
    Ok(payload.len())
}

fn arrived_us(record: &Record) -> i64 {
    let arrived = record.approximate_arrival_timestamp;
    arrived.map_or(0, |at| at.secs() * 1_000_000 + i64::from(at.subsec_nanos()) / 1000)
}

/// Sequence numbers order by length, then bytes.
fn is_later(a: &str, b: &str) -> bool {
    (a.len(), a) > (b.len(), b)
}

impl Pace {
    /// Time from one call to the next after a read of so many bytes.
    fn wait_after(&self, bytes: usize) -> Duration {
        match self {
            Self::Off => Duration::ZERO,
            Self::PerShard { calls_per_s_max, bytes_per_s_max } => {
                let calls = Duration::from_secs(1) / (*calls_per_s_max).max(1);
                calls.max(Duration::from_secs_f64(bytes as f64 / (*bytes_per_s_max).max(1) as f64))
            }
        }
    }
}
