//! What a demo lake was begun with. It goes on with that: another seed would put other events beside the ones that
//! have landed.

use serde::{Deserialize, Serialize};

use crate::cli::terminal::{Terminal, grouped};
use crate::error::{Error, ErrorKind, Result};
use crate::simulator::{Rates, SimulatorOptions};
use crate::storage::Storage;

/// Where it is kept, below the lake's root.
const PATH: &str = "_flash/demo.json";

/// The stored form of `SimulatorOptions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Settings {
    events: u64,
    seed: u64,
    profile: String,
    duplicates: f64,
    broken: f64,
    bad_fields: f64,
    late: f64,
    end_us: i64,
}

impl Settings {
    fn of(options: &SimulatorOptions) -> Self {
        let Rates { duplicates, broken, bad_fields, late } = options.rates;
        let profile = options.profile.to_string();
        let (events, seed, end_us) = (options.events, options.seed, options.end_us);
        Self { events, seed, profile, duplicates, broken, bad_fields, late, end_us }
    }

    fn options(&self) -> Result<SimulatorOptions> {
        let (duplicates, broken, bad_fields, late) = (self.duplicates, self.broken, self.bad_fields, self.late);
        Ok(SimulatorOptions {
            events: self.events,
            seed: self.seed,
            profile: self.profile.parse()?,
            rates: Rates { duplicates, broken, bad_fields, late },
            end_us: self.end_us,
        })
    }
}

/// The options that this lake goes on with: those of its first start.
///
/// # Errors
/// `Storage`; `Corrupt` for a record that is not understood; `Config` for a lake of another kind.
pub(super) async fn of_lake(
    storage: &dyn Storage,
    wanted: &SimulatorOptions,
    terminal: Terminal,
) -> Result<SimulatorOptions> {
    let own = Settings::of(wanted);
    let bytes = match storage.get(PATH).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            begin(storage, &own).await?;
            storage.get(PATH).await?
        }
        Err(error) => return Err(error),
    };
    let stored: Settings = serde_json::from_slice(&bytes).map_err(|error| Error::from(error).context(PATH))?;
    if stored != own {
        terminal.warn(&format!(
            "this lake was begun with --events {} --seed {} and goes on with them; name another --lake for a new start",
            grouped(stored.events).replace(',', ""),
            stored.seed
        ));
    }
    stored.options().map_err(|error| error.context(PATH))
}

/// Write the settings down for a lake that has none: it must be new.
async fn begin(storage: &dyn Storage, own: &Settings) -> Result<()> {
    if !storage.list_newest("_flash/definitions", 1).await?.is_empty() {
        return Err(Error::new(ErrorKind::Config, "this lake was not begun by `flash demo`")
            .with_hint("name another folder with --lake; the demo would put its events among yours"));
    }
    // Lost to another start: its settings are read back.
    storage.put_if_absent(PATH, serde_json::to_vec_pretty(own)?).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::Profile;

    #[test]
    fn settings_come_back_as_they_went() {
        let mut options = SimulatorOptions::new(1_234, 56, Profile::Faulty);
        options.rates.late = 0.0125;
        let bytes = serde_json::to_vec(&Settings::of(&options)).unwrap();
        let back: Settings = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(back.options().unwrap(), options);
    }
}
