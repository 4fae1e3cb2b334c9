//! Server: everything that others connect to. The only module that speaks gRPC and HTTP.
//!
//! ```text
//!   JDBC  ADBC  ODBC  flash sql           browser  Prometheus  Kubernetes
//!        │ gRPC: Arrow Flight SQL               │ HTTP
//!        ▼                                      ▼
//!   listener (tls) ───────────────────────────────┤
//!        ▼                                      ▼
//!   flight (dispatch)                          http (/, /v1/sql, /healthz, /readyz, /metrics)
//!        │  parameters, upload, actions         │
//!        │  catalog, sql_info, xdbc             │
//!        ▼                                      ▼
//!      service: who calls (auth, jwt, sessions), turns, statements, results (stream)
//!        ▼
//!      Backend: session, execute, describe, ingest, kind, published, status      (the engine)
//! ```
//!
//! In a lake without users everybody on this machine is [`crate::catalog::Principal::local`]: a user name or a token is
//! accepted and answered then, so that drivers which insist on one can connect. With users, every call says who it is from
//! (`auth`). Beyond loopback there is TLS (`listener`).

mod actions;
mod audit_log;
mod auth;
mod catalog;
pub mod deploy;
mod flight;
mod handles;
mod http;
mod jws;
mod jwt;
mod limits;
mod listener;
mod page;
mod parameters;
mod service;
mod sessions;
mod sql_info;
mod statement;
mod status;
mod stream;
mod tls;
mod turns;
mod upload;
mod wire;
mod workers;
mod xdbc;

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use tokio::sync::watch;

use crate::catalog::Principal;
use crate::catalog::access::Access;
use crate::engine::audit_log::AuditEntry;
use crate::engine::deploy::Deployed;
use crate::engine::ingest::Ingest;
use crate::engine::parameters::Described;
use crate::engine::plan::PlannedObject;
use crate::engine::{Answer, Engine, ObjectKind, ProjectObject, ViewStatus};
use crate::epoch::{DataLoss, PublishedRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::glue;
use crate::name::TableName;

pub use flight::serve as serve_flight;
pub use http::serve as serve_http;
pub use jwt::{Issuer, IssuerOptions};
pub use limits::Limits;
pub use listener::{Connection, Listener, Peer, Security, bind};
pub use service::{Embedding, Identity, Service};
pub use tls::{Tls, TlsFiles};

/// What the server asks of an engine. [`Engine`] is the implementor; tests have one over tables in memory.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// See [`Engine::session`].
    ///
    /// # Errors
    /// `Storage`.
    async fn session(&self, principal: &Principal) -> Result<SessionContext>;

    /// See [`Engine::access`]; without users everybody comes in.
    ///
    /// # Errors
    /// `Storage`.
    async fn access(&self) -> Result<Arc<Access>> {
        Ok(Arc::default())
    }

    /// See [`Engine::log_in`].
    ///
    /// # Errors
    /// `Unauthenticated`, `Storage`.
    async fn log_in(&self, _user: &str, _password: &str) -> Result<Principal> {
        Err(Error::new(ErrorKind::Unauthenticated, "there are no users"))
    }

    /// See [`Engine::token_principal`].
    ///
    /// # Errors
    /// `Unauthenticated`, `Storage`.
    async fn token_principal(&self, _token: &str) -> Result<Principal> {
        Err(Error::new(ErrorKind::Unauthenticated, "there are no tokens"))
    }

    /// See [`Engine::log_audit`]; without a lake there is no log.
    ///
    /// # Errors
    /// `Storage`.
    async fn log_audit(&self, _entries: &[AuditEntry]) -> Result<()> {
        Ok(())
    }

    /// See [`Engine::execute_with`].
    ///
    /// # Errors
    /// Any kind; the text is meant for the user.
    async fn execute(
        &self,
        session: &SessionContext,
        principal: &Principal,
        sql: &str,
        values: &RecordBatch,
    ) -> Result<Answer>;

    /// See [`Engine::describe`].
    ///
    /// # Errors
    /// `Syntax`, `Definition`.
    async fn describe(&self, session: &SessionContext, sql: &str) -> Result<Described>;

    /// See [`Engine::ingest`].
    ///
    /// # Errors
    /// Any kind; the text is meant for the user.
    async fn ingest(&self, principal: &Principal, ingest: &Ingest, rows: SendableRecordBatchStream) -> Result<u64>;

    /// See [`Engine::plan`]; for administrators.
    ///
    /// # Errors
    /// `Denied`; as there.
    async fn plan(&self, _principal: &Principal, _objects: &[ProjectObject]) -> Result<Vec<PlannedObject>> {
        Err(Error::new(ErrorKind::Config, "there is no lake"))
    }

    /// See [`Engine::deploy`]; for administrators.
    ///
    /// # Errors
    /// `Denied`; as there.
    async fn deploy(
        &self,
        _principal: &Principal,
        _objects: &[ProjectObject],
        _expected: Option<&str>,
    ) -> Result<Deployed> {
        Err(Error::new(ErrorKind::Config, "there is no lake"))
    }

    /// See [`Engine::kind`].
    fn kind(&self, name: &TableName) -> Option<ObjectKind>;

    /// See [`Engine::published`].
    fn published(&self) -> watch::Receiver<Arc<PublishedRecord>>;

    /// See [`Engine::status`].
    ///
    /// # Errors
    /// `Storage`.
    async fn status(&self) -> Result<Vec<ViewStatus>>;

    /// See [`Engine::losses`].
    fn losses(&self) -> Vec<DataLoss>;

    /// See [`Engine::glue`].
    fn glue(&self) -> Option<glue::Status> {
        None
    }
}

