//! `flash refresh`: one view now, from what has landed.

use super::{Context, lake, sql};
use crate::error::Result;

/// Flags of `flash refresh`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The view, such as gold.kpis
    view: String,
    /// Recompute it from scratch, instead of from what has changed
    #[arg(long)]
    full: bool,
    /// Also where that loses what the view has made of rows that its inputs have let expire
    #[arg(long, requires = "full")]
    force: bool,
    /// The lake: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "DIR|s3://...", default_value = lake::DEFAULT)]
    lake: String,
}

/// Refresh the view and say what was done.
///
/// # Errors
/// `NotFound` for a view that is not there; as `Engine::execute`.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let engine = lake::open_existing(context, &args.lake).await?;
    let full = match (args.full, args.force) {
        (true, true) => " FULL FORCE",
        (true, false) => " FULL",
        _ => "",
    };
    let text = format!("REFRESH MATERIALIZED VIEW {}{full}", args.view);
    sql::local(context, &engine, &text, super::format::Format::Table).await
}
