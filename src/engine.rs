//! The engine: a lake, its definitions, and the passes that keep its views fresh.
//!
//! `server` and `scheduler` share one `Arc<Engine>`: the server plans queries on what is published,
//! the scheduler asks for passes. Statements that change something run one pass and return when it is published.

mod access;
mod apply;
mod as_of;
mod audit;
pub mod audit_log;
pub mod backfill;
pub mod check;
pub mod deploy;
pub mod diff;
mod dml;
pub mod due;
mod epochs;
mod expiry;
mod explain;
pub mod fit;
mod forget;
mod history;
pub mod ingest;
pub mod lineage;
mod losses;
pub mod parameters;
pub mod plan;
mod reading;
mod retired;
mod rules;
mod sessions;
mod stated;
mod statements;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use parking_lot::RwLock;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::catalog::access::Access;
use crate::catalog::definitions::{Definitions, Kind};
use crate::catalog::{session, system};
use crate::clock::Clock;
use crate::epoch::{DataLoss, Epoch, EpochRecord, PublishedRecord, Version};
use crate::error::Result;
use crate::glue;
use crate::name::TableName;
use crate::parser::{AlterAction, CreateSource};
use crate::refresh::change::Recent;
use crate::refresh::pass::ViewSlot;
pub use crate::refresh::plan::Prefer;
use crate::source::{Slice, SliceLimits, Source};
use crate::storage::Storage;

/// How long a process that ends waits for maintenance.
const MAINTENANCE_WAIT_MAX: Duration = Duration::from_secs(10);

/// What an engine is opened with.
#[derive(Debug)]
pub struct EngineOptions {
    /// The lake.
    pub storage: Arc<dyn Storage>,
    /// Sources that replace what the definitions name.
    pub sources: BTreeMap<TableName, Arc<dyn Source>>,
    /// The most that one epoch reads of one source.
    pub slice: SliceLimits,
    /// Which of the plans that give the right rows a refresh takes.
    pub prefer: Prefer,
    /// What time it is, for epochs and for queries.
    pub clock: Clock,
}

/// A statement of a project file, or of a prompt.
#[derive(Debug, Clone)]
pub struct ProjectObject {
    /// The file, for error messages and for paths relative to it.
    pub file: Option<String>,
    /// The text of the file: one CREATE statement, the rules of who sees what of it, and the comments around them (so that
    /// line numbers are the file's).
    pub sql: String,
    /// For `STORED AS CSV`: the bytes of the file that LOCATION names. The engine reads no files itself.
    pub data: Option<Vec<u8>>,
}

/// What `apply` did with each object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// New.
    Created,
    /// The definition differs: the view is built beside the old one, and takes its place when it has caught up.
    Changed,
    /// Nothing to do.
    Unchanged,
}

/// Which views a pass takes.
#[derive(Debug, Clone, Default)]
pub struct PassRequest {
    /// Take every view that is not suspended, due or not.
    pub all: bool,
    /// Recompute these from scratch.
    pub full: Vec<TableName>,
}

/// How a pass ended.
#[derive(Debug, Clone)]
pub enum Pass {
    /// Nothing new, or nothing due; ask again after this long.
    Idle(Duration),
    /// An epoch was published.
    Published {
        /// What it made.
        record: Arc<PublishedRecord>,
        /// Rows that came from the sources in it.
        source_rows: u64,
        /// The sources had nothing more to give, and every view took part or is suspended or failed.
        caught_up: bool,
    },
}

/// One line of `flash status`.
#[derive(Debug, Clone)]
pub struct ViewStatus {
    /// The view.
    pub name: TableName,
    /// URL of its Delta table.
    pub location: String,
    /// Published version.
    pub version: Version,
    /// Rows at that version.
    pub rows: u64,
    /// Now minus the time of the epoch that it reflects, 0 when nothing has come since; `None` before the first epoch.
    pub lag_ms: Option<i64>,
    /// The lag that its definition asks for.
    pub target_lag_ms: Option<u64>,
    /// Mode of the newest refresh.
    pub mode: String,
    /// Reason of that mode, or the error that holds the view back.
    pub reason: String,
    /// The epoch that it reflects.
    pub frontier: Epoch,
    /// Suspended by ALTER.
    pub suspended: bool,
    /// Rows in its quarantine table.
    pub quarantined: u64,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// An external table that events come from; not for queries.
    Source,
    /// An ordinary table.
    Table,
    /// A materialized view.
    MaterializedView,
    /// A table of the `system` schema.
    System,
}

/// The answer to a statement.
pub enum Answer {
    /// A query: rows, as they are computed. The schema is the logical one; batches carry the same types.
    Rows {
        /// Schema of the rows.
        schema: SchemaRef,
        /// The rows.
        stream: SendableRecordBatchStream,
    },
    /// A statement that changed something, done and published.
    Done {
        /// What was done, for people: `INSERT 3`, `REFRESH gold.kpis: merge_state, 3 rows`.
        message: String,
        /// Rows affected, where that means something.
        rows_affected: Option<u64>,
    },
}

