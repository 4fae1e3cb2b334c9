//! `flash plan`: what applying a project to a lake would change. Nothing is changed.
//!
//! ```text
//!  sql/*/*.sql ─┐
//!               ├─▶ Engine::plan ─▶ + new  ~ changed, with the difference  ^ rebuilt  * altered  > elsewhere  - removed
//!  the lake ────┘                   └ exit 0: nothing changes      exit 2: something does
//! ```

use std::path::PathBuf;

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::deploy::Target;
use super::terminal::{Look, Terminal, counted};
use super::{Context, connect, lake};
use crate::engine::plan::{PlannedChange, PlannedObject, Read, id};
use crate::error::Result;
use crate::project;

/// The exit code of a plan that changes something.
const CHANGES: u8 = 2;

/// Lines around a difference that are shown with it.
const CONTEXT_LINES: usize = 1;

/// Flags of `flash plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder with the definitions, one object a file: SCHEMA/NAME.sql
    #[arg(long, value_name = "DIR", default_value = "sql")]
    project: PathBuf,
    /// The lake: a folder, or s3://bucket/prefix. One that is not there yet is empty
    #[arg(long, value_name = "DIR|s3://...", conflicts_with = "server", default_value = lake::DEFAULT)]
    lake: String,
    #[command(flatten)]
    server: connect::Flags,
    /// One JSON object: changes with their differences, sizes and refresh modes
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// A table in Markdown, for a pull request
    #[arg(long)]
    markdown: bool,
}

/// Print the plan; the process's exit code.
///
/// # Errors
/// As `Target::plan`, and as for opening the lake or reaching the server.
pub async fn run(context: &Context, args: Args) -> Result<u8> {
    let objects = project::load(&args.project)?;
    let mut target = match args.server.connect().await? {
        Some(remote) => Target::Server(Box::new(remote)),
        None => Target::as_it_is(context, &args.lake).await?,
    };
    let planned = target.plan(&objects).await?;
    let text = match (args.json, args.markdown) {
        (true, _) => serde_json::to_string_pretty(&as_json(&planned))?,
        (_, true) => as_markdown(&planned),
        _ => as_text(context.terminal, &planned),
    };
    context.terminal.data(&text)?;
    Ok(if changes(&planned).next().is_some() { CHANGES } else { 0 })
}

pub(super) fn changes(planned: &[PlannedObject]) -> impl Iterator<Item = &PlannedObject> {
    planned.iter().filter(|object| object.change != PlannedChange::Unchanged)
}

fn mark(change: &PlannedChange) -> (&'static str, &'static str) {
    match change {
        PlannedChange::New => ("+", "new"),
        PlannedChange::Changed => ("~", "changed"),
        PlannedChange::Rebuilt { .. } => ("^", "rebuilt"),
        PlannedChange::Altered => ("*", "altered"),
        PlannedChange::Elsewhere => (">", "read from elsewhere"),
        PlannedChange::Removed => ("-", "removed"),
        PlannedChange::Unchanged => ("=", "unchanged"),
    }
}

pub(super) fn as_text(terminal: Terminal, planned: &[PlannedObject]) -> String {
    let mut lines = vec![];
    for object in changes(planned) {
        let (sign, word) = mark(&object.change);
        let look = if object.change == PlannedChange::Removed { Look::Bad } else { Look::Good };
        lines.push(format!("{} {}  {word}{}", terminal.paint(look, sign), object.name, why(object)));
        lines.extend(mode(object).map(|mode| format!("    refresh  {mode}")));
        lines.extend(reads(object).map(|reads| format!("    reads    {reads}")));
        let told = difference(object).into_iter().chain(object.rules.iter().cloned());
        lines.extend(told.map(|line| match line.as_bytes().first() {
            Some(b'+') => format!("    {}", terminal.paint(Look::Good, &line)),
            Some(b'-') => format!("    {}", terminal.paint(Look::Bad, &line)),
            _ => format!("    {}", terminal.paint(Look::Faint, &line)),
        }));
    }
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines.push(summary(planned));
    lines.join("\n")
}

