//! Tests of SQL: scripts that are run twice, and must give the same answers.
//!
//! ```text
//!   *.slt ─▶ Script ─┬─▶ as written                                  one refresh a statement ─┐
//!                    └─▶ INSERT ... VALUES (a), (b)                                           ├─▶ Verdict
//!                        as INSERT (a); INSERT (b)                   one refresh a row ───────┘
//!
//!   the rows of each query are compared with those in the script, so that both runs are compared with each other
//! ```
//!
//! [`Lake`] is what `flash test` runs a script on; whatever is a [`Database`] will do.

mod insert;
pub mod lake;
pub mod script;
mod source;

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::testing::insert::Insert;
pub use crate::testing::lake::Lake;
pub use crate::testing::script::line_of;
use crate::testing::script::{Expect, Record, Rows, Script};

/// What scripts are run on.
#[async_trait]
pub trait Database: Send {
    /// Carry out one statement, and let every view follow.
    ///
    /// # Errors
    /// What the statement is refused with.
    async fn run(&mut self, sql: &str) -> Result<Outcome>;

    /// Views that could not follow, and why: said beside rows that are not the expected ones.
    async fn held_back(&mut self) -> Vec<String> {
        vec![]
    }
}

/// What a statement came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out, and changed so many rows.
    Done(u64),
    /// It gave rows.
    Rows {
        /// How many columns they have.
        columns: usize,
        /// Cells as [`text_rows`] writes them.
        rows: Vec<Vec<String>>,
    },
}

/// How a script is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Each statement as it stands.
    AsWritten,
    /// An INSERT of many rows as many INSERTs, each followed by a refresh.
    RowByRow,
}

/// In which of the runs something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// In both, the same way.
    Both,
    /// In this one; in the other not, or in another way.
    Only(Run),
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// In one line.
    pub message: String,
    /// Errors and views that were held back.
    pub details: Vec<String>,
    /// The rows, where they are what is wrong.
    pub rows: Option<Different>,
}

/// Rows that are not the expected ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Different {
    /// Lines of the script.
    pub expected: Vec<String>,
    /// What the query gave, in the same order.
    pub found: Vec<Vec<String>>,
}

/// A record that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where it begins in its file; 1-based.
    pub line: usize,
    /// The statement.
    pub sql: String,
    /// In which of the runs.
    pub runs: Runs,
    /// What is wrong.
    pub problem: Problem,
}

/// What became of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records that are right in both runs.
    pub passed: usize,
    /// Records that are not.
    pub failed: usize,
    /// Records behind a statement that could not be carried out: whatever they gave would mean nothing.
    pub not_run: usize,
    /// What is wrong, by line.
    pub failures: Vec<Failure>,
}

/// Run a script both ways, each on a database of its own.
///
/// # Errors
/// As `open`: a database that cannot be had is no answer of a test.
pub async fn test<D: Database>(script: &Script, open: impl AsyncFn() -> Result<D>) -> Result<Verdict> {
    let as_written = once(script, &mut open().await?, Run::AsWritten).await;
    let row_by_row = once(script, &mut open().await?, Run::RowByRow).await;
    Ok(verdict(script, as_written, row_by_row))
}

/// What one run found: problems by the place of their record, and how many records were reached.
#[derive(Debug, Default)]
struct Found {
    problems: BTreeMap<usize, Problem>,
    reached: usize,
}

async fn once(script: &Script, database: &mut impl Database, run: Run) -> Found {
    let (mut found, mut labelled) = (Found::default(), BTreeMap::new());
    for (index, record) in script.records.iter().enumerate() {
        found.reached = index + 1;
        let outcome = carried_out(record, database, run).await;
        if let Err(mut problem) = judge(&record.expect, outcome, &mut labelled) {
            problem.details.extend(database.held_back().await);
            found.problems.insert(index, problem);
            if !matches!(record.expect, Expect::Rows(_)) {
                break;
            }
        }
    }
    found
}

