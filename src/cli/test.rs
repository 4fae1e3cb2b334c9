//! `flash test`: the project's own tests, each run twice, on a lake in memory, with a clock that stands still.
//!
//! ```text
//!  sql/*/*.sql ──┐
//!                ├─▶ testing::test, file by file ─▶ ok | FAILED, and for each failure: place, query,
//!  sql/**/*.slt ─┘                                  - expected  + found      exit 0: all passed      exit 1: not all
//! ```

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::Context;
use super::terminal::{Look, Terminal};
use crate::engine::ProjectObject;
use crate::error::{Error, ErrorKind, Result};
use crate::project;
use crate::testing::script::Script;
use crate::testing::{self, Different, Failure, Lake, Run, Runs, Verdict};

/// The exit code when a test has failed.
const FAILED: u8 = 1;

/// Rows around a difference that are shown with it.
const CONTEXT_ROWS: usize = 2;

/// Lines of a difference that are shown; JSON has all of them.
const DIFFERENCE_LINES_MAX: usize = 60;

/// What a first test may look like.
const EXAMPLE: &str = "\
write one, such as tests/orders.slt in the project's folder:

  statement ok
  INSERT INTO raw.events (event_id, price) VALUES ('e1', 499.00), ('e1', 499.00)

  query I
  SELECT count(*) FROM silver.events
  ----
  1
";

/// Flags of `flash test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder with the definitions, one object a file: SCHEMA/NAME.sql
    #[arg(long, value_name = "DIR", default_value = "sql")]
    project: PathBuf,
    /// The tests, files or folders of them [default: every *.slt of the project's folder]
    #[arg(value_name = "FILE.slt")]
    files: Vec<PathBuf>,
    /// One JSON object: counts, and every failure with its rows
    #[arg(long)]
    json: bool,
}

/// A script and what became of it.
struct Tested {
    script: Script,
    verdict: Verdict,
}

/// Run the tests, and tell; the process's exit code.
///
/// # Errors
/// `Config` where there is nothing to test; `Syntax` for a script with a mistake; as `project::load` and as
/// `Engine::apply` for the project itself.
pub async fn run(context: &Context, args: Args) -> Result<u8> {
    let begun = Instant::now();
    let objects = project::load(&args.project)?;
    let read = |file: &PathBuf| Script::parse(&file.to_string_lossy(), &project::text(file)?);
    let scripts = files(&args)?.iter().map(read).collect::<Result<Vec<_>>>()?;
    let (mut tested, width) = (vec![], scripts.iter().map(|script| script.file.len()).max().unwrap_or(0));
    for script in scripts {
        let one = judged(&objects, script).await?;
        if !args.json {
            context.terminal.data(&headline(context.terminal, &one, width))?;
        }
        tested.push(one);
    }
    let seconds = begun.elapsed().as_secs_f64();
    match args.json {
        true => context.terminal.data(&serde_json::to_string_pretty(&as_json(&tested, seconds))?)?,
        false => context.terminal.data(&as_text(context.terminal, &tested, seconds))?,
    }
    Ok(if tested.iter().any(|one| one.verdict.failed > 0) { FAILED } else { 0 })
}

async fn judged(objects: &[ProjectObject], script: Script) -> Result<Tested> {
    let verdict = testing::test(&script, async || Lake::open(objects, &script).await).await?;
    Ok(Tested { script, verdict })
}

/// The scripts that are meant.
fn files(args: &Args) -> Result<Vec<PathBuf>> {
    let mut files = vec![];
    let places = if args.files.is_empty() { std::slice::from_ref(&args.project) } else { &args.files };
    for place in places {
        match place.is_dir() {
            true => files.extend(project::tests(place)?),
            false => files.push(place.clone()),
        }
    }
    match files.is_empty() {
        false => Ok(files),
        true => Err(Error::new(ErrorKind::Config, format!("no tests in {}", shown(places))).with_hint(EXAMPLE)),
    }
}

