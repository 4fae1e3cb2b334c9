//! Opening a lake for a verb.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{Context, quiet};
use crate::clock::Clock;
use crate::engine::{Engine, EngineOptions, Prefer};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::source::{self, SliceLimits, Source, SourceSpec};
use crate::storage::{DeltaStorage, Storage, StorageOptions};

/// The lake where none is named.
pub const DEFAULT: &str = "lake";

/// The folder of a lake's own records; a folder without it is no lake.
const RECORDS: &str = "_flash";

/// Sources that replace what the definitions name.
pub type Sources = BTreeMap<TableName, Arc<dyn Source>>;

/// Open the lake at `url`; it is made where it does not exist.
///
/// # Errors
/// As `DeltaStorage::open` and `Engine::open`.
pub async fn open(context: &Context, url: &str, sources: Sources) -> Result<Arc<Engine>> {
    open_with_storage(context, storage(context, url).await?, sources).await
}

/// The storage of the lake at `url`.
///
/// # Errors
/// As `DeltaStorage::open`.
pub async fn storage(context: &Context, url: &str) -> Result<Arc<dyn Storage>> {
    let options = StorageOptions { retention_ms: context.config.retention_ms, ..StorageOptions::default() };
    Ok(DeltaStorage::open(url, options).await?)
}

/// Open the engine of a lake over its storage.
///
/// # Errors
/// As `Engine::open`.
pub async fn open_with_storage(context: &Context, storage: Arc<dyn Storage>, sources: Sources) -> Result<Arc<Engine>> {
    let slice = SliceLimits {
        payload_bytes_max: context.config.slice_payload_bytes_max,
        records_max: context.config.slice_records_max,
    };
    Engine::open(EngineOptions { storage, sources, slice, prefer: Prefer::Cheapest, clock: Clock::System }).await
}

/// Open a lake that is there already, for verbs that would make no sense on a new one. Its sources are not read.
///
/// # Errors
/// `NotFound` for a folder that is missing or holds no lake; as `open`.
pub async fn open_existing(context: &Context, url: &str) -> Result<Arc<Engine>> {
    check_exists(url)?;
    open_quiet(context, url).await
}

/// As `open_existing`, and its storage.
///
/// # Errors
/// As `open_existing`.
pub async fn open_existing_over(context: &Context, url: &str) -> Result<(Arc<Engine>, Arc<dyn Storage>)> {
    check_exists(url)?;
    let storage = storage(context, url).await?;
    let sources = quiet::sources(storage.as_ref()).await?;
    Ok((open_with_storage(context, Arc::clone(&storage), sources).await?, storage))
}

/// Open a lake that is there already, with its sources.
///
/// # Errors
/// As `open_existing`.
pub async fn open_there(context: &Context, url: &str, sources: Sources) -> Result<Arc<Engine>> {
    check_exists(url)?;
    open(context, url, sources).await
}

/// Open a lake for statements: it must be there, unless the first of them makes something.
///
/// # Errors
/// As `open_existing`.
pub async fn open_for(context: &Context, url: &str, sql: Option<&str>) -> Result<Arc<Engine>> {
    let first = sql.and_then(|sql| sql.split_whitespace().next()).unwrap_or_default();
    match first.eq_ignore_ascii_case("CREATE") {
        true => open_quiet(context, url).await,
        false => open_existing(context, url).await,
    }
}

async fn open_quiet(context: &Context, url: &str) -> Result<Arc<Engine>> {
    let storage = storage(context, url).await?;
    let sources = quiet::sources(storage.as_ref()).await?;
    open_with_storage(context, storage, sources).await
}

/// A local folder must hold a lake; other stores say so themselves.
///
/// # Errors
/// `NotFound`.
pub fn check_exists(url: &str) -> Result<()> {
    let path = Path::new(url.strip_prefix("file://").unwrap_or(url));
    let elsewhere = url.contains("://") && !url.starts_with("file://");
    if elsewhere || url.starts_with("memory:") || path.join(RECORDS).is_dir() {
        return Ok(());
    }
    let message = match (path.exists(), path.is_dir()) {
        (false, _) => format!("no lake at {url}: the folder does not exist"),
        (true, true) => format!("no lake at {url}: the folder holds none"),
        (true, false) => format!("no lake at {url}: it is a file"),
    };
    Err(Error::new(ErrorKind::NotFound, message).with_hint(
        "name the lake with --lake; `flash run` makes one (in the folder \"lake\"), and so does `flash demo` (in \"flash-demo\")",
    ))
}

/// Open the sources of `--source raw.events=SPEC`.
///
/// # Errors
/// `Config` for a flag that is not understood; as `source::open`.
pub async fn overrides(flags: &[String]) -> Result<Sources> {
    let mut sources = Sources::new();
    for flag in flags {
        let Some((name, spec)) = flag.split_once('=') else {
            return Err(Error::new(ErrorKind::Config, format!("--source {flag}: no \"=\""))
                .with_hint("write --source raw.events=jsonl:PATH or --source raw.events=kinesis:STREAM"));
        };
        let name: TableName = name.parse().map_err(|error: Error| error.context(format!("--source {flag}")))?;
        let spec = SourceSpec::from_override(spec).map_err(|error| error.context(format!("--source {flag}")))?;
        if sources.insert(name.clone(), source::open(&spec).await?).is_some() {
            return Err(Error::new(ErrorKind::Config, format!("--source {name} is given twice")));
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_records_is_no_lake() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert!(check_exists("no/such").unwrap_err().message().contains("does not exist"));
        assert!(check_exists(path).unwrap_err().message().contains("holds none"));
        std::fs::create_dir(folder.path().join(RECORDS)).unwrap();
        check_exists(path).unwrap();
        check_exists(&format!("file://{path}")).unwrap();
        check_exists("s3://bucket/prefix").unwrap();
    }
}
