//! The `system` schema: what the engine knows of itself, as tables.
//!
//! ```text
//!  materialized_views   one row a view: where it stands
//!  versions             one row a version that readers have had of a table (`catalog::published`)
//!  refreshes            one row a refresh: view_name, epoch, mode, reason, ...
//!  expectations         one row an expectation and refresh
//!  dependencies         one row an edge
//!  shards               one row a shard: how far it has been read, and how far behind that is
//!  data_loss            one row a gap: records that were gone before they were read
//!  maintenance          one row a piece of upkeep of one table (`catalog::maintenance`)
//!  users, roles         who there is: roles, attributes, tokens by name; no secrets
//!  grants               one row a right
//!  policies, masks      one row each
//!  audit_log            one row a log-in or statement (a table of the lake, see `engine::audit_log`)
//! ```
//!
//! All of it is read from the definitions and the published records; there is no other history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use crate::catalog::access::{Access, Grant, Policy, User};
use crate::catalog::published;
use crate::epoch::{DataLoss, Position, PublishedRecord};
use crate::error::Result;
use crate::name::TableName;
use crate::parser::GrantOn;

/// The schema's name.
pub const SCHEMA: &str = "system";

/// One line of `system.materialized_views`.
#[derive(Debug, Clone)]
pub struct ViewLine {
    /// The view.
    pub name: TableName,
    /// Its statement.
    pub definition: String,
    /// What it reads.
    pub inputs: Vec<TableName>,
    /// How it is kept: `append`, `merge_state` or `full`.
    pub mode: String,
    /// Why.
    pub reason: String,
    /// The lag that its definition asks for.
    pub target_lag_ms: Option<u64>,
    /// Suspended by ALTER.
    pub suspended: bool,
}

/// Collects columns of one table.
#[derive(Default)]
pub(super) struct Table {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Table {
    pub(super) fn text(mut self, name: &str, values: impl Iterator<Item = Option<String>>) -> Self {
        self.fields.push(Field::new(name, DataType::Utf8, true));
        self.columns.push(Arc::new(values.collect::<StringArray>()));
        self
    }

    pub(super) fn number(mut self, name: &str, values: impl Iterator<Item = Option<u64>>) -> Self {
        self.fields.push(Field::new(name, DataType::Int64, true));
        let values = values.map(|value| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX)));
        self.columns.push(Arc::new(values.collect::<Int64Array>()));
        self
    }

    fn flag(mut self, name: &str, values: impl Iterator<Item = bool>) -> Self {
        self.fields.push(Field::new(name, DataType::Boolean, true));
        self.columns.push(Arc::new(values.map(Some).collect::<BooleanArray>()));
        self
    }

    pub(super) fn instant(mut self, name: &str, values: impl Iterator<Item = Option<i64>>) -> Self {
        self.fields.push(Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true));
        self.columns.push(Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC")));
        self
    }

    pub(super) fn provider(self) -> Result<Arc<dyn TableProvider>> {
        let schema = Arc::new(Schema::new(self.fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), self.columns)?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
    }
}

/// The tables of who may do what.
///
/// # Errors
/// `Internal` when columns differ in length.
pub fn access_tables(access: &Access) -> Result<BTreeMap<TableName, Arc<dyn TableProvider>>> {
    let list = |names: &BTreeSet<String>| Some(names.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
    let users = access.users.iter().collect::<Vec<_>>();
    let attributes = |user: &User| {
        Some(user.attributes.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", "))
    };
    let tokens = |user: &User| Some(user.tokens.keys().map(String::as_str).collect::<Vec<_>>().join(", "));
    let users = Table::default()
        .text("user_name", users.iter().map(|(name, _)| Some((*name).clone())))
        .flag("enabled", users.iter().map(|(_, user)| user.enabled))
        .flag("has_password", users.iter().map(|(_, user)| user.password.is_some()))
        .text("roles", users.iter().map(|(_, user)| list(&user.roles)))
        .text("attributes", users.iter().map(|(_, user)| attributes(user)))
        .text("tokens", users.iter().map(|(_, user)| tokens(user)))
        .text("limits", users.iter().map(|(_, user)| Some(user.limits.to_string())));
    let roles = access.roles.iter().collect::<Vec<_>>();
    let of_roles = roles.iter().flat_map(|(name, role)| role.grants.iter().map(move |grant| (*name, grant)));
    let of_users = access.users.iter().flat_map(|(name, user)| user.grants.iter().map(move |grant| (name, grant)));
    let grants = of_roles.chain(of_users).collect::<Vec<_>>();
    let on = |grant: &Grant| match &grant.on {
        GrantOn::Table(table) => table.to_string(),
        GrantOn::Schema(schema) => format!("{schema}.*"),
    };
    let grants = Table::default()
        .text("grantee", grants.iter().map(|(name, _)| Some((*name).clone())))
        .text("privilege", grants.iter().map(|(_, grant)| Some(format!("{:?}", grant.privilege).to_uppercase())))
        .text("object_name", grants.iter().map(|(_, grant)| Some(on(grant))));
    let roles = Table::default()
        .text("role_name", roles.iter().map(|(name, _)| Some((*name).clone())))
        .text("roles", roles.iter().map(|(_, role)| list(&role.roles)))
        .text("limits", roles.iter().map(|(_, role)| Some(role.limits.to_string())));
    let policies = access.policies.iter();
    let policies = policies.flat_map(|(table, named)| named.iter().map(move |(name, policy)| (table, name, policy)));
    let policies = policies.collect::<Vec<_>>();
    let kind = |policy: &Policy| if policy.restrictive { "restrictive" } else { "permissive" };
    let policies = Table::default()
        .text("policy_name", policies.iter().map(|(_, name, _)| Some((*name).clone())))
        .text("object_name", policies.iter().map(|(table, ..)| Some(table.to_string())))
        .text("kind", policies.iter().map(|(.., policy)| Some(kind(policy).into())))
        .text("roles", policies.iter().map(|(.., policy)| list(&policy.to)))
        .text("condition", policies.iter().map(|(.., policy)| Some(policy.using.clone())));
    let masks = access.masks.iter();
    let masks = masks.flat_map(|(table, named)| named.iter().map(move |(name, mask)| (table, name, mask)));
    let masks = masks.collect::<Vec<_>>();
    let masks = Table::default()
        .text("mask_name", masks.iter().map(|(_, name, _)| Some((*name).clone())))
        .text("object_name", masks.iter().map(|(table, ..)| Some(table.to_string())))
        .text("column_name", masks.iter().map(|(.., mask)| Some(mask.column.clone())))
        .text("roles", masks.iter().map(|(.., mask)| list(&mask.to)))
        .text("value", masks.iter().map(|(.., mask)| Some(mask.using.clone())));
    let named = [("users", users), ("roles", roles), ("grants", grants), ("policies", policies), ("masks", masks)];
    named.into_iter().map(|(name, table)| Ok((TableName::new(SCHEMA, name), table.provider()?))).collect()
}

