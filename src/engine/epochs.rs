//! Passes: when there is an epoch, what it reads, and carrying it out.
//!
//! ```text
//!  due views ─▶ slices of their sources ─▶ anything new? ─no─▶ Idle
//!                                               │ yes
//!     epochs/E.json  (put-if-absent; lost: another writer, stop)
//!        ├──────────▶ the next slice is read ahead
//!     refresh::pass  ─▶ published/E.json ─▶ readers, sources let go, maintenance
//!
//!  a crash or a fault in between: the same record again, the same ranges, the same rows
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use crate::engine::due::{ViewDue, downstream, due};
use crate::engine::upkeep::{HISTORY_RECORDS_MAX, MAINTAIN_EPOCHS};
use crate::engine::{Engine, Graph, Pass, PassRequest, State, history, retired};
use crate::epoch::{
    Epoch, EpochRecord, Forget, PUBLISHED, Positions, PublishedRecord, RefreshFacts, SourceRange, TableState,
};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::SourceFormat;
use crate::refresh::classify::moves_anywhere;
use crate::refresh::pass::{self, Marks, with_epoch};
use crate::source::{self, Slice, SliceLimits, Source};

/// Folder of the epoch records.
pub(super) const EPOCHS: &str = "_flash/epochs";

/// Published records that are read when a lake is opened.
const HISTORY_LOADED_MAX: usize = 200;

/// Records that are read at the same time.
const RECORDS_READ_CONCURRENT_MAX: usize = 16;

/// How often an idle source is asked, at most, in milliseconds.
const POLL_MS: u64 = 200;

/// Empty answers of a source that is behind, one after another, in one pass.
const EMPTY_POLLS_MAX: usize = 100;

/// How far apart the moments are that a view with now() in it sees, at least, in milliseconds.
const MOMENT_MS_MIN: u64 = 1_000;

/// Views that compute at the same time.
const REFRESHES_CONCURRENT_MAX: usize = 4;

impl Engine {
    pub(super) async fn pass_in(&self, state: &mut State, request: &PassRequest) -> Result<Pass> {
        self.bring_up_to_date(state).await?;
        if let Some(record) = state.unfinished.clone() {
            let record = self.finish(state, record).await?;
            return Ok(Pass::Published { record, source_rows: 0, caught_up: false });
        }
        let now_us = self.clock.now_us();
        let views = views_due(state);
        let (mut taken, wait_ms) = due(&views, now_us, request.all);
        let full = full_of(&views, request);
        taken.extend(full.iter().cloned());
        let slices = self.slices(state, &taken).await?;
        let behind = slices.values().any(|(_, slice)| !slice.caught_up);
        if behind {
            // While there is a backlog every view goes along: rows that are in memory now need not be read again.
            taken = due(&views, now_us, true).0;
        }
        let tables = self.table_versions(&state.graph).await?;
        let new = self.anything_new(state, &taken, &slices, &tables)
            || !full.is_empty()
            || self.expiry_due(state, &taken).await?;
        if !new {
            taken.iter().for_each(|name| {
                state.last_us.insert(name.clone(), now_us);
            });
            if self.is_look_due(state).await? {
                let published = Arc::clone(&self.published.borrow());
                self.maintain(state, &published).await;
            }
            return Ok(Pass::Idle(Duration::from_millis(wait_ms.clamp(1, POLL_MS))));
        }
        let previous = Arc::clone(&self.published.borrow());
        let record = EpochRecord {
            epoch: previous.epoch + 1,
            now_us,
            definitions: state.definitions.hash(),
            sources: slices
                .iter()
                .map(|(name, (from, slice))| (name.clone(), SourceRange { from: from.clone(), to: slice.to.clone() }))
                .collect(),
            tables,
            views: state.graph.order.iter().filter(|name| taken.contains(*name)).cloned().collect(),
            full: full.into_iter().collect(),
            again: None,
            forget: None,
        };
        self.write_record(&record).await?;
        state.unfinished = Some(record.clone());
        let source_rows = slices.values().map(|(_, slice)| slice.records as u64).sum();
        self.read_ahead(state, &slices);
        let (mut rows, mut behind_ms) = (BTreeMap::new(), BTreeMap::new());
        for (name, (_, slice)) in slices {
            behind_ms.extend(slice.behind_ms.map(|behind| (name.clone(), behind)));
            rows.insert(name, slice.batches);
        }
        let published = self.carry_out(state, record, rows, behind_ms).await?;
        let caught_up = !behind && self.all_reached(state, &published);
        Ok(Pass::Published { record: published, source_rows, caught_up })
    }

