//! `flash run`: the views of a project, kept fresh and served.
//!
//! ```text
//!  load the project ─▶ bind the ports ─▶ open the lake ─▶ apply ─▶ serve ─▶ passes until a signal, or caught up
//!  └──────────── a mistake in any of these ends it: nothing is started ┘
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::progress::{Progress, StatusLine};
use super::serve;
use super::terminal::{Look, Terminal, counted, grouped};
use super::{Context, catalog, lake};
use crate::engine::{Applied, Engine};
use crate::error::Result;
use crate::glue::{self, Reconciler, Registrar, RegistrarOptions};
use crate::name::TableName;
use crate::project;
use crate::scheduler::{self, ScheduleOptions};

/// Flags of `flash run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder with the definitions, one object a file: SCHEMA/NAME.sql
    #[arg(long, value_name = "DIR", default_value = "sql")]
    project: PathBuf,
    /// Go on with what the lake defines, whatever files there are: for flash apply --server
    #[arg(long, conflicts_with = "project")]
    no_project: bool,
    /// The lake: a folder, or s3://bucket/prefix. It is made where it does not exist
    #[arg(long, value_name = "DIR|s3://...", default_value = lake::DEFAULT)]
    lake: String,
    /// Read a source from elsewhere, without touching the SQL: NAME=jsonl:PATH or NAME=kinesis:STREAM
    #[arg(long, value_name = "NAME=SPEC")]
    source: Vec<String>,
    /// Read what is there, refresh everything, and end. Serves only where --flight or --http is given
    #[arg(long)]
    until_caught_up: bool,
    #[command(flatten)]
    glue: catalog::Flags,
    #[command(flatten)]
    serving: serve::Flags,
    /// Print one JSON object at the end: epoch, epochs, records, seconds, records_per_second
    #[arg(long)]
    json: bool,
}

/// Run until a signal, or until caught up.
///
/// # Errors
/// `Syntax`, `Definition`, `NotIncremental`, `Config` before anything is started; as `scheduler::run` after.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let terminal = context.terminal;
    let objects = if args.no_project { vec![] } else { project::load(&args.project)? };
    let registered = args.glue.lake(&args.lake)?;
    let listeners = args.serving.bind(args.until_caught_up).await?;
    let shutdown = serve::shutdown_on_signals(terminal)?;
    let (engine, storage, applied) = scheduler::at_start("opening the lake", &shutdown, async || {
        if args.no_project {
            lake::check_exists(&args.lake)?;
        }
        let storage = lake::storage(context, &args.lake).await?;
        let sources = lake::overrides(&args.source).await?;
        let engine = lake::open_with_storage(context, Arc::clone(&storage), sources).await?;
        let applied = engine.apply(&objects).await?;
        Ok((engine, storage, applied))
    })
    .await?;
    let registrar = match registered {
        Some(lake) => Some(register(&engine, catalog::reconciler(lake, storage).await?)),
        None => None,
    };
    announce(terminal, &applied);
    let left_over = if args.no_project { vec![] } else { engine.left_over(&applied).await };
    for name in left_over {
        terminal.warn(&format!("no file defines {name} any more; it is kept until flash apply removes it"));
    }
    let addresses = listeners.addresses();
    let servers = listeners.start(&engine, &shutdown)?;
    if let Some(url) = addresses.flight_url() {
        terminal.say(&format!("Flight SQL  {url}   (flash sql --server {url})"));
    }
    if let Some(url) = addresses.http_url() {
        terminal.say(&format!("dashboard   {url}"));
    }

    let mut progress = Progress::default();
    let mut line = StatusLine::new(terminal);
    let options = ScheduleOptions { until_caught_up: args.until_caught_up };
    let result = scheduler::run(engine.clone(), options, shutdown.clone(), |pass| {
        let news = progress.note(pass);
        line.show(&progress.line(), news);
    })
    .await;
    line.clear();
    shutdown.cancel();
    engine.finish_maintenance().await;
    if let Some(registrar) = registrar {
        warn_of(terminal, &registrar.finish().await);
    }
    result.and(servers.join().await)?;
    finish(terminal, &progress, args.json)
}

/// Keep Glue in step beside the passes, and show in the metrics how that goes.
fn register(engine: &Engine, reconciler: Reconciler) -> Registrar {
    let options = RegistrarOptions::default();
    let registrar = Registrar::start(reconciler, engine.published(), engine.definitions(), options);
    engine.watch_glue(registrar.status());
    registrar
}

/// Glue is not what the run was for: what it lacks is said, and no failure.
fn warn_of(terminal: Terminal, status: &glue::Status) {
    if status.out_of_step + status.conflicts > 0 || status.error.is_some() {
        let error = status.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
        terminal.warn(&format!("Glue is not in step with the lake{error}; flash status --glue ... tells more"));
    }
}

fn announce(terminal: Terminal, applied: &[(TableName, Applied)]) {
    for (name, what) in applied {
        match what {
            Applied::Created => terminal.say(&format!("{} {name}", terminal.paint(Look::Good, "created"))),
            Applied::Changed => terminal.say(&format!("{} {name}", terminal.paint(Look::Bad, "changed"))),
            Applied::Unchanged => {}
        }
    }
    let unchanged = applied.iter().filter(|(_, what)| *what == Applied::Unchanged).count();
    if unchanged > 0 {
        terminal.say(&terminal.paint(Look::Faint, &format!("unchanged: {}", counted(unchanged as u64, "object"))));
    }
}

fn finish(terminal: Terminal, progress: &Progress, json: bool) -> Result<()> {
    terminal.say(&format!(
        "{} in {:.1} s ({} a second), {}; the newest is {}",
        counted(progress.source_rows, "record"),
        progress.seconds(),
        grouped(progress.rate_overall() as u64),
        counted(progress.epochs, "epoch"),
        progress.epoch
    ));
    if json {
        let object = json!({
            "epoch": progress.epoch,
            "epochs": progress.epochs,
            "records": progress.source_rows,
            "seconds": progress.seconds(),
            "records_per_second": progress.rate_overall(),
        });
        terminal.data(&object.to_string())?;
    }
    Ok(())
}
