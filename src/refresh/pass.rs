//! One epoch over all participating views.
//!
//! ```text
//!             slice (memory)
//!  raw.events ─────▶ bronze.events ─computed─▶ silver.events ─computed─▶ gold.kpis, gold.shop_cube, …
//!                        │ stage                    │ stage                  │
//!                     committed ──────────────▶ committed ───────────▶ committed     commits in this order
//! ```
//!
//! Every view is a task with two marks that the tasks above wait for: `computed` (its rows are known, in memory, before
//! they are encoded) and `committed` (its Delta version exists). Rows travel ahead of commits; no view commits before its inputs have.
//! A view that fails on its data keeps its version, and so does all that is built on it; a fault of the lake fails the
//! epoch, which is then run again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::execution::SessionState;
use tokio::sync::{Mutex, Semaphore, SetOnce};

use crate::epoch::{Epoch, EpochRecord, PublishedRecord, RefreshFacts, TableState, Totals, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::refresh::change::{Change, Recent, Rows};
use crate::refresh::compile::CompiledView;
use crate::refresh::plan::Prefer;
use crate::refresh::refresh_view::{Work, compute};
use crate::refresh::unique::UniqueIndex;
use crate::storage::{Commit, Committed, Storage};

/// A view's place in the lake, and what its refreshes keep in memory between epochs.
#[derive(Debug)]
pub struct ViewSlot {
    /// The view.
    pub view: CompiledView,
    /// Folder of its table.
    pub location: String,
    /// Folder of its quarantine table, if it has one.
    pub quarantine: Option<String>,
    /// The index of its unique key; `None` until it is first needed, and after a failure.
    pub unique: Mutex<Option<UniqueIndex>>,
}

/// What came to a view in this epoch, for the views above it.
#[derive(Debug, Clone)]
pub struct Computed {
    /// The version before.
    pub before: Version,
    /// The difference.
    pub change: Change,
}

/// The marks of a view's task.
#[derive(Debug, Default)]
pub struct Marks {
    /// Its rows are known.
    pub computed: SetOnce<Result<Computed>>,
    /// Its version exists.
    pub committed: SetOnce<Result<TableState>>,
    /// Its quarantine's does.
    pub quarantined: SetOnce<Result<TableState>>,
}

/// One epoch being carried out.
#[derive(Debug)]
pub struct Pass {
    /// The lake.
    pub storage: Arc<dyn Storage>,
    /// Functions and runtime.
    pub base: SessionState,
    /// The same for plans over few rows, which one core computes sooner than several that have to meet.
    pub serial: SessionState,
    /// What the epoch reads.
    pub record: EpochRecord,
    /// The record before it.
    pub previous: Arc<PublishedRecord>,
    /// Where tables stand that are not the ones that `previous` shows of their views: those that views go back to.
    pub resumed: BTreeMap<TableName, TableState>,
    /// Older published records, for views whose frontier is older.
    pub history: BTreeMap<Epoch, Arc<PublishedRecord>>,
    /// Participating views, inputs before the views above them.
    pub slots: Vec<Arc<ViewSlot>>,
    /// Rows of the sources: schema of [`source_schema`].
    pub slices: BTreeMap<TableName, Arc<Vec<RecordBatch>>>,
    /// Folders of ordinary tables.
    pub tables: BTreeMap<TableName, String>,
    /// What a statement has just done to an ordinary table.
    pub recent: BTreeMap<TableName, Recent>,
    /// Why a view is to be recomputed, for those that are.
    pub full: BTreeMap<TableName, String>,
    /// By participating view.
    pub marks: BTreeMap<TableName, Marks>,
    /// Views that compute at the same time.
    pub permits: Semaphore,
    /// Which of the plans that are right is taken.
    pub prefer: Prefer,
}

/// The columns of a source as a view sees them.
pub fn source_schema() -> SchemaRef {
    let source = crate::source::schema();
    let mut fields = source.fields().iter().map(|field| field.as_ref().clone()).collect::<Vec<_>>();
    fields.push(Field::new("_epoch", DataType::Int64, false));
    Arc::new(Schema::new(fields))
}

/// Add `_epoch` to a slice.
///
/// # Errors
/// `Internal` when the slice has other columns.
pub fn with_epoch(batches: Vec<RecordBatch>, epoch: Epoch) -> Result<Vec<RecordBatch>> {
    let schema = source_schema();
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    let add = |batch: RecordBatch| {
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(Int64Array::from(vec![epoch; batch.num_rows()])) as ArrayRef);
        Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
    };
    batches.into_iter().map(add).collect()
}

impl Pass {
    /// Where a table stood before this epoch.
    pub fn before(&self, name: &TableName) -> Option<&TableState> {
        self.resumed.get(name).or_else(|| self.previous.tables.get(name))
    }

