//! What must not make a difference.
//!
//! ```text
//!   a refresh after each of N commits   =  one refresh over all N
//!   commit, then its exact negation     =  nothing
//!   rows in one INSERT                  =  rows in many
//!   small files merged into one         =  nothing
//! ```

use flashcommerce::storage::{DeltaStorage, MaintainOptions, Storage, StorageOptions};

use super::fuzz::commits::{Change, Commits, creates};
use super::fuzz::plans::{Generator, TIES};
use super::fuzz::script;
use super::oracle::{Refreshes, View, audit, create, difference, rows};
use crate::engine::harness::Lake;

/// Views of one script; seeds that the fuzzer's default run does not begin with.
const SEEDS: [u64; 4] = [9_001, 9_002, 9_003, 9_004];
const VIEWS: usize = 10;

/// A lake with the tables and, of the seed's views, those that can be held.
async fn lake_of(seed: u64, loaded: &[Change]) -> (Lake, Vec<View>) {
    let lake = Lake::new(&[]).await;
    for sql in creates().into_iter().chain(loaded.iter().map(Change::sql)) {
        lake.execute(&sql).await.unwrap();
    }
    let mut views = Vec::new();
    for planned in script(seed, VIEWS, 1).views {
        // One that DataFusion has another answer for, does not plan, or that reads a view which is not held.
        if planned.plan.operators.contains(TIES) || rows(&lake, &planned.view.query).await.is_err() {
            continue;
        }
        if create(&lake, &planned.view).await.unwrap().is_none() {
            views.push(planned.view);
        }
    }
    assert!(views.len() >= VIEWS / 2, "{} views are held", views.len());
    (lake, views)
}

/// The first rows, and changes after them.
fn changes(seed: u64, count: usize) -> (Vec<Change>, Vec<Change>) {
    let (mut generator, mut source) = (Generator::new(seed ^ 0xC0FFEE), Commits::default());
    let loaded = (0..3).map(|table| source.insert(&mut generator, table, 10)).collect();
    (loaded, (0..count).map(|_| source.change(&mut generator)).collect())
}

async fn run(lake: &Lake, changes: &[Change]) {
    for change in changes {
        let sql = change.sql();
        lake.execute(&sql).await.unwrap_or_else(|error| panic!("{sql}\n{}", error.render()));
    }
}

async fn alter_all(lake: &Lake, views: &[View], action: &str) {
    for view in views {
        lake.execute(&format!("ALTER MATERIALIZED VIEW {} {action}", view.name)).await.unwrap();
    }
}

async fn contents(lake: &Lake, views: &[View]) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for view in views {
        all.push(rows(lake, &format!("SELECT * FROM {}", view.name)).await.unwrap());
    }
    all
}

async fn check(lake: &Lake, views: &[View], seed: u64) {
    for view in views {
        if let Some(found) = difference(lake, view).await.unwrap() {
            panic!("seed {seed}: {}\n{found}", view.create());
        }
        audit(lake, view).await.unwrap();
    }
}

