//! Where the records of a shard come from: pages that are asked for, or events that are sent.
//!
//! ```text
//!  Want ─┬─ GetShardIterator ─▶ Iterator ─── GetRecords ─▶ Page     all readers of a shard share 5 calls and 2 MB a second
//!        └─ SubscribeToShard ─▶ Subscription ── event ───▶ Page     enhanced fan-out: 2 MB a second for this consumer alone
//! ```
//!
//! A subscription ends after five minutes, by the service's design, and another one goes on where it ended. Events that
//! nobody takes stay in the connection's window: the service stops sending.

use std::time::Duration;

use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::primitives::event_stream::EventReceiver;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError;
use aws_sdk_kinesis::types::{Record, ShardIteratorType, StartingPosition, SubscribeToShardEventStream};
use tokio::time::{Instant, timeout_at};

use super::client::{Connection, Fault, fault};
use super::decide::Want;
use crate::epoch::SequenceNumber;

/// A subscription from which nothing has come for so long is dead: while all is well, an event comes every five seconds.
const SILENCE_MAX: Duration = Duration::from_secs(35);
/// How long an event is waited for where none is expected.
const EVENT_WAIT: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub(super) enum Reader {
    Iterator(String),
    Subscription(Box<Subscription>),
}

/// Events of one shard.
#[derive(Debug)]
pub(super) struct Subscription {
    events: EventReceiver<SubscribeToShardEventStream, SubscribeToShardEventStreamError>,
    /// What is left of the last event: fewer records were asked for.
    rest: Option<Page>,
    heard_at: Instant,
    /// The last event told that there is more, or none has come.
    behind: bool,
}

/// Records, maybe none.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) records: Vec<Record>,
    /// As many as were asked for.
    pub(super) full: bool,
    /// What the service says about the distance to the newest record, in milliseconds.
    pub(super) behind_ms: i64,
    /// The shard is closed and read.
    pub(super) ended: bool,
    /// Where another subscription goes on.
    pub(super) continuation: Option<SequenceNumber>,
}

impl Page {
    /// No records, no word of more, and no end.
    pub(super) fn is_nothing(&self) -> bool {
        self.records.is_empty() && self.behind_ms == 0 && !self.ended
    }
}

impl Reader {
    /// At what is wanted; through the enhanced fan-out consumer with this ARN, if there is one.
    pub(super) async fn open(
        connection: &Connection,
        shard: &str,
        consumer: Option<&str>,
        want: &Want,
    ) -> Result<Self, Fault> {
        let (kind, sequence, instant) = match want {
            Want::TrimHorizon => (ShardIteratorType::TrimHorizon, None, None),
            Want::AtTimestamp(ms) => (ShardIteratorType::AtTimestamp, None, Some(DateTime::from_millis(*ms))),
            Want::At(sequence) => (ShardIteratorType::AtSequenceNumber, Some(sequence.0.clone()), None),
            Want::After(sequence) => (ShardIteratorType::AfterSequenceNumber, Some(sequence.0.clone()), None),
        };
        let Some(consumer) = consumer else {
            let call = connection.plain.get_shard_iterator().stream_name(&connection.stream).shard_id(shard);
            let call = call.set_stream_arn(connection.arn.clone()).shard_iterator_type(kind);
            let call = call.set_starting_sequence_number(sequence).set_timestamp(instant);
            let answer = call.send().await.map_err(|error| fault(&error))?;
            let iterator = answer.shard_iterator.map(Self::Iterator);
            return iterator.ok_or_else(|| Fault::Passing("an answer without an iterator".into()));
        };
        let position = StartingPosition::builder().r#type(kind).set_sequence_number(sequence).set_timestamp(instant);
        let position = position.build().map_err(|error| Fault::Refused(error.to_string()))?;
        let call = connection.plain.subscribe_to_shard().consumer_arn(consumer).shard_id(shard);
        let answer = call.starting_position(position).send().await.map_err(|error| fault(&error))?;
        let (events, heard_at) = (answer.event_stream, Instant::now());
        Ok(Self::Subscription(Box::new(Subscription { events, rest: None, heard_at, behind: true })))
    }

    pub(super) fn is_iterator(&self) -> bool {
        matches!(self, Self::Iterator(_))
    }

    /// There is more, as far as is known.
    pub(super) fn is_behind(&self) -> bool {
        matches!(self, Self::Subscription(subscription) if subscription.behind)
    }

    /// The next records. `None`: no event has come yet. An end is waited for where the shard is closed.
    pub(super) async fn page(
        &mut self,
        connection: &Connection,
        asked: usize,
        closed: bool,
        deadline: Instant,
    ) -> Result<Option<Page>, Fault> {
        match self {
            Self::Iterator(iterator) => {
                let call = connection.plain.get_records().shard_iterator(iterator.as_str()).limit(asked as i32);
                let call = call.set_stream_arn(connection.arn.clone());
                let page = call.send().await.map_err(|error| fault(&error))?;
                let ended = page.next_shard_iterator.is_none();
                *iterator = page.next_shard_iterator.unwrap_or_default();
                Ok(Some(Page {
                    full: page.records.len() >= asked,
                    records: page.records,
                    behind_ms: page.millis_behind_latest.unwrap_or(0),
                    ended,
                    continuation: None,
                }))
            }
            Self::Subscription(subscription) => {
                if subscription.rest.is_none() {
                    let soon = Instant::now() + EVENT_WAIT;
                    let until = if subscription.behind || closed { deadline.max(soon) } else { soon };
                    subscription.rest = subscription.next(until).await?;
                }
                Ok(subscription.taken(asked))
            }
        }
    }
}

impl Subscription {
    async fn next(&mut self, until: Instant) -> Result<Option<Page>, Fault> {
        let event = match timeout_at(until, self.events.recv()).await {
            Err(_) if self.heard_at.elapsed() < SILENCE_MAX => return Ok(None),
            // Silent, or at its end: another one goes on.
            Err(_) | Ok(Ok(None)) => return Err(Fault::Expired),
            Ok(Ok(Some(event))) => event,
            Ok(Err(error)) => return Err(fault(&error)),
        };
        self.heard_at = Instant::now();
        let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event else { return Ok(None) };
        // A shard's last event has no continuation. Some emulators tell of the children before that, and send one more.
        let has_children = event.child_shards.is_some_and(|children| !children.is_empty());
        let continuation = Some(event.continuation_sequence_number).filter(|sequence| !sequence.is_empty());
        self.behind = event.millis_behind_latest > 0;
        Ok(Some(Page {
            full: false,
            behind_ms: event.millis_behind_latest,
            ended: has_children && (continuation.is_none() || event.records.is_empty()),
            continuation: continuation.map(SequenceNumber),
            records: event.records,
        }))
    }

    /// Up to so many records of the last event.
    fn taken(&mut self, asked: usize) -> Option<Page> {
        let mut page = self.rest.take()?;
        if page.records.len() <= asked {
            return Some(page);
        }
        let later = page.records.split_off(asked);
        let records = std::mem::replace(&mut page.records, later);
        let first = Page { records, full: true, behind_ms: page.behind_ms, ended: false, continuation: None };
        self.rest = Some(page);
        Some(first)
    }
}
