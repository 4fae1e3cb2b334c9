//! Which refresh plan: a pure decision over the shape and the inputs' changes.

use std::collections::BTreeMap;

use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::refresh::change::Change;
use crate::refresh::classify::{Shape, linear, moves};
use crate::refresh::counted::HIDDEN;
use crate::refresh::keyed::{shown_key, topmost};
use crate::refresh::retention::would_lose;

/// How one view is refreshed in one epoch. The same value is executed, explained and recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshPlan {
    /// The view already shows its inputs.
    Nothing,
    /// The change's rows are added.
    Append {
        /// Why this is right.
        reason: String,
    },
    /// Old partial state and the state of the change are merged, group by group.
    MergeState {
        /// Why this is right.
        reason: String,
        /// Rows may have gone: their state is taken off.
        signed: bool,
    },
    /// Rows of the change's keys are recomputed and replaced.
    ReplaceKeys {
        /// Why this is right.
        reason: String,
    },
    /// The view is recomputed and replaced.
    Full {
        /// Why.
        reason: String,
    },
}

impl RefreshPlan {
    /// The name in `system.refreshes`.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Append { .. } => "append",
            Self::MergeState { .. } => "merge_state",
            Self::ReplaceKeys { .. } => "replace_keys",
            Self::Full { .. } => "full",
        }
    }

    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Self::Nothing => "its inputs have not changed",
            Self::Append { reason }
            | Self::MergeState { reason, .. }
            | Self::ReplaceKeys { reason }
            | Self::Full { reason } => reason,
        }
    }
}

/// What `choose` knows of a refresh.
#[derive(Debug)]
pub struct Situation<'a> {
    /// The view's shape.
    pub shape: &'a Shape,
    /// What came to its inputs.
    pub changes: &'a BTreeMap<TableName, Change>,
    /// The view has never been refreshed.
    pub first: bool,
    /// Why a full refresh is asked for, if it is.
    pub requested: Option<&'a str>,
    /// The moment is another one, and the view asks for it.
    pub moved: bool,
    /// Rows of the inputs, where `refresh_mode = 'auto'` lets cost decide.
    pub auto_rows: Option<u64>,
    /// The view keeps the first row of each key, in the order in which they came.
    pub first_of_keys: bool,
    /// Rows of this input, or of the view itself, have expired: a recompute would lose what was made of them.
    pub expired: Option<Expired<'a>>,
}

/// Whose rows have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired<'a> {
    /// The view's own: its inputs still give them.
    Own,
    /// Those of an input.
    Input(&'a TableName),
}

/// A change of more than one row in so many of its inputs' costs more to follow than to recompute: a keyed refresh
/// reads what is touched twice, and writes whole files.
const AUTO_CHANGED_SHARE_MAX: u64 = 4;

/// Reading so much of the inputs for the keys of a change, in percent of their rows, costs more than a recompute: what is
/// read is matched with the keys, and the view's own rows with them are read and written, too.
const AUTO_READ_PERCENT_MAX: u64 = 60;

/// Which of the plans that give the right rows is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Prefer {
    /// The one that is known to cost least.
    #[default]
    Cheapest,
    /// The incremental one that takes the least for granted. For tests of one plan against another.
    General,
    /// A recompute. For the same.
    Full,
}

/// Decide.
///
/// # Errors
/// `NotIncremental` when rows of an input were changed that the view cannot follow.
pub fn choose(view: &TableName, at: &Situation<'_>, prefer: Prefer) -> Result<RefreshPlan> {
    let mut plans = legal(view, at)?;
    let full = plans.iter().position(|plan| matches!(plan, RefreshPlan::Full { .. }));
    let taken = match (prefer, full) {
        (Prefer::Cheapest, _) => 0,
        (Prefer::General, Some(full)) if full > 0 => full - 1,
        (Prefer::General, _) => plans.len() - 1,
        (Prefer::Full, full) => full.unwrap_or_default(),
    };
    Ok(plans.swap_remove(taken))
}

/// The plan, unless it reads `read` rows of inputs that hold `rows` of them, which is hardly less than a recompute.
pub fn or_full(plan: RefreshPlan, read: u64, rows: u64) -> RefreshPlan {
    match read.saturating_mul(100) > rows.saturating_mul(AUTO_READ_PERCENT_MAX) {
        true => {
            let reason = format!("auto: the change's keys may be in {read} of {rows} rows: recomputing costs less");
            RefreshPlan::Full { reason }
        }
        false => plan,
    }
}

/// Every plan that gives the right rows, there is at least one: the cheapest first, a recompute last unless it is that.
fn legal(view: &TableName, at: &Situation<'_>) -> Result<Vec<RefreshPlan>> {
    if let Some(reason) = at.requested {
        return Ok(vec![RefreshPlan::Full { reason: reason.into() }]);
    }
    let nothing = at.changes.values().all(|change| matches!(change, Change::Nothing)) && !at.moved;
    if let Shape::Full { reason, .. } = at.shape {
        let reason = reason.clone();
        return Ok(vec![if nothing && !at.first { RefreshPlan::Nothing } else { RefreshPlan::Full { reason } }]);
    }
    if at.first && !matches!(at.shape, Shape::Linear { .. }) {
        return Ok(vec![first(at.shape)]);
    }
    if nothing {
        return Ok(vec![RefreshPlan::Nothing]);
    }
    let changed = at.changes.values().map(Change::rows).sum::<u64>();
    if let Some(rows) = at
        .auto_rows
        .filter(|_| at.expired.is_none())
        .filter(|rows| changed.saturating_mul(AUTO_CHANGED_SHARE_MAX) > *rows)
    {
        let reason = format!("auto: {changed} changed rows, {rows} in the inputs: recomputing reads less");
        return Ok(vec![RefreshPlan::Full { reason }]);
    }
    let mut plans = incremental(view, at)?;
    if !at.first && !at.first_of_keys && at.expired.is_none() {
        plans.push(RefreshPlan::Full { reason: "preferred".into() });
    }
    Ok(plans)
}

