//! Live traffic, and the line that shows it.
//!
//! ```text
//!  every TICK:  simulator.due(now) ─▶ producer        every LINE_EVERY: last order from silver ─▶ the line
//!  beside it:   the scheduler, until a signal
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use parking_lot::Mutex;

use super::Demo;
use crate::cli::figures::{float, rows, text};
use crate::cli::progress::{Progress, StatusLine};
use crate::cli::terminal::{duration, grouped};
use crate::engine::Engine;
use crate::error::Result;
use crate::scheduler::{self, ScheduleOptions};
use crate::simulator::Simulator;
use crate::source::producer::Producer;

/// The pace of the traffic.
const RECORDS_PER_SECOND: f64 = 25.0;

/// Time between two puts.
const TICK: Duration = Duration::from_millis(200);

/// Time between two looks at the newest order.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Traffic until a signal.
///
/// # Errors
/// As `scheduler::run` and `Producer::put_all`.
pub(super) async fn run(demo: &Demo) -> Result<()> {
    let progress = Mutex::new(Progress::default());
    let refreshing = scheduler::run(demo.engine.clone(), ScheduleOptions::default(), demo.shutdown.clone(), |pass| {
        progress.lock().note(pass);
    });
    let result: Result<((), (), ())> = tokio::try_join!(refreshing, traffic(demo), status(demo, &progress));
    result.map(|_| ())
}

async fn traffic(demo: &Demo) -> Result<()> {
    let producer = Producer::embedded(&demo.stream).await?;
    let mut live = Simulator::live(&demo.options, now_us(), RECORDS_PER_SECOND);
    while !demo.shutdown.is_cancelled() {
        let due = live.due(now_us());
        if !due.is_empty() {
            let records = due.into_iter().map(|event| (event.partition_key, Bytes::from(event.json)));
            producer.put_all(stream::iter(records)).await?;
        }
        pause(demo, TICK).await;
    }
    Ok(())
}

async fn status(demo: &Demo, progress: &Mutex<Progress>) -> Result<()> {
    let mut line = StatusLine::new(demo.terminal);
    let started_us = now_us();
    let (mut shown, mut order) = (0, String::new());
    while !demo.shutdown.is_cancelled() {
        let (epoch, head) = {
            let progress = progress.lock();
            (progress.epoch, head(&progress))
        };
        let news = epoch != shown;
        if news {
            shown = epoch;
            order = last_order(&demo.engine, started_us).await?.unwrap_or(order);
        }
        line.show(&format!("{head}{order}"), news);
        pause(demo, LINE_EVERY).await;
    }
    line.clear();
    Ok(())
}

/// What the passes have done, in a few words.
fn head(progress: &Progress) -> String {
    if progress.epochs == 0 {
        return "live   waiting for the first events".into();
    }
    format!(
        "live   {} events   {:.0} a second   epoch {}   refreshed in {}",
        grouped(progress.source_rows),
        progress.rate,
        progress.epoch,
        duration(progress.took_ms)
    )
}

/// The newest order of the live traffic, as silver has it.
async fn last_order(engine: &Arc<Engine>, since_us: i64) -> Result<Option<String>> {
    let since = chrono::DateTime::from_timestamp_micros(since_us).unwrap_or_default().format("%Y-%m-%dT%H:%M:%SZ");
    let sql = format!(
        "SELECT product_name, city, revenue, to_char(event_time_ist, '%H:%M:%S') FROM silver.events \
         WHERE event_type = 'purchase' AND event_time >= TIMESTAMP WITH TIME ZONE '{since}' \
         ORDER BY event_time DESC LIMIT 1"
    );
    let order = rows(engine, &sql).await?;
    if order.num_rows() == 0 {
        return Ok(None);
    }
    let (product, city, time) = (text(&order, 0, 0)?, text(&order, 1, 0)?, text(&order, 3, 0)?);
    Ok(Some(format!("   last order {time} {product}, Rs {:.0}, {city}", float(&order, 2, 0)?)))
}

fn now_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

async fn pause(demo: &Demo, time: Duration) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = demo.shutdown.cancelled() => {}
    }
}
