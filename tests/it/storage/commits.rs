//! Commits, versions and changes.

use flashcommerce::error::ErrorKind;
use flashcommerce::storage::{Commit, Committed, DataFile, MaintainOptions, Storage, StorageOptions};

use super::lake::{Store, append, open, open_with, paths, query, rows, schema, stage, value, write};

pub(super) async fn an_epoch_is_committed_once(store: Store) {
    let lake = open(&store);
    lake.create("t", &schema(), &[], None).await.unwrap();
    assert_eq!(append(&lake, "t", Some(3), &[rows(None, 0..3)]).await, Committed::Now(1));
    assert_eq!(append(&lake, "t", Some(4), &[rows(None, 3..4)]).await, Committed::Now(2));
    for lake in [lake, open(&store)] {
        assert_eq!(append(&lake, "t", Some(3), &[rows(None, 0..3)]).await, Committed::Already(1));
        assert_eq!(append(&lake, "t", Some(4), &[rows(None, 3..4)]).await, Committed::Already(2));
        let snapshot = lake.snapshot("t", None).await.unwrap();
        assert_eq!((snapshot.version, snapshot.epoch, snapshot.rows()), (2, 4, 4));
    }
    // An epoch without rows is a commit like any other.
    let lake = open(&store);
    let committed = lake.commit("t", Commit { epoch: Some(5), ..write() }).await.unwrap();
    assert_eq!(committed, Committed::Now(3));
    assert_eq!(open(&store).snapshot("t", None).await.unwrap().epoch, 5);
}

