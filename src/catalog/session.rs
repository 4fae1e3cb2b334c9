//! Sessions: the only place that makes one.
//!
//! ```text
//!  base_state ── functions, settings, runtime (memory limit, object store)      once per process
//!     ├─ planning_session   empty tables: to compile a view
//!     ├─ refresh            the base itself: plans carry their own providers
//!     └─ session_over       tables pinned to one published epoch: for a Principal's queries
//!           └─ session_within   rows that such a session gave, for further queries over them
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider, Session, TableProvider,
};
use datafusion::common::plan_err;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::catalog::versioned::Versioned;
use crate::catalog::{Principal, memory, optimizer, policy};
use crate::error::Result;
use crate::name::TableName;
use crate::storage::Storage;

/// The one catalog.
pub const CATALOG: &str = "flash";

/// Schema of unqualified names.
pub const DEFAULT_SCHEMA: &str = "public";

/// Memory that queries and refreshes may take for sorts, joins and groups before they spill, in bytes.
pub const QUERY_MEMORY_BYTES_MAX: usize = 1 << 30;

/// Parquet footers that are kept for the next scan, in bytes: some 2,000 files.
pub const FOOTERS_BYTES_MAX: usize = 32 << 20;

/// The runtime that all sessions share.
///
/// # Errors
/// `Storage` when there is no folder for spill files.
pub fn runtime(storage: &dyn Storage) -> Result<Arc<RuntimeEnv>> {
    let pool = Arc::new(FairSpillPool::new(QUERY_MEMORY_BYTES_MAX));
    let runtime =
        RuntimeEnvBuilder::new().with_memory_pool(pool).with_metadata_cache_limit(FOOTERS_BYTES_MAX).build_arc()?;
    storage.register(&runtime);
    Ok(runtime)
}

/// Functions, settings and runtime; no tables.
pub fn base_state(runtime: Arc<RuntimeEnv>) -> SessionState {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let options = config.options_mut();
    options.sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
    options.sql_parser.collect_spans = true;
    // Tables hold plain strings, and clients of the wire read plain strings.
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
    options.execution.parquet.pushdown_filters = true;
    // Plans and their inputs may differ in what they say of NULLs (IS TRUE, an INTERSECT), not in the rows.
    options.execution.skip_physical_aggregate_schema_check = true;
    // The branches of a UNION that become an interleaving sometimes turn out not to fit, when the plan is nearly done.
    options.optimizer.prefer_existing_union = true;
    // A scalar subquery must be a join that can be seen, not an expression that hides it.
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    // Otherwise e['a'], e['b'] of a subquery's from_json(...) AS e become one from_json for every field.
    options.optimizer.enable_leaf_expression_pushdown = false;
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_optimizer_rules(optimizer::rules())
        .with_physical_optimizer_rules(optimizer::physical_rules())
        .with_relation_planners(vec![Arc::new(Versioned::default())])
        .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
        .build();
    for function in flashcommerce_udfs::all() {
        // The registry only refuses when it is read-only, which a session's is not.
        let _ = datafusion::execution::FunctionRegistry::register_udf(&mut state, Arc::new(function));
    }
    state
}

/// The same state with plans of one partition.
pub fn serial(base: &SessionState) -> SessionState {
    let config = base.config().clone().with_target_partitions(1);
    SessionStateBuilder::new_from_existing(base.clone()).with_config(config).build()
}

/// A state over empty tables of these schemas.
///
/// # Errors
/// `Definition` for a name that cannot be registered.
pub fn planning_session<'a>(
    base: &SessionState,
    tables: impl Iterator<Item = (&'a TableName, SchemaRef)>,
) -> Result<SessionState> {
    let mut providers: BTreeMap<TableName, Arc<dyn TableProvider>> = BTreeMap::new();
    for (name, schema) in tables {
        providers.insert(name.clone(), Arc::new(Declared { schema }));
    }
    Ok(state_over(base, catalog_of(providers)?))
}

/// Tables by name as a catalog.
///
/// # Errors
/// `Definition` for a name that cannot be registered.
pub fn catalog_of(tables: BTreeMap<TableName, Arc<dyn TableProvider>>) -> Result<Arc<dyn CatalogProvider>> {
    let catalog = MemoryCatalogProvider::new();
    let mut schemas: BTreeMap<String, Arc<MemorySchemaProvider>> = BTreeMap::new();
    schemas.insert(DEFAULT_SCHEMA.into(), Arc::new(MemorySchemaProvider::new()));
    for (name, table) in tables {
        schemas.entry(name.schema).or_default().register_table(name.name, table)?;
    }
    for (name, schema) in schemas {
        catalog.register_schema(&name, schema)?;
    }
    Ok(Arc::new(catalog))
}

/// A session for queries of this principal over this catalog. Sessions do not see each other's settings.
pub fn session_over(base: &SessionState, catalog: Arc<dyn CatalogProvider>, principal: &Principal) -> SessionContext {
    let mut state = state_over(base, catalog);
    if let Some(bytes_max) = principal.limits.memory_bytes_max {
        let runtime = memory::capped(base.runtime_env(), usize::try_from(bytes_max).unwrap_or(usize::MAX));
        state = SessionStateBuilder::new_from_existing(state).with_runtime_env(runtime).build();
    }
    policy::register(&mut state, principal);
    state.config_mut().set_extension(Arc::new(principal.clone()));
    SessionContext::new_with_state(state)
}

/// Whose session it is.
pub fn principal_of(state: &SessionState) -> Option<Arc<Principal>> {
    state.config().get_extension()
}

/// A session of the same principal over nothing but these tables, for short queries over rows in memory: their plans have
/// one partition, and are made quickly.
///
/// # Errors
/// `Definition` for a name that cannot be registered.
pub fn session_within(
    session: &SessionContext,
    tables: BTreeMap<TableName, Arc<dyn TableProvider>>,
) -> Result<SessionContext> {
    let base = SessionStateBuilder::new_from_existing(serial(&session.state()))
        .with_optimizer_rules(optimizer::rules_in_memory())
        .with_physical_optimizer_rules(optimizer::physical_rules_in_memory())
        .build();
    Ok(SessionContext::new_with_state(state_over(&base, catalog_of(tables)?)))
}

fn state_over(base: &SessionState, catalog: Arc<dyn CatalogProvider>) -> SessionState {
    let list = MemoryCatalogProviderList::new();
    list.register_catalog(CATALOG.into(), catalog);
    SessionStateBuilder::new_from_existing(base.clone()).with_catalog_list(Arc::new(list)).build()
}

/// A table that is only a schema.
#[derive(Debug)]
pub struct Declared {
    /// Its columns.
    pub schema: SchemaRef,
}

#[async_trait]
impl TableProvider for Declared {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        plan_err!("this is a stream of events; query the bronze view that is built on it")
    }
}