    /// Write the record down, or learn that another process did.
    pub(super) async fn write_record(&self, record: &EpochRecord) -> Result<()> {
        let path = format!("{EPOCHS}/{:020}.json", record.epoch);
        let bytes = serde_json::to_vec(record)?;
        let put = self.storage.put_if_absent(&path, bytes.clone()).await;
        match put {
            Ok(true) => Ok(()),
            // A lost answer looks like a lost race: the record tells which.
            Ok(false) | Err(_) => match self.storage.get(&path).await {
                Ok(there) if there == bytes => Ok(()),
                Ok(_) => Err(Error::new(ErrorKind::Conflict, "another process writes this lake")
                    .with_detail(format!("it has begun epoch {}", record.epoch))
                    .with_hint("one process keeps a lake fresh; stop one of the two")),
                Err(_) => put.map(|_| ()),
            },
        }
    }

    /// Carry out a record that was found without a published one.
    pub(super) async fn finish(&self, state: &mut State, record: EpochRecord) -> Result<Arc<PublishedRecord>> {
        let mut rows = BTreeMap::new();
        for (name, range) in &record.sources {
            if state.graph.sources.contains_key(name) {
                let source = self.source(state, name).await?;
                let slice = self.noted(name, source.as_ref(), source.read(range)).await?;
                rows.insert(name.clone(), slice.batches);
            }
        }
        if let Some(again) = &record.again {
            let source = self.source(state, &again.source).await?;
            let reread = source.reread(&again.range, SliceLimits::NONE);
            let slice = self.noted(&again.source, source.as_ref(), reread).await?;
            rows.insert(again.source.clone(), self.missing(state, &again.view, slice.batches).await?);
        }
        tracing::info!(epoch = record.epoch, "carrying out again an epoch that was not published");
        state.again = Some(record.epoch);
        self.carry_out(state, record, rows, BTreeMap::new()).await
    }

    /// Carry out an epoch that is not published by the definitions that it was begun with, before they change.
    pub(super) async fn finish_first(&self, state: &mut State) -> Result<()> {
        match state.unfinished.clone() {
            Some(record) if !state.graph.outdated => self.finish(state, record).await.map(drop),
            _ => Ok(()),
        }
    }

    pub(super) async fn carry_out(
        &self,
        state: &mut State,
        record: EpochRecord,
        rows: BTreeMap<TableName, Vec<RecordBatch>>,
        behind_ms: BTreeMap<TableName, BTreeMap<String, i64>>,
    ) -> Result<Arc<PublishedRecord>> {
        let epoch = record.epoch;
        if !record.full.is_empty()
            && let Some(task) = state.maintenance.take()
        {
            // A recompute replaces every file; compaction must not put another in the place of one meanwhile.
            let _ = task.await;
        }
        let ended = self.run_pass(state, &record, &rows).await;
        let mut published = match (ended, state.maintenance.take()) {
            // Compaction has put another file in the place of one that a view takes out. It begins with an epoch: not now.
            (Err(error), Some(task)) if error.kind() == ErrorKind::Conflict => {
                tracing::info!(epoch, %error, "carrying out again an epoch that a compaction got in the way of");
                let _ = task.await;
                self.run_pass(state, &record, &rows).await?
            }
            (ended, task) => {
                state.maintenance = task;
                ended?
            }
        };
        self.expire(state, &record, &mut published).await?;
        published.published_us = self.clock.now_us();
        let objects = &state.graph.definitions.objects;
        let quarantines: BTreeSet<TableName> = objects.keys().map(TableName::quarantine).collect();
        published.tables.retain(|name, _| objects.contains_key(name) || quarantines.contains(name));
        // A source that takes no part is as far behind as it was.
        published.behind_ms.clone_from(&self.published.borrow().behind_ms);
        published.behind_ms.extend(behind_ms);
        let published = self.publish(state, published).await?;
        self.forget_names(&record).await?;
        Ok(published)
    }

