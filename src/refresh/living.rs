//! What a refresh has to know of rows that have expired: its own, which no change can touch any more, and those of its
//! inputs, which cannot be read again.

use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::logical_plan::Aggregate;

use crate::error::Result;
use crate::name::TableName;
use crate::refresh::plan::Expired;
use crate::refresh::refresh_view::ViewRefresh;
use crate::refresh::retention::{Retention, kept_rows};
use crate::refresh::weighted::{Moved, weigh};

impl ViewRefresh<'_> {
    /// What a recompute would lose, unless the definition says that it may.
    pub(super) fn expired(&self) -> Option<Expired<'_>> {
        let view = &self.slot.view;
        let expired = |name: &TableName| self.pass.before(name).is_some_and(|state| state.totals.expired > 0);
        if view.definition.options.ignores_expired {
            return None;
        }
        let input = view.inputs.iter().find(|input| expired(input)).map(Expired::Input);
        input.or_else(|| expired(&view.name).then_some(Expired::Own))
    }

    /// Rows of the view from before this have expired: no change can touch them any more.
    pub(super) fn expired_us(&self) -> Option<(&Retention, i64)> {
        let state = self.pass.before(&self.slot.view.name).filter(|state| state.location == self.slot.location)?;
        Some((self.slot.view.retention.as_ref()?, state.totals.expired_us?))
    }

    /// Rows of an aggregate's input as a plan, without those of groups that have expired.
    pub(super) fn of_living(&self, aggregate: &Aggregate, rows: Vec<RecordBatch>) -> Result<Option<LogicalPlan>> {
        if rows.is_empty() {
            return Ok(None);
        }
        let plan = Moved { batches: weigh(&rows, 1)?, inserts: true }.leaf(aggregate.input.schema())?.plan;
        Ok(Some(match self.expired_us() {
            Some((retention, cutoff_us)) if let Some(key) = retention.key => {
                kept_rows(plan, retention, &aggregate.group_expr[key], cutoff_us)?
            }
            _ => plan,
        }))
    }
}
