//! [`DeltaStorage`]: the lake over any object store.
//!
//! ```text
//!   DeltaStorage ─ tables: location ─▶ Table { handle, gate }
//!        │                                 │ snapshot, changes: from memory, else from the log
//!        │                                 │ commit: one conditional put under the gate
//!        ├─ encoders: one permit per core, over all tables
//!        └─ state cache
//! ```
//!
//! How the known hazards of Delta on object stores are met:
//!
//! - Two compactions from one snapshot double rows; a compaction under a full overwrite brings rows back: every commit
//!   of ours checks that all its removes are still active (a rewrite that was overtaken is a `Conflict`), rewrites
//!   carry a transaction of their own, and deltalake's OPTIMIZE is not used.
//! - Delta does not enforce transactions: `txn >= epoch` is checked before the first put and after every error.
//! - An error may come after the commit landed: the log is read again before anything is decided, nothing is deleted
//!   on an error, and no hook runs after the put.
//! - A put that is retried by the client meets its own first try: told by the commit's id.
//! - An append beside a deletion needs no new files: the same actions are put on top of the newest version.
//! - Many writers starve each other: one committer per table in a process, limited tries with random pauses.
//! - A full disk, a folder that is closed to us: told at once; other faults are tried again a few times.
//! - An object store whose conditional put is not atomic loses commits: the conformance suite has 16 racing writers.
//! - A conditional put that conflicts on S3 (409) counts as a lost race: the log decides.
//!
//! Durability is the object store's. A local folder is written without `fsync`: what was committed survives the
//! death of the process, and that of the machine as far as the file system wrote it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::{ObjectStore, PutMode};
use tokio::sync::Semaphore;
use url::Url;

