//! The lake fails at the n-th write, for every n: what is there afterwards, and after a restart, is as if it had not.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use flashcommerce::engine::{PassRequest, ProjectObject};
use flashcommerce::error::ErrorKind;
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
pub struct Failing {
    inner: Arc<InMemory>,
    left: AtomicI64,
    /// The write that fails has landed: only its answer is lost.
    after: bool,
    /// Those after it do not fail.
    once: bool,
}

impl Failing {
    /// Nothing fails until it is told to.
    pub fn calm() -> Arc<Self> {
        Arc::new(Self { inner: Arc::new(InMemory::new()), left: AtomicI64::new(i64::MAX), after: false, once: true })
    }

    /// It has failed since it was told to.
    pub fn has_failed(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// The n-th write from now on fails, from 0 on, and no other.
    pub fn fail_at(&self, write: i64) {
        self.left.store(write, Ordering::SeqCst);
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failing")
    }
}

fn fault() -> object_store::Error {
    object_store::Error::Generic { store: "failing", source: "the power went out".into() }
}

fn refused(path: &Path) -> object_store::Error {
    object_store::Error::PermissionDenied { path: path.to_string(), source: "not just now".into() }
}

#[async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left > 0 || self.once && left < 0 {
            return self.inner.put_opts(path, payload, options).await;
        }
        if left == 0 && self.after {
            self.inner.put_opts(path, payload, options).await?;
        }
        // What is refused is not tried again below the engine.
        Err(if self.once { refused(path) } else { fault() })
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

async fn apply_views(lake: &Lake) {
    let objects = super::VIEWS.iter().map(|sql| ProjectObject { file: None, sql: (*sql).into(), data: None });
    lake.engine.apply(&objects.collect::<Vec<_>>()).await.unwrap();
}

