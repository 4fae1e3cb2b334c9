//! `flash catalog`: the lake's tables in AWS Glue, where Athena finds them; and `--glue`, which other verbs take, too.
//!
//! ```text
//!  sync            bring Glue in step with the lake, once        (`flash run --glue` keeps it so)
//!  sync --dry-run  what that would do
//!  ddl             the same tables as statements, for who runs them in Athena
//! ```

use std::sync::Arc;

use serde_json::json;

use super::terminal::{Look, Terminal, grouped};
use super::{Context, lake};
use crate::error::{Error, ErrorKind, Result};
use crate::glue::{self, Aws, Fault, Lake, Reconciler, Report};
use crate::name::TableName;
use crate::storage::Storage;

/// Flags of `flash catalog`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make Glue hold the lake's published tables: create, update, delete those of this lake, and no others
    Sync {
        #[command(flatten)]
        of: Of,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// One JSON object: done, left, in_step, conflicts, refused, failed
        #[arg(long)]
        json: bool,
    },
    /// Print CREATE DATABASE and CREATE EXTERNAL TABLE for Athena. It takes one statement at a time
    Ddl {
        #[command(flatten)]
        of: Of,
    },
}

#[derive(Debug, clap::Args)]
struct Of {
    /// The lake: s3://bucket/prefix
    #[arg(long, value_name = "s3://...", default_value = lake::DEFAULT)]
    lake: String,
    #[command(flatten)]
    glue: Flags,
}

/// What a verb needs to find the lake's tables in Glue.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// The lake's tables are in AWS Glue, for Athena: with flashcommerce_ the schema gold is the database flashcommerce_gold
    #[arg(long = "glue", value_name = "PREFIX", env = "FLASH_GLUE")]
    prefix: Option<String>,
}

impl Flags {
    /// The lake as Glue has it; `None` where it is not registered.
    ///
    /// # Errors
    /// As `Lake::new`.
    pub fn lake(&self, url: &str) -> Result<Option<Lake>> {
        let prefix = self.prefix.as_deref().filter(|prefix| !prefix.is_empty());
        prefix.map(|prefix| Lake::new(url, prefix)).transpose()
    }
}

/// What brings Glue in step with a lake.
///
/// # Errors
/// As `Aws::open`.
pub async fn reconciler(lake: Lake, storage: Arc<dyn Storage>) -> Result<Reconciler> {
    Ok(Reconciler::new(lake, storage, Arc::new(Aws::open(None).await?)))
}

/// Carry out `flash catalog`.
///
/// # Errors
/// `Config` for a lake that cannot be registered; `Storage` and `Transient` of the lake and of Glue; `AlreadyExists` where
/// a table of Glue is in the way.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let terminal = context.terminal;
    match args.verb {
        Verb::Sync { of, dry_run, json } => {
            let reconciler = of.open(context).await?;
            let report = if dry_run { reconciler.compare().await? } else { reconciler.reconcile().await? };
            if json {
                terminal.data(&serde_json::to_string_pretty(&value(&report))?)?;
            } else {
                report
                    .done
                    .iter()
                    .for_each(|step| terminal.say(&format!("{} {step}", terminal.paint(Look::Good, "done"))));
                show(terminal, &report)?;
            }
            if dry_run { Ok(()) } else { ended(&report) }
        }
        Verb::Ddl { of } => {
            let wanted = of.open(context).await?.wanted().await?;
            for refused in &wanted.refused {
                terminal.warn(&format!("{} is left out: {}", refused.name, refused.because));
            }
            terminal.data(&glue::ddl(&of.registered()?, &wanted))
        }
    }
}

impl Of {
    fn registered(&self) -> Result<Lake> {
        let hint =
            "give --glue flashcommerce_, or set FLASH_GLUE: the schema gold is then the database flashcommerce_gold";
        let lake = self.glue.lake(&self.lake)?;
        lake.ok_or_else(|| {
            Error::new(ErrorKind::Config, "the prefix of the Glue databases is not known").with_hint(hint)
        })
    }

    async fn open(&self, context: &Context) -> Result<Reconciler> {
        let lake = self.registered()?;
        reconciler(lake, lake::storage(context, &self.lake).await?).await
    }
}

