//! Puts records into a Kinesis stream, whatever the stream's mood.
//!
//! ```text
//!  records ──by hash of the key──▶ lane 1 ─▶ batch (500 records, 4.5 MiB, ─▶ PutRecords ─▶ failed ones again
//!                                                   each key once)                │
//!                                  lane 2 ─▶ ...                                  └─▶ accepted ones: the ledger
//! ```
//!
//! - One batch of a lane is on its way at a time. A record with a failed neighbour is not put again; the failed one is,
//!   after a random part of a growing wait. A key is in a batch once, so its records keep their order.
//! - A call without an answer is made again whole: records may be doubled, with new sequence numbers. Only an id in the
//!   record can tell.
//! - Throttling never fails, as long as something gets through now and then.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_kinesis::operation::put_records::PutRecordsOutput;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::KinesisSpec;
use super::kinesis::client::{Connection, Fault, fault};
use crate::error::{Error, ErrorKind, Result};

/// Records of one call.
const BATCH_RECORDS_MAX: usize = 500;
/// Bytes of one call, keys included: what every emulator takes.
const BATCH_BYTES_MAX: usize = 4_718_592;
/// Batches on their way at the same time.
const LANES: usize = 4;
/// Records that a lane holds while others of their keys are on their way.
const WAITING_RECORDS_MAX: usize = 4 * BATCH_RECORDS_MAX;
/// Records that wait before a lane.
const QUEUE_RECORDS_MAX: usize = 2 * BATCH_RECORDS_MAX;
/// How long a batch may go without one record getting through.
const STUCK_MAX: Duration = Duration::from_secs(300);
/// How long a first call may fail before the endpoint counts as wrong.
const FIRST_CALL_MAX: Duration = Duration::from_secs(10);
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// What a producer has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutCounts {
    /// Records that the stream has accepted.
    pub put: u64,
    /// Records that were put again after a failure.
    pub retried: u64,
}

/// A record that the stream has accepted.
#[derive(Debug, Clone, Copy)]
pub struct Accepted<'a> {
    /// Its partition key.
    pub key: &'a str,
    /// Its bytes.
    pub data: &'a [u8],
    /// The shard that it is in.
    pub shard_id: &'a str,
    /// Its sequence number there.
    pub sequence_number: &'a str,
}

/// Called with every record that was accepted, by several threads.
type Note = Arc<dyn Fn(Accepted<'_>) + Send + Sync>;

/// See the module.
#[derive(Clone)]
pub struct Producer {
    connection: Connection,
    counts: Arc<Counts>,
    note: Option<Note>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer({:?}, {:?})", self.connection, self.counts)
    }
}

#[derive(Debug, Default)]
struct Counts {
    put: AtomicU64,
    retried: AtomicU64,
}

impl Producer {
    /// A producer for `spec`. Nothing is sent yet.
    ///
    /// # Errors
    /// `Source` when no region is known.
    pub async fn connect(spec: &KinesisSpec) -> Result<Self> {
        Ok(Self { connection: Connection::open(spec, None).await?, counts: Arc::default(), note: None })
    }

    /// The same, telling what was accepted. Records of a call without an answer that is made again are told once, and may
    /// be there twice.
    #[must_use]
    pub fn noting(self, note: impl Fn(Accepted<'_>) + Send + Sync + 'static) -> Self {
        Self { note: Some(Arc::new(note)), ..self }
    }

    /// A producer for the stream inside this process.
    ///
    /// # Errors
    /// As [`Producer::connect`].
    pub async fn embedded(stream: &super::embedded::EmbeddedKinesis) -> Result<Self> {
        let credentials = Some(super::embedded::credentials());
        Ok(Self {
            connection: Connection::open(&stream.spec(), credentials).await?,
            counts: Arc::default(),
            note: None,
        })
    }

    /// What was done so far, by all calls together.
    pub fn counts(&self) -> PutCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        PutCounts { put: load(&self.counts.put), retried: load(&self.counts.retried) }
    }