/// All tables of the schema. `history`: published records, oldest first; `losses` of all sources likewise.
///
/// # Errors
/// `Internal` when columns differ in length.
pub fn tables(
    views: &[ViewLine],
    newest: &Arc<PublishedRecord>,
    history: &[Arc<PublishedRecord>],
    losses: &[DataLoss],
) -> Result<BTreeMap<TableName, Arc<dyn TableProvider>>> {
    let mut tables = BTreeMap::new();
    tables.insert(TableName::new(SCHEMA, "materialized_views"), materialized_views(views, newest)?);
    tables.insert(TableName::new(SCHEMA, "versions"), published::versions(newest, history)?);
    tables.insert(TableName::new(SCHEMA, "refreshes"), refreshes(history)?);
    tables.insert(TableName::new(SCHEMA, "expectations"), expectations(history)?);
    tables.insert(TableName::new(SCHEMA, "dependencies"), dependencies(views)?);
    tables.insert(TableName::new(SCHEMA, "shards"), shards(newest)?);
    tables.insert(TableName::new(SCHEMA, "data_loss"), data_loss(losses)?);
    Ok(tables)
}

fn materialized_views(views: &[ViewLine], newest: &PublishedRecord) -> Result<Arc<dyn TableProvider>> {
    let state = |view: &ViewLine| newest.tables.get(&view.name);
    Table::default()
        .text("view_name", views.iter().map(|view| Some(view.name.to_string())))
        .text("mode", views.iter().map(|view| Some(view.mode.clone())))
        .text("reason", views.iter().map(|view| Some(view.reason.clone())))
        .text("location", views.iter().map(|view| state(view).map(|s| s.location.clone())))
        .number("version", views.iter().map(|view| state(view).map(|s| s.version)))
        .number("rows", views.iter().map(|view| state(view).map(|s| s.rows)))
        .number("frontier", views.iter().map(|view| state(view).map(|s| s.frontier)))
        .number("target_lag_ms", views.iter().map(|view| view.target_lag_ms))
        .flag("suspended", views.iter().map(|view| view.suspended))
        .number("duplicates", views.iter().map(|view| state(view).map(|s| s.totals.duplicates)))
        .number("dropped", views.iter().map(|view| state(view).map(|s| s.totals.dropped)))
        .number("quarantined", views.iter().map(|view| state(view).map(|s| s.totals.quarantined)))
        .number("expired", views.iter().map(|view| state(view).map(|s| s.totals.expired)))
        .instant("expired_before", views.iter().map(|view| state(view).and_then(|s| s.totals.expired_us)))
        .text("definition", views.iter().map(|view| Some(view.definition.clone())))
        .provider()
}

