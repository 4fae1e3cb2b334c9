//! Threads of their own for statements.
//!
//! ```text
//!   connections, log-ins, cancellations, time limits ─▶ the runtime of the process
//!   planning and running of statements               ─▶ Workers: THREADS_PER_CORE a core, shared out by the system
//! ```
//!
//! Some operators work for seconds before they let others on (a join without an equality). On the threads of the
//! connections two of them would keep everybody out, and nobody could cancel them.

use std::future::Future;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

use crate::config::STACK_BYTES;
use crate::error::{Error, ErrorKind, Result};

/// More than one, so that a statement which never lets go holds up few others.
const THREADS_PER_CORE: usize = 4;

/// A runtime for statements.
#[derive(Debug)]
pub(crate) struct Workers(Option<Runtime>);

impl Workers {
    pub(crate) fn start() -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores * THREADS_PER_CORE)
            .thread_name("statements")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build();
        runtime
            .map(|runtime| Self(Some(runtime)))
            .map_err(|error| Error::new(ErrorKind::Internal, format!("no threads for statements: {error}")))
    }

    /// For work that runs to its end.
    pub(crate) fn handle(&self) -> Handle {
        // It is taken when the workers are dropped only.
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }

    /// Work that ends when the set is dropped.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinSet<T> {
        let mut set = JoinSet::new();
        set.spawn_on(work, &self.handle());
        set
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Waiting for them is not allowed where async code runs.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
