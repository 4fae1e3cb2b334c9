//! The actions of Flight SQL that there are: prepared statements, cancellation, sessions; and two of our own
//! (`deploy`). No transactions.
//!
//! The messages of Flight SQL travel inside an `Any`, those of Flight itself (sessions, CancelFlightInfo) do not.

use arrow::datatypes::Schema;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, Any, Command, ProstMessageExt,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo, IpcMessage,
    Result as ActionResult, SchemaAsIpc,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use tonic::{Response, Status};

use super::service::{Caller, Service};
use super::sessions;
use super::statement::{self, Shape};
use super::{catalog, deploy, handles, parameters, status};

/// What ListActions tells.
pub(crate) fn list() -> Vec<ActionType> {
    let action = |name: &str, description: &str| ActionType { r#type: name.into(), description: description.into() };
    vec![
        action("CreatePreparedStatement", "Plans a statement and keeps it under a handle."),
        action("ClosePreparedStatement", "Lets go of a prepared statement."),
        action("CancelQuery", "Cancels a query by its FlightInfo (as CancelFlightInfo, for older clients)."),
        action("CancelFlightInfo", "Cancels a query by its FlightInfo."),
        action("SetSessionOptions", "Sets options of the session: catalog, schema."),
        action("GetSessionOptions", "Tells the options of the session."),
        action("CloseSession", "Forgets the session."),
        action(deploy::PLAN, "Tells what a project would change in the lake."),
        action(deploy::APPLY, "Makes the lake hold what a project defines."),
    ]
}

/// Run one action.
pub(crate) async fn run(
    service: &Service,
    caller: &Caller,
    action: Action,
) -> Result<Response<BoxStream<'static, Result<ActionResult, Status>>>, Status> {
    let mut new_session = None;
    let body = match action.r#type.as_str() {
        "CreatePreparedStatement" => Some(prepare(service, caller, unpack(&action)?).await?),
        "ClosePreparedStatement" => {
            let request: ActionClosePreparedStatementRequest = unpack(&action)?;
            // Closing what is closed or expired is fine.
            let _ = service.prepared.take(&request.prepared_statement_handle, &caller.principal.subject);
            None
        }
        "CancelQuery" => {
            let request: ActionCancelQueryRequest = unpack(&action)?;
            let info = FlightInfo::decode(request.info).map_err(|error| status::malformed("CancelQuery", error))?;
            cancel(service, caller, &info)?;
            let result = ActionCancelQueryResult { result: CancelStatus::Cancelled as i32 };
            Some(result.as_any().encode_to_vec())
        }
        "CancelFlightInfo" => {
            let request = CancelFlightInfoRequest::decode(action.body)
                .map_err(|error| status::malformed("CancelFlightInfo", error))?;
            cancel(service, caller, &request.info.unwrap_or_default())?;
            Some(CancelFlightInfoResult { status: CancelStatus::Cancelled as i32 }.encode_to_vec())
        }
        "SetSessionOptions" => {
            let (body, token) = set_options(service, caller, &action.body).await?;
            new_session = token;
            Some(body)
        }
        "GetSessionOptions" => Some(sessions::get(&service.options(caller))),
        "CloseSession" => {
            let handle = caller.session.unwrap_or_default();
            let _ = service.sessions.take(handle.as_bytes(), &caller.principal.subject);
            Some(sessions::closed())
        }
        deploy::PLAN => Some(deploy::plan(service, caller, action.body).await?),
        deploy::APPLY => Some(deploy::apply(service, caller, action.body).await?),
        "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
            return Err(Status::unimplemented(statement::NO_TRANSACTIONS));
        }
        other => return Err(Status::unimplemented(format!("the action {other} is not supported"))),
    };
    let results = body.map(|body| Ok(ActionResult::new(body)));
    let mut response = Response::new(stream::iter(results).boxed());
    if let Some(token) = new_session {
        sessions::give_cookie(&mut response, &token, caller.peer.tls)?;
    }
    Ok(response)
}

fn unpack<M: ProstMessageExt>(action: &Action) -> Result<M, Status> {
    let any = Any::decode(&*action.body).map_err(|error| status::malformed(&action.r#type, error))?;
    let message = any.unpack().map_err(|error| status::malformed(&action.r#type, error))?;
    message.ok_or_else(|| status::malformed(&action.r#type, format!("it holds a {}", any.type_url)))
}

/// As `ActionCreatePreparedStatementResult`, with the newer field that tells drivers how to execute the statement.
#[derive(Clone, PartialEq, Message)]
struct CreatePreparedStatementResult {
    #[prost(bytes = "bytes", tag = "1")]
    prepared_statement_handle: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    dataset_schema: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    parameter_schema: Bytes,
    #[prost(bool, optional, tag = "4")]
    is_update: Option<bool>,
}

async fn prepare(
    service: &Service,
    caller: &Caller,
    request: ActionCreatePreparedStatementRequest,
) -> Result<Vec<u8>, Status> {
    statement::no_transaction(request.transaction_id.as_ref())?;
    let prepared = service.describe(caller, &request.query).await?;
    let shape = prepared.statement.shape;
    let dataset_schema = ipc(&prepared.wire.schema)?;
    // ODBC fails on one that is left out, so it is there without parameters, too.
    let parameter_schema = ipc(&parameters::schema(&prepared.parameters))?;
    let handle = service.prepared.insert(&caller.principal, prepared)?;
    let result = CreatePreparedStatementResult {
        prepared_statement_handle: handles::bytes(handle),
        dataset_schema,
        parameter_schema,
        is_update: Some(shape == Shape::Change),
    };
    let type_url = "type.googleapis.com/arrow.flight.protocol.sql.ActionCreatePreparedStatementResult".to_string();
    Ok(Any { type_url, value: result.encode_to_vec().into() }.encode_to_vec())
}

fn ipc(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message: IpcMessage = SchemaAsIpc::new(schema, &options).try_into().map_err(status::from)?;
    Ok(message.0)
}

fn cancel(service: &Service, caller: &Caller, info: &FlightInfo) -> Result<(), Status> {
    let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref());
    let commands = tickets.filter_map(|ticket| Command::try_from(Any::decode(&*ticket.ticket).ok()?).ok());
    let mut cancelled = false;
    for command in commands {
        if let Command::TicketStatementQuery(ticket) = command {
            cancelled |= service.cancel(caller, &ticket.statement_handle);
        }
    }
    if cancelled { Ok(()) } else { Err(Status::not_found("no such query is running or waiting to be fetched")) }
}

/// The answer, and the token of the session if it is a new one.
async fn set_options(service: &Service, caller: &Caller, body: &Bytes) -> Result<(Vec<u8>, Option<String>), Status> {
    let owner = &caller.principal.subject;
    let schemas = catalog::schema_names(&service.session(caller).await?);
    let handle = caller.session.unwrap_or_default();
    if let Ok(answer) =
        service.sessions.with(handle.as_bytes(), owner, |session| sessions::set(body, &schemas, session))
    {
        return Ok((answer?, None));
    }
    let mut session = sessions::Session::default();
    let answer = sessions::set(body, &schemas, &mut session)?;
    Ok((answer, Some(service.begin_session(caller, session.schema).await?)))
}
