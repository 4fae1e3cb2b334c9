//! Plan: what applying a project would change. Nothing is written.
//!
//! ```text
//!  files ─▶ compile, as for apply ─▶ fingerprints ─┐
//!                                                  ├─▶ new, changed, rebuilt, altered, elsewhere, removed, unchanged
//!  stored definitions and their fingerprints ──────┘
//! ```
//!
//! A fingerprint is that of the normalised plan and of what it reads, so that spaces, comments and the order of conditions are
//! no change, and a change of a view is one of those above it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalog::definitions::{Definitions, Kind};
use crate::engine::apply::{Desired, parse_object, stored};
use crate::engine::stated::StatedChanges;
use crate::engine::{Engine, Graph, ProjectObject, State};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{self, RetentionOptions, Statement};
use crate::refresh::plan::kept_by;

/// What applying a project would do to one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedChange {
    /// It is made.
    New,
    /// Its own definition differs: it is built anew, beside the old one.
    Changed,
    /// What it is built on changes, so it is built anew. Empty: another version of the program compiles it otherwise.
    Rebuilt {
        /// Those of its inputs that change.
        because: Vec<TableName>,
    },
    /// Its rows stay; its comment, how fresh it is, or who sees what of it changes.
    Altered,
    /// A source is read from elsewhere, or otherwise; what has landed stays.
    Elsewhere,
    /// No file defines it any more.
    Removed,
    /// Nothing.
    Unchanged,
}

/// One object of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlannedObject {
    /// Its name.
    pub name: TableName,
    /// What it is.
    pub kind: Kind,
    /// The file that defines it.
    pub file: Option<String>,
    /// What happens.
    pub change: PlannedChange,
    /// Its statement in the lake.
    pub before: Option<String>,
    /// Its statement in the project.
    pub after: Option<String>,
    /// How the view is refreshed: now, and afterwards.
    pub mode: (Option<String>, Option<String>),
    /// Why it is refreshed so.
    pub reason: Option<String>,
    /// What building it reads.
    pub reads: Vec<Read>,
    /// That of its new definition; empty for one that is removed.
    pub fingerprint: String,
    /// What changes of who sees what of it: `+ POLICY ...`, `- GRANT ...`.
    pub rules: Vec<String>,
}

/// What tells a plan from all others: what would change, and into what. Rows that came since are no difference.
pub fn id(planned: &[PlannedObject]) -> String {
    let changes = planned.iter().filter(|object| object.change != PlannedChange::Unchanged);
    let text: String = changes
        .map(|object| {
            let PlannedObject { name, change, fingerprint, before, after, rules, .. } = object;
            format!("{name} {change:?} {fingerprint} {before:?} {after:?} {rules:?}\n")
        })
        .collect();
    format!("{:08x}", (twox_hash::XxHash3_128::oneshot(text.as_bytes())) as u32)
}

/// What building a view reads of one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The input.
    pub input: TableName,
    /// Rows that it has now; `None` for a stream.
    pub rows: Option<u64>,
    /// Bytes of its files.
    pub bytes: u64,
}

impl Engine {
    /// What `apply` of all files of a project, and of nothing else, would change.
    ///
    /// # Errors
    /// As `apply`.
    pub async fn plan(&self, objects: &[ProjectObject]) -> Result<Vec<PlannedObject>> {
        self.plan_in(&*self.state.lock().await, objects).await
    }

    pub(super) async fn plan_in(&self, state: &State, objects: &[ProjectObject]) -> Result<Vec<PlannedObject>> {
        let old = &state.definitions;
        let mut desired = BTreeMap::new();
        for object in objects {
            let (name, wanted) = parse_object(object)?;
            if desired.insert(name.clone(), wanted).is_some() {
                return Err(Error::new(ErrorKind::Definition, format!("{name} is defined twice")));
            }
        }
        // What was made at a prompt is no part of the project, and stays.
        let before = stored(old)?;
        for (name, object) in before.iter().filter(|(_, object)| object.file.is_none()) {
            desired.entry(name.clone()).or_insert_with(|| object.clone());
        }
        let graph = self.build(&desired, old, false).await?;
        let access = self.load_access().await?;
        let removed = before.keys().filter(|name| !desired.contains_key(*name));
        let stated = StatedChanges::of(&desired, &graph, desired.keys().chain(removed));
        let mut changed: BTreeMap<TableName, PlannedChange> = BTreeMap::new();
        let tables = desired.keys().filter(|name| !graph.slots.contains_key(*name));
        let mut planned = Vec::new();
        for name in tables.chain(&graph.order) {
            let slot = graph.slots.get(name);
            let mut fingerprint = slot.map_or(&graph.definitions.objects[name].fingerprint, |it| &it.view.fingerprint);
            if let (Some(slot), Some(before)) = (slot, old.objects.get(name))
                && self.stays(&slot.view, &graph, old, before, &desired[name])?
            {
                fingerprint = &before.fingerprint;
            }
            let inputs = slot.map(|slot| &slot.view.inputs).into_iter().flatten();
            let moved = inputs.filter(|input| changed.get(*input).is_some_and(|change| change.builds()));
            let because = moved.cloned().collect();
            let rules = stated.difference(&access, name)?;
            let ruled = !rules.is_empty();
            let change = decide(name, old, before.get(name), &desired[name], fingerprint, because, ruled);
            changed.insert(name.clone(), change.clone());
            let fingerprint = fingerprint.clone();
            let object = self.planned(name, &desired[name], change, &graph, &state.graph, before.get(name)).await?;
            planned.push(PlannedObject { fingerprint, rules, ..object });
        }
        let removed = before.iter().filter(|(name, _)| !desired.contains_key(*name));
        for (name, object) in removed {
            planned.push(PlannedObject {
                name: name.clone(),
                kind: old.objects[name].kind,
                file: object.file.clone(),
                change: PlannedChange::Removed,
                before: Some(object.sql.clone()),
                after: None,
                mode: (state.graph.slots.get(name).map(|slot| slot.view.shape.mode().to_string()), None),
                reason: None,
                reads: vec![],
                fingerprint: String::new(),
                rules: stated.difference(&access, name)?,
            });
        }
        Ok(planned)
    }

