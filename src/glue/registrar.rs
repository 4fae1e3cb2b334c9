//! Keeping Glue in step while the lake is kept fresh: a task of its own, that no epoch waits for.
//!
//! ```text
//!  published: another folder or name ─┐
//!  definitions changed ───────────────┼─▶ reconcile ─▶ in step ─▶ wait for a change, or an hour
//!  an hour has gone ──────────────────┘        └─────▶ a fault ─▶ back-off, then again, for ever
//!                                                         └─▶ Status: what metrics show
//! ```
//!
//! An epoch that moves no table wakes it up and costs a comparison of hashes. A folder that a view has left stays for an hour:
//! that is how long Glue may be away before Athena reads from a folder that is being deleted.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Reconciler, Report};
use crate::clock::Clock;
use crate::epoch::PublishedRecord;
use crate::error::Result;

/// How long a process that ends waits for what is not done yet.
const FINISH_WAIT_MAX: Duration = Duration::from_secs(10);

/// When to look.
#[derive(Debug, Clone, Copy)]
pub struct RegistrarOptions {
    /// The wait after a look that found nothing wrong, unless something changes: what others do in Glue is seen then.
    pub look_again: Duration,
    /// The wait after the first fault; it doubles with each one that follows.
    pub back_off_min: Duration,
    /// The longest wait after a fault.
    pub back_off_max: Duration,
}

impl Default for RegistrarOptions {
    fn default() -> Self {
        Self {
            look_again: Duration::from_secs(3_600),
            back_off_min: Duration::from_secs(1),
            back_off_max: Duration::from_secs(300),
        }
    }
}

/// How it goes, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Tables that are registered as they should be.
    pub in_step: usize,
    /// Tables that are not, or not known to be.
    pub out_of_step: usize,
    /// Tables that are not ours and have the name of one of ours.
    pub conflicts: usize,
    /// Tables that Athena would misread, and that are not registered.
    pub refused: usize,
    /// Looks that ended with a fault, since the start.
    pub failures: u64,
    /// The last fault, while it lasts.
    pub error: Option<String>,
    /// When Glue was last found in step, or brought there, in microseconds since 1970 UTC; `None` before.
    pub in_step_us: Option<i64>,
}

