//! What `flash demo` and `flash simulate` share: the flags of the simulated store, and its ledger as text.

use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::progress;
use super::terminal::{Terminal, grouped};
use crate::error::{Error, ErrorKind, Result};
use crate::simulator::{EVENTS_DEFAULT, Ledger, Profile, Rates, SimulatorOptions};

/// The most records of one run: beyond it a 28-day history is no history any more.
const EVENTS_MAX: u64 = 10_000_000_000;

/// The seed unless another is given.
pub const SEED_DEFAULT: u64 = 1;

/// Flags of the simulated store.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// Records of the history, faulty ones too; revenue and profit are in proportion
    #[arg(long, value_name = "N", default_value_t = EVENTS_DEFAULT, value_parser = RangedU64ValueParser::<u64>::new().range(1..=EVENTS_MAX))]
    pub events: u64,
    /// Every seed gives other traffic; the same seed gives the same bytes
    #[arg(long, value_name = "S", default_value_t = SEED_DEFAULT)]
    pub seed: u64,
    /// How faulty the traffic is: default (0.5 % duplicates, 0.2 % broken, 0.3 % bad fields, 1 % late),
    /// faulty (1 % each), clean
    #[arg(long, value_name = "P", default_value_t = Profile::Default)]
    pub profile: Profile,
    /// Duplicates, in percent of the records
    #[arg(long, value_name = "PCT", hide = true)]
    duplicates: Option<f64>,
    /// Records that are not JSON, in percent
    #[arg(long, value_name = "PCT", hide = true)]
    broken: Option<f64>,
    /// Records with a missing or impossible value, in percent
    #[arg(long, value_name = "PCT", hide = true)]
    bad_fields: Option<f64>,
    /// Records that arrive late, in percent
    #[arg(long, value_name = "PCT", hide = true)]
    late: Option<f64>,
}

impl Flags {
    /// What the simulator is given.
    ///
    /// # Errors
    /// `Config` for a rate that is no percentage.
    pub fn options(&self) -> Result<SimulatorOptions> {
        let mut options = SimulatorOptions::new(self.events, self.seed, self.profile);
        let Rates { duplicates, broken, bad_fields, late } = options.rates;
        options.rates = Rates {
            duplicates: share("--duplicates", self.duplicates, duplicates)?,
            broken: share("--broken", self.broken, broken)?,
            bad_fields: share("--bad-fields", self.bad_fields, bad_fields)?,
            late: share("--late", self.late, late)?,
        };
        Ok(options)
    }
}

fn share(flag: &str, percent: Option<f64>, default: f64) -> Result<f64> {
    match percent {
        None => Ok(default),
        Some(percent) if (0.0..=50.0).contains(&percent) => Ok(percent / 100.0),
        Some(percent) => Err(Error::new(ErrorKind::Config, format!("{flag} {percent} is out of range"))
            .with_hint("give a percentage between 0 and 50")),
    }
}

/// What the simulator handed out, for people.
pub fn ledger_text(ledger: &Ledger) -> String {
    format!(
        "{} records: {} good ({} of them late), {} duplicates, {} broken, {} with bad fields",
        grouped(ledger.records),
        grouped(ledger.clean),
        grouped(ledger.late),
        grouped(ledger.duplicates),
        grouped(ledger.broken),
        grouped(ledger.bad_fields)
    )
}

/// What the simulator handed out, for programs; money in rupees.
pub fn ledger_json(ledger: &Ledger) -> serde_json::Value {
    json!({
        "records": ledger.records,
        "clean": ledger.clean,
        "duplicates": ledger.duplicates,
        "broken": ledger.broken,
        "bad_fields": ledger.bad_fields,
        "late": ledger.late,
        "views": ledger.views,
        "carts": ledger.carts,
        "purchases": ledger.purchases,
        "revenue": ledger.revenue_paise as f64 / 100.0,
        "profit": ledger.profit_paise as f64 / 100.0,
    })
}

/// A progress bar over records.
pub fn bar(terminal: Terminal, records: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(records), progress::target(terminal));
    let template = "  {prefix}  {bar:32}  {human_pos} of {human_len}  {per_sec}  {eta} left  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar.set_prefix(what.to_string());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(late: Option<f64>) -> Flags {
        let (duplicates, broken, bad_fields) = (Some(1.0), None, Some(0.0));
        Flags { events: 10, seed: 3, profile: Profile::Default, duplicates, broken, bad_fields, late }
    }

    #[test]
    fn rates_are_percentages_over_the_profile() {
        let options = flags(Some(50.0)).options().unwrap();
        let default = Profile::Default.rates();
        assert_eq!(options.rates, Rates { duplicates: 0.01, broken: default.broken, bad_fields: 0.0, late: 0.5 });
        assert_eq!((options.events, options.seed), (10, 3));
        assert_eq!(flags(Some(51.0)).options().unwrap_err().kind(), ErrorKind::Config);
        assert_eq!(flags(Some(f64::NAN)).options().unwrap_err().kind(), ErrorKind::Config);
    }
}
