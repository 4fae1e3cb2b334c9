//! `flash new`: a folder with a small project that runs at once.
//!
//! ```text
//!  project::skeleton ─▶ FOLDER (made, or empty) ─▶ what to do next        a folder that holds something: refused
//! ```

use std::fs;
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::project::skeleton::FILES;

/// Flags of `flash new`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder to make; one that is there must be empty
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// One JSON object: the folder, and the files in it
    #[arg(long)]
    json: bool,
}

/// Make the folder, and tell what to do next.
///
/// # Errors
/// `AlreadyExists` for a folder that holds something; `Storage` where it cannot be written.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let folder = args.folder.as_path();
    make_empty(folder)?;
    for file in FILES {
        let path = folder.join(file.path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(|error| unwritable(parent, &error))?;
        fs::write(&path, file.text).map_err(|error| unwritable(&path, &error))?;
    }
    if args.json {
        let files = FILES.map(|file| file.path);
        return context.terminal.data(&json!({ "folder": folder.display().to_string(), "files": files }).to_string());
    }
    context.terminal.say(&next(folder));
    Ok(())
}

/// Make sure that the folder is there, and that nothing is in it.
fn make_empty(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| match error.kind() {
        IoKind::AlreadyExists | IoKind::NotADirectory => taken(folder, "is a file"),
        _ => unwritable(folder, &error),
    })?;
    let mut entries = fs::read_dir(folder).map_err(|error| unwritable(folder, &error))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(taken(folder, "is not empty")),
    }
}

fn taken(folder: &Path, why: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("{} {why}", folder.display()))
        .with_hint("name a folder that is not there yet; nothing has been changed")
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Storage, format!("{} cannot be written", path.display())).with_detail(error.to_string())
}

fn next(folder: &Path) -> String {
    let shown = folder.display();
    format!(
        "\
made {shown}: a source over files, a bronze, a silver and a gold view, and a test

  cd {shown}
  flash check                                       every mistake, and how each view is kept
  flash test                                        sql/tests/orders.slt, in memory
  flash run --until-caught-up                       fill the views from events/sample.jsonl
  flash sql -c 'SELECT * FROM gold.sales_by_day'    ask

README.md goes on from there; `flash demo` shows a larger project, live."
    )
}
