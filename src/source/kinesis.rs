//! A Kinesis data stream: every shard, each from its own position, without loss or doubling.
//!
//! ```text
//!  poll(from) ─▶ shards listed (now and then, and when one ends) ─▶ lineage::plan ─▶ eligible shards
//!                                                                                      │ one task each
//!     Slice ◀── rows by shard, then sequence ◀── shard::Job::run (reader::Reader ⇄ decide::next, pace, budget) ◀┘
//! ```
//!
//! - Parents are read to their end before their children; a shard that is found later starts at its beginning.
//! - Reading goes on after the last record, and proves that this record is still the oldest unread one's neighbour:
//!   trimmed records, a vanished shard and a stream made anew stop it with `DataLoss`, never a silent skip. With
//!   `on_data_loss = continue` it goes on behind what is gone, which is noted all the same.
//! - Throttling, empty answers and expired iterators are everyday matters and no errors.
//! - A record that a producer library packed of several becomes several rows; a position is never inside of it.
//! - The byte limit of a slice may be exceeded by a part of one page per shard, as records differ in size.

mod aggregate;
mod budget;
pub(super) mod client;
mod decide;
mod decode;
mod lineage;
mod look;
mod page;
mod reader;
mod shard;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use aws_sdk_kinesis::config::Credentials;
use tokio::sync::{Mutex, OnceCell, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{KinesisSpec, Slice, SliceLimits, Source};
use crate::epoch::{Loss, Position, Positions, SourceRange};
use crate::error::{Error, ErrorKind, Result};
use client::Connection;
use lineage::Shard;
use shard::{Cursor, Goal, Job, Outcome, Stream};

/// Shards that are read at the same time.
const CONCURRENT_READS_MAX: usize = 32;

/// What helps against a loss.
const LOSS_HINT: &str = "they expired before they were read: lengthen the stream's retention. What is landed is whole; \
    with the table's option 'on_data_loss' 'continue' reading goes on behind the gap, which system.data_loss shows";

/// How fast a shard may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it answers; for a stream on this machine.
    Off,
    /// Limits for each shard.
    PerShard {
        /// Reads per second.
        calls_per_s_max: u32,
        /// Bytes per second.
        bytes_per_s_max: usize,
    },
}

impl Default for Pace {
    /// What Kinesis grants to all readers of a shard together.
    fn default() -> Self {
        Self::PerShard { calls_per_s_max: 5, bytes_per_s_max: 2_000_000 }
    }
}

/// What differs between a stream on AWS and the embedded one.
#[derive(Debug, Clone, Default)]
pub(super) struct Behaviour {
    pub(super) pace: Pace,
    /// The stream lives as long as this process: another life of it is expected, and landed records are trimmed.
    pub(super) embedded: Option<String>,
    pub(super) credentials: Option<Credentials>,
}

/// A source over a Kinesis data stream; see the module.
#[derive(Debug)]
pub struct KinesisSource {
    spec: KinesisSpec,
    behaviour: Behaviour,
    connection: OnceCell<Connection>,
    started_ms: OnceLock<i64>,
    losses: Arc<parking_lot::Mutex<Vec<Loss>>>,
    state: Mutex<State>,
}

/// What is known of the stream, and where its shards are being read.
#[derive(Debug, Default)]
struct State {
    incarnation: Option<String>,
    retention_ms: i64,
    shards: BTreeMap<String, Shard>,
    listed_at: Option<Instant>,
    cursors: HashMap<String, Cursor>,
    /// The ARN of the enhanced fan-out consumer to read through.
    consumer: Option<String>,
    /// When it was said last that records may expire unread.
    warned_at: Option<Instant>,
    /// Records and bytes of the slices so far: what the next one's records are taken to weigh.
    usual: Option<(usize, usize)>,
}

impl KinesisSource {
    /// Connects when it is first asked for something.
    pub fn new(spec: KinesisSpec) -> Self {
        let pace = Pace::default().share(spec.read_percent);
        Self::with_pace(spec, pace)
    }

