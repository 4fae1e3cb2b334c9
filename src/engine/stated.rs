//! Rules that stand in the files of a project: who sees what of each object.
//!
//! ```text
//!   files ─▶ StatedChanges ─▶ closed ─▶ definitions change ─▶ opened, object by object, when what readers see is what
//!                                                            the new definition makes; see catalog::access::Stated
//!
//!   check ─▶ rules of the objects, from the sources up ─┬─▶ a policy that does not reach a view
//!                                                       └─▶ a view that is granted, and has no policy
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;

use crate::catalog::access::{Access, Changed, Stated};
use crate::catalog::{Principal, policy};
use crate::engine::apply::Desired;
use crate::engine::rules::lifted;
use crate::engine::{Engine, Graph, State};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{self, Statement};
use crate::refresh::compile::Readable;

/// What applying some files changes of who sees what.
#[derive(Debug, Default)]
pub(super) struct StatedChanges(Vec<StatedChange>);

#[derive(Debug)]
struct StatedChange {
    on: TableName,
    now: Stated,
    /// Of the object's new definition; empty where it goes.
    fingerprint: String,
}

impl StatedChanges {
    /// Of these objects. One that is made at a prompt says nothing, also in the place of a file's.
    pub(super) fn of<'a>(
        objects: &BTreeMap<TableName, Desired>,
        graph: &Graph,
        names: impl Iterator<Item = &'a TableName>,
    ) -> Self {
        let of_files = names.filter(|name| objects.get(*name).is_none_or(|object| object.file.is_some()));
        let change = |name: &TableName| {
            let fingerprint = graph.definitions.objects.get(name).map(|object| object.fingerprint.clone());
            StatedChange {
                on: name.clone(),
                now: objects.get(name).map(|object| object.stated.clone()).unwrap_or_default(),
                fingerprint: fingerprint.unwrap_or_default(),
            }
        };
        Self(of_files.map(change).collect())
    }

    pub(super) fn closed(&self, access: &Access) -> Result<Access> {
        let one = |access: Access, it: &StatedChange| {
            access.closed(&it.on, &it.now, &it.fingerprint).map_err(|error| error.context(&it.on))
        };
        self.0.iter().try_fold(access.clone(), one)
    }

    /// What changes for this object, as lines.
    pub(super) fn difference(&self, access: &Access, name: &TableName) -> Result<Vec<String>> {
        match self.0.iter().find(|change| change.on == *name) {
            Some(it) => access.difference(name, &it.now, &it.fingerprint).map_err(|error| error.context(name)),
            None => Ok(vec![]),
        }
    }
}

impl Engine {
    /// Make a change of who sees what, if it is one.
    pub(super) async fn save_stated(&self, change: impl Fn(&Access) -> Result<Access>) -> Result<()> {
        let access = self.load_access().await?;
        if change(&access)? == *access {
            return Ok(());
        }
        self.save_access(|access| Ok(Changed { access: change(access)?, message: String::new() })).await.map(drop)
    }

    /// End what was begun with the objects that readers see as they are defined now.
    pub(super) async fn open_changed(&self, state: &State) -> Result<()> {
        if self.access.read().1.changing.is_empty() {
            return Ok(());
        }
        let published = Arc::clone(&self.published.borrow());
        let stands = |name: &TableName, fingerprint: &str| match state.definitions.objects.get(name) {
            None => fingerprint.is_empty(),
            Some(object) => {
                let read = published.tables.get(name);
                object.fingerprint == fingerprint && read.is_none_or(|read| read.location == object.location)
            }
        };
        let opened = |access: &Access| {
            let ready = access.changing.iter().filter(|(name, change)| stands(name, &change.fingerprint));
            ready.map(|(name, _)| name).try_fold(access.clone(), |access, name| access.opened(name))
        };
        self.save_stated(opened).await
    }

    /// The conditions and values in an object's rules fit its columns.
    pub(super) fn check_rules(&self, object: &Desired, schema: &SchemaRef) -> Result<()> {
        for rule in &object.rules {
            let Statement::Access(access) = &rule.statement else { continue };
            let at = || parser::location_at(&object.sql, rule.offset, object.file.as_deref());
            policy::fits(&self.asked_by_nobody(), access, schema).map_err(|error| error.with_location(at()))?;
        }
        Ok(())
    }

    /// For expressions that are looked at, and give no rows.
    fn asked_by_nobody(&self) -> SessionState {
        let mut state = self.base.clone();
        policy::register(&mut state, &Principal::local());
        state
    }

    /// What is surely not meant, of who sees what in a project: views that policies below do not reach, and what is
    /// granted without a policy though the project has some.
    pub(super) fn unguarded(
        &self,
        desired: &BTreeMap<TableName, Desired>,
        graph: &Graph,
        readable: &Readable,
    ) -> Vec<Error> {
        if desired.values().all(|object| object.stated.policies.is_empty()) {
            return vec![];
        }
        let state = self.asked_by_nobody();
        let (mut rows, mut found): (BTreeMap<&TableName, Vec<Expr>>, Vec<Error>) = (BTreeMap::new(), vec![]);
        let mut refused = BTreeSet::new();
        let tables = desired.keys().filter(|name| !graph.slots.contains_key(*name));
        for name in tables.chain(&graph.order) {
            let (Some(object), Some(table)) = (desired.get(name), readable.get(name)) else { continue };
            let warn = |error: Error| {
                let at = parser::location_at(&object.sql, object.parsed.offset, object.file.as_deref());
                error.with_location(at)
            };
            let slot = graph.slots.get(name);
            let mut conditions = vec![];
            for policy in object.stated.policies.values() {
                conditions.extend(policy::condition(&state, &policy.using, &table.schema).ok());
            }
            for input in slot.into_iter().filter(|_| !object.stated.declassified).flat_map(|slot| &slot.view.inputs) {
                if refused.contains(input) {
                    refused.insert(name);
                }
                for condition in rows.get(input).into_iter().flatten() {
                    let plan = slot.map(|slot| slot.view.shape.plan());
                    match plan.map(|plan| lifted(name, plan, input, condition)) {
                        Some(Ok(lifted)) => conditions.extend(lifted),
                        // Once is enough.
                        Some(Err(error)) if refused.insert(name) => found.push(warn(error)),
                        Some(Err(_)) => {}
                        None => {}
                    }
                }
            }
            let granted = object.stated.grants.iter().map(|(to, _)| to.as_str()).collect::<Vec<_>>();
            if conditions.is_empty() && !refused.contains(name) && !granted.is_empty() && !object.stated.declassified {
                found.push(warn(nothing_hidden(name, &granted)));
            }
            rows.insert(name, conditions);
        }
        found
    }
}

fn nothing_hidden(name: &TableName, granted: &[&str]) -> Error {
    let names = granted.join(", ");
    Error::new(ErrorKind::Definition, format!("{name} is granted to {names}, and has no policy"))
        .with_detail("all of its rows are shown to them")
        .with_hint(format!("CREATE POLICY ... ON {name} TO {names} USING (...); (true) says that it is meant so"))
}
