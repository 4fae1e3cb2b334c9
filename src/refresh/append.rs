//! Append: the rows of the change, judged, made unique, staged.
//!
//! ```text
//!  delta plan ─▶ batches ─▶ judge ─┬─▶ kept ─▶ unique? ─┬─▶ hand on to the views above, then stage ─▶ files
//!                                  │                     └─▶ duplicates, counted
//!                                  ├─▶ quarantined ─▶ stage into <view>_quarantine
//!                                  └─▶ dropped, counted
//! ```
//!
//! Rows come in order of their source positions, so that the first of equal keys is the lowest one; rows that come
//! from files are sorted first. Large inputs pass in chunks: memory is bounded. What is left out by the expectations
//! and by the unique key is one mask, so that rows are copied once at most.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, StringArray, TimestampMicrosecondArray};
use arrow::compute::{cast, filter, filter_record_batch, is_not_null};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr_fn::col;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use futures::StreamExt;

use crate::epoch::{EpochRecord, ExpectationFacts};
use crate::error::{Error, ErrorKind, Result};
use crate::refresh::classify::POSITION;
use crate::refresh::compile::CompiledView;
use crate::refresh::execute::{collect_parts, conform, stream};
use crate::refresh::unique::{Keys, UniqueIndex, hash_keys};
use crate::storage::{DataFile, Snapshot, Storage};

/// Rows of one chunk, when the input is too large to be held.
const CHUNK_ROWS_MAX: usize = 524_288;

/// What an append wants committed.
#[derive(Debug, Default)]
pub struct Appended {
    /// Staged files of the view.
    pub add: Vec<DataFile>,
    /// Staged files of its quarantine table.
    pub quarantine: Vec<DataFile>,
    /// The kept rows, where they fit in memory.
    pub rows: Option<Vec<RecordBatch>>,
    /// Rows left out as duplicates.
    pub duplicates: u64,
    /// Counts of the expectations.
    pub expectations: Vec<ExpectationFacts>,
}

/// Everything that an append works with.
pub struct Append<'a> {
    /// The lake.
    pub storage: &'a dyn Storage,
    /// Functions and runtime.
    pub state: &'a SessionState,
    /// The view.
    pub view: &'a CompiledView,
    /// The epoch.
    pub record: &'a EpochRecord,
    /// The view's table.
    pub snapshot: &'a Snapshot,
    /// Its quarantine table, if it has one.
    pub quarantine: Option<&'a Snapshot>,
    /// The plan yields the source position behind the view's columns.
    pub carried: bool,
    /// Told the rows of the view as soon as they are known, where they fit in memory: before they are staged.
    pub hand_on: &'a (dyn Fn(&[RecordBatch]) + Sync),
}

/// Rows of the view on their way: which of them stay, and where they came from.
struct Judged {
    shown: RecordBatch,
    position: Option<RecordBatch>,
    keep: Option<BooleanArray>,
}

