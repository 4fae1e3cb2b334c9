//! The index against a map in memory: random batches, seals, failed commits, crashes, merges and pruning.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::buffer::NullBuffer;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use parking_lot::Mutex;
use proptest::prelude::*;
use twox_hash::XxHash3_128;

use super::*;
use crate::epoch::Version;
use crate::storage::{Changes, Commit, Committed, DataFile, MaintainOptions, Objects, Snapshot, Upkept};

const FOLDER: &str = "_state/silver.events/abc/keys";
const MINUTE_US: i64 = 60_000_000;

/// Hidden state in memory; writes fail when `writes_left` is used up.
#[derive(Debug)]
struct Memory {
    objects: Mutex<BTreeMap<String, Vec<RecordBatch>>>,
    writes_left: Mutex<usize>,
    reads: Mutex<usize>,
}

impl Memory {
    fn new() -> Arc<Self> {
        Arc::new(Self { objects: Mutex::default(), writes_left: Mutex::new(usize::MAX), reads: Mutex::new(0) })
    }

    fn names(&self) -> Vec<String> {
        self.objects.lock().keys().map(|path| path.rsplit('/').next().unwrap().to_string()).collect()
    }
}

fn unused<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Internal, "an index needs hidden state only"))
}

#[async_trait]
impl Storage for Memory {
    async fn write_state(&self, path: &str, batches: &[RecordBatch]) -> Result<u64> {
        // Readers get batches of another size than was written.
        let slices = batches.iter().flat_map(|batch| {
            (0..batch.num_rows()).step_by(7000).map(|at| batch.slice(at, 7000.min(batch.num_rows() - at)))
        });
        let mut left = self.writes_left.lock();
        *left = left.checked_sub(1).ok_or_else(|| Error::new(ErrorKind::Storage, "the disk is full"))?;
        self.objects.lock().insert(path.to_string(), slices.collect());
        Ok(0)
    }

    async fn read_state(&self, path: &str) -> Result<Arc<Vec<RecordBatch>>> {
        *self.reads.lock() += 1;
        let found = self.objects.lock().get(path).cloned();
        Ok(Arc::new(found.ok_or_else(|| Error::new(ErrorKind::NotFound, path))?))
    }

    async fn list_newest(&self, folder: &str, limit: usize) -> Result<Vec<String>> {
        assert_eq!(folder, FOLDER);
        Ok(self.names().into_iter().rev().take(limit).collect())
    }

    async fn delete(&self, paths: &[String]) -> Result<()> {
        self.objects.lock().retain(|path, _| !paths.contains(path));
        Ok(())
    }

    fn root(&self) -> String {
        "memory:///".to_string()
    }

    fn register(&self, _: &datafusion::execution::runtime_env::RuntimeEnv) {}
    async fn create(&self, _: &str, _: &SchemaRef, _: &[String], _: Option<&str>) -> Result<Snapshot> {
        unused()
    }
    async fn snapshot(&self, _: &str, _: Option<Version>) -> Result<Snapshot> {
        unused()
    }
    async fn changes(&self, _: &str, _: Version, _: Version) -> Result<Changes> {
        unused()
    }
    async fn stage(&self, _: &Snapshot, _: Epoch, _: &[RecordBatch]) -> Result<Vec<DataFile>> {
        unused()
    }
    fn provider(&self, _: &Snapshot, _: Option<Vec<Arc<DataFile>>>) -> Arc<dyn TableProvider> {
        unreachable!("an index needs hidden state only")
    }
    async fn commit(&self, _: &str, _: Commit) -> Result<Committed> {
        unused()
    }
    async fn put_if_absent(&self, _: &str, _: Vec<u8>) -> Result<bool> {
        unused()
    }
    async fn get(&self, _: &str) -> Result<Vec<u8>> {
        unused()
    }
    async fn delete_folder(&self, _: &str) -> Result<Objects> {
        unused()
    }

    async fn first_removed_ms(&self, _: &Snapshot) -> Result<Option<i64>> {
        unused()
    }

    async fn maintain(&self, _: &str, _: &MaintainOptions) -> Vec<Upkept> {
        Vec::new()
    }

    async fn left_of(&self, _: &str, _: Option<&str>, _: crate::epoch::Version, _: i64) -> Result<Objects> {
        unused()
    }

