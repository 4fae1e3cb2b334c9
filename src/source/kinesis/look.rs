//! What the stream is now: its shards, which life of it this is, and what positions mean in it.

use std::time::Duration;

use tokio::time::Instant;

use super::{KinesisSource, State, lineage, now_ms};
use crate::epoch::{Position, Positions};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Source, Start};

/// How often shards are listed when nothing else asks for it.
const LIST_EVERY: Duration = Duration::from_secs(10);

impl KinesisSource {
    /// List the shards and look which life of the stream this is.
    async fn look(&self, state: &mut State) -> Result<()> {
        let connection = self.connection().await?;
        let (incarnation, by_key, retention_ms) = match &self.behaviour.embedded {
            Some(incarnation) => (incarnation.clone(), true, 0),
            None => {
                let stream = connection.describe().await?;
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
}
