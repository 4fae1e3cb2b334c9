//! The `flash` command: its verbs and flags. The only place that prints.
//!
//! ```text
//!  flash VERB ──▶ Cli (clap) ──▶ run(cli, config) ──▶ cli/<verb>.rs ──▶ engine, scheduler, server, simulator
//!
//!  stdout   data: rows, JSON, CSV             stderr   words for people: progress, tables of figures, errors
//!  exit 0   done     1  failed     2  what you wrote     3  what the operator must mend     4  another writer won
//! ```

pub mod apply;
pub mod backfill;
pub mod catalog;
pub mod check;
pub mod connect;
pub mod demo;
pub mod deploy;
pub mod diff;
pub mod explain;
pub mod figures;
pub mod forget;
pub mod format;
pub mod kinesis;
pub mod lake;
pub mod lineage;
pub mod new;
pub mod plan;
pub mod progress;
pub mod prompt;
pub mod quiet;
pub mod refresh;
pub mod remote;
pub mod run;
pub mod serve;
pub mod simulate;
pub mod sql;
pub mod status;
pub mod terminal;
pub mod test;
pub mod traffic;

use clap::{Parser, Subcommand};

use crate::config::{self, Config};
use crate::error::{Error, ErrorKind, Result};
use terminal::Terminal;

/// What `flash` alone says.
const GUIDE: &str = "\
flash keeps SQL views over a stream of events fresh, incrementally and exactly once, as Delta tables.

  flash demo                      an online store, live, on this machine: nothing to prepare
  flash sql -c 'SHOW MATERIALIZED VIEWS' --lake flash-demo
  flash explain gold.kpis --lake flash-demo

Your own views:
  flash new shop                               a folder with a small project to begin with
  flash check --project sql                    every mistake, and how each view will be refreshed
  flash test --project sql                     its tests, sql/**/*.slt, in memory
  flash plan --project sql --lake lake         what would change in a lake
  flash apply --project sql --lake lake        change it: built beside what is there, swapped at once
  flash run --project sql --lake lake          keep the views of sql/<schema>/<name>.sql fresh, and serve them
  flash status --lake lake                     where every view stands
  flash sql --lake lake                        a prompt

`flash VERB --help` tells the rest.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "flash",
    version,
    about = "Live SQL materialized views over Kinesis, kept incrementally and exactly once as Delta tables",
    after_help = "Words for people go to stderr, data to stdout. Exit codes: 0 done, 1 failed, 2 what you wrote is \
                  wrong (SQL, flags), 3 the lake or the source needs mending, 4 another writer owns the lake.\n\
                  FLASH_LOG=info shows what happens inside; NO_COLOR=1 switches colours off."
)]
pub struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Run an online store end to end on this machine: stream, views, answers, live traffic
    Demo(demo::Args),
    /// Make a folder with a small project that runs at once
    New(new::Args),
    /// Keep the views of a project fresh, and serve them
    Run(run::Args),
    /// Compile a project without a lake: every mistake, and how each view will be refreshed
    Check(check::Args),
    /// Run the tests of a project, its files *.slt, on a lake in memory; exit code 1 when one fails
    Test(test::Args),
    /// Show what applying a project to a lake would change; exit code 2 when something would
    Plan(plan::Args),
    /// Make a lake hold what a project defines: new tables are built beside the old ones, and readers move at once
    Apply(apply::Args),
    /// Make lifelike shopping events: into a file, or into a Kinesis stream
    Simulate(simulate::Args),
    /// Serve a Kinesis stream from memory, to develop and test against
    Kinesis(kinesis::Args),
    /// Ask SQL of a lake folder or of a running server: one-shot, or at a prompt
    Sql(sql::Args),
    /// Refresh one view now from what has landed, with everything it is built on
    Refresh(refresh::Args),
    /// Read a source again from an instant on, and land what a view does not hold of it
    Backfill(backfill::Args),
    /// Delete one user's rows from every table and view, and their bytes from storage
    Forget(forget::Args),
    /// Show how the next refresh of a view will run, and why
    Explain(explain::Args),
    /// Show what changed in a view from one epoch to another, row by row
    Diff(diff::Args),
    /// Show what is built on what, and of which columns a column is made
    Lineage(lineage::Args),
    /// Tables in AWS Glue, where Athena finds them: bring them in step, or print them as statements
    Catalog(catalog::Args),
    /// Show where every view stands: version, rows, lag, how it was last refreshed
    Status(status::Args),
}

impl Cli {
    /// What is logged: a test says itself which views were not refreshed, and why.
    fn log<'a>(&self, config: &'a Config) -> &'a str {
        match self.verb {
            Some(Verb::Test(_)) if config.log == Config::default().log => "error",
            _ => &config.log,
        }
    }
}

