//! Upkeep of the whole lake, in the background: never in the way of a refresh, one round at a time.
//!
//! ```text
//!   every 16th epoch, and the last round is over ─▶ records:  epochs, published, facts that nobody reads any more
//!                                                ├▶ retired and dropped tables whose time is over: their folders
//!                                                ├▶ each table: Storage::maintain      views, quarantines, tables, audit log
//!                                                ├▶ once a day: tables that were made and never recorded
//!                                                └▶ what was done ─▶ _flash/maintenance ─▶ system.maintenance
//! ```
//!
//! What a view has not followed yet stays: a view that rests, has failed or is not due reads the files that its inputs
//! have removed since its frontier. After [`BEHIND_US_MAX`] it has to be recomputed, and its refresh says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use futures::FutureExt;

use crate::catalog::definitions::Definitions;
use crate::catalog::forgotten::Forgotten;
use crate::catalog::maintenance::Maintenance;
use crate::catalog::on_read::OnRead;
use crate::engine::{Engine, Graph, State, audit_log, forget, history, retired};
use crate::epoch::{Epoch, PUBLISHED, PublishedRecord, Version};
use crate::error::Result;
use crate::refresh::classify::Shape;
use crate::refresh::pass::FACTS;
use crate::refresh::refresh_view::BEHIND_US_MAX;
use crate::storage::{MaintainOptions, Objects, Operation, Storage, Upkept};

/// Epochs between two rounds.
pub(super) const MAINTAIN_EPOCHS: u64 = 16;

/// Published records that are in memory at most, and kept at least.
pub(super) const HISTORY_RECORDS_MAX: usize = 1_000;

/// Records that one round deletes, so that it ends.
const RECORDS_DELETED_MAX: usize = 20_000;

/// How often tables that were never recorded are looked for, in milliseconds.
const UNRECORDED_MS: i64 = 86_400_000;

/// Where it stands in the record of maintenance when that was done.
const LAKE: &str = "_flash";

/// A round: everything that the background needs to know.
struct Round {
    storage: Arc<dyn Storage>,
    /// Name, folder, what may be done.
    tables: Vec<(String, String, MaintainOptions)>,
    /// Retired tables: the place, and the folders to delete.
    retired: Vec<(String, Vec<String>)>,
    /// Places whose folders are deleted.
    swept: Arc<parking_lot::Mutex<BTreeSet<String>>>,
    /// Folders that something has or reads.
    known: BTreeSet<String>,
    /// When it begins, in microseconds since 1970 UTC.
    now_us: i64,
    /// The newest epoch, and older ones that some view stands at.
    epoch: Epoch,
    frontiers: BTreeSet<Epoch>,
    /// When the retention began, in microseconds since 1970 UTC.
    since_us: i64,
}

impl Engine {
    /// Begin a round, unless one is under way.
    pub(super) async fn maintain(&self, state: &mut State, published: &Arc<PublishedRecord>) {
        if state.maintenance.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let mut retired = match self.forget_retired(state, published).await {
            Ok(retired) => retired,
            Err(error) => {
                tracing::warn!(%error, "tables that were replaced are deleted another time");
                Vec::new()
            }
        };
        for slot in state.graph.slots.values() {
            if let Some(index) = slot.unique.lock().await.as_mut()
                && let Err(error) = index.prune(published.epoch).await
            {
                tracing::warn!(view = %slot.view.name, %error, "the index of the unique key was not pruned");
            }
        }
        let mut needed = match self.needed_since(&state.graph, published).await {
            Ok(needed) => needed,
            Err(error) => {
                tracing::warn!(%error, "maintenance was put off");
                return;
            }
        };
        let forgotten = forget::versions(self.storage.as_ref()).await.unwrap_or_default();
        for held in self.reading.held() {
            retired.retain(|(_, folders)| !folders.contains(&held.location));
            let since_ms = needed.entry(held.location.clone()).or_insert(held.since_ms);
            *since_ms = held.since_ms.min(*since_ms);
        }
        let standing = state.definitions.retired.iter().flat_map(|retired| retired.states.values());
        let round = Round {
            storage: Arc::clone(&self.storage),
            tables: self.to_maintain(&state.graph, &needed, &forgotten),
            retired,
            swept: Arc::clone(&state.swept),
            known: retired::known(&state.definitions, published),
            now_us: self.clock.now_us(),
            epoch: published.epoch,
            frontiers: published.tables.values().chain(standing).map(|state| state.frontier).collect(),
            since_us: self.clock.now_us().saturating_sub(self.storage.retention_ms().saturating_mul(1_000)),
        };
        state.maintenance = Some(tokio::spawn(round.run()));
    }

