//! What sources have lost: written down before anything goes on, or stops.
//!
//! ```text
//!  poll, read ─▶ Source::losses ─▶ _flash/data_loss/<hash of source, shard, position>.json   put-if-absent ─▶ system.data_loss
//! ```
//!
//! The name follows from what was lost: a loss that is noticed again, after a crash or by every start that stops at it, is
//! one record.

use std::future::Future;

use crate::engine::Engine;
use crate::epoch::{DataLoss, Loss};
use crate::error::{Error, Result};
use crate::name::TableName;
use crate::source::{Slice, Source};

/// Folder of the records.
const DATA_LOSS: &str = "_flash/data_loss";

/// Records that are read when a lake is opened.
const LOADED_MAX: usize = 1_000;

impl Engine {
    /// What sources have lost: the newest thousand at the start, and all since. In the order in which it was found.
    pub fn losses(&self) -> Vec<DataLoss> {
        self.losses.read().clone()
    }

    /// What a source answers; what it has lost is written down first.
    pub(super) async fn noted(
        &self,
        name: &TableName,
        source: &dyn Source,
        answer: impl Future<Output = Result<Slice>>,
    ) -> Result<Slice> {
        let slice = answer.await;
        for loss in source.losses() {
            self.note(name, loss).await?;
        }
        slice
    }

    async fn note(&self, source: &TableName, loss: Loss) -> Result<()> {
        let what = format!("{source} {} {}", loss.shard, serde_json::to_string(&loss.after)?);
        let path = format!("{DATA_LOSS}/{:032x}.json", twox_hash::XxHash3_128::oneshot(what.as_bytes()));
        let found = DataLoss { source: source.clone(), loss, found_us: self.clock.now_us() };
        tracing::error!(%source, shard = %found.loss.shard, reason = %found.loss.reason, "records are gone before they were read");
        if self.storage.put_if_absent(&path, serde_json::to_vec(&found)?).await? {
            self.losses.write().push(found);
        }
        Ok(())
    }

    /// The records, into memory.
    pub(super) async fn load_losses(&self) -> Result<()> {
        let mut losses = Vec::new();
        for name in self.storage.list_newest(DATA_LOSS, LOADED_MAX).await? {
            let path = format!("{DATA_LOSS}/{name}");
            let bytes = self.storage.get(&path).await?;
            losses.push(serde_json::from_slice(&bytes).map_err(|error| Error::from(error).context(path))?);
        }
        losses.sort_by_key(|loss: &DataLoss| loss.found_us);
        *self.losses.write() = losses;
        Ok(())
    }
}