/// The task.
#[derive(Debug)]
pub struct Registrar {
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Registrar {
    /// Keep Glue in step with what is published and defined, until `finish`.
    pub fn start(
        reconciler: Reconciler,
        published: watch::Receiver<Arc<PublishedRecord>>,
        definitions: watch::Receiver<u64>,
        options: RegistrarOptions,
    ) -> Self {
        let (sender, status) = watch::channel(Status::default());
        let stop = CancellationToken::new();
        let work = Work { reconciler, published, definitions, options, stop: stop.clone(), status: sender };
        Self { status, stop, task: tokio::spawn(work.run()) }
    }

    /// How it goes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Bring Glue in step once more if it is not, for a while, and end. How it stood at last.
    pub async fn finish(self) -> Status {
        self.stop.cancel();
        let abort = self.task.abort_handle();
        if tokio::time::timeout(FINISH_WAIT_MAX, self.task).await.is_err() {
            // What is half done there is seen by the next look.
            abort.abort();
        }
        self.status.borrow().clone()
    }
}

struct Work {
    reconciler: Reconciler,
    published: watch::Receiver<Arc<PublishedRecord>>,
    definitions: watch::Receiver<u64>,
    options: RegistrarOptions,
    stop: CancellationToken,
    status: watch::Sender<Status>,
}

impl Work {
    async fn run(mut self) {
        let (mut seen, mut failures, mut due) = (None, 0, Instant::now());
        let mut said = String::new();
        loop {
            let now = self.hash();
            let stopping = self.stop.is_cancelled();
            if seen != Some(now) || Instant::now() >= due || (stopping && failures > 0) {
                let outcome = self.reconciler.reconcile().await;
                failures = if is_fault(&outcome) { failures + 1 } else { 0 };
                let wait = wait(failures, random(), &self.options);
                seen = Some(now);
                due = Instant::now() + wait;
                tell(&outcome, wait, &mut said);
                self.status.send_modify(|status| status.note(&outcome, Clock::System.now_us()));
            }
            if stopping {
                return;
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep_until(due) => {}
                changed = self.published.changed() => if changed.is_err() { return },
                changed = self.definitions.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Of everything that a look could find changed in the lake.
    fn hash(&mut self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.definitions.borrow_and_update().hash(&mut hasher);
        for (name, state) in &self.published.borrow_and_update().tables {
            (name, &state.location).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// Did something fail that may not fail the next time? What is settled by people only is no fault: nothing is won by
/// trying again soon.
fn is_fault(outcome: &Result<Report>) -> bool {
    outcome.as_ref().map_or(true, |report| !report.failed.is_empty())
}

/// The wait until the next look, after so many faults in a row.
fn wait(failures: u32, jitter: f64, options: &RegistrarOptions) -> Duration {
    let Some(before) = failures.checked_sub(1) else { return options.look_again };
    let whole = options.back_off_min.saturating_mul(2_u32.saturating_pow(before)).min(options.back_off_max);
    whole.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

/// A random number in [0, 1): two processes do not try in step.
fn random() -> f64 {
    fastrand::f64()
}

/// Log what somebody should know, once.
fn tell(outcome: &Result<Report>, wait: Duration, said: &mut String) {
    let lines: Vec<String> = match outcome {
        Err(error) => vec![error.to_string()],
        Ok(report) => {
            let failed = report.failed.iter().map(|failed| format!("cannot {}: {}", failed.what, failed.fault.text()));
            let conflicts = report.conflicts.iter().map(|(name, whose)| format!("{name} is left alone: {whose}"));
            let refused = report.refused.iter().map(|it| format!("{} is not registered: {}", it.name, it.because));
            failed.chain(conflicts).chain(refused).collect()
        }
    };
    let now = lines.join("\n");
    if now != *said {
        for line in &lines {
            tracing::warn!(again_in_ms = wait.as_millis(), "Glue is not in step with the lake: {line}");
        }
        if lines.is_empty() {
            tracing::info!("Glue is in step with the lake again");
        }
        *said = now;
    }
}

impl Status {
    fn note(&mut self, outcome: &Result<Report>, now_us: i64) {
        self.failures += u64::from(is_fault(outcome));
        let report = match outcome {
            Ok(report) => report,
            Err(error) => {
                self.error = Some(error.to_string());
                return;
            }
        };
        (self.in_step, self.out_of_step) = (report.in_step.len(), report.out_of_step());
        (self.conflicts, self.refused) = (report.conflicts.len(), report.refused.len());
        self.error = report.failed.first().map(|failed| format!("cannot {}: {}", failed.what, failed.fault.text()));
        if self.error.is_none() && self.out_of_step == 0 {
            self.in_step_us = Some(now_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Failed, Fault};
    use super::*;
    use crate::error::{Error, ErrorKind};

    fn failed(fault: Fault) -> Result<Report> {
        let failed = vec![Failed { what: "read the tables of fc_gold".into(), fault }];
        Ok(Report { failed, unknown: vec!["fc_gold.k".into()], ..Report::default() })
    }

    #[test]
    fn faults_are_tried_again_more_and_more_slowly_and_for_ever() {
        let options = RegistrarOptions::default();
        assert_eq!(wait(0, 0.5, &options), options.look_again);
        assert_eq!(wait(1, 1.0, &options), options.back_off_min);
        assert_eq!(wait(1, 0.0, &options), options.back_off_min / 2);
        assert_eq!(wait(4, 1.0, &options), options.back_off_min * 8);
        assert_eq!(wait(u32::MAX, 1.0, &options), options.back_off_max);
    }

    #[test]
    fn what_people_settle_is_no_fault() {
        let conflict = Report { conflicts: vec![("fc_gold.k".into(), "somebody's".into())], ..Report::default() };
        assert!(!is_fault(&Ok(conflict)) && !is_fault(&Ok(Report::default())));
        assert!(is_fault(&failed(Fault::Passing("no answer".into()))));
        assert!(is_fault(&Err(Error::new(ErrorKind::Storage, "the lake cannot be read"))));
    }

    #[test]
    fn the_status_is_of_the_last_look() {
        let mut status = Status::default();
        status.note(&failed(Fault::Refused("AccessDenied".into())), 1);
        assert_eq!(status.error.as_deref(), Some("cannot read the tables of fc_gold: AccessDenied"));
        assert_eq!((status.out_of_step, status.failures, status.in_step_us), (1, 1, None));
        status.note(&Ok(Report { in_step: vec!["fc_gold.k".into()], ..Report::default() }), 2);
        assert_eq!((status.error.clone(), status.in_step, status.in_step_us), (None, 1, Some(2)));
        status.note(&Err(Error::new(ErrorKind::Storage, "gone")), 3);
        assert_eq!((status.failures, status.in_step, status.in_step_us), (2, 1, Some(2)));
    }
}
