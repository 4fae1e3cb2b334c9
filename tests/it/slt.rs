//! Scripts in the sqllogictest format, each run twice on a lake of its own, by the runner of `flash test`.
//!
//! ```text
//!   tests/slt/*.slt ─▶ testing::test: as written, and with a refresh after every row ─▶ same answers
//!   sql/tests/*.slt    the same, on the product's own project
//! ```
//!
//! After every statement of the first, each view of the script is compared with its own query, too.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use flashcommerce::catalog::Principal;
use flashcommerce::engine::Answer;
use flashcommerce::error::Error;
use flashcommerce::project;
use flashcommerce::testing::script::Script;
use flashcommerce::testing::{self, Database, Outcome, Verdict, text_rows};
use futures::TryStreamExt;

use crate::engine::harness::Lake;
use crate::incremental::oracle::{Refreshes, View, difference};

struct Db {
    lake: Lake,
    views: Vec<View>,
    refreshes: Refreshes,
}

impl Db {
    async fn new() -> Result<Self, Error> {
        Ok(Self { lake: Lake::new(&[]).await, views: vec![], refreshes: Refreshes::default() })
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
impl Database for Db {
    async fn run(&mut self, sql: &str) -> Result<Outcome, Error> {
        let session = self.lake.engine.session(&Principal::system()).await?;
        let rows_affected = match self.lake.engine.execute(&session, &Principal::system(), sql).await? {
            Answer::Rows { schema, stream } => {
                let batches = stream.try_collect::<Vec<_>>().await.map_err(Error::from)?;
                return Ok(Outcome::Rows { columns: schema.fields().len(), rows: text_rows(&batches)? });
            }
            Answer::Done { rows_affected, .. } => rows_affected,
        };
        self.follow(sql);
        if !self.views.is_empty() {
            self.refreshes.follow(&self.lake).await.unwrap_or_else(|text| panic!("after {sql}\n{text}"));
        }
        for view in &self.views {
            if let Some(found) = difference(&self.lake, view).await? {
                panic!("after {sql}\n{}\n{found}", view.create());
            }
        }
        Ok(Outcome::Done(rows_affected.unwrap_or(0)))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn scripts(folder: &Path, files_min: usize) -> Vec<Script> {
    let files = project::tests(folder).unwrap();
    assert!(files.len() >= files_min, "{files:?}");
    let parse = |file: &PathBuf| Script::parse(&file.to_string_lossy(), &project::text(file).unwrap());
    files.iter().map(|file| parse(file).unwrap_or_else(|error| panic!("{}", error.render()))).collect()
}

fn failures(script: &Script, verdict: &Verdict) -> Vec<String> {
    let failures = verdict.failures.iter();
    failures.map(|failure| format!("{}:{}\n{failure:#?}", script.file, failure.line)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_give_the_same_whole_and_row_by_row() {
    let mut wrong = Vec::new();
    for script in scripts(&root().join("tests/slt"), 10) {
        let verdict = testing::test(&script, Db::new).await.unwrap();
        wrong.extend(failures(&script, &verdict));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_products_own_tests_pass() {
    let objects = project::load(&root().join("sql")).unwrap();
    let mut wrong = Vec::new();
    for script in scripts(&root().join("sql/tests"), 3) {
        let verdict = testing::test(&script, async || testing::Lake::open(&objects, &script).await).await.unwrap();
        wrong.extend(failures(&script, &verdict));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
