//! The prompt of `flash sql`: lines until a `;`, history, completion, and a few commands that begin with a backslash.
//!
//! ```text
//!  flash> SELECT *            a statement ends with `;`, over as many lines as it takes
//!    ...> FROM gold.k⇥        Tab offers names and keywords (complete.rs)
//!  flash> \d                  tables      \d gold.kpis   its columns     \?  help     \q  quit
//! ```

mod complete;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use clap::ValueEnum;
use rustyline::config::CompletionType;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use complete::Names;

use super::format::Format;
use super::sql::{Target, script, texts};
use super::terminal::{OUTPUT_CLOSED, duration};
use super::{Context, terminal::Look};
use crate::error::{Error, ErrorKind, Result};
use crate::project;

const HELP: &str = "  SELECT ...;            a statement ends with a semicolon; Tab completes names and keywords
  \\d                     tables and views
  \\d gold.kpis           columns of one
  \\dv                    views: mode, rows, epoch
  \\dp  \\du               policies and masks; users
  \\f table|json|csv      how rows are written
  \\i FILE                run the statements of a file
  \\timing                tell how long each took, or not
  \\?                     this
  \\q                     quit (so does Ctrl-D); Ctrl-C stops a query";

/// Names for completion.
const NAMES: &str = "SELECT table_schema || '.' || table_name, column_name FROM information_schema.columns \
                     WHERE table_schema <> 'information_schema' ORDER BY table_schema, table_name, ordinal_position";

/// What a line (with the lines before it) asks for.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Empty,
    More,
    Quit,
    Help,
    Timing,
    Format(Format),
    File(String),
    Run(String),
    Mistake(String),
}

/// Read and run statements until the user leaves.
///
/// # Errors
/// `Internal` when the terminal cannot be used; errors of statements are shown and the prompt goes on.
pub async fn run(context: &Context, target: &mut Target, format: Format) -> Result<()> {
    let broken = |error: ReadlineError| Error::new(ErrorKind::Internal, format!("the prompt failed: {error}"));
    let settings = Config::builder().completion_type(CompletionType::List).build();
    let mut editor: Editor<Names, FileHistory> = Editor::with_config(settings).map_err(broken)?;
    if let Some(file) = &context.config.history_file {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    editor.set_helper(Some(Names { tables: names(target).await, ..Names::default() }));
    context.terminal.say(&context.terminal.paint(Look::Faint, "statements end with ;   \\? helps   \\q quits"));
    let (mut text, mut format, mut timing) = (String::new(), format, false);
    loop {
        let prompt = if text.is_empty() { "flash> " } else { "  ...> " };
        if let Some(names) = editor.helper_mut() {
            names.before.clone_from(&text);
        }
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
        let sql = match carried_out(context, input, &mut format, &mut timing) {
            Next::Line => continue,
            Next::End => break,
            Next::Run(sql) => sql,
        };
        let began = Instant::now();
        statement(context, target, &sql, format).await?;
        if timing {
            let took = duration(i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX));
            context.terminal.say(&context.terminal.paint(Look::Faint, &format!("took {took}")));
        }
        if changes_names(&sql)
            && let Some(helper) = editor.helper_mut()
        {
            helper.tables = names(target).await;
        }
    }
    if let Some(file) = &context.config.history_file {
        let _ = editor.save_history(file);
    }
    Ok(())
}

/// What comes after an input.
enum Next {
    Line,
    End,
    Run(String),
}

/// Do what needs no engine.
fn carried_out(context: &Context, input: Input, format: &mut Format, timing: &mut bool) -> Next {
    match input {
        Input::Empty | Input::More => {}
        Input::Quit => return Next::End,
        Input::Help => context.terminal.say(HELP),
        Input::Timing => {
            *timing = !*timing;
            context.terminal.say(if *timing { "times are told" } else { "times are not told" });
        }
        Input::Format(asked) => *format = asked,
        Input::Mistake(message) => context.terminal.warn(&message),
        Input::File(path) => match project::text(Path::new(&path)) {
            Ok(sql) => return Next::Run(sql),
            Err(error) => context.terminal.say(error.render().trim_end()),
        },
        Input::Run(sql) => return Next::Run(sql),
    }
    Next::Line
}

/// Columns by table; none where they cannot be read, since only completion would miss them.
async fn names(target: &mut Target) -> BTreeMap<String, Vec<String>> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in texts(target, NAMES).await.unwrap_or_default() {
        if let [table, column] = row.as_slice() {
            tables.entry(table.clone()).or_default().push(column.clone());
        }
    }
    tables
}

/// There may be other tables afterwards.
fn changes_names(sql: &str) -> bool {
    let text = sql.to_lowercase();
    ["create", "drop"].iter().any(|verb| text.contains(verb))
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
        "\\dv" => return Input::Run("SHOW MATERIALIZED VIEWS".into()),
        "\\dp" => return Input::Run("SELECT * FROM system.policies ORDER BY object_name, policy_name".into()),
        "\\du" => return Input::Run("SELECT * FROM system.users ORDER BY 1".into()),
        "\\timing" => return Input::Timing,
        _ => {}
    }
    if let Some(name) = word.strip_prefix("\\d ") {
        return columns(name.trim());
    }
    if let Some(name) = word.strip_prefix("\\f ") {
        return match Format::from_str(name.trim(), true) {
            Ok(format) => Input::Format(format),
            Err(_) => Input::Mistake(format!("\\f {name}: there are table, json and csv")),
        };
    }
    if let Some(path) = trimmed.strip_prefix("\\i ") {
        return Input::File(path.trim().to_string());
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
        assert_eq!(input("\\timing"), Input::Timing);
        assert_eq!(input("\\f JSON"), Input::Format(Format::Json));
        assert!(matches!(input("\\f xml"), Input::Mistake(_)));
        assert_eq!(input("\\i Some/File.sql"), Input::File("Some/File.sql".into()));
        for command in complete::COMMANDS {
            let told = input(&format!("{command} x")) != Input::More && input(command) != Input::More;
            assert!(told && HELP.contains(command), "{command}");
        }
    }
}
