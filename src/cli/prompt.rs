//! The prompt of `flash sql`: lines until a `;`, history, and a few commands that begin with a backslash.
//!
//! ```text
//!  flash> SELECT *            a statement ends with `;`, over as many lines as it takes
//!    ...> FROM gold.kpis;
//!  flash> \d                  tables      \d gold.kpis   its columns     \?  help     \q  quit
//! ```

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::format::Format;
use super::sql::{Target, script};
use super::terminal::OUTPUT_CLOSED;
use super::{Context, terminal::Look};
use crate::error::{Error, ErrorKind, Result};

const HELP: &str = "  SELECT ...;            a statement ends with a semicolon
  \\d                     tables and views
  \\d gold.kpis           columns of one
  \\q                     quit (so does Ctrl-D); Ctrl-C stops a query";

/// What a line (with the lines before it) asks for.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Empty,
    More,
    Quit,
    Help,
    Run(String),
    Mistake(String),
}

/// Read and run statements until the user leaves.
///
/// # Errors
/// `Internal` when the terminal cannot be used; errors of statements are shown and the prompt goes on.
pub async fn run(context: &Context, target: &mut Target, format: Format) -> Result<()> {
    let broken = |error: ReadlineError| Error::new(ErrorKind::Internal, format!("the prompt failed: {error}"));
    let mut editor = DefaultEditor::new().map_err(broken)?;
    if let Some(file) = &context.config.history_file {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    context.terminal.say(&context.terminal.paint(Look::Faint, "statements end with ;   \\? helps   \\q quits"));
    let mut text = String::new();
    loop {
        let prompt = if text.is_empty() { "flash> " } else { "  ...> " };
        match tokio::task::block_in_place(|| editor.readline(prompt)) {
            Ok(line) => text.push_str(&format!("{line}\n")),
            Err(ReadlineError::Interrupted) => text.clear(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(broken(error)),
        }
        let input = input(&text);
        if input != Input::More {
            let _ = editor.add_history_entry(text.trim());
            text.clear();
        }
        match input {
            Input::Empty | Input::More => {}
            Input::Quit => break,
            Input::Help => context.terminal.say(HELP),
            Input::Mistake(message) => context.terminal.warn(&message),
            Input::Run(sql) => statement(context, target, &sql, format).await?,
        }
    }
    if let Some(file) = &context.config.history_file {
        let _ = editor.save_history(file);
    }
    Ok(())
}

/// Run one input; Ctrl-C leaves it, errors are shown.
async fn statement(context: &Context, target: &mut Target, sql: &str, format: Format) -> Result<()> {
    let result = tokio::select! {
        result = script(context, target, sql, format) => result,
        _ = tokio::signal::ctrl_c() => Err(Error::new(ErrorKind::Cancelled, "cancelled")),
    };
    match result {
        Err(error) if error.message() == OUTPUT_CLOSED => Err(error),
        Err(error) => {
            context.terminal.say(error.render().trim_end());
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Understand what was typed so far.
fn input(text: &str) -> Input {
    let trimmed = text.trim();
    let word = trimmed.trim_end_matches(';').to_lowercase();
    match word.as_str() {
        "" => return Input::Empty,
        "\\q" | "quit" | "exit" => return Input::Quit,
        "\\?" | "\\h" | "help" => return Input::Help,
        "\\d" => return Input::Run(TABLES.into()),
        _ => {}
    }
    if let Some(name) = word.strip_prefix("\\d ") {
        return columns(name.trim());
    }
    if trimmed.starts_with('\\') {
        return Input::Mistake(format!("{trimmed} is no command; \\? lists them"));
    }
    if is_complete(trimmed) { Input::Run(text.to_string()) } else { Input::More }
}

const TABLES: &str = "SELECT table_schema AS schema, table_name AS name, table_type AS type FROM information_schema.tables \
                      WHERE table_schema <> 'information_schema' ORDER BY 1, 2";

fn columns(name: &str) -> Input {
    let Some((schema, table)) = name.split_once('.') else {
        return Input::Mistake(format!("\\d {name}: write schema.name, such as gold.kpis"));
    };
    let quoted = |text: &str| text.trim_matches('"').replace('\'', "''");
    Input::Run(format!(
        "SELECT column_name AS column, data_type AS type, is_nullable AS nullable FROM information_schema.columns \
         WHERE table_schema = '{}' AND table_name = '{}' ORDER BY ordinal_position",
        quoted(schema),
        quoted(table)
    ))
}

/// The text ends with a `;` that is outside quotes and comments.
fn is_complete(text: &str) -> bool {
    let mut rest = text.chars().peekable();
    let mut last = ' ';
    while let Some(c) = rest.next() {
        match c {
            '\'' | '"' => {
                // A doubled quote closes and opens again, which comes to the same.
                if !rest.by_ref().any(|inner| inner == c) {
                    return false;
                }
                last = c;
            }
            '-' if rest.peek() == Some(&'-') => {
                rest.by_ref().take_while(|inner| *inner != '\n').for_each(drop);
            }
            '/' if rest.peek() == Some(&'*') => {
                let mut previous = ' ';
                let closed = rest.by_ref().any(|inner| {
                    let end = previous == '*' && inner == '/';
                    previous = inner;
                    end
                });
                if !closed {
                    return false;
                }
            }
            c if c.is_whitespace() => {}
            c => last = c,
        }
    }
    last == ';'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_with_a_semicolon_outside_quotes_and_comments() {
        for text in ["SELECT 1;", "SELECT 'a;b';", "SELECT 1; -- done", "SELECT 'it''s';", "SELECT 1 /* ; */ ;"] {
            assert_eq!(input(text), Input::Run(text.into()), "{text}");
        }
        for text in ["SELECT 1", "SELECT 'a;", "SELECT 1 -- ;", "SELECT /* ;", "SELECT \"a;", "SELECT ';'"] {
            assert_eq!(input(text), Input::More, "{text}");
        }
    }

    #[test]
    fn commands_are_understood() {
        assert_eq!(input("\n"), Input::Empty);
        assert_eq!([input("\\q"), input("exit;"), input("QUIT")], [Input::Quit, Input::Quit, Input::Quit]);
        assert_eq!(input("\\?"), Input::Help);
        assert_eq!(input("\\d"), Input::Run(TABLES.into()));
        assert!(matches!(input("\\d Gold.Kpis"), Input::Run(sql) if sql.contains("'gold'") && sql.contains("'kpis'")));
        assert!(matches!(input("\\d kpis"), Input::Mistake(_)));
        assert!(matches!(input("\\x"), Input::Mistake(_)));
    }
}
