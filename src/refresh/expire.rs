//! Rows whose time is over go from a view: which files, and what is written in their place. See `retention`.
//!
//! ```text
//!   row by row   files: Stays | Goes ─▶ remove | Split ─▶ read, the rest ─▶ stage, remove     one file after the other
//!   merged       keys of the expired groups ─▶ Merge: these groups, computed from nothing     their state goes with them
//! ```

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::Column;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::logical_plan::EmptyRelation;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use crate::epoch::Epoch;
use crate::error::{Error, ErrorKind, Result};
use crate::refresh::classify::Shape;
use crate::refresh::compile::CompiledView;
use crate::refresh::execute::{collect, conform};
use crate::refresh::keyed::shown_key;
use crate::refresh::merge::{Merge, Merged, Taken};
use crate::refresh::pass::ViewSlot;
use crate::refresh::restrict::Keys;
use crate::refresh::retention::{Fate, Retention, column_of};
use crate::storage::{Commit, DataFile, Snapshot, Storage};

/// Files that are read and written in one epoch for one view.
const FILES_SPLIT_MAX: usize = 64;
/// Groups that go in one epoch from one view.
const GROUPS_MAX: usize = 100_000;

/// What is to be committed.
#[derive(Debug, Default)]
pub struct Expired {
    /// Rows that go.
    pub rows: u64,
    /// The commit; without files nothing is to be done.
    pub commit: Commit,
    /// More is left for another epoch.
    pub more: bool,
}

/// Everything that expiry works with.
#[derive(Debug)]
pub struct Expiry<'a> {
    /// The lake.
    pub storage: &'a dyn Storage,
    /// Functions and runtime.
    pub state: &'a SessionState,
    /// The view.
    pub slot: &'a ViewSlot,
    /// How long its rows stay.
    pub retention: &'a Retention,
    /// Rows from before this go, in microseconds since 1970 UTC.
    pub cutoff_us: i64,
}

impl Expiry<'_> {
    /// Is there a file that may hold expired rows?
    pub fn is_due(&self, snapshot: &Snapshot) -> bool {
        snapshot.files.iter().any(|file| self.fate(file, snapshot) != Fate::Stays)
    }

    fn fate(&self, file: &DataFile, snapshot: &Snapshot) -> Fate {
        self.retention.fate(file, &snapshot.partitioned_by, self.cutoff_us)
    }

    /// Stage what takes the place of the files with expired rows.
    ///
    /// # Errors
    /// `Storage`, `Corrupt`.
    pub async fn run(&self, snapshot: &Snapshot, epoch: Epoch) -> Result<Expired> {
        let expired = match &self.slot.view.shape {
            Shape::Merge { .. } => self.groups(snapshot, epoch).await?,
            _ => self.files(snapshot, epoch).await?,
        };
        let commit = Commit { data_change: true, expiry: true, operation: "DELETE", ..expired.commit };
        Ok(Expired { commit, ..expired })
    }

    async fn files(&self, snapshot: &Snapshot, epoch: Epoch) -> Result<Expired> {
        let mut expired = Expired::default();
        let mut split = 0;
        for file in snapshot.files.iter() {
            match self.fate(file, snapshot) {
                Fate::Stays => {}
                Fate::Goes => {
                    expired.rows += file.rows;
                    expired.commit.remove.push(file.path.clone());
                }
                Fate::Split if split >= FILES_SPLIT_MAX => expired.more = true,
                Fate::Split => {
                    let kept = self.rest_of(snapshot, file).await?;
                    let rows = kept.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
                    if rows < file.rows {
                        split += 1;
                        expired.rows += file.rows - rows;
                        expired.commit.remove.push(file.path.clone());
                        if rows > 0 {
                            expired.commit.add.extend(self.storage.stage(snapshot, epoch, &kept).await?);
                        }
                    }
                }
            }
        }
        Ok(expired)
    }

    async fn rest_of(&self, snapshot: &Snapshot, file: &Arc<DataFile>) -> Result<Vec<RecordBatch>> {
        let rows = self.scan(snapshot, Some(vec![Arc::clone(file)]))?;
        let rows = rows.filter(self.retention.kept(column_of(self.retention), self.cutoff_us))?.build()?;
        let batches = collect(self.state, rows).await?;
        let batches = batches.iter().filter(|batch| batch.num_rows() > 0);
        batches.map(|batch| conform(batch, &snapshot.schema)).collect()
    }

    fn scan(&self, snapshot: &Snapshot, files: Option<Vec<Arc<DataFile>>>) -> Result<LogicalPlanBuilder> {
        let provider = self.storage.provider(snapshot, files);
        Ok(LogicalPlanBuilder::scan("__stored", provider_as_source(provider), None)?)
    }

    async fn groups(&self, snapshot: &Snapshot, epoch: Epoch) -> Result<Expired> {
        if !self.is_due(snapshot) {
            return Ok(Expired::default());
        }
        let which = self.retention.expired(column_of(self.retention), self.cutoff_us);
        let groups = Groups { storage: self.storage, state: self.state, view: &self.slot.view };
        let (merged, rows) = groups.take(snapshot, epoch, which, Some(GROUPS_MAX), false).await?;
        let commit = Commit { add: merged.add, remove: merged.remove, ..Commit::default() };
        Ok(Expired { rows: rows as u64, commit, more: rows >= GROUPS_MAX })
    }
}

