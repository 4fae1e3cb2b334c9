//! `flash simulate`: shopping events into a file, or into a Kinesis stream.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::builder::RangedU64ValueParser;
use futures::{StreamExt, stream};
use indicatif::ProgressBar;
use md5::{Digest, Md5};
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::serve;
use super::terminal::grouped;
use super::traffic::{self, Flags};
use crate::error::{Error, ErrorKind, Result};
use crate::simulator::Simulator;
use crate::source::KinesisSpec;
use crate::source::producer::{Accepted, Producer};

/// Records between two looks at the progress bar and at Ctrl-C.
const STEP_RECORDS: u64 = 1_000;

/// How often surges come, and how long they last, in seconds.
const MINUTE_S: u64 = 60;
const SURGE_S: u64 = 10;

/// Room between the simulator and the file, in bytes.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Flags of `flash simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    traffic: Flags,
    /// Write one record a line to this file; - is stdout
    #[arg(long, value_name = "FILE.jsonl", conflicts_with = "stream", required_unless_present = "stream")]
    out: Option<PathBuf>,
    /// Put the records into this Kinesis stream; region and credentials are found the AWS way
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Where Kinesis is, unless AWS_ENDPOINT_URL or the region say so
    #[arg(long, value_name = "URL", requires = "stream")]
    endpoint_url: Option<String>,
    /// Write what the stream accepted to this file: shard_id, sequence_number, partition_key and the MD5 of the bytes of
    /// each record, one JSON object a line
    #[arg(long, value_name = "FILE.jsonl", requires = "stream")]
    ledger: Option<PathBuf>,
    /// Put so many records a second, instead of as many as the stream takes
    #[arg(long, value_name = "N", requires = "stream", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    rate: Option<u32>,
    /// Surges: for ten seconds of every minute, so many times the rate
    #[arg(long, value_name = "TIMES", requires = "rate", default_value_t = 1, value_parser = RangedU64ValueParser::<u32>::new().range(1..=1000))]
    surge: u32,
    /// Print what was made as one JSON object
    #[arg(long)]
    json: bool,
}

/// Make the events.
///
/// # Errors
/// `Storage` for the file, `Source` and `Transient` for the stream, `Cancelled` after Ctrl-C.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let options = args.traffic.options()?;
    let terminal = context.terminal;
    let stop = serve::shutdown_on_signals(terminal)?;
    let mut simulator = Simulator::new(options);
    let bar = traffic::bar(terminal, args.traffic.events, "simulating");
    let started = Instant::now();
    let result = match (&args.out, args.stream) {
        (Some(path), _) => tokio::task::block_in_place(|| to_file(path, &mut simulator, &bar, &stop)),
        (None, Some(stream)) => {
            let spec = KinesisSpec { stream, endpoint_url: args.endpoint_url, ..KinesisSpec::default() };
            let rate = args.rate.map(|per_second| Rate { per_second, surge: args.surge });
            to_stream(&spec, &mut simulator, &bar, &stop, (rate, args.ledger.as_deref())).await
        }
        (None, None) => {
            Err(Error::new(ErrorKind::Config, "nowhere to put the events").with_hint("give --out or --stream"))
        }
    };
    bar.finish_and_clear();
    result?;

    let ledger = simulator.ledger();
    let seconds = started.elapsed().as_secs_f64();
    terminal.say(&traffic::ledger_text(&ledger));
    let rate = ledger.records as f64 / seconds.max(0.001);
    terminal.say(&format!("{seconds:.1} s, {} records a second", grouped(rate as u64)));
    if args.json {
        let mut object = traffic::ledger_json(&ledger);
        if let Some(map) = object.as_object_mut() {
            map.insert("seconds".into(), json!(seconds));
        }
        terminal.data(&object.to_string())?;
    }
    if stop.is_cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "stopped before all records were made"));
    }
    Ok(())
}

fn to_file(path: &Path, events: &mut Simulator, bar: &ProgressBar, stop: &CancellationToken) -> Result<()> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => super::terminal::closed(error),
        _ => not_written(path, &error),
    };
    let out: Box<dyn Write> = if path == Path::new("-") {
        Box::new(std::io::stdout().lock())
    } else {
        Box::new(File::create(path).map_err(failed)?)
    };
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
    for (at, event) in (1_u64..).zip(events) {
        out.write_all(event.json.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(failed)?;
        if at.is_multiple_of(STEP_RECORDS) {
            bar.set_position(at);
            if stop.is_cancelled() {
                break;
            }
        }
    }
    out.flush().map_err(failed)
}