fn shown(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn headline(terminal: Terminal, tested: &Tested, width: usize) -> String {
    let Tested { script, verdict } = tested;
    let word = match verdict.failed {
        0 => terminal.paint(Look::Good, "ok    "),
        _ => terminal.paint(Look::Bad, "FAILED"),
    };
    let counts =
        [counted(script.statements(), "statement", "statements"), counted(script.queries(), "query", "queries")];
    let not_run = match verdict.not_run {
        0 => String::new(),
        count => format!("; {count} not run"),
    };
    format!("{word}  {:width$}  {}{not_run}", script.file, counts.join(", "))
}

fn as_text(terminal: Terminal, tested: &[Tested], seconds: f64) -> String {
    let mut lines = vec![];
    for Tested { script, verdict } in tested {
        for failure in &verdict.failures {
            lines.push(String::new());
            lines.extend(told(terminal, Path::new(&script.file), failure));
        }
    }
    let sum = |count: fn(&Verdict) -> usize| tested.iter().map(|one| count(&one.verdict)).sum::<usize>();
    let statements = tested.iter().map(|one| one.script.statements()).sum();
    let queries = tested.iter().map(|one| one.script.queries()).sum();
    let (failed, not_run) = (sum(|verdict| verdict.failed), sum(|verdict| verdict.not_run));
    let not_run = if not_run > 0 { format!(", {not_run} not run") } else { String::new() };
    lines.push(format!(
        "\n{}, {}, {}, each in two runs: {} passed, {failed} failed{not_run} in {seconds:.1} s",
        counted(tested.len(), "file", "files"),
        counted(statements, "statement", "statements"),
        counted(queries, "query", "queries"),
        sum(|verdict| verdict.passed),
    ));
    lines.join("\n")
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A failure: where, what, and the rows.
fn told(terminal: Terminal, file: &Path, failure: &Failure) -> Vec<String> {
    let runs = match failure.runs {
        Runs::Both => "in both runs",
        Runs::Only(Run::AsWritten) => "in the run as written",
        Runs::Only(Run::RowByRow) => "in the run with a refresh after every row",
    };
    let place = terminal.paint(Look::Strong, &format!("{}:{}", file.display(), failure.line));
    let mut lines = vec![format!("{place}: {} ({runs})", failure.problem.message)];
    lines.extend(failure.sql.lines().map(|line| format!("    {}", terminal.paint(Look::Faint, line))));
    if let Some(different) = &failure.problem.rows {
        lines.push("    ---- (- expected, + found)".to_string());
        lines.extend(difference(different).into_iter().map(|line| match line.as_bytes().first() {
            Some(b'+') => format!("    {}", terminal.paint(Look::Good, &line)),
            Some(b'-') => format!("    {}", terminal.paint(Look::Bad, &line)),
            _ => format!("    {line}"),
        }));
    }
    lines.extend(failure.problem.details.iter().flat_map(|text| text.lines()).map(|line| format!("  {line}")));
    lines.extend(failure.meaning().map(|meaning| format!("  hint: {meaning}")));
    lines
}

/// The rows as a difference, in columns.
fn difference(different: &Different) -> Vec<String> {
    let (expected, found) = aligned(different);
    let [expected, found] = [&expected, &found].map(|lines| lines.iter().map(String::as_str).collect::<Vec<_>>());
    let difference = TextDiff::from_slices(&expected, &found);
    let mut lines = vec![];
    for (number, group) in difference.grouped_ops(CONTEXT_ROWS).iter().enumerate() {
        if number > 0 {
            lines.push("  ...".to_string());
        }
        lines.extend(group.iter().flat_map(|op| difference.iter_changes(op)).map(|change| {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            format!("{sign} {}", change.value()).trim_end().to_string()
        }));
    }
    let more = lines.len().saturating_sub(DIFFERENCE_LINES_MAX);
    lines.truncate(DIFFERENCE_LINES_MAX);
    lines.extend((more > 0).then(|| format!("  and {more} lines more; --json has all of them")));
    lines
}

/// Both sides as lines whose cells stand below each other. A line of the script tells its cells where it is one of the
/// rows that were found, or has as many words as there are columns.
fn aligned(different: &Different) -> (Vec<String>, Vec<String>) {
    let found = &different.found;
    let columns = found.first().map_or(0, Vec::len);
    let same = |line: &String| found.iter().find(|row| testing::line_of(row) == *line).cloned();
    let words = |line: &String| line.split(' ').map(String::from).collect::<Vec<_>>();
    let cells = |line: &String| same(line).unwrap_or_else(|| words(line));
    let expected = different.expected.iter().map(cells).collect::<Vec<_>>();
    let whole = |row: &&Vec<String>| row.len() == columns;
    let width = |column: usize| {
        let cells = expected.iter().chain(found).filter(whole).map(|row| shown_cell(&row[column]).chars().count());
        cells.max().unwrap_or(0)
    };
    let widths = (0..columns).map(width).collect::<Vec<_>>();
    let line = |row: &Vec<String>| match row.len() == columns {
        true => {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{:width$}", shown_cell(cell)));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
        }
        false => row.join(" "),
    };
    (expected.iter().map(line).collect(), found.iter().map(line).collect())
}

fn shown_cell(cell: &String) -> String {
    testing::line_of(std::slice::from_ref(cell))
}

fn as_json(tested: &[Tested], seconds: f64) -> Value {
    let failure = |failure: &Failure| {
        let runs = match failure.runs {
            Runs::Both => vec!["as written", "row by row"],
            Runs::Only(Run::AsWritten) => vec!["as written"],
            Runs::Only(Run::RowByRow) => vec!["row by row"],
        };
        let rows = failure.problem.rows.as_ref();
        json!({
            "line": failure.line,
            "sql": failure.sql,
            "runs": runs,
            "message": failure.problem.message,
            "details": failure.problem.details,
            "hint": failure.meaning(),
            "expected": rows.map(|rows| &rows.expected),
            "found": rows.map(|rows| rows.found.iter().map(|row| testing::line_of(row)).collect::<Vec<_>>()),
        })
    };
    let file = |one: &Tested| {
        json!({
            "file": one.script.file,
            "statements": one.script.statements(),
            "queries": one.script.queries(),
            "passed": one.verdict.passed,
            "failed": one.verdict.failed,
            "not_run": one.verdict.not_run,
            "failures": one.verdict.failures.iter().map(failure).collect::<Vec<_>>(),
        })
    };
    let sum = |count: fn(&Verdict) -> usize| tested.iter().map(|one| count(&one.verdict)).sum::<usize>();
    json!({
        "passed": sum(|verdict| verdict.passed),
        "failed": sum(|verdict| verdict.failed),
        "not_run": sum(|verdict| verdict.not_run),
        "seconds": seconds,
        "files": tested.iter().map(file).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn different(expected: &[&str], found: &[&[&str]]) -> Vec<String> {
        let row = |cells: &&[&str]| cells.iter().map(ToString::to_string).collect();
        difference(&Different {
            expected: expected.iter().map(ToString::to_string).collect(),
            found: found.iter().map(row).collect(),
        })
    }

    #[test]
    fn rows_stand_in_columns() {
        let found: &[&[&str]] = &[&["New Delhi", "12.50", ""], &["Pune", "7.00", "x"]];
        let lines = different(&["New Delhi 12.50 (empty)", "Pune 17.00 x", "too few"], found);
        assert_eq!(
            lines,
            ["  New Delhi  12.50  (empty)", "- Pune       17.00  x", "- too few", "+ Pune       7.00   x"]
        );
        assert_eq!(different(&["1 2"], &[]), ["- 1 2"]);
        assert_eq!(different(&[], &[&["1", "2"]]), ["+ 1  2"]);
    }

    #[test]
    fn long_differences_are_cut() {
        let numbers = (0..100).map(|n| n.to_string()).collect::<Vec<_>>();
        let lines = different(&numbers.iter().map(String::as_str).collect::<Vec<_>>(), &[&["x"]]);
        assert_eq!(lines.len(), DIFFERENCE_LINES_MAX + 1);
        assert_eq!(lines[DIFFERENCE_LINES_MAX], "  and 41 lines more; --json has all of them");
    }
}
