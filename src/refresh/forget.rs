//! Rows of one user go, out of every layer. Deletion is a change, and goes through the views.
//!
//! ```text
//!   table, view row by row      shows the column ─▶ its own rows with the value      ┐
//!   view of a stream, row by row    what the view above makes the column of, or      ├─▶ rewritten files, and the rows
//!                                   _payload ─▶ records whose JSON has the value     │
//!   quarantine                      either                                           ┘    that went: the views' change
//!   groups by the column            its groups with the value, with their state
//!   any other view                  follows what went from its inputs, as always
//! ```
//!
//! A view that removes repetitions cannot follow a removal, but by its own column it need not: its rows are those of the
//! rows below. One that neither shows the column nor follows removals is refused beforehand ([`Way::Refused`]).

mod view;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray};
use arrow::compute::{cast, filter_record_batch, not};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_expr::PhysicalExpr;

use crate::epoch::{Epoch, Forget};
use crate::error::Result;
use crate::refresh::classify::Shape;
use crate::refresh::compile::CompiledView;
use crate::refresh::execute::{collect, conform};
use crate::refresh::identity::{IDENTITY, identities};
use crate::refresh::keyed::shown_key;
use crate::refresh::prune::{KeyColumn, may_hold};
use crate::storage::{DataFile, Snapshot, Storage};

/// The column with a record as it came.
const PAYLOAD: &str = "_payload";

/// How a view forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Its own rows with the value go, where it cannot follow its inputs, or they have nothing to be followed.
    Own,
    /// Its groups with the value go, with their state: the column is one of those that it groups by.
    Groups,
    /// It follows what goes from its inputs.
    Follows,
    /// It can do neither.
    Refused,
}

/// Can it follow rows that go from its inputs?
pub fn follows(view: &CompiledView) -> bool {
    view.definition.options.unique_key.is_empty() && !view.expectations.removes()
}

/// How this view forgets rows of `column`; `above`: the views above it show that column, as an expression over it. Pure.
pub fn way(view: &CompiledView, column: &str, above: bool) -> Way {
    match &view.shape {
        Shape::Linear { .. } if above || shows(&view.schema, column).is_some() || payload(&view.schema).is_some() => {
            Way::Own
        }
        Shape::Linear { .. } if !follows(view) => Way::Refused,
        Shape::Merge { having: false, plan, .. } if groups_by(plan, view, column) => Way::Groups,
        _ => Way::Follows,
    }
}

/// Is the column one of those that a view groups by, and shows?
fn groups_by(plan: &LogicalPlan, view: &CompiledView, column: &str) -> bool {
    let key = shown_key(plan).unwrap_or_default();
    shows(&view.schema, column).is_some_and(|at| key.contains(&at))
}

/// Where the column is shown as a plain value.
fn shows(schema: &Schema, column: &str) -> Option<usize> {
    schema.index_of(column).ok().filter(|at| !schema.field(*at).data_type().is_nested())
}

/// Where the record as it came is.
fn payload(schema: &Schema) -> Option<usize> {
    let bytes = |at: &usize| matches!(schema.field(*at).data_type(), DataType::Binary | DataType::Utf8);
    schema.index_of(PAYLOAD).ok().filter(bytes)
}

/// Tells the rows that are to be forgotten.
#[derive(Debug)]
pub struct Matcher<'a> {
    column: &'a str,
    value: &'a str,
    shown: Option<usize>,
    payload: Option<usize>,
    /// The column as the views above compute it of these rows.
    above: Vec<Arc<dyn PhysicalExpr>>,
    /// Records whose rows are to be forgotten, whatever they show.
    records: HashSet<u128>,
}

/// What is taken out of a table.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// Files in the place of those that held such rows.
    pub add: Vec<DataFile>,
    /// Those files.
    pub remove: Vec<String>,
    /// The rows that go.
    pub rows: Vec<RecordBatch>,
}

impl Forgotten {
    /// How many rows go.
    pub fn count(&self) -> u64 {
        self.rows.iter().map(|batch| batch.num_rows() as u64).sum()
    }
}

