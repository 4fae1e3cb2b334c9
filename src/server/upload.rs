//! DoPut: what a client sends besides text.
//!
//! ```text
//!   update ──────────────────────────────▶ executed now                          ─▶ count
//!   update of a prepared statement + rows ▶ executed for each row, or with what was bound ─▶ count
//!   query of a prepared statement + row ──▶ kept under its handle                ─▶ the handle, which stays
//!   ingest + rows ───────────────────────▶ into a table, one commit of all rows  ─▶ count
//! ```
//!
//! Values of parameters are read whole, up to a limit; rows of an ingest flow through. The handle of a statement stays
//! when values are bound, because there are clients that never look at the answer.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    Command, CommandStatementIngest, DoPutPreparedStatementResult, DoPutUpdateResult, TableExistsOption,
    TableNotExistOption,
};
use arrow_flight::{FlightData, PutResult};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tonic::{Status, Streaming};

use super::flight::{command, unsupported};
use super::service::{Caller, Prepared, Service};
use super::statement::{self, Shape};
use super::{parameters, status};
use crate::catalog::session::{CATALOG, DEFAULT_SCHEMA};
use crate::engine::ingest::{Existing, Ingest};
use crate::name::TableName;

/// Answer one DoPut.
pub(crate) async fn put(
    service: &Service,
    caller: &Caller,
    mut stream: Streaming<FlightData>,
) -> Result<PutResult, Status> {
    let first = stream.message().await?;
    let descriptor = first.as_ref().and_then(|first| first.flight_descriptor.as_ref());
    let Some(descriptor) = descriptor else {
        return Err(Status::invalid_argument("the first message of a DoPut has no descriptor"));
    };
    let wanted = command(&descriptor.cmd)?;
    let rows = Rows::after(first, stream);
    let record_count = match wanted {
        Command::CommandStatementUpdate(update) => {
            statement::no_transaction(update.transaction_id.as_ref())?;
            service.update(caller, &service.read(&update.query)?, parameters::none()).await?
        }
        Command::CommandPreparedStatementUpdate(update) => {
            let prepared = service.prepared(caller, &update.prepared_statement_handle)?;
            let values = match bound(service, &prepared, rows).await? {
                Some(values) => values,
                None => prepared.values.unwrap_or_else(parameters::none),
            };
            service.update(caller, &prepared.statement, values).await?
        }
        Command::CommandPreparedStatementQuery(query) => {
            let handle = query.prepared_statement_handle;
            let prepared = service.prepared(caller, &handle)?;
            let values = bound(service, &prepared, rows).await?;
            check_one_row(&prepared, values.as_ref())?;
            service.prepared.with(&handle, &caller.principal.subject, |prepared| prepared.values = values)?;
            let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) };
            return Ok(PutResult { app_metadata: result.encode_to_vec().into() });
        }
        Command::CommandStatementIngest(ingest) => {
            let ingest = target(ingest, service.options(caller).schema)?;
            service.ingest(caller, ingest, rows.stream().await?).await?
        }
        other => return Err(unsupported(&other)),
    };
    Ok(PutResult { app_metadata: DoPutUpdateResult { record_count }.encode_to_vec().into() })
}

/// The values that came with the call; `None` when there are no columns.
async fn bound(service: &Service, prepared: &Prepared, rows: Rows) -> Result<Option<RecordBatch>, Status> {
    let (schema, batches) = rows.all(service.limits.values_bytes_max).await?;
    if schema.fields().is_empty() {
        return Ok(None);
    }
    parameters::values(&batches, &schema, &prepared.parameters).map(Some)
}

fn check_one_row(prepared: &Prepared, values: Option<&RecordBatch>) -> Result<(), Status> {
    match (prepared.statement.shape, values.map(RecordBatch::num_rows)) {
        (Shape::Change, _) | (_, None | Some(1)) => Ok(()),
        (Shape::Query, Some(rows)) => Err(Status::invalid_argument(format!(
            "a query takes one row of values, and {rows} came (hint: execute it once for each row)"
        ))),
    }
}

