//! Tables that a newer definition of their view has replaced: kept for a while, to go back to.
//!
//! ```text
//!   view at A ──apply: defined otherwise──▶ view at B, A retired with the epoch that it reflects
//!        ▲                                     │
//!        └──apply: defined as before───────────┤ within go_back_us, its inputs where they were: it reads what has come since
//!                                              │ later: a new table
//!                                              └─ KEPT after it was read last: A's files go, but for what others have
//!   DROP ──▶ retired, too: not gone back to, and its files stay for DROPPED_KEPT
//! ```
//!
//! What a retired table has read is still there as long as removed files of its inputs are: that is the limit of going back.
//! A table that holds more than the epoch that it was last read at (a crash came between) is not gone back to.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::definitions::{Definitions, Kind, Object, Retired};
use crate::engine::Graph;
use crate::epoch::{Epoch, PublishedRecord, TableState};
use crate::name::TableName;
use crate::refresh::compile::{CompiledView, state_folder};
use crate::refresh::pass::ViewSlot;

/// How long a retired table can be gone back to, in microseconds: three fifths of the time that removed files of its inputs
/// are kept.
fn go_back_us(retention_ms: i64) -> i64 {
    retention_ms.saturating_mul(600)
}

/// How long its files stay, in microseconds: as long as those that a commit has removed.
const KEPT_US: i64 = 3_600_000_000;

/// How long those of a table that was dropped stay, in microseconds: 7 days, for somebody to find that it was a mistake.
const DROPPED_KEPT_US: i64 = 7 * 24 * 3_600 * 1_000_000;

/// Tables that one round of maintenance deletes, so that it ends.
const SWEPT_MAX: usize = 4;

/// The tables that `new` puts others in the place of.
///
/// `then_us`: what the time was in an older epoch, where that is known.
pub(super) fn replaced(
    old: &Graph,
    new: &Graph,
    published: &PublishedRecord,
    then_us: impl Fn(Epoch) -> Option<i64>,
    now_us: i64,
) -> Vec<Retired> {
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
        let frontier = published.tables.get(name).map_or(0, |state| state.frontier);
        let read_us = if frontier == published.epoch { Some(now_us) } else { then_us(frontier) };
        retired.push(Retired {
            name: name.clone(),
            object: object.clone(),
            read_us: read_us.unwrap_or(0),
            states: stands(name.clone(), &slot.location).into_iter().chain(quarantine).collect(),
            inputs: inputs(&slot.view, old),
            state_folder: slot.view.state_folder(),
            since_us: now_us,
            dropped: false,
        });
    }
    retired
}

/// What is defined no more, and tables whose rows come of another file now: kept for a while, and not gone back to.
pub(super) fn dropped(old: &Graph, new: &Graph, now_us: i64) -> Vec<Retired> {
    let is_gone = |(name, object): &(&TableName, &Object)| {
        // A reference table whose file is another one has another table.
        let moved = |new: &Object| object.kind == Kind::Table && new.location != object.location;
        let gone = new.definitions.objects.get(*name).is_none_or(moved);
        gone && object.kind != Kind::Source && !object.location.is_empty()
    };
    let objects = old.definitions.objects.iter().filter(is_gone);
    let retired = objects.map(|(name, object)| Retired {
        name: name.clone(),
        object: object.clone(),
        states: BTreeMap::new(),
        inputs: BTreeMap::new(),
        state_folder: state_folder(name, &object.fingerprint),
        since_us: now_us,
        read_us: 0,
        dropped: true,
    });
    retired.collect()
}

/// The table that a view had when it was defined as it is now, if it can go on from where it stands.
pub(super) fn former<'a>(
    view: &CompiledView,
    graph: &Graph,
    definitions: &'a Definitions,
    now_us: i64,
    retention_ms: i64,
) -> Option<&'a Retired> {
    let is_former = |it: &&Retired| {
        it.name == view.name
            && it.object.fingerprint == view.fingerprint
            && it.read_us > now_us - go_back_us(retention_ms)
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
        let is_former = |slot: &&std::sync::Arc<ViewSlot>| {
            slot.location == retired.object.location && slot.view.fingerprint == retired.object.fingerprint
        };
        let slot = slots.get(&retired.name).filter(is_former);
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
    /// To be deleted: of each table that is over its place and its folders. It is kept until they are gone.
    pub gone: Vec<(String, Vec<String>)>,
}

/// Decide it. `swept`: the places of tables whose folders are deleted.
pub(super) fn sweep(
    definitions: &Definitions,
    published: &PublishedRecord,
    swept: &BTreeSet<String>,
    now_us: i64,
) -> Sweep {
    let (mut kept, mut over) = (Vec::new(), BTreeSet::new());
    for retired in &definitions.retired {
        let (name, location) = (&retired.name, &retired.object.location);
        let wanted = definitions.objects.get(name).is_some_and(|object| object.location == *location);
        let read = published.tables.get(name).is_some_and(|at| at.location == *location);
        // The newest record may name what was dropped since; nobody reads it.
        let read = read && definitions.objects.contains_key(name);
        let kept_us = if retired.dropped { DROPPED_KEPT_US } else { KEPT_US };
        match (wanted, read) {
            // The view is back.
            (true, true) => {}
            // What takes its place is not built yet: the time runs from when readers have moved.
            (false, true) if retired.since_us <= now_us - KEPT_US / 2 => {
                kept.push(Retired { since_us: now_us, ..retired.clone() });
            }
            (false, false) if retired.since_us <= now_us - kept_us => {
                if !swept.contains(location) {
                    if over.len() < SWEPT_MAX {
                        over.insert(location.clone());
                    }
                    kept.push(retired.clone());
                }
            }
            _ => kept.push(retired.clone()),
        }
    }
    let (gone, others): (Vec<_>, Vec<_>) = kept.iter().cloned().partition(|it| over.contains(&it.object.location));
    let needed = needed(definitions, &others, published);
    let folders = |retired: &Retired| {
        let folders = retired.object.folders().chain([&retired.state_folder]);
        folders.filter(|folder| !needed.contains(*folder)).cloned().collect()
    };
    Sweep { gone: gone.iter().map(|it| (it.object.location.clone(), folders(it))).collect(), kept }
}