    /// Each table of the lake, and what may be done to it.
    fn to_maintain(
        &self,
        graph: &Graph,
        needed: &BTreeMap<String, i64>,
        forgotten: &BTreeMap<String, Version>,
    ) -> Vec<(String, String, MaintainOptions)> {
        // What this round merges may be read by the epoch that is next: it goes with another round.
        let begin_ms = chrono::Utc::now().timestamp_millis() - 1;
        let options = |location: &str, compact: bool| MaintainOptions {
            compact,
            retention_ms: self.storage.retention_ms(),
            needed_since_ms: Some(needed.get(location).map_or(begin_ms, |since_ms| begin_ms.min(*since_ms))),
            checkpoint_from: forgotten.get(location).copied(),
            ..MaintainOptions::default()
        };
        let mut tables = Vec::new();
        for (name, slot) in &graph.slots {
            let merged = matches!(slot.view.shape, Shape::Merge { .. });
            let state_folder = merged.then(|| slot.view.state_folder());
            // Refreshes of all other views rewrite files, and make small ones one as they go: both at a time would be in each
            // other's way. A linear view that loses rows now and then carries its epoch out again.
            let compact = matches!(slot.view.shape, Shape::Linear { .. });
            let of_view = MaintainOptions { state_folder, ..options(&slot.location, compact) };
            tables.push((name.to_string(), slot.location.clone(), of_view));
            if let Some(location) = &slot.quarantine {
                tables.push((name.quarantine().to_string(), location.clone(), options(location, true)));
            }
        }
        for (name, location) in &graph.tables {
            tables.push((name.to_string(), location.clone(), options(location, true)));
        }
        let log = audit_log::LOCATION;
        tables.push(("system.audit_log".into(), log.into(), options(log, true)));
        tables
    }

    /// Since when a table's views have not followed it, in milliseconds since 1970 UTC, by the table's place.
    async fn needed_since(&self, graph: &Graph, published: &Arc<PublishedRecord>) -> Result<BTreeMap<String, i64>> {
        let records = self.frontier_records(graph, published, &BTreeMap::new()).await?;
        let mut needed = BTreeMap::<String, i64>::new();
        for (name, slot) in &graph.slots {
            let at = published.tables.get(name).filter(|at| at.location == slot.location);
            let Some(then) = at.and_then(|at| records.get(&at.frontier)) else { continue };
            let since_ms = then.now_us.max(published.now_us - BEHIND_US_MAX) / 1_000;
            for input in &slot.view.inputs {
                let Some(location) = published.tables.get(input).map(|input| input.location.clone()) else { continue };
                needed.entry(location).and_modify(|known| *known = since_ms.min(*known)).or_insert(since_ms);
            }
        }
        Ok(needed)
    }

    /// The retired tables whose folders are to be deleted; those whose folders are gone are forgotten.
    async fn forget_retired(
        &self,
        state: &mut State,
        published: &PublishedRecord,
    ) -> Result<Vec<(String, Vec<String>)>> {
        let swept = state.swept.lock().clone();
        let sweep = retired::sweep(&state.definitions, published, &swept, self.clock.now_us());
        if sweep.kept != state.definitions.retired {
            let mut definitions = Definitions { retired: sweep.kept, ..state.definitions.clone() };
            definitions.save(self.storage.as_ref()).await?;
            state.definitions = definitions;
            let kept: BTreeSet<_> = state.definitions.retired.iter().map(|it| it.object.location.clone()).collect();
            state.swept.lock().retain(|location| kept.contains(location));
        }
        Ok(sweep.gone)
    }

    /// `system.maintenance`: as it is when it is read.
    pub(super) fn maintenance_table(&self) -> Result<Arc<dyn TableProvider>> {
        let storage = Arc::clone(&self.storage);
        Ok(OnRead::table(Maintenance::default().table()?.schema(), move || {
            let storage = Arc::clone(&storage);
            async move { Maintenance::load(storage.as_ref()).await?.table() }.boxed()
        }))
    }

    /// `system.forgotten`: the same.
    pub(super) fn forgotten_table(&self) -> Result<Arc<dyn TableProvider>> {
        let storage = Arc::clone(&self.storage);
        Ok(OnRead::table(Forgotten::default().table(0)?.schema(), move || {
            let storage = Arc::clone(&storage);
            async move { Forgotten::load(storage.as_ref()).await?.table(storage.retention_ms() * 1_000) }.boxed()
        }))
    }
}