    async fn planned(
        &self,
        name: &TableName,
        desired: &Desired,
        change: PlannedChange,
        graph: &Graph,
        now: &Graph,
        before: Option<&Desired>,
    ) -> Result<PlannedObject> {
        let slot = graph.slots.get(name);
        let builds = slot.filter(|_| change.builds());
        let mut reads = Vec::new();
        for input in builds.into_iter().flat_map(|slot| &slot.view.inputs) {
            reads.push(self.size(input, now).await?);
        }
        let mode = |slot: &crate::refresh::pass::ViewSlot| slot.view.shape.mode().to_string();
        Ok(PlannedObject {
            name: name.clone(),
            kind: graph.definitions.objects[name].kind,
            file: desired.file.clone(),
            change,
            before: before.map(|before| before.sql.clone()),
            after: Some(desired.sql.clone()),
            mode: (now.slots.get(name).map(|slot| mode(slot)), slot.map(|slot| mode(slot))),
            reason: slot.map(|slot| kept_by(&slot.view.shape)),
            reads,
            fingerprint: String::new(),
            rules: vec![],
        })
    }

    /// What an input holds now; one that does not exist yet holds nothing.
    async fn size(&self, input: &TableName, now: &Graph) -> Result<Read> {
        let location = now.tables.get(input).or_else(|| now.slots.get(input).map(|slot| &slot.location));
        let (rows, bytes) = match location {
            Some(location) => {
                let snapshot = self.storage.snapshot(location, None).await?;
                let sum = |of: fn(&crate::storage::DataFile) -> u64| snapshot.files.iter().map(|file| of(file)).sum();
                (Some(sum(|file| file.rows)), sum(|file| file.size))
            }
            None if now.sources.contains_key(input) => (None, 0),
            None => (Some(0), 0),
        };
        Ok(Read { input: input.clone(), rows, bytes })
    }
}

impl PlannedChange {
    /// Its rows are computed anew, and so are those of what is built on it.
    pub fn builds(&self) -> bool {
        matches!(self, Self::New | Self::Changed | Self::Rebuilt { .. })
    }
}

/// `ruled`: who sees what of it changes.
fn decide(
    name: &TableName,
    old: &Definitions,
    before: Option<&Desired>,
    desired: &Desired,
    fingerprint: &str,
    because: Vec<TableName>,
    ruled: bool,
) -> PlannedChange {
    let (Some(stored), Some(before)) = (old.objects.get(name), before) else { return PlannedChange::New };
    let same_text = parser::same_words(&before.parsed.text, &desired.parsed.text);
    match (stored.fingerprint == fingerprint, stored.kind) {
        (true, Kind::Source) if !same_text => PlannedChange::Elsewhere,
        (true, _) if ruled || beside_rows(&before.parsed.statement) != beside_rows(&desired.parsed.statement) => {
            PlannedChange::Altered
        }
        (true, _) => PlannedChange::Unchanged,
        (false, Kind::View) if same_text => PlannedChange::Rebuilt { because },
        (false, _) => PlannedChange::Changed,
    }
}

/// What a definition says that its rows do not follow from.
fn beside_rows(statement: &Statement) -> (Option<&str>, Option<u64>, Option<&RetentionOptions>, bool) {
    match statement {
        Statement::CreateMaterializedView(view) => {
            let options = &view.options;
            (view.comment.as_deref(), options.target_lag_ms, options.retention.as_ref(), options.ignores_expired)
        }
        Statement::CreateTable(table) => (table.comment.as_deref(), None, None, false),
        _ => (None, None, None, false),
    }
}
