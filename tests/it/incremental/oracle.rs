//! What a view must hold, and how its refreshes may come about.
//!
//! ```text
//!   view ──SELECT *──▶ stored   ─┐ sorted rows ─▶ None, or Difference { missing, unexpected }
//!   its query ───────▶ computed ─┘
//!   system.refreshes after the last epoch looked at ─▶ each mode is counted; a failed refresh is an error, and after a
//!                                                      view's first one, a plan other than the one preferred
//! ```

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use flashcommerce::catalog::Principal;
use flashcommerce::engine::{Answer, Prefer};
use flashcommerce::error::{ErrorKind, Result};
use futures::TryStreamExt;

use crate::engine::harness::{Lake, lines};

/// A view and the query that it must equal.
#[derive(Debug, Clone)]
pub struct View {
    pub name: String,
    pub query: String,
}

impl View {
    /// The statement that makes it.
    pub fn create(&self) -> String {
        format!("CREATE MATERIALIZED VIEW {} AS {}", self.name, self.query)
    }
}

/// How a view differs from its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub stored: Vec<String>,
    pub computed: Vec<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "missing    {:?}", minus(&self.computed, &self.stored))?;
        writeln!(f, "unexpected {:?}", minus(&self.stored, &self.computed))
    }
}

/// The rows of `left` that `right` has not, as multisets.
fn minus(left: &[String], right: &[String]) -> Vec<String> {
    let mut right = right.to_vec();
    let mut rest = Vec::new();
    for row in left {
        match right.iter().position(|other| other == row) {
            Some(at) => drop(right.swap_remove(at)),
            None => rest.push(row.clone()),
        }
    }
    rest
}

/// The rows of a query as sorted text; an empty text is a row, too.
pub async fn rows(lake: &Lake, sql: &str) -> Result<Vec<String>> {
    let session = lake.engine.session(&Principal::system()).await?;
    let Answer::Rows { stream, .. } = lake.engine.execute(&session, &Principal::system(), sql).await? else {
        return Ok(vec![]);
    };
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    let mut rows = lines(&batches);
    rows.sort();
    Ok(rows)
}

/// Compare a view with its query.
pub async fn difference(lake: &Lake, view: &View) -> Result<Option<Difference>> {
    let computed = rows(lake, &view.query).await?;
    let stored = rows(lake, &format!("SELECT * FROM {}", view.name)).await?;
    Ok((stored != computed).then_some(Difference { stored, computed }))
}

/// The engine's own audit agrees.
pub async fn audit(lake: &Lake, view: &View) -> std::result::Result<(), String> {
    let sql = format!("AUDIT MATERIALIZED VIEW {}", view.name);
    let found = rows(lake, &sql).await.map_err(|error| format!("{sql}\n{}", error.render()))?;
    match found.as_slice() {
        [line] if line.ends_with("|0|0") => Ok(()),
        other => Err(format!("{sql}: {other:?}")),
    }
}

/// Create a view. `Ok(Some(operator))` when it was refused, with the operator that is in the way.
pub async fn create(lake: &Lake, view: &View) -> std::result::Result<Option<String>, String> {
    match lake.execute(&view.create()).await {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotIncremental => {
            let why = error.detail().unwrap_or_else(|| error.message());
            Ok(Some(why.split(':').next().unwrap_or(why).to_string()))
        }
        Err(error) => Err(format!("{}\n{}", view.create(), error.render())),
    }
}

/// The refreshes seen so far.
#[derive(Debug, Default)]
pub struct Refreshes {
    last_epoch: u64,
    started: BTreeSet<String>,
    /// How often each mode was used after a view's first refresh, for each view.
    pub modes: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Refreshes {
    /// Look at the refreshes since the last call: a failed one, or a full one after a view's first, is an error.
    pub async fn follow(&mut self, lake: &Lake) -> std::result::Result<(), String> {
        let sql = format!(
            "SELECT lpad(CAST(epoch AS VARCHAR), 9, '0'), view_name, mode, state, coalesce(error, reason) \
             FROM system.refreshes WHERE epoch > {}",
            self.last_epoch
        );
        for line in rows(lake, &sql).await.map_err(|error| error.render())? {
            let cells = line.splitn(5, '|').collect::<Vec<_>>();
            let [epoch, view, mode, state, reason] = cells[..] else { panic!("{line}") };
            self.last_epoch = epoch.parse().unwrap();
            if state == "failed" {
                // FAIL UPDATE is meant to fail.
                if reason.contains("expectation") {
                    continue;
                }
                return Err(format!("the refresh of {view} failed: {reason}"));
            }
            if self.started.insert(view.to_string()) {
                continue;
            }
            *self.modes.entry(view.to_string()).or_default().entry(mode.to_string()).or_default() += 1;
            let meant = match (lake.prefer, mode) {
                (_, "nothing") => true,
                (Prefer::Full, mode) => mode == "full",
                (Prefer::General, "append" | "merge_state") => false,
                (_, mode) => mode != "full" || reason == "refresh_mode = 'full'" || reason.starts_with("auto: "),
            };
            if !meant {
                return Err(format!("silent fallback: {view}, epoch {epoch}, {:?}: {mode}: {reason}", lake.prefer));
            }
        }
        Ok(())
    }

    /// All modes of all views.
    pub fn totals(&self) -> BTreeMap<String, usize> {
        let mut totals = BTreeMap::new();
        for (mode, times) in self.modes.values().flatten() {
            *totals.entry(mode.clone()).or_default() += times;
        }
        totals
    }
}
