//! The optimizer's rules, without one where it is wrong, and with one for what another gets wrong (`grouping`).
//!
//! ```text
//!  SELECT k, sum(DISTINCT a), sum(d) .. GROUP BY k
//!     ─▶ SELECT k, sum(a), sum(d') FROM (SELECT k, a, sum(d) AS d' .. GROUP BY k, a) GROUP BY k
//! ```
//!
//! In DataFusion 55 the type of a decimal's sum is wider than the decimal, and the sum of sums wider still: the rewritten
//! aggregate gives another type than the query has, and a comparison with it fails. Such an aggregate is left as it is.

mod grouping;

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

/// The rule's name.
const DISTINCT_TO_GROUPS: &str = "single_distinct_aggregation_to_group_by";

/// All rules of DataFusion, in its order.
pub(super) fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let careful = |rule: Arc<dyn OptimizerRule + Send + Sync>| match rule.name() {
        DISTINCT_TO_GROUPS => Arc::new(DistinctToGroups(rule)) as _,
        _ => rule,
    };
    Optimizer::new().rules.into_iter().map(careful).collect()
}

/// All physical rules of DataFusion, in its order, after one of ours.
pub(super) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let ours: Arc<dyn PhysicalOptimizerRule + Send + Sync> = Arc::new(grouping::GroupingSets);
    std::iter::once(ours).chain(PhysicalOptimizer::new().rules).collect()
}

/// The rule, but not over sums of decimals.
#[derive(Debug)]
struct DistinctToGroups(Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for DistinctToGroups {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Aggregate(aggregate) if sums_decimals(aggregate) => Ok(Transformed::no(plan)),
            _ => self.0.rewrite(plan, config),
        }
    }
}

fn sums_decimals(aggregate: &Aggregate) -> bool {
    aggregate.aggr_expr.iter().any(|expr| match expr {
        Expr::AggregateFunction(AggregateFunction { func, params }) => {
            let decimal = |arg: &Expr| arg.get_type(aggregate.input.schema()).is_ok_and(|kind| kind.is_decimal());
            func.name() == "sum" && !params.distinct && params.args.iter().any(decimal)
        }
        _ => false,
    })
}
