//! Lost answers, failed puts, a full disk, damaged files.

use std::sync::Arc;

use flashcommerce::error::{Error, ErrorKind};
use flashcommerce::storage::{Commit, Committed, DeltaStorage, MaintainOptions, Storage};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::lake::{Store, append, open, paths, rows, schema, session, stage, value, write};
use super::stores::{Fault, Faulty};

/// A lake whose next conditional puts fail like this, with a table of epoch 1.
async fn faulty(store: &Store, faults: &[Fault]) -> (Arc<DeltaStorage>, Arc<Faulty>) {
    let faulty = Faulty::new(Arc::clone(store), &[]);
    let lake = open(&(Arc::clone(&faulty) as Store));
    lake.create("t", &schema(), &[], None).await.unwrap();
    append(&lake, "t", Some(1), &[rows(None, 0..3)]).await;
    faulty.faults.lock().extend(faults);
    (lake, faulty)
}

pub(super) async fn a_lost_answer_is_recognised(store: Store) {
    for (at, fault) in [Fault::LoseAnswer, Fault::RetryMeetsItself].into_iter().enumerate() {
        let store: Store = if at == 0 { Arc::clone(&store) } else { Arc::new(object_store::memory::InMemory::new()) };
        let (lake, _) = faulty(&store, &[fault, Fault::None, fault]).await;
        assert_eq!(append(&lake, "t", Some(2), &[rows(None, 3..5)]).await, Committed::Already(2), "{fault:?}");
        assert_eq!(append(&lake, "t", Some(3), &[rows(None, 5..6)]).await, Committed::Now(3));
        // Outside an epoch our own try is known by its id.
        assert_eq!(append(&lake, "t", None, &[rows(None, 6..7)]).await, Committed::Now(4), "{fault:?}");
        for lake in [lake, open(&store)] {
            assert_eq!(value(&lake, "t", "SELECT count(*), sum(n) FROM t").await, "7,21");
        }
    }
    // A table whose making lost its answer is there.
    let lake = open(&(Faulty::new(Arc::clone(&store), &[Fault::LoseAnswer]) as Store));
    assert_eq!(lake.create("u", &schema(), &[], None).await.unwrap().version, 0);
}

pub(super) async fn a_put_that_fails_is_tried_again(store: Store) {
    let (lake, _) = faulty(&store, &[Fault::FailBefore, Fault::FailBefore, Fault::LoseAnswer]).await;
    assert_eq!(append(&lake, "t", Some(2), &[rows(None, 3..5)]).await, Committed::Already(2));
    let other: Store = Arc::new(object_store::memory::InMemory::new());
    let (lake, faults) = faulty(&other, &[Fault::FailBefore; 50]).await;
    let add = stage(&lake, "t", 2, &[rows(None, 3..5)]).await;
    let commit = Commit { epoch: Some(2), add, ..write() };
    let error = lake.commit("t", commit.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.message().contains("t/_delta_log/00000000000000000002.json"), "{error}");
    assert_eq!(faults.faults.lock().len(), 45, "a fault is not tried again for ever");
    // The staged files are still there for the next try.
    faults.faults.lock().clear();
    assert_eq!(lake.commit("t", commit).await.unwrap(), Committed::Now(2));
    assert_eq!(value(&lake, "t", "SELECT count(*), sum(n) FROM t").await, "5,10");
}

pub(super) async fn a_full_disk_leaves_the_table_as_it_was(store: Store) {
    let (lake, faults) = faulty(&store, &[]).await;
    let snapshot = lake.snapshot("t", None).await.unwrap();
    let add = stage(&lake, "t", 2, &[rows(None, 3..5)]).await;
    *faults.full.lock() = true;
    let full = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Storage, "{error}");
        assert!(error.message().contains("No space left") && error.hint().is_some(), "{error}");
    };
    full(lake.stage(&snapshot, 2, &[rows(None, 3..5)]).await.unwrap_err());
    *faults.refused.lock() = 0;
    full(lake.commit("t", Commit { epoch: Some(2), add, ..write() }).await.unwrap_err());
    assert_eq!(*faults.refused.lock(), 1, "repeating does not make space");
    full(lake.put_if_absent("_flash/epochs/1.json", b"{}".to_vec()).await.unwrap_err());
    full(lake.write_state("_state/s", &[rows(None, 0..1)]).await.unwrap_err());
    full(lake.create("u", &schema(), &[], None).await.unwrap_err());
    *faults.full.lock() = false;
    assert_eq!(value(&lake, "t", "SELECT count(*) FROM t").await, "3");
    assert_eq!(append(&lake, "t", Some(2), &[rows(None, 3..5)]).await, Committed::Now(2));
}

