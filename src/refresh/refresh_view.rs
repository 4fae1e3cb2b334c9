//! One refresh of one view, up to its commit.
//!
//! ```text
//!   table has txn >= E ─▶ done before a crash: read its change back
//!   inputs' changes ─▶ plan::choose ─▶ Nothing | append | merge | replace | full ─▶ Work { add, remove, change }
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use crate::epoch::{Epoch, RefreshFacts, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::RefreshMode;
use crate::refresh::append::{Append, quarantine_rows};
use crate::refresh::change::{Change, Rows};
use crate::refresh::classify::{Shape, moves_anywhere};
use crate::refresh::cost::opened;
use crate::refresh::derived::derived;
use crate::refresh::execute::{bound_now, collect, conform, stream};
use crate::refresh::forget::{Way, follows, way};
use crate::refresh::inputs::{Which, change_between, change_of, input_rows};
use crate::refresh::keyed::{shown_key, topmost};
use crate::refresh::layout::KEYED_FILE_ROWS_MAX;
use crate::refresh::merge::{Merge, Taken};
use crate::refresh::pass::{Pass, ViewSlot, facts_path, inserted, version_of};
use crate::refresh::plan::{Expired, Prefer, RefreshPlan, Situation, choose, or_full};
use crate::refresh::replace::Replacement;
use crate::refresh::restrict::{Keys, Moment, Restriction};
use crate::refresh::retention::would_lose;
use crate::refresh::rewrite::{at, delta};
use crate::refresh::unique::UniqueIndex;
use crate::refresh::weighted::{Moved, consolidate, weigh};
use crate::storage::{Commit, DataFile, Snapshot};

/// Rows that a full refresh stages at a time.
const FULL_CHUNK_ROWS_MAX: usize = 524_288;

/// How far behind a view may be and still follow what came, in microseconds: 7 days. What its inputs have removed since its
/// frontier is kept that long.
pub const BEHIND_US_MAX: i64 = 7 * 24 * 3_600 * 1_000_000;

/// What a refresh wants committed, and what it hands on.
#[derive(Debug)]
pub struct Work {
    /// The version before.
    pub before: Version,
    /// The version that holds the epoch, if a commit was there already.
    pub already: Option<Version>,
    /// There is something to commit.
    pub touches: bool,
    /// Staged files.
    pub add: Vec<DataFile>,
    /// Files that go.
    pub remove: Vec<String>,
    /// Staged files of the quarantine table; without any it keeps its version.
    pub quarantine: Vec<DataFile>,
    /// Files that go from it.
    pub quarantine_remove: Vec<String>,
    /// What readers of the view see as the difference.
    pub change: Change,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            before: 0,
            already: None,
            touches: false,
            add: vec![],
            remove: vec![],
            quarantine: vec![],
            quarantine_remove: vec![],
            change: Change::Nothing,
        }
    }
}

/// Compute one view.
///
/// # Errors
/// Any; see `pass::is_fatal` for what fails the epoch.
pub async fn compute(pass: &Pass, slot: &ViewSlot, facts: &mut RefreshFacts) -> Result<Work> {
    let view = &slot.view;
    let snapshot = pass.storage.snapshot(&slot.location, None).await?;
    let state = pass.before(&view.name).filter(|state| state.location == slot.location);
    let before = state.map_or(0, |state| state.version);
    let frontier = state.map_or(0, |state| state.frontier);
    if snapshot.epoch >= pass.record.epoch {
        return landed(pass, slot, before, facts).await;
    }
    let refresh = ViewRefresh { pass, slot, snapshot: &snapshot, before, frontier };
    if let Some(forget) = &pass.record.forget {
        let above = derived(pass.slots.iter(), &view.name, &forget.column);
        let way = way(view, &forget.column, !above.is_empty());
        // A view that is new reads what has forgotten already.
        if frontier > 0 && matches!(way, Way::Own | Way::Groups) {
            if frontier != pass.previous.epoch {
                return Err(Error::new(ErrorKind::Query, format!("{} has not followed its inputs yet", view.name))
                    .with_hint("mend it, and ask again"));
            }
            match way {
                Way::Groups => return refresh.forget_groups(forget, facts).await,
                _ if !follows(view) || refresh.rests().await? => return refresh.forget(forget, above, facts).await,
                _ => {}
            }
        }
    }
    let Decision { changes, plan, keys } = refresh.decide().await?;
    facts.mode = plan.mode().into();
    facts.reason = plan.reason().into();
    facts.rows_in = changes.values().map(Change::rows).sum();
    tracing::debug!(view = %view.name, epoch = pass.record.epoch, mode = %facts.mode, rows_in = facts.rows_in, "refresh");
    let _permit = pass.permits.acquire().await.map_err(|_| Error::new(ErrorKind::Cancelled, "shutting down"))?;
    let work = match plan {
        RefreshPlan::Nothing => Work::nothing(before),
        RefreshPlan::Append { .. } => refresh.append(Some(&changes), facts).await?,
        RefreshPlan::MergeState { .. } if frontier == 0 => refresh.merge(Taking::Everything).await?,
        RefreshPlan::MergeState { signed: false, .. } => refresh.merge(Taking::Inserted(&changes)).await?,
        RefreshPlan::MergeState { signed: true, .. } => refresh.merge(Taking::Signed(&changes)).await?,
        RefreshPlan::ReplaceKeys { .. } => match &view.shape {
            Shape::Merge { .. } => refresh.merge(Taking::OfKeys(&changes, keys)).await?,
            _ => refresh.replace(&changes, keys, facts).await?,
        },
        RefreshPlan::Full { .. } => refresh.recompute(facts).await?,
    };
    facts.rows_out = work.add.iter().map(|file| file.rows).sum();
    facts.bytes_written = work.add.iter().map(|file| file.size).sum();
    Ok(work)
}

