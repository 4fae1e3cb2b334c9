//! `flash diff`: what changed in a view from one epoch to another, row by row.
//!
//! ```text
//!  flash diff gold.kpis              the newest change of it: a refresh, or a new definition after flash apply
//!  flash diff gold.kpis --from 41    since epoch 41; --to 45: up to that one
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use serde_json::json;

use super::terminal::{counted, grouped};
use super::{Context, format, lake};
use crate::engine::diff::Difference;
use crate::epoch::Epoch;
use crate::error::Result;
use crate::name::TableName;

/// Flags of `flash diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The view, such as gold.kpis
    view: TableName,
    /// The older epoch; by default the newest before at which the view was another
    #[arg(long, value_name = "EPOCH")]
    from: Option<Epoch>,
    /// The newer epoch; by default the newest
    #[arg(long, value_name = "EPOCH")]
    to: Option<Epoch>,
    /// Different rows that are shown; all are counted
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// The lake: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "DIR|s3://...", default_value = lake::DEFAULT)]
    lake: String,
    /// One JSON object: epochs, columns, counts, rows
    #[arg(long)]
    json: bool,
}

/// Print the difference.
///
/// # Errors
/// As `Engine::diff`, and as for opening the lake.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let terminal = context.terminal;
    let engine = lake::open_existing(context, &args.lake).await?;
    let difference = engine.diff(&args.view, args.from, args.to, args.limit).await?;
    let rows = difference.rows.iter().map(signed).collect::<Result<Vec<_>>>()?;
    let Difference { epochs: (from, to), added, dropped, came, went, .. } = &difference;
    if args.json {
        let object = json!({
            "view": args.view.to_string(),
            "from": from,
            "to": to,
            "added_columns": added,
            "dropped_columns": dropped,
            "came": came,
            "went": went,
            "rows": format::json_rows(&rows)?,
        });
        return terminal.data(&object.to_string());
    }
    if let Some(first) = rows.first() {
        terminal.data(&format::table_text(&first.schema(), &rows)?)?;
    }
    for (word, columns) in [("new columns", added), ("columns that are gone", dropped)] {
        if !columns.is_empty() {
            terminal.say(&format!("{word}, not compared: {}", columns.join(", ")));
        }
    }
    let shown = rows.iter().map(RecordBatch::num_rows).sum::<usize>();
    let (came, went) = (counted(*came, "row"), grouped(*went));
    terminal.say(&format!("{}  epoch {from} -> {to}: {came} came, {went} went; {shown} shown", args.view));
    Ok(())
}

/// The rows with a first column that says + or -, and how often where that is not once.
fn signed(batch: &RecordBatch) -> Result<RecordBatch> {
    let width = batch.num_columns() - 1;
    let times = arrow::compute::cast(batch.column(width), &DataType::Int64)?;
    let sign = |times: &i64| match times {
        1 => "+".to_string(),
        -1 => "-".to_string(),
        _ => format!("{times:+}"),
    };
    let signs = StringArray::from_iter_values(times.as_primitive::<Int64Type>().values().iter().map(sign));
    let fields = batch.schema().fields().iter().take(width).cloned().collect::<Vec<_>>();
    let fields = std::iter::once(Arc::new(Field::new("change", DataType::Utf8, false))).chain(fields);
    let columns = std::iter::once(Arc::new(signs) as ArrayRef).chain(batch.columns().iter().take(width).cloned());
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns.collect())?)
}
