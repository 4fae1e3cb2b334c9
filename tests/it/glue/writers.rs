//! Several writers at once: whoever is late learns of it, and the outcome is that of the newest epoch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::places::{Interrupted, Moment, Place, places};
use super::{SALES, SALES_CHANGED, TABLES, done, in_step, lake};
use crate::engine::harness::Lake;

/// Processes that look after Glue at the same time.
const WRITERS: usize = 4;

/// Changes of the view meanwhile.
const CHANGES: usize = 12;

/// The lake changes, and another process sees to it, when the first one is about to read Glue, or to write what it decided.
async fn overtaken(
    place: &Place,
    at: Moment,
    lake: Arc<Lake>,
    statements: &'static [&'static str],
) -> flashcommerce::glue::Report {
    let other = place.reconciler(&lake);
    let changed = Arc::clone(&lake);
    let meanwhile: BoxFuture<'static, ()> = async move {
        for statement in statements {
            match statement.starts_with("DROP") {
                true => drop(changed.execute(statement).await.unwrap()),
                false => changed.apply(statement).await,
            }
        }
        changed.pass_until_idle().await;
        assert!(other.reconcile().await.unwrap().is_in_step());
    }
    .boxed();
    let meanwhile = Mutex::new(Some(meanwhile));
    let late = Arc::new(Interrupted { catalog: Arc::clone(&place.catalog), at, meanwhile });
    place.reconciler_over(&lake, late).reconcile().await.unwrap()
}

const SALES_AGAIN: &str =
    "CREATE MATERIALIZED VIEW gold.sales AS SELECT shop, min(amount) AS least FROM silver.events GROUP BY shop";
const DROP: &str = "DROP MATERIALIZED VIEW gold.sales";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_place_is_never_put_over_a_newer_one() {
    let all =
        [Moment::Read, Moment::Write].map(async |at| places("stale").await.into_iter().map(move |place| (place, at)));
    for (place, at) in futures::future::join_all(all).await.into_iter().flatten() {
        let lake = Arc::new(lake().await);
        place.reconciler(&lake).reconcile().await.unwrap();
        lake.apply(SALES_CHANGED).await;
        lake.pass_until_idle().await;
        // It knows the place of SALES_CHANGED when that of SALES_AGAIN is registered.
        let report = overtaken(&place, at, Arc::clone(&lake), &[SALES_AGAIN]).await;
        in_step(&place, &report, &TABLES);
        assert!(report.done.is_empty(), "it has written nothing, or not been let: {report:?}");
        let (sales, version) = place.table("gold.sales").await.unwrap();
        assert_eq!((sales.columns[1].name.as_str(), version.as_str()), ("least", "2"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_without_a_version_is_looked_at_again() {
    for place in places("unversioned").await {
        // About to create what is dropped meanwhile.
        let lake = Arc::new(lake().await);
        place.reconciler(&lake).reconcile().await.unwrap();
        place.catalog.delete_table(&format!("{}gold", place.prefix), "sales").await.unwrap();
        let report = overtaken(&place, Moment::Write, Arc::clone(&lake), &[DROP]).await;
        assert_eq!(place.table("gold.sales").await, None, "{report:?}");
        assert!(report.is_in_step() && report.done.len() == 2, "it took back what it had done: {:?}", done(&report));

        // About to delete what is made again meanwhile.
        lake.apply(SALES).await;
        lake.pass_until_idle().await;
        place.reconciler(&lake).reconcile().await.unwrap();
        lake.execute(DROP).await.unwrap();
        let report = overtaken(&place, Moment::Write, Arc::clone(&lake), &[SALES_CHANGED]).await;
        in_step(&place, &report, &TABLES);
        assert_eq!(place.table("gold.sales").await.unwrap().0.columns.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_once_end_at_the_newest_epoch() {
    for place in places("writers").await {
        let (lake, ended) = (Arc::new(lake().await), Arc::new(AtomicBool::new(false)));
        let (ends, mut rounds) = watch::channel(0);
        let writers = (0..WRITERS).map(|_| {
            let (reconciler, ended, ends) = (place.reconciler(&lake), Arc::clone(&ended), ends.clone());
            tokio::spawn(async move {
                let mut steps = 0;
                // One whole round after the end.
                loop {
                    let last = ended.load(Ordering::Acquire);
                    let report = reconciler.reconcile().await.unwrap();
                    steps += report.done.len();
                    ends.send_modify(|rounds| *rounds += 1);
                    if last {
                        return (report, steps);
                    }
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        for change in 0..CHANGES {
            let statement = format!(
                "CREATE MATERIALIZED VIEW gold.sales AS SELECT shop, count(*) + {change} AS n FROM silver.events GROUP BY shop"
            );
            match change % 4 {
                3 => drop(lake.execute(DROP).await.unwrap()),
                _ => lake.apply(&statement).await,
            }
            lake.pass_until_idle().await;
            // Some of the writers are in the middle of a round, and one begins anew.
            rounds.changed().await.unwrap();
        }
        lake.apply(SALES_CHANGED).await;
        lake.pass_until_idle().await;
        ended.store(true, Ordering::Release);
        for writer in writers {
            let (report, steps) = writer.await.unwrap();
            in_step(&place, &report, &TABLES);
            println!("{}: {steps} steps of a writer", place.prefix);
        }
        assert!(*rounds.borrow() >= CHANGES);
        let (sales, _) = place.table("gold.sales").await.unwrap();
        assert_eq!(sales.columns.len(), 3);
    }
}
