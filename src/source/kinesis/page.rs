//! One page of one shard: get it, and make rows of it.
//!
//! ```text
//!  no reader? ─▶ Reader::open at the position ─▶ Reader::page ─▶ records
//!    first after a resume: the record that was read last, as proof; left out
//!    first after an instant: records from before it; left out
//!    beyond the end of a range: left out
//!    packed by a producer library: its records, with sub-sequences
//!  ─▶ rows, and the position after the last of them
//! ```

use aws_sdk_kinesis::types::Record;
use tokio::time::Instant;

use super::budget::READ_RECORDS_MAX;
use super::client::Fault;
use super::decide::{Answer, Want, iterator_for};
use super::reader::{Page, Reader};
use super::shard::Job;
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
    /// One page, from a reader that is opened where there is none.
    pub(super) async fn read(&mut self, limit: usize, rows: &mut RowBuilder) -> Result<Read> {
        let nothing = |answer| Ok(Read { answer, records: 0, payload_bytes: 0, reached: false });
        if self.cursor.reader.as_ref().is_some_and(|reader| reader.is_iterator() && self.consumer.is_some()) {
            self.cursor.reader = None;
        }
        if self.cursor.reader.is_none()
            && let Some(answer) = self.open().await?
        {
            return nothing(answer);
        }
        let Some(reader) = &mut self.cursor.reader else { return nothing(Answer::Silence { behind: true }) };
        let asked = (limit + usize::from(self.cursor.expect.is_some())).min(READ_RECORDS_MAX);
        let (called, is_iterator) = (Instant::now(), reader.is_iterator());
        let page = reader.page(&self.stream.connection, asked, self.closed, self.deadline).await;
        if is_iterator {
            let bytes = page.iter().flatten().flat_map(|page| &page.records).map(|record| record.data.as_ref().len());
            self.cursor.next_call = called + self.stream.pace.wait_after(bytes.sum());
        }
        match page {
            // A subscription may keep quiet about the end of its shard. An iterator does not.
            Ok(Some(page)) if !is_iterator && self.closed && page.is_nothing() => {
                self.consumer = None;
                nothing(Answer::Fault(Fault::Expired))
            }
            Ok(Some(page)) => self.take_page(page, rows),
            Ok(None) => nothing(Answer::Silence { behind: reader.is_behind() }),
            Err(fault) => {
                if !is_iterator {
                    self.cursor.reader = None;
                }
                nothing(Answer::Fault(fault))
            }
        }
    }

    /// A reader at the position, or the answer that there is none.
    async fn open(&mut self) -> Result<Option<Answer>> {
        let nothing = Answer::Page { records: 0, full: false, behind_ms: 0, ended: false };
        let Some(want) = iterator_for(&self.cursor.position, self.stream.prove) else {
            let message = format!("{:?} is not a position of shard {}", self.cursor.position, self.shard);
            return Err(Error::new(ErrorKind::Corrupt, message));
        };
        if matches!(want, Want::AtTimestamp(at) if at > now_ms()) {
            return Ok(Some(nothing));
        }
        let went_on = self.consumer.as_ref().and(self.cursor.continuation.take()).map(Want::At);
        let proves = went_on.is_none();
        let at = went_on.as_ref().unwrap_or(&want);
        match Reader::open(&self.stream.connection, &self.shard, self.consumer.as_deref(), at).await {
            Ok(reader) => self.cursor.reader = Some(reader),
            // Our clock is ahead of the service's.
            Err(Fault::Invalid(_)) if matches!(want, Want::AtTimestamp(at) if at > now_ms() - CLOCKS_DIFFER_MS_MAX) => {
                return Ok(Some(nothing));
            }
            // Where the last subscription ended is no place any more: once more, from the position.
            Err(Fault::Invalid(_)) if !proves => return Ok(Some(Answer::Fault(Fault::Expired))),
            // The consumer or the shard: an iterator tells.
            Err(Fault::NotFound(_)) if self.consumer.take().is_some() => {
                self.consumer_gone = true;
                return Ok(Some(Answer::Fault(Fault::Expired)));
            }
            Err(fault) => return Ok(Some(Answer::Fault(fault))),
        }
        if self.consumer.is_some() {
            self.cursor.next_call = Instant::now() + self.stream.pace.wait_after(0);
        }
        self.cursor.not_before_us = if let Want::AtTimestamp(ms) = want { Some(ms * 1000) } else { None };
        self.cursor.expect = if let (Want::At(sequence), true) = (want, proves) { Some(sequence) } else { None };
        Ok(None)
    }

    /// Rows of a page. The position moves to the last of them.
    fn take_page(&mut self, page: Page, rows: &mut RowBuilder) -> Result<Read> {
        let mut records = &page.records[..];
        // What was read before comes first where a subscription went on from another, and from some emulators.
        if let Position::After(last) = &self.cursor.position {
            let (last, proof) = (place(&last.0), self.cursor.expect.is_some());
            let is_known = |at: (usize, &str)| if proof { at < last } else { at <= last };
            records = &records[records.iter().take_while(|record| is_known(place(&record.sequence_number))).count()..];
        }
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
            reached = match &self.goal.until {
                Some(Position::After(last)) => place(&record.sequence_number) > place(&last.0),
                Some(Position::AtTimestamp(ms)) => arrived_us(record) >= ms * 1000,
                _ => false,
            };
            if reached {
                break;
            }
            payload_bytes += self.push(record, rows)?;
            taken += 1;
        }
        // The range ends with this record: the next page would only tell that it does.
        if let (Some(Position::After(last)), Some(record)) = (&self.goal.until, records.last()) {
            reached |= record.sequence_number == last.0;
        }
        if let Some(last) = records[..taken].last() {
            self.cursor.position = Position::After(SequenceNumber(last.sequence_number.clone()));
        }
        // Not before the proof has come: what follows an empty page could not give it any more.
        self.cursor.continuation = page.continuation.filter(|_| self.cursor.expect.is_none());
        if page.ended {
            self.cursor.reader = None;
        }
        let (full, behind_ms, ended) = (page.full, page.behind_ms, page.ended);
        let answer = Answer::Page { records: page.records.len(), full, behind_ms, ended };
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
fn place(sequence: &str) -> (usize, &str) {
    (sequence.len(), sequence)
}
