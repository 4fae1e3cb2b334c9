//! Putting the history into the stream, what has landed before left out.
//!
//! ```text
//!  bronze: rows by partition key ─▶ Landed { key: count }
//!  simulator ─▶ event ─▶ its key has a count left? ─yes─▶ count down, leave it out
//!                                                  └no──▶ put it
//! ```
//!
//! The simulator gives the same events in the same order, a producer keeps the order of every key, and a key is
//! always read in order. So what has landed of a key is the beginning of what the simulator gives for it, whatever
//! the moment a former process ended at.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use bytes::Bytes;
use futures::stream;
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use super::{Demo, HELD_RECORDS_MAX};
use crate::cli::figures::rows;
use crate::engine::Engine;
use crate::error::Result;
use crate::simulator::Simulator;
use crate::source::embedded::EmbeddedKinesis;
use crate::source::producer::Producer;

/// Records between two looks at the stream's room, the bar and the signal.
const STEP_RECORDS: u64 = 1_000;

const BY_KEY: &str = "SELECT _partition_key, count(*) FROM bronze.events GROUP BY _partition_key";

/// How many records of each partition key are in bronze.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Landed {
    by_key: HashMap<Box<str>, u64>,
    records: u64,
}

impl Landed {
    /// Count them in the newest published epoch.
    ///
    /// # Errors
    /// As `Engine::execute`.
    pub(super) async fn count(engine: &Arc<Engine>) -> Result<Self> {
        let counted = rows(engine, BY_KEY).await?;
        let keys = cast(counted.column(0), &DataType::Utf8)?;
        let counts = cast(counted.column(1), &DataType::Int64)?;
        let mut landed = Self::default();
        for (key, count) in keys.as_string::<i32>().iter().zip(counts.as_primitive::<Int64Type>()) {
            landed.note(key.unwrap_or_default(), u64::try_from(count.unwrap_or(0)).unwrap_or(0));
        }
        Ok(landed)
    }

    fn note(&mut self, key: &str, count: u64) {
        self.records += count;
        *self.by_key.entry(key.into()).or_default() += count;
    }

    /// All of them.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Whether the next record of this key is in bronze already; counts it off.
    fn has(&mut self, key: &str) -> bool {
        match self.by_key.get_mut(key) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }
}

/// The way of the history into the stream.
struct Feed<'a> {
    simulator: Simulator,
    landed: Landed,
    stream: &'a EmbeddedKinesis,
    stop: &'a CancellationToken,
    bar: &'a ProgressBar,
    at: u64,
}

impl Feed<'_> {
    /// The next record to put; `None` at the end, and after a signal.
    async fn next(&mut self) -> Option<(String, Bytes)> {
        loop {
            let event = self.simulator.next()?;
            self.at += 1;
            if self.at.is_multiple_of(STEP_RECORDS) {
                self.bar.set_position(self.at);
                tokio::select! {
                    () = self.stream.wait_for_room(HELD_RECORDS_MAX) => {}
                    () = self.stop.cancelled() => return None,
                }
                if self.stop.is_cancelled() {
                    return None;
                }
            }
            if !self.landed.has(&event.partition_key) {
                return Some((event.partition_key, Bytes::from(event.json)));
            }
        }
    }
}

/// Put what has not landed; how many records that were. Ends early after a signal.
///
/// # Errors
/// As `Producer::put_all`.
pub(super) async fn put(demo: &Demo, landed: Landed, bar: &ProgressBar) -> Result<u64> {
    let producer = Producer::embedded(&demo.stream).await?;
    let feed = Feed {
        simulator: Simulator::new(demo.options.clone()),
        landed,
        stream: &demo.stream,
        stop: &demo.shutdown,
        bar,
        at: 0,
    };
    let records = stream::unfold(feed, |mut feed| async move { feed.next().await.map(|record| (record, feed)) });
    let counts = producer.put_all(records).await?;
    Ok(counts.put)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_key_the_first_records_are_left_out() {
        let mut landed = Landed::default();
        landed.note("a", 2);
        landed.note("b", 1);
        assert_eq!(landed.records(), 3);
        let order = ["a", "b", "a", "c", "a", "b"];
        assert_eq!(order.map(|key| landed.has(key)), [true, true, true, false, false, false]);
    }
}
