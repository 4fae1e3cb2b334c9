//! The dashboard over HTTP: numbers, pages, log-in.
//!
//! ```text
//!   GET  /                   the seller's page        GET  /login   POST /login   POST /logout
//!   GET  /operations         the operators' page      GET  /credits
//!   GET  /v1/dashboard       all tiles, one version   GET  /v1/operations
//!   GET  /live               versions, as they come   GET  /v1/openapi.json
//!   POST /v1/embed-links     a signed link            GET  /embed?token=...
//!   GET  /assets/...         files of the pages
//!
//!   cookie, Authorization or token ─▶ Guest ─▶ ETag: the same? 304
//!                                       └─▶ session pinned to one epoch ─▶ tiles ─▶ kept until the versions change
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Path, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::OnceCell;
use tonic::Code;

use super::guest::Guest;
use super::{Failure, Site, assets, door, live, openapi};
use crate::catalog::access::secret;
use crate::dashboard::period::Period;
use crate::dashboard::queries::OPERATIONS;
use crate::dashboard::request::Request;
use crate::dashboard::tiles;
use crate::epoch::{PublishedRecord, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::server::listener::Peer;
use crate::server::status;

/// Schema whose versions an answer depends on.
const GOLD: &str = "gold";

/// Answers that are kept for whoever asks the same.
const ANSWERS_MAX: usize = 256;

/// How long one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Times that a session is asked for until it is of the epoch that is newest.
const TRIES_MAX: usize = 5;

/// What the pages may load and do: nothing from elsewhere, no script or style in the text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors ";

/// Answers by ETag, each computed once however many ask.
#[derive(Default)]
pub(super) struct Answers {
    answers: Mutex<HashMap<String, Arc<OnceCell<Bytes>>>>,
}

/// The routes; what they need is in the site.
pub(super) fn routes(site: &Arc<Site>) -> Router<Arc<Site>> {
    Router::new()
        .route("/", get(index))
        .route("/embed", get(embed))
        .route("/operations", get(operations_page))
        .route("/credits", get(async || ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], CREDITS)))
        .route("/login", get(door::page).post(door::log_in))
        .route("/logout", post(door::log_out))
        .route("/live", get(live::stream))
        .route("/v1/dashboard", get(dashboard))
        .route("/v1/operations", get(operations))
        .route("/v1/embed-links", post(door::embed_link))
        .route("/v1/openapi.json", get(openapi::document))
        .route("/assets/{build}/{name}", get(asset))
        .layer(from_fn_with_state(Arc::clone(site), hardened))
}

const CREDITS: &str = include_str!("../../../NOTICE");