/// A record as its run takes it. What is to be refused stays in one piece, since its first rows might be taken.
async fn carried_out(record: &Record, database: &mut impl Database, run: Run) -> Result<Outcome> {
    let singles = match (run, &record.expect) {
        (Run::RowByRow, Expect::Ok | Expect::Count(_)) => Insert::of(&record.sql).map(|insert| insert.singles()),
        _ => None,
    };
    let Some(singles) = singles else { return database.run(&record.sql).await };
    let mut total = 0;
    for single in singles {
        if let Outcome::Done(rows) = database.run(&single).await? {
            total += rows;
        }
    }
    Ok(Outcome::Done(total))
}

/// What is wrong with an outcome. `labelled`: the rows of labels so far.
fn judge(
    expect: &Expect,
    outcome: Result<Outcome>,
    labelled: &mut BTreeMap<String, Vec<String>>,
) -> Result<(), Problem> {
    match (expect, outcome) {
        (Expect::Error(text), Err(error)) if error.to_string().contains(text) => Ok(()),
        (Expect::Error(text), Err(error)) => {
            Err(problem(format!("it is refused, but not in the words \"{text}\""), Some(&error)))
        }
        (Expect::Error(_), Ok(_)) => Err(problem("it should be refused, and was carried out", None)),
        (_, Err(error)) => Err(problem("it was refused", Some(&error))),
        (Expect::Ok, Ok(_)) => Ok(()),
        (Expect::Count(expected), Ok(outcome)) => match outcome {
            Outcome::Done(rows) if rows == *expected => Ok(()),
            Outcome::Done(rows) => Err(problem(format!("it should change {expected} rows, and changed {rows}"), None)),
            Outcome::Rows { .. } => Err(problem("it should change rows, and gave some", None)),
        },
        (Expect::Rows(rows), Ok(Outcome::Done(_))) => {
            Err(problem(format!("it should give rows of {} columns, and gives none", rows.columns), None))
        }
        (Expect::Rows(expected), Ok(Outcome::Rows { columns, rows })) => compare(expected, columns, rows, labelled),
    }
}

fn compare(
    expected: &Rows,
    columns: usize,
    mut found: Vec<Vec<String>>,
    labelled: &mut BTreeMap<String, Vec<String>>,
) -> Result<(), Problem> {
    if columns != expected.columns {
        let message = format!("the query gives {columns} columns, and the script names {}", expected.columns);
        return Err(problem(message, None));
    }
    let mut lines = expected.lines.clone();
    if expected.any_order {
        found.sort_by_key(|row| line_of(row));
        lines.sort();
    }
    let given = found.iter().map(|row| line_of(row)).collect::<Vec<_>>();
    if given != lines {
        let message = match sorted(&given) == sorted(&lines) {
            true => {
                "the rows are the expected ones in another order, which the query does not fix: write rowsort, or ORDER BY"
            }
            false => "the rows differ",
        };
        return Err(Problem { rows: Some(Different { expected: lines, found }), ..problem(message, None) });
    }
    let Some(label) = &expected.label else { return Ok(()) };
    match labelled.insert(label.clone(), given.clone()) {
        Some(before) if before != given => {
            Err(problem(format!("an earlier query with the label \"{label}\" has other rows"), None))
        }
        _ => Ok(()),
    }
}

fn sorted(lines: &[String]) -> Vec<&String> {
    let mut lines = lines.iter().collect::<Vec<_>>();
    lines.sort();
    lines
}

fn problem(message: impl Into<String>, error: Option<&Error>) -> Problem {
    let details = error.map(|error| error.render().trim_end().to_string());
    Problem { message: message.into(), details: details.into_iter().collect(), rows: None }
}

