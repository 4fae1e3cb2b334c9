//! What the commands of Flight SQL do, apart from the protocol around them.
//!
//! ```text
//!   open(sql)      take a turn ─▶ session, pinned now ─▶ execute ─▶ Pending under a handle      GetFlightInfo
//!   fetch(handle)  take it out ─▶ take a turn ─▶ stream                                       DoGet
//!   update(sql)    the same as open, the count at once                                        DoPut
//!   describe(sql)  plan a query, drop it, keep its columns; nothing for a change              Prepare, GetSchema
//!                  with parameters: plan both, keep the parameters' types
//!   ingest(rows)   the rows into a table, the count at once                                   DoPut
//! ```
//!
//! A query is dropped together with the call that waits for it. A change runs to its end even when its client goes
//! away: half a statement is nobody's wish.

use std::sync::{Arc, LazyLock};

use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use futures::stream::{self, BoxStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::auth::{Call, Credentials, Doorkeeper, Known};
use super::handles::Handles;
use super::sessions::{self, Session};
use super::statement::{self, Shape, Statement};
use super::stream::{self as result_stream, Pending, Running};
use super::wire::Wire;
use super::{Backend, Limits, parameters, status};
use crate::catalog::Principal;
use crate::engine::Answer;
use crate::engine::ingest::Ingest;

/// One server's state.
pub(crate) struct Service {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) limits: Limits,
    pub(crate) prepared: Handles<Prepared>,
    pub(crate) sessions: Handles<Session>,
    doorkeeper: Doorkeeper,
    results: Handles<Pending>,
    running: Arc<Running>,
    turns: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// Who calls, and in which session.
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) session: Option<Uuid>,
    /// When they logged in.
    pub(crate) since: std::time::Instant,
    /// What the log-in rests on.
    pub(crate) basis: Option<String>,
}

/// A prepared statement: its text, what it takes, and what it gives.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) statement: Statement,
    /// The columns of a query.
    pub(crate) wire: Wire,
    /// Types of its parameters.
    pub(crate) parameters: Vec<DataType>,
    /// The values that were bound last.
    pub(crate) values: Option<RecordBatch>,
}

static EMPTY: LazyLock<Schema> = LazyLock::new(Schema::empty);

/// A statement that has been executed and waits to be fetched.
pub(crate) struct Opened {
    pub(crate) wire: Wire,
    pub(crate) handle: Uuid,
    /// What a change did, for people.
    pub(crate) message: Option<String>,
}

impl Service {
    pub(crate) fn new(backend: Arc<dyn Backend>, limits: Limits, shutdown: CancellationToken) -> Self {
        Self {
            backend,
            prepared: Handles::new("prepared statement", limits.prepared_max, limits.prepared_idle_max),
            sessions: Handles::new("session", limits.sessions_max, limits.session_idle_max),
            results: Handles::new("result", limits.results_max, limits.result_age_max),
            doorkeeper: Doorkeeper::new(limits.log_ins_at_once_max),
            running: Arc::default(),
            turns: Arc::new(Semaphore::new(limits.statements_max)),
            limits,
            shutdown,
        }
    }

    /// Who calls, and in which session.
    pub(crate) async fn caller(&self, call: &Call) -> Result<Caller, Status> {
        let session = sessions::handle(&call.metadata);
        let of_session = session.and_then(|handle| self.sessions.owned(handle));
        let of_session = of_session.filter(|(_, session)| session.since.elapsed() < self.limits.session_age_max);
        let credentials = Credentials::read(&call.metadata);
        let known = self.doorkeeper.known(&self.backend, credentials, of_session, call.peer).await;
        let Known { principal, since, basis } = known.map_err(status::from)?;
        Ok(Caller { principal, session, since, basis })
    }

    /// A session for who calls, as old as the log-in; the token is known to the client only.
    pub(crate) fn begin_session(&self, caller: &Caller, schema: Option<String>) -> Result<String, Status> {
        let token = sessions::new_token();
        let session = Session { schema, since: caller.since, basis: caller.basis.clone() };
        self.sessions.insert_at(sessions::handle_of(&token), &caller.principal.subject, session)?;
        Ok(token)
    }