    /// The version of `input` that a view with this frontier has seen; 0 is the empty table.
    ///
    /// # Errors
    /// `Internal` when the record of the frontier is gone.
    pub fn seen(&self, input: &TableName, frontier: Epoch) -> Result<Version> {
        if frontier == 0 {
            return Ok(0);
        }
        let record = match frontier == self.previous.epoch {
            true => Some(&self.previous),
            false => self.history.get(&frontier),
        };
        match record {
            Some(record) => Ok(record.tables.get(input).map_or(0, |table| table.version)),
            None => Err(Error::new(ErrorKind::Internal, format!("the published record of epoch {frontier} is gone"))),
        }
    }

    /// What `now()` meant in the epoch of this frontier.
    ///
    /// # Errors
    /// `Internal` when the record of the frontier is gone.
    pub fn now_at(&self, frontier: Epoch) -> Result<i64> {
        match frontier {
            0 => Ok(self.record.now_us),
            _ if frontier == self.previous.epoch => Ok(self.previous.now_us),
            _ => self.history.get(&frontier).map(|record| record.now_us).ok_or_else(|| {
                Error::new(ErrorKind::Internal, format!("the published record of epoch {frontier} is gone"))
            }),
        }
    }

    /// Carry the epoch out.
    ///
    /// # Errors
    /// `Storage`, `Corrupt`, `Conflict`, `Transient`: nothing is published, run it again.
    pub async fn run(self: Arc<Self>) -> Result<PublishedRecord> {
        let mut tasks = tokio::task::JoinSet::new();
        for slot in &self.slots {
            let (pass, slot) = (Arc::clone(&self), Arc::clone(slot));
            tasks.spawn(async move { pass.view(&slot).await });
        }
        let mut published = PublishedRecord {
            epoch: self.record.epoch,
            now_us: self.record.now_us,
            tables: self.previous.tables.clone(),
            sources: self.previous.sources.clone(),
            ..PublishedRecord::default()
        };
        let mut fatal = None;
        while let Some(done) = tasks.join_next().await {
            let (name, facts, outcome) = done.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
            match outcome {
                Ok(tables) => {
                    // Its definition may have none any more.
                    published.tables.remove(&name.quarantine());
                    published.tables.extend(tables);
                }
                Err(error) if is_fatal(error.kind()) => {
                    fatal.get_or_insert(error);
                }
                Err(_) => {}
            }
            published.refreshes.insert(name, facts);
        }
        if let Some(error) = fatal {
            return Err(error);
        }
        for (name, range) in &self.record.sources {
            published.sources.insert(name.clone(), range.to.clone());
        }
        self.ordinary_tables(&mut published).await?;
        Ok(published)
    }

    async fn ordinary_tables(&self, published: &mut PublishedRecord) -> Result<()> {
        for (name, version) in &self.record.tables {
            let Some(location) = self.tables.get(name) else { continue };
            let rows = self.storage.snapshot(location, Some(*version)).await?.rows();
            let state = TableState {
                location: location.clone(),
                version: *version,
                frontier: self.record.epoch,
                rows,
                totals: Totals::default(),
            };
            published.tables.insert(name.clone(), state);
        }
        Ok(())
    }

    /// One view's task.
    async fn view(&self, slot: &ViewSlot) -> (TableName, RefreshFacts, Result<Vec<(TableName, TableState)>>) {
        let name = slot.view.name.clone();
        let started = Instant::now();
        let mut facts = RefreshFacts::default();
        let outcome = self.compute_and_commit(slot, &mut facts).await;
        facts.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Err(error) = &outcome {
            facts.error = Some(error.to_string());
            if facts.mode.is_empty() {
                facts.mode = "failed".into();
                facts.reason = error.message().to_string();
            }
            slot.unique.lock().await.take();
            // A fault of the lake fails the whole pass, whose caller reports it once.
            if !is_fatal(error.kind()) {
                tracing::warn!(view = %name, epoch = self.record.epoch, %error, "refresh failed");
            }
        }
        if let Some(marks) = self.marks.get(&name) {
            // A fault of the lake is the same fault for all; a view's own trouble is told to those above as its own.
            let upstream = |error: &Error| match is_fatal(error.kind()) {
                true => error.clone(),
                false => Error::new(error.kind(), format!("{name} was not refreshed: {}", error.message())),
            };
            if let Err(error) = &outcome {
                let _ = marks.computed.set(Err(upstream(error)));
                let _ = marks.committed.set(Err(upstream(error)));
                let _ = marks.quarantined.set(Err(upstream(error)));
            }
        }
        (name, facts, outcome)
    }

    async fn compute_and_commit(
        &self,
        slot: &ViewSlot,
        facts: &mut RefreshFacts,
    ) -> Result<Vec<(TableName, TableState)>> {
        let name = &slot.view.name;
        let work = compute(self, slot, facts).await?;
        self.hand_on(name, work.before, work.change.clone());
        for committed in slot.view.inputs.iter().filter_map(|input| self.committed(input)) {
            committed.wait().await.as_ref().map_err(Clone::clone)?;
        }
        let tables = self.commit(slot, work, facts).await?;
        if let (Some(marks), Some((_, state))) = (self.marks.get(name), tables.first()) {
            let _ = marks.committed.set(Ok(state.clone()));
            if let Some((_, state)) = tables.get(1) {
                let _ = marks.quarantined.set(Ok(state.clone()));
            }
        }
        Ok(tables)
    }