/// What a query over the table says, as the program reports it.
async fn query_error(lake: &DeltaStorage) -> Error {
    let snapshot = lake.snapshot("t", None).await.unwrap();
    let frame = session(lake, &snapshot).sql("SELECT * FROM t WHERE n >= 0").await.unwrap();
    frame.collect().await.unwrap_err().into()
}

pub(super) async fn damaged_files_are_named(store: Store) {
    let lake = open(&store);
    lake.create("t", &schema(), &[], None).await.unwrap();
    append(&lake, "t", Some(1), &[rows(Some("a"), 0..1000)]).await;
    append(&lake, "t", Some(2), &[rows(Some("a"), 0..1000)]).await;
    let named = |error: &Error, path: &str| {
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Storage | ErrorKind::NotFound), "{error:?}");
        assert!(error.to_string().contains(path), "{path} is not in: {error}");
    };
    // A data file is cut short, then gone.
    let data = paths(&lake.snapshot("t", None).await.unwrap())[0].clone();
    let at = Path::from(format!("t/{data}"));
    let whole = store.get(&at).await.unwrap().bytes().await.unwrap();
    for keep in [whole.len() / 2, 3, 0] {
        store.put(&at, whole.slice(..keep).into()).await.unwrap();
        named(&query_error(&lake).await, &data);
    }
    store.put(&at, vec![0_u8; whole.len()].into()).await.unwrap();
    named(&query_error(&lake).await, &data);
    store.delete(&at).await.unwrap();
    named(&query_error(&lake).await, &data);
    // An entry of the log is cut short, empty, or not text.
    let entry = "t/_delta_log/00000000000000000001.json";
    let at = Path::from(entry);
    let whole = store.get(&at).await.unwrap().bytes().await.unwrap();
    let lines = whole.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>();
    let without_last_line = whole.len() - lines[lines.len() - 1].len();
    let not_text = bytes::Bytes::from_static(b"\xff\xfe{");
    for broken in [whole.len() / 2, without_last_line, 0].map(|keep| whole.slice(..keep)).into_iter().chain([not_text])
    {
        store.put(&at, broken.into()).await.unwrap();
        let error = open(&store).snapshot("t", None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        named(&error, entry);
        let error = open(&store).changes("t", 0, 2).await.unwrap_err();
        named(&error, entry);
    }
    store.put(&at, whole.into()).await.unwrap();
    assert_eq!(open(&store).snapshot("t", None).await.unwrap().version, 2);
    // So is one that another writer makes while the handle is open, and state.
    store.put(&"t/_delta_log/00000000000000000003.json".into(), "{\"add\"".into()).await.unwrap();
    let error = lake.snapshot("t", Some(3)).await.unwrap_err();
    named(&error, "t/_delta_log/00000000000000000003.json");
    store.put(&"_state/s".into(), "no parquet".into()).await.unwrap();
    named(&lake.read_state("_state/s").await.unwrap_err(), "_state/s");
    named(&lake.read_state("_state/none").await.unwrap_err(), "_state/none");
    let options = MaintainOptions { compact: true, retention_ms: 0, ..MaintainOptions::default() };
    assert!(lake.maintain("t", &options).await.iter().all(|work| work.error.is_some()));
}

pub(super) async fn a_lost_record_answer_counts_as_written(store: Store) {
    let lake = open(&(Faulty::new(store, &[Fault::LoseAnswer, Fault::FailBefore]) as Store));
    assert!(lake.put_if_absent("_flash/epochs/1.json", b"one".to_vec()).await.unwrap());
    assert!(!lake.put_if_absent("_flash/epochs/1.json", b"other".to_vec()).await.unwrap_or(false));
    assert!(!lake.put_if_absent("_flash/epochs/1.json", b"other".to_vec()).await.unwrap());
    assert_eq!(lake.get("_flash/epochs/1.json").await.unwrap(), b"one");
}

pub(super) async fn only_one_of_sixteen_puts_wins(store: Store) {
    let lakes: Vec<_> = (0..16).map(|_| open(&store)).collect();
    for round in 0..20 {
        let start = Arc::new(tokio::sync::Barrier::new(lakes.len()));
        let mut puts = tokio::task::JoinSet::new();
        for lake in lakes.clone() {
            let start = Arc::clone(&start);
            puts.spawn(async move {
                start.wait().await;
                lake.put_if_absent(&format!("_flash/epochs/{round}.json"), b"the same bytes".to_vec()).await.unwrap()
            });
        }
        assert_eq!(puts.join_all().await.into_iter().filter(|won| *won).count(), 1, "round {round}");
    }
    let store: &Arc<dyn ObjectStore> = &store;
    assert_eq!(open(store).list_newest("_flash/epochs", 100).await.unwrap().len(), 20);
}
