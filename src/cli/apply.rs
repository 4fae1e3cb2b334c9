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
use std::sync::Arc;

use serde_json::{Value, json};

use super::plan::{as_json, as_text, changes};
use super::terminal::{Look, Terminal, grouped};
use super::{Context, lake, quiet};
use crate::engine::plan::{PlannedObject, id};
use crate::engine::{Engine, Pass, PassRequest, ProjectObject};
use crate::epoch::{Epoch, PublishedRecord, RefreshFacts};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{self, Statement};
use crate::project;

/// Epochs until everything is built; one, as a rule.
const PASSES_MAX: usize = 10;

/// Flags of `flash apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder with the definitions, one object a file: SCHEMA/NAME.sql
    #[arg(long, value_name = "DIR", default_value = "sql")]
    project: PathBuf,
    /// The lake: a folder, or s3://bucket/prefix. It is made where it does not exist
    #[arg(long, value_name = "DIR|s3://...", default_value = lake::DEFAULT)]
    lake: String,
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
/// `Conflict` when the lake is not as it was planned for; `Config` without an answer; as `Engine::apply_project` and
/// `Engine::pass`; `Query` for a view that cannot be built from what there is.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let terminal = context.terminal;
    let objects = project::load(&args.project)?;
    let storage = lake::storage(context, &args.lake).await?;
    let mut sources = quiet::sources(storage.as_ref()).await?;
    sources.extend(quiet::of(source_names(&objects)?));
    let engine = lake::open_with_storage(context, storage, sources).await?;
    let planned = engine.plan(&objects).await?;
    terminal.say(&as_text(terminal, &planned));
    let expected = args.plan.unwrap_or_else(|| id(&planned));
    if changes(&planned).next().is_some() && !args.yes && expected == id(&planned) {
        confirm(terminal, &args.lake)?;
    }
    let applied = engine.apply_project(&objects, Some(&expected)).await?;
    let built = build(&engine, &applied).await;
    engine.finish_maintenance().await;
    let (record, built) = built?;
    told(terminal, &built, record.epoch);
    if args.json {
        let mut object = as_json(&applied);
        object["epoch"] = json!(record.epoch);
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

fn source_names(objects: &[ProjectObject]) -> Result<Vec<TableName>> {
    let mut names = Vec::new();
    for object in objects {
        for parsed in parser::parse(&object.sql, object.file.as_deref())? {
            if let Statement::CreateSource(source) = parsed.statement {
                names.push(source.name);
            }
        }
    }
    Ok(names)
}

fn confirm(terminal: Terminal, lake: &str) -> Result<()> {
    if !terminal.stdin_is_terminal {
        return Err(Error::new(ErrorKind::Config, "nobody is there to be asked")
            .with_hint("flash apply --yes; with --plan ID, too, it does only what flash plan has shown"));
    }
    match terminal.ask(&format!("apply this to {lake}? [y/N] "))?.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::new(ErrorKind::Cancelled, "nothing was changed")),
    }
}

/// Carry out epochs until every view is where it should be; the newest record, and how what was planned was built.
async fn build(engine: &Arc<Engine>, applied: &[PlannedObject]) -> Result<(Arc<PublishedRecord>, Vec<Built>)> {
    let mut record = Arc::clone(&engine.published().borrow());
    let mut built = Vec::new();
    engine.recover().await?;
    for _ in 0..PASSES_MAX {
        let request = PassRequest { all: true, full: vec![] };
        let Pass::Published { record: published, caught_up, .. } = engine.pass(request).await? else { break };
        record = published;
        let is_new = |name: &TableName| applied.iter().any(|object| object.name == *name && object.change.builds());
        let refreshes = record.refreshes.iter().filter(|(name, _)| is_new(name));
        built.extend(refreshes.map(|(name, facts)| (name.clone(), facts.clone())));
        if caught_up {
            break;
        }
    }
    Ok((record, built))
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
                terminal.say(&format!("{word}  {view}  {} rows in {ms} ms ({mode})", grouped(rows)));
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
