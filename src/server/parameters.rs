//! Parameters: how they are written, what a client is told of them, what it may send.
//!
//! ```text
//!   WHERE a = ? AND b = ?  ─ rewrite ─▶  WHERE a = $1 AND b = $2        drivers know `?`, the engine `$n`
//!   inferred types         ─ schema ──▶  nullable fields "$1", "$2", .. timestamps in milliseconds
//!   columns of the client  ─ values ──▶  the inferred types, or INVALID_ARGUMENT that names the parameter
//! ```
//!
//! JDBC writes milliseconds into a parameter that is announced as a timestamp of any unit, so they are announced so.
//! It cannot write NULL into a field that is not nullable, nor anything into one of type Null.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use sqlparser::tokenizer::Token;
use tonic::Status;

use super::status;
use super::wire::Wire;
use crate::engine::fit::fit;
use crate::engine::parameters::PARAMETERS_MAX;

/// A text with its parameters as `$n`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rewritten {
    pub(crate) sql: String,
    pub(crate) has_parameters: bool,
}

/// Number the `?` of a text. Those in strings, names and comments are none.
pub(crate) fn rewrite(sql: &str, tokens: &[(Token, Range<usize>)]) -> Result<Rewritten, Status> {
    let (mut out, mut copied, mut marks, mut numbered) = (String::with_capacity(sql.len()), 0, 0, false);
    for (token, bytes) in tokens {
        match token {
            Token::Placeholder(name) => {
                check_name(name)?;
                numbered = true;
            }
            _ if is_mark(token) => {
                // PostgreSQL has operators that begin with a question mark: `?||` is a parameter and `||` here.
                let after = bytes.start + 1;
                if sql[after..].starts_with(|next: char| next.is_ascii_digit()) {
                    return Err(refused("a number stands after ?", "write ? alone, or $1"));
                }
                marks += 1;
                out.push_str(&sql[copied..bytes.start]);
                out.push_str(&format!("${marks}"));
                if sql[after..].starts_with(|next: char| next.is_alphanumeric() || "_$?".contains(next)) {
                    out.push(' ');
                }
                copied = after;
            }
            _ => {}
        }
    }
    if marks > PARAMETERS_MAX {
        let what = format!("the statement has {marks} parameters; {PARAMETERS_MAX} are allowed");
        return Err(refused(&what, "bind rows of fewer values, or ingest them into a table and join it"));
    }
    if numbered && marks > 0 {
        return Err(refused("the statement has both ? and $n", "write all of its parameters in one way"));
    }
    out.push_str(&sql[copied..]);
    Ok(Rewritten { sql: out, has_parameters: numbered || marks > 0 })
}

fn is_mark(token: &Token) -> bool {
    matches!(
        token,
        Token::Question
            | Token::QuestionAnd
            | Token::QuestionPipe
            | Token::QuestionMarkDash
            | Token::QuestionMarkSharp
            | Token::QuestionMarkDashVerticalBar
            | Token::QuestionMarkDoubleVerticalBar
    )
}

fn check_name(name: &str) -> Result<(), Status> {
    let digits = name.trim_start_matches('$');
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused(&format!("the parameter {name} has a name"), "write ? or $1, $2, ..."));
    }
    Ok(())
}

fn refused(what: &str, hint: &str) -> Status {
    Status::invalid_argument(format!("{what} (hint: {hint})"))
}

/// What a client is told about parameters of these types.
pub(crate) fn schema(types: &[DataType]) -> Schema {
    let fields = types.iter().enumerate().map(|(index, data_type)| {
        let data_type = match data_type {
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
            other => other.clone(),
        };
        Field::new(format!("${}", index + 1), data_type, true)
    });
    Wire::new(&Schema::new(fields.collect::<Vec<_>>())).schema.as_ref().clone()
}

/// No values: a statement is executed once with them.
pub(crate) fn none() -> RecordBatch {
    RecordBatch::new_empty(Arc::new(Schema::empty()))
}

