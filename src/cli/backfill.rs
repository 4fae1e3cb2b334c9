//! `flash backfill`: read a source again from an instant on, and land what a view does not hold of it.

use serde_json::json;

use super::terminal::grouped;
use super::{Context, lake};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;

/// Flags of `flash backfill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The view that reads the source, such as bronze.events; those above it follow
    view: TableName,
    /// Read again what arrived since this instant, such as 2026-11-22T09:00:00Z
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    since: i64,
    /// The lake: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "DIR|s3://...", default_value = lake::DEFAULT)]
    lake: String,
    /// Read the source from elsewhere than its definition says: NAME=kinesis:STREAM
    #[arg(long, value_name = "NAME=SPEC")]
    source: Vec<String>,
    /// Print one JSON object: read, landed
    #[arg(long)]
    json: bool,
}

/// An RFC 3339 instant in milliseconds since 1970 UTC.
fn instant(text: &str) -> Result<i64> {
    match chrono::DateTime::parse_from_rfc3339(text) {
        Ok(instant) => Ok(instant.timestamp_millis()),
        Err(error) => Err(Error::new(ErrorKind::Config, format!("\"{text}\" is not an instant: {error}"))
            .with_hint("write it as 2026-11-22T09:00:00Z or 2026-11-22T14:30:00+05:30")),
    }
}

/// Read again, and say what was missing.
///
/// # Errors
/// As `Engine::backfill`; `Conflict` while another process writes the lake.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let engine = lake::open_there(context, &args.lake, lake::overrides(&args.source).await?).await?;
    let done = engine.backfill(&args.view, args.since).await?;
    engine.finish_maintenance().await;
    let (read, landed) = (grouped(done.read), grouped(done.landed));
    context
        .terminal
        .say(&format!("{}: {read} records read again, {landed} of them were missing and are there now", args.view));
    if args.json {
        context.terminal.data(&json!({ "read": done.read, "landed": done.landed }).to_string())?;
    }
    Ok(())
}
