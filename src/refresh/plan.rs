//! Which refresh plan: a pure decision over the shape and the inputs' changes.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::refresh::change::Change;
use crate::refresh::classify::Shape;

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
            Self::Full { .. } => "full",
        }
    }

    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Self::Nothing => "its inputs have not changed",
            Self::Append { reason } | Self::MergeState { reason } | Self::Full { reason } => reason,
        }
    }
}

/// Decide. `first`: the view has never been refreshed. `requested`: why a full refresh is asked for, if it is.
///
/// # Errors
/// `NotIncremental` when rows of an input were changed and nobody asked for a full refresh.
pub fn choose(
    view: &TableName,
    shape: &Shape,
    changes: &BTreeMap<TableName, Change>,
    first: bool,
    requested: Option<&str>,
) -> Result<RefreshPlan> {
    if let Some(reason) = requested {
        return Ok(RefreshPlan::Full { reason: reason.into() });
    }
    let nothing = changes.values().all(|change| matches!(change, Change::Nothing));
    if let Shape::Full { reason, .. } = shape {
        let reason = reason.clone();
        return Ok(if nothing && !first { RefreshPlan::Nothing } else { RefreshPlan::Full { reason } });
    }
    if let Some((input, _)) = changes.iter().find(|(_, change)| matches!(change, Change::Rewritten)) {
        return Err(Error::new(ErrorKind::NotIncremental, format!("rows of {input} were changed or removed"))
            .with_detail(format!("{view} is kept by {}, which follows insertions", kept_by(shape)))
            .with_hint(format!("REFRESH MATERIALIZED VIEW {view} FULL recomputes it once")));
    }
    let ungrouped = matches!(shape, Shape::Merge { aggregate, .. } if aggregate.group_expr.is_empty());
    if nothing && !(first && ungrouped) {
        return Ok(RefreshPlan::Nothing);
    }
    let reason = kept_by(shape);
    Ok(match shape {
        Shape::Merge { .. } => RefreshPlan::MergeState { reason },
        _ => RefreshPlan::Append { reason },
    })
}

/// One line on how a shape is kept.
pub fn kept_by(shape: &Shape) -> String {
    match shape {
        Shape::Linear { .. } => "each row follows from the rows of the change".into(),
        Shape::Full { reason, .. } => reason.clone(),
        Shape::Merge { aggregate, having, .. } => {
            let calls = aggregate.aggr_expr.iter().map(|expr| match expr {
                datafusion::logical_expr::Expr::AggregateFunction(call) => call.func.name().to_string(),
                other => other.to_string(),
            });
            let mut names = calls.collect::<Vec<_>>();
            names.sort();
            names.dedup();
            let having = if *having { "; HAVING rewrites the whole view" } else { "" };
            format!("{} merge exactly, and the inputs only insert{having}", names.join(", "))
        }
    }
}