/// Headers that every answer has.
async fn hardened(State(site): State<Arc<Site>>, request: HttpRequest, next: Next) -> Response {
    let framed = request.uri().path() == "/embed";
    let by_page = request.headers().contains_key("sec-fetch-site");
    let mut response = next.run(request).await;
    if by_page {
        // The browser would ask for a password in a window of its own; the page has a better door.
        response.headers_mut().remove(header::WWW_AUTHENTICATE);
    }
    let ancestors = if framed { site.service.embedding.ancestors.as_str() } else { "'none'" };
    let headers = response.headers_mut();
    let policy = HeaderValue::from_str(&format!("{POLICY}{ancestors}"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.unwrap_or(HeaderValue::from_static("default-src 'none'")));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response
}

async fn index(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> std::result::Result<Response, Failure> {
    shown(&site, "index.html", &uri, &headers, &peer).await
}

async fn operations_page(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> std::result::Result<Response, Failure> {
    shown(&site, "operations.html", &uri, &headers, &peer).await
}

/// A page for those who are known; the others are sent to the door.
async fn shown(
    site: &Site,
    name: &str,
    uri: &Uri,
    headers: &HeaderMap,
    peer: &Peer,
) -> std::result::Result<Response, Failure> {
    match site.guest(headers, None, peer).await {
        Ok(_) => Ok(html(assets::page(name, &[("embed", "")]))),
        Err(Failure(status)) if status.code() == Code::Unauthenticated => {
            let next = uri.path_and_query().map_or("/", |path| path.as_str());
            let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
            Ok((StatusCode::SEE_OTHER, [(header::LOCATION, format!("/login?next={next}"))]).into_response())
        }
        Err(failure) => Err(failure),
    }
}

/// The seller's page of a link.
async fn embed(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> std::result::Result<Response, Failure> {
    let token = parameter(&uri, "token").unwrap_or_default();
    site.guest(&headers, Some(&token), &peer).await?;
    Ok(html(assets::page("index.html", &[("embed", &token)])))
}

pub(super) fn html(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], text).into_response()
}

async fn asset(Path((build, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    assets::serve(&build, &name, &headers)
}

/// The value of a parameter in the URL.
pub(super) fn parameter(uri: &Uri, wanted: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
}

async fn dashboard(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> std::result::Result<Response, Failure> {
    let guest = site.guest(&headers, parameter(&uri, "token").as_deref(), &peer).await?;
    let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut request = Request::read(pairs).map_err(|error| status::of(&error))?;
    request.seller = guest.seller.clone().or(request.seller);
    let period = Period::of(request.range, Utc::now());
    let record = Arc::clone(&site.service.backend.published().borrow());
    let tag = tag(&guest, &request, &period, &record);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|sent| sent.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let cell = site.answers.cell(&tag);
    let body = cell.get_or_try_init(|| {
        let work = compute(Arc::clone(&site), guest.clone(), request, period);
        site.service.look(&guest.principal, ANSWER_TIME_MAX, work)
    });
    let body = body.await?.clone();
    let kept = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((kept, [(header::ETAG, tag)], body).into_response())
}

/// Equal for equal answers: the versions of gold, the rights, the question, the minute.
fn tag(guest: &Guest, request: &Request, period: &Period, record: &PublishedRecord) -> String {
    let text = format!("{:?} {} {request:?} {period:?}", versions(record), whose(guest));
    format!("\"{}\"", &secret::digest(&text)[..32])
}

/// Equal for those only who see the same rows: the number of the rules, who asks with all their rights, and the seller of
/// a link.
fn whose(guest: &Guest) -> String {
    format!("{} {:?} {:?}", guest.access, guest.principal, guest.seller)
}

pub(super) fn versions(record: &PublishedRecord) -> BTreeMap<String, Version> {
    let gold = record.tables.iter().filter(|(name, _)| name.schema == GOLD);
    gold.map(|(name, state)| (name.to_string(), state.version)).collect()
}

impl Answers {
    fn cell(&self, tag: &str) -> Arc<OnceCell<Bytes>> {
        let mut answers = self.answers.lock();
        if answers.len() >= ANSWERS_MAX && !answers.contains_key(tag) {
            answers.clear();
        }
        Arc::clone(answers.entry(tag.to_string()).or_default())
    }
}

/// What `/v1/dashboard` answers.
#[derive(Serialize)]
struct Answer<'a> {
    as_of: String,
    epoch: u64,
    versions: BTreeMap<String, Version>,
    lag_ms: i64,
    now: String,
    period: Days<'a>,
    seller: Option<&'a str>,
    locked: bool,
    operator: bool,
    user: Option<&'a str>,
    tiles: BTreeMap<String, tiles::Rows>,
}

#[derive(Serialize)]
struct Days<'a> {
    range: &'a str,
    grain: &'a str,
    from: String,
    to: String,
    before: Option<String>,
}

async fn compute(site: Arc<Site>, guest: Guest, request: Request, period: Period) -> Result<Bytes> {
    let (session, record) = pinned(&site, &guest).await?;
    let whose = whose(&guest).into();
    let tiles = tiles::tiles(&session, (&site.kept, &whose), &request, &period).await?;
    let answer = Answer {
        as_of: instant(record.now_us),
        epoch: record.epoch,
        versions: versions(&record),
        lag_ms: site.lag_ms().await?,
        now: period.now.format("%Y-%m-%dT%H:%M:%S").to_string(),
        period: Days {
            range: request.range.name(),
            grain: request.grain.name(),
            from: period.from.to_string(),
            to: period.to.to_string(),
            before: period.compares().then(|| period.before.to_string()),
        },
        seller: request.seller.as_deref(),
        locked: guest.locked(),
        operator: guest.is_operator(),
        user: guest.name(),
        tiles,
    };
    Ok(serde_json::to_vec(&answer)?.into())
}

/// A session, and the record of the epoch that it reads.
async fn pinned(site: &Site, guest: &Guest) -> Result<(datafusion::prelude::SessionContext, Arc<PublishedRecord>)> {
    let newest = || Arc::clone(&site.service.backend.published().borrow());
    for _ in 0..TRIES_MAX {
        let before = newest();
        let session = site.service.backend.session(&guest.principal).await?;
        let after = newest();
        if before.epoch == after.epoch {
            return Ok((session, after));
        }
    }
    Err(Error::new(ErrorKind::Transient, "epochs come faster than they can be read").with_hint("try again"))
}

/// An instant as ISO 8601, in UTC.
pub(super) fn instant(us: i64) -> String {
    DateTime::from_timestamp_micros(us).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

async fn operations(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> std::result::Result<axum::Json<Operations>, Failure> {
    let guest = site.guest(&headers, None, &peer).await?;
    if !guest.is_operator() {
        return Err(guest.not_operator().into());
    }
    let work = look(Arc::clone(&site), guest.clone());
    Ok(axum::Json(site.service.look(&guest.principal, ANSWER_TIME_MAX, work).await?))
}

async fn look(site: Arc<Site>, guest: Guest) -> Result<Operations> {
    let (session, record) = pinned(&site, &guest).await?;
    let lag_ms = site.service.backend.status().await?;
    let lag_ms = lag_ms.into_iter().map(|view| (view.name.to_string(), view.lag_ms)).collect();
    let tables = tiles::all(&session, &OPERATIONS).await?;
    Ok(Operations { as_of: instant(record.now_us), epoch: record.epoch, lag_ms, tables })
}

/// What `/v1/operations` answers.
#[derive(Serialize)]
struct Operations {
    as_of: String,
    epoch: u64,
    lag_ms: BTreeMap<String, Option<i64>>,
    tables: BTreeMap<String, tiles::Rows>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_within_a_limit() {
        let kept = Answers::default();
        let first = kept.cell("0");
        assert!(Arc::ptr_eq(&first, &kept.cell("0")));
        for number in 1..=ANSWERS_MAX {
            kept.cell(&number.to_string());
        }
        assert!(kept.answers.lock().len() <= ANSWERS_MAX);
    }
}
