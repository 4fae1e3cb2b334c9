//! `flash check`: is a project right, and how will each of its views be refreshed? Offline.
//!
//! ```text
//!  sql/*/*.sql ─▶ read each ─▶ compile all, in memory ─▶ mistakes, in the style of a compiler      exit 2
//!                                                     └▶ view, refresh, because; warnings          exit 0
//! ```

use std::path::PathBuf;

use serde_json::{Value, json};

use super::terminal::Look;
use super::{Context, lake};
use crate::engine::check::Checked;
use crate::error::{Error, ErrorKind, Result};
use crate::project;

/// Flags of `flash check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder with the definitions, one object a file: SCHEMA/NAME.sql
    #[arg(long, value_name = "DIR", default_value = "sql")]
    project: PathBuf,
    /// One JSON object: views, errors and warnings with their places, skipped, unused
    #[arg(long)]
    json: bool,
}

/// Check, and tell.
///
/// # Errors
/// `Definition` when there are mistakes; `Config` for a folder that is no project.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let (mut objects, mut errors) = (vec![], vec![]);
    for file in project::files(&args.project)? {
        match project::load_file(&file) {
            Ok(object) => objects.push(object),
            Err(error) => errors.push(error),
        }
    }
    let files = objects.len() + errors.len();
    let engine = lake::open(context, "memory:", lake::Sources::new()).await?;
    let mut checked = engine.check(&objects).await;
    checked.errors.splice(0..0, errors);
    match args.json {
        true => context.terminal.data(&serde_json::to_string_pretty(&as_json(&checked))?)?,
        false => show(context, &checked)?,
    }
    match checked.errors.len() {
        0 => Ok(()),
        1 => Err(Error::new(ErrorKind::Definition, format!("there is a mistake in {files} files"))),
        count => Err(Error::new(ErrorKind::Definition, format!("there are {count} mistakes in {files} files"))),
    }
}

fn show(context: &Context, checked: &Checked) -> Result<()> {
    let terminal = context.terminal;
    for error in &checked.errors {
        terminal.say(&error.render());
    }
    if !checked.views.is_empty() {
        let mode = |mode: &str| match mode {
            "full" => terminal.paint(Look::Bad, mode),
            mode => mode.to_string(),
        };
        let rows = checked.views.iter().map(|(name, kept, reason)| vec![name.to_string(), mode(kept), reason.clone()]);
        terminal.data(&terminal.table(&["view", "refresh", "because"], rows.collect(), &[]))?;
    }
    for name in &checked.skipped {
        terminal.say(&format!("not looked at: {name}, since what it is built on has a mistake"));
    }
    for warning in &checked.warnings {
        terminal.say(&warning.render_as("warning"));
    }
    for name in &checked.unused {
        terminal.say(&format!("unused: nothing reads {name}"));
    }
    Ok(())
}

fn as_json(checked: &Checked) -> Value {
    let view = |(name, mode, reason): &(crate::name::TableName, &str, String)| json!({ "name": name.to_string(), "mode": mode, "reason": reason });
    let error = |error: &Error| {
        let at = error.location();
        json!({
            "message": error.message(),
            "detail": error.detail(),
            "hint": error.hint(),
            "file": at.and_then(|at| at.file.clone()),
            "line": at.map(|at| at.line),
            "column": at.map(|at| at.column),
        })
    };
    let names = |names: &[crate::name::TableName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "views": checked.views.iter().map(view).collect::<Vec<_>>(),
        "errors": checked.errors.iter().map(error).collect::<Vec<_>>(),
        "warnings": checked.warnings.iter().map(error).collect::<Vec<_>>(),
        "skipped": names(&checked.skipped),
        "unused": names(&checked.unused),
    })
}
