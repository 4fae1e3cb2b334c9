//! What the next refresh of a view would do, without doing it.
//!
//! ```text
//!   inputs' changes since the view's frontier ─▶ plan::choose ─▶ the plan that would be carried out
//!        └─▶ keys that they touch ─▶ the view's files that may hold them
//! ```
//!
//! The same decision as `refresh_view` takes, over the same values. What a stream holds is not looked at.

use std::sync::Arc;

use crate::epoch::Version;
use crate::error::Result;
use crate::name::TableName;
use crate::refresh::change::{Change, Rows};
use crate::refresh::classify::{Shape, key_of_output};
use crate::refresh::keyed::{shown_key, topmost};
use crate::refresh::pass::{Pass, ViewSlot};
use crate::refresh::plan::RefreshPlan;
use crate::refresh::prune::{KeyColumn, may_hold};
use crate::refresh::refresh_view::{ViewRefresh, decide};
use crate::refresh::restrict::Keys;
use crate::storage::{DataFile, Snapshot};

/// The next refresh of a view.
#[derive(Debug)]
pub struct Preview {
    /// How it would be carried out.
    pub plan: RefreshPlan,
    /// What it would read, by input that is a table.
    pub inputs: Vec<Pending>,
    /// What it would replace, where that follows from keys.
    pub replaced: Option<Touched>,
}

/// What has come to an input since the view saw it last.
#[derive(Debug)]
pub struct Pending {
    /// The input.
    pub name: TableName,
    /// The version that the view reflects (0: none).
    pub seen: Version,
    /// The input as it is.
    pub now: Extent,
    /// Its version.
    pub version: Version,
    /// The rows that came and the rows that went.
    pub change: Extent,
}

/// So many rows in so many files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: usize,
}

/// The part of a view that a change touches.
#[derive(Debug)]
pub struct Touched {
    /// Keys of the change.
    pub keys: usize,
    /// Files of the view that may hold them.
    pub held: Extent,
    /// All of the view.
    pub all: Extent,
}

impl Extent {
    fn of(files: &[Arc<DataFile>]) -> Self {
        Self { rows: files.iter().map(|file| file.rows).sum(), files: files.len() }
    }

    fn of_change(change: &Change) -> Self {
        let files = |rows: &Rows| match rows {
            Rows::Memory(_) => 0,
            Rows::Files(_, files) => files.len(),
        };
        let files = match change {
            Change::Nothing | Change::Committed => 0,
            Change::Inserted(rows) => files(rows),
            Change::Changed { added, removed } => files(added) + files(removed),
        };
        Self { rows: change.rows(), files }
    }
}

/// Look ahead. `pass` has no participants.
///
/// # Errors
/// `NotIncremental` as the refresh itself; `Query`, `Storage`.
pub async fn preview(pass: &Pass, slot: &ViewSlot) -> Result<Preview> {
    let view = &slot.view;
    let before = pass.before(&view.name).filter(|state| state.location == slot.location);
    let (version, frontier) = before.map_or((0, 0), |state| (state.version, state.frontier));
    let snapshot = pass.storage.snapshot(&slot.location, Some(version)).await?;
    let (changes, plan) = decide(pass, slot, frontier).await?;
    let mut inputs = Vec::new();
    for (name, change) in &changes {
        let Some((location, version)) = crate::refresh::inputs::current(pass, name) else { continue };
        let now = pass.storage.snapshot(&location, Some(version)).await?;
        let seen = pass.seen(name, frontier)?;
        let change = Extent::of_change(change);
        inputs.push(Pending { name: name.clone(), seen, now: Extent::of(&now.files), version, change });
    }
    let refresh = ViewRefresh { pass, slot, snapshot: &snapshot, before: version, frontier };
    let node = match (&plan, &view.shape) {
        (RefreshPlan::MergeState { .. } | RefreshPlan::ReplaceKeys { .. }, shape) if frontier > 0 => match shape {
            Shape::Merge { plan, .. } => Some(topmost(plan)),
            shape => shown_key(shape.plan()).map(|_| topmost(shape.plan())),
        },
        _ => None,
    };
    let mut replaced = None;
    if let Some(node) = node {
        let deltas = refresh.deltas(&pass.serial, &changes).await?;
        if let Some(keys) = deltas.touched_keys(node).await? {
            replaced = Some(touched(slot, &snapshot, &keys)?);
        }
    }
    Ok(Preview { plan, inputs, replaced })
}

fn touched(slot: &ViewSlot, snapshot: &Snapshot, keys: &Keys) -> Result<Touched> {
    let all = Extent::of(&snapshot.files);
    let held = match slot.view.shape {
        // The state of groups without a row is in no file of the view.
        Shape::Merge { having: true, .. } => all,
        _ => Extent::of(&may_hold(&snapshot.files, &snapshot.partitioned_by, &shown(slot, keys), keys.len())?),
    };
    Ok(Touched { keys: keys.len(), held, all })
}

/// The parts of the keys that the view shows.
fn shown(slot: &ViewSlot, keys: &Keys) -> Vec<KeyColumn> {
    let column = |name: &str, part: usize| KeyColumn { name: name.into(), values: Arc::clone(&keys.columns()[part]) };
    let fields = slot.view.schema.fields();
    match &slot.view.shape {
        Shape::Merge { plan, aggregate, .. } => {
            let outputs = plan.schema().columns();
            let parts = outputs.iter().map(|output| key_of_output(plan, output, aggregate));
            parts.zip(fields).filter_map(|(part, field)| Some(column(field.name(), part?))).collect()
        }
        shape => {
            let places = shown_key(shape.plan()).unwrap_or_default();
            places.into_iter().enumerate().map(|(part, at)| column(fields[at].name(), part)).collect()
        }
    }
}
