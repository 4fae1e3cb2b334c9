//! Which files there are.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::{Files, Store};
use crate::aws;
use crate::error::{Error, ErrorKind, Result};

/// Time for one request to S3, its retries included.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// Files that one source may hold.
const FILES_MAX: usize = 1_000_000;

/// One file, as it was when it was listed.
#[derive(Debug, Clone)]
pub(super) struct FileMeta {
    /// Path below the location, with `/`.
    pub(super) name: String,
    /// Bytes as stored.
    pub(super) size: u64,
    /// Milliseconds since 1970 UTC.
    pub(super) modified_ms: i64,
    pub(super) object: ObjectMeta,
}

impl FileMeta {
    /// Was it left alone for at least so long?
    pub(super) fn older_than(&self, age: Duration) -> bool {
        super::now_ms() - self.modified_ms > age.as_millis() as i64
    }
}

/// A location, ready to be listed.
pub(super) struct Listing {
    location: String,
    store: Store,
    /// `None`: on S3, where the location is the prefix below.
    local: Option<PathBuf>,
    prefix: Path,
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listing({})", self.location)
    }
}

impl Listing {
    pub(super) async fn open(location: &str) -> Result<Self> {
        let location = location.strip_prefix("file://").unwrap_or(location).to_string();
        let Some(rest) = location.strip_prefix("s3://") else {
            let store = Arc::new(LocalFileSystem::new());
            let local = Some(PathBuf::from(&location));
            return Ok(Self { location, store, local, prefix: Path::default() });
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let refused = |why: &dyn fmt::Display| {
            Error::new(ErrorKind::Config, format!("cannot read {location}: {why}"))
                .with_hint("write s3://bucket/prefix")
        };
        let store = aws::bucket(bucket, REQUEST_MAX).await?.build().map_err(|error| refused(&error))?;
        let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|error| refused(&error))?;
        Ok(Self { location, store: Arc::new(store), local: None, prefix })
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Every file, by its path below the location.
    pub(super) async fn list(&self) -> Result<Files> {
        let base = match &self.local {
            None => self.prefix.clone(),
            // The folder may be a link, or be made later: looked up each time.
            Some(local) => {
                let real = tokio::fs::canonicalize(local).await.map_err(|error| self.missing(&error))?;
                if real.is_file() {
                    return self.single(&Path::from_absolute_path(&real).map_err(|error| self.missing(&error))?).await;
                }
                Path::from_absolute_path(&real).map_err(|error| self.missing(&error))?
            }
        };
        let objects: Vec<ObjectMeta> =
            self.store.list(Some(&base)).try_collect().await.map_err(|error| self.failed(error))?;
        if objects.is_empty() && self.local.is_none() && !base.is_root() {
            return match self.store.head(&base).await {
                Err(object_store::Error::NotFound { .. }) => Ok(Files::new()),
                _ => self.single(&base).await,
            };
        }
        if objects.len() > FILES_MAX {
            let message = format!("{} holds {} files, more than {FILES_MAX}", self.location, objects.len());
            return Err(
                Error::new(ErrorKind::Source, message).with_hint("read a folder with fewer files, or join small files")
            );
        }
        let named = objects.into_iter().filter_map(|object| {
            let parts: Vec<_> = object.location.prefix_match(&base)?.collect();
            let name = parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/");
            let hidden = parts.iter().any(|part| part.as_ref().starts_with(['.', '_'])) || is_partial(&name);
            (!hidden && !name.is_empty()).then(|| (name.clone(), meta(name, object)))
        });
        Ok(named.collect())
    }

    async fn single(&self, path: &Path) -> Result<Files> {
        let object = self.store.head(path).await.map_err(|error| self.failed(error))?;
        let name = path.filename().unwrap_or_default().to_string();
        Ok(Files::from([(name.clone(), meta(name, object))]))
    }

    fn missing(&self, why: &dyn fmt::Display) -> Error {
        Error::new(ErrorKind::Source, format!("cannot read {}: {why}", self.location))
            .with_hint("give a folder or file that exists and that this user may read")
    }

    fn failed(&self, error: object_store::Error) -> Error {
        let error = Error::from(error);
        Error::new(ErrorKind::Source, format!("cannot list {}", self.location)).with_detail(error.message())
    }
}

fn meta(name: String, object: ObjectMeta) -> FileMeta {
    FileMeta { name, size: object.size, modified_ms: object.last_modified.timestamp_millis(), object }
}

/// Names under which other programs write files that are not finished.
fn is_partial(name: &str) -> bool {
    [".tmp", ".part", ".partial", ".crdownload", ".swp", "~"].iter().any(|end| name.ends_with(end))
}
