//! What statements do, apart from the protocol around them.
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
use std::time::Duration;

use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use futures::stream;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::audit_log::{AuditLog, Recording};
use super::auth::{Basis, Call, Credentials, Doorkeeper, Known};
use super::handles::Handles;
use super::jwt::Issuer;
use super::listener::Peer;
use super::sessions::{self, Session};
use super::statement::{self, Shape, Statement};
use super::stream::{self as result_stream, Batches, Pending, Running};
use super::turns::Turns;
use super::wire::Wire;
use super::workers::Workers;
use super::{Backend, Limits, parameters, status};
use crate::catalog::Principal;
use crate::catalog::access::secret;
use crate::engine::Answer;
use crate::engine::audit_log::AuditEntry;
use crate::engine::ingest::Ingest;
use crate::error::{Error, ErrorKind};

/// What both servers do their work with: one state for all doors, so that a session, a limit or a slowed-down log-in is
/// the same at each.
pub struct Service {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) limits: Limits,
    pub(crate) prepared: Handles<Prepared>,
    pub(crate) sessions: Handles<Session>,
    doorkeeper: Doorkeeper,
    results: Handles<Pending>,
    running: Arc<Running>,
    turns: Turns,
    workers: Workers,
    audit_log: AuditLog,
    pub(crate) embedding: Embedding,
    pub(crate) shutdown: CancellationToken,
}

/// How callers are known, beside the lake's own users.
#[derive(Debug, Default)]
pub struct Identity {
    /// Whose signed tokens are believed.
    pub issuer: Option<Issuer>,
    /// In a lake without users, let in those from other machines, too.
    pub insecure: bool,
    /// How pages are shown inside of others.
    pub embedding: Embedding,
}

/// How pages are shown inside of others.
#[derive(Clone)]
pub struct Embedding {
    /// The secret that signs their links; by default one that ends with the process.
    pub key: String,
    /// Who may frame them, as `frame-ancestors` of a content policy has it; by default this site.
    pub ancestors: String,
}

impl Default for Embedding {
    fn default() -> Self {
        Self { key: secret::random(), ancestors: "'self'".into() }
    }
}

impl std::fmt::Debug for Embedding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedding").field("ancestors", &self.ancestors).finish_non_exhaustive()
    }
}

/// Who calls, and in which session.
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) session: Option<Uuid>,
    pub(crate) peer: Peer,
    /// Where they come in.
    pub(crate) door: &'static str,
    /// When they logged in.
    pub(crate) since: std::time::Instant,
    /// What the log-in rests on.
    pub(crate) basis: Basis,
}

