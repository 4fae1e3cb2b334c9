//! Where a source reads from, as the user says it: a location with options in SQL, or an override on the command line.
//!
//! ```text
//!  STORED AS KINESIS LOCATION 'kinesis://ap-south-1/E_com' OPTIONS ('start' 'latest')  ─┐
//!  STORED AS JSONL   LOCATION '/data/events'                                            ├─▶ SourceSpec ─▶ open()
//!  --source raw.events=jsonl:PATH  |  kinesis:STREAM                                    ─┘
//! ```

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};

/// The `STORED AS` of an external table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An Amazon Kinesis data stream.
    Kinesis,
    /// Files with one record a line.
    Jsonl,
}

/// What [`super::open`] opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// An Amazon Kinesis data stream.
    Kinesis(KinesisSpec),
    /// Files with one record a line.
    Files(FilesSpec),
}

/// Where a first start begins. Later starts go on from the stored positions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// The oldest record that is still held.
    #[default]
    TrimHorizon,
    /// What comes from now on.
    Latest,
    /// The first record that arrived at or after this instant, in milliseconds since 1970 UTC.
    AtTimestamp(i64),
}

/// What to do when records are gone before they were read. They are written down in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDataLoss {
    /// Stop.
    #[default]
    Fail,
    /// Go on behind the gap.
    Continue,
}

/// A Kinesis data stream. Region, endpoint and credentials come from the environment, the AWS way, where they
/// aren't given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KinesisSpec {
    /// Name or ARN.
    pub stream: String,
    /// The AWS region.
    pub region: Option<String>,
    /// The endpoint to speak to instead of the region's own.
    pub endpoint_url: Option<String>,
    /// Where a first start begins.
    pub start: Start,
    /// What to do when records are gone before they were read.
    pub on_data_loss: OnDataLoss,
    /// The part of what Kinesis grants to all readers of a shard that this one takes, in percent, from 1 to 100.
    pub read_percent: u32,
    /// The enhanced fan-out consumer to read through, which is registered where there is none; polling without one.
    pub consumer: Option<String>,
}

impl Default for KinesisSpec {
    fn default() -> Self {
        Self {
            stream: String::new(),
            region: None,
            endpoint_url: None,
            start: Start::default(),
            on_data_loss: OnDataLoss::default(),
            read_percent: 100,
            consumer: None,
        }
    }
}

/// Files with one record a line, plain or compressed with gzip or zstd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesSpec {
    /// A folder (read recursively), a single file, or `s3://bucket/prefix`.
    pub location: String,
}

const KINESIS_OPTIONS: [&str; 6] = ["start", "region", "endpoint_url", "on_data_loss", "read_share", "consumer"];

impl SourceSpec {
    /// From `STORED AS format LOCATION 'location' OPTIONS (...)`.
    ///
    /// # Errors
    /// `Definition` for a location or an option that isn't understood.
    pub fn from_location(format: Format, location: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let known: &[&str] = match format {
            Format::Kinesis => &KINESIS_OPTIONS,
            Format::Jsonl => &[],
        };
        if let Some(option) = options.keys().find(|option| !known.contains(&option.as_str())) {
            let name = if format == Format::Kinesis { "KINESIS" } else { "JSONL" };
            let hint = match known {
                [] => "a JSONL table has no options".to_string(),
                known => format!("the options of a KINESIS table are {}", known.join(", ")),
            };
            return Err(
                Error::new(ErrorKind::Definition, format!("a {name} table has no option \"{option}\"")).with_hint(hint)
            );
        }
        match format {
            Format::Kinesis => {
                let mut spec = parse_kinesis(location)?;
                if let Some(region) = options.get("region") {
                    spec.region = Some(region.clone());
                }
                spec.endpoint_url = options.get("endpoint_url").cloned();
                if let Some(start) = options.get("start") {
                    spec.start = parse_start(start)?;
                }
                if let Some(policy) = options.get("on_data_loss") {
                    spec.on_data_loss = parse_on_data_loss(policy)?;
                }
                if let Some(share) = options.get("read_share") {
                    spec.read_percent = parse_read_share(share)?;
                }
                spec.consumer = options.get("consumer").map(|name| parse_consumer(name)).transpose()?;
                Ok(Self::Kinesis(spec))
            }
            Format::Jsonl if location.is_empty() => {
                Err(Error::new(ErrorKind::Definition, "a JSONL table needs a location")
                    .with_hint("LOCATION '/data/events', LOCATION 'events.jsonl' or LOCATION 's3://bucket/prefix'"))
            }
            Format::Jsonl => Ok(Self::Files(FilesSpec { location: location.to_string() })),
        }
    }

