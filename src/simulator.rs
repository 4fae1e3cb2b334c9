//! The simulator: lifelike Indian shopping traffic, the same bytes for the same seed on every platform.
//!
//! ```text
//!  pace ──▶ start of the next visit     hour of day × day of week × sale day
//!             │
//!  shop ──▶ drafts of its events        view ─▶ add_to_cart ─▶ purchase, removals, reviews, restocks
//!             │                         + duplicates, broken JSON, bad fields, each at its rate
//!  queue ──▶ by arrival                 event time + a few seconds; late ones minutes to 17 hours
//!             │   handed out once no later visit can start before it
//!  render ──▶ JSON
//! ```
//!
//! **A calibrated profile.** Products, prices and rates are chosen so that [`EVENTS_DEFAULT`] records give the
//! published figures of the store: revenue Rs 357.4 million, profit Rs 83.5 million, margin 23.37 %, views to
//! cart 44.15 %, views to purchase 20.68 %. Revenue of independent draws would vary by more than a percent from
//! seed to seed, because few dear pieces make most of it. Therefore whatever the figures depend on (which product
//! is viewed, whether it is bought, how many pieces) is drawn *spread* (`random`): evenly over any stretch, in
//! random order. With another number of events the totals scale in proportion.
//!
//! **`events` counts records**, everything that is put: duplicates, broken and bad ones too. What the faults take
//! up is taken from reviews, restocks and removals, of which no figure depends, so the figures are the same at any
//! rates as long as duplicates, broken and bad records together stay under 8 % of the records.

mod calendar;
mod catalogue;
mod ledger;
mod options;
mod random;
mod render;
mod shop;

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use calendar::{History, MINUTE, SECOND};
use random::{Random, Spread, chance};
use shop::{Draft, Fault, Shop};

pub use ledger::Ledger;
pub use options::{END_DEFAULT_US, Profile, Rates, SimulatorOptions};

/// Records of the default run, to which the published figures belong.
pub const EVENTS_DEFAULT: u64 = 200_000;

/// The most records that one call of [`Live::due`] hands out.
pub const DUE_RECORDS_MAX: usize = 10_000;

/// Views per record put.
const VIEWS_PER_RECORD: f64 = 0.5581;

/// What else one view leads to, on average: carts and purchases.
const CARTS_PER_VIEW: f64 = 0.4415;
const PURCHASES_PER_VIEW: f64 = 0.2068;

/// One record to put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The session, else the seller (restocks).
    pub partition_key: String,
    /// One line, no line break at its end.
    pub json: String,
}

/// When visits start.
#[derive(Debug)]
enum Pace {
    History { history: History, records: u64 },
    Live { start_us: i64, record_us: i64 },
}

/// A draft on its way: ordered by arrival, then by creation.
#[derive(Debug)]
struct Pending {
    arrives_us: i64,
    order: u64,
    draft: Draft,
}