/// Both runs put together.
fn verdict(script: &Script, as_written: Found, row_by_row: Found) -> Verdict {
    let reached = as_written.reached.min(row_by_row.reached);
    let mut verdict = Verdict { not_run: script.records.len(), ..Verdict::default() };
    for (index, record) in script.records.iter().enumerate() {
        let failures = match (as_written.problems.get(&index), row_by_row.problems.get(&index)) {
            (Some(one), Some(other)) if one == other => vec![(Runs::Both, one)],
            (one, other) => {
                let only = |run, found: Option<_>| found.map(|problem| (Runs::Only(run), problem));
                only(Run::AsWritten, one).into_iter().chain(only(Run::RowByRow, other)).collect()
            }
        };
        match failures.is_empty() {
            true if index < reached => verdict.passed += 1,
            true => continue,
            false => verdict.failed += 1,
        }
        verdict.not_run -= 1;
        verdict.failures.extend(failures.into_iter().map(|(runs, problem)| Failure {
            line: record.line,
            sql: record.sql.clone(),
            runs,
            problem: problem.clone(),
        }));
    }
    verdict
}

impl Failure {
    /// What a difference between the runs means, where there is one.
    pub fn meaning(&self) -> Option<&'static str> {
        match self.runs {
            Runs::Both => None,
            Runs::Only(Run::AsWritten) => Some("the run with a refresh after every row does not fail in this way"),
            Runs::Only(Run::RowByRow) => Some(
                "the run as written does not fail in this way: either the incremental refresh is at fault (AUDIT MATERIALIZED VIEW \
                 compares a view with its query), or the query asks for what may differ between the runs: an order \
                 that it does not fix, or _epoch",
            ),
        }
    }
}

/// Rows as text: NULL, instants with a T, floating point to nine digits, since its sums depend on the order of rows.
///
/// # Errors
/// `Query` for a type that has no text.
pub fn text_rows(batches: &[RecordBatch]) -> Result<Vec<Vec<String>>> {
    let options = FormatOptions::new().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        let floating = batch.columns().iter().map(|column| column.data_type().is_floating()).collect::<Vec<_>>();
        for row in 0..batch.num_rows() {
            let cell = |(column, floating): (&ArrayFormatter<'_>, &bool)| {
                let text = column.value(row).to_string();
                if *floating { rounded(&text) } else { text }
            };
            rows.push(columns.iter().zip(&floating).map(cell).collect());
        }
    }
    Ok(rows)
}

