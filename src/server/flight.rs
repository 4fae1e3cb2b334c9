//! Arrow Flight SQL: which message asks for what.
//!
//! ```text
//!   GetFlightInfo(command) ─┬─ statement, prepared ─▶ executed now ──────▶ ticket = random handle
//!                           └─ metadata ───────────▶ its schema ────────▶ ticket = the command itself
//!   DoGet(ticket) ──────────┬─ handle ─────────────▶ the rows, once
//!                           └─ metadata ───────────▶ answered now
//!   DoPut(command) ─────────── see `upload`
//!   DoAction, ListActions ──── see `actions`
//! ```
//!
//! `FlightService` is implemented directly: the `FlightSqlService` of `arrow-flight` in between would fix the answers
//! to GetSchema, PollFlightInfo and ListActions. A result has one endpoint without a location ("here") and no
//! expiration time, which would mean that a fetch may be tried again.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::IpcWriteOptions;
use arrow::record_batch::RecordBatch;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::metadata::{SqlInfoDataBuilder, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{
    Any, Command, CommandGetCatalogs, CommandGetTableTypes, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, Result as ActionResult, SchemaAsIpc, SchemaResult, Ticket,
};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::auth::Call;
use super::listener::Listener;
use super::service::{Caller, Opened, Service};
use super::statement::{self, Shape};
use super::{actions, catalog, handles, parameters, sessions, sql_info, status, stream as result_stream, upload, xdbc};
use crate::error::{Error, ErrorKind, Result};

/// Serve Arrow Flight SQL until the service is shut down.
///
/// # Errors
/// `Internal` when the listener fails.
pub async fn serve(listener: Listener, service: Arc<Service>) -> Result<()> {
    let flight = FlightServiceServer::from_arc(Arc::new(Flight(Arc::clone(&service))))
        .max_decoding_message_size(service.limits.message_bytes_max)
        .max_encoding_message_size(usize::MAX);
    let server = Server::builder()
        .http2_max_header_list_size(service.limits.header_bytes_max)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .add_service(flight)
        .serve_with_incoming_shutdown(listener.connections(), service.shutdown.clone().cancelled_owned());
    let served = tokio::select! {
        served = server => served.map_err(|error| Error::new(ErrorKind::Internal, format!("Flight SQL stopped: {error}"))),
        () = service.sweep() => Ok(()),
        () = service.stopped() => Ok(()),
    };
    service.finish().await;
    served
}

/// How often a quiet client is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

struct Flight(Arc<Service>);

type Answer<T> = std::result::Result<Response<T>, Status>;
type Stream<T> = BoxStream<'static, std::result::Result<T, Status>>;

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = Stream<HandshakeResponse>;
    type ListFlightsStream = Stream<FlightInfo>;
    type DoGetStream = Stream<FlightData>;
    type DoPutStream = Stream<PutResult>;
    type DoActionStream = Stream<ActionResult>;
    type ListActionsStream = Stream<ActionType>;
    type DoExchangeStream = Stream<FlightData>;

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        let caller = self.0.caller(&Call::of(&request)?).await?;
        let token = self.0.begin_session(&caller, None).await?;
        let mut response = Response::new(stream::empty().boxed());
        sessions::give_token(&mut response, &token)?;
        Ok(response)
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let caller = self.0.caller(&Call::of(&request)?).await?;
        let descriptor = request.into_inner();
        Ok(Response::new(self.info(&caller, descriptor).await?))
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        let caller = self.0.caller(&Call::of(&request)?).await?;
        let info = self.info(&caller, request.into_inner()).await?;
        Ok(Response::new(PollInfo {
            info: Some(info),
            flight_descriptor: None,
            progress: Some(1.0),
            expiration_time: None,
        }))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        let caller = self.0.caller(&Call::of(&request)?).await?;
        let command = command(&request.get_ref().cmd)?;
        let schema = match &command {
            Command::CommandStatementQuery(query) => {
                statement::no_transaction(query.transaction_id.as_ref())?;
                self.0.describe(&caller, &query.query).await?.wire.schema
            }
            Command::CommandPreparedStatementQuery(query) => {
                self.0.prepared(&caller, &query.prepared_statement_handle)?.wire.schema
            }
            metadata => metadata_schema(metadata)?,
        };
        let options = IpcWriteOptions::default();
        SchemaAsIpc::new(&schema, &options).try_into().map(Response::new).map_err(status::from)
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let caller = self.0.caller(&Call::of(&request)?).await?;
        match command(&request.get_ref().ticket)? {
            Command::TicketStatementQuery(ticket) => {
                let (schema, batches) = self.0.fetch(&caller, &ticket.statement_handle).await?;
                Ok(Response::new(result_stream::encode(schema, batches)))
            }
            metadata => Ok(Response::new(result_stream::one(self.metadata(&caller, metadata).await?))),
        }
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let caller = self.0.caller(&Call::of(&request)?).await?;
        let result = upload::put(&self.0, &caller, request.into_inner()).await?;
        Ok(Response::new(stream::iter([Ok(result)]).boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let caller = self.0.caller(&Call::of(&request)?).await?;
        actions::run(&self.0, &caller, request.into_inner()).await
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        Ok(Response::new(stream::iter(actions::list().into_iter().map(Ok)).boxed()))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        Err(Status::unimplemented("DoExchange is not a part of Flight SQL"))
    }
}

impl Flight {
    async fn info(&self, caller: &Caller, descriptor: FlightDescriptor) -> std::result::Result<FlightInfo, Status> {
        let (schema, ticket, message) = match command(&descriptor.cmd)? {
            Command::CommandStatementQuery(query) => {
                statement::no_transaction(query.transaction_id.as_ref())?;
                let statement = self.0.read(&query.query)?;
                executed(self.0.open(caller, &statement, parameters::none(), None).await?)
            }
            Command::CommandPreparedStatementQuery(query) => {
                let prepared = self.0.prepared(caller, &query.prepared_statement_handle)?;
                let promised = (prepared.statement.shape == Shape::Query).then_some(&prepared.wire);
                let values = prepared.values.unwrap_or_else(parameters::none);
                executed(self.0.open(caller, &prepared.statement, values, promised).await?)
            }
            metadata => (metadata_schema(&metadata)?, metadata.into_any(), None),
        };
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.encode_to_vec()));
        let info = FlightInfo::new().try_with_schema(&schema).map_err(status::from)?;
        let info = info.with_endpoint(endpoint).with_descriptor(descriptor);
        Ok(info.with_app_metadata(message.unwrap_or_default()))
    }

    async fn metadata(&self, caller: &Caller, command: Command) -> std::result::Result<RecordBatch, Status> {
        match command {
            Command::CommandGetCatalogs(_) => catalog::catalogs(),
            Command::CommandGetTableTypes(_) => catalog::table_types(),
            Command::CommandGetXdbcTypeInfo(command) => xdbc::answer(command),
            Command::CommandGetDbSchemas(command) => catalog::schemas(&self.0.session(caller).await?, command),
            Command::CommandGetTables(command) => {
                catalog::tables(&*self.0.backend, &self.0.session(caller).await?, command).await
            }
            Command::CommandGetSqlInfo(command) => {
                sql_info::answer(&self.0.session(caller).await?, &caller.principal, &self.0.limits, command.info)
            }
            other => Ok(RecordBatch::new_empty(metadata_schema(&other)?)),
        }
    }
}

