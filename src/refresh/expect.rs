//! Expectations: rules for rows, judged in one pass over a batch.
//!
//! ```text
//!  row ─▶ FAIL UPDATE violated? ─▶ the refresh fails, the view keeps its version
//!      └▶ QUARANTINE ROW?       ─▶ <view>_quarantine, with the first such expectation's name
//!         └▶ DROP ROW?          ─▶ dropped, counted
//!            └▶ kept (violations of the rest are counted)
//! ```
//!
//! An expectation holds only when its predicate is TRUE: NULL is a violation.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, StringArray, StringBuilder};
use arrow::compute::{and, and_not, not};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::SessionState;
use datafusion::physical_expr::PhysicalExpr;

use crate::epoch::ExpectationFacts;
use crate::error::{Error, ErrorKind, Result};
use crate::parser::{self, CreateMaterializedView, OnViolation};
use crate::refresh::execute::mask;

/// All expectations of a view.
#[derive(Debug, Default)]
pub struct Expectations {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    name: String,
    predicate: Arc<dyn PhysicalExpr>,
    text: String,
    action: OnViolation,
}

/// What became of a batch's rows.
#[derive(Debug)]
pub struct Verdict {
    /// Rows that stay; never NULL.
    pub keep: BooleanArray,
    /// Rows for quarantine, with the name of the expectation; NULL elsewhere. `None`: there are none.
    pub quarantine: Option<StringArray>,
    /// Violations and removals by expectation, in declaration order: (violations, removed).
    pub counts: Vec<(u64, u64)>,
}

impl Expectations {
    /// Compile the predicates over the view's columns.
    ///
    /// # Errors
    /// `Definition` with the place in the file.
    pub fn compile(
        state: &SessionState,
        definition: &CreateMaterializedView,
        schema: &SchemaRef,
        text: &str,
        file: Option<&str>,
    ) -> Result<Self> {
        let columns = DFSchema::try_from(Arc::clone(schema))?;
        let mut rules = Vec::with_capacity(definition.expectations.len());
        for expectation in &definition.expectations {
            let at = |error: DataFusionError| {
                let location = parser::location_at(text, expectation.predicate_offset, file);
                Error::from(error).context(&expectation.name).with_location(location)
            };
            let parsed = parser::parse_expression(&expectation.predicate)?;
            let expr = state.create_logical_expr_from_sql_expr(parsed, &columns).map_err(at)?;
            let predicate = state.create_physical_expr(expr, &columns).map_err(at)?;
            let data_type = predicate.data_type(schema).map_err(at)?;
            if data_type != DataType::Boolean {
                let location = parser::location_at(text, expectation.predicate_offset, file);
                return Err(Error::new(ErrorKind::Definition, format!("{} is not a condition", expectation.name))
                    .with_detail(format!("the expression is of type {data_type}"))
                    .with_location(location));
            }
            rules.push(Rule {
                name: expectation.name.clone(),
                predicate,
                text: expectation.predicate.clone(),
                action: expectation.on_violation,
            });
        }
        Ok(Self { rules })
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// One of them takes rows out.
    pub fn removes(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.action, OnViolation::DropRow | OnViolation::QuarantineRow))
    }

    /// One of them quarantines rows: the view has a quarantine table.
    pub fn quarantines(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == OnViolation::QuarantineRow)
    }

    /// Zero counts, in declaration order.
    pub fn facts(&self) -> Vec<ExpectationFacts> {
        let facts = |rule: &Rule| ExpectationFacts {
            name: rule.name.clone(),
            action: rule.action.as_str().into(),
            ..ExpectationFacts::default()
        };
        self.rules.iter().map(facts).collect()
    }

    /// Judge a batch of the view's columns.
    ///
    /// # Errors
    /// `Expectation` for a violation of FAIL UPDATE; `Query` when a predicate cannot be computed.
    pub fn judge(&self, batch: &RecordBatch) -> Result<Verdict> {
        let rows = batch.num_rows();
        let mut counts = vec![(0, 0); self.rules.len()];
        let mut keep = BooleanArray::from(vec![true; rows]);
        let mut violated = Vec::with_capacity(self.rules.len());
        for (rule, count) in self.rules.iter().zip(&mut counts) {
            let holds = holds(rule, batch)?;
            count.0 = (rows - holds.true_count()) as u64;
            if rule.action == OnViolation::FailUpdate && count.0 > 0 {
                return Err(failed(rule, count.0, batch, &holds));
            }
            violated.push(not(&holds)?);
        }
        let mut quarantine: Option<Vec<Option<usize>>> = None;
        for action in [OnViolation::QuarantineRow, OnViolation::DropRow] {
            for (index, rule) in self.rules.iter().enumerate().filter(|(_, rule)| rule.action == action) {
                if counts[index].0 == 0 {
                    continue;
                }
                let removed = and(&keep, &violated[index])?;
                counts[index].1 = removed.true_count() as u64;
                keep = and_not(&keep, &violated[index])?;
                if rule.action == OnViolation::QuarantineRow {
                    let names = quarantine.get_or_insert_with(|| vec![None; rows]);
                    removed.values().set_indices().for_each(|row| names[row] = Some(index));
                }
            }
        }
        let quarantine = quarantine.map(|rows| self.names(&rows));
        Ok(Verdict { keep, quarantine, counts })
    }

    /// Which rows of a batch the view has taken, if it ever saw them; nothing is counted, nothing fails.
    ///
    /// # Errors
    /// `Query` when a predicate cannot be computed.
    pub fn taken(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let mut taken = BooleanArray::from(vec![true; batch.num_rows()]);
        for rule in self.rules.iter().filter(|rule| rule.action != OnViolation::Warn) {
            taken = and(&taken, &holds(rule, batch)?)?;
        }
        Ok(taken)
    }

    fn names(&self, rows: &[Option<usize>]) -> StringArray {
        let mut names = StringBuilder::with_capacity(rows.len(), 0);
        rows.iter().for_each(|row| names.append_option(row.map(|index| self.rules[index].name.as_str())));
        names.finish()
    }
}

/// TRUE where the rule holds; FALSE where it is violated or NULL.
fn holds(rule: &Rule, batch: &RecordBatch) -> Result<BooleanArray> {
    let value = rule.predicate.evaluate(batch)?.into_array(batch.num_rows())?;
    match value.as_boolean_opt() {
        Some(condition) => Ok(mask(condition)),
        None => Err(Error::new(ErrorKind::Internal, format!("{} gave no condition", rule.name))),
    }
}

fn failed(rule: &Rule, violations: u64, batch: &RecordBatch, holds: &BooleanArray) -> Error {
    let first = (0..batch.num_rows()).find(|row| !holds.value(*row)).unwrap_or(0);
    let example = arrow::util::pretty::pretty_format_batches(&[batch.slice(first, 1)]);
    let example = example.map_or(String::new(), |table| format!("; the first row:\n{table}"));
    Error::new(ErrorKind::Expectation, format!("expectation {} was violated", rule.name))
        .with_detail(format!("{violations} rows do not satisfy ({}){example}", rule.text))
        .with_hint("the view keeps its last version; mend the data or the expectation, then it goes on by itself")
}