/// What every verb needs.
#[derive(Debug)]
pub struct Context {
    /// Settings of the process.
    pub config: Config,
    /// Where words and data go.
    pub terminal: Terminal,
}

/// Carry out the command line, in a runtime of its own; the exit code. (Not async: what an async function does is compiled
/// again in every crate that awaits it, and the binary would take minutes.)
///
/// # Errors
/// Any kind; `Error::render` is meant for the user and `Error::exit_code` for the shell.
pub fn start(cli: Cli, config: Config) -> Result<u8> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(cli.log(&config)))
        .with_writer(std::io::stderr)
        .with_ansi(config.color)
        .init();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(config::STACK_BYTES)
        .build()
        .map_err(|error| Error::new(ErrorKind::Internal, format!("no runtime: {error}")))?
        .block_on(run(cli, config))
}

async fn run(cli: Cli, config: Config) -> Result<u8> {
    let terminal = Terminal::new(config.color);
    let context = Context { config, terminal };
    let done = match cli.verb {
        Some(Verb::Plan(args)) => return plan::run(&context, args).await,
        Some(Verb::Test(args)) => return test::run(&context, args).await,
        Some(Verb::Check(args)) => check::run(&context, args).await,
        None => context.terminal.data(GUIDE),
        Some(Verb::Demo(args)) => demo::run(&context, args).await,
        Some(Verb::New(args)) => new::run(&context, &args),
        Some(Verb::Apply(args)) => apply::run(&context, args).await,
        Some(Verb::Run(args)) => run::run(&context, args).await,
        Some(Verb::Simulate(args)) => simulate::run(&context, args).await,
        Some(Verb::Kinesis(args)) => kinesis::run(&context, args).await,
        Some(Verb::Sql(args)) => sql::run(&context, args).await,
        Some(Verb::Refresh(args)) => refresh::run(&context, args).await,
        Some(Verb::Catalog(args)) => catalog::run(&context, args).await,
        Some(Verb::Backfill(args)) => backfill::run(&context, args).await,
        Some(Verb::Forget(args)) => forget::run(&context, args).await,
        Some(Verb::Diff(args)) => diff::run(&context, args).await,
        Some(Verb::Explain(args)) => explain::run(&context, args).await,
        Some(Verb::Lineage(args)) => lineage::run(&context, args).await,
        Some(Verb::Status(args)) => status::run(&context, args).await,
    };
    done.map(|()| 0)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_spellings_that_scripts_rely_on_parse() {
        for line in [
            "demo --lake d --events 1000 --seed 7 --flight 127.0.0.1:0 --http 127.0.0.1:0 --once --json",
            "run --project sql --lake s3://b/p --source raw.events=jsonl:/tmp/x --until-caught-up --flight 127.0.0.1:1",
            "run --source raw.events=kinesis:E_com --source ref.x=jsonl:y --http 127.0.0.1:1 --json",
            "simulate --events 10 --seed 1 --profile default --out events.jsonl",
            "simulate --events 10 --seed 1 --stream E_com --endpoint-url http://127.0.0.1:4567",
            "kinesis --listen 127.0.0.1:0 --stream events --shards 8 --enforce-limits",
            "sql --lake lake -c SELECT --format json",
            "sql --server grpc://127.0.0.1:50051 -c SELECT --format csv",
            "refresh gold.kpis --full --lake lake",
            "refresh gold.kpis --full --force",
            "forget user_id=u17 --comment ticket-7 --lake lake",
            "forget user_id=u17 --server grpc://127.0.0.1:50051",
            "explain gold.kpis --lake lake",
            "explain sql/gold/kpis.sql --project sql",
            "test --project sql a.slt tests --json",
            "new shop",
            "lineage gold.kpis.revenue --project sql --dot",
            "lineage --lake lake --json",
            "status --lake lake --json",
            "status --lake s3://b/p --glue fc_",
            "run --lake s3://b/p --glue fc_",
            "catalog sync --lake s3://b/p --glue fc_ --dry-run --json",
            "catalog ddl --lake s3://b/p --glue fc_",
            "",
        ] {
            let words = std::iter::once("flash").chain(line.split_whitespace());
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn flags_that_exclude_each_other_are_refused() {
        for line in [
            "simulate --events 10 --seed 1",
            "simulate --events 10 --seed 1 --out a --stream b",
            "sql --lake a --server grpc://b:1",
            "sql -c x --format yaml",
            "refresh gold.kpis --force",
            "explain gold.kpis --lake lake --project sql",
        ] {
            let words = std::iter::once("flash").chain(line.split_whitespace());
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
