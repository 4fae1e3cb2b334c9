//! A public set of queries as views, over tables that change.
//!
//! ```text
//!   queries.sql ── "-- name" and a query ──▶ views ─▶ each held, or refused with an operator
//!   commit ─▶ every view = its query ─▶ ... ─▶ table: query, rows, modes
//! ```

use std::collections::BTreeMap;

use super::oracle::{Refreshes, View, audit, create, difference, rows};
use crate::engine::harness::Lake;

/// See the module.
pub struct Suite {
    pub lake: Lake,
    pub views: Vec<View>,
    /// Queries that are not held, and the operator in the way.
    pub refused: BTreeMap<String, String>,
    refreshes: Refreshes,
    /// The most rows that a view has had.
    rows: BTreeMap<String, usize>,
}

/// The queries of a file: `-- name`, the query, `;`.
pub fn queries(schema: &str, text: &str) -> Vec<View> {
    let blocks = text.split("\n-- ").skip(1).filter(|block| block.contains(';'));
    let view = |block: &str| {
        let (name, query) = block.split_once('\n').unwrap();
        View { name: format!("{schema}.{}", name.trim()), query: query.trim().trim_end_matches(';').to_string() }
    };
    blocks.map(view).collect()
}

impl Suite {
    /// Tables, their first rows, and a view for each query.
    pub async fn new(tables: &[&str], loaded: &[String], queries: Vec<View>) -> Self {
        let lake = Lake::new(&[]).await;
        for sql in tables.iter().map(ToString::to_string).chain(loaded.iter().cloned()) {
            lake.execute(&sql).await.unwrap_or_else(|error| panic!("{sql}\n{}", error.render()));
        }
        let (refreshes, refused) = (Refreshes::default(), BTreeMap::new());
        let mut suite = Self { lake, views: vec![], refused, refreshes, rows: BTreeMap::new() };
        for view in queries {
            match create(&suite.lake, &view).await.unwrap() {
                None => suite.views.push(view),
                Some(operator) => drop(suite.refused.insert(view.name, operator)),
            }
        }
        suite.check("the views were made").await;
        suite
    }

    /// One commit, and a look at every view.
    pub async fn commit(&mut self, sql: &str) {
        self.lake.execute(sql).await.unwrap_or_else(|error| panic!("{sql}\n{}", error.render()));
        self.check(sql).await;
    }

    async fn check(&mut self, after: &str) {
        let after = &after[..after.len().min(200)];
        self.refreshes.follow(&self.lake).await.unwrap_or_else(|text| panic!("after {after}\n{text}"));
        for view in &self.views {
            if let Some(found) = difference(&self.lake, view).await.unwrap() {
                panic!("after {after}\n{}\n{found}", view.create());
            }
            let count = rows(&self.lake, &format!("SELECT * FROM {}", view.name)).await.unwrap().len();
            let most = self.rows.entry(view.name.clone()).or_default();
            *most = count.max(*most);
        }
    }

    /// Open the engine again.
    pub async fn restart(mut self) -> Self {
        self.lake = self.lake.restart().await;
        self.check("a restart").await;
        self
    }

    /// The engine's own audit of every view, and the table of results. At most `empty_max` views never had a row.
    pub async fn finish(&self, empty_max: usize) {
        println!("{:<14} {:>5}  refreshes", "view", "rows");
        for (view, rows) in &self.rows {
            println!("{view:<14} {rows:>5}  {:?}", self.refreshes.modes.get(view).cloned().unwrap_or_default());
        }
        for (view, operator) in &self.refused {
            println!("{view:<14} refused: {operator}");
        }
        for view in &self.views {
            audit(&self.lake, view).await.unwrap();
        }
        let empty = self.rows.iter().filter(|(_, rows)| **rows == 0).map(|(view, _)| view).collect::<Vec<_>>();
        assert!(empty.len() <= empty_max, "without a row all the time: {empty:?}");
    }
}
