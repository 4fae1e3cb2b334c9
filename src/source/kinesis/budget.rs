//! One slice's limits, shared by the shards that are read at the same time.
//!
//! ```text
//!  take()   reserves records for one read: as many as the limits still hold, going by the records' usual size
//!           none left, reads of others under way: wait, they may give some back
//!           none left, none under way:           the slice is full
//!  settle() gives back what was reserved and didn't come
//! ```
//!
//! A record is one of the stream; an aggregate is one, with the bytes of all its payloads.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::source::SliceLimits;

/// Records of one read; the service takes no larger number.
pub(super) const READ_RECORDS_MAX: usize = 10_000;
/// What a record is taken to weigh before any was seen, in bytes.
const RECORD_BYTES_GUESS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Budget {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    records: usize,
    bytes: usize,
    under_way: usize,
    seen_records: usize,
    seen_bytes: usize,
}

impl State {
    fn usual_bytes(&self) -> usize {
        self.seen_bytes.checked_div(self.seen_records).map_or(RECORD_BYTES_GUESS, |bytes| bytes.max(1))
    }
}

/// Records and bytes that were reserved for one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reserved {
    pub(super) records: usize,
    bytes: usize,
}

impl Budget {
    /// `usual`: (records, bytes) that an earlier slice held, if there was one.
    pub(super) fn new(limits: SliceLimits, usual: Option<(usize, usize)>) -> Self {
        let (records, bytes) = (limits.records_max.max(1), limits.payload_bytes_max.max(1));
        let (seen_records, seen_bytes) = usual.unwrap_or_default();
        let state = State { records, bytes, under_way: 0, seen_records, seen_bytes };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// (records, bytes) that came so far, or the earlier slice's; `None` before any came.
    pub(super) fn usual(&self) -> Option<(usize, usize)> {
        let state = self.state.lock();
        // The latest slices count more than those before them.
        (state.seen_records > 0).then(|| (state.seen_records.div_ceil(2), state.seen_bytes.div_ceil(2)))
    }

    /// `None`: the slice is full.
    pub(super) async fn take(&self) -> Option<Reserved> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.state.lock();
                if state.records > 0 && state.bytes > 0 {
                    let usual = state.usual_bytes();
                    let records = READ_RECORDS_MAX.min(state.records).min((state.bytes / usual).max(1));
                    let reserved = Reserved { records, bytes: (records * usual).min(state.bytes) };
                    state.records -= reserved.records;
                    state.bytes -= reserved.bytes;
                    state.under_way += 1;
                    return Some(reserved);
                }
                if state.under_way == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }

    pub(super) fn settle(&self, reserved: Reserved, records: usize, bytes: usize) {
        let mut state = self.state.lock();
        state.records = (state.records + reserved.records).saturating_sub(records);
        state.bytes = (state.bytes + reserved.bytes).saturating_sub(bytes);
        state.seen_records += records;
        state.seen_bytes += bytes;
        state.under_way -= 1;
        drop(state);
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_did_not_come_is_given_to_others() {
        let budget = Budget::new(SliceLimits { records_max: 10, payload_bytes_max: 1 << 20 }, None);
        let first = budget.take().await.unwrap();
        assert_eq!(first.records, 10);
        let second = async { budget.take().await.unwrap() };
        let give_back = async { budget.settle(first, 4, 400) };
        let (second, ()) = tokio::join!(second, give_back);
        assert_eq!(second.records, 6);
        budget.settle(second, 6, 600);
        assert_eq!(budget.take().await, None);
    }

    #[tokio::test]
    async fn bytes_are_reserved_by_the_usual_size() {
        let budget =
            Budget::new(SliceLimits { records_max: 1_000_000, payload_bytes_max: 100 * RECORD_BYTES_GUESS }, None);
        let first = budget.take().await.unwrap();
        assert_eq!(first.records, 100);
        // They were ten times smaller, so more of them fit.
        budget.settle(first, 100, 10 * RECORD_BYTES_GUESS);
        assert_eq!(budget.take().await.unwrap().records, 90 * RECORD_BYTES_GUESS / (RECORD_BYTES_GUESS / 10));
    }
}