    async fn sweep_unrecorded(&self, _: &std::collections::BTreeSet<String>) -> Result<Objects> {
        unused()
    }
}

async fn open(storage: &Arc<Memory>, frontier: Epoch, within_us: Option<i64>) -> UniqueIndex {
    let limits = Limits { chunk_keys_max: 5, filters_bytes_max: 150 };
    let storage: Arc<dyn Storage> = Arc::<Memory>::clone(storage);
    let place = Place { storage, folder: FOLDER.to_string(), limits };
    UniqueIndex::open_at(place, frontier, within_us).await.unwrap()
}

type Batch = Vec<(Option<u8>, i64)>;

fn keys_of(batch: &Batch) -> (Keys, Vec<i64>) {
    let hashes = batch.iter().map(|(key, _)| XxHash3_128::oneshot(&[key.unwrap_or(0)])).collect();
    let nulls = NullBuffer::from_iter(batch.iter().map(|(key, _)| key.is_some()));
    (Keys::from_hashes(hashes, Some(nulls)), batch.iter().map(|(_, at)| *at).collect())
}

async fn keep(index: &mut UniqueIndex, batch: &Batch) -> Vec<bool> {
    let (keys, arrived_us) = keys_of(batch);
    index.keep(&keys, &arrived_us).await.unwrap().values().iter().collect()
}

/// What `keep` is to answer, row by row.
fn expected(kept: &mut HashMap<u8, Vec<i64>>, batch: &Batch, within_us: Option<i64>) -> Vec<bool> {
    let mut keep = |(key, at): &(Option<u8>, i64)| {
        let Some(key) = key else { return true };
        let before = kept.entry(*key).or_default();
        let duplicate = before.iter().any(|kept| within_us.is_none_or(|within| at - kept <= within));
        if !duplicate {
            before.push(*at);
        }
        !duplicate
    };
    batch.iter().map(&mut keep).collect()
}

#[derive(Debug, Clone, Copy)]
enum End {
    Commit,
    Abandon,
    CrashBeforeSeal,
    /// After so many writes of the seal (many: after the seal), then the same epoch again.
    CrashAndAgain(usize),
    /// The same, but the epoch is given up.
    CrashAndNever(usize),
}

#[derive(Debug, Clone)]
struct Step {
    idle_epochs: u64,
    batches: Vec<Batch>,
    end: End,
    reopen: bool,
    prune: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (prop::option::weighted(0.95, 0..60_u8), 0..8_i64, -29..30_i64);
    let batches = prop::collection::vec(prop::collection::vec(row, 0..25), 0..5);
    let writes = prop_oneof![0..6_usize, Just(1000)];
    let end = prop_oneof![
        6 => Just(End::Commit),
        1 => Just(End::Abandon),
        1 => Just(End::CrashBeforeSeal),
        2 => writes.clone().prop_map(End::CrashAndAgain),
        2 => writes.prop_map(End::CrashAndNever),
    ];
    let idle = prop_oneof![4 => Just(0), 1 => 1..3_u64];
    let step = (idle, batches, end, prop::bool::weighted(0.2), prop::bool::weighted(0.4));
    prop::collection::vec(step, 1..40).prop_map(|steps| {
        // Time goes on by minutes, with disorder of less than an hour.
        let mut minute = 1000;
        let mut at = |(key, later, disorder)| {
            minute += later;
            (key, (minute + disorder) * MINUTE_US)
        };
        let mut batch = |rows: Vec<_>| rows.into_iter().map(&mut at).collect();
        let step = |(idle_epochs, batches, end, reopen, prune): (_, Vec<Vec<_>>, _, _, _)| {
            let batches = batches.into_iter().map(&mut batch).collect();
            Step { idle_epochs, batches, end, reopen, prune }
        };
        steps.into_iter().map(step).collect()
    })
}