fn assert_same(views: &[View], left: &[Vec<String>], right: &[Vec<String>], seed: u64) {
    for ((view, left), right) in views.iter().zip(left).zip(right) {
        assert_eq!(left, right, "seed {seed}: {}", view.create());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_refresh_over_many_commits_equals_many_refreshes() {
    for seed in SEEDS {
        let (loaded, changed) = changes(seed, 6);
        let (many, views) = lake_of(seed, &loaded).await;
        let (once, _) = lake_of(seed, &loaded).await;
        run(&many, &changed).await;
        let before = contents(&once, &views).await;
        alter_all(&once, &views, "SUSPEND").await;
        run(&once, &changed).await;
        assert_same(&views, &contents(&once, &views).await, &before, seed);
        alter_all(&once, &views, "RESUME").await;
        once.execute(&format!("REFRESH MATERIALIZED VIEW {}", views[0].name)).await.unwrap();
        assert_same(&views, &contents(&once, &views).await, &contents(&many, &views).await, seed);
        check(&once, &views, seed).await;
        check(&many, &views, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_and_its_negation_leave_every_view_as_it_was() {
    let there_and_back: [(&[&str], &[&str]); 4] = [
        (
            &["INSERT INTO s.t1 VALUES (71, 5, 'n'), (71, 5, 'n'), (72, NULL, NULL)"],
            &["DELETE FROM s.t1 WHERE k = 71", "DELETE FROM s.t1 WHERE k = 72"],
        ),
        (
            &["UPDATE s.t2 SET b = b + 7", "UPDATE s.t2 SET k = k + 100"],
            &["UPDATE s.t2 SET k = k - 100", "UPDATE s.t2 SET b = b - 7"],
        ),
        (
            &["CREATE TABLE s.aside AS SELECT * FROM s.t3", "TRUNCATE TABLE s.t3"],
            &["INSERT INTO s.t3 SELECT * FROM s.aside"],
        ),
        (
            &["CREATE TABLE s.some AS SELECT * FROM s.t1 WHERE k <= 1 OR k IS NULL", "DELETE FROM s.t1 WHERE k <= 1"],
            &["DELETE FROM s.t1 WHERE k IS NULL", "INSERT INTO s.t1 SELECT * FROM s.some"],
        ),
    ];
    for seed in SEEDS {
        let (loaded, _) = changes(seed, 0);
        let (lake, views) = lake_of(seed, &loaded).await;
        let mut refreshes = Refreshes::default();
        let before = contents(&lake, &views).await;
        for (there, back) in there_and_back {
            for sql in there.iter().chain(back) {
                lake.execute(sql).await.unwrap_or_else(|error| panic!("{sql}\n{}", error.render()));
                refreshes.follow(&lake).await.unwrap();
            }
            assert_same(&views, &contents(&lake, &views).await, &before, seed);
        }
        check(&lake, &views, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_come_and_go_between_two_refreshes_are_nothing() {
    for seed in SEEDS {
        let (loaded, _) = changes(seed, 0);
        let (lake, views) = lake_of(seed, &loaded).await;
        let before = contents(&lake, &views).await;
        alter_all(&lake, &views, "SUSPEND").await;
        for sql in [
            "INSERT INTO s.t1 VALUES (1, 1, 'a'), (77, 1, 'q')",
            "UPDATE s.t1 SET a = a + 1",
            "UPDATE s.t1 SET a = a - 1",
            "DELETE FROM s.t1 WHERE k = 77",
            "CREATE TABLE s.ones AS SELECT * FROM s.t1 WHERE k = 1 AND a = 1 AND s = 'a'",
            "DELETE FROM s.t1 WHERE k = 1 AND a = 1 AND s = 'a'",
            "INSERT INTO s.t1 SELECT k, a, s FROM (SELECT *, row_number() OVER () AS n FROM s.ones) AS o WHERE n > 1",
        ] {
            lake.execute(sql).await.unwrap_or_else(|error| panic!("{sql}\n{}", error.render()));
        }
        alter_all(&lake, &views, "RESUME").await;
        lake.execute(&format!("REFRESH MATERIALIZED VIEW {}", views[0].name)).await.unwrap();
        assert_same(&views, &contents(&lake, &views).await, &before, seed);
        check(&lake, &views, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_insert_of_many_rows_equals_many_of_one() {
    for seed in SEEDS {
        let (loaded, _) = changes(seed, 0);
        let single = loaded.iter().flat_map(|change| match change {
            Change::Insert(table, rows) => {
                rows.iter().map(|row| Change::Insert(table, vec![row.clone()])).collect::<Vec<_>>()
            }
            other => vec![other.clone()],
        });
        let (whole, views) = lake_of(seed, &[]).await;
        let (split, _) = lake_of(seed, &[]).await;
        run(&whole, &loaded).await;
        run(&split, &single.collect::<Vec<_>>()).await;
        assert_same(&views, &contents(&whole, &views).await, &contents(&split, &views).await, seed);
        check(&split, &views, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_is_no_change() {
    let seed = SEEDS[0];
    let (loaded, changed) = changes(seed, 8);
    let (mut lake, views) = lake_of(seed, &loaded).await;
    let mut refreshes = Refreshes::default();
    for (nth, change) in changed.iter().enumerate() {
        run(&lake, std::slice::from_ref(change)).await;
        if nth % 2 == 1 {
            compact(&lake).await;
            lake = lake.restart().await;
        }
        refreshes.follow(&lake).await.unwrap();
        check(&lake, &views, seed).await;
    }
}

/// Merge the files of the tables, however few they are.
async fn compact(lake: &Lake) {
    let options = StorageOptions { compact_files_max: 1, handle_fresh_ms_max: 0, ..StorageOptions::default() };
    let storage = DeltaStorage::with_options(lake.store.clone(), "memory:///".parse().unwrap(), options);
    for table in ["s/t1", "s/t2", "s/t3"] {
        let options = MaintainOptions { compact: true, retention_ms: 3_600_000, ..MaintainOptions::default() };
        storage.maintain(table, &options).await;
    }
}
