//! Turns: how many statements run at the same time, of each user and in all.
//!
//! ```text
//!   statement ─▶ the user's queue (statements_max of their roles) ─▶ everybody's queue (Limits) ─▶ Turn
//!                     └───────────── first come, first served; `wait_max` in all ─────────────┘
//! ```
//!
//! A user's own queue comes first, so that those who send too much wait for themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::Status;

use crate::catalog::Principal;

/// Queues of users that are kept before those that nobody stands in are looked for.
const QUEUES_MAX: usize = 1_000;

/// Who may run when.
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    all_max: usize,
    wait_max: Duration,
    /// By user and limit: a changed limit is another queue.
    of_users: Mutex<HashMap<(String, u64), Arc<Semaphore>>>,
}

/// The right to run, given back when it is dropped.
pub(crate) struct Turn {
    _own: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

impl Turns {
    pub(crate) fn new(all_max: usize, wait_max: Duration) -> Self {
        Self { all: Arc::new(Semaphore::new(all_max)), all_max, wait_max, of_users: Mutex::default() }
    }

    /// Wait for a turn, but not for long: a full server says so, and drivers try again.
    pub(crate) async fn take(&self, principal: &Principal, deadline: Instant) -> Result<Turn, Status> {
        let until = deadline.min(Instant::now() + self.wait_max);
        let own = match principal.limits.statements_max {
            None => None,
            Some(own_max) => {
                let queue = self.queue(&principal.subject, own_max);
                let whose = format!("{own_max} statements of {} are running already", principal.subject);
                Some(wait(queue, until, &whose).await?)
            }
        };
        let whose = format!("{} statements are running already", self.all_max);
        Ok(Turn { _own: own, _all: wait(Arc::clone(&self.all), until, &whose).await? })
    }

    fn queue(&self, user: &str, own_max: u64) -> Arc<Semaphore> {
        let mut queues = self.of_users.lock();
        if queues.len() >= QUEUES_MAX {
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        let places = usize::try_from(own_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let queue = queues.entry((user.to_string(), own_max)).or_insert_with(|| Arc::new(Semaphore::new(places)));
        Arc::clone(queue)
    }
}

async fn wait(queue: Arc<Semaphore>, until: Instant, full: &str) -> Result<OwnedSemaphorePermit, Status> {
    match tokio::time::timeout_at(until, queue.acquire_owned()).await {
        Ok(Ok(turn)) => Ok(turn),
        Ok(Err(_)) => Err(Status::unavailable("the server is stopping")),
        Err(_) => Err(Status::unavailable(format!("{full} (hint: try again later)"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::RoleLimits;

    fn user(name: &str, statements_max: u64) -> Principal {
        let limits = RoleLimits { statements_max: Some(statements_max), ..RoleLimits::default() };
        Principal { subject: name.into(), limits, ..Principal::local() }
    }

    #[tokio::test]
    async fn who_has_used_up_their_own_turns_holds_up_nobody_else() {
        let turns = Turns::new(3, Duration::from_millis(1));
        let far = Instant::now() + Duration::from_secs(60);
        let (first, second) = (turns.take(&user("ann", 2), far).await, turns.take(&user("ann", 2), far).await);
        assert!(first.is_ok() && second.is_ok());
        let refused = turns.take(&user("ann", 2), far).await.err().unwrap();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert!(refused.message().starts_with("2 statements of ann"), "{refused}");
        let third = turns.take(&Principal::local(), far).await;
        assert!(third.is_ok());
        let full = turns.take(&user("bob", 1), far).await.err().unwrap();
        assert!(full.message().starts_with("3 statements are running"), "{full}");
        drop(first);
        turns.take(&user("ann", 2), far).await.map(drop).unwrap();
    }
}