impl Pending {
    fn key(&self) -> (i64, u64) {
        (self.arrives_us, self.order)
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Pending {}
impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pending {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// See the module: an iterator over the records in the order of their arrival.
#[derive(Debug)]
pub struct Simulator {
    shop: Shop,
    pace: Pace,
    /// Records drafted so far, on their way or handed out.
    drafted: u64,
    /// No visit that is still to come starts before this.
    horizon_us: i64,
    queue: BinaryHeap<Reverse<Pending>>,
    visit: Vec<Draft>,
    random: Random,
    faults: Spread,
    /// Draws of `faults` under these bounds make a duplicate, a broken record, a bad field.
    fault_bounds: [u32; 3],
    lates: Spread,
    late_bound: u32,
    ledger: Ledger,
}

impl Simulator {
    /// The history that ends at `options.end_us`.
    pub fn new(options: SimulatorOptions) -> Self {
        let history = History::new(options.end_us);
        Self::paced(&options, options.seed, Pace::History { history, records: options.events })
    }

    /// Traffic from `now_us` (microseconds since 1970 UTC) on, without end, at this mean pace (at least one record
    /// a minute). Event ids differ from those of the history and of any other start.
    pub fn live(options: &SimulatorOptions, now_us: i64, records_per_second: f64) -> Live {
        let record_us = (SECOND as f64 / records_per_second.max(1.0 / 60.0)).max(1.0) as i64;
        let seed = random::mix(options.seed ^ random::mix(now_us as u64));
        Live(Self::paced(options, seed, Pace::Live { start_us: now_us, record_us }))
    }

    fn paced(options: &SimulatorOptions, seed: u64, pace: Pace) -> Self {
        let rates = options.rates;
        let unclean = rates.unclean();
        let clean = 1.0 - unclean;
        let sales = VIEWS_PER_RECORD * (1.0 + CARTS_PER_VIEW + PURCHASES_PER_VIEW);
        let others_per_view = ((1.0 - sales - unclean) / VIEWS_PER_RECORD).max(0.0);
        let bound = |share: f64| chance(share / clean);
        let mut simulator = Self {
            shop: Shop::new(seed, options.events, others_per_view),
            pace,
            drafted: 0,
            horizon_us: i64::MIN,
            queue: BinaryHeap::new(),
            visit: Vec::new(),
            random: Random::new(seed, 1),
            faults: Spread::new(seed, 2),
            fault_bounds: [
                bound(rates.duplicates),
                bound(rates.duplicates + rates.broken),
                bound(rates.duplicates + rates.broken + rates.bad_fields),
            ],
            lates: Spread::new(seed, 3),
            late_bound: bound(rates.late),
            ledger: Ledger::default(),
        };
        simulator.horizon_us = simulator.start_of_record(0);
        simulator
    }

    /// What has been handed out so far.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// When a visit starts whose first record is number `position` / 1024.
    fn start_of_record(&mut self, position: u64) -> i64 {
        match &mut self.pace {
            Pace::History { history, records } => history.at(position, records.saturating_mul(1024)),
            Pace::Live { start_us, record_us } => {
                *start_us + (i128::from(*record_us) * i128::from(position) / 1024) as i64
            }
        }
    }

    fn finished(&self) -> bool {
        matches!(self.pace, Pace::History { records, .. } if self.drafted >= records)
    }

    /// Draft the next visit with its faults and put it in the queue.
    fn visit(&mut self) {
        let mut visit = std::mem::take(&mut self.visit);
        visit.clear();
        self.shop.visit(&mut visit);
        self.add_faults(&mut visit);
        if let Pace::History { records, .. } = self.pace {
            visit.truncate(usize::try_from(records - self.drafted).unwrap_or(usize::MAX));
        }
        let count = visit.len() as u64;
        let within = self.random.below(count as u32 * 1024);
        let start_us = self.start_of_record(self.drafted * 1024 + u64::from(within));
        for draft in &mut visit {
            draft.time_us += start_us;
            let delay_us = match draft.fault {
                Fault::Late => MINUTE << self.random.below(10),
                Fault::Duplicate => 5 * SECOND,
                _ => SECOND / 2,
            };
            let arrives_us = draft.time_us + delay_us + self.random.between(0, delay_us);
            self.queue.push(Reverse(Pending { arrives_us, order: self.drafted, draft: *draft }));
            self.drafted += 1;
        }
        self.horizon_us = self.start_of_record(self.drafted * 1024);
        self.visit = visit;
    }

    /// Beside each clean draft, what goes wrong with it.
    fn add_faults(&mut self, visit: &mut Vec<Draft>) {
        for at in 0..visit.len() {
            let draw = self.faults.draw();
            if self.lates.draw() < self.late_bound {
                visit[at].fault = Fault::Late;
            }
            let fault = match self.fault_bounds.iter().position(|bound| draw < *bound) {
                Some(0) => Fault::Duplicate,
                Some(1) => Fault::Broken,
                Some(_) => Fault::BadField,
                None => continue,
            };
            let mut draft = Draft { fault, ..visit[at] };
            if fault != Fault::Duplicate {
                draft.id = self.shop.next_id();
            }
            visit.push(draft);
        }
    }

    /// Draft visits until the first of the queue is sure to be the next to arrive; when that is.
    fn next_arrival(&mut self) -> Option<i64> {
        loop {
            match self.queue.peek() {
                Some(Reverse(first)) if first.arrives_us <= self.horizon_us || self.finished() => {
                    return Some(first.arrives_us);
                }
                None if self.finished() => return None,
                _ => self.visit(),
            }
        }
    }
}

impl Iterator for Simulator {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.next_arrival()?;
        let Reverse(pending) = self.queue.pop()?;
        self.ledger.enter(&pending.draft);
        Some(render::event(&pending.draft))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self.pace {
            Pace::History { records, .. } => {
                let left = usize::try_from(records - self.ledger.records).unwrap_or(usize::MAX);
                (left, Some(left))
            }
            Pace::Live { .. } => (usize::MAX, None),
        }
    }
}

/// Traffic without end, handed out as its time comes.
#[derive(Debug)]
pub struct Live(Simulator);

impl Live {
    /// The records that have arrived by `now_us` and were not handed out yet, in order; at most
    /// [`DUE_RECORDS_MAX`], the rest with the next call.
    pub fn due(&mut self, now_us: i64) -> Vec<Event> {
        let mut due = Vec::new();
        while due.len() < DUE_RECORDS_MAX && self.0.arrives_by(now_us) {
            due.extend(self.0.next());
        }
        due
    }

    /// What has been handed out so far.
    pub fn ledger(&self) -> Ledger {
        self.0.ledger
    }
}

impl Simulator {
    /// Whether the next record arrives by this instant; drafts no visit that starts after it.
    fn arrives_by(&mut self, now_us: i64) -> bool {
        while self.horizon_us <= now_us && !self.finished() {
            self.visit();
        }
        self.queue.peek().is_some_and(|Reverse(first)| first.arrives_us <= now_us)
    }
}
