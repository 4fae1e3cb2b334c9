//! `flash forget`: one user's rows, out of every table and view, and out of storage.
//!
//! ```text
//!   user_id=u17 ─▶ FORGET WHERE "user_id" = 'u17' ─▶ a lake folder, or a running server ─▶ what went, and when the bytes do
//! ```

use super::format::Format;
use super::{Context, connect, lake, sql};
use crate::error::{Error, ErrorKind, Result};

/// Flags of `flash forget`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which rows: the column and its value, such as user_id=u17
    #[arg(value_name = "COLUMN=VALUE")]
    rows: String,
    /// Why, such as the number of a ticket; it is kept, and the value is not
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// The lake: a folder, or s3://bucket/prefix. No other process may be writing it
    #[arg(long, value_name = "DIR|s3://...", conflicts_with = "server", default_value = lake::DEFAULT)]
    lake: String,
    #[command(flatten)]
    server: connect::Flags,
}

/// Forget the rows, and say what was done.
///
/// # Errors
/// `Config` without a column or a value; as `Engine::execute`.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let text = statement(&args.rows, args.comment.as_deref())?;
    let mut target = sql::open(context, &args.lake, args.server, Some(&text)).await?;
    let done = sql::script(context, &mut target, &text, Format::Table).await;
    target.close().await;
    done
}

/// The statement that says the same.
fn statement(rows: &str, comment: Option<&str>) -> Result<String> {
    let Some((column, value)) = rows.split_once('=').filter(|(column, value)| !column.is_empty() && !value.is_empty())
    else {
        return Err(Error::new(ErrorKind::Config, format!("\"{rows}\" does not say which rows"))
            .with_hint("write a column and its value, such as user_id=u17"));
    };
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let comment = comment.map(|comment| format!(" COMMENT {}", quoted(comment))).unwrap_or_default();
    Ok(format!("FORGET WHERE \"{}\" = {}{comment}", column.replace('"', "\"\""), quoted(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_forgotten() {
        let said = statement("user_id=o'neil=1", Some("ticket 7")).unwrap();
        assert_eq!(said, "FORGET WHERE \"user_id\" = 'o''neil=1' COMMENT 'ticket 7'");
        for wrong in ["user_id", "=u1", "user_id="] {
            assert_eq!(statement(wrong, None).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
