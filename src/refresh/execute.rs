//! Running plans: the one place where a refresh's LogicalPlan becomes an ExecutionPlan.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, new_null_array};
use arrow::compute::{cast, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, collect_partitioned, execute_stream};

use crate::error::{Error, ErrorKind, Result};

/// All rows of a plan, partitions one after another, computed in parallel.
///
/// # Errors
/// `Query`, `Storage`.
pub async fn collect(state: &SessionState, plan: LogicalPlan) -> Result<Vec<RecordBatch>> {
    Ok(collect_parts(state, plan).await?.into_iter().flatten().collect())
}

/// As `collect`, by partition.
///
/// # Errors
/// `Query`, `Storage`.
pub async fn collect_parts(state: &SessionState, plan: LogicalPlan) -> Result<Vec<Vec<RecordBatch>>> {
    let plan = physical(state, &plan).await?;
    Ok(collect_partitioned(plan, state.task_ctx()).await?)
}

/// The rows of a plan as they are computed.
///
/// # Errors
/// `Query`, `Storage`.
pub async fn stream(state: &SessionState, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
    let plan = physical(state, &plan).await?;
    Ok(execute_stream(plan, state.task_ctx())?)
}

/// A plan that can be carried out.
///
/// DataFusion 55 sometimes refuses a plan that it has made itself, such as a sort below a UNION ALL in which two columns
/// are one expression, which it then takes for not sorted. That comes of rows that are spread over partitions: a plan that
/// is refused is made once more, for one.
///
/// # Errors
/// `Query` as for the first plan.
pub async fn physical(state: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    match state.create_physical_plan(plan).await {
        Err(error) => {
            let mut careful = state.clone();
            let options = careful.config_mut().options_mut();
            options.optimizer.repartition_sorts = false;
            options.execution.target_partitions = 1;
            Ok(careful.create_physical_plan(plan).await.map_err(|_| error)?)
        }
        Ok(plan) => Ok(plan),
    }
}

/// The same state with `now()` meaning this moment, in microseconds since 1970 UTC.
pub fn bound_now(base: &SessionState, now_us: i64) -> SessionState {
    let mut state = base.clone();
    state.execution_props_mut().query_execution_start_time = chrono::DateTime::from_timestamp_micros(now_us);
    state
}

/// A condition as a mask: NULL is not TRUE.
pub fn mask(condition: &BooleanArray) -> BooleanArray {
    if condition.null_count() > 0 { prep_null_mask_filter(condition) } else { condition.clone() }
}

/// The first columns of a batch in the stored types and names of `schema`.
///
/// # Errors
/// `Query` when a value does not fit the stored type.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for (index, field) in schema.fields().iter().enumerate() {
        if index >= batch.num_columns() {
            columns.push(new_null_array(field.data_type(), batch.num_rows()));
            continue;
        }
        let column = batch.column(index);
        columns.push(match column.data_type() == field.data_type() {
            true => Arc::clone(column),
            false => cast(column, field.data_type())
                .map_err(|error| Error::from(error).context(format!("column \"{}\"", field.name())))?,
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("rows do not fit the view's columns: {error}")))
}