    /// The same, at another pace.
    pub fn with_pace(spec: KinesisSpec, pace: Pace) -> Self {
        Self::with(spec, Behaviour { pace, ..Behaviour::default() })
    }

    pub(super) fn with(spec: KinesisSpec, behaviour: Behaviour) -> Self {
        Self {
            spec,
            behaviour,
            connection: OnceCell::new(),
            started_ms: OnceLock::new(),
            losses: Arc::default(),
            state: Mutex::default(),
        }
    }

    async fn connection(&self) -> Result<&Connection> {
        self.connection.get_or_try_init(|| Connection::open(&self.spec, self.behaviour.credentials.clone())).await
    }

    /// What all shards are read with.
    async fn stream(&self, retention_ms: i64) -> Result<Arc<Stream>> {
        Ok(Arc::new(Stream {
            connection: self.connection().await?.clone(),
            name: self.spec.name().to_string(),
            prove: self.behaviour.embedded.is_none(),
            retention_ms,
            on_data_loss: self.spec.on_data_loss,
            losses: Arc::clone(&self.losses),
            pace: self.behaviour.pace,
        }))
    }
}

impl KinesisSource {
    /// Every shard as far as the range goes, or the goal's budget.
    async fn read_range(&self, range: &SourceRange, goal: Goal) -> Result<Slice> {
        let mut slice = Slice { to: range.to.clone(), caught_up: true, ..Slice::default() };
        let (from, shards, retention_ms) = {
            let mut state = self.state.lock().await;
            self.look_if_due(&mut state, Some(&range.to)).await?;
            if self.current(&state, &range.to)?.is_none() {
                return Ok(slice);
            }
            // A first range of an older life of the embedded stream starts at the beginning of this one.
            (self.current(&state, &range.from)?.unwrap_or_default(), state.shards.clone(), state.retention_ms)
        };
        let stream = self.stream(retention_ms).await?;
        let mut jobs = Vec::new();
        for (id, to) in &range.to.shards {
            let at = from.shards.get(id).cloned().unwrap_or(Position::TrimHorizon);
            if at == *to || *to == Position::TrimHorizon {
                continue;
            }
            match shards.get(id) {
                Some(shard) => {
                    let shard = Shard { closed: *to == Position::End, ..shard.clone() };
                    let goal = Goal { until: Some(to.clone()), ..goal.clone() };
                    jobs.push(Job::new(&stream, id, &shard, Cursor::new(at), goal));
                }
                None if goal.owed => self.gone(id, at)?,
                None => {}
            }
        }
        for outcome in run_all(jobs).await? {
            slice.records += outcome.rows.records;
            slice.payload_bytes += outcome.rows.payload_bytes;
            slice.batches.extend(outcome.rows.batches);
            if !outcome.done {
                slice.to.shards.insert(outcome.shard, outcome.cursor.position);
            }
        }
        slice.batches = super::rows::coalesce(slice.batches)?;
        Ok(slice)
    }
}

/// Run the jobs at the same time; outcomes by shard.
async fn run_all(jobs: Vec<Job>) -> Result<Vec<Outcome>> {
    let mut tasks = JoinSet::new();
    let turns = Arc::new(Semaphore::new(CONCURRENT_READS_MAX));
    for job in jobs {
        let turns = Arc::clone(&turns);
        tasks.spawn(async move {
            let _turn = turns.acquire_owned().await;
            job.run().await
        });
    }
    let mut outcomes = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        let outcome = outcome.map_err(|error| Error::new(ErrorKind::Internal, format!("reading a shard: {error}")))?;
        outcomes.push(outcome?);
    }
    outcomes.sort_by(|a, b| a.shard.cmp(&b.shard));
    Ok(outcomes)
}

#[async_trait]
impl Source for KinesisSource {
    fn describe(&self) -> String {
        match (&self.spec.region, &self.spec.endpoint_url) {
            (_, Some(endpoint)) => format!("kinesis:{} at {endpoint}", self.spec.name()),
            (Some(region), None) => format!("kinesis://{region}/{}", self.spec.name()),
            (None, None) => format!("kinesis:{}", self.spec.name()),
        }
    }