    /// Put every record of `records` (partition key, bytes), in order for each key. Returns when all are accepted.
    ///
    /// # Errors
    /// `Source` when the stream refuses, cannot be reached, or lets nothing through for five minutes.
    pub async fn put_all(&self, records: impl Stream<Item = (String, Bytes)>) -> Result<PutCounts> {
        let before = self.counts();
        let mut lanes = Vec::with_capacity(LANES);
        let mut tasks = JoinSet::new();
        for _ in 0..LANES {
            let (lane, queue) = mpsc::channel(QUEUE_RECORDS_MAX);
            lanes.push(lane);
            tasks.spawn(self.clone().run_lane(queue));
        }
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let mut records = std::pin::pin!(records);
        while let Some((key, data)) = records.next().await {
            let lane = &lanes[(hasher.hash_one(&key) % LANES as u64) as usize];
            // A lane that is gone has failed, and tells why below.
            if lane.send((key, data)).await.is_err() {
                break;
            }
        }
        drop(lanes);
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| Error::new(ErrorKind::Internal, format!("putting records: {error}")))??;
        }
        let after = self.counts();
        Ok(PutCounts { put: after.put - before.put, retried: after.retried - before.retried })
    }

    async fn run_lane(self, mut queue: mpsc::Receiver<(String, Bytes)>) -> Result<()> {
        let mut waiting = VecDeque::new();
        let mut arrived = Vec::with_capacity(BATCH_RECORDS_MAX);
        loop {
            let room = WAITING_RECORDS_MAX.saturating_sub(waiting.len());
            if waiting.is_empty() && queue.recv_many(&mut arrived, BATCH_RECORDS_MAX).await == 0 {
                return Ok(());
            }
            waiting.extend(arrived.drain(..));
            waiting.extend(std::iter::from_fn(|| queue.try_recv().ok()).take(room));
            let batch = next_batch(&mut waiting).into_iter().map(|(key, data)| entry(key, data));
            self.put_batch(batch.collect::<Result<_>>()?).await?;
        }
    }

    async fn put_batch(&self, mut batch: Vec<PutRecordsRequestEntry>) -> Result<()> {
        let mut progress = Instant::now();
        let mut faults = 0u32;
        while !batch.is_empty() {
            let call = self.connection.plain.put_records().stream_name(&self.connection.stream);
            let call = call.set_stream_arn(self.connection.arn.clone()).set_records(Some(batch.clone()));
            let fault = match call.send().await {
                Ok(answer) => {
                    let asked = batch.len();
                    let refused = refused(&answer);
                    self.tell(&batch, &answer);
                    batch = failed(batch, &answer);
                    let put = (asked - batch.len()) as u64;
                    self.counts.put.fetch_add(put, Ordering::Relaxed);
                    if put > 0 {
                        (progress, faults) = (Instant::now(), 0);
                    }
                    refused.unwrap_or(Fault::Throttled)
                }
                Err(error) => fault(&error),
            };
            if batch.is_empty() {
                break;
            }
            let patience = if self.counts().put == 0 && fault != Fault::Throttled { FIRST_CALL_MAX } else { STUCK_MAX };
            let lasting = !matches!(fault, Fault::Throttled | Fault::Passing(_));
            if lasting || progress.elapsed() > patience {
                return Err(self.connection.error("put records into", &fault));
            }
            self.counts.retried.fetch_add(batch.len() as u64, Ordering::Relaxed);
            let most = BACK_OFF_MIN.saturating_mul(1 << faults.min(10)).min(BACK_OFF_MAX);
            faults += 1;
            tokio::time::sleep(most.mul_f64(fastrand::f64())).await;
        }
        Ok(())
    }
}

impl Producer {
    fn tell(&self, batch: &[PutRecordsRequestEntry], answer: &PutRecordsOutput) {
        let Some(note) = &self.note else { return };
        for (entry, result) in batch.iter().zip(&answer.records) {
            if let (None, Some(shard_id), Some(sequence_number)) =
                (&result.error_code, &result.shard_id, &result.sequence_number)
            {
                let key = entry.partition_key.as_deref().unwrap_or_default();
                note(Accepted { key, data: entry.data.as_ref(), shard_id, sequence_number });
            }
        }
    }
}