    /// From the command line's `jsonl:PATH` or `kinesis:STREAM`.
    ///
    /// # Errors
    /// `Config` for anything else.
    pub fn from_override(spec: &str) -> Result<Self> {
        match spec.split_once(':') {
            Some(("jsonl", path)) if !path.is_empty() => Ok(Self::Files(FilesSpec { location: path.to_string() })),
            Some(("kinesis", stream)) if stream.starts_with("//") => parse_kinesis(spec).map(Self::Kinesis),
            Some(("kinesis", stream)) if !stream.is_empty() => parse_kinesis(stream).map(Self::Kinesis),
            _ => Err(Error::new(ErrorKind::Config, format!("\"{spec}\" is not a source"))
                .with_hint("write jsonl:PATH, kinesis:STREAM or kinesis://REGION/STREAM")),
        }
    }
}

/// `kinesis://region/stream`, `kinesis://stream`, a stream's ARN, or its bare name.
fn parse_kinesis(location: &str) -> Result<KinesisSpec> {
    let (region, stream) = match location.strip_prefix("kinesis://") {
        Some(rest) => match rest.split_once('/') {
            Some((region, stream)) => (Some(region).filter(|region| !region.is_empty()), stream),
            None => (None, rest),
        },
        None => (None, location),
    };
    let from_arn = arn_parts(stream).map(|(region, _)| region);
    let name = arn_parts(stream).map_or(stream, |(_, name)| name);
    if !is_name(name) {
        return Err(Error::new(ErrorKind::Definition, format!("\"{location}\" does not name a Kinesis stream"))
            .with_hint("write kinesis://region/stream, such as kinesis://ap-south-1/E_com"));
    }
    let region = region.or(from_arn).map(str::to_string);
    Ok(KinesisSpec { stream: stream.to_string(), region, ..KinesisSpec::default() })
}

/// A name of a stream or of a consumer.
fn is_name(name: &str) -> bool {
    let may_be = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=128).contains(&name.len()) && name.chars().all(may_be)
}

/// Region and stream name of `arn:aws:kinesis:REGION:ACCOUNT:stream/NAME`.
fn arn_parts(text: &str) -> Option<(&str, &str)> {
    let mut parts = text.strip_prefix("arn:")?.splitn(5, ':');
    let (_partition, service, region, _account) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let name = parts.next()?.strip_prefix("stream/")?;
    (service == "kinesis").then_some((region, name))
}

impl KinesisSpec {
    /// The stream's name, without the rest of an ARN.
    pub fn name(&self) -> &str {
        arn_parts(&self.stream).map_or(self.stream.as_str(), |(_, name)| name)
    }

    /// The stream's ARN, where it was given as one.
    pub fn arn(&self) -> Option<&str> {
        arn_parts(&self.stream).map(|_| self.stream.as_str())
    }
}

/// `trim_horizon`, `latest`, or an RFC 3339 instant.
fn parse_start(text: &str) -> Result<Start> {
    match text.to_ascii_lowercase().as_str() {
        "trim_horizon" => Ok(Start::TrimHorizon),
        "latest" => Ok(Start::Latest),
        _ => match chrono::DateTime::parse_from_rfc3339(text) {
            Ok(instant) => Ok(Start::AtTimestamp(instant.timestamp_millis())),
            Err(_) => Err(Error::new(ErrorKind::Definition, format!("option start does not take '{text}'"))
                .with_hint("'trim_horizon', 'latest', or an instant such as '2026-11-22T09:00:00Z'")),
        },
    }
}

/// `'40 %'`, or `'40'`.
fn parse_read_share(text: &str) -> Result<u32> {
    match text.trim_end_matches('%').trim().parse() {
        Ok(percent) if (1..=100).contains(&percent) => Ok(percent),
        _ => Err(Error::new(ErrorKind::Definition, format!("option read_share does not take '{text}'"))
            .with_hint("a percentage of what Kinesis grants to all readers of a shard, from '1 %' to '100 %'")),
    }
}

fn parse_consumer(name: &str) -> Result<String> {
    if is_name(name) {
        return Ok(name.to_string());
    }
    Err(Error::new(ErrorKind::Definition, format!("option consumer does not take '{name}'"))
        .with_hint("the name of an enhanced fan-out consumer: up to 128 letters, digits, '_', '.' and '-'"))
}