/// The compiled objects of a lake.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub definitions: Definitions,
    /// Views, inputs first.
    pub order: Vec<TableName>,
    pub slots: BTreeMap<TableName, Arc<ViewSlot>>,
    pub sources: BTreeMap<TableName, CreateSource>,
    /// Folders of ordinary tables.
    pub tables: BTreeMap<TableName, String>,
    /// Some view's table was filled by other rules than those that its definition compiles to by now.
    pub outdated: bool,
}

/// What one pass leaves for the next; held by the pass that runs.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub definitions: Definitions,
    pub graph: Arc<Graph>,
    /// Opened sources.
    pub sources: BTreeMap<TableName, Arc<dyn Source>>,
    /// The slice of the next epoch, read while this one is carried out.
    pub ahead: BTreeMap<TableName, JoinHandle<Result<Slice>>>,
    /// An epoch that is written down and not published.
    pub unfinished: Option<EpochRecord>,
    /// The epoch that is being carried out again.
    pub again: Option<Epoch>,
    /// When each view took part last, in microseconds since 1970 UTC.
    pub last_us: BTreeMap<TableName, i64>,
    /// Views that failed, with the epoch: they are tried again when something new has come.
    pub failed: BTreeMap<TableName, Epoch>,
    /// Up to when the rows of a view have expired, as far as this process knows, in microseconds since 1970 UTC.
    pub expired_us: BTreeMap<TableName, i64>,
    /// When to look whether bytes of forgotten rows are gone, in microseconds since 1970 UTC; `None`: no request waits.
    pub look_us: Option<i64>,
    /// Maintenance under way.
    pub maintenance: Option<JoinHandle<()>>,
    /// Places of retired tables whose folders it has deleted.
    pub swept: Arc<parking_lot::Mutex<BTreeSet<String>>>,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    storage: Arc<dyn Storage>,
    overrides: BTreeMap<TableName, Arc<dyn Source>>,
    slice: SliceLimits,
    prefer: Prefer,
    clock: Clock,
    base: SessionState,
    serial: SessionState,
    state: Mutex<State>,
    graph: RwLock<Arc<Graph>>,
    published: watch::Sender<Arc<PublishedRecord>>,
    /// Number of the definitions that are in use.
    definitions: watch::Sender<u64>,
    /// How the tables' registration in Glue goes, where it is kept by this process.
    glue: std::sync::OnceLock<watch::Receiver<glue::Status>>,
    /// Newest published records, oldest first.
    history: RwLock<VecDeque<Arc<PublishedRecord>>>,
    /// What the statement that is being carried out has done to its table.
    recent: RwLock<BTreeMap<TableName, Recent>>,
    /// What sources have lost, oldest first.
    losses: RwLock<Vec<DataLoss>>,
    /// Tables of the newest published epoch, for sessions.
    pinned: RwLock<Option<sessions::Pinned>>,
    /// What principals see of them, by name.
    seen: RwLock<BTreeMap<String, sessions::Seen>>,
    /// Places that statements read at older versions.
    reading: reading::Reading,
    /// Who may do what, and when that was read.
    access: RwLock<(std::time::Instant, Arc<Access>)>,
    /// This process has carried out an epoch: what it published last is the newest.
    writes: std::sync::atomic::AtomicBool,
}

impl Engine {
    /// Open the lake: read its definitions and its newest published record.
    ///
    /// # Errors
    /// `Storage`, `Corrupt`; `Definition` when a stored definition is not understood.
    pub async fn open(options: EngineOptions) -> Result<Arc<Self>> {
        let runtime = session::runtime(options.storage.as_ref())?;
        let base = session::base_state(runtime);
        let definitions = Definitions::load(options.storage.as_ref()).await?;
        let engine = Self {
            storage: options.storage,
            overrides: options.sources,
            slice: options.slice,
            prefer: options.prefer,
            clock: options.clock,
            serial: session::serial(&base),
            base,
            state: Mutex::new(State::default()),
            graph: RwLock::new(Arc::default()),
            published: watch::Sender::new(Arc::default()),
            definitions: watch::Sender::new(definitions.number),
            glue: std::sync::OnceLock::new(),
            history: RwLock::default(),
            recent: RwLock::default(),
            losses: RwLock::default(),
            pinned: RwLock::new(None),
            seen: RwLock::default(),
            reading: reading::Reading::default(),
            access: RwLock::new((std::time::Instant::now(), Arc::default())),
            writes: std::sync::atomic::AtomicBool::new(false),
        };
        let mut graph = engine.build(&apply::stored(&definitions)?, &definitions, false).await?;
        graph.definitions.number = definitions.number;
        {
            let mut state = engine.state.lock().await;
            state.definitions = definitions;
            state.graph = Arc::new(graph);
            *engine.graph.write() = Arc::clone(&state.graph);
            engine.load_published().await?;
            engine.load_losses().await?;
            engine.load_access().await?;
            state.unfinished = engine.find_unfinished().await?;
            state.look_us = engine.load_look_us().await?;
        }
        Ok(Arc::new(engine))
    }