    /// Where a view that takes part, or its quarantine, stands in this epoch, once it is there.
    pub fn committed(&self, input: &TableName) -> Option<&SetOnce<Result<TableState>>> {
        let of_view = || {
            let fills = |slot: &&Arc<ViewSlot>| slot.quarantine.is_some() && slot.view.name.quarantine() == *input;
            let slot = self.slots.iter().find(fills)?;
            Some(&self.marks.get(&slot.view.name)?.quarantined)
        };
        self.marks.get(input).map(|marks| &marks.committed).or_else(of_view)
    }

    /// Tell the views above what came to this one; only the first time counts.
    pub fn hand_on(&self, name: &TableName, before: Version, change: Change) {
        if let Some(marks) = self.marks.get(name) {
            let _ = marks.computed.set(Ok(Computed { before, change }));
        }
    }

    /// Quarantine first, then the view: when the view has the epoch, everything has.
    async fn commit(
        &self,
        slot: &ViewSlot,
        work: Work,
        facts: &mut RefreshFacts,
    ) -> Result<Vec<(TableName, TableState)>> {
        let name = &slot.view.name;
        let epoch = self.record.epoch;
        let mut tables = Vec::new();
        if let Some(location) = &slot.quarantine {
            let before = self.before(&name.quarantine()).filter(|state| state.location == *location);
            let mut version = before.map_or(0, |state| state.version);
            if !work.quarantine.is_empty() || !work.quarantine_remove.is_empty() {
                let commit = Commit {
                    epoch: Some(epoch),
                    add: work.quarantine,
                    remove: work.quarantine_remove,
                    data_change: true,
                    operation: "WRITE",
                    ..Commit::default()
                };
                version = version_of(self.storage.commit(location, commit).await?);
            } else if work.already.is_some() || self.record.forget.is_some() {
                // The view's commit came after this one: what is there belongs to the epoch.
                version = self.storage.snapshot(location, None).await?.version;
            }
            tables.push((name.quarantine(), self.state(location, version, Totals::default()).await?));
        }
        let mut totals = self
            .before(name)
            .filter(|state| state.location == slot.location)
            .map_or_else(Totals::default, |s| s.totals);
        let version = match (work.already, work.touches) {
            (Some(version), _) => version,
            (None, false) => work.before,
            (None, true) => {
                let commit = Commit {
                    epoch: Some(epoch),
                    add: work.add,
                    remove: work.remove,
                    data_change: true,
                    operation: "WRITE",
                    expiry: false,
                };
                self.keep_facts(name, facts).await?;
                version_of(self.storage.commit(&slot.location, commit).await?)
            }
        };
        if work.touches {
            totals.duplicates += facts.duplicates;
            let removed =
                |action: &str| facts.expectations.iter().filter(|e| e.action == action).map(|e| e.removed).sum::<u64>();
            totals.dropped += removed("drop_row");
            totals.quarantined += removed("quarantine_row");
        }
        tables.insert(0, (name.clone(), self.state(&slot.location, version, totals).await?));
        Ok(tables)
    }

    async fn state(&self, location: &str, version: Version, totals: Totals) -> Result<TableState> {
        let rows = self.storage.snapshot(location, Some(version)).await?.rows();
        Ok(TableState { location: location.into(), version, frontier: self.record.epoch, rows, totals })
    }

    /// The counts of this refresh, written before its commit: after a crash between the two the same refresh writes
    /// the same counts, and after the commit they can still be read.
    async fn keep_facts(&self, name: &TableName, facts: &RefreshFacts) -> Result<()> {
        if facts.duplicates == 0 && facts.expectations.iter().all(|expectation| expectation.violations == 0) {
            return Ok(());
        }
        self.storage.put_if_absent(&facts_path(self.record.epoch, name), serde_json::to_vec(facts)?).await?;
        Ok(())
    }
}

/// Folder of what refreshes have counted.
pub const FACTS: &str = "_flash/facts";

/// Where the counts of a refresh are kept until its epoch is published.
pub fn facts_path(epoch: Epoch, view: &TableName) -> String {
    format!("{FACTS}/{epoch:020}-{view}.json")
}

/// The version that a commit has made, or found.
pub fn version_of(committed: Committed) -> Version {
    match committed {
        Committed::Now(version) | Committed::Already(version) => version,
    }
}

/// The lake itself is at fault, not the view's data or definition.
pub fn is_fatal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Storage
            | ErrorKind::Corrupt
            | ErrorKind::Conflict
            | ErrorKind::Transient
            | ErrorKind::Internal
            | ErrorKind::Cancelled
            | ErrorKind::NotFound
    )
}

impl Work {
    /// Nothing to commit.
    pub fn nothing(before: Version) -> Self {
        Self { before, change: Change::Nothing, ..Self::default() }
    }
}

/// Rows in memory as a change.
pub fn inserted(rows: Vec<RecordBatch>) -> Change {
    match rows.iter().all(|batch| batch.num_rows() == 0) {
        true => Change::Nothing,
        false => Change::Inserted(Rows::Memory(Arc::new(rows))),
    }
}