    /// A record that names who was forgotten goes when the epoch is published.
    async fn forget_names(&self, record: &EpochRecord) -> Result<()> {
        match &record.forget {
            Some(forget) if !forget.value.is_empty() => {
                let path = format!("{EPOCHS}/{:020}.json", record.epoch);
                self.storage.delete(std::slice::from_ref(&path)).await?;
                // Its number stays taken.
                let forget = Some(Forget { value: String::new(), ..forget.clone() });
                let nameless = EpochRecord { forget, ..record.clone() };
                self.storage.put_if_absent(&path, serde_json::to_vec(&nameless)?).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// One try at the views of an epoch.
    async fn run_pass(
        &self,
        state: &State,
        record: &EpochRecord,
        rows: &BTreeMap<TableName, Vec<RecordBatch>>,
    ) -> Result<PublishedRecord> {
        let previous = Arc::clone(&self.published.borrow());
        let slots = record.views.iter().filter_map(|name| state.graph.slots.get(name).cloned()).collect::<Vec<_>>();
        let mut slices = BTreeMap::new();
        for (name, batches) in rows {
            slices.insert(name.clone(), Arc::new(with_epoch(batches.clone(), record.epoch)?));
        }
        let full =
            record.full.iter().map(|name| (name.clone(), "REFRESH ... FULL was asked for".to_string())).collect();
        let pass = pass::Pass {
            marks: slots.iter().map(|slot| (slot.view.name.clone(), Marks::default())).collect(),
            slots,
            slices,
            full,
            ..self.bare_pass(&state.graph, previous, record.clone()).await?
        };
        Arc::new(pass).run().await
    }

    /// A pass in which no view takes part.
    pub(super) async fn bare_pass(
        &self,
        graph: &Graph,
        previous: Arc<PublishedRecord>,
        record: EpochRecord,
    ) -> Result<pass::Pass> {
        let resumed = retired::resumed(&graph.definitions, &graph.slots, &previous);
        Ok(pass::Pass {
            storage: Arc::clone(&self.storage),
            base: self.base.clone(),
            serial: self.serial.clone(),
            history: self.frontier_records(graph, &previous, &resumed).await?,
            resumed,
            previous,
            marks: BTreeMap::new(),
            slots: vec![],
            slices: BTreeMap::new(),
            tables: graph.tables.clone(),
            recent: self.recent.read().clone(),
            full: BTreeMap::new(),
            permits: Semaphore::new(REFRESHES_CONCURRENT_MAX),
            prefer: self.prefer,
            record,
        })
    }

    async fn publish(&self, state: &mut State, published: PublishedRecord) -> Result<Arc<PublishedRecord>> {
        let epoch = published.epoch;
        let path = format!("{PUBLISHED}/{epoch:020}.json");
        let bytes = serde_json::to_vec(&published)?;
        let put = self.storage.put_if_absent(&path, bytes).await;
        let published = match put {
            Ok(true) => published,
            // The answer was lost, or a crash came right after it: what is there counts.
            Ok(false) | Err(_) => match self.storage.get(&path).await {
                Ok(there) => serde_json::from_slice(&there)?,
                Err(_) => return Err(put.err().unwrap_or_else(|| Error::new(ErrorKind::Storage, "cannot publish"))),
            },
        };
        let published = Arc::new(published);
        state.unfinished = None;
        for (name, facts) in &published.refreshes {
            state.last_us.insert(name.clone(), published.now_us);
            match facts.error {
                Some(_) => state.failed.insert(name.clone(), epoch),
                None => state.failed.remove(name),
            };
        }
        self.writes.store(true, Ordering::Release);
        self.remember(Arc::clone(&published));
        self.published.send_replace(Arc::clone(&published));
        for (name, positions) in &published.sources {
            let Some(source) = state.sources.get(name) else { continue };
            if let Err(error) = source.landed(positions).await {
                tracing::warn!(source = %name, %error, "the source could not let go of landed records");
            }
        }
        if let Err(error) = self.open_changed(state).await {
            tracing::warn!(%error, "rules of views that were changed hold after the next epoch");
        }
        if epoch.is_multiple_of(MAINTAIN_EPOCHS) {
            self.maintain(state, &published).await;
        }
        Ok(published)
    }

    /// What each source of the views taken has to give: (from, slice).
    async fn slices(
        &self,
        state: &mut State,
        taken: &BTreeSet<TableName>,
    ) -> Result<BTreeMap<TableName, (Positions, Slice)>> {
        let mut slices = BTreeMap::new();
        let names = state.graph.sources.keys().cloned().collect::<Vec<_>>();
        for name in names {
            let read = state
                .graph
                .slots
                .values()
                .any(|slot| taken.contains(&slot.view.name) && slot.view.inputs.contains(&name));
            if !read {
                continue;
            }
            let source = self.source(state, &name).await?;
            let stored = self.published.borrow().sources.get(&name).cloned();
            let from = match stored {
                Some(positions) => positions,
                None if !source.is_read() => continue,
                None => source.start().await?,
            };
            let slice = match state.ahead.remove(&name) {
                Some(task) => {
                    let joined =
                        async { task.await.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))? };
                    self.noted(&name, source.as_ref(), joined).await?
                }
                None => self.noted(&name, source.as_ref(), source.poll(Some(&from), self.slice)).await?,
            };
            // An empty page is not the end of a stream: ask on from where it ended.
            let mut slice = slice;
            for _ in 0..EMPTY_POLLS_MAX {
                if slice.records > 0 || slice.caught_up {
                    break;
                }
                slice = self.noted(&name, source.as_ref(), source.poll(Some(&slice.to), self.slice)).await?;
            }
            slices.insert(name, (from, slice));
        }
        Ok(slices)
    }

    /// Read the next slices while this epoch is carried out; one ahead, and only while there is a backlog.
    fn read_ahead(&self, state: &mut State, slices: &BTreeMap<TableName, (Positions, Slice)>) {
        for (name, (_, slice)) in slices {
            let Some(source) = state.sources.get(name).cloned() else { continue };
            if slice.caught_up {
                continue;
            }
            let (to, limits) = (slice.to.clone(), self.slice);
            state.ahead.insert(name.clone(), tokio::spawn(async move { source.poll(Some(&to), limits).await }));
        }
    }

    pub(super) async fn source(&self, state: &mut State, name: &TableName) -> Result<Arc<dyn Source>> {
        if let Some(source) = state.sources.get(name) {
            return Ok(Arc::clone(source));
        }
        let source = match (self.overrides.get(name), state.graph.sources.get(name)) {
            (Some(source), _) => Arc::clone(source),
            (None, Some(definition)) => {
                let format = match definition.format {
                    SourceFormat::Kinesis => source::Format::Kinesis,
                    SourceFormat::Jsonl => source::Format::Jsonl,
                };
                let spec = source::SourceSpec::from_location(format, &definition.location, &definition.options)?;
                source::open(&spec).await?
            }
            (None, None) => return Err(Error::new(ErrorKind::NotFound, format!("there is no source {name}"))),
        };
        state.sources.insert(name.clone(), Arc::clone(&source));
        Ok(source)
    }

    pub(super) async fn table_versions(&self, graph: &Graph) -> Result<BTreeMap<TableName, u64>> {
        let mut versions = BTreeMap::new();
        for (name, location) in &graph.tables {
            versions.insert(name.clone(), self.storage.snapshot(location, None).await?.version);
        }
        Ok(versions)
    }

    /// Is there anything that a view taken has not seen?
    fn anything_new(
        &self,
        state: &State,
        taken: &BTreeSet<TableName>,
        slices: &BTreeMap<TableName, (Positions, Slice)>,
        tables: &BTreeMap<TableName, u64>,
    ) -> bool {
        let published = self.published.borrow();
        let none = Positions::default();
        let stored = |name| published.sources.get(name).unwrap_or(&none);
        if slices.iter().any(|(name, (_, slice))| slice.records > 0 || slice.to.go_beyond(stored(name))) {
            return true;
        }
        let newer = |(name, version): (&TableName, &u64)| {
            let seen = published.tables.get(name).filter(|seen| state.graph.tables.get(name) == Some(&seen.location));
            *version > seen.map_or(0, |seen| seen.version)
        };
        if tables.iter().any(newer) {
            return true;
        }
        let now_us = self.clock.now_us();
        taken.iter().filter_map(|name| state.graph.slots.get(name)).any(|slot| {
            let name = &slot.view.name;
            if moves_anywhere(slot.view.shape.plan()) {
                let lag_ms = slot.view.definition.options.target_lag_ms.unwrap_or(0).max(MOMENT_MS_MIN);
                let lag_us = i64::try_from(lag_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
                if now_us.saturating_sub(published.now_us) >= lag_us {
                    return true;
                }
            }
            let Some(at) = published.tables.get(name).filter(|at| at.location == slot.location) else {
                return !state.failed.contains_key(name);
            };
            at.frontier < published.epoch
                && !state.failed.contains_key(name)
                && self.input_moved(slot, at.frontier, &published)
        })
    }

    /// Has an input another version than the one at this frontier?
    fn input_moved(&self, slot: &pass::ViewSlot, frontier: Epoch, published: &PublishedRecord) -> bool {
        let history = self.history.read();
        let Some(then) = history.iter().find(|record| record.epoch == frontier) else { return true };
        slot.view.inputs.iter().any(|input| {
            then.tables.get(input).map(|state| state.version) != published.tables.get(input).map(|state| state.version)
        })
    }

    fn all_reached(&self, state: &State, published: &PublishedRecord) -> bool {
        state.graph.slots.iter().all(|(name, slot)| {
            let suspended = state.definitions.objects.get(name).is_some_and(|object| object.suspended);
            let at = published.tables.get(name).filter(|at| at.location == slot.location);
            suspended || state.failed.contains_key(name) || at.is_some_and(|at| at.frontier == published.epoch)
        })
    }

    /// The published records of frontiers older than the newest one.
    pub(super) async fn frontier_records(
        &self,
        graph: &Graph,
        previous: &PublishedRecord,
        resumed: &BTreeMap<TableName, TableState>,
    ) -> Result<BTreeMap<Epoch, Arc<PublishedRecord>>> {
        let frontiers = previous.tables.iter().chain(resumed).filter(|(name, _)| graph.slots.contains_key(name));
        let frontiers = frontiers.map(|(_, at)| at.frontier).filter(|at| *at > 0 && *at < previous.epoch);
        let mut records = BTreeMap::new();
        for frontier in frontiers.collect::<BTreeSet<_>>() {
            let held = self.history.read().iter().find(|record| record.epoch == frontier).cloned();
            let record = match held {
                Some(record) => record,
                None => Arc::new(self.published_record(frontier).await?),
            };
            records.insert(frontier, record);
        }
        Ok(records)
    }

    pub(super) async fn published_record(&self, epoch: Epoch) -> Result<PublishedRecord> {
        history::record(self.storage.as_ref(), epoch).await
    }

    /// The newest published records, into memory.
    pub(super) async fn load_published(&self) -> Result<()> {
        let newest_held = self.published.borrow().epoch;
        let names = self.storage.list_newest(PUBLISHED, HISTORY_LOADED_MAX).await?;
        let epochs = names.iter().map(|name| name.trim_end_matches(".json").parse::<Epoch>().unwrap_or(0));
        let newer = futures::stream::iter(epochs.filter(|epoch| *epoch > newest_held).collect::<Vec<_>>());
        let records = newer.map(|epoch| self.published_record(epoch)).buffered(RECORDS_READ_CONCURRENT_MAX);
        let records: Vec<Arc<PublishedRecord>> = records.map_ok(Arc::new).try_collect().await?;
        for record in records.into_iter().rev() {
            self.remember(Arc::clone(&record));
            self.published.send_replace(record);
        }
        Ok(())
    }

    /// A reader beside the writing process: look for newer records.
    pub(super) async fn load_published_by_others(&self) -> Result<()> {
        match self.writes.load(Ordering::Acquire) {
            true => Ok(()),
            false => self.load_published().await,
        }
    }

    fn remember(&self, record: Arc<PublishedRecord>) {
        let mut history = self.history.write();
        history.push_back(record);
        while history.len() > HISTORY_RECORDS_MAX {
            history.pop_front();
        }
    }

    /// The newest refresh of a view that is remembered.
    pub(super) fn last_refresh(&self, view: &TableName) -> Option<(Epoch, RefreshFacts)> {
        let history = self.history.read();
        let facts = history.iter().rev().filter_map(|record| Some((record.epoch, record.refreshes.get(view)?)));
        let mut nothing = None;
        for (epoch, facts) in facts {
            // `nothing` says little about how a view is kept; the newest refresh that did something says more.
            if facts.mode != "nothing" {
                return Some((epoch, facts.clone()));
            }
            nothing.get_or_insert((epoch, facts.clone()));
        }
        nothing
    }

    /// How long a view's contents have been out of date, in milliseconds.
    pub(super) fn lag_ms(&self, published: &PublishedRecord, frontier: Epoch, newest_us: i64) -> i64 {
        if frontier == published.epoch {
            return 0;
        }
        let history = self.history.read();
        let then = history.iter().find(|record| record.epoch == frontier).map_or(0, |record| record.now_us);
        (newest_us - then) / 1000
    }

    /// The newest epoch record, if it has no published one.
    pub(super) async fn find_unfinished(&self) -> Result<Option<EpochRecord>> {
        let published = self.published.borrow().epoch;
        let names = self.storage.list_newest(EPOCHS, 1).await?;
        let Some(name) = names.first() else { return Ok(None) };
        let path = format!("{EPOCHS}/{name}");
        let bytes = self.storage.get(&path).await?;
        let record: EpochRecord = serde_json::from_slice(&bytes).map_err(|error| Error::from(error).context(path))?;
        if record.epoch <= published {
            // A reader may not be allowed to.
            if let Err(error) = self.forget_names(&record).await {
                tracing::warn!(%error, "a record that names who was forgotten is still there");
            }
            return Ok(None);
        }
        Ok(Some(record))
    }
}

pub(super) fn views_due(state: &State) -> BTreeMap<TableName, ViewDue> {
    let view = |(name, slot): (&TableName, &Arc<pass::ViewSlot>)| {
        let due = ViewDue {
            inputs: slot.view.inputs.clone(),
            target_lag_ms: slot.view.definition.options.target_lag_ms,
            suspended: state.definitions.objects.get(name).is_some_and(|object| object.suspended),
            last_us: state.last_us.get(name).copied().unwrap_or(0),
        };
        (name.clone(), due)
    };
    state.graph.slots.iter().map(view).collect()
}

/// The views to recompute: those asked for, and what is built on them.
pub(super) fn full_of(views: &BTreeMap<TableName, ViewDue>, request: &PassRequest) -> BTreeSet<TableName> {
    let inputs = views.iter().map(|(name, view)| (name.clone(), view.inputs.clone())).collect();
    downstream(&inputs, &request.full.iter().cloned().collect())
}
