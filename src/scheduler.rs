//! Scheduler: asks the engine for one pass after another, and decides what to do after each.
//!
//! ```text
//!            recover()                      once: the newest epoch that was not published is carried out again
//!               │
//!      ┌──▶ pass(request) ──▶ next(after, state) ──▶ Again            more may be waiting: at once
//!      │                                         ├─▶ Wait(d)          nothing due for d, or until shutdown
//!      └─────────────────────────────────────────┼─▶ Retry(d)         a passing fault: exponential, jittered, limited
//!                                                ├─▶ Done             caught up, where that was all that was asked
//!                                                └─▶ Fail             everything else: the error goes to the caller
//! ```
//!
//! [`next`] is pure and holds every decision; [`run`] does what it says. Shutdown is looked at between passes
//! only: a pass is never left half done (a `kill -9` may do so, and `recover` mends that).

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Pass, PassRequest};
use crate::error::{ErrorKind, Result};

/// The shortest wait after an idle pass, so that an engine that says "ask again now" cannot spin.
const IDLE_WAIT_MIN: Duration = Duration::from_millis(5);

/// The longest wait after an idle pass; new input is noticed at the latest after this.
const IDLE_WAIT_MAX: Duration = Duration::from_secs(1);

/// The wait after the first passing fault; it doubles with each one that follows.
const BACK_OFF_MIN: Duration = Duration::from_millis(200);

/// The longest wait between two tries.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// Passing faults in a row before the error is given to the caller: about 20 minutes of trying.
const TRIES_MAX: u32 = 45;

/// The same before the first pass that succeeded: an endpoint or folder that was never reached is more likely
/// misspelt than resting, and whoever typed the command is waiting for an answer.
const TRIES_AT_START_MAX: u32 = 5;

/// How to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScheduleOptions {
    /// Take what is there, refresh every view, and end.
    pub until_caught_up: bool,
}

/// What the loop remembers between passes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct State {
    /// End once nothing is pending.
    pub until_caught_up: bool,
    /// The pass was asked to take every view, due or not.
    pub all: bool,
    /// Passing faults in a row before this pass.
    pub failures: u32,
    /// A pass has succeeded since the start.
    pub succeeded: bool,
    /// A random number in [0, 1), for the back-off.
    pub jitter: f64,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Another pass at once, taking every view when `all`.
    Again {
        /// Take every view, due or not.
        all: bool,
    },
    /// Another pass after this time.
    Wait(Duration),
    /// The same pass again after this time.
    Retry(Duration),
    /// Finished.
    Done,
    /// Give the error to the caller.
    Fail,
}

/// Decide what follows a pass.
///
/// While there is a backlog, views that are not due wait (their refresh then covers several epochs at the price of
/// one); when nothing is due any more, one pass over all of them brings the last ones up to date.
pub fn next(after: &Result<Pass>, state: &State) -> Step {
    match after {
        Ok(Pass::Published { caught_up: true, .. }) if state.until_caught_up => Step::Done,
        Ok(Pass::Published { .. }) => Step::Again { all: false },
        Ok(Pass::Idle(_)) if state.until_caught_up && state.all => Step::Done,
        Ok(Pass::Idle(_)) if state.until_caught_up => Step::Again { all: true },
        Ok(Pass::Idle(wait)) => Step::Wait((*wait).clamp(IDLE_WAIT_MIN, IDLE_WAIT_MAX)),
        Err(error) if error.kind() == ErrorKind::Transient && state.failures + 1 < tries_max(state.succeeded) => {
            Step::Retry(back_off(state.failures, state.jitter))
        }
        Err(_) => Step::Fail,
    }
}

fn tries_max(succeeded: bool) -> u32 {
    if succeeded { TRIES_MAX } else { TRIES_AT_START_MAX }
}

/// Between half and the whole of `BACK_OFF_MIN * 2^failures`, at most `BACK_OFF_MAX`.
fn back_off(failures: u32, jitter: f64) -> Duration {
    let whole = BACK_OFF_MIN.saturating_mul(2_u32.saturating_pow(failures.min(16))).min(BACK_OFF_MAX);
    whole.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

/// Run passes until `shutdown`, an error that does not pass, or (with `until_caught_up`) until nothing is pending.
/// `progress` sees every pass that succeeded.
///
/// # Errors
/// What `Engine::pass` and `Engine::recover` give, passing faults only after all tries.
pub async fn run(
    engine: Arc<Engine>,
    options: ScheduleOptions,
    shutdown: CancellationToken,
    mut progress: impl FnMut(&Pass),
) -> Result<()> {
    recover(&engine, &shutdown).await?;
    let mut state = State { until_caught_up: options.until_caught_up, ..State::default() };
    while !shutdown.is_cancelled() {
        state.jitter = random();
        let after = engine.pass(PassRequest { all: state.all, full: Vec::new() }).await;
        if let Ok(pass) = &after {
            state.succeeded = true;
            progress(pass);
        }
        let step = next(&after, &state);
        match (step, after) {
            (Step::Again { all }, _) => state = State { all, failures: 0, ..state },
            (Step::Wait(wait), _) => {
                state = State { all: false, failures: 0, ..state };
                sleep(wait, &shutdown).await;
            }
            (Step::Retry(wait), Err(error)) => {
                tracing::warn!(%error, again_in_ms = wait.as_millis(), "pass failed");
                state.failures += 1;
                sleep(wait, &shutdown).await;
            }
            (Step::Done, _) | (Step::Retry(_), Ok(_)) => return Ok(()),
            (Step::Fail, after) => return after.map(|_| ()),
        }
    }
    Ok(())
}

/// `Engine::recover` with the same back-off as a pass.
async fn recover(engine: &Engine, shutdown: &CancellationToken) -> Result<()> {
    let recovered = at_start("recovery", shutdown, async || engine.recover().await).await;
    if let Some(epoch) = recovered.map_err(|error| error.context("recovery"))? {
        tracing::info!(epoch, "carried out again after an unfinished run");
    }
    Ok(())
}

/// What is done before the first pass, tried again a few times while its faults pass.
///
/// # Errors
/// The last try's.
pub async fn at_start<T>(
    what: &str,
    shutdown: &CancellationToken,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let mut failures = 0;
    loop {
        match attempt().await {
            Err(error)
                if error.kind() == ErrorKind::Transient
                    && failures + 1 < TRIES_AT_START_MAX
                    && !shutdown.is_cancelled() =>
            {
                let wait = back_off(failures, random());
                tracing::warn!(%error, again_in_ms = wait.as_millis(), "{what} failed");
                failures += 1;
                sleep(wait, shutdown).await;
            }
            ended => return ended,
        }
    }
}

async fn sleep(wait: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = shutdown.cancelled() => {}
    }
}

