//! Server: everything that others connect to. The only module that speaks gRPC and HTTP.
//!
//! ```text
//!   JDBC  ADBC  ODBC  flash sql           browser  Prometheus  Kubernetes
//!        │ gRPC: Arrow Flight SQL               │ HTTP
//!        ▼                                      ▼
//!   auth: who calls ──────────────────────────────┤
//!        ▼                                      ▼
//!   flight (dispatch) ── statement ── stream   http (/, /healthz, /readyz, /metrics)
//!        │       ├── parameters, upload         │
//!        │       └── catalog, sql_info, xdbc    │
//!        ▼                                      ▼
//!      Backend: session, execute, describe, ingest, kind, published, status      (the engine)
//! ```
//!
//! Both listeners come from outside and accept loopback addresses only, because there is no TLS yet. In a lake without
//! users everybody who can connect is [`crate::catalog::Principal::local`]: a user name or a token is accepted and answered
//! then, so that drivers which insist on one can connect. With users, every call says who it is from (`auth`).

mod actions;
mod auth;
mod catalog;
mod flight;
mod handles;
mod http;
mod limits;
mod page;
mod parameters;
mod service;
mod sessions;
mod sql_info;
mod statement;
mod status;
mod stream;
mod upload;
mod wire;
mod xdbc;

use std::net::SocketAddr;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::catalog::Principal;
use crate::catalog::access::Access;
use crate::engine::ingest::Ingest;
use crate::engine::parameters::Described;
use crate::engine::{Answer, Engine, ObjectKind, ViewStatus};
use crate::epoch::{DataLoss, PublishedRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;

pub use flight::serve as serve_flight_with;
pub use http::serve as serve_http_with;
pub use limits::Limits;

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

    async fn access(&self) -> Result<Arc<Access>> {
        Engine::access(self).await
    }

    async fn log_in(&self, user: &str, password: &str) -> Result<Principal> {
        Engine::log_in(self, user, password).await
    }

    async fn token_principal(&self, token: &str) -> Result<Principal> {
        Engine::token_principal(self, token).await
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
}

/// Refuse every address that is not loopback.
///
/// # Errors
/// `Config`.
pub fn loopback_only(addr: SocketAddr) -> Result<()> {
    if addr.ip().is_loopback() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Config, format!("{addr} is not a loopback address"))
        .with_detail(
            "there is no log-in and no TLS yet, so everybody who reaches the port could read and change everything",
        )
        .with_hint("use 127.0.0.1 or [::1], and an SSH tunnel from elsewhere; log-in and TLS come first"))
}

/// Listen on `addr`, which must be loopback. `flag` is the option that the user set it with (`--flight`, `--http`).
///
/// # Errors
/// `Config` for an address that is not loopback or cannot be had, `AlreadyExists` for a port in use.
pub async fn bind(addr: SocketAddr, flag: &str) -> Result<TcpListener> {
    loopback_only(addr).map_err(|error| error.context(flag))?;
    TcpListener::bind(addr).await.map_err(|error| {
        let port_zero = SocketAddr::new(addr.ip(), 0);
        match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                Error::new(ErrorKind::AlreadyExists, format!("{flag}: port {} of {} is in use", addr.port(), addr.ip()))
                    .with_hint(format!(
                        "stop the other process, or choose another port: {flag} {port_zero} takes a free one"
                    ))
            }
            _ => {
                Error::new(ErrorKind::Config, format!("{flag}: cannot listen on {addr}")).with_detail(error.to_string())
            }
        }
    })
}

/// Serve Arrow Flight SQL until `shutdown`; running queries are then cancelled.
///
/// # Errors
/// `Internal` when the listener fails.
pub async fn serve_flight(listener: TcpListener, engine: Arc<Engine>, shutdown: CancellationToken) -> Result<()> {
    serve_flight_with(listener, engine, Limits::default(), shutdown).await
}

/// Serve the status page, health and metrics over HTTP until `shutdown`. `flight` is where Flight SQL listens.
///
/// # Errors
/// `Internal` when the listener fails.
pub async fn serve_http(
    listener: TcpListener,
    engine: Arc<Engine>,
    flight: Option<SocketAddr>,
    shutdown: CancellationToken,
) -> Result<()> {
    serve_http_with(listener, engine, flight, shutdown).await
}
