//! Groups that rows have left: the state of those rows with its sign turned.
//!
//! ```text
//!   groups that were there ─────────┐
//!   rows that came ─▶ state(f) ─────┼─▶ every number of a state, summed by key ─┬─ of no rows any more: the group is gone
//!   rows that went ─▶ state(f) ─▶ - ┘                                           └─ a sum of no values: NULL
//! ```
//!
//! For states that are sums of exact numbers (`counted`): counts, and sums of integers and decimals. The
//! counts that tell a sum of nothing from a sum of zero, and a group of nothing from one, are states like the others.
//! (Counting, as in Gupta, Mumick & Subrahmanian, "Maintaining Views Incrementally", 1993.)

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::kernels::cmp::{eq, neq};
use arrow::compute::kernels::numeric::neg_wrapping;
use arrow::compute::{cast, filter_record_batch, nullif};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};

use crate::error::{Error, ErrorKind, Result};
use crate::refresh::classify::plain;
use crate::refresh::counted::{count_of, count_of_rows};
use crate::refresh::execute::collect;
use crate::refresh::merge::{Calls, Merge};

impl Merge<'_> {
    /// One row of each group: what is in `plus` less what is in `minus`.
    pub(super) async fn net(
        &self,
        calls: &Calls,
        plus: Vec<RecordBatch>,
        minus: Vec<RecordBatch>,
    ) -> Result<Vec<RecordBatch>> {
        let keys = self.aggregate.group_expr.len();
        let signed = plus.iter().map(|batch| (batch, false)).chain(minus.iter().map(|batch| (batch, true)));
        let numbers = signed.map(|(batch, turned)| numbers(batch, keys, turned)).collect::<Result<Vec<_>>>()?;
        let Some(schema) = numbers.first().map(RecordBatch::schema) else { return Ok(vec![]) };
        let numbers =
            numbers.into_iter().map(|batch| RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()));
        let table = MemTable::try_new(Arc::clone(&schema), vec![numbers.collect::<Result<Vec<_>, _>>()?])?;
        let scan = LogicalPlanBuilder::scan("__numbers", provider_as_source(Arc::new(table)), None)?.build()?;
        let column = |index: usize| plain(schema.field(index).name());
        let sums = (keys..schema.fields().len()).map(|index| sum(column(index)).alias(format!("__sum{index}")));
        let net = Aggregate::try_new(Arc::new(scan), (0..keys).map(column).collect(), sums.collect())?;
        let batches = collect(self.state, LogicalPlan::Aggregate(net)).await?;
        let batches = batches.iter().filter(|batch| batch.num_rows() > 0);
        let groups = batches.map(|batch| self.states(calls, batch, keys)).collect::<Result<Vec<_>>>()?;
        Ok(groups.into_iter().filter(|batch| batch.num_rows() > 0).collect())
    }

    /// Keys and summed numbers as keys and states again; without the groups that have no rows.
    fn states(&self, calls: &Calls, sums: &RecordBatch, keys: usize) -> Result<RecordBatch> {
        let input = self.aggregate.input.schema();
        let functions = calls.iter().map(|(_, function)| function.clone()).collect::<Vec<_>>();
        let mut columns = sums.columns()[..keys].to_vec();
        let mut fields = (0..keys).map(|key| Field::new(format!("__k{key}"), columns[key].data_type().clone(), true));
        let mut fields = fields.by_ref().collect::<Vec<_>>();
        // The first number of each call; a count has no other.
        let first = calls.iter().scan(keys, |next, (call, _)| {
            let first = *next;
            *next += call.state_width();
            Some(first)
        });
        let first = first.collect::<Vec<_>>();
        for (index, (call, function)) in calls.iter().enumerate() {
            let mut numbers = sums.columns()[first[index]..first[index] + call.state_width()].to_vec();
            // What counts the values: an average itself, of a sum another call.
            let count = match (function.func.name(), numbers.len()) {
                ("count", _) => None,
                (_, 2) => Some(Arc::clone(&numbers[0])),
                _ => count_of(&functions, function, input).map(|count| Arc::clone(sums.column(first[count]))),
            };
            if let Some(count) = count {
                // An average's count, too: DataFusion's own states have none there, and it would divide by a zero.
                let none = eq(&count, &Int64Array::new_scalar(0))?;
                for number in &mut numbers {
                    *number = nullif(number, &none)?;
                }
            }
            let state = call.pack(numbers)?;
            fields.push(Field::new(format!("__s{index}"), state.data_type().clone(), true));
            columns.push(state);
        }
        let groups = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        if keys == 0 {
            return Ok(groups);
        }
        let rows = count_of_rows(&functions, input).map(|rows| sums.column(first[rows]));
        let Some(rows) = rows else {
            return Err(Error::new(ErrorKind::Internal, "nothing counts the rows of a group"));
        };
        let there: BooleanArray = neq(rows, &Int64Array::new_scalar(0))?;
        Ok(filter_record_batch(&groups, &there)?)
    }
}

/// Keys, and every number of every state in a column of its own.
fn numbers(groups: &RecordBatch, keys: usize, turned: bool) -> Result<RecordBatch> {
    let mut columns = groups.columns()[..keys].to_vec();
    for state in &groups.columns()[keys..] {
        let Some(state) = state.as_struct_opt() else {
            return Err(Error::new(ErrorKind::Internal, "a partial state must be a struct"));
        };
        for number in state.columns() {
            let number: ArrayRef = match number.data_type() {
                DataType::Decimal128(_, scale) => {
                    cast(number, &DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale))?
                }
                _ => cast(number, &DataType::Int64)?,
            };
            columns.push(if turned { neg_wrapping(&number)? } else { number });
        }
    }
    let fields = columns.iter().enumerate();
    let fields = fields.map(|(index, column)| Field::new(format!("__c{index}"), column.data_type().clone(), true));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?)
}
