//! Where a lake is: a folder, `file://`, `s3://bucket/prefix` or `memory:`, and the limits it is used with.
//!
//! ```text
//!   "lake"  "/data/lake"  "file:///data/lake"  ─▶ LocalFileSystem   the folder is made; a probe file tells that
//!                                                                   it can be written
//!   "s3://bucket/prefix"                       ─▶ AmazonS3          If-None-Match for conditional puts
//!   "memory:"                                  ─▶ InMemory          gone with the process
//! ```

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::aws::S3ConditionalPut;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use url::Url;

use crate::aws;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::table::HistoryLimits;

/// Limits of a lake. `Default` gives the values in brackets.
#[derive(Debug, Clone)]
pub struct StorageOptions {
    /// Rows of one data file (1,000,000).
    pub file_rows_max: usize,
    /// Files encoded at the same time (the number of cores).
    pub staging_parallelism_max: usize,
    /// Files uploaded at the same time (16).
    pub uploads_max: usize,
    /// Hidden state kept in memory, in bytes (64 MiB).
    pub state_cache_bytes_max: usize,
    /// Small files of one partition before they are merged (16).
    pub compact_files_max: usize,
    /// A file below this many bytes is small (16 MiB).
    pub compact_small_bytes_max: u64,
    /// Input bytes of one merged file (128 MiB).
    pub compact_output_bytes_max: u64,
    /// Commits between two checkpoints (50).
    pub checkpoint_commits_max: u64,
    /// Removed files and entries of the log stay this long, in milliseconds (an hour and a quarter).
    pub retention_ms: i64,
    /// Tries of one commit against other writers (20).
    pub commit_tries_max: u32,
    /// Commits of a table whose actions stay in memory (256).
    pub history_commits_max: usize,
    /// Files removed by those commits; with more of them fewer commits stay (1,000).
    pub history_files_max: usize,
    /// A table's handle that is older than this looks for commits of other writers, in milliseconds (5 s).
    pub handle_fresh_ms_max: i64,
    /// One request to the object store, in milliseconds (30 s).
    pub request_ms_max: u64,
}

impl Default for StorageOptions {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            file_rows_max: 1_000_000,
            staging_parallelism_max: std::thread::available_parallelism().map_or(2, usize::from),
            uploads_max: 16,
            state_cache_bytes_max: 64 * MIB,
            compact_files_max: 16,
            compact_small_bytes_max: 16 * MIB as u64,
            compact_output_bytes_max: 128 * MIB as u64,
            checkpoint_commits_max: 50,
            retention_ms: crate::config::RETENTION_SECONDS as i64 * 1_000,
            commit_tries_max: 20,
            history_commits_max: 256,
            history_files_max: 1_000,
            handle_fresh_ms_max: 5_000,
            request_ms_max: 30_000,
        }
    }
}

impl StorageOptions {
    pub(crate) fn history(&self) -> HistoryLimits {
        HistoryLimits { commits_max: self.history_commits_max, files_max: self.history_files_max }
    }
}

/// The store below the lake's root, and the root as a URL for people.
pub(crate) async fn open(url: &str, options: &StorageOptions) -> Result<(Arc<dyn ObjectStore>, Url)> {
    match url.split_once(':') {
        Some(("memory", _)) => Ok((Arc::new(InMemory::new()), parse(url)?)),
        Some(("s3", _)) => s3(&parse(url)?, options).await,
        Some(("file", _)) => {
            let path = parse(url)?.to_file_path();
            folder(&path.map_err(|()| config(format!("\"{url}\" is not a local folder")))?).await
        }
        Some((scheme, rest)) if rest.starts_with("//") => Err(config(format!("unknown kind of lake \"{scheme}://\""))
            .with_hint("a lake is a folder, file://, s3://bucket/prefix, or memory:")),
        _ => folder(FilePath::new(url)).await,
    }
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

fn parse(url: &str) -> Result<Url> {
    Url::parse(url).map_err(|error| config(format!("\"{url}\" is not a URL")).with_detail(error.to_string()))
}

/// A local folder; made where it does not exist, as long as its parent does.
async fn folder(path: &FilePath) -> Result<(Arc<dyn ObjectStore>, Url)> {
    let shown = path.display();
    match tokio::fs::metadata(path).await {
        Ok(meta) if !meta.is_dir() => {
            return Err(Error::new(ErrorKind::Storage, format!("the lake \"{shown}\" is a file, not a folder"))
                .with_hint("name a folder; it is made where it does not exist"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tokio::fs::create_dir(path).await.map_err(|error| cannot(&shown.to_string(), "make", &error))?;
        }
        Err(error) => return Err(cannot(&shown.to_string(), "read", &error)),
    }
    let root: PathBuf =
        tokio::fs::canonicalize(path).await.map_err(|error| cannot(&shown.to_string(), "read", &error))?;
    let probe = root.join(format!(".flash-probe-{}", uuid::Uuid::new_v4().simple()));
    tokio::fs::write(&probe, b"").await.map_err(|error| cannot(&shown.to_string(), "write to", &error))?;
    tokio::fs::remove_file(&probe).await.map_err(|error| cannot(&shown.to_string(), "write to", &error))?;
    let store = LocalFileSystem::new_with_prefix(&root)?;
    let url = Url::from_directory_path(&root)
        .map_err(|()| Error::new(ErrorKind::Storage, format!("\"{shown}\" is not an absolute path")))?;
    Ok((Arc::new(store), url))
}

fn cannot(path: &str, verb: &str, error: &std::io::Error) -> Error {
    use std::io::ErrorKind as K;
    let hint = match error.kind() {
        K::NotFound => "the folder above it must exist; make it first",
        K::PermissionDenied | K::ReadOnlyFilesystem => "the lake folder must be writable by this user",
        K::NotADirectory => "a part of the path is a file; name another folder",
        K::StorageFull | K::QuotaExceeded => "free disk space and start again",
        _ => "check the path and its permissions",
    };
    Error::new(ErrorKind::Storage, format!("cannot {verb} the lake folder \"{path}\""))
        .with_detail(error.to_string())
        .with_hint(hint)
}

/// S3, or what speaks it at `AWS_ENDPOINT_URL`.
async fn s3(url: &Url, options: &StorageOptions) -> Result<(Arc<dyn ObjectStore>, Url)> {
    let Some(bucket) = url.host_str().filter(|host| !host.is_empty()) else {
        return Err(config(format!("\"{url}\" names no bucket")).with_hint("write s3://bucket/prefix"));
    };
    let builder = aws::bucket(bucket, Duration::from_millis(options.request_ms_max)).await?;
    let store = builder.with_conditional_put(S3ConditionalPut::ETagMatch).build();
    let store = store.map_err(|error| Error::from(error).context(format!("cannot use \"{url}\"")))?;
    let prefix = object_store::path::Path::from_url_path(url.path())
        .map_err(|error| config(format!("\"{url}\" is not a place in a bucket")).with_detail(error.to_string()))?;
    Ok((Arc::new(PrefixStore::new(store, prefix)), url.clone()))
}