/// The plans that follow a change, the cheapest first.
fn incremental(view: &TableName, at: &Situation<'_>) -> Result<Vec<RefreshPlan>> {
    let inserts =
        at.changes.values().all(|change| matches!(change, Change::Nothing | Change::Inserted(_))) && !at.moved;
    let reason = kept_by(at.shape);
    let by_keys = RefreshPlan::ReplaceKeys {
        reason: match at.shape {
            Shape::Linear { .. } => "rows went, and their rows go with them".into(),
            Shape::Merge { .. } => "groups that rows may have left are computed anew, and their state with them".into(),
            _ => reason.clone(),
        },
    };
    // What has expired cannot be read again, and is not to come again; rows that come late count.
    let again = |by_keys| if at.expired.is_some() { vec![] } else { vec![by_keys] };
    Ok(match at.shape {
        Shape::Linear { .. } if inserts && (at.first || at.first_of_keys) => vec![RefreshPlan::Append { reason }],
        Shape::Linear { .. } if inserts => [vec![RefreshPlan::Append { reason }], again(by_keys)].concat(),
        Shape::Linear { .. } if at.first_of_keys => {
            let changed = at.changes.iter().find(|(_, change)| matches!(change, Change::Changed { .. }));
            let input = changed.map_or_else(String::new, |(name, _)| name.to_string());
            return Err(Error::new(ErrorKind::NotIncremental, format!("rows of {input} were changed or removed"))
                .with_detail(format!(
                    "{view} removes repetitions or bad rows as they come, and follows insertions only"
                ))
                .with_hint(format!("REFRESH MATERIALIZED VIEW {view} FULL recomputes it once")));
        }
        Shape::Merge { aggregate, .. } if inserts && linear(&aggregate.input) => {
            [vec![RefreshPlan::MergeState { reason, signed: false }], again(by_keys)].concat()
        }
        Shape::Merge { retracts: true, .. } => {
            [vec![RefreshPlan::MergeState { reason, signed: true }], again(by_keys)].concat()
        }
        Shape::Merge { .. } if let Some(Expired::Input(input)) = at.expired => return Err(would_lose(view, input)),
        _ => vec![by_keys],
    })
}

/// The first refresh has nothing to build on.
fn first(shape: &Shape) -> RefreshPlan {
    match shape {
        Shape::Merge { .. } => RefreshPlan::MergeState { reason: kept_by(shape), signed: false },
        _ => RefreshPlan::Full { reason: "the first refresh".into() },
    }
}

/// What an analyst has written that became this operator.
fn in_words(plan: &LogicalPlan) -> String {
    match plan {
        _ if moves(plan) => "now() outside of WHERE".into(),
        LogicalPlan::Limit(_) => "ORDER BY ... LIMIT".into(),
        LogicalPlan::Window(_) => "a window without PARTITION BY".into(),
        LogicalPlan::Aggregate(aggregate) if !aggregate.group_expr.is_empty() => "ROLLUP, CUBE or GROUPING SETS".into(),
        LogicalPlan::Aggregate(_) => "an aggregate without GROUP BY".into(),
        LogicalPlan::Join(join) => format!("{} JOIN without an equality", join.join_type.to_string().to_uppercase()),
        other => other.display().to_string(),
    }
}

/// One line on how a shape is kept.
pub fn kept_by(shape: &Shape) -> String {
    match shape {
        Shape::Linear { .. } => "each row follows from the rows of the change".into(),
        Shape::Full { reason, .. } => reason.clone(),
        Shape::Keyed { plan } => match shown_key(plan) {
            Some(key) if key.is_empty() => {
                format!("{} has one key for all rows: recomputed from what is below it", in_words(topmost(plan)))
            }
            Some(key) => {
                let columns = plan.schema().columns();
                let names = key.into_iter().map(|at| columns[at].name.clone()).collect::<Vec<_>>();
                format!("rows with the change's {} are computed anew", names.join(", "))
            }
            None => "the difference is computed from the keys of the change, and applied row by row".into(),
        },
        Shape::Merge { aggregate, having, retracts, .. } => {
            let asked = |expr: &&Expr| !expr.schema_name().to_string().starts_with(HIDDEN);
            let calls = aggregate.aggr_expr.iter().filter(asked).map(|expr| match expr {
                Expr::AggregateFunction(call) => call.func.name().to_string(),
                other => other.to_string(),
            });
            let mut names = calls.collect::<Vec<_>>();
            names.sort();
            names.dedup();
            let having = if *having { "; HAVING rewrites the whole view" } else { "" };
            let (of, merge) = (names.join(", "), if names.len() == 1 { "merges" } else { "merge" });
            match (names.is_empty(), retracts) {
                (true, true) => format!("a group is there as long as rows of it are{having}"),
                (true, false) => format!("a group is kept once it is seen, while the inputs only insert{having}"),
                (false, true) => format!("{of} {merge} exactly, also when rows go{having}"),
                (false, false) => format!("{of} {merge} exactly, while the inputs only insert{having}"),
            }
        }
    }
}