/// What FlightInfo tells of a statement that has been executed.
fn executed(opened: Opened) -> (SchemaRef, Any, Option<String>) {
    let ticket = TicketStatementQuery { statement_handle: handles::bytes(opened.handle) }.as_any();
    (opened.wire.schema, ticket, opened.message)
}

/// The schema of the answer to a metadata command; it depends on the command alone.
fn metadata_schema(command: &Command) -> std::result::Result<SchemaRef, Status> {
    Ok(match command {
        Command::CommandGetCatalogs(_) => CommandGetCatalogs {}.into_builder().schema(),
        Command::CommandGetDbSchemas(command) => command.clone().into_builder().schema(),
        Command::CommandGetTables(command) => command.clone().into_builder().schema(),
        Command::CommandGetTableTypes(_) => CommandGetTableTypes {}.into_builder().schema(),
        Command::CommandGetSqlInfo(_) => Arc::new(SqlInfoDataBuilder::schema().clone()),
        Command::CommandGetXdbcTypeInfo(_) => XdbcTypeInfoDataBuilder::new().schema(),
        Command::CommandGetPrimaryKeys(_) => catalog::primary_keys(),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => catalog::foreign_keys(),
        other => return Err(unsupported(other)),
    })
}

pub(crate) fn command(bytes: &[u8]) -> std::result::Result<Command, Status> {
    let any = Any::decode(bytes).map_err(|error| status::malformed("the request", error))?;
    Command::try_from(any).map_err(|error| status::malformed("the request", error))
}

pub(crate) fn unsupported(command: &Command) -> Status {
    let name = command.type_url().rsplit('.').next().unwrap_or_default();
    Status::unimplemented(format!("{name} is not supported"))
}
