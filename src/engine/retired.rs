//! Tables that a newer definition of their view has replaced: kept for a while, to go back to.
//!
//! ```text
//!   view at A ──apply: defined otherwise──▶ view at B, A retired with the epoch that it reflects
//!        ▲                                     │
//!        └──apply: defined as before───────────┤ within GO_BACK_MAX, its inputs where they were: it reads what has come since
//!                                              │ later: a new table
//!                                              └─ after KEPT: A's files go
//! ```
//!
//! What a retired table has read is still there as long as removed files of its inputs are: that is the limit of going back.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::definitions::{Definitions, Retired};
use crate::engine::Graph;
use crate::epoch::{PublishedRecord, TableState};
use crate::name::TableName;
use crate::refresh::compile::CompiledView;
use crate::refresh::pass::ViewSlot;

/// How long a retired table can be gone back to, in microseconds: less than removed files of its inputs are kept.
const GO_BACK_MAX_US: i64 = 45 * 60 * 1_000_000;

/// How long its files stay, in microseconds: as long as those that a commit has removed.
const KEPT_US: i64 = super::epochs::RETENTION_MS * 1_000;

/// Tables that one round of maintenance deletes, so that it ends.
const SWEPT_MAX: usize = 4;

/// The tables that `new` puts others in the place of.
pub(super) fn replaced(old: &Graph, new: &Graph, published: &PublishedRecord, now_us: i64) -> Vec<Retired> {
    let mut retired = Vec::new();
    for (name, slot) in &old.slots {
        let moved = new.slots.get(name).is_some_and(|it| it.location != slot.location);
        let reads_stream = slot.view.inputs.iter().any(|input| old.sources.contains_key(input));
        let (true, false, Some(object)) = (moved, reads_stream, old.definitions.objects.get(name)) else { continue };
        let stands = |name: TableName, location: &str| {
            let state = published.tables.get(&name).filter(|state| state.location == location)?.clone();
            Some((name, state))
        };
        let quarantine = slot.quarantine.as_ref().and_then(|location| stands(name.quarantine(), location));
        retired.push(Retired {
            name: name.clone(),
            object: object.clone(),
            states: stands(name.clone(), &slot.location).into_iter().chain(quarantine).collect(),
            inputs: inputs(&slot.view, old),
            state_folder: slot.view.state_folder(),
            since_us: now_us,
        });
    }
    retired
}

/// The table that a view had when it was defined as it is now, if it can go on from where it stands.
pub(super) fn former<'a>(
    view: &CompiledView,
    graph: &Graph,
    definitions: &'a Definitions,
    now_us: i64,
) -> Option<&'a Retired> {
    let is_former = |it: &&Retired| {
        it.name == view.name
            && it.object.fingerprint == view.fingerprint
            && it.since_us > now_us - GO_BACK_MAX_US
            && it.states.contains_key(&it.name)
            && it.inputs == inputs(view, graph)
    };
    definitions.retired.iter().rev().find(is_former)
}

/// Where the tables of views that go back stand, for the epoch that takes them up again.
pub(super) fn resumed(
    definitions: &Definitions,
    slots: &BTreeMap<TableName, std::sync::Arc<ViewSlot>>,
    published: &PublishedRecord,
) -> BTreeMap<TableName, TableState> {
    let mut resumed = BTreeMap::new();
    for retired in &definitions.retired {
        let here = |location: &String| published.tables.get(&retired.name).is_some_and(|at| at.location == *location);
        let slot = slots.get(&retired.name).filter(|slot| slot.location == retired.object.location);
        if slot.is_some_and(|slot| !here(&slot.location)) {
            resumed.extend(retired.states.clone());
        }
    }
    resumed
}

/// What becomes of the retired tables: those that stay so, and folders that nobody needs any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sweep {
    /// To be written down.
    pub kept: Vec<Retired>,
    /// To be deleted.
    pub folders: Vec<String>,
}

/// Decide it.
pub(super) fn sweep(definitions: &Definitions, published: &PublishedRecord, now_us: i64) -> Sweep {
    let read = published.tables.values().map(|state| state.location.as_str());
    let wanted = definitions.objects.values().map(|object| object.location.as_str());
    let in_use: BTreeSet<&str> = read.chain(wanted).collect();
    let (mut sweep, mut swept) = (Sweep::default(), 0);
    for retired in &definitions.retired {
        let location = retired.object.location.as_str();
        let taken_up = published.tables.get(&retired.name).is_some_and(|at| at.location == location);
        match (in_use.contains(location), retired.since_us > now_us - KEPT_US) {
            (true, _) if taken_up => {}
            (false, false) if swept < SWEPT_MAX => {
                swept += 1;
                let folders =
                    [Some(&retired.object.location), retired.object.quarantine.as_ref(), Some(&retired.state_folder)];
                sweep.folders.extend(folders.into_iter().flatten().cloned());
            }
            _ => sweep.kept.push(retired.clone()),
        }
    }
    sweep
}

/// Where the tables are that a view reads.
fn inputs(view: &CompiledView, graph: &Graph) -> BTreeMap<TableName, String> {
    let location = |name: &TableName| {
        let view = graph.slots.get(name).map(|slot| &slot.location);
        view.or_else(|| graph.tables.get(name)).cloned().unwrap_or_default()
    };
    view.inputs.iter().map(|name| (name.clone(), location(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::definitions::{Kind, Object};

    const HOUR_US: i64 = 3_600_000_000;

    fn object(location: &str) -> Object {
        let (sql, fingerprint) = (String::new(), location.to_string());
        Object {
            kind: Kind::View,
            sql,
            file: None,
            location: location.into(),
            quarantine: None,
            fingerprint,
            suspended: false,
        }
    }

    fn state(location: &str) -> TableState {
        TableState { location: location.into(), version: 3, frontier: 2, rows: 1, totals: Default::default() }
    }

    /// s.v was at "s/a", is defined at `wanted` and read at `published`.
    fn lake(wanted: &str, published: &str, retired: &str, since_us: i64) -> (Definitions, PublishedRecord) {
        let name: TableName = "s.v".parse().unwrap();
        let retired = Retired {
            name: name.clone(),
            object: object(retired),
            states: [(name.clone(), state(retired))].into(),
            inputs: BTreeMap::new(),
            state_folder: format!("_state/{retired}"),
            since_us,
        };
        let objects = [(name.clone(), object(wanted))].into();
        let record = PublishedRecord { tables: [(name, state(published))].into(), ..PublishedRecord::default() };
        (Definitions { number: 1, objects, retired: vec![retired] }, record)
    }

    #[test]
    fn files_go_when_nobody_needs_them() {
        let swept = |(definitions, published): (Definitions, PublishedRecord), now_us| {
            let Sweep { kept, folders } = sweep(&definitions, &published, now_us);
            (kept.len(), folders)
        };
        let gone = vec!["s/a".to_string(), "_state/s/a".to_string()];
        assert_eq!(swept(lake("s/b", "s/b", "s/a", 0), HOUR_US - 1), (1, vec![]), "for a while they stay");
        assert_eq!(swept(lake("s/b", "s/b", "s/a", 0), HOUR_US), (0, gone));
        assert_eq!(swept(lake("s/b", "s/a", "s/a", 0), HOUR_US).1, [] as [&str; 0], "they are read until s/b is built");
        assert_eq!(swept(lake("s/a", "s/b", "s/a", 0), HOUR_US), (1, vec![]), "the view is on its way back to them");
        assert_eq!(swept(lake("s/a", "s/a", "s/a", 0), HOUR_US), (0, vec![]), "the view is back");
    }
}