use crate::epoch::{Epoch, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::action::{self, LogEntry};
use crate::storage::checked::Checked;
use crate::storage::decide::{self, AfterError, Facts, Tries};
use crate::storage::location::{self, StorageOptions};
use crate::storage::provider::DeltaProvider;
use crate::storage::state::{self, StateCache};
use crate::storage::table::{Handle, Table, net_changes};
use crate::storage::{
    Changes, Commit, Committed, DataFile, MaintainOptions, Objects, Snapshot, Storage, Upkept, log, maintain, orphans,
    records, schema, stage, vacuum,
};

/// A handle that was not looked at for this long also asks for a newer checkpoint, since the log behind it may have
/// been cleaned; below the time that the log is kept, of which half counts where that is less. Milliseconds.
const GAP_CHECK_MS: i64 = 600_000;

/// Pause before a second try to commit; doubles up to [`PAUSE_MS_MAX`], with a random part.
const PAUSE_MS: u64 = 5;

/// The longest pause between two tries to commit, in milliseconds.
const PAUSE_MS_MAX: u64 = 500;

/// Commits that are read backwards for the version of an epoch.
const LOOK_BACK_COMMITS_MAX: u64 = 1_000;

/// See the module.
#[derive(Debug)]
pub struct DeltaStorage {
    pub(crate) store: Arc<dyn ObjectStore>,
    root: Url,
    url: ObjectStoreUrl,
    pub(crate) options: StorageOptions,
    /// Tells this process's files from all others'.
    pub(crate) writer: String,
    /// One permit per file that may be encoded at the same time.
    pub(crate) encoders: Arc<Semaphore>,
    tables: parking_lot::Mutex<HashMap<String, Arc<Table>>>,
    pub(crate) state: StateCache,
}

impl DeltaStorage {
    /// Open the lake at `url`: a folder (made where it does not exist), `file://…`, `s3://bucket/prefix` or `memory:`.
    ///
    /// # Errors
    /// `Config` for what is no lake, `Storage` where it cannot be written.
    pub async fn open(url: &str, options: StorageOptions) -> Result<Arc<Self>> {
        let (store, root) = location::open(url, &options).await?;
        Ok(Self::with_options(store, root, options))
    }

    /// The lake in `store`; `root` is for people.
    pub fn new(store: Arc<dyn ObjectStore>, root: Url) -> Arc<Self> {
        Self::with_options(store, root, StorageOptions::default())
    }

    /// As [`DeltaStorage::new`], with other limits.
    pub fn with_options(store: Arc<dyn ObjectStore>, root: Url, options: StorageOptions) -> Arc<Self> {
        let store: Arc<dyn ObjectStore> = Arc::new(Checked(store));
        let id = uuid::Uuid::new_v4().simple().to_string();
        // A scheme of our own and a name per instance: several lakes can be registered in one runtime.
        let url = ObjectStoreUrl::parse(format!("flash://lake-{id}"));
        Arc::new(Self {
            store,
            root,
            url: url.unwrap_or_else(|_| ObjectStoreUrl::local_filesystem()),
            writer: id[..8].to_string(),
            encoders: Arc::new(Semaphore::new(options.staging_parallelism_max.max(1))),
            tables: parking_lot::Mutex::default(),
            state: StateCache::new(options.state_cache_bytes_max),
            options,
        })
    }

    /// Where the lake is.
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// The table at `location`, opened or not.
    pub(crate) fn table(&self, location: &str) -> Arc<Table> {
        Arc::clone(self.tables.lock().entry(location.to_string()).or_default())
    }

    /// The newest version, following the log where the handle is not fresh.
    pub(crate) async fn newest(&self, location: &str) -> Result<Snapshot> {
        let table = self.table(location);
        if let Some(snapshot) = self.fresh(&table) {
            return Ok(snapshot);
        }
        let _gate = table.gate.lock().await;
        if let Some(snapshot) = self.fresh(&table) {
            return Ok(snapshot);
        }
        self.follow(&table, location).await?;
        current(&table)
    }

    fn fresh(&self, table: &Table) -> Option<Snapshot> {
        let handle = table.handle.lock();
        let handle = handle.as_ref()?;
        (handle.seen_ms + self.options.handle_fresh_ms_max > now_ms()).then(|| handle.current.clone())
    }

    /// Open the table, or apply the commits that came since it was last looked at. The caller holds the gate.
    async fn follow(&self, table: &Table, location: &str) -> Result<()> {
        let now = now_ms();
        let known = table.handle.lock().as_ref().map(|handle| (handle.current.clone(), handle.seen_ms));
        let Some((mut of, seen_ms)) = known else {
            return self.reopen(table, location).await;
        };
        let mut moved = false;
        while let Some(parsed) = log::read(&self.store, &of, of.version + 1).await? {
            if parsed.redefined {
                return self.reopen(table, location).await;
            }
            let mut handle = table.handle.lock();
            if let Some(handle) = handle.as_mut() {
                let entry = handle.resolve(of.version + 1, parsed);
                handle.apply(Arc::new(entry));
                of = handle.current.clone();
                moved = true;
            }
        }
        if !moved && now - seen_ms > GAP_CHECK_MS.min(self.options.retention_ms / 2) {
            let checkpoint = log::checkpoint_version(&self.store, location).await?;
            if checkpoint.is_some_and(|version| version > of.version) {
                return self.reopen(table, location).await;
            }
        }
        if let Some(handle) = table.handle.lock().as_mut() {
            handle.seen_ms = now;
        }
        Ok(())
    }

    /// Open the table from its newest checkpoint, and apply the commits after it.
    async fn reopen(&self, table: &Table, location: &str) -> Result<()> {
        let (now, limits) = (now_ms(), self.options.history());
        let checkpoint = log::checkpoint_version(&self.store, location).await?;
        let base = checkpoint.unwrap_or(0);
        let versions = log::entries(&self.store, location, base).await?;
        if versions.is_empty() && checkpoint.is_none() {
            return Err(log::no_table(location));
        }
        // Without a hint, and cleaned by another writer: deltalake finds the checkpoint by listing.
        let from = (checkpoint.is_some() || versions.first() == Some(&0)).then_some(base);
        let opened = log::open(&self.store, location, from).await?;
        let mut handle = Handle::new(opened, now, limits);
        let newest = versions.last().copied().unwrap_or(base);
        let tail = handle.current.version + 1..=newest;
        for (version, parsed) in tail.clone().zip(log::read_range(&self.store, &handle.current, tail).await?) {
            if parsed.redefined {
                let opened = log::open(&self.store, location, Some(version)).await?;
                handle = Handle::new(opened, now, limits);
            } else {
                let entry = handle.resolve(version, parsed);
                handle.apply(Arc::new(entry));
            }
        }
        *table.handle.lock() = Some(handle);
        Ok(())
    }

    /// Put `commit`; the caller holds the gate and the handle is fresh.
    async fn put_commit(&self, table: &Table, commit: Commit) -> Result<Committed> {
        let commit_id = uuid::Uuid::new_v4().simple().to_string();
        let mut remove: BTreeSet<String> = commit.remove.iter().cloned().collect();
        let added: Vec<Arc<DataFile>> = commit.add.into_iter().map(Arc::new).collect();
        let mut tries = Tries::default();
        loop {
            let base = current(table)?;
            if let Some(epoch) = commit.epoch.filter(|epoch| base.epoch >= *epoch) {
                return Ok(Committed::Already(self.version_of(table, &base, epoch).await?));
            }
            let entry = LogEntry {
                version: base.version + 1,
                timestamp_ms: now_ms(),
                commit_id: Some(commit_id.clone()),
                epoch: commit.epoch,
                added: added.clone(),
                removed: active(&base, &remove)?,
                data_change: commit.data_change,
                expiry: commit.expiry,
            };
            let path = log::entry_path(&base.location, entry.version)?;
            let text = action::render(&entry, commit.operation, &base.partitioned_by)?;
            let error = match self.store.put_opts(&path, text.into(), PutMode::Create.into()).await {
                Ok(_) => {
                    let version = entry.version;
                    if let Some(handle) = table.handle.lock().as_mut() {
                        handle.apply(Arc::new(entry));
                        handle.seen_ms = now_ms();
                    }
                    return Ok(Committed::Now(version));
                }
                Err(error) => {
                    tries.add(&error);
                    Error::from(error).context(format!("committing \"{path}\""))
                }
            };
            match self.after_error(table, &base, (commit.epoch, &commit_id, &remove, tries), error).await? {
                AfterError::AlreadyCommitted(Some(version)) if commit.epoch.is_none() => {
                    return Ok(Committed::Now(version));
                }
                AfterError::AlreadyCommitted(Some(version)) => return Ok(Committed::Already(version)),
                AfterError::AlreadyCommitted(None) => {}
                AfterError::Rebase(rebased) => remove = rebased,
                AfterError::GiveUp(error) => return Err(error),
            }
            pause(tries.count).await;
        }
    }

    /// Look what the log says now, and decide.
    async fn after_error(
        &self,
        table: &Table,
        base: &Snapshot,
        (epoch, commit_id, remove, tries): (Option<Epoch>, &str, &BTreeSet<String>, Tries),
        error: Error,
    ) -> Result<AfterError> {
        if let Err(unread) = self.follow(table, &base.location).await {
            // What happened is not known; the next use looks before anything else.
            if let Some(handle) = table.handle.lock().as_mut() {
                handle.seen_ms = 0;
            }
            return Err(error.with_detail(format!("and the log cannot be read: {unread}")));
        }
        let handle = table.handle.lock();
        let Some(handle) = handle.as_ref() else {
            return Err(error);
        };
        let active: HashSet<&str> = handle.current.files.iter().map(|file| file.path.as_str()).collect();
        let since = handle.since(base.version).unwrap_or_default();
        let facts = Facts {
            epoch,
            commit_id,
            remove,
            table_epoch: handle.current.epoch,
            since: &since,
            active: &active,
            tries,
            tries_max: self.options.commit_tries_max,
        };
        Ok(decide::after_error(&facts, error))
    }

    /// The version at which the table reflects `epoch`, which it does by now.
    async fn version_of(&self, table: &Table, base: &Snapshot, epoch: Epoch) -> Result<Version> {
        let (known, oldest) = {
            let handle = table.handle.lock();
            let known = handle.as_ref().and_then(|handle| handle.version_of(epoch));
            (known, handle.as_ref().map_or(base.version, Handle::oldest))
        };
        if let Some(version) = known {
            return Ok(version);
        }
        for version in (oldest.saturating_sub(LOOK_BACK_COMMITS_MAX)..=oldest).rev() {
            match log::read(&self.store, base, version).await? {
                Some(parsed) if parsed.epoch == Some(epoch) => return Ok(version),
                Some(_) => {}
                None => break,
            }
        }
        if base.epoch == epoch {
            // The entry was cleaned away, and no later epoch changed the table.
            return Ok(base.version);
        }
        let message = format!("the commit of epoch {epoch} in \"{}\" is not in the Delta log any more", base.location);
        Err(Error::new(ErrorKind::NotFound, message).with_detail(format!("the table reflects epoch {}", base.epoch)))
    }

    /// Commits in (from, to], from memory or from the log.
    async fn entries(&self, location: &str, from: Version, to: Version) -> Result<Vec<Arc<LogEntry>>> {
        let newest = self.at(location, None).await?;
        let of = if to > newest.version { self.at(location, Some(to)).await? } else { newest };
        let table = self.table(location);
        let known = table.handle.lock().as_ref().and_then(|handle| handle.since(from));
        if let Some(entries) = known {
            return Ok(entries.into_iter().filter(|entry| entry.version <= to).collect());
        }
        let parsed = log::read_range(&self.store, &of, from + 1..=to).await?;
        let mut files: HashMap<String, Arc<DataFile>> = HashMap::new();
        if parsed.iter().any(|parsed| !parsed.removed.is_empty()) {
            let before = self.at(location, Some(from)).await?;
            files.extend(before.files.iter().map(|file| (file.path.clone(), Arc::clone(file))));
        }
        let mut entries = Vec::with_capacity(parsed.len());
        for (version, parsed) in (from + 1..).zip(parsed) {
            let removed = parsed.removed.iter().filter_map(|path| files.get(path).map(Arc::clone)).collect();
            files.extend(parsed.added.iter().map(|file| (file.path.clone(), Arc::clone(file))));
            entries.push(Arc::new(LogEntry {
                version,
                timestamp_ms: parsed.timestamp_ms,
                commit_id: parsed.commit_id,
                epoch: parsed.epoch,
                added: parsed.added,
                removed,
                data_change: parsed.data_change,
                expiry: parsed.expiry,
            }));
        }
        Ok(entries)
    }

    async fn at(&self, location: &str, version: Option<Version>) -> Result<Snapshot> {
        let mut newest = self.newest(location).await?;
        let Some(version) = version else {
            return Ok(newest);
        };
        let table = self.table(location);
        if version > newest.version {
            let _gate = table.gate.lock().await;
            self.follow(&table, location).await?;
            newest = current(&table)?;
        }
        if version > newest.version {
            return Err(log::no_version(location, version, newest.version));
        }
        let known = table.handle.lock().as_ref().and_then(|handle| handle.at(version));
        match known {
            Some(snapshot) => Ok(snapshot),
            None => Ok(log::open(&self.store, location, Some(version)).await?.snapshot),
        }
    }
}

/// Milliseconds since 1970 UTC.
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn current(table: &Table) -> Result<Snapshot> {
    let handle = table.handle.lock();
    let current = handle.as_ref().map(|handle| handle.current.clone());
    current.ok_or_else(|| Error::new(ErrorKind::Internal, "a table is used before it is opened"))
}

/// The active files with these paths.
fn active(base: &Snapshot, paths: &BTreeSet<String>) -> Result<Vec<Arc<DataFile>>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let files: Vec<_> = base.files.iter().filter(|file| paths.contains(&file.path)).map(Arc::clone).collect();
    if files.len() < paths.len() {
        let found: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let gone = paths.iter().find(|path| !found.contains(path.as_str()));
        return Err(decide::gone(gone.map_or("", String::as_str)));
    }
    Ok(files)
}

