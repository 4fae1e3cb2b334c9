//! Lineage: what every object is built on, and which columns each of its columns is made of.
//!
//! ```text
//!   compiled views ─▶ inputs                                  gold.kpis ◀─ silver.events ◀─ bronze.events ◀─ raw.events
//!                 └─▶ refresh::lineage::sources, by column    revenue ◀─ silver.events.revenue, computed
//! ```
//!
//! Conditions (filters, keys of joins and groups) choose rows; they are no part of a value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::catalog::definitions::Kind;
use crate::engine::Engine;
use crate::error::Result;
use crate::name::TableName;
use crate::refresh::compile::CompiledView;
pub use crate::refresh::lineage::Use;
use crate::refresh::lineage::{Origin, sources};
use crate::refresh::pass::source_schema;

/// One object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// What it is.
    pub kind: Kind,
    /// What it is built on.
    pub inputs: BTreeSet<TableName>,
    /// Its columns, in order, each with what it is made of.
    pub columns: Vec<(String, BTreeSet<Origin>)>,
}

impl Engine {
    /// Every object of the lake, with its inputs and the origins of its columns.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn lineage(&self) -> Result<BTreeMap<TableName, Traced>> {
        let graph = Arc::clone(&self.graph.read());
        let mut traced = BTreeMap::new();
        for (name, object) in &graph.definitions.objects {
            let one = match (graph.slots.get(name), graph.tables.get(name)) {
                (Some(slot), _) => view(&slot.view),
                (None, Some(location)) => leaf(object.kind, &self.storage.snapshot(location, None).await?.schema),
                (None, None) => leaf(object.kind, &source_schema()),
            };
            traced.insert(name.clone(), one);
        }
        Ok(traced)
    }
}

fn view(view: &CompiledView) -> Traced {
    let plan = view.shape.plan();
    let at = |name: &str| plan.schema().fields().iter().position(|shown| shown.name() == name);
    let origins = |name: &str| at(name).map(|at| sources(plan, at)).unwrap_or_default();
    let columns = view.schema.fields().iter().map(|field| (field.name().clone(), origins(field.name())));
    Traced { kind: Kind::View, inputs: view.inputs.clone(), columns: columns.collect() }
}

fn leaf(kind: Kind, schema: &SchemaRef) -> Traced {
    let columns = schema.fields().iter().map(|field| (field.name().clone(), BTreeSet::new()));
    Traced { kind, inputs: BTreeSet::new(), columns: columns.collect() }
}