/// The epoch is in the table already: a crash came between its commit and the publication.
async fn landed(pass: &Pass, slot: &ViewSlot, before: Version, facts: &mut RefreshFacts) -> Result<Work> {
    let kept = pass.storage.get(&facts_path(pass.record.epoch, &slot.view.name)).await;
    match kept {
        Ok(bytes) => *facts = serde_json::from_slice(&bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            facts.mode = "append".into();
            facts.expectations = slot.view.expectations.facts();
        }
        Err(error) => return Err(error),
    }
    facts.reason = format!("{} (committed before a restart)", facts.reason);
    // Rows may have expired since, in a commit of its own.
    let commit = Commit { epoch: Some(pass.record.epoch), ..Commit::default() };
    let version = version_of(pass.storage.commit(&slot.location, commit).await?);
    let change = change_between(pass, &slot.location, before, version, false).await?;
    facts.rows_out = change.rows();
    Ok(Work { before, already: Some(version), touches: true, change, ..Work::default() })
}

/// Which rows a merge takes.
enum Taking<'a> {
    Everything,
    Inserted(&'a BTreeMap<TableName, Change>),
    Signed(&'a BTreeMap<TableName, Change>),
    /// The keys where they are known already.
    OfKeys(&'a BTreeMap<TableName, Change>, Option<Keys>),
}

/// One view's refresh in one epoch.
pub(super) struct ViewRefresh<'a> {
    pub(super) pass: &'a Pass,
    pub(super) slot: &'a ViewSlot,
    /// The view's own table.
    pub(super) snapshot: &'a Snapshot,
    /// Its published version.
    pub(super) before: Version,
    /// The epoch that it reflects.
    pub(super) frontier: Epoch,
}

/// What a refresh is to do.
pub(super) struct Decision {
    /// What came to the inputs since the view's frontier.
    pub(super) changes: BTreeMap<TableName, Change>,
    /// The plan that follows it.
    pub(super) plan: RefreshPlan,
    /// The keys that the change touches, where the decision had to know them.
    pub(super) keys: Option<Keys>,
}

/// The view cannot follow any more.
fn behind(view: &TableName) -> Error {
    let days = BEHIND_US_MAX / (24 * 3_600 * 1_000_000);
    Error::new(ErrorKind::Query, format!("{view} was not refreshed for more than {days} days"))
        .with_detail("what its inputs have removed since then is not kept that long")
        .with_hint(format!("REFRESH MATERIALIZED VIEW {view} FULL computes it anew"))
}

impl ViewRefresh<'_> {
    /// Take the decision.
    ///
    /// # Errors
    /// `NotIncremental`, `Storage`; `Query` where keys had to be computed.
    pub(super) async fn decide(&self) -> Result<Decision> {
        let (pass, view, frontier) = (self.pass, &self.slot.view, self.frontier);
        let requested = pass.full.get(&view.name).filter(|_| frontier > 0).map(String::as_str);
        let too_late = frontier > 0 && pass.previous.now_us - pass.now_at(frontier)? > BEHIND_US_MAX;
        if too_late && requested.is_none() {
            return Err(behind(&view.name));
        }
        let mut changes = BTreeMap::new();
        for input in view.inputs.iter().filter(|_| !too_late) {
            changes.insert(input.clone(), change_of(pass, input, frontier).await?);
        }
        let options = &view.definition.options;
        let moved = frontier > 0 && moves_anywhere(view.shape.plan()) && pass.now_at(frontier)? != pass.record.now_us;
        let auto_rows = match options.refresh_mode {
            RefreshMode::Auto => Some(input_rows(pass, view).await?),
            _ => None,
        };
        let situation = Situation {
            shape: &view.shape,
            changes: &changes,
            first: frontier == 0,
            requested,
            moved,
            auto_rows,
            first_of_keys: !options.unique_key.is_empty(),
            expired: self.expired(),
        };
        let plan = choose(&view.name, &situation, pass.prefer)?;
        match (&plan, auto_rows.filter(|_| situation.expired.is_none()), self.keyed_node()) {
            (RefreshPlan::ReplaceKeys { .. }, Some(rows), Some(node)) if pass.prefer == Prefer::Cheapest => {
                let deltas = self.deltas(&pass.serial, &changes).await?;
                let Some(keys) = deltas.touched_keys(node).await? else {
                    return Ok(Decision { changes, plan, keys: None });
                };
                let read = opened(&deltas.of_keys(view.shape.plan(), &keys)?)?;
                drop(deltas);
                let plan = or_full(plan, read.values().map(|of| of.rows).sum(), rows);
                Ok(Decision { changes, plan, keys: Some(keys) })
            }
            _ => Ok(Decision { changes, plan, keys: None }),
        }
    }

    /// The operator whose keys tell what a change touches, where the view shows them.
    pub(super) fn keyed_node(&self) -> Option<&LogicalPlan> {
        match &self.slot.view.shape {
            Shape::Merge { plan, .. } => Some(topmost(plan)),
            shape => shown_key(shape.plan()).map(|_| topmost(shape.plan())),
        }
    }

    /// The rows of these changes, or all rows.
    async fn append(&self, changes: Option<&BTreeMap<TableName, Change>>, facts: &mut RefreshFacts) -> Result<Work> {
        let view = &self.slot.view;
        let Shape::Linear { plan, carried } = &view.shape else {
            return Err(Error::new(ErrorKind::Internal, "append of a plan that is not linear"));
        };
        let unique_key = !view.definition.options.unique_key.is_empty();
        let use_carried = carried.as_ref().filter(|_| unique_key || self.slot.quarantine.is_some());
        let plan = use_carried.unwrap_or(plan);
        let rows = match changes {
            Some(changes) => delta(plan, &self.versions(&self.pass.base, plan, changes).await?)?,
            None => Some(self.moment(Which::New).await?.at(plan)?),
        };
        let Some(rows) = rows else { return Ok(Work::nothing(self.before)) };
        let from_scratch = changes.is_none();
        let quarantine = match &self.slot.quarantine {
            Some(location) => Some(self.pass.storage.snapshot(location, None).await?),
            None => None,
        };
        let in_memory = changes.is_some_and(|changes| changes.values().all(Change::in_memory));
        let append = Append {
            storage: self.pass.storage.as_ref(),
            state: &self.pass.base,
            view,
            record: &self.pass.record,
            snapshot: self.snapshot,
            quarantine: quarantine.as_ref(),
            carried: use_carried.is_some(),
            hand_on: &|rows| {
                if !from_scratch {
                    self.pass.hand_on(&view.name, self.before, inserted(rows.to_vec()));
                }
            },
        };
        let mut guard = self.slot.unique.lock().await;
        let mut unique = if unique_key { Some(self.unique_index(guard.take(), from_scratch).await?) } else { None };
        let out = append.run(rows, in_memory, unique.as_mut()).await?;
        if let Some(index) = &mut unique {
            index.seal(self.pass.record.epoch).await?;
        }
        *guard = unique;
        facts.duplicates = out.duplicates;
        facts.expectations = out.expectations;
        let change = match (from_scratch, out.rows) {
            (true, _) => Change::Committed,
            (false, Some(rows)) => inserted(rows),
            (false, None) => {
                Change::Inserted(Rows::Files(self.snapshot.clone(), out.add.iter().cloned().map(Arc::new).collect()))
            }
        };
        Ok(Work {
            before: self.before,
            already: None,
            touches: true,
            add: out.add,
            remove: if from_scratch { self.all_files() } else { vec![] },
            quarantine: out.quarantine,
            change,
            ..Work::default()
        })
    }

    async fn merge(&self, taking: Taking<'_>) -> Result<Work> {
        let Shape::Merge { plan, aggregate, having, .. } = &self.slot.view.shape else {
            return Err(Error::new(ErrorKind::Internal, "merge of a plan without an aggregate"));
        };
        // Views over the same rows compute beside each other; within one, a hash table for each core is one too many.
        let in_memory = match &taking {
            Taking::Everything => false,
            Taking::Inserted(changes) | Taking::Signed(changes) | Taking::OfKeys(changes, _) => {
                changes.values().all(Change::in_memory)
            }
        };
        let state = if in_memory { &self.pass.serial } else { &self.pass.base };
        let merge = Merge {
            storage: self.pass.storage.as_ref(),
            state,
            view: &self.slot.view,
            plan,
            aggregate,
            having: *having,
        };
        let taken = match taking {
            Taking::Everything => Taken::Everything(self.moment(Which::New).await?.at(&aggregate.input)?),
            Taking::Inserted(changes) => {
                Taken::Inserted(delta(&aggregate.input, &self.versions(state, plan, changes).await?)?)
            }
            Taking::Signed(changes) => {
                let deltas = self.deltas(state, changes).await?;
                let Some(moved) = deltas.moved(&aggregate.input).await? else { return Ok(Work::nothing(self.before)) };
                let (came, went) = moved.sides()?;
                Taken::Signed { came: self.of_living(aggregate, came)?, went: self.of_living(aggregate, went)? }
            }
            Taking::OfKeys(changes, known) => {
                let deltas = self.deltas(state, changes).await?;
                let touched = match known {
                    None => deltas.touched_keys(&LogicalPlan::Aggregate(aggregate.clone())).await?,
                    known => known,
                };
                let Some(mut keys) = touched else { return Ok(Work::nothing(self.before)) };
                if let Some((retention, cutoff_us)) = self.expired_us()
                    && let Some(key) = retention.key
                {
                    keys = keys.filtered(&retention.mask(&keys.columns()[key], cutoff_us)?)?;
                    if keys.is_empty() {
                        return Ok(Work::nothing(self.before));
                    }
                }
                let to = Restriction { keys: &keys, parts: aggregate.group_expr.iter().cloned().zip(0..).collect() };
                let rows = deltas.new.restricted(&aggregate.input, Some(&to))?;
                Taken::OfKeys(keys, rows)
            }
        };
        let merged = merge.run(self.snapshot, self.pass.record.epoch, taken, self.has_readers()).await?;
        let touches = !merged.add.is_empty() || !merged.remove.is_empty() || merged.state;
        let change = match merged.change {
            Some((added, removed)) => Change::of(added, removed),
            None if touches => Change::Committed,
            None => Change::Nothing,
        };
        Ok(Work { before: self.before, touches, add: merged.add, remove: merged.remove, change, ..Work::default() })
    }

    async fn recompute(&self, facts: &mut RefreshFacts) -> Result<Work> {
        match &self.slot.view.shape {
            Shape::Linear { .. } => self.append(None, facts).await,
            Shape::Merge { .. } => self.merge(Taking::Everything).await,
            shape => self.full(shape).await,
        }
    }

    /// Some other view of this epoch reads this one.
    pub(super) fn has_readers(&self) -> bool {
        self.pass.slots.iter().any(|slot| slot.view.inputs.contains(&self.slot.view.name))
    }

    /// Take rows out and put rows in: those of the keys that the change touches, or those that the delta rules name.
    async fn replace(
        &self,
        changes: &BTreeMap<TableName, Change>,
        known: Option<Keys>,
        facts: &mut RefreshFacts,
    ) -> Result<Work> {
        let view = &self.slot.view;
        let plan = view.shape.plan();
        let in_memory = changes.values().all(Change::in_memory);
        let state = if in_memory { &self.pass.serial } else { &self.pass.base };
        let deltas = self.deltas(state, changes).await?;
        let key = shown_key(plan).filter(|key| key.iter().all(|at| same_when_stored(plan, &view.schema, *at)));
        let moved = match &key {
            Some(key) => {
                let touched = match known {
                    None => deltas.touched_keys(plan).await?,
                    known => known,
                };
                let Some(keys) = touched else { return Ok(Work::nothing(self.before)) };
                let come = collect(state, deltas.of_keys(plan, &keys)?).await?;
                let go = collect(state, self.stored(key, &keys)?).await?;
                self.net(state, come, go).await?
            }
            None => match deltas.moved(plan).await? {
                Some(moved) => {
                    let (come, go) = moved.sides()?;
                    self.net(state, come, go).await?
                }
                None => None,
            },
        };
        let Some(moved) = moved else { return Ok(Work::nothing(self.before)) };
        let (mut come, mut go) = moved.sides()?;
        if let Some((retention, cutoff_us)) = self.expired_us() {
            for side in [&mut come, &mut go] {
                *side = side.iter().map(|rows| retention.keep(rows, cutoff_us)).collect::<Result<_>>()?;
            }
        }
        let go = self.taken(go)?;
        let (come, quarantine) = self.judged(come, facts).await?;
        let columns = key.unwrap_or_default().into_iter().map(|at| view.schema.field(at).name().clone());
        let replacement = Replacement {
            storage: self.pass.storage.as_ref(),
            state,
            snapshot: self.snapshot,
            clustered_by: columns.collect(),
        };
        let change = Change::of(come.clone(), go.clone());
        let Some(replaced) = replacement.run(self.pass.record.epoch, &go, come).await? else {
            if let Some(expired) = self.expired() {
                let of = if let Expired::Input(input) = expired { input } else { &view.name };
                return Err(would_lose(&view.name, of));
            }
            facts.mode = "full".into();
            facts.reason = "rows to be taken out are not there as they were computed (floating point?)".into();
            return self.recompute(facts).await;
        };
        Ok(Work {
            before: self.before,
            touches: true,
            add: replaced.add,
            remove: replaced.remove,
            quarantine,
            change,
            ..Work::default()
        })
    }

    /// Rows that the expectations have let into the view.
    fn taken(&self, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let expectations = &self.slot.view.expectations;
        let taken = |batch: &RecordBatch| Ok(filter_record_batch(batch, &expectations.taken(batch)?)?);
        if expectations.is_empty() { Ok(rows) } else { rows.iter().map(taken).collect() }
    }

    /// Rows that the expectations let in; those that they quarantine are staged.
    async fn judged(
        &self,
        rows: Vec<RecordBatch>,
        facts: &mut RefreshFacts,
    ) -> Result<(Vec<RecordBatch>, Vec<DataFile>)> {
        let expectations = &self.slot.view.expectations;
        facts.expectations = expectations.facts();
        if expectations.is_empty() {
            return Ok((rows, vec![]));
        }
        let table = match &self.slot.quarantine {
            Some(location) => Some(self.pass.storage.snapshot(location, None).await?),
            None => None,
        };
        let (mut kept, mut quarantined) = (Vec::with_capacity(rows.len()), Vec::new());
        for batch in &rows {
            let verdict = expectations.judge(batch)?;
            for (facts, (violations, removed)) in facts.expectations.iter_mut().zip(&verdict.counts) {
                facts.violations += violations;
                facts.removed += removed;
            }
            if let (Some(names), Some(table)) = (&verdict.quarantine, &table) {
                quarantined.push(quarantine_rows(batch, None, names, &table.schema, self.pass.record.now_us)?);
            }
            kept.push(filter_record_batch(batch, &verdict.keep)?);
        }
        let files = match (&table, quarantined.is_empty()) {
            (Some(table), false) => self.pass.storage.stage(table, self.pass.record.epoch, &quarantined).await?,
            _ => vec![],
        };
        Ok((kept, files))
    }

    /// The view's own rows with these keys.
    fn stored(&self, key: &[usize], keys: &Keys) -> Result<LogicalPlan> {
        let view = &self.slot.view;
        let name = TableReference::partial(view.name.schema.clone(), view.name.name.clone());
        let provider = self.pass.storage.provider(self.snapshot, None);
        let scan = LogicalPlanBuilder::scan(name, provider_as_source(provider), None)?.build()?;
        let columns = scan.schema().columns();
        let mut stored = Vec::with_capacity(key.len());
        for (at, values) in key.iter().zip(keys.columns()) {
            stored.push(arrow::compute::cast(values, view.schema.field(*at).data_type())?);
        }
        let keys = Keys::new(stored, keys.len())?;
        let tables = BTreeMap::from([(view.name.clone(), self.snapshot.clone())]);
        let moment = Moment { storage: self.pass.storage.as_ref(), tables, now_us: 0 };
        let parts = key.iter().enumerate().map(|(part, at)| (Expr::Column(columns[*at].clone()), part)).collect();
        moment.restricted(&scan, Some(&Restriction { keys: &keys, parts }))
    }

    /// What comes less what goes, in the view's stored types.
    async fn net(&self, state: &SessionState, come: Vec<RecordBatch>, go: Vec<RecordBatch>) -> Result<Option<Moved>> {
        let schema = &self.slot.view.schema;
        let stored =
            |batches: Vec<RecordBatch>| batches.iter().map(|batch| conform(batch, schema)).collect::<Result<Vec<_>>>();
        let mut rows = weigh(&stored(come)?, 1)?;
        rows.extend(weigh(&stored(go)?, -1)?);
        rows.retain(|batch| batch.num_rows() > 0);
        match rows.first().map(RecordBatch::schema) {
            Some(schema) => {
                let moved = consolidate(state, &schema, rows).await?;
                Ok(moved.map(|moved| moved.named(&self.slot.view.schema)).transpose()?)
            }
            None => Ok(None),
        }
    }

    async fn full(&self, shape: &Shape) -> Result<Work> {
        let plan = match shape {
            Shape::Full { plan, .. } => at(plan, &self.tables(&self.slot.view.inputs, Which::New).await?)?,
            shape => self.moment(Which::New).await?.at(shape.plan())?,
        };
        let state = bound_now(&self.pass.base, self.pass.record.now_us);
        let plan = clustered_plan(plan, shape)?;
        let mut rows = stream(&state, plan).await?;
        let (mut add, mut chunk, mut held) = (Vec::new(), Vec::new(), 0);
        let epoch = self.pass.record.epoch;
        let rows_max = if matches!(shape, Shape::Full { .. }) { FULL_CHUNK_ROWS_MAX } else { KEYED_FILE_ROWS_MAX };
        while let Some(batch) = futures::StreamExt::next(&mut rows).await {
            let batch = conform(&batch?, &self.slot.view.schema)?;
            held += batch.num_rows();
            if batch.num_rows() > 0 {
                self.slot.view.expectations.judge(&batch)?;
                chunk.push(batch);
            }
            if held >= rows_max {
                add.extend(self.pass.storage.stage(self.snapshot, epoch, &std::mem::take(&mut chunk)).await?);
                held = 0;
            }
        }
        if !chunk.is_empty() {
            add.extend(self.pass.storage.stage(self.snapshot, epoch, &chunk).await?);
        }
        let remove = self.all_files();
        Ok(Work { before: self.before, touches: true, add, remove, change: Change::Committed, ..Work::default() })
    }

    fn all_files(&self) -> Vec<String> {
        self.snapshot.files.iter().map(|file| file.path.clone()).collect()
    }

    async fn unique_index(&self, held: Option<UniqueIndex>, from_scratch: bool) -> Result<UniqueIndex> {
        let frontier = if from_scratch { 0 } else { self.snapshot.epoch };
        if let Some(index) = held.filter(|index| !from_scratch && index.frontier() == frontier) {
            return Ok(index);
        }
        let within = self.slot.view.definition.options.dedupe_within_ms;
        let within = within.map(|ms| i64::try_from(ms.saturating_mul(1000)).unwrap_or(i64::MAX));
        let folder = format!("{}/keys", self.slot.view.state_folder());
        UniqueIndex::open(Arc::clone(&self.pass.storage), folder, frontier, within).await
    }
}

/// Equal values of the column stay equal, and others stay others, when they are stored.
fn same_when_stored(plan: &LogicalPlan, stored: &SchemaRef, at: usize) -> bool {
    let (computed, stored) = (plan.schema().field(at).data_type(), stored.field(at).data_type());
    computed == stored || computed.is_integer() || computed.is_string()
}

/// Rows of one key beside each other, so that the files of a key are few.
fn clustered_plan(plan: LogicalPlan, shape: &Shape) -> Result<LogicalPlan> {
    let key = match shape {
        Shape::Keyed { plan } => shown_key(plan).unwrap_or_default(),
        _ => vec![],
    };
    let columns = plan.schema().columns();
    let order = key.into_iter().map(|at| Expr::Column(columns[at].clone()).sort(true, true)).collect::<Vec<_>>();
    Ok(if order.is_empty() { plan } else { LogicalPlanBuilder::from(plan).sort(order)?.build()? })
}
