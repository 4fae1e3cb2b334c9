//! The small HTTP side: a status page, health, and metrics for Prometheus.
//!
//! ```text
//!   /          the views with rows, frontier and lag; where Flight SQL listens
//!   /healthz   200: the process answers
//!   /readyz    200 once an epoch is published, 503 before
//!   /metrics   gauges from the engine's status; counters summed over the records published since the start
//! ```
//!
//! In a lake with users, the page and the metrics are for those who may read `system.materialized_views`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::auth::{Credentials, Doorkeeper};
use super::{Backend, Limits, page};
use crate::catalog::system;
use crate::engine::ViewStatus;
use crate::epoch::{DataLoss, PublishedRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::Privilege;

/// Serve until `shutdown`. `flight` is where Flight SQL listens, for the page.
///
/// # Errors
/// `Internal` when the listener fails.
pub async fn serve(
    listener: TcpListener,
    backend: Arc<dyn Backend>,
    flight: Option<SocketAddr>,
    shutdown: CancellationToken,
) -> Result<()> {
    let doorkeeper = Doorkeeper::new(Limits::default().log_ins_at_once_max);
    let site = Arc::new(Site { backend, doorkeeper, flight, tally: Mutex::default() });
    let router = Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route_layer(from_fn_with_state(Arc::clone(&site), known))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Arc::clone(&site));
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    tokio::select! {
        served = server => served.map_err(|error| Error::new(ErrorKind::Internal, format!("HTTP stopped: {error}"))),
        () = count(&site) => Ok(()),
    }
}

struct Site {
    backend: Arc<dyn Backend>,
    doorkeeper: Doorkeeper,
    flight: Option<SocketAddr>,
    tally: Mutex<Tally>,
}

/// Sums over the records that were published while this server ran. Records that come faster than they can be looked
/// at are left out, so these are for rates; `system.refreshes` has them all.
#[derive(Default)]
struct Tally {
    epochs: u64,
    refreshes: BTreeMap<(TableName, String), RefreshTally>,
}

#[derive(Default)]
struct RefreshTally {
    count: u64,
    failures: u64,
    took_ms: u64,
    rows_in: u64,
    rows_out: u64,
    bytes_written: u64,
}

impl Tally {
    fn add(&mut self, record: &PublishedRecord) {
        self.epochs += 1;
        for (view, facts) in &record.refreshes {
            let tally = self.refreshes.entry((view.clone(), facts.mode.clone())).or_default();
            tally.count += 1;
            tally.failures += u64::from(facts.error.is_some());
            tally.took_ms += facts.took_ms;
            tally.rows_in += facts.rows_in;
            tally.rows_out += facts.rows_out;
            tally.bytes_written += facts.bytes_written;
        }
    }
}

async fn count(site: &Site) {
    let mut published = site.backend.published();
    while published.changed().await.is_ok() {
        let record = Arc::clone(&published.borrow_and_update());
        site.tally.lock().add(&record);
    }
    // No more records; the page and the health checks go on.
    std::future::pending::<()>().await;
}