    /// A session pinned to what is published now, with the caller's options.
    pub(crate) async fn session(&self, caller: &Caller) -> Result<SessionContext, Status> {
        let session = self.backend.session(&caller.principal).await.map_err(status::from)?;
        self.options(caller).apply(&session);
        Ok(session)
    }

    /// The options of the caller's session.
    pub(crate) fn options(&self, caller: &Caller) -> Session {
        let handle = caller.session.unwrap_or_default();
        let found = self.sessions.with(handle.as_bytes(), &caller.principal.subject, |session| session.clone());
        found.unwrap_or_default()
    }

    /// Look at a text that a client has sent.
    pub(crate) fn read(&self, sql: &str) -> Result<Statement, Status> {
        statement::read(sql, self.limits.sql_bytes_max)
    }

    /// Execute a statement and keep its result for a fetch. Rows have the columns that were promised before.
    pub(crate) async fn open(
        &self,
        caller: &Caller,
        statement: &Statement,
        values: RecordBatch,
        promised: Option<&Wire>,
    ) -> Result<Opened, Status> {
        let deadline = Instant::now() + self.limits.statement_time_max;
        let (wire, rows, message) = match self.execute(caller, statement, values, deadline).await? {
            Answer::Rows { schema, stream } => (Wire::new(&schema).kept(promised)?, stream, None),
            Answer::Done { message, rows_affected } => {
                let batch = done(&message, rows_affected)?;
                let wire = Wire::new(&batch.schema());
                let rows = RecordBatchStreamAdapter::new(batch.schema(), stream::iter([Ok(batch)]));
                (wire, Box::pin(rows) as _, Some(message))
            }
        };
        let pending = Pending { wire: wire.clone(), rows, deadline, principal: caller.principal.clone() };
        let handle = self.results.insert(&caller.principal.subject, pending)?;
        Ok(Opened { wire, handle, message })
    }

