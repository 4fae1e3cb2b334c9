//! `flash demo`: an online store end to end on this machine, with nothing to prepare.
//!
//! ```text
//!  simulator ──▶ producer ──▶ embedded Kinesis ──▶ bronze ─▶ silver ─▶ gold ──▶ figures, Flight SQL, HTTP
//!
//!  1 history   put at full speed, what has landed before left out     the scheduler works meanwhile
//!  2 rest      passes until nothing is held by the stream any more
//!  3 figures   from the gold views; the books must close              --once ends here
//!  4 live      traffic at a lifelike pace, one line of status         until a signal
//! ```

mod history;
mod live;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::figures::{Books, Figures};
use super::progress::Progress;
use super::serve::{self, Addresses};
use super::terminal::{Look, Terminal, grouped};
use super::traffic::{self, Flags};
use super::{Context, lake};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::project::embedded::embedded;
use crate::scheduler::{self, ScheduleOptions};
use crate::simulator::SimulatorOptions;
use crate::source::embedded::{EmbeddedKinesis, EmbeddedOptions};

/// The lake of the demo where none is named: in the working folder, so that a second start goes on from it.
const LAKE: &str = "flash-demo";

/// Records that the embedded stream holds at most; the producer waits for room.
const HELD_RECORDS_MAX: u64 = 150_000;

/// Rounds of passes until the stream is empty; each takes what is there.
const ROUNDS_MAX: u32 = 1_000;

/// Flags of `flash demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The lake: a folder, or s3://bucket/prefix. A second start on the same lake goes on from it
    #[arg(long, value_name = "DIR", default_value = LAKE)]
    lake: String,
    #[command(flatten)]
    traffic: Flags,
    #[command(flatten)]
    serving: serve::Flags,
    /// Load the history, refresh everything, print the key figures, and end
    #[arg(long)]
    once: bool,
    /// Print the key figures as one JSON object
    #[arg(long)]
    json: bool,
}

/// A demo under way.
struct Demo {
    terminal: Terminal,
    engine: Arc<Engine>,
    stream: EmbeddedKinesis,
    options: SimulatorOptions,
    shutdown: CancellationToken,
}

/// Run the demo.
///
/// # Errors
/// As `flash run`; `Internal` when the books do not close.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let terminal = context.terminal;
    let wanted = args.traffic.options()?;
    let listeners = args.serving.bind(args.once).await?;
    let storage = lake::storage(context, &args.lake).await?;
    let options = settings::of_lake(storage.as_ref(), &wanted, terminal).await?;
    let stream = EmbeddedKinesis::start(EmbeddedOptions::default()).await?;
    let sources = BTreeMap::from([(TableName::new("raw", "events"), stream.source())]);
    let engine = lake::open_with_storage(context, storage, sources).await?;
    engine.apply(&embedded()?).await?;
    let shutdown = serve::shutdown_on_signals(terminal)?;
    let addresses = listeners.addresses();
    let servers = listeners.start(&engine, &shutdown)?;
    let demo = Demo { terminal, engine, stream, options, shutdown: shutdown.clone() };
    let result = demo.run(&args, addresses).await;
    shutdown.cancel();
    demo.engine.finish_maintenance().await;
    result.and(servers.join().await)
}