/// The values that a client has sent, in these types; a row for each execution.
pub(crate) fn values(sent: &[RecordBatch], schema: &SchemaRef, types: &[DataType]) -> Result<RecordBatch, Status> {
    if schema.fields().len() != types.len() {
        return Err(Status::invalid_argument(format!(
            "the statement has {} parameters, but values for {} came{}",
            types.len(),
            schema.fields().len(),
            missing(schema.fields().len(), types.len()),
        )));
    }
    let columns = types.iter().enumerate().map(|(index, data_type)| {
        let parts = sent.iter().map(|batch| fit(batch.column(index), data_type));
        let parts = parts.collect::<Result<Vec<_>, _>>();
        let parts = parts.map_err(|error| status::of(&error.context(format!("parameter ${}", index + 1))))?;
        concat(&parts, data_type)
    });
    let fields = types
        .iter()
        .enumerate()
        .map(|(index, data_type)| Field::new(format!("${}", index + 1), data_type.clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let rows = sent.iter().map(RecordBatch::num_rows).sum();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns.collect::<Result<_, Status>>()?, &options).map_err(status::from)
}

fn concat(parts: &[ArrayRef], data_type: &DataType) -> Result<ArrayRef, Status> {
    match parts {
        [] => Ok(arrow::array::new_empty_array(data_type)),
        [one] => Ok(Arc::clone(one)),
        many => arrow::compute::concat(&many.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map_err(status::from),
    }
}

fn missing(came: usize, wanted: usize) -> String {
    let names = (came + 1..=wanted).map(|n| format!("${n}")).collect::<Vec<_>>();
    if names.is_empty() { String::new() } else { format!(": no value for {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray, Float64Array, Int64Array, NullArray, StringArray};
    use arrow::datatypes::Int64Type;

    fn rewritten(sql: &str) -> Result<String, String> {
        let tokens = crate::parser::tokens(sql).unwrap();
        rewrite(sql, &tokens).map(|done| done.sql).map_err(|status| status.message().to_string())
    }

    #[test]
    fn question_marks_are_numbered_where_they_are_parameters() {
        for (sql, expected) in [
            ("SELECT ?, ?", "SELECT $1, $2"),
            ("SELECT '?' AS \"a?\", ? -- ?\n/* ? /* ? */ */", "SELECT '?' AS \"a?\", $1 -- ?\n/* ? /* ? */ */"),
            ("SELECT E'it\\'s ?', $$ ? $$, ?", "SELECT E'it\\'s ?', $$ ? $$, $1"),
            ("SELECT ?||'é?', ?-1, ?#?", "SELECT $1||'é?', $2-1, $3#$4"),
            ("WHERE a=?AND b=?", "WHERE a=$1 AND b=$2"),
            ("VALUES (?,?)", "VALUES ($1,$2)"),
            ("SELECT $2, $1", "SELECT $2, $1"),
            ("SELECT 1", "SELECT 1"),
        ] {
            assert_eq!(rewritten(sql).as_deref(), Ok(expected), "{sql}");
        }
        let eleven = rewritten(&format!("SELECT {}", ["?"; 11].join(","))).unwrap();
        assert!(eleven.ends_with("$9,$10,$11"), "{eleven}");
        for (sql, words) in [("SELECT ?, $1", "both"), ("SELECT $city", "$city"), ("SELECT ?1", "number")] {
            let error = rewritten(sql).unwrap_err();
            assert!(error.contains(words) && error.contains("hint"), "{sql}: {error}");
        }
    }

    fn sent(columns: Vec<ArrayRef>) -> RecordBatch {
        let named = columns.into_iter().enumerate().map(|(index, column)| (format!("p{index}"), column, true));
        RecordBatch::try_from_iter_with_nullable(named).unwrap()
    }

    #[test]
    fn values_are_cast_or_refused_by_name() {
        let types = [DataType::Int64, DataType::Utf8];
        let of = |batch: RecordBatch| values(std::slice::from_ref(&batch), &batch.schema(), &types);
        let cast = of(sent(vec![Arc::new(StringArray::from(vec!["7"])), Arc::new(Int64Array::from(vec![8]))])).unwrap();
        assert_eq!(cast.column(0).as_primitive::<Int64Type>().value(0), 7);
        assert_eq!(cast.column(1).as_string::<i32>().value(0), "8");
        let nulls = of(sent(vec![Arc::new(NullArray::new(1)), Arc::new(NullArray::new(1))])).unwrap();
        assert!(nulls.column(0).is_null(0) && nulls.column(1).is_null(0));

        let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let error = of(sent(vec![Arc::new(Float64Array::from(vec![1.5])), Arc::clone(&text)])).unwrap_err();
        assert!(error.message().starts_with("parameter $1: 1.5 does not fit the type Int64"), "{error}");
        let error = of(sent(vec![Arc::clone(&text), Arc::clone(&text)])).unwrap_err();
        assert!(error.message().starts_with("parameter $1") && error.message().contains("'x'"), "{error}");
        let error = of(sent(vec![text])).unwrap_err();
        assert!(error.message().ends_with("no value for $2"), "{error}");
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn every_parameter_is_nullable_and_timestamps_are_in_milliseconds() {
        let types = [DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), DataType::Int32];
        let told = schema(&types);
        assert_eq!(told.field(0).data_type(), &DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())));
        assert_eq!((told.field(1).name().as_str(), told.field(1).is_nullable()), ("$2", true));
    }
}