fn as_markdown(planned: &[PlannedObject]) -> String {
    let mut lines = vec![];
    if changes(planned).next().is_some() {
        lines.push("| object | change | refresh | reads |".to_string());
        lines.push("|---|---|---|---|".to_string());
    }
    for object in changes(planned) {
        let change = format!("{}{}", mark(&object.change).1, why(object));
        let (mode, reads) = (mode(object).unwrap_or_default(), reads(object).unwrap_or_default());
        lines.push(format!("| `{}` | {change} | {mode} | {reads} |", object.name));
    }
    lines.push(format!("\n{}", summary(planned)));
    for object in changes(planned) {
        let mut difference = difference(object);
        difference.extend(object.rules.iter().cloned());
        if !difference.is_empty() {
            lines.push(format!("\n`{}`\n```diff\n{}\n```", object.name, difference.join("\n")));
        }
    }
    lines.join("\n")
}

pub(super) fn as_json(planned: &[PlannedObject]) -> Value {
    let object = |object: &PlannedObject| {
        let because = match &object.change {
            PlannedChange::Rebuilt { because } => because.iter().map(ToString::to_string).collect(),
            _ => vec![],
        };
        let read = |read: &Read| json!({ "input": read.input.to_string(), "rows": read.rows, "bytes": read.bytes });
        json!({
            "name": object.name.to_string(),
            "file": object.file,
            "change": mark(&object.change).1,
            "because": because,
            "mode_before": object.mode.0,
            "mode": object.mode.1,
            "reason": object.reason,
            "reads": object.reads.iter().map(read).collect::<Vec<_>>(),
            "difference": difference(object).join("\n"),
            "rules": object.rules,
        })
    };
    let unchanged = planned.iter().filter(|object| object.change == PlannedChange::Unchanged).count();
    json!({ "id": id(planned), "changes": changes(planned).map(object).collect::<Vec<_>>(), "unchanged": unchanged })
}

fn why(object: &PlannedObject) -> String {
    match &object.change {
        PlannedChange::Rebuilt { because } if because.is_empty() => ": this version compiles it otherwise".into(),
        PlannedChange::Rebuilt { because } => {
            let names = because.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!(": {names} changes")
        }
        _ => String::new(),
    }
}

/// How it is refreshed, where that is news.
fn mode(object: &PlannedObject) -> Option<String> {
    match (&object.mode, &object.reason) {
        ((None, Some(mode)), Some(reason)) => Some(format!("{mode}: {reason}")),
        ((Some(before), Some(mode)), Some(reason)) if before != mode => Some(format!("{before} -> {mode}: {reason}")),
        _ => None,
    }
}

fn reads(object: &PlannedObject) -> Option<String> {
    let of = |read: &Read| match read.rows {
        Some(rows) => format!("{} ({}, {})", read.input, counted(rows, "row"), bytes(read.bytes)),
        None => format!("{} (a stream)", read.input),
    };
    let holds = |read: &&Read| read.rows != Some(0);
    let all = object.reads.iter().filter(holds).map(of).collect::<Vec<_>>();
    (!all.is_empty()).then(|| all.join(", "))
}

fn difference(object: &PlannedObject) -> Vec<String> {
    let (PlannedChange::Changed | PlannedChange::Altered | PlannedChange::Elsewhere, Some(before), Some(after)) =
        (&object.change, &object.before, &object.after)
    else {
        return vec![];
    };
    let difference = TextDiff::from_lines(before.trim_end(), after.trim_end());
    let groups = difference.grouped_ops(CONTEXT_LINES);
    let lines = groups.iter().flatten().flat_map(|op| difference.iter_changes(op)).map(|change| {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        format!("{sign} {}", change.value().trim_end())
    });
    lines.collect()
}

fn summary(planned: &[PlannedObject]) -> String {
    let count = |word: &str| planned.iter().filter(|object| mark(&object.change).1 == word).count();
    let words = ["new", "changed", "rebuilt", "altered", "read from elsewhere", "removed", "unchanged"];
    let counts = words.map(|word| (word, count(word)));
    let counts = counts.iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!("{count} {word}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    match changes(planned).next() {
        None => format!("nothing changes: {counts}"),
        Some(_) => format!("plan {}: {counts}", id(planned)),
    }
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let (mut tenths, mut unit) = (count / 100, 0);
    while tenths >= 10_000 && unit < UNITS.len() - 1 {
        (tenths, unit) = (tenths / 1_000, unit + 1);
    }
    match count {
        0..1_000 => format!("{count} B"),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let texts = [0, 999, 1_000, 12_340, 9_999_999, 12_345_678, 7_654_321_000_000].map(bytes);
        assert_eq!(texts, ["0 B", "999 B", "1.0 kB", "12.3 kB", "9.9 MB", "12.3 MB", "7.6 TB"]);
    }
}