/// Wait a little longer after every try, with a random part so that two writers do not go in step.
async fn pause(tries: u32) {
    let base = PAUSE_MS.saturating_mul(1 << tries.min(10)).min(PAUSE_MS_MAX);
    let random = uuid::Uuid::new_v4().as_u64_pair().0 % base;
    tokio::time::sleep(Duration::from_millis(base / 2 + random / 2)).await;
}

#[async_trait]
impl Storage for DeltaStorage {
    fn register(&self, runtime: &RuntimeEnv) {
        runtime.register_object_store(self.url.as_ref(), Arc::clone(&self.store));
    }

    fn root(&self) -> String {
        match self.root.to_file_path() {
            Ok(folder) => folder.display().to_string(),
            Err(()) => self.root.as_str().trim_end_matches('/').to_string(),
        }
    }

    async fn create(
        &self,
        location: &str,
        schema: &SchemaRef,
        partitioned_by: &[String],
        comment: Option<&str>,
    ) -> Result<Snapshot> {
        let lake = schema::lake_schema(schema).map_err(|error| error.context(format!("table \"{location}\"")))?;
        schema::check_partitioning(&lake, partitioned_by)?;
        let wanted = Snapshot {
            location: location.to_string(),
            version: 0,
            schema: lake,
            partitioned_by: partitioned_by.to_vec(),
            files: Arc::default(),
            epoch: 0,
        };
        match self.at(location, None).await {
            Ok(found) => return same_definition(found, &wanted),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let path = log::entry_path(location, 0)?;
        let text = action::render_create(&wanted, comment, now_ms(), self.options.retention_ms)?;
        let put = self.store.put_opts(&path, text.into(), PutMode::Create.into()).await;
        match (self.at(location, None).await, put) {
            (Ok(found), _) => same_definition(found, &wanted),
            (Err(_), Err(error)) => Err(Error::from(error).context(format!("making table \"{location}\""))),
            (Err(error), Ok(_)) => Err(error),
        }
    }

    async fn snapshot(&self, location: &str, version: Option<Version>) -> Result<Snapshot> {
        self.at(location, version).await
    }

    async fn changes(&self, location: &str, from: Version, to: Version) -> Result<Changes> {
        if from >= to {
            return Ok(Changes::default());
        }
        Ok(net_changes(&self.entries(location, from, to).await?))
    }

    async fn stage(&self, snapshot: &Snapshot, epoch: Epoch, batches: &[RecordBatch]) -> Result<Vec<DataFile>> {
        stage::stage(self, snapshot, epoch, batches).await
    }

    fn provider(&self, snapshot: &Snapshot, files: Option<Vec<Arc<DataFile>>>) -> Arc<dyn TableProvider> {
        let make = |files| DeltaProvider::new(snapshot.clone(), files, Arc::clone(&self.store), self.url.clone());
        if files.is_some() {
            return Arc::new(make(files));
        }
        // Queries over one version share what is prepared for plans.
        let table = self.table(&snapshot.location);
        let mut known = table.provider.lock();
        if let Some(provider) = known.as_ref().filter(|provider| provider.is_all_of(snapshot)) {
            return Arc::clone(provider) as Arc<dyn TableProvider>;
        }
        let provider = Arc::new(make(None));
        *known = Some(Arc::clone(&provider));
        provider
    }

    async fn commit(&self, location: &str, commit: Commit) -> Result<Committed> {
        let table = self.table(location);
        let _gate = table.gate.lock().await;
        if self.fresh(&table).is_none() {
            self.follow(&table, location).await?;
        }
        self.put_commit(&table, commit).await
    }

    async fn write_state(&self, path: &str, batches: &[RecordBatch]) -> Result<u64> {
        state::write(&self.store, &self.state, path, batches).await
    }

    async fn read_state(&self, path: &str) -> Result<Arc<Vec<RecordBatch>>> {
        state::read(&self.store, &self.state, path).await
    }

    fn remember(&self, path: &str, batches: &[RecordBatch]) {
        self.state.put(path, Arc::new(batches.to_vec()));
    }

    fn recall(&self, path: &str) -> Option<Arc<Vec<RecordBatch>>> {
        self.state.get(path)
    }

    fn forget(&self, path: &str) {
        self.state.forget(path);
    }

    async fn put_if_absent(&self, path: &str, bytes: Vec<u8>) -> Result<bool> {
        records::put_if_absent(&self.store, path, bytes).await
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        records::get(&self.store, path).await
    }

    async fn list_newest(&self, folder: &str, limit: usize) -> Result<Vec<String>> {
        records::list_newest(&self.store, folder, limit).await
    }

    async fn delete(&self, paths: &[String]) -> Result<()> {
        paths.iter().for_each(|path| self.state.forget(path));
        records::delete(&self.store, paths).await
    }

    async fn delete_folder(&self, folder: &str) -> Result<Objects> {
        let (deleted, bytes) = records::delete_folder(&self.store, folder).await?;
        deleted.iter().for_each(|path| self.state.forget(path));
        self.tables.lock().remove(folder);
        Ok(Objects { files: deleted.len() as u64, bytes })
    }

    async fn first_removed_ms(&self, snapshot: &Snapshot) -> Result<Option<i64>> {
        self.newest(&snapshot.location).await?;
        let table = self.table(&snapshot.location);
        let handle = table.handle.lock();
        Ok(handle.as_ref().and_then(|handle| handle.first_removed_ms(snapshot)))
    }

    async fn maintain(&self, location: &str, options: &MaintainOptions) -> Vec<Upkept> {
        maintain::maintain(self, location, options).await
    }

    fn retention_ms(&self) -> i64 {
        self.options.retention_ms
    }

    async fn left_of(
        &self,
        location: &str,
        state_folder: Option<&str>,
        version: Version,
        before_ms: i64,
    ) -> Result<Objects> {
        vacuum::left_of(self, location, state_folder, version, before_ms).await
    }

    async fn sweep_unrecorded(&self, known: &BTreeSet<String>) -> Result<Objects> {
        orphans::sweep(self, known).await
    }
}

/// `found`, if it is what was `wanted`.
fn same_definition(found: Snapshot, wanted: &Snapshot) -> Result<Snapshot> {
    if found.schema == wanted.schema && found.partitioned_by == wanted.partitioned_by {
        return Ok(found);
    }
    let text = |of: &Snapshot| {
        let fields = of.schema.fields().iter();
        let columns: Vec<String> = fields
            .map(|field| {
                let null = if field.is_nullable() { "" } else { " NOT NULL" };
                format!("{} {}{null}", field.name(), field.data_type())
            })
            .collect();
        format!("({}) partitioned by ({})", columns.join(", "), of.partitioned_by.join(", "))
    };
    Err(Error::new(ErrorKind::Definition, format!("table \"{}\" exists with other columns", wanted.location))
        .with_detail(format!("it has {}; wanted {}", text(&found), text(wanted)))
        .with_hint("write the new definition to a new location"))
}
