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

/// Constants, DISTINCT, equalities of joins, filters below joins, LIMIT into the sort, columns that nobody reads.
const IN_MEMORY: [&str; 6] = [
    "simplify_expressions",
    "replace_distinct_aggregate",
    "extract_equijoin_predicate",
    "push_down_filter",
    "push_down_limit",
    "optimize_projections",
];

/// Sorting where it is asked for, and one grouping in the place of two.
const PHYSICAL_IN_MEMORY: [&str; 3] = ["OutputRequirements", "EnsureRequirements", "CombinePartialFinalAggregate"];

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

/// The rules that short queries over rows in memory need: the others find nothing to do there, and looking for it takes
/// longer than the queries.
pub(super) fn rules_in_memory() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    rules().into_iter().filter(|rule| IN_MEMORY.contains(&rule.name())).collect()
}

/// As [`rules_in_memory`].
pub(super) fn physical_rules_in_memory() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    physical_rules().into_iter().filter(|rule| PHYSICAL_IN_MEMORY.contains(&rule.name())).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_that_are_named_are_there() {
        assert_eq!(rules_in_memory().len(), IN_MEMORY.len());
        // One of them stands at the beginning and at the end.
        assert_eq!(physical_rules_in_memory().len(), PHYSICAL_IN_MEMORY.len() + 1);
    }
}
