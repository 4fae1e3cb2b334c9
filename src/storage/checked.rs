//! A store whose answers have the length that was asked for.
//!
//! ```text
//!   get a..b of a file that ends before b:   some stores answer with fewer bytes; the Parquet reader takes that
//!                                            for a bug and panics ─▶ here it is an error that names the file
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Checked(pub(crate) Arc<dyn ObjectStore>);

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn short(path: &Path, found: u64, wanted: &Range<u64>) -> Error {
    let text = format!("\"{path}\" is damaged: of bytes {} to {} only {found} are there", wanted.start, wanted.end);
    Error::Generic { store: "lake", source: text.into() }
}

#[async_trait]
impl ObjectStore for Checked {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let wanted = match &options.range {
            Some(GetRange::Bounded(range)) => Some(range.clone()),
            _ => None,
        };
        let found = self.0.get_opts(at, options).await?;
        match wanted.filter(|wanted| found.range != *wanted) {
            Some(wanted) => Err(short(at, found.range.end.saturating_sub(found.range.start), &wanted)),
            None => Ok(found),
        }
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let found = self.0.get_ranges(at, ranges).await?;
        match ranges.iter().zip(&found).find(|(wanted, bytes)| wanted.end - wanted.start != bytes.len() as u64) {
            Some((wanted, bytes)) => Err(short(at, bytes.len() as u64, wanted)),
            None => Ok(found),
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