impl Round {
    async fn run(self) {
        let record = Maintenance::load(self.storage.as_ref()).await;
        let mut record = record.unwrap_or_else(|error| {
            tracing::warn!(%error, "what maintenance has done before cannot be read");
            Maintenance::default()
        });
        let mut worth = self.records(&mut record).await;
        worth |= self.folders(&mut record).await;
        for (name, location, options) in &self.tables {
            let swept_ms = record.swept_ms.get(location).copied().unwrap_or(0);
            let options = MaintainOptions { swept_ms, ..options.clone() };
            let done = self.storage.maintain(location, &options).await;
            for error in done.iter().filter_map(|work| work.error.as_ref()) {
                tracing::warn!(%location, %error, "maintenance was put off");
            }
            worth |= record.add(name, location, done);
        }
        worth |= self.unrecorded(&mut record).await;
        if let Err(error) = forget::look(self.storage.as_ref(), self.now_us).await {
            tracing::warn!(%error, "whether forgotten rows are gone from storage is looked for another time");
        }
        if worth && let Err(error) = record.save(self.storage.as_ref()).await {
            tracing::warn!(%error, "what maintenance has done was not written down");
        }
    }

    /// Records that nobody reads any more.
    async fn records(&self, record: &mut Maintenance) -> bool {
        let mut worth = false;
        for folder in [super::epochs::EPOCHS, PUBLISHED, FACTS] {
            let work = async {
                let names = self.storage.list_newest(folder, usize::MAX).await?;
                let oldest = match folder {
                    FACTS => self.epoch,
                    // What moments of the past are looked up in.
                    PUBLISHED => history::oldest_kept(self.storage.as_ref(), &names, self.epoch, self.since_us).await?,
                    _ => history::counted(self.epoch, HISTORY_RECORDS_MAX),
                };
                let is_stood_at = |epoch| folder != FACTS && self.frontiers.contains(&epoch);
                let stale = stale(folder, names, |epoch| epoch < oldest && !is_stood_at(epoch));
                self.storage.delete(&stale).await?;
                Ok(Objects { files: stale.len() as u64, bytes: 0 })
            };
            worth |= record.add(folder, folder, swept(work).await.into_iter().collect());
        }
        worth
    }

    /// Folders of retired tables.
    async fn folders(&self, record: &mut Maintenance) -> bool {
        let mut worth = false;
        for (location, folders) in &self.retired {
            let work = async {
                let mut removed = Objects::default();
                for folder in folders {
                    let gone = self.storage.delete_folder(folder).await?;
                    removed.files += gone.files;
                    removed.bytes += gone.bytes;
                }
                Ok(removed)
            };
            let done = swept(work).await;
            if done.as_ref().is_none_or(|work| work.error.is_none()) {
                self.swept.lock().insert(location.clone());
            }
            worth |= record.add(location, location, done.into_iter().collect());
            record.swept_ms.remove(location);
        }
        worth
    }

    /// Tables that were made and never recorded.
    async fn unrecorded(&self, record: &mut Maintenance) -> bool {
        let now_ms = chrono::Utc::now().timestamp_millis();
        if now_ms - record.swept_ms.get(LAKE).copied().unwrap_or(0) < UNRECORDED_MS {
            return false;
        }
        let done = swept(self.storage.sweep_unrecorded(&self.known)).await;
        record.add(LAKE, LAKE, done.into_iter().collect());
        record.swept_ms.insert(LAKE.into(), now_ms);
        true
    }
}

/// Carry out a sweep; `None`: nothing was found.
async fn swept(work: impl Future<Output = Result<Objects>>) -> Option<Upkept> {
    let (began_ms, began) = (chrono::Utc::now().timestamp_millis(), std::time::Instant::now());
    let (removed, error) = match work.await {
        Ok(removed) => (removed, None),
        Err(error) => {
            tracing::warn!(%error, "maintenance was put off");
            (Objects::default(), Some(error.to_string()))
        }
    };
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let done = Upkept { operation: Operation::Sweep, began_ms, took_ms, removed, added: Objects::default(), error };
    (done.error.is_some() || removed.files > 0).then_some(done)
}

/// The records of stale epochs, oldest first. Their names begin with the epoch.
fn stale(folder: &str, names: Vec<String>, is_stale: impl Fn(Epoch) -> bool) -> Vec<String> {
    let epoch = |name: &String| name.get(..20).and_then(|digits| digits.parse::<Epoch>().ok());
    let names = names.into_iter().rev().filter(|name| epoch(name).is_some_and(&is_stale));
    names.take(RECORDS_DELETED_MAX).map(|name| format!("{folder}/{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_old_epochs_go_and_no_others() {
        let names = |epochs: &[u64]| epochs.iter().rev().map(|epoch| format!("{epoch:020}.json")).collect::<Vec<_>>();
        let all = names(&[1, 2, 3, 4, 5]).into_iter().chain(["other".to_string(), "é".repeat(15)]).collect();
        let gone = stale("f", all, |epoch| epoch < 4 && epoch != 2);
        assert_eq!(gone, [format!("f/{:020}.json", 1), format!("f/{:020}.json", 3)]);
    }
}
