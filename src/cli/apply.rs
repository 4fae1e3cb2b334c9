//! `flash apply`: make a lake hold what the files of a project define.
//!
//! ```text
//!  plan, shown ─▶ asked, or --yes ─▶ the same plan still? ─▶ definitions ─▶ one epoch: every new table is built beside
//!                                      └ no: refused             │            the old one, and readers move to all of
//!                                                                ▼            them at once
//!                                       a crash from here on: apply again, or flash run, goes on
//! ```
//!
//! No event is read: views are built from what has landed.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::deploy::Target;
use super::plan::{as_json, as_text, changes};
use super::terminal::{Look, Terminal, counted};
use super::{Context, connect, lake};
use crate::engine::deploy::Deployed;
use crate::engine::plan::id;
use crate::epoch::{Epoch, RefreshFacts};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::project;

/// Flags of `flash apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder with the definitions, one object a file: SCHEMA/NAME.sql
    #[arg(long, value_name = "DIR", default_value = "sql")]
    project: PathBuf,
    /// The lake: a folder, or s3://bucket/prefix. It is made where it does not exist
    #[arg(long, value_name = "DIR|s3://...", conflicts_with = "server", default_value = lake::DEFAULT)]
    lake: String,
    #[command(flatten)]
    server: connect::Flags,
    /// Only if this is what would be done: the number that flash plan has shown
    #[arg(long, value_name = "ID")]
    plan: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// One JSON object: the plan, and what was built
    #[arg(long)]
    json: bool,
}

/// A view that was built, and how.
type Built = (TableName, RefreshFacts);

/// Show what changes, ask, change it, and build what is new.
///
/// # Errors
/// `Conflict` when the lake is not as it was planned for; `Config` without an answer; as `Target::deploy`; `Query` for a view that cannot be built from what there is.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let terminal = context.terminal;
    let objects = project::load(&args.project)?;
    let place = args.server.url().unwrap_or(&args.lake).to_string();
    let mut target = match args.server.connect().await? {
        Some(remote) => Target::Server(Box::new(remote)),
        None => Target::opened(context, &args.lake, &objects).await?,
    };
    let planned = target.plan(&objects).await?;
    terminal.say(&as_text(terminal, &planned));
    let expected = args.plan.unwrap_or_else(|| id(&planned));
    if changes(&planned).next().is_some() && !args.yes && expected == id(&planned) {
        confirm(terminal, &place)?;
    }
    let Deployed { planned, epoch, built } = target.deploy(&objects, &expected).await?;
    told(terminal, &built, epoch);
    if args.json {
        let mut object = as_json(&planned);
        object["epoch"] = json!(epoch);
        object["built"] = built.iter().map(built_json).collect();
        terminal.data(&object.to_string())?;
    }
    match built.iter().find_map(|(view, facts)| Some((view, facts.error.as_ref()?))) {
        None => Ok(()),
        Some((view, error)) => Err(Error::new(ErrorKind::Query, format!("{view} could not be built"))
            .with_detail(error.clone())
            .with_hint("readers keep what it was; mend it, and apply again")),
    }
}

fn confirm(terminal: Terminal, place: &str) -> Result<()> {
    if !terminal.stdin_is_terminal {
        return Err(Error::new(ErrorKind::Config, "nobody is there to be asked")
            .with_hint("flash apply --yes; with --plan ID, too, it does only what flash plan has shown"));
    }
    match terminal.ask(&format!("apply this to {place}? [y/N] "))?.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::new(ErrorKind::Cancelled, "nothing was changed")),
    }
}

/// A line for each view that was written or has failed, and how many they all are.
fn told(terminal: Terminal, built: &[Built], epoch: Epoch) {
    for (view, facts) in built {
        let (mode, rows, ms) = (&facts.mode, facts.rows_out, facts.took_ms);
        match &facts.error {
            Some(_) => terminal.say(&format!("{} {view}", terminal.paint(Look::Bad, "failed"))),
            None if rows == 0 => {}
            None => {
                let word = terminal.paint(Look::Good, "built");
                terminal.say(&format!("{word}  {view}  {} in {ms} ms ({mode})", counted(rows, "row")));
            }
        }
    }
    if !built.is_empty() {
        let failed = built.iter().filter(|(_, facts)| facts.error.is_some()).count();
        let ready = built.len() - failed;
        let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        terminal.say(&format!("views ready: {ready}{failed}; readers see them since epoch {epoch}"));
    }
}

fn built_json((view, facts): &Built) -> Value {
    json!({
        "view": view.to_string(),
        "mode": facts.mode,
        "reason": facts.reason,
        "rows": facts.rows_out,
        "ms": facts.took_ms,
        "error": facts.error,
    })
}