    /// Stream a result, once.
    pub(crate) async fn fetch(
        &self,
        caller: &Caller,
        handle: &[u8],
    ) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
        let pending = self.results.take(handle, &caller.principal.subject)?;
        if pending.principal != caller.principal {
            return Err(Status::permission_denied(
                "your rights have changed since (hint: execute the statement again)",
            ));
        }
        let turn = self.turn(pending.deadline).await?;
        let cancel = self.shutdown.child_token();
        let owner = &caller.principal.subject;
        let guard = self.running.register(Uuid::from_slice(handle).unwrap_or_default(), owner, cancel.clone());
        Ok(result_stream::send(pending, cancel, (turn, guard), self.limits.batches_ahead_max))
    }

    /// Cancel a result that waits or is being fetched; false when there is none of that handle.
    pub(crate) fn cancel(&self, caller: &Caller, handle: &[u8]) -> bool {
        let waiting = self.results.take(handle, &caller.principal.subject).is_ok();
        let running = |handle| self.running.cancel(handle, &caller.principal.subject);
        waiting || Uuid::from_slice(handle).is_ok_and(running)
    }

    /// Execute a statement that changes something; the rows it affected, 0 where that means nothing.
    pub(crate) async fn update(
        &self,
        caller: &Caller,
        statement: &Statement,
        values: RecordBatch,
    ) -> Result<i64, Status> {
        let deadline = Instant::now() + self.limits.statement_time_max;
        match self.execute(caller, statement, values, deadline).await? {
            Answer::Done { rows_affected, .. } => Ok(count(rows_affected.unwrap_or(0))),
            Answer::Rows { schema, .. } if schema.fields().is_empty() => Ok(0),
            Answer::Rows { .. } => Err(Status::invalid_argument(
                "the statement gives rows, but was sent as an update (hint: execute it as a query)",
            )),
        }
    }

    /// What a statement would give, without executing it.
    pub(crate) async fn describe(&self, caller: &Caller, sql: &str) -> Result<Prepared, Status> {
        let deadline = Instant::now() + self.limits.statement_time_max;
        let statement = self.read(sql)?;
        let mut parameters = vec![];
        let wire = match (statement.shape, statement.has_parameters) {
            (shape, true) => {
                let text = statement.sql.clone();
                let work = async move |backend: Arc<dyn Backend>, session: SessionContext, _| {
                    backend.describe(&session, &text).await
                };
                let described = self.run(caller, Shape::Query, deadline, work).await?;
                parameters = described.parameters;
                Wire::new(if shape == Shape::Query { &described.schema } else { &EMPTY })
            }
            (Shape::Change, false) => Wire::new(&EMPTY),
            (Shape::Query, false) => match self.execute(caller, &statement, parameters::none(), deadline).await? {
                Answer::Rows { schema, .. } => Wire::new(&schema),
                Answer::Done { .. } => Wire::new(&EMPTY),
            },
        };
        Ok(Prepared { statement, wire, parameters, values: None })
    }

    /// A prepared statement, as it is now.
    pub(crate) fn prepared(&self, caller: &Caller, handle: &[u8]) -> Result<Prepared, Status> {
        self.prepared.with(handle, &caller.principal.subject, |prepared| prepared.clone())
    }

    /// Put the rows of a client into a table, in one commit; how many they were.
    pub(crate) async fn ingest(
        &self,
        caller: &Caller,
        ingest: Ingest,
        rows: SendableRecordBatchStream,
    ) -> Result<i64, Status> {
        let deadline = Instant::now() + self.limits.statement_time_max;
        let work = async move |backend: Arc<dyn Backend>, _, principal: Principal| {
            backend.ingest(&principal, &ingest, rows).await
        };
        Ok(count(self.run(caller, Shape::Change, deadline, work).await?))
    }

    async fn execute(
        &self,
        caller: &Caller,
        statement: &Statement,
        values: RecordBatch,
        deadline: Instant,
    ) -> Result<Answer, Status> {
        let sql = statement.sql.clone();
        let work = async move |backend: Arc<dyn Backend>, session: SessionContext, principal: Principal| {
            backend.execute(&session, &principal, &sql, &values).await
        };
        self.run(caller, statement.shape, deadline, work).await
    }

    /// Take a turn and do some work in a session of its own.
    async fn run<T, W, F>(&self, caller: &Caller, shape: Shape, deadline: Instant, work: W) -> Result<T, Status>
    where
        T: Send + 'static,
        W: FnOnce(Arc<dyn Backend>, SessionContext, Principal) -> F + Send + 'static,
        F: Future<Output = crate::error::Result<T>> + Send + 'static,
    {
        let turn = self.turn(deadline).await?;
        let (backend, principal) = (Arc::clone(&self.backend), caller.principal.clone());
        let options = self.options(caller);
        let work = async move {
            let _turn = turn;
            let session = backend.session(&principal).await?;
            options.apply(&session);
            work(backend, session, principal).await
        };
        // In tasks of their own, so that a panic ends the statement and not the connection.
        let timed = match shape {
            Shape::Query => tokio::time::timeout_at(deadline, SpawnedTask::spawn(work).join()).await,
            Shape::Change => tokio::time::timeout_at(deadline, tokio::spawn(work)).await,
        };
        match timed {
            Ok(Ok(answer)) => answer.map_err(status::from),
            Ok(Err(_)) => Err(Status::internal("the statement ended unexpectedly; the server's log tells why")),
            Err(_) => Err(result_stream::too_long()),
        }
    }

    /// Wait for a turn, but not for long: a full server says so, and drivers try again.
    async fn turn(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Status> {
        let until = deadline.min(Instant::now() + self.limits.queue_wait_max);
        match tokio::time::timeout_at(until, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) => Err(Status::unavailable("the server is stopping")),
            Err(_) => Err(Status::unavailable(format!(
                "{} statements are running already (hint: try again later)",
                self.limits.statements_max
            ))),
        }
    }

    /// Let go of what clients have left behind.
    pub(crate) fn sweep(&self) {
        self.results.sweep();
        self.prepared.sweep();
        self.sessions.sweep();
    }
}

fn count(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// The result of a change that is executed as a query: its count, or else its message.
fn done(message: &str, rows_affected: Option<u64>) -> Result<RecordBatch, Status> {
    let (field, column): (_, arrow::array::ArrayRef) = match rows_affected {
        Some(rows) => (Field::new("count", DataType::Int64, false), Arc::new(Int64Array::from(vec![count(rows)]))),
        None => (Field::new("status", DataType::Utf8, false), Arc::new(StringArray::from(vec![message]))),
    };
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).map_err(status::from)
}
