//! From a view's SQL to what a refresh needs to know of it.
//!
//! ```text
//! SQL ─▶ plan over empty tables ─▶ analyzer (types, coercion) ─▶ normalize ─▶ classify ─▶ Shape
//!                                          │
//!                                          └─▶ fingerprint: the plan, the rules for rows, the inputs' fingerprints
//! ```
//!
//! The fingerprint is of the analyzed plan, not of the text: comments and layout are no change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

use crate::catalog::session::planning_session;
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{self, CreateMaterializedView, PartitionBy, RefreshMode};
use crate::refresh::classify::{Obstacle, Shape, classify};
use crate::refresh::expect::Expectations;
use crate::refresh::normalize::normalize;
use crate::refresh::retention::{self, Retention};

/// A view, ready to be refreshed.
#[derive(Debug)]
pub struct CompiledView {
    /// Its name.
    pub name: TableName,
    /// The statement.
    pub definition: CreateMaterializedView,
    /// What is stored: every column nullable, types that Delta readers read as they were written.
    pub schema: SchemaRef,
    /// Partition columns.
    pub partitioned_by: Vec<String>,
    /// What it reads.
    pub inputs: BTreeSet<TableName>,
    /// How it can be kept.
    pub shape: Shape,
    /// How its own contents change.
    pub kind: ReadableKind,
    /// Rules for rows.
    pub expectations: Expectations,
    /// How long they stay.
    pub retention: Option<Retention>,
    /// Equal fingerprints: the same contents from the same inputs.
    pub fingerprint: String,
}

impl CompiledView {
    /// Folder of the hidden state of this definition, below the lake's root.
    pub fn state_folder(&self) -> String {
        state_folder(&self.name, &self.fingerprint)
    }
}

/// Folder of the hidden state of a view's definition, below the lake's root.
pub fn state_folder(view: &TableName, fingerprint: &str) -> String {
    format!("_state/{view}/{fingerprint}")
}

/// What a view may read.
#[derive(Debug, Clone)]
pub struct ReadableTable {
    /// Its columns.
    pub schema: SchemaRef,
    /// Tells one definition of it from another.
    pub fingerprint: String,
    /// How its contents change.
    pub kind: ReadableKind,
    /// Its rows expire, which is no change to what is built on it.
    pub expires: bool,
}

/// How the contents of a readable table change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadableKind {
    /// A stream of events: to be copied row by row.
    Source,
    /// A table to which rows come, and from which none go: a view of a stream row by row, or a quarantine.
    Log,
    /// A table whose rows can go and change, too: an ordinary one, or another view's.
    Table,
}

/// Everything that a view may read.
pub type Readable = BTreeMap<TableName, ReadableTable>;

