//! What the next refresh of a view would do, without doing it.
//!
//! ```text
//!   inputs' changes since the view's frontier ─▶ plan::choose ─▶ the plan that would be carried out
//!        └─▶ keys that they touch ─┬─▶ the view's files that may hold them
//!                                  └─▶ the inputs' files that may hold rows with them
//! ```
//!
//! The same decision as `refresh_view` takes, over the same values. What a stream holds is not looked at.

use std::sync::Arc;

use crate::epoch::Version;
use crate::error::Result;
use crate::name::TableName;
use crate::refresh::classify::{Shape, key_of_output};
use crate::refresh::cost::{Extent, opened};
use crate::refresh::keyed::shown_key;
use crate::refresh::pass::{Pass, ViewSlot};
use crate::refresh::plan::RefreshPlan;
use crate::refresh::prune::{KeyColumn, may_hold};
use crate::refresh::refresh_view::{Decision, ViewRefresh};
use crate::refresh::restrict::Keys;
use crate::storage::Snapshot;

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
    /// What is read once more, to compute rows with the change's keys anew.
    pub restricted: Option<Extent>,
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

/// Look ahead. `pass` has no participants.
///
/// # Errors
/// `NotIncremental` as the refresh itself; `Query`, `Storage`.
pub async fn preview(pass: &Pass, slot: &ViewSlot) -> Result<Preview> {
    let view = &slot.view;
    let before = pass.before(&view.name).filter(|state| state.location == slot.location);
    let (version, frontier) = before.map_or((0, 0), |state| (state.version, state.frontier));
    let snapshot = pass.storage.snapshot(&slot.location, Some(version)).await?;
    let refresh = ViewRefresh { pass, slot, snapshot: &snapshot, before: version, frontier };
    let Decision { changes, plan, keys } = refresh.decide().await?;
    let mut inputs = Vec::new();
    for (name, change) in &changes {
        let Some((location, version)) = crate::refresh::inputs::current(pass, name) else { continue };
        let now = pass.storage.snapshot(&location, Some(version)).await?;
        let seen = pass.seen(name, frontier)?;
        let change = Extent::of_change(change);
        inputs.push(Pending {
            name: name.clone(),
            seen,
            now: Extent::of(&now.files),
            version,
            change,
            restricted: None,
        });
    }
    let keyed = matches!(plan, RefreshPlan::MergeState { .. } | RefreshPlan::ReplaceKeys { .. }) && frontier > 0;
    let mut replaced = None;
    if let Some(node) = refresh.keyed_node().filter(|_| keyed) {
        let deltas = refresh.deltas(&pass.serial, &changes).await?;
        let touched_keys = match keys {
            None => deltas.touched_keys(node).await?,
            known => known,
        };
        if let Some(keys) = touched_keys {
            replaced = Some(touched(slot, &snapshot, &keys)?);
            if let (RefreshPlan::ReplaceKeys { .. }, node) = (&plan, slot.view.shape.plan()) {
                let read = opened(&deltas.of_keys(node, &keys)?)?;
                inputs.iter_mut().for_each(|input| input.restricted = read.get(&input.name).copied());
            }
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