impl<'a> Matcher<'a> {
    /// For a table of this schema; `None`: it can hold no such row, as far as its columns tell. `above`: see
    /// [`crate::refresh::derived`].
    ///
    /// # Errors
    /// `Internal` for an expression over other columns.
    pub fn new(state: &SessionState, schema: &SchemaRef, forget: &'a Forget, above: Vec<Expr>) -> Result<Option<Self>> {
        let columns = DFSchema::try_from(Arc::clone(schema))?;
        let above = above.into_iter().map(|expr| Ok(state.create_physical_expr(expr, &columns)?));
        let matcher = Self {
            column: &forget.column,
            value: &forget.value,
            shown: shows(schema, &forget.column),
            payload: payload(schema),
            above: above.collect::<Result<_>>()?,
            records: HashSet::new(),
        };
        let any = matcher.shown.is_some() || matcher.payload.is_some() || !matcher.above.is_empty();
        Ok(any.then_some(matcher))
    }

    /// For a quarantine: also the rows of these records, which it may not have been able to read.
    ///
    /// # Errors
    /// As [`Matcher::new`].
    pub fn of_records(
        state: &SessionState,
        schema: &SchemaRef,
        forget: &'a Forget,
        above: Vec<Expr>,
        records: HashSet<u128>,
    ) -> Result<Option<Self>> {
        let known = IDENTITY.iter().all(|name| schema.index_of(name).is_ok());
        match Self::new(state, schema, forget, above)? {
            Some(matcher) if known => Ok(Some(Self { records, ..matcher })),
            None if known => {
                let (column, value) = (forget.column.as_str(), forget.value.as_str());
                Ok(Some(Self { column, value, shown: None, payload: None, above: vec![], records }))
            }
            matcher => Ok(matcher),
        }
    }

