//! `flash explain`: how the next refresh of a view will run, and why.
//!
//! ```text
//!  gold.kpis              ─▶ EXPLAIN MATERIALIZED VIEW gold.kpis     in the lake
//!  gold.kpis --project p  ─▶ the same, in an empty lake in memory that holds the project: nothing is touched
//!  sql/gold/kpis.sql      ─▶ EXPLAIN <the file as it stands>         over what the lake (or project) holds
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::DataType;
use futures::TryStreamExt;

use super::{Context, format, lake};
use crate::catalog::Principal;
use crate::engine::{Answer, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::project;

/// Put before the text of a file, on its first line, so that line numbers stay those of the file.
const PREFIX: &str = "EXPLAIN ";

/// Flags of `flash explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A view, such as gold.kpis, or the file of one, such as sql/gold/kpis.sql
    #[arg(value_name = "VIEW|FILE.sql")]
    what: String,
    /// The lake: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "DIR|s3://...", conflicts_with = "project", default_value = lake::DEFAULT)]
    lake: String,
    /// Explain over the views of this project folder, without a lake
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
}

/// Print the plan.
///
/// # Errors
/// `NotFound`, `Syntax`, `Definition`, `NotIncremental`.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let engine = open(context, &args).await?;
    if Path::new(&args.what).extension().is_none_or(|extension| extension != "sql") {
        return print(context, &engine, &format!("EXPLAIN MATERIALIZED VIEW {}", args.what)).await;
    }
    let object = project::load_file(Path::new(&args.what))?;
    print(context, &engine, &format!("{PREFIX}{}", object.sql)).await.map_err(|error| in_file(error, &args.what))
}

async fn open(context: &Context, args: &Args) -> Result<Arc<Engine>> {
    let Some(folder) = &args.project else {
        return lake::open_existing(context, &args.lake).await;
    };
    let engine = lake::open(context, "memory:", lake::Sources::new()).await?;
    engine.apply(&project::load(folder)?).await?;
    Ok(engine)
}

async fn print(context: &Context, engine: &Engine, text: &str) -> Result<()> {
    let principal = Principal::local();
    let session = engine.session(&principal).await?;
    let (schema, stream) = match engine.execute(&session, &principal, text).await? {
        Answer::Rows { schema, stream } => (schema, stream),
        Answer::Done { message, .. } => return context.terminal.data(&message),
    };
    let batches: Vec<_> = stream.map_err(Error::from).try_collect().await?;
    // One column of text is the plan, line by line; a frame around it would only be in the way.
    if let [field] = schema.fields().as_ref()
        && field.data_type() == &DataType::Utf8
    {
        let lines = batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten());
        return context.terminal.data(&lines.collect::<Vec<_>>().join("\n"));
    }
    context.terminal.data(&format::table_text(&schema, &batches)?)
}

/// Name the file in the location of an error, and take the prefix out of its column.
fn in_file(error: Error, file: &str) -> Error {
    match error.location().cloned() {
        Some(mut at) => {
            at.file = Some(file.to_string());
            if at.line == 1 {
                at.column = at.column.saturating_sub(PREFIX.len()).max(1);
                at.text = at.text.strip_prefix(PREFIX).unwrap_or(&at.text).to_string();
            }
            error.with_location(at)
        }
        None if error.kind() == ErrorKind::Definition => error.context(file),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Location;

    #[test]
    fn errors_point_into_the_file() {
        let at = |line, column, text: &str| Location { file: None, line, column, text: text.into() };
        let moved = |location| {
            let error = Error::new(ErrorKind::Syntax, "it").with_location(location);
            in_file(error, "sql/a/b.sql").location().cloned().unwrap()
        };
        let first = moved(at(1, 15, "EXPLAIN CREATE VIEW"));
        assert_eq!((first.file.as_deref(), first.column, first.text.as_str()), (Some("sql/a/b.sql"), 7, "CREATE VIEW"));
        let second = moved(at(2, 3, "AS SELECT"));
        assert_eq!((second.line, second.column, second.text.as_str()), (2, 3, "AS SELECT"));
    }
}