/// Folders of everything that is defined, read, or retired.
pub(super) fn known(definitions: &Definitions, published: &PublishedRecord) -> BTreeSet<String> {
    needed(definitions, &definitions.retired, published)
}

/// Folders of everything that is defined, read, or retired and not gone; a definition that is made once more has the hidden
/// state of the one before.
fn needed(definitions: &Definitions, kept: &[Retired], published: &PublishedRecord) -> BTreeSet<String> {
    let objects = definitions.objects.iter().flat_map(|(name, object)| {
        object.folders().cloned().chain([state_folder(name, &object.fingerprint)]).collect::<Vec<_>>()
    });
    let kept = kept.iter().flat_map(|retired| retired.object.folders().chain([&retired.state_folder]).cloned());
    // The newest record may name what was dropped since; nobody reads it.
    let read = published.tables.iter().filter(|(name, _)| {
        definitions.objects.iter().any(|(object, _)| object == *name || object.quarantine() == **name)
    });
    objects.chain(kept).chain(read.map(|(_, state)| state.location.clone())).collect()
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

    fn state_at(location: &str) -> TableState {
        TableState { location: location.into(), version: 3, frontier: 2, rows: 1, totals: Default::default() }
    }

    /// s.v was at "s/a", is defined at `wanted` and read at `published`.
    fn lake(wanted: &str, published: &str, retired: &str, since_us: i64) -> (Definitions, PublishedRecord) {
        let name: TableName = "s.v".parse().unwrap();
        let retired = Retired {
            name: name.clone(),
            object: object(retired),
            states: [(name.clone(), state_at(retired))].into(),
            inputs: BTreeMap::new(),
            state_folder: format!("_state/{retired}"),
            since_us,
            read_us: since_us,
            dropped: false,
        };
        let objects = [(name.clone(), object(wanted))].into();
        let record = PublishedRecord { tables: [(name, state_at(published))].into(), ..PublishedRecord::default() };
        (Definitions { number: 1, objects, retired: vec![retired] }, record)
    }

    #[test]
    fn files_go_when_nobody_needs_them() {
        let none = BTreeSet::new();
        let swept = |(definitions, published): (Definitions, PublishedRecord), now_us| {
            let Sweep { kept, gone } = sweep(&definitions, &published, &none, now_us);
            (kept.iter().map(|retired| retired.since_us).collect::<Vec<_>>(), gone)
        };
        let gone = vec![("s/a".to_string(), vec!["s/a".to_string(), "_state/s/a".to_string()])];
        assert_eq!(swept(lake("s/b", "s/b", "s/a", 0), HOUR_US - 1), (vec![0], vec![]), "for a while they stay");
        assert_eq!(swept(lake("s/b", "s/b", "s/a", 0), HOUR_US), (vec![0], gone), "kept until they are gone");
        let (definitions, published) = lake("s/b", "s/b", "s/a", 0);
        assert_eq!(sweep(&definitions, &published, &["s/a".to_string()].into(), HOUR_US), Sweep::default());
        let until_built = (vec![HOUR_US], vec![]);
        assert_eq!(swept(lake("s/b", "s/a", "s/a", 0), HOUR_US), until_built, "they are read until s/b is built");
        assert_eq!(
            swept(lake("s/a", "s/b", "s/a", 0), HOUR_US),
            (vec![0], vec![]),
            "the view is on its way back to them"
        );
        assert_eq!(swept(lake("s/a", "s/a", "s/a", 0), HOUR_US), (vec![], vec![]), "the view is back");
    }

    #[test]
    fn what_was_dropped_goes_after_a_week() {
        let (mut definitions, published) = lake("s/a", "s/a", "s/a", 0);
        definitions.objects.clear();
        definitions.retired[0].dropped = true;
        let gone = |now_us| sweep(&definitions, &published, &BTreeSet::new(), now_us).gone.len();
        assert_eq!((gone(7 * 24 * HOUR_US - 1), gone(7 * 24 * HOUR_US)), (0, 1));
        let kept = sweep(&definitions, &published, &BTreeSet::new(), 0).kept;
        assert_eq!(kept, definitions.retired, "that it was read is no reason to begin anew");
    }

    #[test]
    fn what_somebody_else_has_stays() {
        let folders = |definitions: &Definitions, published: &PublishedRecord| {
            sweep(definitions, published, &BTreeSet::new(), HOUR_US).gone.remove(0).1
        };
        // Defined as it was, in another table: the hidden state is of both.
        let (mut definitions, published) = lake("s/b", "s/b", "s/a", 0);
        let again = Object { fingerprint: "s/a".into(), ..object("s/b") };
        definitions.objects.insert("s.v".parse().unwrap(), again);
        let state = state_folder(&"s.v".parse().unwrap(), "s/a");
        definitions.retired[0].state_folder = state;
        assert_eq!(folders(&definitions, &published), ["s/a"]);
        // One quarantine table of both, and one that is still read.
        let (mut definitions, mut published) = lake("s/b", "s/b", "s/a", 0);
        definitions.retired[0].object.quarantine = Some("s/q".into());
        published.tables.insert("s.v_quarantine".parse().unwrap(), state_at("s/q"));
        assert_eq!(folders(&definitions, &published), ["s/a", "_state/s/a"]);
    }
}
