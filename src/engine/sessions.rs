//! Sessions for queries: every table at the version that the newest published epoch names.
//!
//! ```text
//!  published record ─▶ catalog of pinned providers (made once an epoch, shared) ─▶ a session of its own per request
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, TableProvider};
use datafusion::prelude::SessionContext;

use crate::catalog::session::{Declared, catalog_of, session_over};
use crate::catalog::{Principal, system};
use crate::engine::Engine;
use crate::epoch::Epoch;
use crate::error::Result;
use crate::name::TableName;
use crate::refresh::pass::source_schema;
use crate::refresh::plan::kept_by;

/// The tables of one published epoch under one set of definitions.
#[derive(Debug, Clone)]
pub(crate) struct Pinned {
    epoch: Epoch,
    definitions: u64,
    losses: usize,
    catalog: Arc<dyn CatalogProvider>,
}

impl Engine {
    /// A session for queries, pinned to the newest published epoch: catalog `flash`, every table of the lake under
    /// its schema, `system.*`, `information_schema`. Cheap: the tables are made once an epoch.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn session(&self, _principal: &Principal) -> Result<SessionContext> {
        self.load_published_by_others().await?;
        let (epoch, definitions) = (self.published.borrow().epoch, self.graph.read().definitions.number);
        let losses = self.losses.read().len();
        let held = self.pinned.read().clone();
        let is_current =
            |pinned: &Pinned| pinned.epoch == epoch && pinned.definitions == definitions && pinned.losses == losses;
        if let Some(pinned) = held.filter(is_current) {
            return Ok(session_over(&self.base, pinned.catalog));
        }
        let pinned = self.pin().await?;
        *self.pinned.write() = Some(pinned.clone());
        Ok(session_over(&self.base, pinned.catalog))
    }

    async fn pin(&self) -> Result<Pinned> {
        let published = Arc::clone(&self.published.borrow());
        let graph = Arc::clone(&self.graph.read());
        let mut tables: BTreeMap<TableName, Arc<dyn TableProvider>> = BTreeMap::new();
        for (name, location) in &graph.tables {
            // An ordinary table that no epoch has seen yet is empty to readers.
            let version = published.tables.get(name).map_or(0, |state| state.version);
            let snapshot = self.storage.snapshot(location, Some(version)).await?;
            tables.insert(name.clone(), self.storage.provider(&snapshot, None));
        }
        for (name, slot) in &graph.slots {
            let at = published.tables.get(name);
            // A changed view is read at its old place until the new one has been published.
            let (location, version) = at.map_or((&slot.location, 0), |state| (&state.location, state.version));
            let snapshot = self.storage.snapshot(location, Some(version)).await?;
            tables.insert(name.clone(), self.storage.provider(&snapshot, None));
            if let Some(location) = &slot.quarantine {
                let at = published.tables.get(&name.quarantine());
                let (location, version) = at.map_or((location, 0), |state| (&state.location, state.version));
                let snapshot = self.storage.snapshot(location, Some(version)).await?;
                tables.insert(name.quarantine(), self.storage.provider(&snapshot, None));
            }
        }
        for name in graph.sources.keys() {
            tables.insert(name.clone(), Arc::new(Declared { schema: source_schema() }));
        }
        let history = self.history.read().iter().cloned().collect::<Vec<_>>();
        let views = graph.order.iter().map(|name| {
            let slot = &graph.slots[name];
            system::ViewLine {
                name: name.clone(),
                definition: graph.definitions.objects.get(name).map(|object| object.sql.clone()).unwrap_or_default(),
                inputs: slot.view.inputs.iter().cloned().collect(),
                mode: slot.view.shape.mode().into(),
                reason: kept_by(&slot.view.shape),
                target_lag_ms: slot.view.definition.options.target_lag_ms,
                suspended: graph.definitions.objects.get(name).is_some_and(|object| object.suspended),
            }
        });
        let losses = self.losses();
        tables.extend(system::tables(&views.collect::<Vec<_>>(), &published, &history, &losses)?);
        let catalog = catalog_of(tables)?;
        let losses = losses.len();
        Ok(Pinned { epoch: published.epoch, definitions: graph.definitions.number, losses, catalog })
    }
}