/// A random number in [0, 1); good enough to keep two writers from trying in step.
fn random() -> f64 {
    f64::from((uuid::Uuid::new_v4().as_u128() >> 96) as u32) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::PublishedRecord;
    use crate::error::Error;

    const LIVE: State = State { until_caught_up: false, all: false, failures: 0, succeeded: true, jitter: 0.5 };
    const ONCE: State = State { until_caught_up: true, ..LIVE };

    fn published(caught_up: bool) -> Result<Pass> {
        Ok(Pass::Published { record: Arc::new(PublishedRecord::default()), source_rows: 1, caught_up })
    }
    fn idle(ms: u64) -> Result<Pass> {
        Ok(Pass::Idle(Duration::from_millis(ms)))
    }
    fn failed(kind: ErrorKind) -> Result<Pass> {
        Err(Error::new(kind, "it"))
    }

    #[test]
    fn a_live_run_goes_on_whatever_a_pass_found() {
        assert_eq!(next(&published(true), &LIVE), Step::Again { all: false });
        assert_eq!(next(&published(false), &LIVE), Step::Again { all: false });
        assert_eq!(next(&idle(300), &LIVE), Step::Wait(Duration::from_millis(300)));
    }

    #[test]
    fn an_idle_wait_has_limits_on_both_sides() {
        assert_eq!(next(&idle(0), &LIVE), Step::Wait(IDLE_WAIT_MIN));
        assert_eq!(next(&idle(3_600_000), &LIVE), Step::Wait(IDLE_WAIT_MAX));
    }

    #[test]
    fn until_caught_up_takes_the_views_that_are_not_due_before_it_ends() {
        assert_eq!(next(&published(false), &ONCE), Step::Again { all: false });
        assert_eq!(next(&idle(300), &ONCE), Step::Again { all: true });
        let all = State { all: true, ..ONCE };
        assert_eq!(next(&published(false), &all), Step::Again { all: false });
        assert_eq!(next(&published(true), &all), Step::Done);
        assert_eq!(next(&idle(300), &all), Step::Done);
    }

    #[test]
    fn passing_faults_are_tried_again_more_and_more_slowly_and_not_for_ever() {
        let at = |failures, jitter| next(&failed(ErrorKind::Transient), &State { failures, jitter, ..LIVE });
        assert_eq!(at(0, 0.0), Step::Retry(BACK_OFF_MIN / 2));
        assert_eq!(at(0, 1.0), Step::Retry(BACK_OFF_MIN));
        assert_eq!(at(3, 1.0), Step::Retry(BACK_OFF_MIN * 8));
        assert_eq!(at(TRIES_MAX - 2, 1.0), Step::Retry(BACK_OFF_MAX));
        assert_eq!(at(TRIES_MAX - 1, 1.0), Step::Fail);
    }

    #[test]
    fn what_was_never_reached_is_given_up_soon() {
        let at = |failures| next(&failed(ErrorKind::Transient), &State { failures, succeeded: false, ..LIVE });
        assert!(matches!(at(TRIES_AT_START_MAX - 2), Step::Retry(_)));
        assert_eq!(at(TRIES_AT_START_MAX - 1), Step::Fail);
    }

    #[test]
    fn other_errors_end_the_run() {
        for kind in
            [ErrorKind::Conflict, ErrorKind::Storage, ErrorKind::DataLoss, ErrorKind::Corrupt, ErrorKind::Source]
        {
            assert_eq!(next(&failed(kind), &LIVE), Step::Fail);
            assert_eq!(next(&failed(kind), &ONCE), Step::Fail);
        }
    }

    #[test]
    fn random_numbers_stay_in_range_and_differ() {
        let numbers: Vec<f64> = (0..64).map(|_| random()).collect();
        assert!(numbers.iter().all(|n| (0.0..1.0).contains(n)));
        assert!(numbers.windows(2).any(|pair| (pair[0] - pair[1]).abs() > f64::EPSILON));
    }
}
