//! `POST /v1/sql`: a statement in, its rows out, for whoever has no driver.
//!
//! ```text
//!   text/plain        the statement                                          ┐
//!   application/json  {"sql": "... WHERE a = ?", "parameters": [1, "x"]}     ┘─▶ open ─▶ fetch ─▶ Encoder ─▶ the body
//!                                                                                           └ the client goes: cancelled
//! ```
//!
//! The first rows are there before the answer begins, so that what goes wrong until then has its status.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, NullArray, StringArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Peekable};
use futures::{Stream, StreamExt};
use serde::Deserialize;
use serde_json::Value;
use tonic::Status;

use super::formats::{Encoder, Format};
use super::{Failure, Site};
use crate::server::listener::Peer;
use crate::server::statement::Shape;
use crate::server::stream::Batches;
use crate::server::{parameters, status};

/// A statement in JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    sql: String,
    #[serde(default)]
    parameters: Vec<Value>,
}

/// Carry out one statement.
pub(super) async fn answer(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let caller = site.caller(&headers, &peer).await?;
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(format) = Format::accepted(text(header::ACCEPT)) else {
        let known = "application/json, application/x-ndjson, text/csv, application/vnd.apache.arrow.stream\n";
        return Ok((StatusCode::NOT_ACCEPTABLE, known).into_response());
    };
    let asked = asked(text(header::CONTENT_TYPE), &body)?;
    let service = &site.service;
    let statement = service.read(&asked.sql)?;
    let opened = if asked.parameters.is_empty() && !statement.has_parameters {
        service.open(&caller, &statement, parameters::none(), None).await?
    } else {
        let prepared = service.describe(&caller, &asked.sql).await?;
        let sent = row(&asked.parameters)?;
        let values = parameters::values(std::slice::from_ref(&sent), &sent.schema(), &prepared.parameters)?;
        let promised = (prepared.statement.shape == Shape::Query).then_some(&prepared.wire);
        service.open(&caller, &prepared.statement, values, promised).await?
    };
    let (schema, batches) = service.fetch(&caller, opened.handle.as_bytes()).await?;
    let mut batches = batches.peekable();
    if let Some(Err(status)) = Pin::new(&mut batches).peek().await {
        return Err(Failure(status.clone()));
    }
    let (encoder, head) = Encoder::begin(format, &schema, opened.message.as_deref()).map_err(|e| status::of(&e))?;
    let headers = [(header::CONTENT_TYPE, format.content_type()), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(bytes(encoder, head, schema, batches))).into_response())
}

fn asked(content_type: Option<&str>, body: &[u8]) -> Result<Asked, Status> {
    let kind = content_type.unwrap_or("text/plain").split(';').next().unwrap_or_default().trim();
    match kind.to_ascii_lowercase().as_str() {
        "application/json" => serde_json::from_slice(body).map_err(|error| {
            let hint = r#"(hint: {"sql": "SELECT ... WHERE a = ?", "parameters": [1]})"#;
            Status::invalid_argument(format!("the body is no statement in JSON: {error} {hint}"))
        }),
        // What curl sends unless told otherwise is a form; it holds the statement as it is.
        "text/plain" | "application/sql" | "application/x-www-form-urlencoded" => {
            let sql = std::str::from_utf8(body);
            let sql = sql.map_err(|error| Status::invalid_argument(format!("the statement is no UTF-8: {error}")))?;
            Ok(Asked { sql: sql.to_string(), parameters: vec![] })
        }
        other => Err(Status::invalid_argument(format!(
            "a statement does not come as {other} (hint: Content-Type: text/plain, or application/json)"
        ))),
    }
}

/// The parameters as a row of values; the types that are wanted come later.
fn row(parameters: &[Value]) -> Result<RecordBatch, Status> {
    let columns = parameters.iter().enumerate().map(|(index, value)| -> Result<ArrayRef, Status> {
        Ok(match value {
            Value::Null => Arc::new(NullArray::new(1)),
            Value::Bool(value) => Arc::new(BooleanArray::from(vec![*value])),
            Value::String(text) => Arc::new(StringArray::from(vec![text.as_str()])),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Arc::new(Int64Array::from(vec![whole])),
                (None, value) => Arc::new(Float64Array::from(vec![value])),
            },
            Value::Array(_) | Value::Object(_) => {
                let what = format!("parameter ${} is no single value", index + 1);
                return Err(Status::invalid_argument(what));
            }
        })
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let fields = columns.iter().enumerate();
    let fields = fields.map(|(index, column)| Field::new(format!("${}", index + 1), column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(status::from)
}

/// The body: what is written of each batch as it comes. An error breaks it off, which HTTP tells from its end.
fn bytes(
    encoder: Encoder,
    head: Vec<u8>,
    schema: SchemaRef,
    batches: Peekable<Batches>,
) -> impl Stream<Item = Result<Vec<u8>, axum::Error>> {
    let rest = stream::unfold(Some((encoder, batches)), move |state| {
        let schema = SchemaRef::clone(&schema);
        async move {
            let (mut encoder, mut batches) = state?;
            match batches.next().await {
                Some(Ok(batch)) => match encoder.batch(&batch) {
                    Ok(bytes) => Some((Ok(bytes), Some((encoder, batches)))),
                    Err(error) => Some((Err(broken_off(&error)), None)),
                },
                Some(Err(status)) => Some((Err(broken_off(&status)), None)),
                None => Some((encoder.end(&schema).map_err(|error| broken_off(&error)), None)),
            }
        }
    });
    stream::iter([Ok(head)]).chain(rest).filter(|part| {
        let empty = part.as_ref().is_ok_and(Vec::is_empty);
        async move { !empty }
    })
}

fn broken_off(error: &(impl std::error::Error + ?Sized)) -> axum::Error {
    tracing::warn!(%error, "an answer to POST /v1/sql is broken off");
    axum::Error::new(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_come_as_text_or_as_json() {
        assert_eq!(asked(None, b"SELECT 1").unwrap().sql, "SELECT 1");
        assert_eq!(asked(Some("text/plain; charset=utf-8"), b"SELECT 1").unwrap().sql, "SELECT 1");
        let json = asked(Some("application/json"), br#"{"sql": "SELECT ?", "parameters": [null, 1.5]}"#).unwrap();
        assert_eq!((json.sql.as_str(), json.parameters.len()), ("SELECT ?", 2));
        for (kind, body) in [
            ("application/json", &br#"{"query": "SELECT 1"}"#[..]),
            ("application/json", b"SELECT 1"),
            ("image/png", b"SELECT 1"),
            ("text/plain", b"\xff"),
        ] {
            let status = asked(Some(kind), body).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{kind}");
        }
    }

    #[test]
    fn parameters_are_values() {
        let sent: Vec<Value> = serde_json::from_str(r#"[null, true, 7, 1.5, "x"]"#).unwrap();
        let row = row(&sent).unwrap();
        assert_eq!((row.num_rows(), row.num_columns()), (1, 5));
        assert!(super::row(&[serde_json::json!([1])]).is_err());
        assert_eq!(super::row(&[]).unwrap().num_rows(), 1);
    }
}