/// Carry out the steps; every answer is compared with the map's.
async fn check(steps: &[Step], within_us: Option<i64>) {
    let storage = Memory::new();
    let (mut epoch, mut frontier) = (0, 0);
    let mut committed = HashMap::new();
    let mut index = open(&storage, 0, within_us).await;
    for step in steps {
        if step.idle_epochs > 0 && frontier == epoch {
            // Epochs without anything new for the view, which are counted in at the next start.
            frontier += step.idle_epochs;
            index = open(&storage, frontier, within_us).await;
        }
        epoch += 1 + step.idle_epochs;
        let mut kept = committed.clone();
        let mut answers = Vec::new();
        for batch in &step.batches {
            answers.push(expected(&mut kept, batch, within_us));
            assert_eq!(Some(&keep(&mut index, batch).await), answers.last());
        }
        match step.end {
            End::Commit => {
                index.seal(epoch).await.unwrap();
                (committed, frontier) = (kept, epoch);
            }
            End::Abandon => index.abandon(),
            End::CrashBeforeSeal => index = open(&storage, frontier, within_us).await,
            End::CrashAndAgain(writes) | End::CrashAndNever(writes) => {
                *storage.writes_left.lock() = writes;
                let _torn = index.seal(epoch).await;
                *storage.writes_left.lock() = usize::MAX;
                index = open(&storage, frontier, within_us).await;
                if matches!(step.end, End::CrashAndAgain(_)) {
                    for (batch, answer) in step.batches.iter().zip(&answers) {
                        assert_eq!(&keep(&mut index, batch).await, answer);
                    }
                    index.seal(epoch).await.unwrap();
                    (committed, frontier) = (kept, epoch);
                }
            }
        }
        if step.prune {
            index.prune(epoch).await.unwrap();
        }
        if step.reopen {
            index = open(&storage, frontier, within_us).await;
        }
        assert!(index.memory_bytes() <= 150, "{} bytes of filters", index.memory_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn answers_are_those_of_a_map_in_memory(steps in steps(), window in 0..3_usize) {
        let within_us = [None, Some(0), Some(30 * MINUTE_US)][window];
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(check(&steps, within_us));
    }
}

fn rows(keys: std::ops::Range<u8>, minute: i64) -> Batch {
    keys.map(|key| (Some(key), minute * MINUTE_US)).collect()
}

#[tokio::test]
async fn the_window_includes_its_end_and_runs_from_the_kept_row() {
    let within_us = 30 * MINUTE_US;
    for sealed in [false, true] {
        let mut index = open(&Memory::new(), 0, Some(within_us)).await;
        assert_eq!(keep(&mut index, &vec![(Some(1), 0), (Some(2), 7), (None, 0)]).await, [true; 3]);
        if sealed {
            index.seal(1).await.unwrap();
        }
        assert_eq!(keep(&mut index, &vec![(Some(2), 7 + within_us)]).await, [false]);
        let ask = vec![(Some(1), within_us), (Some(1), within_us + 1), (Some(1), 2 * within_us), (None, 0)];
        assert_eq!(keep(&mut index, &ask).await, [false, true, false, true]);
        let ask = vec![(Some(2), 0), (Some(1), 2 * within_us + 1), (Some(1), 2 * within_us + 2)];
        assert_eq!(keep(&mut index, &ask).await, [false, false, true]);
        assert_eq!(keep(&mut index, &vec![(Some(2), 8 + within_us)]).await, [true]);
    }
}

#[tokio::test]
async fn an_epoch_of_duplicates_jumps_over_a_seal_whose_commit_failed() {
    let storage = Memory::new();
    let mut index = open(&storage, 0, None).await;
    keep(&mut index, &rows(0..3, 0)).await;
    index.seal(1).await.unwrap();
    keep(&mut index, &rows(3..6, 0)).await;
    index.seal(2).await.unwrap();
    // Epoch 2 is never committed; epoch 3 keeps nothing.
    let mut index = open(&storage, 1, None).await;
    assert_eq!(keep(&mut index, &rows(0..3, 1)).await, [false; 3]);
    index.seal(3).await.unwrap();
    let mut index = open(&storage, 3, None).await;
    assert_eq!(keep(&mut index, &rows(0..6, 2)).await, [false, false, false, true, true, true]);
    // The same for a full refresh that finds nothing.
    let mut index = open(&storage, 0, None).await;
    index.seal(4).await.unwrap();
    let mut index = open(&storage, 4, None).await;
    assert_eq!(keep(&mut index, &rows(0..6, 3)).await, [true; 6]);
}

#[tokio::test]
async fn merged_and_expired_runs_are_deleted_once_published() {
    let storage = Memory::new();
    let within_us = Some(30 * MINUTE_US);
    let mut index = open(&storage, 0, within_us).await;
    for epoch in 1..=8 {
        keep(&mut index, &rows(0..30, 100 * epoch as i64)).await;
        index.seal(epoch).await.unwrap();
    }
    // Epochs 1 to 4, then 5 to 7 with it, were merged, each time without what had expired: older than 30 + 60 min.
    let ends = |names: &[String]| names.iter().map(|name| name[18..20].to_string()).collect::<Vec<_>>();
    assert_eq!(index.keys_held(), 60);
    index.prune(6).await.unwrap();
    assert_eq!(ends(&storage.names())[0], "04", "a state at 6 needs the merged run of 4");
    index.prune(8).await.unwrap();
    assert!(ends(&storage.names()).iter().all(|end| end == "07" || end == "08"), "{:?}", storage.names());
    keep(&mut index, &rows(40..41, 2000)).await;
    index.seal(9).await.unwrap();
    index.prune(9).await.unwrap();
    assert_eq!(storage.names().len(), 1, "{:?}", storage.names());
    assert_eq!(index.keys_held(), 1);
    assert_eq!(keep(&mut open(&storage, 9, within_us).await, &rows(40..42, 2001)).await, [false, true]);
}

#[tokio::test]
async fn a_chunk_of_another_size_is_reported() {
    let storage = Memory::new();
    let mut index = open(&storage, 0, None).await;
    keep(&mut index, &rows(0..8, 0)).await;
    index.seal(1).await.unwrap();
    let path = storage.objects.lock().keys().next().unwrap().clone();
    let torn = storage.objects.lock()[&path][0].slice(0, 1);
    storage.objects.lock().insert(path, vec![torn]);
    let (keys, arrived_us) = keys_of(&rows(0..8, 1));
    let error = index.keep(&keys, &arrived_us).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn seals_go_forward_only() {
    let mut index = open(&Memory::new(), 5, None).await;
    assert_eq!(index.seal(5).await.unwrap_err().kind(), ErrorKind::Internal);
}

/// Keys of numbers that are spread as hashes are.
fn spread(numbers: std::ops::Range<u64>) -> Keys {
    Keys::from_hashes(numbers.map(|number| XxHash3_128::oneshot(&number.to_le_bytes())).collect(), None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_index_answers_from_its_filters() {
    const EPOCH_KEYS: u64 = 100_000;
    const EPOCHS: u64 = 12;
    let storage = Memory::new();
    let shared: Arc<dyn Storage> = Arc::<Memory>::clone(&storage);
    let mut index = UniqueIndex::open(Arc::clone(&shared), FOLDER.to_string(), 0, None).await.unwrap();
    let arrived_us = vec![0; EPOCH_KEYS as usize];
    for epoch in 1..=EPOCHS {
        let keys = spread((epoch - 1) * EPOCH_KEYS..epoch * EPOCH_KEYS);
        let started = Instant::now();
        assert_eq!(index.keep(&keys, &arrived_us).await.unwrap().true_count(), keys.len());
        let kept = started.elapsed();
        index.seal(epoch).await.unwrap();
        println!("epoch {epoch}: keep {kept:?}, seal {:?}, held {}", started.elapsed() - kept, index.keys_held());
    }
    assert_eq!(index.keys_held(), EPOCHS * EPOCH_KEYS);
    assert!(index.memory_bytes() < 3 * index.keys_held() as usize, "{} bytes", index.memory_bytes());
    *storage.reads.lock() = 0;
    let started = Instant::now();
    let keys = spread(EPOCHS * EPOCH_KEYS..(EPOCHS + 1) * EPOCH_KEYS);
    assert_eq!(index.keep(&keys, &arrived_us).await.unwrap().true_count(), keys.len());
    println!("{} new keys: {:?}, {} chunks read", keys.len(), started.elapsed(), storage.reads.lock());
    assert!(*storage.reads.lock() < 30, "{} chunks read for keys that are not there", storage.reads.lock());
    index.abandon();
    let started = Instant::now();
    let mut index = UniqueIndex::open(shared, FOLDER.to_string(), EPOCHS, None).await.unwrap();
    println!("open: {:?}, {} bytes of filters", started.elapsed(), index.memory_bytes());
    let started = Instant::now();
    let keys = spread(EPOCH_KEYS / 2..EPOCH_KEYS / 2 + EPOCH_KEYS);
    assert_eq!(index.keep(&keys, &arrived_us).await.unwrap().true_count(), 0);
    println!("{} held keys: {:?}", keys.len(), started.elapsed());
}
