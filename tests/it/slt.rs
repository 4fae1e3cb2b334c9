//! Scripts in the sqllogictest format, each run twice on a lake of its own.
//!
//! ```text
//!   tests/slt/*.slt ─┬─ as written
//!                    └─ INSERT ... VALUES (a), (b)  as  INSERT ... VALUES (a); INSERT ... VALUES (b)     ─▶ same answers
//! ```
//!
//! After every statement, each view of the script is compared with its own query, too.

use std::path::Path;

use async_trait::async_trait;
use flashcommerce::catalog::Principal;
use flashcommerce::engine::Answer;
use flashcommerce::error::Error;
use futures::TryStreamExt;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

use crate::engine::harness::{Lake, lines};
use crate::incremental::oracle::{Refreshes, View, difference};

struct Db {
    lake: Lake,
    split: bool,
    views: Vec<View>,
    refreshes: Refreshes,
}

impl Db {
    async fn new(split: bool) -> Result<Self, Error> {
        Ok(Self { lake: Lake::new(&[]).await, split, views: vec![], refreshes: Refreshes::default() })
    }

    async fn one(&self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
        let session = self.lake.engine.session(&Principal::system()).await?;
        match self.lake.engine.execute(&session, &Principal::system(), sql).await? {
            Answer::Done { rows_affected, .. } => Ok(DBOutput::StatementComplete(rows_affected.unwrap_or(0))),
            Answer::Rows { schema, stream } => {
                let batches: Vec<_> = stream.try_collect().await.map_err(Error::from)?;
                let cells = |line: String| line.split('|').map(ToString::to_string).collect();
                let rows = lines(&batches).into_iter().map(cells).collect();
                Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; schema.fields().len()], rows })
            }
        }
    }

    /// Views that are kept up to date: one with a rule for rows holds less than its query.
    fn follow(&mut self, sql: &str) {
        let words = sql.split_whitespace().take(5).collect::<Vec<_>>();
        match words[..] {
            ["CREATE", "MATERIALIZED", "VIEW", name, "AS"] => {
                let query = sql.split_once(" AS").unwrap().1.to_string();
                self.views.push(View { name: name.to_string(), query });
            }
            ["DROP", "MATERIALIZED", "VIEW", name, ..] | ["ALTER", "MATERIALIZED", "VIEW", name, ..] => {
                self.views.retain(|view| view.name != name);
            }
            _ => {}
        }
    }
}

#[async_trait]
impl AsyncDB for Db {
    type Error = Error;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
        let mut last = DBOutput::StatementComplete(0);
        let mut count = 0;
        for sql in if self.split { singles(sql) } else { vec![sql.to_string()] } {
            last = self.one(&sql).await?;
            if let DBOutput::StatementComplete(rows) = &last {
                count += rows;
                self.follow(&sql);
                if !self.views.is_empty() {
                    self.refreshes.follow(&self.lake).await.unwrap_or_else(|text| panic!("after {sql}\n{text}"));
                }
                for view in &self.views {
                    if let Some(found) = difference(&self.lake, view).await? {
                        panic!("after {sql}\n{}\n{found}", view.create());
                    }
                }
            }
        }
        Ok(match last {
            DBOutput::StatementComplete(_) => DBOutput::StatementComplete(count),
            rows => rows,
        })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "flash"
    }
}

/// An INSERT of many rows as many INSERTs; anything else as it is.
fn singles(sql: &str) -> Vec<String> {
    let Some((head, tail)) = sql.split_once(" VALUES").filter(|_| sql.starts_with("INSERT")) else {
        return vec![sql.to_string()];
    };
    let (mut rows, mut depth, mut quoted) = (vec![String::new()], 0, false);
    for c in tail.trim().chars() {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                rows.push(String::new());
                continue;
            }
            _ => {}
        }
        rows.last_mut().unwrap().push(c);
    }
    rows.iter().map(|row| format!("{head} VALUES {}", row.trim())).collect()
}

#[test]
fn an_insert_is_split_at_its_rows() {
    let sql = "INSERT INTO s.t VALUES (1, 'a, (b'),\n (abs(2), NULL)";
    assert_eq!(singles(sql), ["INSERT INTO s.t VALUES (1, 'a, (b')", "INSERT INTO s.t VALUES (abs(2), NULL)"]);
    assert_eq!(singles("INSERT INTO s.t SELECT 1"), ["INSERT INTO s.t SELECT 1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_give_the_same_whole_and_row_by_row() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    let mut failures = Vec::new();
    for file in &files {
        for split in [false, true] {
            let mut runner = Runner::new(|| Db::new(split));
            if let Err(error) = runner.run_file_async(file).await {
                failures.push(format!("{} (split: {split})\n{error}", file.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
