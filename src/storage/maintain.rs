//! Upkeep of one table: checkpoint, log clean-up, compaction, vacuum, each when it is due.
//!
//! ```text
//!   maintain ─┬─ 50 commits since the last checkpoint ─▶ checkpoint ─▶ opened again from it, compared
//!             ├─ a quarter of the retention has passed ─▶ log clean-up, behind a checkpoint that was compared
//!             ├─ too many small files in a partition ───▶ compact (commits that change no row)
//!             ├─ removed longer ago than retention ─────▶ vacuum
//!             └─ once a day ────────────────────────────▶ sweep: files that nothing refers to
//!                     └─▶ what was done, each with files, bytes, time and error: system.maintenance
//! ```
//!
//! A piece of work that fails does not keep the others from being done. deltalake's table is loaded for a checkpoint and
//! dropped after it, since a long-lived one grows with every commit.

use std::time::Instant;

use deltalake_core::DeltaTable;
use deltalake_core::protocol::checkpoints::create_checkpoint;
use object_store::ObjectStoreExt as _;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::delta::{DeltaStorage, now_ms};
use crate::storage::table::Upkeep;
use crate::storage::{MaintainOptions, Objects, Operation, Snapshot, Upkept, clean, compact, log, vacuum};

/// What a piece of work moved; `None`: nothing was due.
pub(crate) type Moved = Option<(Removed, Added)>;

/// Objects that went.
pub(crate) type Removed = Objects;

/// Objects that came.
pub(crate) type Added = Objects;

/// See [`crate::storage::Storage::maintain`].
pub(crate) async fn maintain(storage: &DeltaStorage, location: &str, options: &MaintainOptions) -> Vec<Upkept> {
    let table = storage.table(location);
    let Ok(mut upkeep) = table.upkeep.try_lock() else {
        return Vec::new(); // Somebody is at it.
    };
    upkeep.swept_ms = upkeep.swept_ms.max(options.swept_ms);
    let mut done = Vec::new();
    let snapshot = match storage.newest(location).await {
        Ok(snapshot) => snapshot,
        // It was never made: the audit log, before anybody has done anything.
        Err(error) if error.kind() == ErrorKind::NotFound => return done,
        Err(error) => {
            done.extend(timed(Operation::Checkpoint, async { Err(error) }).await);
            return done;
        }
    };
    done.extend(timed(Operation::Checkpoint, checkpoint(storage, &snapshot, options, &mut upkeep)).await);
    done.extend(timed(Operation::CleanLog, clean::clean(storage, location, options, &mut upkeep)).await);
    if options.compact {
        done.extend(timed(Operation::Compact, compact::compact(storage, location)).await);
    }
    done.extend(timed(Operation::Vacuum, vacuum::removed(storage, location, options)).await);
    done.extend(timed(Operation::Sweep, vacuum::unreferenced(storage, location, options, &mut upkeep)).await);
    done
}

/// Do it, and write down how it went.
async fn timed(operation: Operation, work: impl Future<Output = Result<Moved>>) -> Option<Upkept> {
    let (began_ms, began) = (now_ms(), Instant::now());
    let (moved, error) = match work.await {
        Ok(moved) => (moved?, None),
        Err(error) => (Default::default(), Some(error.to_string())),
    };
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Some(Upkept { operation, began_ms, took_ms, removed: moved.0, added: moved.1, error })
}

/// Write a checkpoint when enough commits came since the last one.
async fn checkpoint(
    storage: &DeltaStorage,
    snapshot: &Snapshot,
    options: &MaintainOptions,
    upkeep: &mut Upkeep,
) -> Result<Moved> {
    let location = &snapshot.location;
    let last = match upkeep.checkpoint {
        Some(last) => last,
        None => log::checkpoint_version(&storage.store, location).await?.unwrap_or(0),
    };
    upkeep.checkpoint = Some(last);
    let asked = options
        .checkpoint_from
        .is_some_and(|from| snapshot.version >= from && upkeep.verified.is_none_or(|at| at < from));
    if !asked && snapshot.version < last + storage.options.checkpoint_commits_max {
        return Ok(None);
    }
    let failed =
        |error| Error::new(ErrorKind::Storage, format!("checkpoint of \"{location}\"")).with_detail(format!("{error}"));
    let mut loaded = DeltaTable::new(log::log_store(&storage.store, location)?);
    loaded.load_version(snapshot.version).await.map_err(failed)?;
    create_checkpoint(&loaded, None).await.map_err(failed)?;
    verify(storage, snapshot).await?;
    upkeep.checkpoint = Some(snapshot.version);
    upkeep.verified = Some(snapshot.version);
    let path = log::path_of(&format!("{location}/_delta_log/{:020}.checkpoint.parquet", snapshot.version))?;
    let mut added = Objects::default();
    added.add(storage.store.head(&path).await?.size);
    Ok(Some((Objects::default(), added)))
}

/// The log is only cleaned behind a checkpoint that gives the table back.
async fn verify(storage: &DeltaStorage, snapshot: &Snapshot) -> Result<()> {
    let location = &snapshot.location;
    let hint = log::checkpoint_version(&storage.store, location).await?;
    let opened = log::open(&storage.store, location, Some(snapshot.version)).await?.snapshot;
    let same = opened.files.len() == snapshot.files.len()
        && opened.rows() == snapshot.rows()
        && opened.epoch == snapshot.epoch
        && hint == Some(snapshot.version);
    if same {
        return Ok(());
    }
    let message = format!("the checkpoint of \"{location}\" at version {} does not hold the table", snapshot.version);
    Err(Error::new(ErrorKind::Corrupt, message)
        .with_detail(format!(
            "files {} of {}, rows {} of {}, epoch {} of {}, newest checkpoint {hint:?}",
            opened.files.len(),
            snapshot.files.len(),
            opened.rows(),
            snapshot.rows(),
            opened.epoch,
            snapshot.epoch
        ))
        .with_hint("the log was kept; delete this checkpoint file"))
}
