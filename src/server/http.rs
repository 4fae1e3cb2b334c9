//! HTTP: a status page, health, metrics, and SQL for whoever has no driver.
//!
//! ```text
//!   any request ─▶ origin: does a page of another site send it? ─▶ auth ─┐
//!   /status    the views with rows, frontier and lag                    ├ for those who may read system.materialized_views
//!   /metrics   for Prometheus                                           ┘
//!   /, /v1/dashboard, /live, ...  the dashboard (`dashboard`)             for everybody, with their rights
//!   /v1/sql    POST: a statement in, its rows out (`sql`)                 for everybody, with their rights
//!   /healthz   200: the process answers
//!   /readyz    200 once an epoch is published, 503 before
//! ```

mod assets;
mod dashboard;
mod door;
mod formats;
mod guest;
mod live;
mod metrics;
mod openapi;
mod origin;
mod sql;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use super::auth::Call;
use super::listener::{Listener, Peer};
use super::page;
use super::service::{Caller, Service};
use crate::catalog::system;
use crate::dashboard::kept::Kept;
use crate::dashboard::link::Signer;
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::Privilege;
use metrics::Tally;

/// Serve until the service is shut down. `flight` is where Flight SQL listens, for the page.
///
/// # Errors
/// `Internal` when the listener fails.
pub async fn serve(listener: Listener, service: Arc<Service>, flight: Option<SocketAddr>) -> Result<()> {
    let body_bytes_max = service.limits.sql_bytes_max.saturating_mul(2);
    let site = Arc::new(Site::new(Arc::clone(&service), flight)?);
    let router = Router::new()
        .route("/status", get(index))
        .route("/metrics", get(metrics))
        .route_layer(from_fn_with_state(Arc::clone(&site), may_see_status))
        .route("/v1/sql", post(sql::answer))
        .merge(dashboard::routes(&site))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(from_fn_with_state(Arc::clone(&site), own_origin))
        .with_state(Arc::clone(&site));
    let router = router.into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(listener, router).with_graceful_shutdown(service.shutdown.clone().cancelled_owned());
    let served = tokio::select! {
        served = server => served.map_err(|error| Error::new(ErrorKind::Internal, format!("HTTP stopped: {error}"))),
        () = count(&site) => Ok(()),
        () = service.sweep() => Ok(()),
        () = service.stopped() => Ok(()),
    };
    service.finish().await;
    served
}

/// What the handlers share.
struct Site {
    service: Arc<Service>,
    flight: Option<SocketAddr>,
    tally: Mutex<Tally>,
    /// Knows the links of pages that are embedded elsewhere.
    signer: Signer,
    answers: dashboard::Answers,
    /// Rows that questions have in common.
    kept: Arc<Kept>,
    /// Pages that listen.
    places: Arc<Semaphore>,
    lag: tokio::sync::Mutex<Option<(Instant, i64)>>,
}

/// How old what is said of the lag may be.
const LAG_AGE_MAX: Duration = Duration::from_secs(1);

impl Site {
    fn new(service: Arc<Service>, flight: Option<SocketAddr>) -> Result<Self> {
        let signer = Signer::new(service.embedding.key.as_bytes())?;
        Ok(Self {
            service,
            flight,
            tally: Mutex::default(),
            signer,
            answers: dashboard::Answers::default(),
            kept: Arc::default(),
            places: Arc::new(Semaphore::new(live::PAGES_MAX)),
            lag: tokio::sync::Mutex::default(),
        })
    }

    /// How far the last of the views is behind.
    async fn lag_ms(&self) -> Result<i64> {
        let mut lag = self.lag.lock().await;
        if let Some((read_at, lag_ms)) = *lag
            && read_at.elapsed() < LAG_AGE_MAX
        {
            return Ok(lag_ms);
        }
        let views = self.service.backend.status().await?;
        let lag_ms = views.iter().filter(|view| !view.suspended).filter_map(|view| view.lag_ms).max().unwrap_or(0);
        *lag = Some((Instant::now(), lag_ms));
        Ok(lag_ms)
    }

    async fn caller(&self, headers: &HeaderMap, peer: &Peer) -> std::result::Result<Caller, Failure> {
        self.service.caller(&Call::of_http(headers, peer)).await.map_err(Failure)
    }
}

/// An answer that says what went wrong: `{"error": {"code": "...", "message": "..."}}`.
struct Failure(Status);

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": word(self.0.code()), "message": self.0.message() } });
        let mut response = (http_status(self.0.code()), axum::Json(body)).into_response();
        match self.0.code() {
            Code::Unauthenticated => {
                let challenge = header::HeaderValue::from_static("Basic realm=\"FlashCommerce\", Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            Code::Unavailable => {
                response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

fn http_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::FailedPrecondition => StatusCode::UNPROCESSABLE_ENTITY,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable | Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The code as programs read it, by the names that gRPC gives.
fn word(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument => "invalid_argument",
        Code::Unauthenticated => "unauthenticated",
        Code::PermissionDenied => "permission_denied",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::Aborted => "aborted",
        Code::FailedPrecondition => "failed_precondition",
        Code::ResourceExhausted => "resource_exhausted",
        Code::Unimplemented => "unimplemented",
        Code::Unavailable => "unavailable",
        Code::Cancelled => "cancelled",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::DataLoss => "data_loss",
        _ => "internal",
    }
}

async fn count(site: &Site) {
    let mut published = site.service.backend.published();
    while published.changed().await.is_ok() {
        let record = Arc::clone(&published.borrow_and_update());
        site.tally.lock().add(&record);
    }
    // No more records; the page and the health checks go on.
    std::future::pending::<()>().await;
}

/// Lets through what no page of another site can have sent.
async fn own_origin(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let open = match site.service.backend.access().await {
        Ok(access) => access.is_open(),
        Err(error) => return Failure(super::status::of(&error)).into_response(),
    };
    match origin::check(request.method(), request.headers(), request.uri(), open) {
        Ok(()) => next.run(request).await,
        Err(why) => Failure(Status::permission_denied(why)).into_response(),
    }
}

/// Lets through those who may read where the views stand: everybody in a lake without users.
async fn may_see_status(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let views = TableName::new(system::SCHEMA, "materialized_views");
    match site.caller(request.headers(), &peer).await {
        Ok(caller) if caller.principal.may(Privilege::Select, &views) => next.run(request).await,
        Ok(caller) => Failure(super::status::of(&caller.principal.denied(format!("read {views}")))).into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn index(State(site): State<Arc<Site>>) -> std::result::Result<Html<String>, Failure> {
    let record = Arc::clone(&site.service.backend.published().borrow());
    let views = site.service.backend.status().await.map_err(super::status::from)?;
    Ok(Html(page::render(&views, &record, site.flight)))
}

async fn ready(State(site): State<Arc<Site>>) -> Response {
    match site.service.backend.published().borrow().epoch {
        0 => (StatusCode::SERVICE_UNAVAILABLE, "nothing is published yet\n").into_response(),
        epoch => format!("ready, epoch {epoch}\n").into_response(),
    }
}

async fn metrics(State(site): State<Arc<Site>>) -> std::result::Result<Response, Failure> {
    let record = Arc::clone(&site.service.backend.published().borrow());
    let views = site.service.backend.status().await.map_err(super::status::from)?;
    let backend = &site.service.backend;
    let mut text = metrics::text(&record, &views, &backend.losses(), &site.tally.lock());
    if let Some(status) = backend.glue() {
        metrics::glue(&mut text, &status);
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