async fn to_stream(
    spec: &KinesisSpec,
    events: &mut Simulator,
    bar: &ProgressBar,
    stop: &CancellationToken,
    (rate, ledger): (Option<Rate>, Option<&Path>),
) -> Result<()> {
    let mut producer = Producer::connect(spec).await?;
    let accepted = ledger.map(Accepts::create).transpose()?;
    if let Some(accepted) = accepted.clone() {
        producer = producer.noting(move |record| accepted.enter(record));
    }
    let records = (1_u64..).zip(events).take_while(|_| !stop.is_cancelled()).map(|(at, event)| {
        if at.is_multiple_of(STEP_RECORDS) {
            bar.set_position(at);
        }
        (at, (event.partition_key, Bytes::from(event.json)))
    });
    let begun = tokio::time::Instant::now();
    let paced = stream::iter(records).then(async |(at, record)| {
        if let Some(due) = rate.map(|rate| begun + rate.due(at)).filter(|due| *due > tokio::time::Instant::now()) {
            tokio::time::sleep_until(due).await;
        }
        record
    });
    producer.put_all(paced).await?;
    accepted.map_or(Ok(()), |accepted| accepted.close())
}

/// How fast records are put.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: u32,
    /// For ten seconds of every minute, so many times as fast.
    surge: u32,
}

impl Rate {
    /// When a record is put, counted from 1, after the first.
    fn due(self, record: u64) -> Duration {
        let calm = (MINUTE_S - SURGE_S) * u64::from(self.per_second);
        let surging = SURGE_S * u64::from(self.per_second) * u64::from(self.surge);
        let (minutes, within) = ((record - 1) / (calm + surging), (record - 1) % (calm + surging));
        let per_second = f64::from(self.per_second);
        let seconds = match within.checked_sub(calm) {
            None => within as f64 / per_second,
            Some(within) => (MINUTE_S - SURGE_S) as f64 + within as f64 / per_second / f64::from(self.surge),
        };
        Duration::from_secs(minutes * MINUTE_S) + Duration::from_secs_f64(seconds)
    }
}

/// The file of accepted records.
#[derive(Clone)]
struct Accepts {
    path: PathBuf,
    /// The file, or why it could not be written.
    out: Arc<Mutex<std::io::Result<BufWriter<File>>>>,
}

impl Accepts {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|error| not_written(path, &error))?;
        let out = Ok(BufWriter::with_capacity(BUFFER_BYTES, file));
        Ok(Self { path: path.to_path_buf(), out: Arc::new(Mutex::new(out)) })
    }

    fn enter(&self, record: Accepted<'_>) {
        let line = json!({
            "shard_id": record.shard_id,
            "sequence_number": record.sequence_number,
            "partition_key": record.key,
            "md5": format!("{:x}", Md5::digest(record.data)),
        });
        let mut out = self.out.lock();
        if let Ok(file) = out.as_mut()
            && let Err(error) = writeln!(file, "{line}")
        {
            *out = Err(error);
        }
    }

    fn close(&self) -> Result<()> {
        let mut out = self.out.lock();
        let closed = match out.as_mut() {
            Ok(file) => file.flush(),
            Err(error) => Err(std::io::Error::from(error.kind())),
        };
        closed.map_err(|error| not_written(&self.path, &error))
    }
}

fn not_written(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Storage, format!("{} cannot be written", path.display())).with_detail(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_their_rate() {
        let due = |rate: Rate, record| rate.due(record).as_secs_f64();
        let even = Rate { per_second: 100, surge: 1 };
        assert_eq!([1, 101, 6_001, 12_051].map(|record| due(even, record)), [0.0, 1.0, 60.0, 120.5]);
        // 50 seconds at 100, then 10 at 2,000: 25,000 records a minute.
        let surging = Rate { per_second: 100, surge: 20 };
        let times = [1, 5_001, 7_001, 24_999, 25_001, 25_101].map(|record| due(surging, record));
        assert_eq!(times, [0.0, 50.0, 51.0, 59.999, 60.0, 61.0]);
    }
}