/// What is not in step, and how much is.
///
/// # Errors
/// As `Terminal::data`.
pub fn show(terminal: Terminal, report: &Report) -> Result<()> {
    let bad = |state: &str| terminal.paint(Look::Bad, state);
    let left = report.left.iter().map(|step| vec![step.name(), bad("out of step"), step.lacks()]);
    let unknown =
        report.unknown.iter().map(|name| vec![name.clone(), bad("not known"), "its database cannot be read".into()]);
    let conflicts = report.conflicts.iter().map(|(name, whose)| vec![name.clone(), bad("not ours"), whose.clone()]);
    let refused =
        report.refused.iter().map(|it| vec![it.name.to_string(), "not registered".into(), it.because.clone()]);
    let rows: Vec<_> = left.chain(unknown).chain(conflicts).chain(refused).collect();
    if !rows.is_empty() {
        terminal.data(&terminal.table(&["in Glue", "state", "because"], rows, &[]))?;
    }
    for failed in &report.failed {
        terminal.warn(&format!("cannot {}: {}", failed.what, failed.fault.text()));
    }
    let count = |number: usize| grouped(number as u64);
    let mut summary = format!("Glue: {} tables in step", count(report.in_step.len()));
    if report.out_of_step() > 0 {
        summary += &format!(", {} out of step (flash catalog sync mends that)", count(report.out_of_step()));
    }
    terminal.say(&summary);
    Ok(())
}

/// How one table stands, in a word or two.
pub fn state(lake: &Lake, report: &Report, name: &TableName) -> String {
    let full = lake.full_name(name);
    let left =
        || report.left.iter().find(|step| step.name() == full).map(|step| format!("out of step: {}", step.lacks()));
    let conflict =
        || report.conflicts.iter().find(|(it, _)| *it == full).map(|(_, whose)| format!("not ours: {whose}"));
    let refused =
        || report.refused.iter().find(|it| it.name == *name).map(|it| format!("not registered: {}", it.because));
    let in_step = || report.in_step.contains(&full).then(|| "in step".to_string());
    let unknown = || report.unknown.contains(&full).then(|| "not known".to_string());
    let found = in_step().or_else(left).or_else(conflict).or_else(refused).or_else(unknown);
    found.unwrap_or_else(|| "not published".into())
}

fn value(report: &Report) -> serde_json::Value {
    let steps = |steps: &[glue::Step]| steps.iter().map(ToString::to_string).collect::<Vec<_>>();
    let because = |table: &str, because: &str| json!({"table": table, "because": because});
    json!({
        "done": steps(&report.done),
        "left": steps(&report.left),
        "in_step": report.in_step,
        "conflicts": report.conflicts.iter().map(|(name, whose)| because(name, whose)).collect::<Vec<_>>(),
        "refused": report.refused.iter().map(|it| because(&it.name.to_string(), &it.because)).collect::<Vec<_>>(),
        "failed": report.failed.iter().map(|it| json!({"what": it.what, "because": it.fault.text()})).collect::<Vec<_>>(),
    })
}

/// Whether the command has done what it was asked for.
fn ended(report: &Report) -> Result<()> {
    if let Some(failed) = report.failed.first() {
        let (kind, hint) = match failed.fault {
            Fault::Refused(_) => (ErrorKind::Storage, "docs/athena.md has the permissions that are needed"),
            _ => (
                ErrorKind::Transient,
                "look at the endpoint (AWS_ENDPOINT_URL_GLUE), the region and the network, and try again",
            ),
        };
        let more = report.failed.len() - 1;
        let error =
            Error::new(kind, format!("cannot {}", failed.what)).with_detail(failed.fault.text()).with_hint(hint);
        return Err(if more > 0 { error.context(format!("{more} more")) } else { error });
    }
    match report.conflicts.first() {
        None => Ok(()),
        Some((name, whose)) => Err(Error::new(ErrorKind::AlreadyExists, format!("{name} is in the way"))
            .with_detail(whose.clone())
            .with_hint("drop it in Athena if nobody needs it, or take another prefix; then try again")),
    }
}