impl Demo {
    async fn run(&self, args: &Args, addresses: Addresses) -> Result<()> {
        // What an unfinished epoch had landed must be counted too, or it would be put again.
        self.engine.recover().await?;
        let landed = history::Landed::count(&self.engine).await?;
        if landed.records() > 0 {
            let count = grouped(landed.records());
            self.terminal.say(&format!("going on with {}: {count} records have landed before", args.lake));
        }
        let put = landed.records() + self.history(landed).await?;
        if self.shutdown.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "stopped before the history was loaded")
                .with_hint("the next start on the same lake goes on from here"));
        }
        let figures = Figures::read(&self.engine).await?;
        let books = Books::read(&self.engine, put).await?;
        self.show(&figures, &books, args.json)?;
        if !books.close() {
            return Err(Error::new(ErrorKind::Internal, "the books do not close").with_detail(books.text()));
        }
        if args.once {
            return Ok(());
        }
        self.terminal.say(&connect_text(&self.terminal, &args.lake, addresses));
        live::run(self).await
    }

    /// Put the history and refresh meanwhile, until everything has landed; the records that were put.
    async fn history(&self, landed: history::Landed) -> Result<u64> {
        let bar = traffic::bar(self.terminal, self.options.events, "loading the history");
        let loaded = self.shutdown.child_token();
        let putting = async {
            let put = history::put(self, landed, &bar).await?;
            loaded.cancel();
            Ok(put)
        };
        let mut progress = Progress::default();
        let refreshing = scheduler::run(self.engine.clone(), ScheduleOptions::default(), loaded.clone(), |pass| {
            if progress.note(pass) {
                bar.set_message(format!("epoch {}", progress.epoch));
            }
        });
        let result: Result<(u64, ())> = tokio::try_join!(putting, refreshing);
        let (put, ()) = result?;
        bar.set_message("refreshing the last views");
        self.rest().await?;
        bar.finish_and_clear();
        Ok(put)
    }

    /// Passes until all that was put is published.
    async fn rest(&self) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            let options = ScheduleOptions { until_caught_up: true };
            scheduler::run(self.engine.clone(), options, self.shutdown.clone(), |_| {}).await?;
            if self.stream.retained_records() == 0 || self.shutdown.is_cancelled() {
                return Ok(());
            }
        }
        let left = grouped(self.stream.retained_records());
        Err(Error::new(ErrorKind::Internal, format!("{left} records stay in the stream")))
    }

    fn show(&self, figures: &Figures, books: &Books, json: bool) -> Result<()> {
        if json {
            return self.terminal.data(&serde_json::to_string_pretty(&figures.json(books))?);
        }
        self.terminal.say(&format!("\n{}\n", figures.text(&self.terminal)));
        self.terminal.say(&self.terminal.paint(Look::Faint, &format!("  {}", books.text())));
        Ok(())
    }
}

/// Where to connect, and with what.
fn connect_text(terminal: &Terminal, lake: &str, addresses: Addresses) -> String {
    let strong = |text: &str| terminal.paint(Look::Strong, text);
    let mut lines = vec![String::new()];
    if let (Some(at), Some(url)) = (addresses.flight, addresses.flight_url()) {
        lines.push(format!("  {}  {url}", strong("Flight SQL")));
        lines.push(format!("    SQL     flash sql --server {url} -c 'SELECT * FROM gold.top_products'"));
        lines.push(format!("    JDBC    jdbc:arrow-flight-sql://{at}/?useEncryption={}", addresses.secure));
        lines.push("    Python  pip install adbc-driver-flightsql pyarrow".into());
        lines.push("            from adbc_driver_flightsql import dbapi".into());
        lines.push(format!("            with dbapi.connect(\"{url}\") as c, c.cursor() as q:"));
        lines.push("                print(q.execute(\"SELECT * FROM gold.kpis\").fetch_arrow_table())".into());
    }
    if let Some(url) = addresses.http_url() {
        lines.push(format!("  {}  {url}", strong("dashboard")));
        lines.push(format!("    HTTP    curl {url}v1/sql -d 'SELECT * FROM gold.kpis'"));
    }
    lines.push(format!("  {}  {lake}/<schema>/<view>, Delta tables for any reader", strong("the lake")));
    lines.push(format!(
        "    status  flash status --lake {lake}        Ctrl-C stops; the next start goes on from here\n"
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_say_where_to_connect() {
        let plain = Terminal { live: false, stdout_is_terminal: false, stdin_is_terminal: false };
        let addresses = Addresses { flight: serve::address("127.0.0.1:7").ok(), http: None, secure: false };
        let text = connect_text(&plain, "flash-demo", addresses);
        assert!(text.contains("grpc://127.0.0.1:7"), "{text}");
        assert!(text.contains("jdbc:arrow-flight-sql://127.0.0.1:7/?useEncryption=false"), "{text}");
        assert!(!text.contains("dashboard"), "{text}");
    }
}
