//! Deploy: a project into a lake. All or nothing, and only what was planned.
//!
//! ```text
//!  plan ─▶ the one that was looked at? ─▶ definitions ─▶ one epoch: every new table is built beside the old one, and
//!             └ no: Conflict                 │           readers move to all of them at once
//!                                            ▼
//!                                      a crash from here on: deploy again, or any pass, goes on
//! ```
//!
//! No event is read for it where sources are quiet: views are built from what has landed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::plan::{PlannedChange, PlannedObject, id};
use crate::engine::{Applied, Engine, Pass, PassRequest, ProjectObject, State};
use crate::epoch::{Epoch, RefreshFacts};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;

/// What was done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deployed {
    /// The plan that was carried out.
    pub planned: Vec<PlannedObject>,
    /// The epoch since which readers see it.
    pub epoch: Epoch,
    /// Views that were to be built, and how that went.
    pub built: Vec<(TableName, RefreshFacts)>,
}

impl Engine {
    /// [`Engine::apply_project`], and passes until everything is built. Nobody else's pass comes in between.
    ///
    /// # Errors
    /// As `apply_project` and `pass`. A view that cannot be built is no error here: its facts tell why.
    pub async fn deploy(&self, objects: &[ProjectObject], expected: Option<&str>) -> Result<Deployed> {
        let mut state = self.state.lock().await;
        let planned = self.apply_project_in(&mut state, objects, expected).await?;
        let mut record = Arc::clone(&self.published().borrow());
        let mut built: BTreeMap<TableName, RefreshFacts> = BTreeMap::new();
        let mut open = self.unbuilt(&state);
        while !open.is_empty() {
            let pass = self.pass_in(&mut state, &PassRequest { all: true, full: vec![] }).await.map_err(|error| {
                let error = error.context("the definitions are applied, and what is new could not be built yet");
                error.with_hint("it is built, and readers move to it, with the next epoch")
            })?;
            let Pass::Published { record: published, .. } = pass else { break };
            record = published;
            let refreshes = open.iter().filter_map(|name| Some((name.clone(), record.refreshes.get(name)?.clone())));
            built.extend(refreshes);
            let left = self.unbuilt(&state);
            if left == open {
                break;
            }
            open = left;
        }
        let in_order = planned.iter().filter_map(|object| built.remove_entry(&object.name)).collect();
        Ok(Deployed { epoch: record.epoch, built: in_order, planned })
    }

    /// What readers do not see yet as it is defined. Each pass leaves less of it, or is the last.
    fn unbuilt(&self, state: &State) -> BTreeSet<TableName> {
        let published = self.published.borrow();
        let stands =
            |name: &TableName, location: &str| published.tables.get(name).map(|read| read.location == location);
        let views = state.graph.slots.iter().filter(|(name, slot)| stands(name, &slot.location) != Some(true));
        let tables = state.graph.tables.iter().filter(|(name, location)| stands(name, location) == Some(false));
        views.map(|(name, _)| name).chain(tables.map(|(name, _)| name)).cloned().collect()
    }

    /// Make the lake hold all files of a project, and of nothing else but what was made at a prompt; what was done. All
    /// or nothing. Views are built, and readers move to them, with the next pass. `expected`: the [`id`] of the plan that
    /// was looked at.
    ///
    /// # Errors
    /// `Conflict` when the plan is another one by now, or another process changes the lake; as `apply`.
    pub async fn apply_project(&self, objects: &[ProjectObject], expected: Option<&str>) -> Result<Vec<PlannedObject>> {
        self.apply_project_in(&mut *self.state.lock().await, objects, expected).await
    }

    async fn apply_project_in(
        &self,
        state: &mut State,
        objects: &[ProjectObject],
        expected: Option<&str>,
    ) -> Result<Vec<PlannedObject>> {
        self.finish_first(state).await?;
        let planned = self.plan_in(state, objects).await?;
        if let Some(expected) = expected.filter(|expected| *expected != id(&planned)) {
            let text = format!("what is to be done is not what plan {expected} says");
            return Err(Error::new(ErrorKind::Conflict, text)
                .with_detail(format!(
                    "the lake or the project has changed since; it would be plan {} now",
                    id(&planned)
                ))
                .with_hint("look at it again: flash plan"));
        }
        let removed = planned.iter().filter(|object| object.change == PlannedChange::Removed);
        let removed: Vec<TableName> = removed.map(|object| object.name.clone()).collect();
        self.apply_in(state, objects, &removed).await?;
        Ok(planned)
    }

    /// What a file has defined that is not among these any more.
    pub async fn left_over(&self, applied: &[(TableName, Applied)]) -> Vec<TableName> {
        let state = self.state.lock().await;
        let named = |name: &TableName| applied.iter().any(|(applied, _)| applied == name);
        let left = state.definitions.objects.iter().filter(|(name, object)| object.file.is_some() && !named(name));
        left.map(|(name, _)| name.clone()).collect()
    }
}