fn parse_on_data_loss(text: &str) -> Result<OnDataLoss> {
    match text.to_ascii_lowercase().as_str() {
        "fail" => Ok(OnDataLoss::Fail),
        "continue" => Ok(OnDataLoss::Continue),
        _ => Err(Error::new(ErrorKind::Definition, format!("option on_data_loss does not take '{text}'"))
            .with_hint("'fail' stops, 'continue' goes on behind the gap; both write it into system.data_loss")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinesis(location: &str, options: &[(&str, &str)]) -> Result<SourceSpec> {
        let options = options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        SourceSpec::from_location(Format::Kinesis, location, &options)
    }

    fn spec(stream: &str, region: Option<&str>) -> SourceSpec {
        SourceSpec::Kinesis(KinesisSpec {
            stream: stream.into(),
            region: region.map(str::to_string),
            ..KinesisSpec::default()
        })
    }

    #[test]
    fn locations() {
        let arn = "arn:aws:kinesis:ap-south-1:123456789012:stream/E_com";
        assert_eq!(kinesis("kinesis://ap-south-1/E_com", &[]).unwrap(), spec("E_com", Some("ap-south-1")));
        assert_eq!(kinesis("kinesis://E_com", &[]).unwrap(), spec("E_com", None));
        assert_eq!(kinesis("E_com", &[]).unwrap(), spec("E_com", None));
        assert_eq!(kinesis(arn, &[]).unwrap(), spec(arn, Some("ap-south-1")));
        let SourceSpec::Kinesis(parsed) = kinesis(arn, &[]).unwrap() else { panic!("not a stream") };
        assert_eq!((parsed.name(), parsed.arn()), ("E_com", Some(arn)));
        for wrong in ["", "kinesis://", "kinesis://ap-south-1/", "kinesis://ap-south-1/a b", "s3://bucket/x"] {
            assert_eq!(kinesis(wrong, &[]).unwrap_err().kind(), ErrorKind::Definition, "{wrong}");
        }
    }

    #[test]
    fn options() {
        let start = |text| match kinesis("E_com", &[("start", text)]) {
            Ok(SourceSpec::Kinesis(spec)) => Ok(spec.start),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(start("trim_horizon"), Ok(Start::TrimHorizon));
        assert_eq!(start("LATEST"), Ok(Start::Latest));
        assert_eq!(start("1970-01-01T00:00:01Z"), Ok(Start::AtTimestamp(1000)));
        assert!(start("yesterday").unwrap_err().contains("'trim_horizon'"));
        let error = kinesis("E_com", &[("strat", "latest")]).unwrap_err();
        assert_eq!(error.message(), "a KINESIS table has no option \"strat\"");
        assert_eq!(
            error.hint(),
            Some("the options of a KINESIS table are start, region, endpoint_url, on_data_loss, read_share, consumer")
        );
        let share = |text| match kinesis("E_com", &[("read_share", text)]) {
            Ok(SourceSpec::Kinesis(spec)) => Some(spec.read_percent),
            _ => None,
        };
        assert_eq!(
            ["40 %", "7%", "100", "0 %", "101", "much"].map(share),
            [Some(40), Some(7), Some(100), None, None, None]
        );
        let SourceSpec::Kinesis(spec) = kinesis("E_com", &[("consumer", "flash")]).unwrap() else { panic!() };
        assert_eq!(spec.consumer.as_deref(), Some("flash"));
        assert!(kinesis("E_com", &[("consumer", "a b")]).unwrap_err().message().ends_with("does not take 'a b'"));
        let SourceSpec::Kinesis(spec) = kinesis("E_com", &[("on_data_loss", "Continue")]).unwrap() else { panic!() };
        assert_eq!(spec.on_data_loss, OnDataLoss::Continue);
        assert!(kinesis("E_com", &[("on_data_loss", "skip")]).unwrap_err().hint().unwrap().contains("'continue'"));
        let options = BTreeMap::from([("start".to_string(), "latest".to_string())]);
        assert!(SourceSpec::from_location(Format::Jsonl, "/data", &options).is_err());
    }

    #[test]
    fn overrides() {
        let files = |location: &str| SourceSpec::Files(FilesSpec { location: location.into() });
        assert_eq!(SourceSpec::from_override("jsonl:/data/a:b.jsonl").unwrap(), files("/data/a:b.jsonl"));
        assert_eq!(SourceSpec::from_override("jsonl:s3://bucket/x").unwrap(), files("s3://bucket/x"));
        assert_eq!(SourceSpec::from_override("kinesis:E_com").unwrap(), spec("E_com", None));
        assert_eq!(SourceSpec::from_override("kinesis://r/E_com").unwrap(), spec("E_com", Some("r")));
        for wrong in ["", "jsonl:", "kinesis:", "csv:x", "E_com"] {
            assert_eq!(SourceSpec::from_override(wrong).unwrap_err().kind(), ErrorKind::Config, "{wrong}");
        }
    }
}
