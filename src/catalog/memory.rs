//! The memory of one statement: a share of everybody's that cannot grow beyond its limit.
//!
//! ```text
//!   sorts, joins, groups ─▶ Capped (memory_bytes_max of the role) ─▶ the pool of the process
//!                              └ full: they spill, or the statement fails; others do not notice
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::resources_datafusion_err;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;

/// A pool within a pool.
#[derive(Debug)]
struct Capped {
    inner: Arc<dyn MemoryPool>,
    bytes_max: usize,
    used: AtomicUsize,
}

/// The same runtime, of which these bytes may be taken.
pub(super) fn capped(runtime: &RuntimeEnv, bytes_max: usize) -> Arc<RuntimeEnv> {
    let inner = Arc::clone(&runtime.memory_pool);
    let memory_pool = Arc::new(Capped { inner, bytes_max, used: AtomicUsize::new(0) });
    Arc::new(RuntimeEnv { memory_pool, ..runtime.clone() })
}

impl fmt::Display for Capped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.reserved(), self.bytes_max)
    }
}

impl MemoryPool for Capped {
    fn name(&self) -> &'static str {
        "capped"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.inner.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.inner.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.inner.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.inner.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> datafusion::common::Result<()> {
        let within = |used: usize| used.checked_add(additional).filter(|sum| *sum <= self.bytes_max);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_err() {
            return Err(resources_datafusion_err!(
                "the statement needs more than the {} bytes of memory that its user may take",
                self.bytes_max
            ));
        }
        self.inner.try_grow(reservation, additional).inspect_err(|_| {
            self.used.fetch_sub(additional, Ordering::Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;

    use super::*;

    #[test]
    fn a_share_is_given_back_and_never_exceeded() {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(1_000, 1.0).build().unwrap();
        let (small, large) = (capped(&runtime, 100), capped(&runtime, 5_000));
        let reservation = |runtime: &RuntimeEnv| MemoryConsumer::new("test").register(&runtime.memory_pool);
        let (first, second) = (reservation(&small), reservation(&small));
        first.try_grow(60).unwrap();
        assert!(second.try_grow(50).unwrap_err().to_string().contains("100 bytes"));
        second.try_grow(40).unwrap();
        drop(first);
        second.try_grow(60).unwrap();
        assert_eq!((small.memory_pool.reserved(), runtime.memory_pool.reserved()), (100, 100));
        let other = reservation(&large);
        assert!(other.try_grow(901).is_err(), "the pool of the process holds, too");
        assert_eq!(large.memory_pool.reserved(), 0);
        other.try_grow(900).unwrap();
    }
}