/// Groups of a view that is kept by merging, to be taken out with their state.
#[derive(Debug)]
pub struct Groups<'a> {
    /// The lake.
    pub storage: &'a dyn Storage,
    /// Functions and runtime.
    pub state: &'a SessionState,
    /// The view.
    pub view: &'a CompiledView,
}

impl Groups<'_> {
    /// Take out the groups, `most` of them at most, whose rows satisfy a condition over the view's columns: what is to be
    /// committed, and how many they are. `shown`: give the change of the view's rows, too.
    ///
    /// # Errors
    /// `Storage`, `Corrupt`; `Internal` for a view of another shape.
    pub async fn take(
        &self,
        snapshot: &Snapshot,
        epoch: Epoch,
        which: Expr,
        most: Option<usize>,
        shown: bool,
    ) -> Result<(Merged, usize)> {
        let view = self.view;
        let (Shape::Merge { plan, aggregate, having, .. }, Some(key)) = (&view.shape, shown_key(view.shape.plan()))
        else {
            return Err(Error::new(ErrorKind::Internal, format!("{} shows no groups", view.name)));
        };
        let columns = key.iter().map(|at| Column::from_name(view.schema.field(*at).name()));
        let provider = provider_as_source(self.storage.provider(snapshot, None));
        let rows = LogicalPlanBuilder::scan("__stored", provider, None)?.filter(which)?;
        let rows = rows.project(columns.map(Expr::Column))?.limit(0, most)?.build()?;
        let batches = collect(self.state, rows).await?;
        let keys = batches.iter().filter(|batch| batch.num_rows() > 0).map(|batch| {
            let types = aggregate.schema.fields().iter();
            let columns = batch.columns().iter().zip(types);
            let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
            Keys::new(columns.collect::<Result<Vec<_>, _>>()?, batch.num_rows())
        });
        let keys = keys.collect::<Result<Vec<_>>>()?;
        if keys.is_empty() {
            return Ok((Merged::default(), 0));
        }
        let keys = Keys::all(&keys)?;
        let rows = keys.len();
        let merge = Merge { storage: self.storage, state: self.state, view, plan, aggregate, having: *having };
        let nothing = EmptyRelation { produce_one_row: false, schema: Arc::clone(aggregate.input.schema()) };
        let taken = Taken::OfKeys(keys, LogicalPlan::EmptyRelation(nothing));
        Ok((merge.run(snapshot, epoch, taken, shown).await?, rows))
    }
}