impl Append<'_> {
    /// Run the delta plan. `in_memory`: its input is one slice in memory, in order.
    ///
    /// # Errors
    /// `Expectation`, `Query`, `Storage`.
    pub async fn run(
        &self,
        plan: LogicalPlan,
        in_memory: bool,
        mut unique: Option<&mut UniqueIndex>,
    ) -> Result<Appended> {
        let mut out =
            Appended { expectations: self.view.expectations.facts(), rows: Some(vec![]), ..Appended::default() };
        if in_memory {
            let parts = collect_parts(self.state, plan).await?;
            self.chunk(parts.into_iter().flatten().collect(), &mut unique, &mut out).await?;
            return Ok(out);
        }
        let plan = if unique.is_some() { in_order(plan)? } else { plan };
        let mut stream = stream(self.state, plan).await?;
        let (mut chunk, mut rows, mut chunks) = (Vec::new(), 0, 0);
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            rows += batch.num_rows();
            chunk.push(batch);
            if rows >= CHUNK_ROWS_MAX {
                out.rows = None;
                self.chunk(std::mem::take(&mut chunk), &mut unique, &mut out).await?;
                (rows, chunks) = (0, chunks + 1);
            }
        }
        if chunks > 0 {
            out.rows = None;
        }
        self.chunk(chunk, &mut unique, &mut out).await?;
        Ok(out)
    }

    async fn chunk(
        &self,
        batches: Vec<RecordBatch>,
        unique: &mut Option<&mut UniqueIndex>,
        out: &mut Appended,
    ) -> Result<()> {
        let (mut judged, mut quarantined) = (Vec::with_capacity(batches.len()), Vec::new());
        for batch in batches.into_iter().filter(|batch| batch.num_rows() > 0) {
            judged.push(self.judge(&batch, &mut quarantined, out)?);
        }
        if let Some(index) = unique {
            self.unique(&mut judged, index, out).await?;
        }
        let mut rows = Vec::with_capacity(judged.len());
        for Judged { shown, keep, .. } in judged {
            let batch = match keep {
                Some(mask) => filter_record_batch(&shown, &mask)?,
                None => shown,
            };
            if batch.num_rows() > 0 {
                rows.push(batch);
            }
        }
        if out.rows.is_some() {
            (self.hand_on)(&rows);
        }
        if let (Some(table), false) = (self.quarantine, quarantined.is_empty()) {
            out.quarantine.extend(self.storage.stage(table, self.record.epoch, &quarantined).await?);
        }
        if !rows.is_empty() {
            out.add.extend(self.storage.stage(self.snapshot, self.record.epoch, &rows).await?);
        }
        if let Some(all) = &mut out.rows {
            all.extend(rows);
        }
        Ok(())
    }

    /// What the expectations say of a batch of the plan.
    fn judge(&self, batch: &RecordBatch, quarantined: &mut Vec<RecordBatch>, out: &mut Appended) -> Result<Judged> {
        let shown = conform(batch, &self.view.schema)?;
        let position = self.position(batch)?;
        if self.view.expectations.is_empty() {
            return Ok(Judged { shown, position, keep: None });
        }
        let verdict = self.view.expectations.judge(&shown)?;
        for (facts, (violations, removed)) in out.expectations.iter_mut().zip(&verdict.counts) {
            facts.violations += violations;
            facts.removed += removed;
        }
        if let (Some(names), Some(table)) = (&verdict.quarantine, self.quarantine) {
            quarantined.push(quarantine_rows(&shown, position.as_ref(), names, &table.schema, self.record.now_us)?);
        }
        let all = verdict.keep.true_count() == shown.num_rows();
        Ok(Judged { shown, position, keep: (!all).then_some(verdict.keep) })
    }

    /// The columns behind the view's own, if the plan carries them.
    fn position(&self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let visible = self.view.schema.fields().len();
        Ok(match self.carried {
            true => Some(batch.project(&(visible..visible + POSITION.len()).collect::<Vec<_>>())?),
            false => None,
        })
    }

    /// Take the rows out whose key was there before.
    async fn unique(&self, judged: &mut [Judged], index: &mut UniqueIndex, out: &mut Appended) -> Result<()> {
        let columns = &self.view.definition.options.unique_key;
        let (mut hashed, mut arrived) = (Vec::with_capacity(judged.len()), Vec::new());
        for Judged { shown, position, keep } in judged.iter() {
            let Some(position) = position else {
                return Err(Error::new(ErrorKind::Internal, "unique_key without a source position"));
            };
            let times = cast(
                position.column(POSITION.len() - 1),
                &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            )?;
            let keys = columns.iter().filter_map(|name| shown.column_by_name(name).cloned());
            let kept = |column: ArrayRef| match keep {
                Some(mask) => filter(&column, mask),
                None => Ok(column),
            };
            hashed.push(hash_keys(&keys.map(kept).collect::<Result<Vec<_>, _>>()?)?);
            arrived.extend_from_slice(kept(times)?.as_primitive::<TimestampMicrosecondType>().values());
        }
        let first = index.keep(&Keys::concat(hashed), &arrived).await?;
        out.duplicates += (first.len() - first.true_count()) as u64;
        let mut start = 0;
        for Judged { shown, keep, .. } in judged {
            let rows = keep.as_ref().map_or(shown.num_rows(), BooleanArray::true_count);
            let mask = first.slice(start, rows);
            start += rows;
            if mask.true_count() < rows {
                *keep = Some(match &keep {
                    Some(kept) => narrowed(kept, &mask),
                    None => mask,
                });
            }
        }
        Ok(())
    }
}

/// Rows of the quarantine table: those that have the name of an expectation.
///
/// # Errors
/// `Internal`.
pub fn quarantine_rows(
    shown: &RecordBatch,
    position: Option<&RecordBatch>,
    names: &StringArray,
    schema: &SchemaRef,
    now_us: i64,
) -> Result<RecordBatch> {
    let mask: BooleanArray = is_not_null(names)?;
    let rows = mask.true_count();
    let now = TimestampMicrosecondArray::from(vec![now_us; rows]).with_timezone("UTC");
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = field.name();
        let carried = POSITION.iter().position(|(raw, _)| raw == name);
        let column: ArrayRef = match (name.as_str(), shown.column_by_name(name), position, carried) {
            ("expectation", ..) => filter(names, &mask)?,
            ("quarantined_at", ..) => Arc::new(now.clone()),
            (_, Some(column), ..) => filter(column, &mask)?,
            (_, None, Some(position), Some(index)) => filter(position.column(index), &mask)?,
            _ => arrow::array::new_null_array(field.data_type(), rows),
        };
        columns.push(cast(&column, field.data_type())?);
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// `keep`, less those of its rows that `of_kept` (one value for each row that it keeps) leaves out.
fn narrowed(keep: &BooleanArray, of_kept: &BooleanArray) -> BooleanArray {
    let mut bits = BooleanBufferBuilder::new(keep.len());
    bits.append_n(keep.len(), false);
    for (row, stays) in keep.values().set_indices().zip(of_kept.values()) {
        bits.set_bit(row, stays);
    }
    BooleanArray::from(bits.finish())
}

/// The quarantine table of a view: its columns, then why, when, and where in the source.
pub fn quarantine_schema(view: &Schema) -> SchemaRef {
    let utc = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let extra = [
        ("expectation", DataType::Utf8),
        ("quarantined_at", utc()),
        ("_epoch", DataType::Int64),
        ("_shard_id", DataType::Utf8),
        ("_sequence_number", DataType::Utf8),
        ("_sub_sequence", DataType::Int64),
        ("_arrived_at", utc()),
    ];
    let mut fields = view.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
    for (name, data_type) in extra {
        if view.field_with_name(name).is_err() {
            fields.push(Field::new(name, data_type, true));
        }
    }
    Arc::new(Schema::new(fields))
}

/// Sort a plan that carries source positions by them. Sequence numbers compare by length, then bytes.
fn in_order(plan: LogicalPlan) -> Result<LogicalPlan> {
    let [epoch, shard, sequence, sub, _] = POSITION.map(|(_, name)| col(name));
    let length = datafusion::functions::expr_fn::length(sequence.clone());
    let keys = [epoch, shard, length, sequence, sub].map(|key| key.sort(true, true));
    Ok(LogicalPlanBuilder::from(plan).sort(keys)?.build()?)
}