fn rounded(text: &str) -> String {
    match format!("{:.8e}", text.parse::<f64>().unwrap_or(f64::NAN)).parse::<f64>() {
        // Not -0, which equals it.
        Ok(0.0) => "0".into(),
        Ok(value) if value.is_finite() => value.to_string(),
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// A database that has answers ready: by statement, how often it has been asked included.
    #[derive(Debug, Default)]
    struct Scripted {
        rows: Vec<String>,
        wrong_after: usize,
    }

    #[async_trait]
    impl Database for Scripted {
        async fn run(&mut self, sql: &str) -> Result<Outcome> {
            if sql.starts_with("INSERT") {
                let rows = Insert::of(sql).unwrap().queries();
                self.rows.extend(rows.iter().map(|row| row.split(' ').nth(1).unwrap().to_string()));
                return match self.rows.len() {
                    count if count > self.wrong_after && rows.len() == 1 => {
                        self.rows.pop();
                        Ok(Outcome::Done(1))
                    }
                    _ => Ok(Outcome::Done(rows.len() as u64)),
                };
            }
            match sql {
                "SELECT" => {
                    let rows = self.rows.iter().map(|row| vec![row.clone()]).collect();
                    Ok(Outcome::Rows { columns: 1, rows })
                }
                _ => Err(Error::new(ErrorKind::NotFound, "there is no such thing").with_hint("look elsewhere")),
            }
        }

        async fn held_back(&mut self) -> Vec<String> {
            vec!["s.v was not refreshed: why".into()]
        }
    }

    async fn tested(text: &str, wrong_after: usize) -> Verdict {
        let script = Script::parse("t.slt", text).unwrap();
        test(&script, async || Ok(Scripted { rows: vec![], wrong_after })).await.unwrap()
    }

    const INSERT: &str = "statement count 2\nINSERT INTO s.t VALUES (2), (1)\n\n";

    fn query(head: &str, rows: &str) -> String {
        format!("{INSERT}query I {head}\nSELECT\n----\n{rows}\n")
    }

    #[tokio::test]
    async fn right_answers_pass_in_both_runs() {
        let both = tested(&query("rowsort", "2\n1"), 9).await;
        assert_eq!(both, Verdict { passed: 2, ..Verdict::default() });
        assert_eq!(tested("statement error no such thing\nX\n\nquery error look\nX", 9).await.passed, 2);
        let labelled = format!("{}\nquery I rowsort a\nSELECT\n----\n1\n2\n", query("rowsort a", "1\n2"));
        assert_eq!(tested(&labelled, 9).await.passed, 3);
    }

    #[tokio::test]
    async fn wrong_rows_are_told_with_those_that_were_expected() {
        let verdict = tested(&query("", "2\n3"), 9).await;
        assert_eq!((verdict.passed, verdict.failed), (1, 1));
        let failure = &verdict.failures[0];
        assert_eq!((failure.line, failure.runs, failure.meaning()), (4, Runs::Both, None));
        let found = vec![vec!["2".to_string()], vec!["1".to_string()]];
        assert_eq!(failure.problem.rows, Some(Different { expected: vec!["2".into(), "3".into()], found }));
        assert_eq!(failure.problem.details, ["s.v was not refreshed: why"]);
        let order = tested(&query("", "1\n2"), 9).await;
        assert!(order.failures[0].problem.message.contains("rowsort"), "{order:?}");
        let columns = tested(&query("", "1\n2").replace("query I", "query II"), 9).await;
        assert!(columns.failures[0].problem.message.contains("gives 1 columns, and the script names 2"));
    }

    #[tokio::test]
    async fn a_difference_between_the_runs_is_told() {
        let verdict = tested(&query("rowsort", "1\n2"), 1).await;
        let failure = &verdict.failures[0];
        assert_eq!(failure.runs, Runs::Only(Run::RowByRow));
        assert!(failure.meaning().unwrap().contains("incremental refresh"), "{failure:?}");
        let other_way = tested(&query("rowsort", "2"), 1).await;
        assert_eq!(other_way.failures[0].runs, Runs::Only(Run::AsWritten));
    }

    #[tokio::test]
    async fn behind_a_statement_that_fails_nothing_is_run() {
        let script = format!("statement ok\nX\n\n{}", query("rowsort", "1\n2"));
        let verdict = tested(&script, 9).await;
        assert_eq!((verdict.passed, verdict.failed, verdict.not_run), (0, 1, 2));
        assert!(verdict.failures[0].problem.details[0].contains("error: there is no such thing"));
        let counted = tested(&INSERT.replace("count 2", "count 3"), 9).await;
        assert_eq!(counted.failures[0].problem.message, "it should change 3 rows, and changed 2");
        let carried_out = tested(&INSERT.replace("count 2", "error"), 9).await;
        assert_eq!(carried_out.failures[0].problem.message, "it should be refused, and was carried out");
        let worded = tested("statement error other words\nX", 9).await;
        assert!(worded.failures[0].problem.message.contains("\"other words\""));
    }

    #[test]
    fn floating_point_is_short() {
        let texts = ["0.1", "0.30000000000000004", "-0.0", "1e300", "28.6139", "NaN", "inf", "2.0"].map(rounded);
        assert_eq!(texts[..3], ["0.1", "0.3", "0"]);
        assert_eq!(texts[4..], ["28.6139", "NaN", "inf", "2"]);
    }
}