#[async_trait]
impl Backend for Engine {
    async fn session(&self, principal: &Principal) -> Result<SessionContext> {
        Engine::session(self, principal).await
    }

    async fn execute(
        &self,
        session: &SessionContext,
        principal: &Principal,
        sql: &str,
        values: &RecordBatch,
    ) -> Result<Answer> {
        Engine::execute_with(self, session, principal, sql, values).await
    }

    async fn describe(&self, session: &SessionContext, sql: &str) -> Result<Described> {
        Engine::describe(self, session, sql).await
    }

    async fn ingest(&self, principal: &Principal, ingest: &Ingest, rows: SendableRecordBatchStream) -> Result<u64> {
        Engine::ingest(self, principal, ingest, rows).await
    }

    async fn plan(&self, principal: &Principal, objects: &[ProjectObject]) -> Result<Vec<PlannedObject>> {
        administers(principal)?;
        Engine::plan(self, objects).await
    }

    async fn deploy(
        &self,
        principal: &Principal,
        objects: &[ProjectObject],
        expected: Option<&str>,
    ) -> Result<Deployed> {
        administers(principal)?;
        Engine::deploy(self, objects, expected).await
    }

    async fn access(&self) -> Result<Arc<Access>> {
        Engine::access(self).await
    }

    async fn log_in(&self, user: &str, password: &str) -> Result<Principal> {
        Engine::log_in(self, user, password).await
    }

    async fn token_principal(&self, token: &str) -> Result<Principal> {
        Engine::token_principal(self, token).await
    }

    async fn log_audit(&self, entries: &[AuditEntry]) -> Result<()> {
        Engine::log_audit(self, entries).await
    }

    fn kind(&self, name: &TableName) -> Option<ObjectKind> {
        Engine::kind(self, name)
    }

    fn losses(&self) -> Vec<DataLoss> {
        Engine::losses(self)
    }

    fn published(&self) -> watch::Receiver<Arc<PublishedRecord>> {
        Engine::published(self)
    }

    async fn status(&self) -> Result<Vec<ViewStatus>> {
        Engine::status(self).await
    }

    fn glue(&self) -> Option<glue::Status> {
        Engine::glue(self)
    }
}

fn administers(principal: &Principal) -> Result<()> {
    if principal.is_admin() { Ok(()) } else { Err(principal.denied("plan or apply a project")) }
}