    /// Which rows of a batch of that schema are to be forgotten.
    ///
    /// # Errors
    /// `Internal` for other columns.
    pub fn mask(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let mut mask = vec![false; batch.num_rows()];
        let mut mark = |values: &ArrayRef| -> Result<()> {
            let texts = cast(values, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>();
            let hits = mask.iter_mut().enumerate().filter(|(row, _)| texts.is_valid(*row));
            hits.for_each(|(row, hit)| *hit |= texts.value(row) == self.value);
            Ok(())
        };
        if let Some(at) = self.shown {
            mark(batch.column(at))?;
        }
        for expr in &self.above {
            mark(&expr.evaluate(batch)?.into_array(batch.num_rows())?)?;
        }
        if !self.records.is_empty() {
            let ids = identities(batch)?;
            mask.iter_mut().zip(ids).for_each(|(hit, id)| *hit |= self.records.contains(&id));
        }
        if let Some(at) = self.payload {
            let records = cast(batch.column(at), &DataType::Binary)?;
            let records: &BinaryArray = records.as_binary();
            let hits = mask.iter_mut().enumerate().filter(|(row, hit)| !**hit && records.is_valid(*row));
            hits.for_each(|(row, hit)| *hit = self.is_in(records.value(row)));
        }
        Ok(BooleanArray::from(mask))
    }

    /// A record has the value: in its field of this name, or, where it is no JSON, as a text somewhere in it.
    fn is_in(&self, record: &[u8]) -> bool {
        // A JSON text may write any character otherwise.
        if !contains(record, self.value.as_bytes()) && !contains(record, b"\\") {
            return false;
        }
        match serde_json::from_slice::<serde_json::Value>(record) {
            // What the views above make of a record says whose it is, where they do.
            Ok(serde_json::Value::Object(fields)) if self.above.is_empty() => match fields.get(self.column) {
                Some(serde_json::Value::String(text)) => text == self.value,
                Some(serde_json::Value::Number(number)) => number.to_string() == self.value,
                _ => false,
            },
            Ok(_) => false,
            Err(_) => contains(record, serde_json::Value::from(self.value).to_string().as_bytes()),
        }
    }

    /// Take the rows out of a table's files, one file after the other.
    ///
    /// # Errors
    /// `Storage`, `Corrupt`.
    pub async fn take(
        &self,
        storage: &dyn Storage,
        state: &SessionState,
        snapshot: &Snapshot,
        epoch: Epoch,
    ) -> Result<Forgotten> {
        let mut forgotten = Forgotten::default();
        for file in self.candidates(snapshot)? {
            let (mut kept, mut found) = (Vec::new(), false);
            for batch in read(storage, state, snapshot, &file).await? {
                let mask = self.mask(&batch)?;
                if mask.true_count() > 0 {
                    found = true;
                    forgotten.rows.push(filter_record_batch(&batch, &mask)?);
                }
                let rest = filter_record_batch(&batch, &not(&mask)?)?;
                kept.extend((rest.num_rows() > 0).then_some(rest));
            }
            if found {
                forgotten.remove.push(file.path.clone());
                if !kept.is_empty() {
                    forgotten.add.extend(storage.stage(snapshot, epoch, &kept).await?);
                }
            }
        }
        Ok(forgotten)
    }

    /// How many such rows a table has.
    ///
    /// # Errors
    /// `Storage`, `Corrupt`.
    pub async fn count(&self, storage: &dyn Storage, state: &SessionState, snapshot: &Snapshot) -> Result<u64> {
        let mut found = 0;
        for file in self.candidates(snapshot)? {
            for batch in read(storage, state, snapshot, &file).await? {
                found += self.mask(&batch)?.true_count() as u64;
            }
        }
        Ok(found)
    }

    /// The files that may hold such rows, by the bounds of the column where it is shown as a text.
    fn candidates(&self, snapshot: &Snapshot) -> Result<Vec<Arc<DataFile>>> {
        let text = |at: &usize| *snapshot.schema.field(*at).data_type() == DataType::Utf8;
        match self.shown.filter(text) {
            Some(_) if self.payload.is_none() && self.above.is_empty() && self.records.is_empty() => {
                let values = Arc::new(arrow::array::StringArray::from(vec![self.value])) as _;
                let key = KeyColumn { name: self.column.to_string(), values };
                may_hold(&snapshot.files, &snapshot.partitioned_by, &[key], 1)
            }
            _ => Ok(snapshot.files.to_vec()),
        }
    }
}

async fn read(
    storage: &dyn Storage,
    state: &SessionState,
    snapshot: &Snapshot,
    file: &Arc<DataFile>,
) -> Result<Vec<RecordBatch>> {
    let provider = storage.provider(snapshot, Some(vec![Arc::clone(file)]));
    let plan = LogicalPlanBuilder::scan("__stored", provider_as_source(provider), None)?.build()?;
    collect(state, plan).await?.iter().map(|batch| conform(batch, &snapshot.schema)).collect()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Field;

    fn mask(schema: &Schema, column: &str, value: &str, batch: &RecordBatch) -> Option<BooleanArray> {
        let forget = Forget { column: column.into(), value: value.into() };
        let state = datafusion::execution::SessionStateBuilder::new().with_default_features().build();
        let matcher = Matcher::new(&state, &Arc::new(schema.clone()), &forget, vec![]).unwrap();
        matcher.map(|matcher| matcher.mask(batch).unwrap())
    }

    fn found(value: &str, record: &str) -> bool {
        let schema = Schema::new(vec![Field::new(PAYLOAD, DataType::Binary, true)]);
        let batch = BinaryArray::from(vec![Some(record.as_bytes()), None]);
        let batch = RecordBatch::try_new(Arc::new(schema.clone()), vec![Arc::new(batch)]).unwrap();
        let mask = mask(&schema, "user_id", value, &batch).unwrap();
        assert!(!mask.value(1));
        mask.value(0)
    }

    #[test]
    fn records_are_those_of_the_field_and_no_others() {
        assert!(found("u1", r#"{"user_id":"u1","n":2}"#));
        assert!(found("17", r#"{"user_id":17}"#));
        assert!(found("u1", r#"{"user_id":"\u0075\u0031"}"#), "written otherwise");
        assert!(found("Ravi Ä", r#"{"user_id":"Ravi \u00c4"}"#));
        assert!(!found("u1", r#"{"user_id":"u11"}"#) && !found("u1", r#"{"seller_id":"u1"}"#));
        assert!(!found("u1", r#"{"friend":{"user_id":"u1"}}"#) && !found("u1", r#"["u1"]"#));
    }

    #[test]
    fn what_is_no_json_is_searched_for_the_text() {
        assert!(found("u1", r#"{"user_id":"u1","n":"#));
        assert!(!found("u1", r#"{"user_id":"u11","n":"#) && !found("u1", "{u1"));
    }

    #[test]
    fn tables_without_the_column_are_left_alone() {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
        let batch = arrow::array::Int64Array::from(vec![Some(7), Some(77), None]);
        let batch = RecordBatch::try_new(Arc::new(schema.clone()), vec![Arc::new(batch)]).unwrap();
        assert!(mask(&schema, "user_id", "u1", &batch).is_none());
        let mask = mask(&schema, "n", "7", &batch).unwrap();
        assert_eq!(mask.iter().flatten().collect::<Vec<_>>(), [true, false, false]);
    }
}