/// Records for one call, each key once: the first of it. The others stay, in their order.
fn next_batch(waiting: &mut VecDeque<(String, Bytes)>) -> Vec<(String, Bytes)> {
    let mut keys = HashSet::new();
    let (mut bytes, mut full) = (0, false);
    let mut batch = Vec::with_capacity(waiting.len().min(BATCH_RECORDS_MAX));
    let mut stay = VecDeque::with_capacity(waiting.len());
    for (key, data) in waiting.drain(..) {
        let size = key.len() + data.len();
        full |= batch.len() == BATCH_RECORDS_MAX || !batch.is_empty() && bytes + size > BATCH_BYTES_MAX;
        // What comes after a record that stays may be of its key.
        if full || !keys.insert(key.clone()) {
            stay.push_back((key, data));
        } else {
            bytes += size;
            batch.push((key, data));
        }
    }
    *waiting = stay;
    batch
}

fn entry(key: String, data: Bytes) -> Result<PutRecordsRequestEntry> {
    let entry = PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(Vec::from(data)));
    entry.build().map_err(|error| Error::new(ErrorKind::Internal, format!("a record without data or key: {error}")))
}

/// The records that have to be put again, in their order.
fn failed(batch: Vec<PutRecordsRequestEntry>, answer: &PutRecordsOutput) -> Vec<PutRecordsRequestEntry> {
    if answer.failed_record_count.unwrap_or(0) == 0 {
        return Vec::new();
    }
    let results = answer.records.iter().map(|result| result.error_code.is_some());
    batch.into_iter().zip(results).filter_map(|(entry, failed)| failed.then_some(entry)).collect()
}

/// A record's failure that isn't throttling.
fn refused(answer: &PutRecordsOutput) -> Option<Fault> {
    let codes = answer.records.iter().filter_map(|result| result.error_code.as_deref());
    let mut others = codes.filter(|code| *code != "ProvisionedThroughputExceededException");
    others.next().map(|code| Fault::Passing(format!("a record failed with {code}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_kinesis::types::PutRecordsResultEntry;

    #[test]
    fn a_key_is_in_a_batch_once_and_keeps_its_order() {
        let record = |key: &str, n: usize| (key.to_string(), Bytes::from(n.to_string()));
        let mut waiting: VecDeque<_> =
            [("a", 0), ("b", 1), ("a", 2), ("c", 3), ("a", 4), ("b", 5)].map(|(key, n)| record(key, n)).into();
        let mut batches = Vec::new();
        while !waiting.is_empty() {
            let batch = next_batch(&mut waiting);
            batches.push(batch.iter().map(|(_, data)| String::from_utf8_lossy(data).into_owned()).collect::<String>());
        }
        assert_eq!(batches, ["013", "25", "4"]);
        let mut waiting: VecDeque<_> = (0..BATCH_RECORDS_MAX + 3).map(|n| record(&n.to_string(), n)).collect();
        assert_eq!((next_batch(&mut waiting).len(), waiting.len()), (BATCH_RECORDS_MAX, 3));
        let large = Bytes::from(vec![0; BATCH_BYTES_MAX - 1]);
        let mut waiting: VecDeque<_> = ["a", "b"].map(|key| (key.to_string(), large.clone())).into();
        assert_eq!((next_batch(&mut waiting).len(), waiting.len()), (1, 1));
    }

    #[test]
    fn only_failed_records_are_put_again_in_order() {
        let batch: Vec<_> = (0..4).map(|n| entry(n.to_string(), Bytes::from_static(b"x")).unwrap()).collect();
        let result =
            |code: Option<&str>| PutRecordsResultEntry::builder().set_error_code(code.map(str::to_string)).build();
        let throttled = Some("ProvisionedThroughputExceededException");
        let answer = |codes: [Option<&str>; 4]| {
            let failed = codes.iter().flatten().count() as i32;
            let records = codes.map(result).to_vec();
            PutRecordsOutput::builder().set_records(Some(records)).failed_record_count(failed).build().unwrap()
        };
        let partly = answer([None, throttled, None, Some("InternalFailure")]);
        let again: Vec<String> =
            failed(batch.clone(), &partly).into_iter().map(|entry| entry.partition_key.unwrap()).collect();
        assert_eq!(again, ["1", "3"]);
        assert_eq!(refused(&partly), Some(Fault::Passing("a record failed with InternalFailure".into())));
        let whole = answer([None; 4]);
        assert!(failed(batch, &whole).is_empty());
        assert_eq!(refused(&whole), None);
    }
}
