//! What the passes of a scheduler have done so far, and the line that tells it.
//!
//! ```text
//!  epoch 12   1,240,000 rows   86,400 rows/s   published 310 ms after they were read
//!  └─ a terminal: one line, updated in place          └─ otherwise: a line every REPORT_EVERY, when there is news
//! ```

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal::{Terminal, duration, grouped};
use crate::engine::Pass;
use crate::epoch::Epoch;

/// Time between two lines where they cannot be updated in place.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// How fast the moving line moves at most, in redraws per second.
const REDRAWS_PER_SECOND_MAX: u8 = 8;

/// The rate shown is that of about this long.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// What passes have done.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    window: (Instant, u64),
    /// The newest epoch; 0 before the first one.
    pub epoch: Epoch,
    /// Epochs published.
    pub epochs: u64,
    /// Rows that came from sources.
    pub source_rows: u64,
    /// Rows per second from sources lately.
    pub rate: f64,
    /// From the reading of an epoch's input to its publication, in milliseconds; of the newest epoch.
    pub took_ms: i64,
}

impl Default for Progress {
    fn default() -> Self {
        let now = Instant::now();
        Self { started: now, window: (now, 0), epoch: 0, epochs: 0, source_rows: 0, rate: 0.0, took_ms: 0 }
    }
}

impl Progress {
    /// Take a pass into account; true when it published something.
    pub fn note(&mut self, pass: &Pass) -> bool {
        self.note_at(pass, Instant::now())
    }

    fn note_at(&mut self, pass: &Pass, now: Instant) -> bool {
        let published = match pass {
            Pass::Idle(_) => false,
            Pass::Published { record, source_rows, .. } => {
                self.epoch = record.epoch;
                self.epochs += 1;
                self.source_rows += source_rows;
                self.took_ms = (record.published_us - record.now_us) / 1_000;
                true
            }
        };
        let (since, rows) = self.window;
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= RATE_WINDOW {
            self.rate = (self.source_rows - rows) as f64 / elapsed.as_secs_f64();
            self.window = (now, self.source_rows);
        }
        published
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Rows per second over the whole time.
    pub fn rate_overall(&self) -> f64 {
        self.source_rows as f64 / self.seconds().max(0.001)
    }

    /// The line of the module's drawing.
    pub fn line(&self) -> String {
        if self.epochs == 0 {
            return "waiting for events".into();
        }
        let rate = if self.rate > 0.0 { self.rate } else { self.rate_overall() };
        format!(
            "epoch {}   {} rows   {} rows/s   published {} after they were read",
            self.epoch,
            grouped(self.source_rows),
            grouped(rate as u64),
            duration(self.took_ms)
        )
    }
}

/// A line for people that follows `Progress`.
#[derive(Debug)]
pub struct StatusLine {
    terminal: Terminal,
    bar: ProgressBar,
    reported: Instant,
}

impl StatusLine {
    /// A line that starts empty.
    pub fn new(terminal: Terminal) -> Self {
        let bar = ProgressBar::with_draw_target(None, target(terminal));
        bar.set_style(ProgressStyle::default_spinner());
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { terminal, bar, reported: Instant::now() }
    }

    /// Show `text`: in place on a terminal, now and then elsewhere.
    pub fn show(&mut self, text: &str, news: bool) {
        if self.terminal.live {
            self.bar.set_message(text.to_string());
        } else if news && self.reported.elapsed() >= REPORT_EVERY {
            self.reported = Instant::now();
            self.terminal.say(text);
        }
    }

    /// Take the line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Where moving lines and bars are drawn: nowhere unless the terminal is one.
pub fn target(terminal: Terminal) -> ProgressDrawTarget {
    if terminal.live {
        ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND_MAX)
    } else {
        ProgressDrawTarget::hidden()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::epoch::PublishedRecord;

    #[test]
    fn passes_add_up_and_the_rate_is_recent() {
        let mut progress = Progress::default();
        let start = progress.started;
        let pass = |epoch, source_rows| Pass::Published {
            record: Arc::new(PublishedRecord { epoch, now_us: 1_000, published_us: 311_000, ..Default::default() }),
            source_rows,
            caught_up: false,
        };
        assert_eq!(progress.line(), "waiting for events");
        assert!(progress.note_at(&pass(1, 1_000), start + Duration::from_millis(100)));
        assert!(progress.note_at(&pass(2, 3_000), start + Duration::from_secs(2)));
        assert!(!progress.note_at(&Pass::Idle(Duration::ZERO), start + Duration::from_secs(3)));
        assert_eq!((progress.epoch, progress.epochs, progress.source_rows), (2, 2, 4_000));
        assert_eq!(progress.line(), "epoch 2   4,000 rows   2,000 rows/s   published 310 ms after they were read");
        progress.note_at(&Pass::Idle(Duration::ZERO), start + Duration::from_secs(4));
        assert!(progress.rate.abs() < f64::EPSILON);
    }
}
