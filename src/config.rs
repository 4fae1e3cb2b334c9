//! Settings of the process, read once from the environment; the only reader of it.
//!
//! ```text
//!  environment ──▶ Config::from_env() ──▶ one value, validated, handed down from main
//! ```
//!
//! What a command can say with a flag is a flag; only what belongs to the machine or the terminal stands here.
//! (AWS credentials, region and endpoints are read by the AWS libraries themselves, in their own way.)

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};

/// Bytes of payload that one epoch reads of one source, unless `FLASH_SLICE_BYTES_MAX` says otherwise.
/// A refresh holds a few copies of a slice in different shapes, so this bounds the memory of the process.
pub const SLICE_PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Records that one epoch reads of one source, unless `FLASH_SLICE_RECORDS_MAX` says otherwise.
pub const SLICE_RECORDS_MAX: usize = 250_000;

/// Seconds that removed files stay, unless `FLASH_RETENTION_SECONDS` says otherwise: an hour for a statement, which is its
/// limit, and a quarter for the epoch that is under way when it begins.
pub const RETENTION_SECONDS: usize = 75 * 60;

/// The most that can be asked for: a year.
const RETENTION_SECONDS_MAX: usize = 365 * 24 * 3_600;

/// The least that a slice limit may be set to: one full Kinesis record (10 MiB) must fit.
const SLICE_PAYLOAD_BYTES_MIN: usize = 16 * 1024 * 1024;

/// Stack of each thread. Planning of SQL recurses, and a statement as long as the parser lets it be clones its tree by
/// recursion: about 5 kB for each of 1,000 operators. The default of 2 MiB is short for it.
pub const STACK_BYTES: usize = 8 * 1024 * 1024;

/// Settings of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Colours and moving lines are wanted where the output is a terminal (`NO_COLOR`, `TERM=dumb` switch them off).
    pub color: bool,
    /// Which log lines go to stderr, in the syntax of `tracing` (`FLASH_LOG`, such as `info` or `flashcommerce=debug`).
    pub log: String,
    /// The most bytes of payload that one epoch reads of one source (`FLASH_SLICE_BYTES_MAX`).
    pub slice_payload_bytes_max: usize,
    /// The most records that one epoch reads of one source (`FLASH_SLICE_RECORDS_MAX`).
    pub slice_records_max: usize,
    /// How long files that a commit has removed, and entries of the log, stay for readers of older versions, in milliseconds
    /// (`FLASH_RETENTION_SECONDS`). No query may take longer.
    pub retention_ms: i64,
    /// Where the prompt of `flash sql` keeps its history; `None` where there is no home folder.
    pub history_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            color: true,
            log: "warn,buoyant_kernel=off,delta_kernel=off".into(),
            slice_payload_bytes_max: SLICE_PAYLOAD_BYTES_MAX,
            slice_records_max: SLICE_RECORDS_MAX,
            retention_ms: RETENTION_SECONDS as i64 * 1_000,
            history_file: None,
        }
    }
}

impl Config {
    /// Read the environment of the process.
    ///
    /// # Errors
    /// `Config` for a value that does not mean anything.
    pub fn from_env() -> Result<Self> {
        #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// The same from any lookup, for tests.
    ///
    /// # Errors
    /// As `from_env`.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let default = Self::default();
        Ok(Self {
            color: set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb"),
            log: set("FLASH_LOG").unwrap_or(default.log),
            slice_payload_bytes_max: match set("FLASH_SLICE_BYTES_MAX") {
                Some(text) => at_least("FLASH_SLICE_BYTES_MAX", &text, SLICE_PAYLOAD_BYTES_MIN)?,
                None => default.slice_payload_bytes_max,
            },
            slice_records_max: match set("FLASH_SLICE_RECORDS_MAX") {
                Some(text) => at_least("FLASH_SLICE_RECORDS_MAX", &text, 1)?,
                None => default.slice_records_max,
            },
            retention_ms: match set("FLASH_RETENTION_SECONDS") {
                Some(text) => {
                    let seconds = at_least("FLASH_RETENTION_SECONDS", &text, 1)?.min(RETENTION_SECONDS_MAX);
                    i64::try_from(seconds).unwrap_or(i64::MAX / 1_000) * 1_000
                }
                None => default.retention_ms,
            },
            history_file: set("HOME").map(|home| PathBuf::from(home).join(".flash_history")),
        })
    }
}

fn at_least(name: &str, text: &str, min: usize) -> Result<usize> {
    match text.replace('_', "").parse() {
        Ok(number) if number >= min => Ok(number),
        _ => Err(Error::new(ErrorKind::Config, format!("{name} is \"{text}\""))
            .with_hint(format!("set it to a whole number of at least {min}, or leave it out"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<Config> {
        let pairs: Vec<(String, String)> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Config::from_lookup(|name| pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    }

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        assert_eq!(config(&[]).unwrap(), Config::default());
        assert_eq!(config(&[("NO_COLOR", ""), ("FLASH_SLICE_RECORDS_MAX", "")]).unwrap(), Config::default());
    }

    #[test]
    fn colours_are_switched_off_by_no_color_and_a_dumb_terminal() {
        assert!(!config(&[("NO_COLOR", "1")]).unwrap().color);
        assert!(!config(&[("TERM", "dumb")]).unwrap().color);
        assert!(config(&[("TERM", "xterm")]).unwrap().color);
    }

    #[test]
    fn limits_are_checked() {
        assert_eq!(config(&[("FLASH_SLICE_RECORDS_MAX", "1_000")]).unwrap().slice_records_max, 1000);
        assert_eq!(config(&[("FLASH_RETENTION_SECONDS", "2")]).unwrap().retention_ms, 2_000);
        for (name, value) in [
            ("FLASH_RETENTION_SECONDS", "0"),
            ("FLASH_SLICE_RECORDS_MAX", "0"),
            ("FLASH_SLICE_BYTES_MAX", "1000"),
            ("FLASH_SLICE_BYTES_MAX", "x"),
        ] {
            let error = config(&[(name, value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains(name));
        }
    }
}