/// Compile one view. `text` and `file` are where its statement stands, for carets.
///
/// # Errors
/// `Definition` (unknown names, types), `NotIncremental`; with location.
pub async fn compile(
    base: &SessionState,
    definition: &CreateMaterializedView,
    readable: &Readable,
    text: &str,
    file: Option<&str>,
) -> Result<CompiledView> {
    let at = |offset: usize| parser::location_at(text, offset, file);
    let state = planning_session(base, readable.iter().map(|(name, table)| (name, Arc::clone(&table.schema))))?;
    let plan = state
        .statement_to_plan(parser::parse_query(&definition.query)?)
        .await
        .map_err(|error| located(error, text, definition.query_offset, file))?;
    if !matches!(plan, LogicalPlan::Projection(_)) && plan.schema().fields().is_empty() {
        return Err(Error::new(ErrorKind::Definition, "a materialized view is defined by a query")
            .with_location(at(definition.query_offset)));
    }
    let plan = state
        .analyzer()
        .execute_and_check(plan, state.config_options(), |_, _| {})
        .map_err(|error| located(error, text, definition.query_offset, file))?;
    let inputs = inputs_of(&plan)?;
    let schema = stored_schema(plan.schema()).map_err(|error| error.with_location(at(definition.query_offset)))?;
    // Names that the rules below make up differ from process to process.
    let analyzed = plan.display_indent_schema().to_string();
    let grows = inputs.iter().all(|input| readable.get(input).is_some_and(|table| table.kind != ReadableKind::Table));
    let expires = inputs.iter().any(|input| readable.get(input).is_some_and(|table| table.expires));
    let held = match normalize(&state, plan.clone()) {
        // What is forgotten is taken off a state that cannot be read again.
        Ok(kernel) => classify(&kernel, grows && !expires),
        Err(error) => Err(Obstacle::new("a subquery", error.message())),
    };
    let shape = match (definition.options.refresh_mode, held) {
        (RefreshMode::Full, _) => Shape::Full { plan, reason: "refresh_mode = 'full'".into() },
        (RefreshMode::Auto, Err(why)) => Shape::Full { plan, reason: why.reason() },
        (RefreshMode::Incremental, Err(why)) => {
            return Err(why.refusal(&definition.name).with_location(at(definition.query_offset)));
        }
        (_, Ok(shape)) => shape,
    };
    check_inputs(&shape, &inputs, readable).map_err(|error| error.with_location(at(definition.query_offset)))?;
    retention::check_inputs(definition, &shape, &inputs, readable)
        .map_err(|error| error.with_location(at(definition.query_offset)))?;
    let partitioned_by = partition_columns(definition, &schema).map_err(|error| error.with_location(at(0)))?;
    let expectations = Expectations::compile(&state, definition, &schema, text, file)?;
    check_row_rules(definition, &shape, &schema).map_err(|error| error.with_location(at(0)))?;
    let retention = Retention::of(definition, &shape, &schema).map_err(|error| error.with_location(at(0)))?;
    let fingerprint = fingerprint(analyzed, &shape, definition, &schema, &inputs, readable);
    let kind = match shape {
        Shape::Linear { .. } if grows => ReadableKind::Log,
        _ => ReadableKind::Table,
    };
    Ok(CompiledView {
        name: definition.name.clone(),
        definition: definition.clone(),
        schema,
        partitioned_by,
        inputs,
        shape,
        kind,
        expectations,
        retention,
        fingerprint,
    })
}

/// A planner's error with the place in the file, where the planner knows one.
fn located(error: DataFusionError, text: &str, query_offset: usize, file: Option<&str>) -> Error {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let ours: Error = error.into();
    let offset = match span {
        Some(span) => query_offset + parser::offset_of(&text[query_offset..], span.start.line, span.start.column),
        None => query_offset,
    };
    ours.with_location(parser::location_at(text, offset.min(text.len()), file))
}

/// Every table that the plan scans.
pub fn inputs_of(plan: &LogicalPlan) -> Result<BTreeSet<TableName>> {
    let mut inputs = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            inputs.insert(table_name(&scan.table_name));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(inputs)
}

/// Our name of a scanned table; the planner has resolved its schema.
pub fn table_name(reference: &datafusion::common::TableReference) -> TableName {
    TableName::new(reference.schema().unwrap_or("public"), reference.table())
}

/// The stored form of an output schema.
pub fn stored_schema(schema: &DFSchema) -> Result<SchemaRef> {
    let mut seen = BTreeSet::new();
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        if !seen.insert(field.name().to_ascii_lowercase()) {
            return Err(Error::new(ErrorKind::Definition, format!("two columns are named \"{}\"", field.name()))
                .with_hint("give one of them another name with AS"));
        }
        fields.push(Field::new(field.name(), stored_type(field.data_type()), true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, value) => stored_type(value),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        // Counts of the engine (row_number, approx_distinct); Delta has no unsigned integers.
        DataType::UInt64 | DataType::UInt32 => DataType::Int64,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt8 => DataType::Int16,
        DataType::List(item) | DataType::LargeList(item) => DataType::List(Arc::new(stored_field(item))),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| stored_field(field)).collect()),
        other => other.clone(),
    }
}

fn stored_field(field: &Field) -> Field {
    field.clone().with_data_type(stored_type(field.data_type()))
}

/// A source is a stream: it can be read once, row by row, and has no versions to join with.
fn check_inputs(shape: &Shape, inputs: &BTreeSet<TableName>, readable: &Readable) -> Result<()> {
    let source = |name: &&TableName| readable.get(*name).is_some_and(|table| table.kind == ReadableKind::Source);
    let Some(source) = inputs.iter().find(source) else { return Ok(()) };
    match shape {
        Shape::Linear { .. } if inputs.len() == 1 => Ok(()),
        _ => Err(Error::new(ErrorKind::Definition, format!("{source} is a stream: it can only be copied row by row"))
            .with_hint(format!("make a bronze view of {source} first and build this view on that"))),
    }
}