impl Caller {
    /// Nobody was asked who they are: the lake has no users.
    pub(crate) fn is_anybody(&self) -> bool {
        self.basis == Basis::Open
    }
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

/// How often is looked for what has become idle, or may not be fetched any more.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Events of the audit log.
const LOG_IN: &str = "log_in";
const STATEMENT: &str = "statement";

static EMPTY: LazyLock<Schema> = LazyLock::new(Schema::empty);

/// A statement that has been executed and waits to be fetched.
pub(crate) struct Opened {
    pub(crate) wire: Wire,
    pub(crate) handle: Uuid,
    /// What a change did, for people.
    pub(crate) message: Option<String>,
}

impl Service {
    /// A service that ends with `shutdown`; running queries are then cancelled.
    ///
    /// # Errors
    /// `Internal` when there are no threads for it.
    pub fn start(
        backend: Arc<dyn Backend>,
        limits: Limits,
        identity: Identity,
        shutdown: CancellationToken,
    ) -> crate::error::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            audit_log: AuditLog::start(Arc::clone(&backend)),
            backend,
            prepared: Handles::new("prepared statement", limits.prepared_max, limits.prepared_idle_max),
            sessions: Handles::new("session", limits.sessions_max, limits.session_idle_max),
            results: Handles::new("result", limits.results_max, limits.result_age_max),
            doorkeeper: Doorkeeper::new(&limits, identity.issuer, identity.insecure),
            running: Arc::default(),
            turns: Turns::new(limits.statements_max, limits.queue_wait_max),
            workers: Workers::start()?,
            embedding: identity.embedding,
            limits,
            shutdown,
        }))
    }

    /// Who calls, and in which session.
    pub(crate) async fn caller(&self, call: &Call) -> Result<Caller, Status> {
        let session = sessions::handle(&call.metadata);
        let of_session = session.and_then(|handle| self.sessions.owned(handle));
        let of_session = of_session.filter(|(_, session)| session.since.elapsed() < self.limits.session_age_max);
        let credentials = Credentials::read(&call.metadata);
        let tried = match &credentials {
            Credentials::Password { user, .. } => Some(user.clone()),
            _ => None,
        };
        let known = self.doorkeeper.known(&self.backend, credentials, of_session, &call.peer).await;
        let Known { principal, since, basis } = match known.map_err(status::from) {
            Ok(known) => known,
            Err(refused) => {
                if let Some(user) = tried {
                    let (peer, door) = (call.peer.ip.to_string(), call.door);
                    let entry = AuditEntry { user, peer, door, event: LOG_IN, ..AuditEntry::default() };
                    self.audit_log.place(entry).await?.failed(&refused);
                }
                return Err(refused);
            }
        };
        Ok(Caller { principal, session, peer: call.peer.clone(), door: call.door, since, basis })
    }

    /// A session for who calls, as old as the log-in; the token is known to the client only.
    pub(crate) async fn begin_session(&self, caller: &Caller, schema: Option<String>) -> Result<String, Status> {
        if let Some(mut line) = self.audit_log.begin(caller, LOG_IN, None).await? {
            line.done();
        }
        let token = secret::random();
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
        let deadline = self.deadline(&caller.principal);
        let (answer, mut line) = self.execute(caller, statement, values, deadline).await?;
        let (wire, rows, message) = match answer {
            Answer::Rows { schema, stream } => (Wire::new(&schema).kept(promised)?, stream, None),
            Answer::Done { message, rows_affected } => {
                self.changed(line.take(), rows_affected.unwrap_or(0), statement.is_definition).await;
                let batch = done(&message, rows_affected)?;
                let wire = Wire::new(&batch.schema());
                let rows = RecordBatchStreamAdapter::new(batch.schema(), stream::iter([Ok(batch)]));
                (wire, Box::pin(rows) as _, Some(message))
            }
        };
        let pending = Pending { wire: wire.clone(), rows, deadline, principal: caller.principal.clone(), line };
        let handle = self.results.insert(&caller.principal, pending)?;
        Ok(Opened { wire, handle, message })
    }

    /// The rows of a result, once.
    pub(crate) async fn fetch(&self, caller: &Caller, handle: &[u8]) -> Result<(SchemaRef, Batches), Status> {
        let pending = self.results.take(handle, &caller.principal.subject)?;
        if pending.principal != caller.principal {
            return Err(Status::permission_denied(
                "your rights have changed since (hint: execute the statement again)",
            ));
        }
        let turn = self.turns.take(&caller.principal, pending.deadline).await?;
        let cancel = self.shutdown.child_token();
        let owner = caller.principal.clone();
        let guard = self.running.register(Uuid::from_slice(handle).unwrap_or_default(), owner, cancel.clone());
        Ok(result_stream::batches(pending, cancel, (turn, guard), &self.limits, &self.workers))
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
        let deadline = self.deadline(&caller.principal);
        let (answer, line) = self.execute(caller, statement, values, deadline).await?;
        match answer {
            Answer::Done { rows_affected, .. } => {
                let rows = rows_affected.unwrap_or(0);
                self.changed(line, rows, statement.is_definition).await;
                Ok(count(rows))
            }
            Answer::Rows { schema, .. } if schema.fields().is_empty() => Ok(0),
            Answer::Rows { .. } => Err(Status::invalid_argument(
                "the statement gives rows, but was sent as an update (hint: execute it as a query)",
            )),
        }
    }

    /// What a statement would give, without executing it. Only what is refused is written down.
    pub(crate) async fn describe(&self, caller: &Caller, sql: &str) -> Result<Prepared, Status> {
        let deadline = self.deadline(&caller.principal);
        let statement = self.read(sql)?;
        let mut parameters = vec![];
        let (wire, line) = match (statement.shape, statement.has_parameters) {
            (shape, true) => {
                let text = statement.sql.clone();
                let work = async move |backend: Arc<dyn Backend>, session: SessionContext, _| {
                    backend.describe(&session, &text).await
                };
                let (described, line) = self.run(caller, (Shape::Query, &statement.sql), deadline, work).await?;
                parameters = described.parameters;
                (Wire::new(if shape == Shape::Query { &described.schema } else { &EMPTY }), line)
            }
            (Shape::Change, false) => (Wire::new(&EMPTY), None),
            (Shape::Query, false) => match self.execute(caller, &statement, parameters::none(), deadline).await? {
                (Answer::Rows { schema, .. }, line) => (Wire::new(&schema), line),
                (Answer::Done { .. }, line) => (Wire::new(&EMPTY), line),
            },
        };
        line.into_iter().for_each(Recording::forget);
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
        let deadline = self.deadline(&caller.principal);
        let text = format!("(ingest into {})", ingest.table);
        let work = async move |backend: Arc<dyn Backend>, _, principal: Principal| {
            backend.ingest(&principal, &ingest, rows).await
        };
        let (rows, line) = self.run(caller, (Shape::Change, &text), deadline, work).await?;
        self.changed(line, rows, false).await;
        Ok(count(rows))
    }

    /// A change is done. Its line is waited for where it is of what there is, or of who may do what.
    pub(crate) async fn changed(&self, line: Option<Recording>, rows: u64, is_definition: bool) {
        let Some(mut line) = line else { return };
        line.fetched(rows, 0);
        drop(line);
        if is_definition {
            self.audit_log.written().await;
        }
    }

    async fn execute(
        &self,
        caller: &Caller,
        statement: &Statement,
        values: RecordBatch,
        deadline: Instant,
    ) -> Result<(Answer, Option<Recording>), Status> {
        let sql = statement.sql.clone();
        let by_token = statement.is_credential && matches!(caller.basis, Basis::Token(_));
        let work = async move |backend: Arc<dyn Backend>, session: SessionContext, principal: Principal| {
            if by_token {
                let refused = "a token makes no further tokens and changes no passwords";
                return Err(Error::new(ErrorKind::Denied, refused).with_hint("log in with your password"));
            }
            backend.execute(&session, &principal, &sql, &values).await
        };
        self.run(caller, (statement.shape, &statement.sql), deadline, work).await
    }

    /// Take a turn and do some work in a session of its own, with a line in the audit log: complete for what has failed
    /// or is a change, to be completed for a query, whose rows come later.
    pub(crate) async fn run<T, W, F>(
        &self,
        caller: &Caller,
        (shape, sql): (Shape, &str),
        deadline: Instant,
        work: W,
    ) -> Result<(T, Option<Recording>), Status>
    where
        T: Send + 'static,
        W: FnOnce(Arc<dyn Backend>, SessionContext, Principal) -> F + Send + 'static,
        F: Future<Output = crate::error::Result<T>> + Send + 'static,
    {
        let mut line = self.audit_log.begin(caller, STATEMENT, Some(sql)).await?;
        let turn = self.turns.take(&caller.principal, deadline).await;
        let turn = turn.inspect_err(|status| line.iter_mut().for_each(|line| line.failed(status)))?;
        let (backend, principal) = (Arc::clone(&self.backend), caller.principal.clone());
        let options = self.options(caller);
        let work = async move {
            let _turn = turn;
            let session = backend.session(&principal).await;
            let done = match session {
                Ok(session) => {
                    options.apply(&session);
                    work(backend, session, principal).await
                }
                Err(error) => Err(error),
            };
            // Here, because a change runs to its end also when its client has gone.
            let done = done.map_err(status::from);
            match &done {
                Err(status) => line.iter_mut().for_each(|line| line.failed(status)),
                Ok(_) if shape == Shape::Change => line.iter_mut().for_each(Recording::done),
                Ok(_) => {}
            }
            done.map(|done| (done, line))
        };
        // In tasks of their own, so that a panic ends the statement and not the connection.
        let timed = match shape {
            Shape::Query => tokio::time::timeout_at(deadline, self.workers.spawn(work).join_next()).await,
            Shape::Change => tokio::time::timeout_at(deadline, self.workers.handle().spawn(work)).await.map(Some),
        };
        ended(timed)
    }

    /// When work that begins now has used up its time: what the server allows, or the user's own limit.
    pub(crate) fn deadline(&self, principal: &Principal) -> Instant {
        let own = principal.limits.time_ms_max.map_or(Duration::MAX, Duration::from_millis);
        Instant::now() + self.limits.statement_time_max.min(own)
    }

    /// Queries of a page, as a statement's: in their turn, on the threads of statements, for so long at most. They end
    /// with the call that waits for them.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        principal: &Principal,
        time_max: Duration,
        work: impl Future<Output = crate::error::Result<T>> + Send + 'static,
    ) -> Result<T, Status> {
        let deadline = self.deadline(principal).min(Instant::now() + time_max);
        let _turn = self.turns.take(principal, deadline).await?;
        let work = async move { work.await.map_err(status::from) };
        ended(tokio::time::timeout_at(deadline, self.workers.spawn(work).join_next()).await)
    }

    /// Let go of what clients have left behind, and of what they may not have any more, again and again.
    pub(crate) async fn sweep(&self) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            ticks.tick().await;
            self.results.sweep();
            self.prepared.sweep();
            self.sessions.sweep();
            if let Ok(access) = self.backend.access().await {
                self.running.cancel_where(|owner| match access.is_open() {
                    true => *owner != Principal::local(),
                    false => access.principal(&owner.subject).as_ref() != Some(owner),
                });
            }
        }
    }

    /// Ends some time after `shutdown`: connections may linger for so long.
    pub(crate) async fn stopped(&self) {
        self.shutdown.cancelled().await;
        tokio::time::sleep(self.limits.shutdown_grace_max).await;
    }

    /// The last lines of the audit log, when nobody is served any more.
    pub(crate) async fn finish(&self) {
        if tokio::time::timeout(self.limits.shutdown_grace_max, self.audit_log.written()).await.is_err() {
            tracing::error!("the last lines of the audit log could not be written");
        }
    }
}

/// A task that was waited for until a deadline, or until the server stops.
type Timed<T> = Result<Option<Result<Result<T, Status>, JoinError>>, Elapsed>;

/// What work gave that has been waited for.
fn ended<T>(timed: Timed<T>) -> Result<T, Status> {
    match timed {
        Ok(Some(Ok(done))) => done,
        Ok(Some(Err(_)) | None) => Err(result_stream::ended()),
        Err(_) => Err(result_stream::too_long()),
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
