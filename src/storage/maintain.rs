//! Upkeep of one table: checkpoint, log clean-up, compaction, vacuum, each when it is due.
//!
//! ```text
//!   maintain ─┬─ 50 commits since the last checkpoint ─▶ checkpoint ─▶ opened again from it, compared
//!             │                                             └─ at most once an hour ─▶ log clean-up
//!             ├─ too many small files in a partition ──▶ compact (one commit, rows unchanged)
//!             └─ removed longer ago than retention ────▶ vacuum; once a day also files that nothing refers to
//! ```
//!
//! deltalake's table is loaded for a checkpoint and dropped after it, since a long-lived one grows with every commit.

use deltalake_core::DeltaTable;
use deltalake_core::protocol::checkpoints::{cleanup_metadata, create_checkpoint};

use crate::error::{Error, ErrorKind, Result};
use crate::storage::delta::{DeltaStorage, now_ms};
use crate::storage::table::Upkeep;
use crate::storage::{MaintainOptions, Snapshot, compact, log, vacuum};

/// See [`crate::storage::Storage::maintain`].
pub(crate) async fn maintain(storage: &DeltaStorage, location: &str, options: &MaintainOptions) -> Result<()> {
    let table = storage.table(location);
    let Ok(mut upkeep) = table.upkeep.try_lock() else {
        return Ok(()); // Somebody is at it.
    };
    let snapshot = storage.newest(location).await?;
    checkpoint(storage, &snapshot, &mut upkeep).await?;
    if options.compact {
        compact::compact(storage, &snapshot).await?;
    }
    vacuum::removed(storage, location, options).await?;
    vacuum::unreferenced(storage, location, options, &mut upkeep).await
}

/// Write a checkpoint when enough commits came since the last one; clean the log behind it when that is due.
async fn checkpoint(storage: &DeltaStorage, snapshot: &Snapshot, upkeep: &mut Upkeep) -> Result<()> {
    let location = &snapshot.location;
    let last = match upkeep.checkpoint {
        Some(last) => last,
        None => log::checkpoint_version(&storage.store, location).await?.unwrap_or(0),
    };
    upkeep.checkpoint = Some(last);
    if snapshot.version < last + storage.options.checkpoint_commits_max {
        return Ok(());
    }
    let failed =
        |error| Error::new(ErrorKind::Storage, format!("checkpoint of \"{location}\"")).with_detail(format!("{error}"));
    let mut loaded = DeltaTable::new(log::log_store(&storage.store, location)?);
    loaded.load_version(snapshot.version).await.map_err(failed)?;
    create_checkpoint(&loaded, None).await.map_err(failed)?;
    verify(storage, snapshot).await?;
    upkeep.checkpoint = Some(snapshot.version);
    if now_ms() - upkeep.cleaned_ms >= storage.options.log_cleanup_interval_ms {
        cleanup_metadata(&loaded, None).await.map_err(failed)?;
        upkeep.cleaned_ms = now_ms();
    }
    Ok(())
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
