//! Sessions for queries: every table at the version that the newest published epoch names.
//!
//! ```text
//!  published record ─▶ pinned providers (made once an epoch, shared) ─▶ those that the principal may see, behind their
//!                                                                       rules (kept too) ─▶ a session per request
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::catalog::CatalogProvider;
use datafusion::prelude::SessionContext;

use crate::catalog::access::Access;
use crate::catalog::principal::Rights;
use crate::catalog::session::{Declared, catalog_of, session_over};
use crate::catalog::{Principal, moment, system};
use crate::engine::rules::{Tables, seen};
use crate::engine::{Engine, Graph};
use crate::epoch::Epoch;
use crate::error::Result;
use crate::name::TableName;
use crate::refresh::pass::{ViewSlot, source_schema};
use crate::refresh::plan::kept_by;

/// The tables of one published epoch under one set of definitions.
#[derive(Debug, Clone)]
pub(crate) struct Pinned {
    epoch: Epoch,
    definitions: u64,
    losses: usize,
    pub(super) access: Arc<Access>,
    pub(super) graph: Arc<Graph>,
    pub(super) tables: Arc<Tables>,
    /// Views whose rows are still those of another definition.
    pub(super) rebuilding: Arc<BTreeSet<TableName>>,
    catalog: Arc<dyn CatalogProvider>,
}

impl Pinned {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tables, &other.tables)
    }
}

/// What one principal sees of them.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    of: Pinned,
    principal: Principal,
    catalog: Arc<dyn CatalogProvider>,
}

/// Principals whose catalogs are kept.
const SEEN_MAX: usize = 1_000;

impl Engine {
    /// A session for queries, pinned to the newest published epoch: catalog `flash`, every table of the lake that the
    /// principal may see under its schema, `system.*`, `information_schema`. Cheap: the tables are made once an epoch.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn session(&self, principal: &Principal) -> Result<SessionContext> {
        let pinned = self.pinned().await?;
        let Rights::Granted(granted) = &principal.rights else {
            return self.session_now(pinned.catalog, principal);
        };
        let held = self.seen.read().get(&principal.subject).cloned();
        if let Some(seen) = held.filter(|seen| seen.of.is(&pinned) && seen.principal == *principal) {
            return self.session_now(seen.catalog, principal);
        }
        let all = self.session_now(Arc::clone(&pinned.catalog), principal)?;
        let catalog = catalog_of(seen(principal, granted, &all.state(), &pinned))?;
        let seen = Seen { of: pinned, principal: principal.clone(), catalog: Arc::clone(&catalog) };
        let mut held = self.seen.write();
        if held.len() >= SEEN_MAX {
            held.clear();
        }
        held.insert(principal.subject.clone(), seen);
        self.session_now(catalog, principal)
    }

    /// A session in which it is as late as the engine's clock says.
    fn session_now(&self, catalog: Arc<dyn CatalogProvider>, principal: &Principal) -> Result<SessionContext> {
        let session = session_over(&self.base, catalog, principal);
        if let Some(now_us) = self.clock.stands_at_us() {
            moment::fix(&session, now_us)?;
        }
        Ok(session)
    }

    async fn pinned(&self) -> Result<Pinned> {
        self.load_published_by_others().await?;
        let access = self.access().await?;
        let (epoch, definitions) = (self.published.borrow().epoch, self.graph.read().definitions.number);
        let losses = self.losses.read().len();
        let held = self.pinned.read().clone();
        let is_current = |pinned: &Pinned| {
            (pinned.epoch, pinned.definitions, pinned.losses, pinned.access.number)
                == (epoch, definitions, losses, access.number)
        };
        if let Some(pinned) = held.filter(is_current) {
            return Ok(pinned);
        }
        let pinned = self.pin(access).await?;
        *self.pinned.write() = Some(pinned.clone());
        Ok(pinned)
    }

    async fn pin(&self, access: Arc<Access>) -> Result<Pinned> {
        let published = Arc::clone(&self.published.borrow());
        let graph = Arc::clone(&self.graph.read());
        let mut tables = Tables::new();
        for (name, location) in &graph.tables {
            let at = published.tables.get(name);
            let (location, version) = match at.filter(|at| at.location != *location) {
                None => (location, at.map_or(0, |at| at.version)),
                // Made again, and empty: what was there before was dropped.
                Some(_) if self.storage.snapshot(location, None).await?.version == 0 => (location, 0),
                // A file's rows that are others now: they are read when the views over them are.
                Some(at) => (&at.location, at.version),
            };
            // An ordinary table that no epoch has seen yet is empty to readers.
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
        tables.extend(system::access_tables(&access)?);
        tables.insert(TableName::new(system::SCHEMA, "audit_log"), self.audit_log());
        tables.insert(TableName::new(system::SCHEMA, "maintenance"), self.maintenance_table()?);
        tables.insert(TableName::new(system::SCHEMA, "forgotten"), self.forgotten_table()?);
        let catalog = catalog_of(tables.clone())?;
        let (epoch, definitions, losses) = (published.epoch, graph.definitions.number, losses.len());
        let elsewhere = |(name, slot): &(&TableName, &Arc<ViewSlot>)| {
            published.tables.get(*name).is_some_and(|state| state.location != slot.location)
        };
        let rebuilding = graph.slots.iter().filter(elsewhere).map(|(name, _)| name.clone()).collect();
        let (tables, rebuilding) = (Arc::new(tables), Arc::new(rebuilding));
        Ok(Pinned { epoch, definitions, losses, access, graph, tables, rebuilding, catalog })
    }
}