    async fn start(&self) -> Result<Positions> {
        let mut state = self.state.lock().await;
        self.look_if_due(&mut state, None).await?;
        Ok(self.first(&state))
    }

    async fn since(&self, instant_ms: i64) -> Result<Positions> {
        let mut state = self.state.lock().await;
        self.look_if_due(&mut state, None).await?;
        let shards = lineage::first(&state.shards, &Position::AtTimestamp(instant_ms));
        Ok(Positions { incarnation: state.incarnation.clone(), shards })
    }

    async fn poll(&self, from: Option<&Positions>, limits: SliceLimits) -> Result<Slice> {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        self.look_if_due(state, from).await?;
        let mut from = match from {
            None => self.first(state),
            Some(from) => self.current(state, from)?.unwrap_or_default(),
        };
        let plan = loop {
            match lineage::plan(&state.shards, &from.shards) {
                Ok(plan) => break plan,
                Err(lost) => {
                    self.gone(&lost.shard, lost.position)?;
                    from.shards.insert(lost.shard, Position::End);
                }
            }
        };
        let stream = self.stream(state.retention_ms).await?;
        let budget = Arc::new(budget::Budget::new(limits, state.usual));
        let jobs = plan.eligible.iter().map(|id| {
            let at = &plan.positions[id];
            let cursor = state.cursors.remove(id).filter(|cursor| cursor.position == *at);
            let cursor = cursor.unwrap_or_else(|| Cursor::new(at.clone()));
            let goal = Goal { budget: Some(Arc::clone(&budget)), ..Goal::default() };
            Job { consumer: state.consumer.clone(), ..Job::new(&stream, id, &state.shards[id], cursor, goal) }
        });
        let outcomes = run_all(jobs.collect()).await?;
        state.usual = budget.usual();
        let mut slice = Slice { caught_up: true, ..Slice::default() };
        let mut behind_ms = BTreeMap::new();
        slice.to = Positions { incarnation: state.incarnation.clone(), shards: plan.positions };
        for outcome in outcomes {
            let ended = outcome.cursor.position == Position::End;
            slice.to.shards.insert(outcome.shard.clone(), outcome.cursor.position.clone());
            slice.records += outcome.rows.records;
            slice.payload_bytes += outcome.rows.payload_bytes;
            slice.caught_up &= outcome.caught_up;
            if outcome.behind_ms > 0 {
                behind_ms.insert(outcome.shard.clone(), outcome.behind_ms);
            }
            slice.batches.extend(outcome.rows.batches);
            if outcome.consumer_gone {
                (state.consumer, state.listed_at) = (None, None);
            }
            if ended {
                // Its children may be read now, or aren't listed yet.
                state.listed_at = None;
            } else {
                state.cursors.insert(outcome.shard, outcome.cursor);
            }
        }
        slice.batches = super::rows::coalesce(slice.batches)?;
        self.warn_if_late(state, &behind_ms);
        slice.behind_ms = Some(behind_ms);
        Ok(slice)
    }

    async fn read(&self, range: &SourceRange) -> Result<Slice> {
        self.read_range(range, Goal { owed: true, ..Goal::default() }).await
    }

    async fn reread(&self, range: &SourceRange, limits: SliceLimits) -> Result<Slice> {
        let budget = Arc::new(budget::Budget::new(limits, self.state.lock().await.usual));
        self.read_range(range, Goal { budget: Some(budget), ..Goal::default() }).await
    }

    fn losses(&self) -> Vec<Loss> {
        // In the order of the shards, which are read at the same time.
        let mut losses = std::mem::take(&mut *self.losses.lock());
        losses.sort_by(|a, b| a.shard.cmp(&b.shard));
        losses
    }

    async fn landed(&self, _to: &Positions) -> Result<()> {
        Ok(())
    }
}

/// Milliseconds since 1970 UTC.
fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
