//! A bucket, and a store whose conditional puts fail on demand.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

/// A folder of its own in the bucket `lakes` of the S3 endpoint at FLASH_S3; `None`, and a word about it, without one.
#[allow(clippy::disallowed_methods, reason = "which servers there are is the test environment's business")]
pub(super) async fn s3(test: &str) -> Option<Arc<dyn ObjectStore>> {
    let Ok(endpoint) = std::env::var("FLASH_S3") else {
        println!("skipped: {test} needs FLASH_S3");
        return None;
    };
    let bucket = AmazonS3Builder::new()
        .with_bucket_name("lakes")
        .with_region("us-east-1")
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_access_key_id("test")
        .with_secret_access_key("test")
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .build()
        .unwrap();
    let folder = format!("{test}-{}", uuid::Uuid::new_v4().simple());
    Some(Arc::new(PrefixStore::new(bucket, folder)))
}

/// `ENOSPC`.
const NO_SPACE: i32 = 28;

/// What goes wrong with one conditional put.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// It is carried out, and the answer is lost.
    LoseAnswer,
    /// It is carried out, and the client's own retry meets it.
    RetryMeetsItself,
    /// It is not carried out.
    FailBefore,
    /// Another writer is faster: this put is carried out by someone else's hand first.
    None,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    /// Taken one for each conditional put.
    pub(super) faults: Mutex<VecDeque<Fault>>,
    /// Every put fails for want of space.
    pub(super) full: Mutex<bool>,
    /// Puts that did.
    pub(super) refused: Mutex<usize>,
}

impl Faulty {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, faults: &[Fault]) -> Arc<Self> {
        let faults = Mutex::new(faults.iter().copied().collect());
        Arc::new(Self { inner, faults, full: Mutex::new(false), refused: Mutex::new(0) })
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

fn broken(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "Faulty", source: cause.into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if *self.full.lock() {
            *self.refused.lock() += 1;
            return Err(broken(std::io::Error::from_raw_os_error(NO_SPACE)));
        }
        if options.mode != PutMode::Create {
            return self.inner.put_opts(at, payload, options).await;
        }
        let fault = self.faults.lock().pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::None => self.inner.put_opts(at, payload, options).await,
            Fault::FailBefore => Err(broken("connection refused")),
            Fault::LoseAnswer => {
                self.inner.put_opts(at, payload, options).await?;
                Err(broken("connection reset before the answer"))
            }
            Fault::RetryMeetsItself => {
                self.inner.put_opts(at, payload.clone(), options.clone()).await?;
                self.inner.put_opts(at, payload, options).await
            }
        }
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
