//! What the stream is now: its shards, which life of it this is, what positions mean in it, and what is late or gone.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{KinesisSource, LOSS_HINT, State, lineage, now_ms};
use crate::epoch::{Loss, Position, Positions};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{OnDataLoss, Source, Start};

/// How often shards are listed when nothing else asks for it.
const LIST_EVERY: Duration = Duration::from_secs(10);
/// How often it is said that records may expire unread.
const WARN_EVERY: Duration = Duration::from_secs(600);

impl KinesisSource {
    /// List the shards and look which life of the stream this is.
    async fn look(&self, state: &mut State) -> Result<()> {
        let connection = self.connection().await?;
        let (incarnation, by_key, retention_ms) = match &self.behaviour.embedded {
            Some(incarnation) => (incarnation.clone(), true, 0),
            None => {
                let stream = connection.describe().await?;
                if state.incarnation.as_ref() != Some(&stream.created) {
                    state.consumer = None;
                }
                if let (None, Some(name)) = (&state.consumer, &self.spec.consumer) {
                    state.consumer = Some(connection.consumer(&stream.arn, name).await?);
                }
                (stream.created, stream.by_key, stream.retention_ms)
            }
        };
        state.retention_ms = retention_ms;
        state.shards = connection.shards().await?;
        if !by_key {
            state.shards.values_mut().for_each(|shard| shard.owned = None);
        }
        if state.incarnation.as_ref() != Some(&incarnation) {
            state.cursors.clear();
        }
        (state.incarnation, state.listed_at) = (Some(incarnation), Some(Instant::now()));
        Ok(())
    }

    /// As `look`, when it is due or a shard of `from` is unknown.
    pub(super) async fn look_if_due(&self, state: &mut State, from: Option<&Positions>) -> Result<()> {
        let Some(listed_at) = state.listed_at else {
            return self.look(state).await;
        };
        let is_unknown = |(id, at): (&String, &Position)| *at != Position::End && !state.shards.contains_key(id);
        if from.is_some_and(|from| from.shards.iter().any(is_unknown)) {
            return self.look(state).await;
        }
        if listed_at.elapsed() >= LIST_EVERY
            && let Err(error) = self.look(state).await
        {
            // Known shards can be read meanwhile; they tell if the fault stays.
            tracing::warn!(source = %self.describe(), %error, "shards not listed, next try in {LIST_EVERY:?}");
            state.listed_at = Some(Instant::now());
        }
        Ok(())
    }

    /// Positions at a first start.
    pub(super) fn first(&self, state: &State) -> Positions {
        // To the second: arrival times may be cut to seconds, and rather a moment too early than too late.
        let now = *self.started_ms.get_or_init(|| now_ms() / 1000 * 1000);
        let start = match self.spec.start {
            Start::TrimHorizon => Position::TrimHorizon,
            Start::Latest => Position::AtTimestamp(now),
            Start::AtTimestamp(ms) => Position::AtTimestamp(ms),
        };
        Positions { incarnation: state.incarnation.clone(), shards: lineage::first(&state.shards, &start) }
    }

    /// `from` as positions in this life of the stream; `None` when they belong to another and that is expected.
    pub(super) fn current(&self, state: &State, from: &Positions) -> Result<Option<Positions>> {
        match (&from.incarnation, &state.incarnation) {
            (None, _) if from.shards.is_empty() => Ok(Some(self.first(state))),
            (Some(stored), Some(now)) if stored != now => {
                if self.behaviour.embedded.is_some() {
                    return Ok(None);
                }
                let message = format!("{} was deleted and made anew since it was last read", self.describe());
                Err(Error::new(ErrorKind::DataLoss, message)
                    .with_detail(format!(
                        "stored positions are of the stream created at {stored}, this one is of {now}"
                    ))
                    .with_hint("name the new stream in a new source, or drop this source's views and start them anew"))
            }
            _ => Ok(Some(from.clone())),
        }
    }

    /// Say so, now and then, when half of the time is gone in which records are kept.
    pub(super) fn warn_if_late(&self, state: &mut State, behind_ms: &BTreeMap<String, i64>) {
        let Some((shard, behind)) = behind_ms.iter().max_by_key(|(_, behind)| **behind) else { return };
        let is_late = state.retention_ms > 0 && behind.saturating_mul(2) > state.retention_ms;
        if is_late && state.warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            state.warned_at = Some(Instant::now());
            let (behind_h, kept_h) = (behind / 3_600_000, state.retention_ms / 3_600_000);
            tracing::warn!(source = %self.describe(), %shard, behind_h, kept_h, "records may expire before they are read");
        }
    }

    /// A shard is not listed any more, and was not read to its end.
    pub(super) fn gone(&self, shard: &str, after: Position) -> Result<()> {
        let error =
            Error::new(ErrorKind::DataLoss, format!("shard {shard} of {} is gone before it was read", self.describe()))
                .with_detail(format!("it was read as far as {after:?}"))
                .with_hint(LOSS_HINT);
        let reason = "the shard is not listed any more".to_string();
        self.losses.lock().push(Loss { shard: shard.to_string(), after, next: None, reason });
        match self.spec.on_data_loss {
            OnDataLoss::Fail => Err(error),
            OnDataLoss::Continue => Ok(()),
        }
    }
}