fn partition_columns(definition: &CreateMaterializedView, schema: &SchemaRef) -> Result<Vec<String>> {
    let mut columns = Vec::new();
    for partition in &definition.partitioned_by {
        let column = match partition {
            PartitionBy::Column(column) => column,
            PartitionBy::Bucket { count, column } => {
                return Err(Error::new(ErrorKind::Definition, "bucket partitions are not built yet")
                    .with_hint(format!("use PARTITIONED BY ({column}), or add {column} % {count} as a column")));
            }
        };
        let Ok(field) = schema.field_with_name(column) else {
            return Err(Error::new(
                ErrorKind::Definition,
                format!("PARTITIONED BY: the query has no column \"{column}\""),
            )
            .with_detail(format!("its columns are {}", names(schema))));
        };
        if matches!(field.data_type(), DataType::Struct(_) | DataType::List(_) | DataType::Binary) {
            return Err(Error::new(ErrorKind::Definition, format!("\"{column}\" cannot be a partition column"))
                .with_detail(format!("it is {}", field.data_type())));
        }
        columns.push(column.clone());
    }
    Ok(columns)
}

/// Names of a schema's columns, for messages.
pub fn names(schema: &Schema) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

/// `unique_key` and removing expectations judge single rows: the view must be row by row.
fn check_row_rules(definition: &CreateMaterializedView, shape: &Shape, schema: &SchemaRef) -> Result<()> {
    use parser::OnViolation::{DropRow, QuarantineRow};
    let linear = matches!(shape, Shape::Linear { .. });
    for column in &definition.options.unique_key {
        if schema.field_with_name(column).is_err() {
            return Err(Error::new(ErrorKind::Definition, format!("unique_key: the query has no column \"{column}\""))
                .with_detail(format!("its columns are {}", names(schema))));
        }
    }
    if !definition.options.unique_key.is_empty() && !matches!(shape, Shape::Linear { carried: Some(_), .. }) {
        return Err(Error::new(
            ErrorKind::Definition,
            "unique_key needs a view that reads one bronze table row by row",
        )
        .with_detail(
            "the first of several rows is the one with the lowest source position, which such a view carries along",
        )
        .with_hint("declare unique_key on the silver view, and aggregate above it"));
    }
    let removing = |e: &&parser::Expectation| matches!(e.on_violation, DropRow | QuarantineRow);
    if let (false, Some(expectation)) = (linear, definition.expectations.iter().find(removing)) {
        return Err(Error::new(
            ErrorKind::Definition,
            format!("{} would remove rows of an aggregate", expectation.name),
        )
        .with_hint("use WHERE or HAVING in the query, or put the expectation on the row-wise view below"));
    }
    Ok(())
}

fn fingerprint(
    analyzed: String,
    shape: &Shape,
    definition: &CreateMaterializedView,
    schema: &SchemaRef,
    inputs: &BTreeSet<TableName>,
    readable: &Readable,
) -> String {
    let mut text = analyzed;
    text += &format!("|{:?}|{schema:?}|{:?}", definition.partitioned_by, definition.options.unique_key);
    text += &format!("|{:?}|{:?}", definition.options.dedupe_within_ms, definition.options.refresh_mode);
    for expectation in &definition.expectations {
        text += &format!("|{} {} {}", expectation.name, expectation.predicate, expectation.on_violation.as_str());
    }
    if matches!(shape, Shape::Merge { .. }) {
        // Partial states are DataFusion's: another version may lay them out in another way.
        text += datafusion::DATAFUSION_VERSION;
    }
    if let Shape::Merge { retracts: true, .. } = shape {
        text += "|counted";
    }
    for input in inputs {
        text += &format!("|{input} {}", readable.get(input).map_or("", |table| table.fingerprint.as_str()));
    }
    format!("{:016x}", (twox_hash::XxHash3_128::oneshot(text.as_bytes())) as u64)
}
