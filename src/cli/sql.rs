//! `flash sql`: statements against a lake folder or a running server.
//!
//! ```text
//!  -c 'A; B; C' ─▶ parser: [A, B, C] ─▶ one after the other ─▶ table: the rows of each
//!                  (a mistake in C is                          json, csv: the rows of the last one
//!                   found before A runs)
//!  no -c, a terminal ─▶ the prompt (prompt.rs)          no -c, a pipe ─▶ stdin is the text
//! ```
//!
//! On a lake folder each statement has a session of its own, pinned to what is published when it starts, so that it
//! sees what another process has published meanwhile. What `SET` said is said again to each.

use std::io::Read;
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::parser::Statement as DfStatement;
use futures::{StreamExt, TryStreamExt};
use sqlparser::ast::Statement as SqlStatement;

use super::format::{self, Format};
use super::remote::Remote;
use super::{Context, connect, lake, prompt};
use crate::catalog::Principal;
use crate::engine::{Answer, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::parser::{self, Parsed, Statement};

/// The most `SET` statements that are kept for later ones.
const SETTINGS_MAX: usize = 100;

/// Flags of `flash sql`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The lake: a folder, or s3://bucket/prefix. Another process may be serving it
    #[arg(long, value_name = "DIR|s3://...", conflicts_with = "server", default_value = lake::DEFAULT)]
    lake: String,
    #[command(flatten)]
    server: connect::Flags,
    /// The statements, separated by `;`. Without it: a prompt, or the text from a pipe
    #[arg(short, long, value_name = "SQL")]
    command: Option<String>,
    /// How rows are written; a table on a terminal and CSV in a pipe unless given
    #[arg(long)]
    format: Option<Format>,
}

/// Where statements go.
#[derive(Debug)]
pub enum Target {
    /// A lake that this process opened.
    Lake {
        /// Its engine.
        engine: Arc<Engine>,
        /// What `SET` said so far.
        settings: Vec<String>,
    },
    /// A connection to a server; it keeps what `SET` said itself.
    Server(Box<Remote>),
}

impl Target {
    /// Let what goes on in the background end.
    pub async fn close(&self) {
        if let Self::Lake { engine, .. } = self {
            engine.finish_maintenance().await;
        }
    }
}

/// Run the statements, or the prompt.
///
/// # Errors
/// What the statements give.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let piped = args.command.is_none() && !context.terminal.stdin_is_terminal;
    let text = if piped { Some(stdin()?) } else { args.command };
    let people = context.terminal.stdout_is_terminal || text.is_none();
    let format = args.format.unwrap_or(if people { Format::Table } else { Format::Csv });
    let mut target = open(context, &args.lake, args.server, text.as_deref()).await?;
    let done = match text {
        Some(text) => script(context, &mut target, &text, format).await,
        None => prompt::run(context, &mut target, format).await,
    };
    target.close().await;
    done
}

/// A server, where one is named, or a lake, for these statements; `None`: for a prompt.
///
/// # Errors
/// As `Remote::connect`; those of opening a lake.
pub async fn open(context: &Context, lake: &str, server: connect::Flags, text: Option<&str>) -> Result<Target> {
    Ok(match server.connect().await? {
        Some(remote) => Target::Server(Box::new(remote)),
        None => Target::Lake { engine: lake::open_for(context, lake, text).await?, settings: Vec::new() },
    })
}

/// Statements against an engine of this process.
///
/// # Errors
/// What the statements give.
pub async fn local(context: &Context, engine: &Arc<Engine>, text: &str, format: Format) -> Result<()> {
    let mut target = Target::Lake { engine: engine.clone(), settings: Vec::new() };
    script(context, &mut target, text, format).await
}

/// All statements of a text, one after the other; the first that fails ends it.
///
/// # Errors
/// What the statements give.
pub async fn script(context: &Context, target: &mut Target, text: &str, format: Format) -> Result<()> {
    let statements = parser::parse(text, None)?;
    let last = statements.len().saturating_sub(1);
    for (at, parsed) in statements.iter().enumerate() {
        let shown = at == last || format == Format::Table;
        let error = match one(context, target, parsed, shown.then_some(format)).await {
            Ok(()) => continue,
            Err(error) => error,
        };
        return Err(in_text(error, text, parsed));
    }
    if statements.is_empty() && format == Format::Json {
        context.terminal.data("[]")?;
    }
    Ok(())
}