/// A lake holds what an undisturbed one does.
async fn assert_same(lake: &Lake, wanted: &[String], what: &str) {
    let found = contents(lake).await;
    let first = found.iter().zip(wanted).find(|(a, b)| a != b);
    assert!(found == wanted, "{what}: {} rows, {} wanted; {first:?}", found.len(), wanted.len());
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
            apply_views(&calm).await;
            calm.source.push(events(0, 60));
            calm.pass_until_idle().await;
            drop(calm);
            let failing = Arc::new(Failing { inner: inner.clone(), left: AtomicI64::new(write), after, once: false });
            let lake = Lake::open(failing.clone(), Arc::clone(&source)).await.unwrap();
            lake.source.push(events(60, 60));
            let outcome = lake.engine.pass(PassRequest { all: true, full: vec![] }).await;
            let fault = failing.left.load(Ordering::SeqCst) < 0;
            assert!(fault || outcome.is_ok(), "{:?}", outcome.err());
            drop(lake);
            let lake = Lake::open(inner, source).await.unwrap().restart().await;
            lake.pass_until_idle().await;
            assert_same(&lake, &wanted, &format!("fault at write {write}, landed: {after}")).await;
            if !fault {
                break;
            }
            faults += 1;
        }
    }
    assert!(faults >= 20, "only {faults} writes were tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_engine_goes_on_after_a_fault_at_any_write() {
    let undisturbed = Lake::new(&super::VIEWS).await;
    undisturbed.source.push(events(0, 180));
    undisturbed.pass_until_idle().await;
    let wanted = contents(&undisturbed).await;
    let mut faults = 0;
    for after in [false, true] {
        for write in 0.. {
            let failing = Failing { inner: Arc::default(), left: AtomicI64::new(i64::MAX), after, once: true };
            let failing = Arc::new(failing);
            let lake = Lake::open(failing.clone(), Arc::default()).await.unwrap();
            apply_views(&lake).await;
            lake.source.push(events(0, 60));
            lake.pass_until_idle().await;
            failing.left.store(write, Ordering::SeqCst);
            lake.source.push(events(60, 60));
            let outcome = lake.engine.pass(PassRequest { all: true, full: vec![] }).await;
            let fault = failing.left.load(Ordering::SeqCst) < 0;
            assert!(fault || outcome.is_ok(), "{:?}", outcome.err());
            failing.left.store(i64::MAX, Ordering::SeqCst);
            lake.source.push(events(120, 60));
            lake.pass_until_idle().await;
            assert_same(&lake, &wanted, &format!("fault at write {write}, landed: {after}")).await;
            if !fault {
                break;
            }
            faults += 1;
        }
    }
    assert!(faults >= 20, "only {faults} writes were tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_lands_what_is_missing_once_whatever_write_fails() {
    let undisturbed = Lake::new(&super::VIEWS).await;
    undisturbed.source.push(events(0, 120));
    undisturbed.pass_until_idle().await;
    let wanted = contents(&undisturbed).await;
    let bronze = "bronze.events".parse().unwrap();
    let mut faults = 0;
    for write in 0.. {
        let inner = Arc::new(InMemory::new());
        let lake = Lake::open(inner.clone(), Arc::default()).await.unwrap();
        apply_views(&lake).await;
        // The stream held 50 records when the source began with "latest".
        *lake.source.first.lock() = 50;
        lake.source.push(events(0, 110));
        lake.pass_until_idle().await;
        assert_eq!(lake.query("SELECT count(*) FROM bronze.events").await, ["60"]);
        // These have not been read: they come the usual way.
        lake.source.push(events(110, 10));
        let source = Arc::clone(&lake.source);
        drop(lake);
        let failing =
            Arc::new(Failing { inner: inner.clone(), left: AtomicI64::new(write), after: write % 2 == 1, once: false });
        let lake = Lake::open(failing.clone(), Arc::clone(&source)).await.unwrap();
        let outcome = lake.engine.backfill(&bronze, 0).await;
        let fault = failing.left.load(Ordering::SeqCst) < 0;
        assert!(fault || outcome.as_ref().is_ok_and(|done| (done.read, done.landed) == (110, 50)), "{outcome:?}");
        drop(lake);

        let lake = Lake::open(inner, source).await.unwrap().restart().await;
        lake.engine.backfill(&bronze, 0).await.unwrap();
        assert_eq!(lake.engine.backfill(&bronze, 0).await.unwrap().landed, 0, "once");
        lake.pass_until_idle().await;
        assert_same(&lake, &wanted, &format!("fault at write {write}")).await;
        if !fault {
            break;
        }
        faults += 1;
    }
    assert!(faults >= 10, "only {faults} writes were tried");
    let error = undisturbed.engine.backfill(&"silver.events".parse().unwrap(), 0).await.unwrap_err();
    assert!(error.hint().unwrap().contains("flash refresh silver.events --full"), "{error}");
}

/// Carry out a pass; another writer that was faster is no surprise: start again, as whoever operates it would.
async fn pass_or_stop(lake: Lake, stopped: &mut usize) -> Lake {
    match lake.engine.pass(PassRequest { all: true, full: vec![] }).await {
        Ok(_) => lake,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.render());
            *stopped += 1;
            let again = Lake::open(Arc::clone(&lake.store), Arc::clone(&lake.source)).await.unwrap();
            match again.engine.recover().await {
                Ok(_) => again,
                Err(error) => panic!("{}", error.render()),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_writers_one_stops_and_nothing_is_lost_or_doubled() {
    let undisturbed = Lake::new(&super::VIEWS).await;
    undisturbed.source.push(events(0, 600));
    undisturbed.pass_until_idle().await;
    let wanted = contents(&undisturbed).await;

    let mut a = Lake::new(&super::VIEWS).await;
    let mut b = Lake::open(Arc::clone(&a.store), Arc::clone(&a.source)).await.unwrap();
    let (mut a_stopped, mut b_stopped) = (0, 0);
    for round in 0..30 {
        a.source.push(events(round * 20, 20));
        (a, b) = tokio::join!(pass_or_stop(a, &mut a_stopped), pass_or_stop(b, &mut b_stopped));
    }
    assert!(a_stopped + b_stopped >= 10, "they were hardly in each other's way: {a_stopped}, {b_stopped}");
    drop(b);
    let last = a.restart().await;
    last.pass_until_idle().await;
    assert_same(&last, &wanted, "two writers").await;
}
