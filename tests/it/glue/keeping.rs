//! The task beside the passes: it follows what is published and defined, and nothing waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flashcommerce::glue::{Catalog, Registrar, RegistrarOptions, Status};
use tokio::sync::watch;

use super::places::{Memory, Place};
use super::{SALES_CHANGED, TABLES, events, lake};
use crate::engine::harness::Lake;

/// The longest that a test waits for the task.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// It looks again when something changes, or has failed a moment ago.
const OPTIONS: RegistrarOptions = RegistrarOptions {
    look_again: Duration::from_secs(3_600),
    back_off_min: Duration::from_millis(1),
    back_off_max: Duration::from_millis(20),
};

fn start(lake: &Lake, glue: &Arc<Memory>) -> (Registrar, Place) {
    let place = Place { catalog: Arc::clone(glue) as Arc<dyn Catalog>, prefix: "fc_".into() };
    let (engine, reconciler) = (&lake.engine, place.reconciler(lake));
    (Registrar::start(reconciler, engine.published(), engine.definitions(), OPTIONS), place)
}

/// Wait until the status is so.
async fn until(status: &mut watch::Receiver<Status>, what: &str, holds: impl FnMut(&Status) -> bool) -> Status {
    let found = tokio::time::timeout(WAIT_MAX, status.wait_for(holds)).await;
    found.unwrap_or_else(|_| panic!("{what}: not within {WAIT_MAX:?}")).unwrap().clone()
}

/// Wait for the next look.
async fn look(status: &mut watch::Receiver<Status>) {
    tokio::time::timeout(WAIT_MAX, status.changed()).await.expect("a look in time").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_follows_changes_and_leaves_epochs_alone() {
    let (lake, glue) = (lake().await, Arc::new(Memory::default()));
    let (registrar, place) = start(&lake, &glue);
    let mut status = registrar.status();
    until(&mut status, "the tables that there are", |it| it.in_step == TABLES.len()).await;

    let calls = glue.calls.load(Ordering::Acquire);
    lake.source.push(events(40, 40));
    lake.pass_until_idle().await;
    // A view changes, and is read where it was until it is published.
    status.mark_unchanged();
    lake.apply(SALES_CHANGED).await;
    look(&mut status).await;
    assert_eq!(place.table("gold.sales").await.unwrap().0.columns.len(), 2);
    assert!(glue.calls.load(Ordering::Acquire) <= calls + 6, "an epoch alone asks nothing of Glue");
    status.mark_unchanged();
    lake.pass_until_idle().await;
    look(&mut status).await;
    assert_eq!(place.table("gold.sales").await.unwrap().0.columns.len(), 3);

    // No epoch comes with this.
    lake.execute("DROP MATERIALIZED VIEW gold.sales").await.unwrap();
    until(&mut status, "a dropped view", |it| it.in_step == TABLES.len() - 1).await;
    assert_eq!(place.table("gold.sales").await, None);
    let last = registrar.finish().await;
    assert_eq!((last.out_of_step, last.error, last.failures), (0, None, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_go_on_while_glue_is_away() {
    let (lake, glue) = (lake().await, Arc::new(Memory::default()));
    glue.away.store(true, Ordering::Release);
    let (registrar, place) = start(&lake, &glue);
    let mut status = registrar.status();
    lake.engine.watch_glue(status.clone());
    let found = until(&mut status, "faults", |it| it.failures > 3).await;
    assert_eq!((found.out_of_step, found.in_step), (TABLES.len(), 0));
    assert!(found.error.as_ref().unwrap().contains("connection refused"), "{found:?}");
    assert!(lake.engine.glue().unwrap().error.is_some(), "what metrics show");

    let epoch = lake.engine.published().borrow().epoch;
    lake.source.push(events(40, 40));
    lake.pass_until_idle().await;
    assert!(lake.engine.published().borrow().epoch > epoch);
    lake.check_all().await;

    glue.away.store(false, Ordering::Release);
    let found = until(&mut status, "Glue is back", |it| it.in_step == TABLES.len()).await;
    assert_eq!((found.out_of_step, found.error), (0, None));
    assert!(found.in_step_us.is_some() && place.table("gold.sales").await.is_some());
    registrar.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_brings_glue_in_step_first() {
    let (lake, glue) = (lake().await, Arc::new(Memory::default()));
    glue.away.store(true, Ordering::Release);
    let (registrar, place) = start(&lake, &glue);
    until(&mut registrar.status(), "a fault", |it| it.failures > 0).await;
    glue.away.store(false, Ordering::Release);
    assert_eq!(registrar.finish().await.in_step, TABLES.len());
    assert!(place.table("gold.sales").await.is_some());

    glue.away.store(true, Ordering::Release);
    let (registrar, _) = start(&lake, &glue);
    until(&mut registrar.status(), "a fault", |it| it.failures > 0).await;
    assert!(registrar.finish().await.error.is_some(), "it ends all the same");
}