/// Lets through those who may read where the views stand: everybody in a lake without users.
async fn known(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().map(Credentials::of));
    let credentials = match header {
        None => Credentials::None,
        Some(read) => read.unwrap_or(Credentials::Unknown),
    };
    let views = TableName::new(system::SCHEMA, "materialized_views");
    let known = site.doorkeeper.known(&site.backend, credentials, None, Some(peer.ip())).await;
    match known.map(|known| known.principal) {
        Ok(principal) if principal.may(Privilege::Select, &views) => next.run(request).await,
        Ok(principal) => {
            (StatusCode::FORBIDDEN, format!("{}\n", principal.denied(format!("read {views}")))).into_response()
        }
        Err(error) if error.kind() == ErrorKind::Unauthenticated => {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"FlashCommerce\"")];
            (StatusCode::UNAUTHORIZED, challenge, format!("{error}\n")).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn index(State(site): State<Arc<Site>>) -> Response {
    let record = Arc::clone(&site.backend.published().borrow());
    match site.backend.status().await {
        Ok(views) => Html(page::render(&views, &record, site.flight)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(site): State<Arc<Site>>) -> Response {
    match site.backend.published().borrow().epoch {
        0 => (StatusCode::SERVICE_UNAVAILABLE, "nothing is published yet\n").into_response(),
        epoch => format!("ready, epoch {epoch}\n").into_response(),
    }
}

async fn metrics(State(site): State<Arc<Site>>) -> Response {
    let record = Arc::clone(&site.backend.published().borrow());
    let views = match site.backend.status().await {
        Ok(views) => views,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    };
    let mut text = String::new();
    gauges(&mut text, &record, &views);
    sources(&mut text, &record);
    losses(&mut text, &site.backend.losses());
    counters(&mut text, &site.tally.lock());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn gauges(text: &mut String, record: &PublishedRecord, views: &[ViewStatus]) {
    family(text, "flash_published_epoch", "gauge", "The newest published epoch.");
    line(text, "flash_published_epoch", "", record.epoch);
    family(text, "flash_published_timestamp_seconds", "gauge", "When it was published, in seconds since 1970 UTC.");
    line(text, "flash_published_timestamp_seconds", "", seconds(record.published_us, 1_000_000.0));
    let mut each = |name: &str, help: &str, value: &dyn Fn(&ViewStatus) -> Option<f64>| {
        family(text, name, "gauge", help);
        for view in views {
            if let Some(value) = value(view) {
                line(text, name, &format!("view=\"{}\"", label(&view.name.to_string())), value);
            }
        }
    };
    each("flash_view_rows", "Rows of the view.", &|view| Some(float(view.rows)));
    each("flash_view_frontier_epoch", "The epoch that the view reflects.", &|view| Some(float(view.frontier)));
    each("flash_view_lag_seconds", "How far the view is behind; 0 when nothing has come since.", &|view| {
        view.lag_ms.map(|lag_ms| seconds(lag_ms, 1000.0))
    });
    each("flash_view_quarantined_rows", "Rows in the quarantine table of the view.", &|view| {
        Some(float(view.quarantined))
    });
    each("flash_view_suspended", "1 while the view is suspended.", &|view| Some(f64::from(u8::from(view.suspended))));
}

fn sources(text: &mut String, record: &PublishedRecord) {
    family(text, "flash_source_shards", "gauge", "Shards (or files) of the source whose positions are kept.");
    for (source, positions) in &record.sources {
        line(
            text,
            "flash_source_shards",
            &format!("source=\"{}\"", label(&source.to_string())),
            positions.shards.len(),
        );
    }
    let name = "flash_source_behind_seconds";
    family(text, name, "gauge", "How far the last landed record is behind the newest one of its shard.");
    for (source, behind) in &record.behind_ms {
        for shard in record.sources.get(source).into_iter().flat_map(|positions| positions.shards.keys()) {
            let labels = format!("source=\"{}\",shard=\"{}\"", label(&source.to_string()), label(shard));
            line(text, name, &labels, seconds(behind.get(shard).copied().unwrap_or(0), 1000.0));
        }
    }
}

fn losses(text: &mut String, losses: &[DataLoss]) {
    let mut by_source: BTreeMap<String, usize> = BTreeMap::new();
    losses.iter().for_each(|found| *by_source.entry(found.source.to_string()).or_default() += 1);
    let name = "flash_source_data_losses_total";
    family(text, name, "counter", "Times that records of the source were found gone unread; see system.data_loss.");
    by_source.iter().for_each(|(source, count)| line(text, name, &format!("source=\"{}\"", label(source)), count));
}

fn counters(text: &mut String, tally: &Tally) {
    family(text, "flash_epochs_total", "counter", "Epochs published since the start.");
    line(text, "flash_epochs_total", "", tally.epochs);
    let mut each = |name: &str, help: &str, value: &dyn Fn(&RefreshTally) -> f64| {
        family(text, name, "counter", help);
        for ((view, mode), tally) in &tally.refreshes {
            let labels = format!("view=\"{}\",mode=\"{}\"", label(&view.to_string()), label(mode));
            line(text, name, &labels, value(tally));
        }
    };
    each("flash_refreshes_total", "Refreshes.", &|tally| float(tally.count));
    each("flash_refresh_failures_total", "Refreshes that failed; the view kept its version.", &|t| float(t.failures));
    each("flash_refresh_seconds_total", "Time in refreshes.", &|tally| float(tally.took_ms) / 1000.0);
    each("flash_refresh_rows_in_total", "Rows of the inputs' changes.", &|tally| float(tally.rows_in));
    each("flash_refresh_rows_out_total", "Rows written.", &|tally| float(tally.rows_out));
    each("flash_refresh_bytes_written_total", "Bytes of Parquet written.", &|tally| float(tally.bytes_written));
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

/// A label's value, quoted as Prometheus wants it.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Counts beyond 2^53 lose their last digits; a metric may.
#[allow(clippy::cast_precision_loss, reason = "see above")]
fn float(count: u64) -> f64 {
    count as f64
}

#[allow(clippy::cast_precision_loss, reason = "a time in seconds needs fewer digits than an f64 has")]
fn seconds(units: i64, units_per_second: f64) -> f64 {
    units as f64 / units_per_second
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::RefreshFacts;

    #[test]
    fn counters_are_summed_by_view_and_mode() {
        let facts = |mode: &str, took_ms| RefreshFacts { mode: mode.into(), took_ms, ..RefreshFacts::default() };
        let record = |mode| PublishedRecord {
            refreshes: BTreeMap::from([(TableName::new("gold", "a\"b"), facts(mode, 250))]),
            ..PublishedRecord::default()
        };
        let mut tally = Tally::default();
        tally.add(&record("append"));
        tally.add(&record("append"));
        tally.add(&record("full"));
        let mut text = String::new();
        counters(&mut text, &tally);
        assert!(text.contains("flash_epochs_total 3\n"), "{text}");
        assert!(text.contains("flash_refreshes_total{view=\"gold.a\\\"b\",mode=\"append\"} 2\n"), "{text}");
        assert!(text.contains("flash_refresh_seconds_total{view=\"gold.a\\\"b\",mode=\"append\"} 0.5\n"), "{text}");
    }
}