    /// Make the lake hold these objects; objects that are not named stay as they are. All or nothing.
    ///
    /// # Errors
    /// `Syntax`, `Definition`, `NotIncremental` with file, line and caret.
    pub async fn apply(&self, objects: &[ProjectObject]) -> Result<Vec<(TableName, Applied)>> {
        let mut state = self.state.lock().await;
        self.apply_in(&mut state, objects, &[]).await
    }

    /// Carry out the newest epoch again if it has not been published. To be called once, before the first pass.
    ///
    /// # Errors
    /// As `pass`.
    pub async fn recover(&self) -> Result<Option<Epoch>> {
        let mut state = self.state.lock().await;
        self.bring_up_to_date(&mut state).await?;
        self.load_access().await?;
        self.open_changed(&state).await?;
        let Some(record) = state.unfinished.clone() else { return Ok(None) };
        self.finish(&mut state, record).await.map(|record| Some(record.epoch))
    }

    /// One pass over the views that are due: at most one epoch.
    ///
    /// # Errors
    /// `Conflict` when another writer owns the lake (stop); `Transient` (ask again after a back-off); `Source`,
    /// `DataLoss`, `Storage`, `Corrupt` (stop). A view that fails on its own data does not fail the pass.
    pub async fn pass(&self, request: PassRequest) -> Result<Pass> {
        let mut state = self.state.lock().await;
        self.pass_in(&mut state, &request).await
    }

    /// Wait for maintenance that is under way, for a while, before the process ends.
    pub async fn finish_maintenance(&self) {
        let ended = async {
            let under_way = self.state.lock().await.maintenance.take();
            if let Some(task) = under_way {
                let _ = task.await;
            }
        };
        // What is not done by then is done another time.
        let _ = tokio::time::timeout(MAINTENANCE_WAIT_MAX, ended).await;
    }

    /// Where every view stands.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn status(&self) -> Result<Vec<ViewStatus>> {
        self.load_published_by_others().await?;
        let graph = Arc::clone(&self.graph.read());
        let published = Arc::clone(&self.published.borrow());
        let newest_us = published.now_us;
        let mut lines = Vec::with_capacity(graph.order.len());
        for name in &graph.order {
            let slot = &graph.slots[name];
            let state = published.tables.get(name).filter(|state| state.location == slot.location);
            let last = self.last_refresh(name);
            let failed = last.as_ref().and_then(|(_, facts)| facts.error.clone());
            let (mode, reason) = match &last {
                Some((_, facts)) => (facts.mode.clone(), failed.unwrap_or_else(|| facts.reason.clone())),
                None => (slot.view.shape.mode().into(), crate::refresh::plan::kept_by(&slot.view.shape)),
            };
            lines.push(ViewStatus {
                name: name.clone(),
                location: format!("{}/{}", self.storage.root().trim_end_matches('/'), slot.location),
                version: state.map_or(0, |state| state.version),
                rows: state.map_or(0, |state| state.rows),
                lag_ms: state.map(|state| self.lag_ms(&published, state.frontier, newest_us)),
                target_lag_ms: slot.view.definition.options.target_lag_ms,
                mode,
                reason,
                frontier: state.map_or(0, |state| state.frontier),
                suspended: graph.definitions.objects.get(name).is_some_and(|object| object.suspended),
                quarantined: state.map_or(0, |state| state.totals.quarantined),
            });
        }
        Ok(lines)
    }

    /// What a name stands for, for catalog listings.
    pub fn kind(&self, name: &TableName) -> Option<ObjectKind> {
        if name.schema == system::SCHEMA {
            return Some(ObjectKind::System);
        }
        let graph = self.graph.read();
        if let Some(object) = graph.definitions.objects.get(name) {
            return Some(match object.kind {
                Kind::Source => ObjectKind::Source,
                Kind::Table => ObjectKind::Table,
                Kind::View => ObjectKind::MaterializedView,
            });
        }
        let quarantine = graph
            .definitions
            .objects
            .iter()
            .any(|(view, object)| object.quarantine.is_some() && view.quarantine() == *name);
        quarantine.then_some(ObjectKind::Table)
    }

    /// The newest published record, and every later one.
    pub fn published(&self) -> watch::Receiver<Arc<PublishedRecord>> {
        self.published.subscribe()
    }

    /// The number of the definitions that are in use, and every later one: what changes without an epoch.
    pub fn definitions(&self) -> watch::Receiver<u64> {
        self.definitions.subscribe()
    }

    /// Metrics show from now on how the tables' registration in Glue goes.
    pub fn watch_glue(&self, status: watch::Receiver<glue::Status>) {
        // There is one registrar in a process; a second one would say the same.
        let _ = self.glue.set(status);
    }

    /// How it goes; `None` where this process keeps none.
    pub fn glue(&self) -> Option<glue::Status> {
        self.glue.get().map(|status| status.borrow().clone())
    }
}
