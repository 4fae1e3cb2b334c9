//! Rules that stand in the files of a project: who sees what of each object.
//!
//! ```text
//!   files before, files now ─▶ StatedChanges ─┬─ closed ─▶ what hides     before the definitions change
//!                                             └─ opened ─▶ what shows     after it; see catalog::access::Stated
//!
//!   check ─▶ rules of the objects, from the sources up ─┬─▶ a policy that does not reach a view
//!                                                       └─▶ a view that is granted, and has no policy
//! ```

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;

use crate::catalog::access::{Access, Changed, Stated};
use crate::catalog::{Principal, policy};
use crate::engine::apply::Desired;
use crate::engine::rules::lifted;
use crate::engine::{Engine, Graph};
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
    before: Stated,
    now: Stated,
    /// Of the object's new definition.
    fingerprint: String,
}

impl StatedChanges {
    /// Of these objects. One that is made at a prompt says nothing, also in the place of a file's.
    pub(super) fn between<'a>(
        before: &BTreeMap<TableName, Desired>,
        now: &BTreeMap<TableName, Desired>,
        graph: &Graph,
        names: impl Iterator<Item = &'a TableName>,
    ) -> Self {
        let changes = names.filter(|name| now.get(*name).is_none_or(|object| object.file.is_some())).map(|name| {
            let stated = |objects: &BTreeMap<TableName, Desired>| {
                objects.get(name).map(|object| object.stated.clone()).unwrap_or_default()
            };
            let fingerprint = graph.definitions.objects.get(name).map(|object| object.fingerprint.clone());
            StatedChange {
                on: name.clone(),
                before: stated(before),
                now: stated(now),
                fingerprint: fingerprint.unwrap_or_default(),
            }
        });
        Self(changes.filter(|change| !change.before.is_empty() || !change.now.is_empty()).collect())
    }

    pub(super) fn closed(&self, access: &Access) -> Result<Access> {
        let one = |access: Access, it: &StatedChange| access.closed(&it.on, &it.before, &it.now);
        self.0.iter().try_fold(access.clone(), one)
    }

    pub(super) fn opened(&self, access: &Access) -> Result<Access> {
        let one = |access: Access, it: &StatedChange| access.opened(&it.on, &it.before, &it.now, &it.fingerprint);
        self.0.iter().try_fold(access.clone(), one)
    }

    /// Is there anything to change for this object?
    pub(super) fn changes(&self, access: &Access, name: &TableName) -> Result<bool> {
        let Some(it) = self.0.iter().find(|change| change.on == *name) else { return Ok(false) };
        let next = access.closed(name, &it.before, &it.now)?.opened(name, &it.before, &it.now, &it.fingerprint)?;
        Ok(next != *access)
    }
}

impl Engine {
    /// Make the lake hold what files say, if it does not.
    pub(super) async fn save_stated(&self, change: impl Fn(&Access) -> Result<Access>) -> Result<()> {
        let access = self.load_access().await?;
        if change(&access)? == *access {
            return Ok(());
        }
        self.save_access(|access| Ok(Changed { access: change(access)?, message: String::new() })).await.map(drop)
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
        let (mut rows, mut found): (BTreeMap<&TableName, Vec<Expr>>, _) = (BTreeMap::new(), vec![]);
        let tables = desired.keys().filter(|name| !graph.slots.contains_key(*name));
        for name in tables.chain(&graph.order) {
            let Some(object) = desired.get(name) else { continue };
            let warn = |error: Error| {
                let at = parser::location_at(&object.sql, object.parsed.offset, object.file.as_deref());
                error.with_location(at)
            };
            let slot = graph.slots.get(name);
            let (mut conditions, mut lost) = (vec![], false);
            for policy in object.stated.policies.values() {
                let schema = readable.get(name).map(|table| &table.schema);
                conditions.extend(schema.and_then(|schema| policy::condition(&state, &policy.using, schema).ok()));
            }
            for input in slot.into_iter().filter(|_| !object.stated.declassified).flat_map(|slot| &slot.view.inputs) {
                for condition in rows.get(input).into_iter().flatten() {
                    let plan = slot.map(|slot| slot.view.shape.plan());
                    match plan.map(|plan| lifted(name, plan, input, condition)) {
                        Some(Ok(lifted)) => conditions.extend(lifted),
                        Some(Err(error)) => {
                            found.push(warn(error));
                            lost = true;
                        }
                        None => {}
                    }
                }
            }
            let granted = object.stated.grants.iter().map(|(to, _)| to.as_str()).collect::<Vec<_>>();
            if conditions.is_empty() && !lost && !granted.is_empty() && !object.stated.declassified {
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