pub(super) async fn the_version_of_an_epoch_is_found_after_a_restart(store: Store) {
    let lake = open_with(&store, StorageOptions { history_commits_max: 2, ..StorageOptions::default() });
    lake.create("t", &schema(), &[], None).await.unwrap();
    for epoch in 1..=6 {
        append(&lake, "t", Some(epoch * 10), &[rows(None, 0..1)]).await;
    }
    for lake in [lake, open(&store)] {
        for epoch in 1..=6 {
            let commit = Commit { epoch: Some(epoch * 10), ..write() };
            assert_eq!(lake.commit("t", commit).await.unwrap(), Committed::Already(epoch));
        }
        let error = lake.commit("t", Commit { epoch: Some(15), ..write() }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

pub(super) async fn two_writers_lose_nothing(store: Store) {
    let lakes = [open(&store), open(&store), open_with(&store, StorageOptions::default())];
    lakes[0].create("t", &schema(), &["k".into()], None).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for (writer, lake) in lakes.into_iter().enumerate() {
        writers.spawn(async move {
            for n in 0..10_i64 {
                let number = writer as i64 * 100 + n;
                append(&lake, "t", None, &[rows(Some("a"), number..number + 1)]).await;
            }
            lake
        });
    }
    for lake in writers.join_all().await {
        // By number: a handle that is fresh enough need not have seen the others' last commits.
        let newest = lake.snapshot("t", Some(30)).await.unwrap();
        assert_eq!((newest.version, newest.rows()), (30, 30));
        assert_eq!(query(&lake, &newest, "SELECT count(DISTINCT n), count(*) FROM t").await, ["30,30"]);
    }
}

pub(super) async fn one_of_two_overwrites_wins(store: Store) {
    let (one, two) = (open(&store), open_with(&store, StorageOptions::default()));
    one.create("t", &schema(), &[], None).await.unwrap();
    append(&one, "t", Some(1), &[rows(None, 0..5)]).await;
    let before = two.snapshot("t", None).await.unwrap();
    let over = |epoch, add: Vec<DataFile>| Commit { epoch: Some(epoch), add, remove: paths(&before), ..write() };
    let (first, second) =
        (stage(&one, "t", 2, &[rows(None, 5..7)]).await, stage(&two, "t", 3, &[rows(None, 7..9)]).await);
    assert_eq!(one.commit("t", over(2, first)).await.unwrap(), Committed::Now(2));
    let error = two.commit("t", over(3, second)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    // The same epoch by a twin is no conflict: it is there already.
    let twin = stage(&two, "t", 2, &[rows(None, 5..7)]).await;
    assert_eq!(two.commit("t", over(2, twin)).await.unwrap(), Committed::Already(2));
    assert_eq!(value(&two, "t", "SELECT sum(n), count(*) FROM t").await, "11,2");
    // An append in between does not stop an overwrite of what it read.
    let before = two.snapshot("t", None).await.unwrap();
    append(&one, "t", Some(4), &[rows(None, 100..101)]).await;
    let commit = Commit { epoch: Some(5), remove: paths(&before), ..write() };
    assert_eq!(two.commit("t", commit).await.unwrap(), Committed::Now(4));
    assert_eq!(value(&two, "t", "SELECT sum(n), count(*) FROM t").await, "100,1");
}

pub(super) async fn an_overwrite_follows_a_compaction(store: Store) {
    let (one, two) = (open(&store), open_with(&store, StorageOptions::default()));
    one.create("t", &schema(), &[], None).await.unwrap();
    for epoch in 1..=20 {
        append(&one, "t", Some(epoch), &[rows(None, 0..5)]).await;
    }
    let before = two.snapshot("t", None).await.unwrap();
    let options = MaintainOptions { compact: true, retention_ms: 3_600_000, ..MaintainOptions::default() };
    one.maintain("t", &options).await;
    assert_eq!(one.snapshot("t", None).await.unwrap().files.len(), 1);
    let add = stage(&two, "t", 21, &[rows(None, 7..8)]).await;
    let commit = Commit { epoch: Some(21), add, remove: paths(&before), ..write() };
    assert_eq!(two.commit("t", commit).await.unwrap(), Committed::Now(22));
    assert_eq!(value(&one, "t", "SELECT sum(n), count(*) FROM t").await, "7,1");
    // A part of what was merged cannot be taken out any more.
    let commit = Commit { epoch: Some(22), remove: paths(&before)[..1].to_vec(), ..write() };
    assert_eq!(two.commit("t", commit).await.unwrap_err().kind(), ErrorKind::Conflict);
}

pub(super) async fn older_versions_stay(store: Store) {
    let lake = open(&store);
    lake.create("t", &schema(), &["k".into()], None).await.unwrap();
    append(&lake, "t", Some(1), &[rows(Some("a"), 0..3), rows(Some("b"), 3..5)]).await;
    let remove = paths(&lake.snapshot("t", None).await.unwrap())[..1].to_vec();
    let add = stage(&lake, "t", 2, &[rows(Some("c"), 5..6)]).await;
    lake.commit("t", Commit { epoch: Some(2), add, remove, ..write() }).await.unwrap();
    append(&lake, "t", None, &[rows(Some("a"), 6..9)]).await;
    let mut seen = Vec::new();
    for lake in [lake, open(&store)] {
        for (version, epoch, answer) in [(0, 0, "0,"), (1, 1, "5,10"), (2, 2, "3,12"), (3, 2, "6,33")] {
            let snapshot = lake.snapshot("t", Some(version)).await.unwrap();
            assert_eq!((snapshot.version, snapshot.epoch), (version, epoch));
            assert_eq!(query(&lake, &snapshot, "SELECT count(*), sum(n) FROM t").await, [answer], "version {version}");
            seen.push((version, paths(&snapshot)));
        }
        let error = lake.snapshot("t", Some(4)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    let (live, opened) = seen.split_at(4);
    assert_eq!(live, opened);
}

pub(super) async fn changes_between_versions(store: Store) {
    let lake = open(&store);
    lake.create("t", &schema(), &[], None).await.unwrap();
    for epoch in 1..=17 {
        append(&lake, "t", Some(epoch), &[rows(None, 0..1)]).await;
    }
    let options = MaintainOptions { compact: true, retention_ms: 3_600_000, ..MaintainOptions::default() };
    lake.maintain("t", &options).await;
    let merged = lake.snapshot("t", None).await.unwrap();
    assert_eq!((merged.version, merged.files.len()), (18, 1));
    let add = stage(&lake, "t", 18, &[rows(None, 50..52)]).await;
    lake.commit("t", Commit { epoch: Some(18), add, remove: paths(&merged), ..write() }).await.unwrap();
    append(&lake, "t", Some(19), &[rows(None, 60..63)]).await;
    let short = open_with(&store, StorageOptions { history_commits_max: 1, ..StorageOptions::default() });
    let few = open_with(&store, StorageOptions { history_files_max: 1, ..StorageOptions::default() });
    for lake in [lake, open(&store), short, few] {
        let rows = |files: &[std::sync::Arc<DataFile>]| files.iter().map(|file| file.rows).sum::<u64>();
        for (from, to, added, removed) in [
            (0, 20, 5, 0),
            (0, 17, 17, 0),
            (17, 18, 0, 0),
            (18, 19, 2, 17),
            (19, 20, 3, 0),
            (17, 20, 5, 17),
            (20, 20, 0, 0),
            (16, 18, 1, 0),
        ] {
            let changes = lake.changes("t", from, to).await.unwrap();
            assert_eq!((rows(&changes.added), rows(&changes.removed)), (added, removed), "({from}, {to}]");
        }
        // What went can still be read.
        let changes = lake.changes("t", 18, 19).await.unwrap();
        let snapshot = lake.snapshot("t", Some(18)).await.unwrap();
        let session = super::lake::session(&lake, &snapshot);
        session.register_table("gone", lake.provider(&snapshot, Some(changes.removed))).unwrap();
        let batches = session.sql("SELECT n FROM gone").await.unwrap().collect().await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 17);
        let error = lake.changes("t", 19, 30).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

pub(super) async fn a_reader_sees_another_writer(store: Store) {
    let writer = open(&store);
    writer.create("t", &schema(), &[], None).await.unwrap();
    let reader = open_with(&store, StorageOptions::default());
    assert_eq!(reader.snapshot("t", None).await.unwrap().version, 0);
    append(&writer, "t", Some(1), &[rows(None, 0..3)]).await;
    // A version that is asked for by number is looked up, however fresh the handle is.
    assert_eq!(reader.snapshot("t", Some(1)).await.unwrap().rows(), 3);
    assert_eq!(reader.snapshot("t", None).await.unwrap().version, 1);
}