fn refreshes(history: &[Arc<PublishedRecord>]) -> Result<Arc<dyn TableProvider>> {
    let lines =
        history.iter().flat_map(|record| record.refreshes.iter().map(move |(view, facts)| (record, view, facts)));
    let lines = lines.collect::<Vec<_>>();
    let removed = |facts: &crate::epoch::RefreshFacts, action: &str| {
        Some(facts.expectations.iter().filter(|e| e.action == action).map(|e| e.removed).sum::<u64>())
    };
    Table::default()
        .text("view_name", lines.iter().map(|(_, view, _)| Some(view.to_string())))
        .number("epoch", lines.iter().map(|(record, ..)| Some(record.epoch)))
        .text("mode", lines.iter().map(|(.., facts)| Some(facts.mode.clone())))
        .text("reason", lines.iter().map(|(.., facts)| Some(facts.reason.clone())))
        .text(
            "state",
            lines.iter().map(|(.., facts)| Some(if facts.error.is_some() { "failed" } else { "done" }.into())),
        )
        .instant("published_at", lines.iter().map(|(record, ..)| Some(record.published_us)))
        .number("took_ms", lines.iter().map(|(.., facts)| Some(facts.took_ms)))
        .number("rows_in", lines.iter().map(|(.., facts)| Some(facts.rows_in)))
        .number("rows_out", lines.iter().map(|(.., facts)| Some(facts.rows_out)))
        .number("duplicates", lines.iter().map(|(.., facts)| Some(facts.duplicates)))
        .number("dropped", lines.iter().map(|(.., facts)| removed(facts, "drop_row")))
        .number("quarantined", lines.iter().map(|(.., facts)| removed(facts, "quarantine_row")))
        .number("expired", lines.iter().map(|(.., facts)| Some(facts.expired)))
        .number("bytes_written", lines.iter().map(|(.., facts)| Some(facts.bytes_written)))
        .text("error", lines.iter().map(|(.., facts)| facts.error.clone()))
        .provider()
}

fn expectations(history: &[Arc<PublishedRecord>]) -> Result<Arc<dyn TableProvider>> {
    let mut lines = Vec::new();
    for record in history {
        for (view, facts) in &record.refreshes {
            lines.extend(facts.expectations.iter().map(|expectation| (record.epoch, view, expectation)));
        }
    }
    Table::default()
        .text("view_name", lines.iter().map(|(_, view, _)| Some(view.to_string())))
        .number("epoch", lines.iter().map(|(epoch, ..)| Some(*epoch)))
        .text("expectation", lines.iter().map(|(.., e)| Some(e.name.clone())))
        .text("action", lines.iter().map(|(.., e)| Some(e.action.clone())))
        .number("violations", lines.iter().map(|(.., e)| Some(e.violations)))
        .number("removed", lines.iter().map(|(.., e)| Some(e.removed)))
        .provider()
}

fn dependencies(views: &[ViewLine]) -> Result<Arc<dyn TableProvider>> {
    let edges = views.iter().flat_map(|view| view.inputs.iter().map(move |input| (&view.name, input)));
    let edges = edges.collect::<Vec<_>>();
    Table::default()
        .text("view_name", edges.iter().map(|(view, _)| Some(view.to_string())))
        .text("input_name", edges.iter().map(|(_, input)| Some(input.to_string())))
        .provider()
}

fn shards(newest: &PublishedRecord) -> Result<Arc<dyn TableProvider>> {
    let lines = newest.sources.iter().flat_map(|(source, positions)| {
        positions.shards.iter().map(move |(shard, position)| (source, shard, position))
    });
    let lines = lines.collect::<Vec<_>>();
    Table::default()
        .text("source_name", lines.iter().map(|(source, ..)| Some(source.to_string())))
        .text("shard_id", lines.iter().map(|(_, shard, _)| Some((*shard).clone())))
        .text("position", lines.iter().map(|(.., position)| Some(position_text(position))))
        .number("behind_ms", lines.iter().map(|(source, shard, _)| behind_ms(newest, source, shard)))
        .instant("as_of", lines.iter().map(|_| Some(newest.now_us)))
        .provider()
}

/// How far the last record that is landed was behind the newest one; `None` where the source cannot tell.
fn behind_ms(newest: &PublishedRecord, source: &TableName, shard: &str) -> Option<u64> {
    let behind = newest.behind_ms.get(source)?;
    Some(behind.get(shard).map_or(0, |ms| u64::try_from(*ms).unwrap_or(0)))
}

fn data_loss(losses: &[DataLoss]) -> Result<Arc<dyn TableProvider>> {
    Table::default()
        .text("source_name", losses.iter().map(|found| Some(found.source.to_string())))
        .text("shard_id", losses.iter().map(|found| Some(found.loss.shard.clone())))
        .text("after_position", losses.iter().map(|found| Some(position_text(&found.loss.after))))
        .text("next_position", losses.iter().map(|found| found.loss.next.as_ref().map(|next| next.0.clone())))
        .text("reason", losses.iter().map(|found| Some(found.loss.reason.clone())))
        .instant("found_at", losses.iter().map(|found| Some(found.found_us)))
        .provider()
}

fn position_text(position: &Position) -> String {
    match position {
        Position::TrimHorizon => "trim_horizon".into(),
        Position::AtTimestamp(ms) => format!("at_timestamp {ms}"),
        Position::After(sequence) => sequence.0.clone(),
        Position::Offset { bytes, .. } => bytes.to_string(),
        Position::End => "end".into(),
    }
}