/// Where an ingest goes. What cannot be done is refused rather than left out.
fn target(ingest: CommandStatementIngest, session_schema: Option<String>) -> Result<Ingest, Status> {
    statement::no_transaction(ingest.transaction_id.as_ref())?;
    if ingest.temporary {
        return Err(Status::unimplemented("there are no temporary tables here (hint: name a table that stays)"));
    }
    if let Some(option) = ingest.options.keys().min() {
        return Err(Status::invalid_argument(format!("the option \"{option}\" of an ingest is not known here")));
    }
    if let Some(catalog) = ingest.catalog.filter(|catalog| !catalog.is_empty() && catalog != CATALOG) {
        return Err(Status::not_found(format!("there is no catalog {catalog} (hint: the only one is {CATALOG})")));
    }
    if ingest.table.is_empty() {
        return Err(Status::invalid_argument("an ingest names no table"));
    }
    let options = ingest.table_definition_options.unwrap_or_default();
    let unclear = || Status::invalid_argument("an ingest does not say what to do when its table is there, or is not");
    let create = match options.if_not_exist() {
        TableNotExistOption::Create => true,
        TableNotExistOption::Fail => false,
        TableNotExistOption::Unspecified => return Err(unclear()),
    };
    let existing = match options.if_exists() {
        TableExistsOption::Fail => Existing::Refuse,
        TableExistsOption::Append => Existing::Append,
        TableExistsOption::Replace => Existing::Replace,
        TableExistsOption::Unspecified => return Err(unclear()),
    };
    let schema = ingest.schema.filter(|schema| !schema.is_empty()).or(session_schema);
    let schema = schema.unwrap_or_else(|| DEFAULT_SCHEMA.to_string());
    Ok(Ingest { table: TableName::new(&schema, &ingest.table), create, existing })
}

/// The rows of a DoPut.
struct Rows(FlightRecordBatchStream);

impl Rows {
    fn after(first: Option<FlightData>, rest: Streaming<FlightData>) -> Self {
        // A command without rows is a message without a header, which is not of the IPC format.
        let first = first.filter(|first| !first.data_header.is_empty()).map(Ok);
        let rest = rest.map_err(FlightError::from);
        Self(FlightRecordBatchStream::new_from_flight_data(futures::stream::iter(first).chain(rest)))
    }

    /// All of them, if they are few.
    async fn all(mut self, bytes_max: usize) -> Result<(SchemaRef, Vec<RecordBatch>), Status> {
        let (mut batches, mut bytes) = (vec![], 0);
        while let Some(batch) = self.0.try_next().await.map_err(unreadable)? {
            bytes += batch.get_array_memory_size();
            if bytes > bytes_max {
                return Err(Status::resource_exhausted(format!(
                    "the values of the parameters have more than {bytes_max} bytes (hint: send fewer rows at a time, \
                     or ingest them)"
                )));
            }
            batches.push(batch);
        }
        Ok((self.schema(), batches))
    }

    fn schema(&self) -> SchemaRef {
        self.0.schema().map_or_else(|| Arc::new(Schema::empty()), Arc::clone)
    }

    /// As they come. The schema is known with the first batch.
    async fn stream(mut self) -> Result<SendableRecordBatchStream, Status> {
        let first = self.0.try_next().await.map_err(unreadable)?;
        let schema = self.schema();
        if schema.fields().is_empty() {
            return Err(Status::invalid_argument("an ingest came without columns"));
        }
        let rest = self.0.map_err(|error| DataFusionError::External(Box::new(error)));
        let rows = futures::stream::iter(first.map(Ok)).chain(rest);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

fn unreadable(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => status::malformed("the rows", other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_flight::sql::TableDefinitionOptions;

    fn ingest(if_not_exist: i32, if_exists: i32) -> CommandStatementIngest {
        let options = TableDefinitionOptions { if_not_exist, if_exists };
        CommandStatementIngest {
            table_definition_options: Some(options),
            table: "t".into(),
            schema: None,
            catalog: None,
            temporary: false,
            transaction_id: None,
            options: Default::default(),
        }
    }

    #[test]
    fn an_ingest_says_what_it_wants_or_is_refused() {
        let gold = target(ingest(1, 3), Some("gold".into())).unwrap();
        assert_eq!(gold, Ingest { table: TableName::new("gold", "t"), create: true, existing: Existing::Replace });
        assert_eq!(target(ingest(2, 2), None).unwrap().table, TableName::new("public", "t"));
        let code = |ingest| target(ingest, None).unwrap_err().code();
        assert_eq!(code(ingest(0, 1)), tonic::Code::InvalidArgument);
        assert_eq!(code(CommandStatementIngest { temporary: true, ..ingest(1, 1) }), tonic::Code::Unimplemented);
        let inside = CommandStatementIngest { transaction_id: Some("x".into()), ..ingest(1, 1) };
        assert_eq!(code(inside), tonic::Code::InvalidArgument);
        assert_eq!(code(CommandStatementIngest { catalog: Some("x".into()), ..ingest(1, 1) }), tonic::Code::NotFound);
        let options = [("a".to_string(), "b".to_string())].into();
        assert_eq!(code(CommandStatementIngest { options, ..ingest(1, 1) }), tonic::Code::InvalidArgument);
    }
}