/// One statement. Without a format its rows are computed and let go, so that its errors are seen all the same.
async fn one(context: &Context, target: &mut Target, parsed: &Parsed, format: Option<Format>) -> Result<()> {
    let answer = match target {
        Target::Lake { engine, settings } => on_lake(engine, settings, parsed).await?,
        Target::Server(remote) => on_server(remote, &parsed.text).await?,
    };
    match (answer, format) {
        (Answer::Rows { schema, stream }, Some(format)) => {
            format::to_stdout(&schema, stream.map_err(Error::from), format).await?;
        }
        (Answer::Rows { mut stream, .. }, None) => {
            while let Some(batch) = stream.next().await {
                batch?;
            }
        }
        (Answer::Done { message, .. }, format) => {
            context.terminal.say(&message);
            if format == Some(Format::Json) {
                context.terminal.data("[]")?;
            }
        }
    }
    Ok(())
}

/// The rows of one query as texts; NULL is empty.
///
/// # Errors
/// What the query gives.
pub async fn texts(target: &mut Target, query: &str) -> Result<Vec<Vec<String>>> {
    let mut parsed = parser::parse(query, None)?;
    let Some(parsed) = parsed.pop() else { return Ok(vec![]) };
    let answer = match target {
        Target::Lake { engine, settings } => on_lake(engine, settings, &parsed).await?,
        Target::Server(remote) => on_server(remote, &parsed.text).await?,
    };
    let Answer::Rows { stream, .. } = answer else { return Ok(vec![]) };
    let mut rows = vec![];
    for batch in stream.try_collect::<Vec<_>>().await? {
        let options = FormatOptions::default();
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|it| it.value(row).to_string()).collect()));
    }
    Ok(rows)
}

async fn on_lake(engine: &Arc<Engine>, settings: &mut Vec<String>, parsed: &Parsed) -> Result<Answer> {
    let principal = Principal::local();
    let session = engine.session(&principal).await?;
    for setting in settings.iter() {
        engine.execute(&session, &principal, setting).await?;
    }
    let answer = engine.execute(&session, &principal, &parsed.text).await?;
    if is_setting(&parsed.statement) {
        if settings.len() >= SETTINGS_MAX {
            return Err(Error::new(ErrorKind::Config, "too many SET statements")
                .with_detail(format!("the limit is {SETTINGS_MAX}")));
        }
        settings.push(parsed.text.clone());
    }
    Ok(answer)
}

fn is_setting(statement: &Statement) -> bool {
    let Statement::Sql(statement) = statement else { return false };
    matches!(statement.as_ref(), DfStatement::Statement(inner) if matches!(inner.as_ref(), SqlStatement::Set(_)))
}

async fn on_server(remote: &mut Remote, text: &str) -> Result<Answer> {
    let reply = remote.query(text).await?;
    if let Some(message) = reply.message {
        return Ok(Answer::Done { message, rows_affected: reply.rows_affected });
    }
    let rows = futures::stream::iter(reply.batches.into_iter().map(Ok));
    let stream = RecordBatchStreamAdapter::new(reply.schema.clone(), rows);
    Ok(Answer::Rows { schema: reply.schema, stream: Box::pin(stream) })
}

/// An error of one statement, with its place in the whole text.
fn in_text(error: Error, text: &str, parsed: &Parsed) -> Error {
    let Some(mut at) = error.location().cloned() else { return error };
    let before = &text[..parsed.offset.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    if at.line == 1 {
        at.column += before[line_start..].chars().count();
        at.text = text[line_start..].lines().next().unwrap_or_default().to_string();
    }
    at.line += before.matches('\n').count();
    error.with_location(at)
}

fn stdin() -> Result<String> {
    let mut text = String::new();
    let limit = parser::INPUT_BYTES_MAX as u64 + 1;
    std::io::stdin().take(limit).read_to_string(&mut text).map_err(|error| Error::from(error).context("stdin"))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Location;

    #[test]
    fn errors_point_into_the_whole_text() {
        let text = "SELECT 1;\nSELECT 2; SELECT x\n FROM y";
        let parsed = &parser::parse(text, None).unwrap()[2];
        let moved = |line, column, line_text: &str| {
            let at = Location { file: None, line, column, text: line_text.into() };
            let error = Error::new(ErrorKind::Definition, "it").with_location(at);
            in_text(error, text, parsed).location().cloned().unwrap()
        };
        let first = moved(1, 8, "SELECT x");
        assert_eq!((first.line, first.column, first.text.as_str()), (2, 18, "SELECT 2; SELECT x"));
        let second = moved(2, 7, " FROM y");
        assert_eq!((second.line, second.column, second.text.as_str()), (3, 7, " FROM y"));
    }

    #[test]
    fn settings_are_told_from_the_rest() {
        let is = |text: &str| is_setting(&parser::parse(text, None).unwrap()[0].statement);
        assert!(is("SET wait_for_views = off"));
        assert!(!is("SELECT 1"));
        assert!(!is("SHOW MATERIALIZED VIEWS"));
    }
}
