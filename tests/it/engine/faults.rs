//! The lake fails at the n-th write, for every n: what is there afterwards, and after a restart, is as if it had not.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use flashcommerce::engine::{PassRequest, ProjectObject};
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use super::harness::{Lake, events};

/// Counts down writes; from zero on all of them fail, before or after they have landed.
#[derive(Debug)]
struct Failing {
    inner: Arc<InMemory>,
    left: AtomicI64,
    /// The write that fails has landed: only its answer is lost.
    after: bool,
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failing")
    }
}

fn fault() -> object_store::Error {
    object_store::Error::Generic { store: "failing", source: "the power went out".into() }
}

#[async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left > 0 {
            return self.inner.put_opts(path, payload, options).await;
        }
        if left == 0 && self.after {
            self.inner.put_opts(path, payload, options).await?;
        }
        Err(fault())
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
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

/// Everything that readers see, without the epochs' own numbers.
async fn contents(lake: &Lake) -> Vec<String> {
    let mut all = Vec::new();
    for query in [
        "SELECT _sequence_number, CAST(_payload AS VARCHAR) FROM bronze.events ORDER BY 1",
        "SELECT id, shop, amount, at FROM silver.events ORDER BY 1",
        "SELECT _sequence_number, expectation FROM silver.events_quarantine ORDER BY 1",
        "SELECT * FROM gold.by_shop ORDER BY 1",
        "SELECT * FROM gold.totals",
        "SELECT * FROM gold.busy ORDER BY 1",
        "SELECT dropped, duplicates, quarantined FROM system.materialized_views WHERE view_name = 'silver.events'",
    ] {
        all.extend(lake.query(query).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_write_changes_nothing_in_the_end() {
    let undisturbed = Lake::new(&super::VIEWS).await;
    undisturbed.source.push(events(0, 120));
    undisturbed.pass_until_idle().await;
    let wanted = contents(&undisturbed).await;
    let mut faults = 0;
    for after in [false, true] {
        for write in 0.. {
            let inner = Arc::new(InMemory::new());
            let source = Arc::default();
            let calm = Lake::open(inner.clone(), Arc::clone(&source)).await.unwrap();
            let objects = super::VIEWS.iter().map(|sql| ProjectObject { file: None, sql: (*sql).into(), data: None });
            calm.engine.apply(&objects.collect::<Vec<_>>()).await.unwrap();
            calm.source.push(events(0, 60));
            calm.pass_until_idle().await;
            drop(calm);
            let failing = Arc::new(Failing { inner: inner.clone(), left: AtomicI64::new(write), after });
            let lake = Lake::open(failing.clone(), Arc::clone(&source)).await.unwrap();
            lake.source.push(events(60, 60));
            let outcome = lake.engine.pass(PassRequest { all: true, full: vec![] }).await;
            let fault = failing.left.load(Ordering::SeqCst) < 0;
            assert!(fault || outcome.is_ok(), "{:?}", outcome.err());
            drop(lake);
            let lake = Lake::open(inner, source).await.unwrap().restart().await;
            lake.pass_until_idle().await;
            let found = contents(&lake).await;
            let first = found.iter().zip(&wanted).find(|(a, b)| a != b);
            assert!(
                found == wanted,
                "fault at write {write}, landed: {after}; {} rows, {} wanted; {first:?}",
                found.len(),
                wanted.len()
            );
            if !fault {
                break;
            }
            faults += 1;
        }
    }
    assert!(faults >= 20, "only {faults} writes were tried");
}
