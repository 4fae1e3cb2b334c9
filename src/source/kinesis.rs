//! A Kinesis data stream: every shard, each from its own position, without loss or doubling.
//!
//! ```text
//!  poll(from) ─▶ shards listed (now and then, and when one ends) ─▶ lineage::plan ─▶ eligible shards
//!                                                                                      │ one task each
//!     Slice ◀── rows by shard, then sequence ◀── shard::Job::run (GetRecords ⇄ decide::next, pace, budget) ◀┘
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
mod shard;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::config::Credentials;
use tokio::sync::{Mutex, OnceCell, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{KinesisSpec, OnDataLoss, Slice, SliceLimits, Source};
use crate::epoch::{Loss, Position, Positions, SourceRange};
use crate::error::{Error, ErrorKind, Result};
use client::Connection;
use lineage::Shard;
use shard::{Cursor, Goal, Job, Outcome};

/// Shards that are read at the same time.
const CONCURRENT_READS_MAX: usize = 32;
/// How long one poll waits for the pace or after faults.
const POLL_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long one range may take to be read again, waits included.
const READ_WAIT_MAX: Duration = Duration::from_secs(120);

/// How often it is said that records may expire unread.
const WARN_EVERY: Duration = Duration::from_secs(600);

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

    fn job(
        &self,
        connection: &Connection,
        retention_ms: i64,
        (id, shard): (&str, &Shard),
        cursor: Cursor,
        goal: Goal,
    ) -> Job {
        let wait = if matches!(goal, Goal::Until(_)) { READ_WAIT_MAX } else { POLL_WAIT_MAX };
        Job {
            connection: connection.clone(),
            stream: self.spec.name().to_string(),
            shard: id.to_string(),
            cursor,
            closed: shard.closed,
            owned: shard.owned,
            prove: self.behaviour.embedded.is_none(),
            retention_ms,
            on_data_loss: self.spec.on_data_loss,
            losses: Arc::clone(&self.losses),
            pace: self.behaviour.pace,
            goal,
            deadline: Instant::now() + wait,
        }
    }
}

impl KinesisSource {
    /// Say so, now and then, when half of the time is gone in which records are kept.
    fn warn_if_late(&self, state: &mut State, behind_ms: &BTreeMap<String, i64>) {
        let Some((shard, behind)) = behind_ms.iter().max_by_key(|(_, behind)| **behind) else { return };
        let is_late = state.retention_ms > 0 && behind.saturating_mul(2) > state.retention_ms;
        if is_late && state.warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            state.warned_at = Some(Instant::now());
            let (behind_h, kept_h) = (behind / 3_600_000, state.retention_ms / 3_600_000);
            tracing::warn!(source = %self.describe(), %shard, behind_h, kept_h, "records may expire before they are read");
        }
    }

    /// A shard is not listed any more, and was not read to its end.
    fn gone(&self, shard: &str, after: Position) -> Result<()> {
        let error =
            Error::new(ErrorKind::DataLoss, format!("shard {shard} of {} is gone before it was read", self.describe()))
                .with_detail(format!("it was read as far as {after:?}"))
                .with_hint(LOSS_HINT);
        let reason = "the shard is not listed any more".to_string();
        self.losses.lock().push(Loss { shard: shard.to_string(), after, next: None, reason });
        match self.spec.on_data_loss {
            OnDataLoss::Fail => Err(error),
            OnDataLoss::Continue => {
                tracing::warn!(%error, "going on without it");
                Ok(())
            }
        }
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
        let connection = self.connection().await?;
        let budget = Arc::new(budget::Budget::new(limits, state.usual));
        let jobs = plan.eligible.iter().map(|id| {
            let at = &plan.positions[id];
            let cursor = state.cursors.remove(id).filter(|cursor| cursor.position == *at);
            let cursor = cursor.unwrap_or_else(|| Cursor::new(at.clone()));
            let goal = Goal::Budget(Arc::clone(&budget));
            self.job(connection, state.retention_ms, (id, &state.shards[id]), cursor, goal)
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
        let connection = self.connection().await?;
        let mut jobs = Vec::new();
        for (id, to) in &range.to.shards {
            let at = from.shards.get(id).cloned().unwrap_or(Position::TrimHorizon);
            if at == *to || *to == Position::TrimHorizon {
                continue;
            }
            let Some(shard) = shards.get(id) else {
                self.gone(id, at)?;
                continue;
            };
            let shard = Shard { closed: *to == Position::End, ..shard.clone() };
            jobs.push(self.job(connection, retention_ms, (id, &shard), Cursor::new(at), Goal::Until(to.clone())));
        }
        for outcome in run_all(jobs).await? {
            slice.records += outcome.rows.records;
            slice.payload_bytes += outcome.rows.payload_bytes;
            slice.batches.extend(outcome.rows.batches);
        }
        slice.batches = super::rows::coalesce(slice.batches)?;
        Ok(slice)
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
