//! One page of one shard: get it, and make rows of it.
//!
//! ```text
//!  no iterator? ─▶ GetShardIterator at the position ─▶ GetRecords ─▶ records
//!    first after a resume: the record that was read last, as proof; left out
//!    first after an instant: records from before it; left out
//!    beyond the end of a range: left out
//!    packed by a producer library: its records, with sub-sequences
//!  ─▶ rows, and the position after the last of them
//! ```

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Record, ShardIteratorType};
use tokio::time::Instant;

use super::budget::READ_RECORDS_MAX;
use super::client::{Fault, fault};
use super::decide::{Answer, Want, iterator_for};
use super::shard::{Goal, Job};
use super::{aggregate, decode, now_ms};
use crate::epoch::{Position, SequenceNumber};
use crate::error::{Error, ErrorKind, Result};
use crate::source::rows::{Row, RowBuilder};

/// Clocks of client and service differ by less than this, in milliseconds; requests would be refused otherwise.
const CLOCKS_DIFFER_MS_MAX: i64 = 15 * 60 * 1000;

/// A read of one page.
pub(super) struct Read {
    pub(super) answer: Answer,
    /// Records of the stream that rows were made of.
    pub(super) records: usize,
    /// Bytes of their rows' payloads.
    pub(super) payload_bytes: usize,
    /// The goal's position is reached.
    pub(super) reached: bool,
}

impl Job {
    /// One GetRecords, with a GetShardIterator before it where there is no iterator.
    pub(super) async fn read(&mut self, limit: usize, rows: &mut RowBuilder) -> Result<Read> {
        let empty = Answer::Page { records: 0, full: false, behind_ms: 0, ended: false };
        let nothing = |answer| Ok(Read { answer, records: 0, payload_bytes: 0, reached: false });
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
                let bytes = page.records.iter().map(|record| record.data.as_ref().len()).sum();
                let read = self.take_page(page, asked, rows)?;
                self.cursor.next_call = called + self.pace.wait_after(bytes);
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
                self.lose("the oldest record that is held is a later one", Some(&first.sequence_number))?;
            } else {
                self.cursor.expect = None;
                records = rest;
            }
        }
        if let Some(not_before_us) = self.cursor.not_before_us {
            let early = records.iter().take_while(|record| arrived_us(record) < not_before_us).count();
            records = &records[early..];
            if !records.is_empty() {
                self.cursor.not_before_us = None;
            }
        }
        let (mut taken, mut payload_bytes, mut reached) = (0, 0, false);
        for record in records {
            match &self.goal {
                Goal::Until(Position::After(last)) if is_later(&record.sequence_number, &last.0) => reached = true,
                Goal::Until(Position::AtTimestamp(ms)) if arrived_us(record) >= ms * 1000 => reached = true,
                _ => {}
            }
            if reached {
                break;
            }
            payload_bytes += self.push(record, rows)?;
            taken += 1;
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
        Ok(Read { answer, records: taken, payload_bytes, reached })
    }

    /// The rows of one record of the stream; bytes of their payloads.
    fn push(&self, record: &Record, rows: &mut RowBuilder) -> Result<usize> {
        let data = record.data.as_ref();
        let (sequence, arrived_us) = (record.sequence_number.as_str(), arrived_us(record));
        let key = record.partition_key.as_deref();
        let row = Row { sequence, sub_sequence: 0, key, arrived_us, payload: data, error: None };
        match aggregate::unpack(data, self.owned.as_ref()) {
            None => push_decoded(row, rows),
            Some(Err(why)) => rows.push(&Row { error: Some(&why), ..row }).map(|()| data.len()),
            Some(Ok(aggregate)) => {
                let packed = aggregate.records().zip(0..);
                packed
                    .map(|((key, payload), sub_sequence)| {
                        push_decoded(Row { key: Some(key), sub_sequence, payload, ..row }, rows)
                    })
                    .sum()
            }
        }
    }
}

/// One row, its payload decompressed.
fn push_decoded(row: Row<'_>, rows: &mut RowBuilder) -> Result<usize> {
    let (payload, error) = decode::payload(row.payload);
    rows.push(&Row { payload: &payload, error: error.as_deref(), ..row })?;
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
